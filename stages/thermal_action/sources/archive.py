"""Recordings from a folder, .zip or .tar (local, or a URL with checksum), for teammates without the database.

    frames/<recording>.h5              frames [N, H, W] C, timestamps [N] ms, frame_seqs [N]; attribute mac_address
    keyframes/*.json(l)                keyframe files
    annotations/{train,val}.json       optional: a given split, COCO style
"""

from collections.abc import Sequence
from pathlib import Path

import h5py

from thermal_action import InputError
from thermal_action.files import file_sha256, read_json
from thermal_action.keyframes import Keyframe, read_keyframe_folder
from thermal_action.raw import PayloadFormat, Progress, RawFrame, encoder
from thermal_action.raw_store import RawRecording, RawStore
from thermal_action.sources.locations import open_location

# float32 keeps every value of the archive bit by bit
PAYLOAD = PayloadFormat("base64", "zlib", "float32")


class ArchiveSource:
    """`location` is a folder, an archive file or its http(s) URL; `sha256` its checksum (required for a URL)."""

    def __init__(self, *, location: str, sha256: str | None, classes: Sequence[str], scratch: str | Path = ".scratch"):
        self.location, self.classes = location, list(classes)
        self.folder = root_of(open_location(location, sha256, section="fetch.archive", scratch=Path(scratch)))

    def query(self) -> dict:
        """The checksums of the files, so that another content is another query wherever it lies."""
        return {"files": {str(path.relative_to(self.folder)): file_sha256(path) for path in self._files()}}

    def fetch(self, store: RawStore, progress: Progress) -> None:
        keyframes, encoding = read_keyframe_folder(self.folder / "keyframes", self.classes), encoder()
        for recording, records in keyframes.items():
            path = self.folder / "frames" / f"{recording}.h5"
            if not path.exists():
                raise InputError(f"{path} is missing, though keyframes of {recording} exist: complete the archive")
            raw = store.recording(recording, {"sha256": file_sha256(path), "mac_address": records[0].mac_address, **encoding})
            store.put_keyframes(recording, records)
            self._copy_frames(path, raw, records, progress)
        split = self._given_split()
        if split:
            store.put_json("split.json", split)

    def _copy_frames(self, path: Path, raw: RawRecording, records: Sequence[Keyframe], progress: Progress) -> None:
        if raw.complete:
            progress(raw.frames)
            return
        with open_archived(path) as file:
            height, width = file["frames"].shape[1:]
            times = file["timestamps"][:]
            sequences = file["frame_seqs"][:] if "frame_seqs" in file else times
            mac = str(file.attrs.get("mac_address", records[0].mac_address)).lower()
            if mac != records[0].mac_address:
                raise InputError(f"{path} is of device {mac}, its keyframe file of {records[0].mac_address}: correct one of them")
            progress(raw.frames)
            for start in range(raw.frames, len(times), raw.page_frames):
                try:
                    frames = file["frames"][start : start + raw.page_frames]
                except OSError:
                    raise InputError(f"{path} cannot be read behind frame {start}: it is torn; complete the archive") from None
                for offset, frame in enumerate(frames, start=start):
                    raw.append(RawFrame(int(times[offset]), int(sequences[offset]), width, height, PAYLOAD.encode(frame)))
                progress(len(frames))
        raw.finish(PAYLOAD)

    def _given_split(self) -> dict | None:
        sides = {side: self.folder / "annotations" / f"{side}.json" for side in ("train", "val")}
        if not any(path.exists() for path in sides.values()):
            return None
        return {side: read_ids(path) for side, path in sides.items()}

    def _files(self) -> list[Path]:
        parts = ("frames/*.h5", "keyframes/*.json*", "annotations/train.json", "annotations/val.json")
        files = sorted(path for part in parts for path in self.folder.glob(part))
        if not files:
            raise InputError(f"{self.location} has no frames/*.h5 and keyframes/*.json: give a folder or archive in that layout")
        return files


def read_ids(path: Path) -> list[str]:
    try:
        ids = [image["id"] for image in read_json(path)["images"]]
    except (KeyError, TypeError):
        ids = [None]
    if not all(isinstance(name, str) for name in ids):
        raise InputError(f"{path} has no `images`, each with an id: write it COCO style, or leave annotations/ out")
    return ids


def open_archived(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise InputError(f"{path} is no whole HDF5 file: complete the archive") from None
    numbers = {name: kinds for name, kinds in (("frames", "fiu"), ("timestamps", "iu"), ("frame_seqs", "iu")) if name in file}
    for name, kinds in numbers.items():
        # a link, or values kept elsewhere, would bring in other files of this machine under the archive's checksum
        dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.dtype.kind not in kinds:
            raise InputError(f"{path}: {name} is no dataset of numbers in this file: write it as README says")
    shape = file["frames"].shape if {"frames", "timestamps"} <= numbers.keys() else ()
    if len(shape) != 3 or 0 in shape or any(file[name].shape != shape[:1] for name in numbers.keys() - {"frames"}):
        raise InputError(f"{path} needs frames [N, H, W] and timestamps [N] of the same N")
    return file


def root_of(folder: Path) -> Path:
    """The folder that holds frames/: the archive's top, or the single folder in it."""
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return inner[0] if not (folder / "frames").exists() and len(inner) == 1 else folder
