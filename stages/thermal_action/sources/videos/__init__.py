"""Clips in video files, one action each: folders or archives of .avi and .mp4, named as HRI30 names them.

Training videos are called CIDxx_SIDyy_VIDzz: the class, counted from 1 in the order of `classes`, the subject, the video. What
test videos are called says nothing. A clip becomes a recording whose one keyframe has one person, as large as the picture.

A video has no device: its address is made of its content, so that one video under two names is the same device at the same
times, which the split purges and validate finds.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from thermal_action import InputError, shown
from thermal_action.files import file_sha256
from thermal_action.keyframes import Annotation, Keyframe
from thermal_action.raw import Progress
from thermal_action.raw_store import RawStore, RawVideo
from thermal_action.sources.locations import open_location
from thermal_action.videos import DamagedVideo, decoder, inspect_video

SUFFIXES = (".avi", ".mp4")
NAME = re.compile(r"CID(\d+)_SID(\d+)_VID\d+", re.IGNORECASE)
UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")  # for the name of a recording
WHOLE_PICTURE = (0.5, 0.5, 1.0, 1.0)  # cx, cy, w, h
NAMED = 3  # damaged videos that a sentence names


@dataclass(frozen=True)
class Clip:
    """A video to fetch. label, subject: None of a test video. question: plain, all that decides its bytes."""

    recording: str
    file_name: str
    label: int | None
    subject: str | None
    question: Mapping[str, Any]
    file: Callable[[], AbstractContextManager[Path]]


class VideosSource:
    """train, test: where videos are, `location` and `checksum` of each as of open_location; test may have no location.
    damaged: whether a video that cannot be decoded whole ends the fetch (refuse) or is left out, and named (skip).
    """

    def __init__(self, *, train: Mapping[str, str | None], test: Mapping[str, str | None], damaged: Literal["refuse", "skip"],
                 classes: Sequence[str], scratch: str | Path = ".scratch"):
        self.damaged, self.classes = damaged, list(classes)
        self.files = {side: find_videos(side, place["location"], place["checksum"], Path(scratch))
                      for side, place in (("train", train), ("test", test)) if place["location"] is not None}
        if "train" not in self.files:
            raise InputError("fetch.videos.train.location is null: say where the training videos are")

    def query(self) -> dict:
        """The checksums of the files, so that another content is another query wherever it lies."""
        return {"files": {f"{side}/{name}": file_sha256(path) for side, files in self.files.items()
                          for name, path in files.items()}}

    def fetch(self, store: RawStore, progress: Progress) -> None:
        fetch_clips(self.clips(), store, self.classes, skip=self.damaged == "skip", progress=progress)

    def clips(self) -> Iterator[Clip]:
        understood = decoder()
        for side, files in self.files.items():
            for path in files.values():
                label, subject = parse_name(path, self.classes) if side == "train" else (None, None)
                question = {"sha256": file_sha256(path), "file_name": path.name, "side": side, **understood}
                yield Clip(name_recording(path.stem, side), path.name, label, subject, question, partial(nullcontext, path))


def find_videos(side: str, location: str, checksum: str | None, scratch: Path) -> dict[str, Path]:
    """The videos in a folder or archive, at whatever depth, by their place there."""
    folder = open_location(location, checksum, section=f"fetch.videos.{side}", key="checksum", scratch=scratch)
    # a name that begins with a dot is none of a video, but what some systems put beside each into archives
    found = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"fetch.videos.{side}.location {location} holds no {' or '.join(SUFFIXES)} file: give the folder or"
                         " archive that holds the videos")
    files = {str(path.relative_to(folder)): path for path in found}
    for name in files:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise InputError(f"fetch.videos.{side}.location {location} holds {shown(name)}, a name that is no UTF-8: rename it")
    return files


def parse_name(path: Path, classes: Sequence[str]) -> tuple[int, str]:
    """(id of the class, subject) that the name of a training video says."""
    name = NAME.fullmatch(path.stem)
    if not name:
        raise InputError(f"{path} is not called CIDxx_SIDyy_VIDzz (class, subject, video): rename it, or take it out")
    if not 1 <= int(name[1]) <= len(classes):
        raise InputError(f"{path} is of class {int(name[1])}, but `classes` in params.yaml has {len(classes)}: correct one of"
                         " them")
    return int(name[1]) - 1, f"SID{int(name[2]):02d}"


def name_recording(stem: str, side: str) -> str:
    """A test video may be called as a training video is."""
    return UNFIT.sub("_", stem if side == "train" else f"test_{stem}")[:100]


def fetch_clips(clips: Iterator[Clip], store: RawStore, classes: Sequence[str], *, skip: bool, progress: Progress) -> None:
    """Brings every clip with its keyframe; split.json says which are for testing alone.

    InputError, after all have been looked at, for damaged ones, unless they are to be skipped; and for two of one name.
    """
    damaged: dict[str, str] = {}
    test, origin = [], {}
    for clip in clips:
        if clip.recording in origin:
            raise InputError(f"the videos {shown(clip.file_name)} and {shown(origin[clip.recording])} would both be the recording"
                             f" {clip.recording}: rename one of them")
        origin[clip.recording] = clip.file_name
        raw = store.video(clip.recording, clip.question)
        try:
            receive(clip, raw)
        except DamagedVideo as error:
            damaged[clip.recording] = f"{clip.file_name} {error}"
            continue
        store.put_keyframes(clip.recording, [to_keyframe(clip, raw, classes)])
        if clip.label is None:
            test.append(clip.recording)
        progress(raw.facts["frames"])
    if damaged and not skip:
        store.keep()  # nobody should wait for them once more
        names = list(damaged.values())
        more = f" (and {len(names) - NAMED} more)" if len(names) > NAMED else ""
        raise InputError(f"{'; '.join(names[:NAMED])}{more}: get them again, or set fetch.videos.damaged to skip")
    for recording, what in damaged.items():
        store.leave_out(recording, what)
    store.put_json("split.json", {"test": test})


def receive(clip: Clip, raw: RawVideo) -> None:
    if not raw.complete:
        with clip.file() as path:
            raw.put(path, *inspect_video(path))


def to_keyframe(clip: Clip, raw: RawVideo, classes: Sequence[str]) -> Keyframe:
    """In the middle of the clip; nobody in it where no label says who does what."""
    sha256, middle_ms = raw.facts["facts"]["sha256"], max(raw.facts["last_ts"] // 2, 1)
    address = ":".join(["02", *(sha256[place : place + 2] for place in range(0, 10, 2))])  # locally administered
    persons = () if clip.label is None else (Annotation(WHOLE_PICTURE, "person", classes[clip.label], None, None, 0),)
    return Keyframe(clip.recording, address, "", 0, middle_ms, persons, clip.subject, clip.file_name)
