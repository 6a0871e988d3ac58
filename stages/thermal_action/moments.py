"""What a model says of a recording from moment to moment, and how that is written down."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from thermal_action import InputError
from thermal_action.files import replacing
from thermal_action.recogniser import Person, ThermalActionRecognizer
from thermal_action.streams import Frame, SlidWindow, slide
from thermal_action.tracking import Tracker


@dataclass(frozen=True)
class Moment:
    """The persons of one keyframe, with identities that last through the recording.

    time: of the keyframe, ms. known: when the last frame came that the answer needed, ms; with causal windows the same.
    abstained: why nothing is said, where the frames are too damaged.
    """

    recording: str
    time: int
    known: int
    persons: tuple[Person, ...]
    identities: tuple[int, ...]
    abstained: str | None = None


@dataclass(frozen=True)
class Abstention:
    """From when on nothing is said of a window: share of its frames that lost pixels, seconds without a frame."""

    damaged: float = 0.5
    gap_s: float = 6.0

    def reason(self, window: SlidWindow) -> str | None:
        """Why nothing is said of a window; None if something is."""
        if window.damaged > self.damaged:
            return f"{window.damaged:.0%} of its frames lost pixels"
        if window.gap > 1000 * self.gap_s:
            return f"{window.gap / 1000:.1f} s without a frame"
        return None


class Observer:
    """Turns windows of one recording, in order, into moments: finds and labels persons, and follows them."""

    def __init__(self, recognizer: ThermalActionRecognizer, recording: str, abstention: Abstention):
        self.recognizer, self.recording, self.abstention = recognizer, recording, abstention
        self.tracker = Tracker(recognizer.frame_size)

    def observe(self, windows: Sequence[SlidWindow]) -> list[Moment]:
        reasons = [self.abstention.reason(window) for window in windows]
        asked = [window.frames for window, reason in zip(windows, reasons, strict=True) if reason is None]
        answers = iter(self.recognizer.detect_all(asked) if asked else [])
        moments = []
        for window, reason in zip(windows, reasons, strict=True):
            persons = next(answers) if reason is None else []
            boxes = np.array([person.box for person in persons]).reshape(-1, 4)
            identities = self.tracker.update(window.time, boxes).tolist()
            moments.append(Moment(self.recording, window.time, window.known, tuple(persons), tuple(identities), reason))
        return moments


def observe_all(recognizer: ThermalActionRecognizer, recording: str, frames: Iterable[Frame], *, every: int, batch: int,
                abstention: Abstention) -> Iterator[Moment]:
    """Moments around every `every`-th frame of a recording; `batch` windows are looked at together."""
    observer = Observer(recognizer, recording, abstention)
    windows = slide(frames, recognizer.windowing, every)
    while together := list(islice(windows, batch)):
        yield from observer.observe(together)


def to_record(moment: Moment, classes: Sequence[str]) -> dict[str, Any]:
    """A moment as plain JSON; `read_moments` is the inverse."""
    persons = [{"id": identity, "box": [round(side, 4) for side in person.box], "score": round(person.score, 4),
                "on_bed": round(person.on_bed, 4),
                "label": classes[person.action], "confidence": round(float(person.probabilities[person.action]), 4),
                "probabilities": dict(zip(classes, person.probabilities.round(4).tolist(), strict=True))}
               for identity, person in zip(moment.identities, moment.persons, strict=True)]
    record = {"recording": moment.recording, "time_ms": moment.time, "known_ms": moment.known, "persons": persons}
    return record | ({"abstained": moment.abstained} if moment.abstained else {})


def to_rows(moment: Moment, classes: Sequence[str]) -> Iterator[list]:
    """A line of the table for each person."""
    for person in to_record(moment, classes)["persons"]:
        yield [moment.recording, moment.time, person["id"], *person["box"], person["score"], person["on_bed"],
               person["label"], person["confidence"], *person["probabilities"].values()]


class MomentWriter:
    """Writes moments to <stem>.jsonl and <stem>.csv as they come; both appear when all are there, or not at all."""

    def __init__(self, stem: Path, classes: Sequence[str]):
        self.stem, self.classes = stem, classes

    def __enter__(self) -> "MomentWriter":
        with ExitStack() as stack:
            self.lines, self.table = (self.open(stack, suffix) for suffix in (".jsonl", ".csv"))
            self.writer = csv.writer(self.table, lineterminator="\n")
            self.writer.writerow(["recording", "time_ms", "id", "x1", "y1", "x2", "y2", "score", "on_bed", "label", "confidence",
                                  *(f"p({name})" for name in self.classes)])
            self.stack = stack.pop_all()
        return self

    def open(self, stack: ExitStack, suffix: str) -> IO[str]:
        temporary = stack.enter_context(replacing(self.stem.with_name(self.stem.name + suffix)))
        return stack.enter_context(open(temporary, "w", newline="", encoding="utf-8"))

    def write(self, moment: Moment) -> None:
        self.lines.write(json.dumps(to_record(moment, self.classes), ensure_ascii=False) + "\n")
        self.writer.writerows(to_rows(moment, self.classes))

    def __exit__(self, *failure) -> bool | None:
        return self.stack.__exit__(*failure)


def read_moments(path: str | Path) -> list[Moment]:
    """The moments of a .jsonl file; InputError for one that MomentWriter did not write."""
    moments = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                persons = tuple(Person(tuple(person["box"]), person["score"], person["on_bed"],
                                       np.array(list(person["probabilities"].values())))
                                for person in record["persons"])
                moments.append(Moment(record["recording"], record["time_ms"], record["known_ms"], persons,
                                      tuple(person["id"] for person in record["persons"]), record.get("abstained")))
            except (KeyError, TypeError, ValueError):
                raise InputError(f"{path}, line {number} is no prediction: run stages/predict.py again") from None
    return moments
