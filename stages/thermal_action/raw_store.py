"""data/raw while fetch fills it.

A fetch grows in .scratch/fetch-<fingerprint of the query>/ and moves to data/raw when it is complete, so that an
interrupted one goes on there, and a partial one is never taken for a whole one. The recordings of the last complete one stay
in .scratch/fetch/, each under the fingerprint of all that decides it: the next one takes over those that are the same.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from thermal_action import InputError
from thermal_action.files import (
    file_sha256,
    fingerprint,
    lock,
    move_folder,
    read_json,
    remove_abandoned,
    replacing,
    write_json,
)
from thermal_action.kept import Kept
from thermal_action.keyframes import Keyframe, write_keyframes
from thermal_action.raw import PayloadFormat, RawFrame, VideoFormat, is_received, pages, read_page, video_of


class RawRecording:
    """The pages of one recording in a RawStore. `frames` and `last_ts` tell what is on disk: a fetch goes on behind it."""

    def __init__(self, folder: Path, page_frames: int):
        self.folder, self.page_frames = folder, page_frames
        self._page: list[RawFrame] = []
        folder.mkdir(parents=True, exist_ok=True)
        found, record = pages(folder), folder / "complete.json"
        held = [times_of(page) if page.stem == f"{number:06d}" else [] for number, page in enumerate(found)]
        full = next((number for number, times in enumerate(held) if len(times) != page_frames), len(held))
        self._count(held)
        self.complete = full >= len(held) - 1 and self._is_described_by(record)
        if not self.complete:  # killed before complete.json, or damaged since: what is behind the full pages is fetched again
            record.unlink(missing_ok=True)
            for page in found[full:]:
                page.unlink()
            self._count(held[:full])

    def append(self, frame: RawFrame) -> None:
        self._page.append(frame)
        if len(self._page) == self.page_frames:
            self._write_page()

    def finish(self, payload: PayloadFormat, **facts: Any) -> None:
        """Writes the last page and declares the recording complete; `facts` (gaps, say) go into query.json."""
        if self._page:
            self._write_page()
        if not self.frames:
            raise InputError(f"recording {self.folder.name} has no frame: remove its keyframe file or fetch it from elsewhere")
        write_json(self.folder / "complete.json", {"frames": self.frames, "first_ts": self.first_ts, "last_ts": self.last_ts,
                                                   "payload": asdict(payload), "facts": facts})
        self.complete = True

    def _count(self, held: list[list[int]]) -> None:
        """held: the times of each page."""
        times = [time for page in held for time in page]
        self.frames, self.first_ts, self.last_ts = len(times), times[0] if times else None, times[-1] if times else None

    def _is_described_by(self, record: Path) -> bool:
        try:
            facts = read_json(record)
        except InputError:
            return False
        counted = {"frames": self.frames, "first_ts": self.first_ts, "last_ts": self.last_ts}
        return is_received(facts) and facts == facts | counted

    def _write_page(self) -> None:
        number = self.frames // self.page_frames
        with replacing(self.folder / f"{number:06d}.jsonl") as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(frame.to_line() for frame in self._page)
        self.frames += len(self._page)
        self.first_ts = self._page[0].ts if self.first_ts is None else self.first_ts
        self.last_ts = self._page[-1].ts
        self._page = []


class RawVideo:
    """The video file of one recording in a RawStore. `facts`: what its complete.json says; None until the video is there, whole
    and as it was received.
    """

    def __init__(self, folder: Path):
        self.folder, self.facts = folder, None
        with suppress(InputError):
            facts, video = read_json(folder / "complete.json"), video_of(folder)
            if is_received(facts) and video is not None and file_sha256(video) == facts["facts"].get("sha256"):
                self.facts = facts

    @property
    def complete(self) -> bool:
        return self.facts is not None

    def put(self, source: Path, video: VideoFormat, frames: int) -> None:
        """Copies a video, which inspect_video found to be so, and declares the recording complete."""
        with replacing(self.folder / f"video{source.suffix.lower()}") as temporary:
            shutil.copyfile(source, temporary)
            sha256 = file_sha256(temporary)
        first_ts, last_ts = video.times_ms(np.array([0, frames - 1])).tolist()
        self.facts = {"frames": frames, "first_ts": first_ts, "last_ts": last_ts, "payload": asdict(video),
                      "facts": {"sha256": sha256}}
        write_json(self.folder / "complete.json", self.facts)


Stored = TypeVar("Stored", RawRecording, RawVideo)


class RawStore:
    """A fetch in progress. Only one process at a time may work on one query."""

    def __init__(self, raw_dir: str | Path, query: dict, page_frames: int, scratch: str | Path = ".scratch"):
        self.raw_dir, self.query, self.page_frames = Path(raw_dir), query, page_frames
        self.kept, self.taken, self._keys = Kept(Path(scratch) / "fetch"), set(), {}
        self.left_out: dict[str, str] = {}
        name = f"fetch-{fingerprint({'query': query, 'page_frames': page_frames})}"
        self.folder = Path(scratch) / name
        (self.folder / "frames").mkdir(parents=True, exist_ok=True)
        path = self.folder.with_name(f"{name}.lock")
        self._lock = lock(path, f"another fetch of the same query is running (lock {path}): wait for it")
        remove_abandoned(self.folder.rglob(".*.part"), alone=True)

    def __enter__(self) -> "RawStore":
        return self

    def __exit__(self, *_) -> None:
        self._lock.close()

    def recording(self, recording_id: str, question: Any = None) -> RawRecording:
        """What is there of a recording: of this fetch, interrupted, or of an earlier one that answered the same question.

        question: plain, all that decides the recording beside its name; None: the whole query. To be asked before keyframes
        are put: an earlier fetch's come along.
        """
        return self._open(recording_id, question, lambda folder: RawRecording(folder, self.page_frames))

    def video(self, recording_id: str, question: Any = None) -> RawVideo:
        """The same of a recording that is a video file."""
        return self._open(recording_id, question, RawVideo)

    def _open(self, recording_id: str, question: Any, kind: Callable[[Path], Stored]) -> Stored:
        folder = self.folder / "frames" / recording_id
        key = fingerprint([recording_id, question or self.query, self.page_frames])
        self._keys[recording_id] = key
        raw = kind(folder)
        if not raw.complete and self.kept.restore_files(key, self.folder):
            raw = kind(folder)
            self.taken.add(recording_id)
        return raw

    def put_keyframes(self, recording_id: str, keyframes: Sequence[Keyframe]) -> None:
        write_keyframes(self.folder / "keyframes" / f"{recording_id}.jsonl", keyframes)

    def put_json(self, name: str, value: Any) -> None:
        write_json(self.folder / name, value)

    def leave_out(self, recording_id: str, reason: str) -> None:
        """A recording that the source has and the fetch goes without; query.json says so."""
        self.left_out[recording_id] = reason
        self._keys.pop(recording_id, None)

    def keep(self) -> None:
        """Keeps what is complete for a fetch of another query: publish does; also for who refuses the rest."""
        for recording_id in self._keys.keys() - self.taken:
            folder = self.folder / "frames" / recording_id
            # restored from the end, so that a complete.json stands for what was made with the frames, too
            files = [*folder.glob("*"), self.folder / "keyframes" / f"{recording_id}.jsonl",
                     self.folder / "timeline" / f"{recording_id}.json"]
            if (folder / "complete.json").exists():
                self.kept.keep_files(self._keys[recording_id], self.folder, [file for file in files if file.exists()])

    def publish(self) -> dict:
        """Moves the fetch to data/raw; returns what query.json says. InputError while a recording is incomplete."""
        received = {}
        for folder in sorted((self.folder / "frames").iterdir()):
            if not (folder / "complete.json").exists():
                raise InputError(f"recording {folder.name} is not complete: run the fetch again, it goes on where it stopped")
            received[folder.name] = read_json(folder / "complete.json")
        if not received:
            raise InputError("the source gave no recording: check `fetch` in params.yaml")
        record = {"asked": self.query, "received": received, "frames": sum(facts["frames"] for facts in received.values())}
        if self.left_out:
            record["left_out"] = self.left_out
        write_json(self.folder / "query.json", record)
        self.keep()
        self.kept.forget_all_but({*self._keys.values()})
        move_folder(self.folder, self.raw_dir)
        self._lock.close()
        os.unlink(self._lock.name)
        return record


def times_of(page: Path) -> list[int]:
    """Of the frames of a page; none if it is damaged."""
    try:
        return [frame.ts for frame in read_page(page)]
    except InputError:
        return []
