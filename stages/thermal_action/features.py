"""What a model sees in a recording from step to step: rows of numbers for models that look for actions in the whole of it.

A step is `stride` ticks of an even clock that begins with the first frame. Its feature is a row of C = D + 1 + K numbers:

    description [D]      what the classifier tells an action from (its penultimate layer), the largest of all persons found
    persons [1]          how many they are
    probabilities [K]    of the actions, the largest of all persons

and 0 everywhere if nobody is found. The largest, for it depends neither on how many persons there are nor on their order (Qi et
al., PointNet, CVPR 2017), and what one of them does stays to be seen beside the others. A model of clips has one person, the
whole picture. No column is about the picture as such: a model with head `crop` never sees one, and with head `roi` a
description has it in it already.

The feature of step i is that of the window around the frame nearest to the step's middle, (i + 1/2) * stride / fps seconds after
the first frame. ActionFormer (Zhang et al., ECCV 2022) has feature i at (i * stride + num_frames / 2) / fps, so num_frames is the
stride.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import torch

from thermal_action.models import build_model
from thermal_action.models.convolutions import absorb_normalisation
from thermal_action.streams import Frame, Slider, SlidWindow, slide
from thermal_action.torch_file import Described, TorchModel
from thermal_action.windows import Windowing

Weights = Literal["trained", "random"]


def open_model(checkpoint: str | Path, device: torch.device | str, weights: Weights, seed: int) -> TorchModel:
    """A checkpoint as it is; or, `random`, as before any training, all but its detector, so that both see the same persons.

    Random descriptions are a hundredth as large as trained ones, for no normalisation has seen data: standardise them to compare.
    """
    model = TorchModel(checkpoint, device)
    if weights == "random":
        torch.manual_seed(seed)
        untrained = build_model(**model.info["model"], num_classes=len(model.info["classes"]))
        untrained.detector = model.model.detector
        model.model = absorb_normalisation(untrained.to(model.device).eval())
    return model


def count_columns(model: TorchModel) -> dict[str, int]:
    """The parts of a row, in order, and how many numbers each is."""
    classes, description = model.model.classifier.weight.shape
    return {"description": description, "persons": 1, "probabilities": classes}


def pool(persons: Described) -> np.ndarray:
    """The row, float32 [C], of the persons of a window."""
    ones = np.ones((len(persons.boxes), 1), np.float32)
    rows = np.concatenate([persons.descriptions, ones, persons.probabilities], axis=1)
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32)
    row = rows.max(axis=0)
    row[persons.descriptions.shape[1]] = len(rows)
    return row


@dataclass
class Clock:
    """Of the windows of a recording those of its steps: for the middle of each the one whose keyframe is nearest to it, the
    earlier one of two equally near. The first step begins with the first window, the last one has its middle before the last.
    """

    step_ms: float
    start: int = 0  # ms
    before: SlidWindow | None = None
    steps: int = 0  # so far

    def push(self, window: SlidWindow) -> Iterator[SlidWindow]:
        """Takes the next window in order of time; gives those of the steps that are decided with it."""
        if self.before is None:
            self.start, self.before = window.time, window
        while (middle := self.start + (self.steps + 0.5) * self.step_ms) <= window.time:
            yield self.before if middle - self.before.time <= window.time - middle else window
            self.steps += 1
        self.before = window


def nearest_windows(windows: Iterable[SlidWindow], step_ms: float) -> Iterator[SlidWindow]:
    """The window of each step."""
    clock = Clock(step_ms)
    for window in windows:
        yield from clock.push(window)


def describe(model: TorchModel, frames: Iterable[Frame], step_ms: float, *, least: float, batch: int) -> Iterator[np.ndarray]:
    """The row of each step of a recording; persons scored `least` or more are found. `batch` steps are looked at together."""
    windows = nearest_windows(slide(frames, Windowing(**model.info["window"]), 1), step_ms)
    return describe_windows(model, windows, least=least, batch=batch)


def describe_windows(model: TorchModel, windows: Iterable[SlidWindow], *, least: float, batch: int) -> Iterator[np.ndarray]:
    """The row of each window."""
    windows = iter(windows)
    while together := list(islice(windows, batch)):
        distinct = {window.number: window.frames for window in together}  # where frames are missing several steps have one
        seen = model.describe(np.stack(list(distinct.values())), least)
        rows = dict(zip(distinct, map(pool, seen), strict=True))
        yield from (rows[window.number] for window in together)


class Look(NamedTuple):
    """A recording as it is known `now` (s from its first frame): rows [n, C] of its steps from number `first` on."""

    now: float
    first: int
    rows: np.ndarray


class Growing:
    """A recording that is described while its frames come, as if it ended with the newest of them.

    Where windows look ahead, what those of the last steps lack repeats until it is there, as at the end of any recording: their
    rows change from look to look. least, batch: as of `describe`; a look holds the last `longest` steps.
    """

    def __init__(self, model: TorchModel, step_ms: float, *, least: float, batch: int, longest: int):
        self.model, self.least, self.batch, self.longest = model, least, batch, longest
        self.slider, self.clock = Slider(Windowing(**model.info["window"]), 1), Clock(step_ms)
        self.settled: deque[np.ndarray] = deque(maxlen=longest)  # rows
        self.complete: list[SlidWindow] = []  # of the steps after those
        self.start = self.newest = None  # ms

    @property
    def steps(self) -> int:
        """Whose middle has passed."""
        return int((self.newest - self.start) / self.clock.step_ms + 0.5)

    def push(self, frame: Frame) -> None:
        self.start, self.newest = frame.time if self.start is None else self.start, frame.time
        self.complete += [step for window in self.slider.push(frame) for step in self.clock.push(window)]

    def look(self) -> Look:
        slider, clock = replace(self.slider, held=deque(self.slider.held)), replace(self.clock)
        cut_short = [step for window in slider.finish() for step in clock.push(window)]
        rows = list(describe_windows(self.model, [*self.complete, *cut_short], least=self.least, batch=self.batch))
        self.settled.extend(rows[:len(self.complete)])
        known = [*self.settled, *rows[len(self.complete):]][-self.longest:]
        self.complete = []
        return Look((self.newest - self.start) / 1000, clock.steps - len(known), np.array(known))


def look_again(growing: Growing, frames: Iterable[Frame], every: int) -> Iterator[Look]:
    """Looks at a recording after every `every` steps, or as soon as a frame comes after that, and at its end."""
    looked, seen = 0, True
    for frame in frames:
        growing.push(frame)
        seen = growing.steps // every > looked
        if seen:
            looked = growing.steps // every
            yield growing.look()
    if not seen:
        yield growing.look()


@dataclass
class Timed:
    """Frames that are passed on, the times (ms) of the first and the last so far, and how many they are."""

    frames: Iterable[Frame]
    first: int | None = None
    last: int | None = None
    count: int = 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            self.first, self.last = frame.time if self.first is None else self.first, frame.time
            self.count += 1
            yield frame

    @property
    def duration_s(self) -> float:
        return (self.last - self.first) / 1000


def write_rows(file: IO[bytes], rows: Iterable[np.ndarray], columns: int) -> int:
    """Writes a .npy file, float32 [T, columns], of rows that come one by one; returns T."""
    def write_header() -> None:
        # numpy leaves space in it for the first number to grow
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, columns)})

    count = 0
    write_header()
    for row in rows:
        file.write(row.astype("<f4").tobytes())
        count += 1
    file.seek(0)
    write_header()
    return count


def cut_chunks(steps: int, longest: int, shared: int) -> Iterator[tuple[int, int]]:
    """First step of each chunk and the one after its last: `longest` steps at most, `shared` of them with the chunk before."""
    start = 0
    while start + longest < steps:
        yield start, start + longest
        start += longest - shared
    yield start, steps
