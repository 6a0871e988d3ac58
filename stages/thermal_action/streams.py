"""Frames of a recording in order of time, from whatever holds them, and the windows that slide over them.

    <recording>.h5      as the hdf5 stage writes it: repaired already
    <folder>            of such files, or what the fetch stage writes (data/raw, or one of data/raw/frames): all that is in it
    <recording>.txt     the sensor's text export: a line ARRAYTYPE=..., then a line a frame, deci-Kelvin by rows and t: <seconds>

A stream is read once and holds a few frames at a time, however long the recording.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermal_action import InputError
from thermal_action.files import read_json
from thermal_action.raw import PayloadFormat, from_decikelvin, pages, read_page, video_of
from thermal_action.recordings import CHUNK_FRAMES, Recording
from thermal_action.repair import PixelRepair, RepairCounts, decode_frames
from thermal_action.windows import Windowing

COLOURED = "is a clip of a video in colours, no thermal recording: stages/evaluate.py names clips, those of `fetch.videos.test`"
ARRAY_SIZE = re.compile(r"(\d{1,9})\s*x\s*(\d{1,9})", re.IGNORECASE)  # columns x rows, in the name of the array's type


class Frame(NamedTuple):
    """A whole frame: time in ms (UTC), picture [H, W] float32 C, and how many of its pixels were lost and repaired."""

    time: int
    picture: np.ndarray
    lost: int


@dataclass(frozen=True)
class Stream:
    """One recording: its name, its size (H, W), how many frames it has (None: nobody knows), and the frames, to be read once."""

    name: str
    size: tuple[int, int]
    total: int | None
    frames: Iterator[Frame]


def open_streams(path: str | Path, size: tuple[int, int], packet_px: int = 0) -> list[Stream]:
    """The recordings that `path` holds, by name. Each must have frames of `size` (H, W) pixels.

    packet_px: pixels of a packet of the sensor's link, see PixelRepair; recordings in HDF5 are repaired already.
    InputError for what is none of the kinds above, and, while frames are read, for one that is no picture: NaN, all the same, cut
    off, or older than the one before.
    """
    path = Path(path)
    if path.is_dir():
        found = open_folder(path, packet_px)
    elif path.suffix in (".h5", ".hdf5"):
        found = [open_hdf5(path)]
    elif path.suffix.lower() == ".txt":
        found = [open_text(path, size, packet_px)]
    elif path.exists():
        raise InputError(f"{path} is no recording: give a .h5 file, a .txt export, or a folder of the fetch or hdf5 stage")
    else:
        raise InputError(f"{path} does not exist: give the path of a recording, or of a folder of them")
    for stream in found:
        if stream.size != size:
            raise InputError(f"{path}: frames of {stream.name} have {stream.size[0]} x {stream.size[1]} pixels, the model sees"
                             f" {size[0]} x {size[1]}: give recordings of the sensor that it was trained for")
    return [Stream(stream.name, size, stream.total, checked(stream.frames, path)) for stream in found]


def open_folder(path: Path, packet_px: int) -> list[Stream]:
    if (path / "complete.json").exists():
        return [open_raw(path, packet_px)]
    if (path / "query.json").exists():
        return [open_raw(folder, packet_px) for folder in sorted((path / "frames").iterdir())]
    files = sorted(path.glob("*.h5"))
    if not files:
        raise InputError(f"{path} holds no recording: give a folder of .h5 files, or one that the fetch stage wrote")
    return [open_hdf5(file) for file in files]


def open_hdf5(path: Path) -> Stream:
    with Recording(path) as recording:
        if len(recording.shape) == 4:
            raise InputError(f"{path} {COLOURED}")
        if len(recording.shape) != 3 or len(recording) != len(recording.timestamps) or not len(recording):
            raise InputError(f"{path} has frames {recording.shape} and {len(recording.timestamps)} times: it is no"
                             " recording of the hdf5 stage")
        return Stream(path.stem, (recording.height, recording.width), len(recording), read_hdf5(path))


def read_hdf5(path: Path) -> Iterator[Frame]:
    with Recording(path) as recording:
        times = recording.timestamps
        lost = recording.lost_pixels if "lost_pixels" in recording.file else np.zeros(len(times), int)
        for start in range(0, len(times), CHUNK_FRAMES):
            part = slice(start, start + CHUNK_FRAMES)
            pictures = recording.read(part).astype(np.float32, copy=False)
            yield from map(Frame, times[part].tolist(), pictures, lost[part].tolist())


def open_raw(folder: Path, packet_px: int) -> Stream:
    facts = read_json(folder / "complete.json")
    if video_of(folder):
        raise InputError(f"{folder} {COLOURED}")
    first = next(read_page(pages(folder)[0]))
    size = first.height, first.width
    blocks = decode_frames(folder, PayloadFormat(**facts["payload"]), size, packet_px, RepairCounts())
    frames = (Frame(*row) for block in blocks
              for row in zip(block.times.tolist(), block.pictures, block.lost.tolist(), strict=True))
    return Stream(folder.name, size, facts["frames"], frames)


def open_text(path: Path, size: tuple[int, int], packet_px: int) -> Stream:
    with open(path, encoding="ascii", errors="replace") as file:
        header = file.readline()
    if not header.startswith("ARRAYTYPE="):
        raise InputError(f"{path} begins with {header[:40]!r}, where a line ARRAYTYPE=... is expected: export it again")
    named = ARRAY_SIZE.search(header)
    size = (int(named[2]), int(named[1])) if named else size
    return Stream(path.stem, size, None, read_text(path, size, packet_px))


def read_text(path: Path, size: tuple[int, int], packet_px: int) -> Iterator[Frame]:
    repair = PixelRepair(*size, packet_px)  # not before somebody wants the frames: their size may be refused
    with open(path, encoding="ascii", errors="replace") as file:
        next(file)
        for number, line in enumerate(file, start=2):
            if line.strip():
                yield parse_line(line, repair, f"{path}, line {number}")


def parse_line(line: str, repair: PixelRepair, place: str) -> Frame:
    """One frame of a text export. InputError for a line that is cut off or holds no numbers."""
    pixels, mark, seconds = line.partition("t:")
    try:
        if not mark or not line.endswith("\n"):
            raise ValueError("it is cut off")
        values = np.array(pixels.split(), dtype=np.float64)
        if values.size > repair.pixels:
            raise ValueError(f"it has {values.size} pixels, the array {repair.pixels}")
        time = round(1000 * float(seconds))
        if not 0 <= time < 1 << 53:
            raise ValueError(f"{seconds.strip()} s are no time since 1970")
        return Frame(time, *repair.repair(from_decikelvin(values))[:2])
    except (ValueError, OverflowError) as error:
        raise InputError(f"{place} is no frame: {error}; expected deci-Kelvin and `t: <seconds>`, export it again") from None


def checked(frames: Iterator[Frame], path: Path | str) -> Iterator[Frame]:
    """The frames, as long as they are pictures in order of time; InputError for the first that is not."""
    last = None
    for number, frame in enumerate(frames):
        place = f"{path}: frame {number} (time {frame.time})"
        if not np.isfinite(frame.picture).all():
            raise InputError(f"{place} holds NaN or infinity: repair the recording with the hdf5 stage first")
        if frame.picture.min() == frame.picture.max():
            raise InputError(f"{place} is {frame.picture.flat[0]:g} C everywhere and no picture: leave the frame out")
        if last is not None and frame.time <= last:
            raise InputError(f"{place} is not later than the one before ({last}): bring the frames in order of time")
        last = frame.time
        yield frame


@dataclass(frozen=True)
class SlidWindow:
    """A window of a stream: the keyframe's number and time (ms), when the last frame came that it needs (ms), frames [T, H, W] C,
    share of its frames that had lost pixels, and the longest time between two of them (ms)."""

    number: int
    time: int
    known: int
    frames: np.ndarray
    damaged: float
    gap: int


@dataclass
class Slider:
    """Windows around every `every`-th frame of a stream, each as soon as all of its frames are there.

    What a window is, Windowing says; it is the same that training would cut out of the whole recording, but for the ends of the
    stream: what a window lacks there repeats, as in training.
    """

    windowing: Windowing
    every: int
    held: deque[Frame] = field(default_factory=deque)
    first: int = 0  # number of the first frame held
    following: int = 0  # number of the next keyframe

    def __post_init__(self):
        if self.windowing.sampling == "whole":
            raise InputError("the model labels whole clips (window.sampling whole), and a stream has no end to spread its window"
                             " over: give a model that was trained on consecutive or uniform_time windows")

    def push(self, frame: Frame) -> Iterator[SlidWindow]:
        """Takes the next frame; gives the windows that are complete with it."""
        self.held.append(frame)
        while self.following < self.first + len(self.held) and self.is_complete():
            yield self.cut()

    def finish(self) -> Iterator[SlidWindow]:
        """The windows that wait for frames which will never come."""
        while self.following < self.first + len(self.held):
            yield self.cut()

    def is_complete(self) -> bool:
        ahead = self.windowing.length - 1 - self.windowing.position
        place = self.following - self.first
        if self.windowing.sampling == "consecutive":
            return place + ahead < len(self.held)
        # a later frame may still be nearer to the last tick than those there are
        return not ahead or self.held[-1].time >= self.held[place].time + ahead * self.windowing.period_ms

    def cut(self) -> SlidWindow:
        place = self.following - self.first
        times = np.array([frame.time for frame in self.held], dtype=np.int64)
        indices = self.windowing.frames(times, place)
        shown = [self.held[index] for index in indices.tolist()]
        known = max(times[place], times[indices.max()])
        window = SlidWindow(self.following, int(times[place]), int(known), np.stack([frame.picture for frame in shown]),
                            sum(frame.lost > 0 for frame in shown) / len(shown), int(np.diff(times[indices]).max(initial=0)))
        self.following += self.every
        self.forget(indices.min(), times)
        return window

    def forget(self, needed: int, times: np.ndarray) -> None:
        """Drops the frames that no later window needs: those before the first one that the window just cut needed."""
        for _ in range(min(int(needed), self.following - self.first, len(self.held) - 1)):
            self.held.popleft()
            self.first += 1


def slide(frames: Iterable[Frame], windowing: Windowing, every: int) -> Iterator[SlidWindow]:
    """The windows around every `every`-th of `frames`, from the first on."""
    slider = Slider(windowing, every)
    for frame in frames:
        yield from slider.push(frame)
    yield from slider.finish()
