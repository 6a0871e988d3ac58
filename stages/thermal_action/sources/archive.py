"""Recordings from a folder, .zip or .tar (local, or a URL with checksum), for teammates without the database.

    frames/<recording>.h5              frames [N, H, W] C, timestamps [N] ms, frame_seqs [N]; attribute mac_address
    keyframes/*.json(l)                keyframe files
    annotations/{train,val}.json       optional: a given split, COCO style
"""

import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import h5py

from thermal_action import InputError
from thermal_action.files import check_sha256, download, file_sha256, fingerprint, is_url, read_json, replacing_folder
from thermal_action.keyframes import Keyframe, read_keyframe_folder
from thermal_action.raw import PayloadFormat, Progress, RawFrame, RawStore

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# float32 keeps every value of the archive bit by bit
PAYLOAD = PayloadFormat("base64", "zlib", "float32")


class ArchiveSource:
    """`location` is a folder, an archive file or its http(s) URL; `sha256` its checksum (required for a URL)."""

    def __init__(self, *, location: str, sha256: str | None, classes: Sequence[str], scratch: str | Path = ".scratch"):
        self.location, self.classes, self.scratch = location, list(classes), Path(scratch)
        self.folder = self._unpacked(sha256)

    def query(self) -> dict:
        """The checksums of the files, so that another content is another query wherever it lies."""
        return {"files": {str(path.relative_to(self.folder)): file_sha256(path) for path in self._files()}}

    def fetch(self, store: RawStore, progress: Progress) -> None:
        keyframes = read_keyframe_folder(self.folder / "keyframes", self.classes)
        for recording, records in keyframes.items():
            path = self.folder / "frames" / f"{recording}.h5"
            if not path.exists():
                raise InputError(f"{path} is missing, though keyframes of {recording} exist: complete the archive")
            store.put_keyframes(recording, records)
            self._copy_frames(path, recording, records, store, progress)
        split = self._given_split()
        if split:
            store.put_json("split.json", split)

    def _copy_frames(self, path: Path, recording: str, records: Sequence[Keyframe], store: RawStore, progress: Progress) -> None:
        raw = store.recording(recording)
        if raw.complete:
            progress(raw.frames)
            return
        with open_archived(path) as file:
            height, width = file["frames"].shape[1:]
            times = file["timestamps"][:]
            sequences = file["frame_seqs"][:] if "frame_seqs" in file else times
            mac = str(file.attrs.get("mac_address", records[0].mac_address))
            if mac != records[0].mac_address:
                raise InputError(f"{path} is of device {mac}, its keyframe file of {records[0].mac_address}: correct one of them")
            progress(raw.frames)
            for start in range(raw.frames, len(times), store.page_frames):
                frames = file["frames"][start : start + store.page_frames]
                for offset, frame in enumerate(frames, start=start):
                    raw.append(RawFrame(int(times[offset]), int(sequences[offset]), width, height, PAYLOAD.encode(frame)))
                progress(len(frames))
        raw.finish(PAYLOAD)

    def _given_split(self) -> dict | None:
        sides = {side: self.folder / "annotations" / f"{side}.json" for side in ("train", "val")}
        if not any(path.exists() for path in sides.values()):
            return None
        return {side: [image["id"] for image in read_json(path)["images"]] for side, path in sides.items()}

    def _files(self) -> list[Path]:
        parts = ("frames/*.h5", "keyframes/*.json*", "annotations/train.json", "annotations/val.json")
        files = sorted(path for part in parts for path in self.folder.glob(part))
        if not files:
            raise InputError(f"{self.location} has no frames/*.h5 and keyframes/*.json: give a folder or archive in that layout")
        return files

    def _unpacked(self, sha256: str | None) -> Path:
        location = self.location
        if is_url(location):
            if sha256 is None:
                raise InputError(f"fetch.archive.location {location} is a URL: give its checksum in fetch.archive.sha256")
            kept = self.scratch / f"download-{fingerprint([location, sha256])}" / Path(urlsplit(location).path).name
            location = str(download(location, kept, sha256, parameter="fetch.archive.sha256"))
        path = Path(location)
        if path.is_dir():
            return path
        if not path.is_file():
            raise InputError(f"fetch.archive.location {location} does not exist: give a folder, an archive file or a URL")
        if not path.name.endswith(ARCHIVE_SUFFIXES):
            raise InputError(f"fetch.archive.location {location} is neither a folder nor one of {', '.join(ARCHIVE_SUFFIXES)}")
        actual = check_sha256(path, sha256, parameter="fetch.archive.sha256")
        folder = self.scratch / f"archive-{actual[:16]}"
        if not folder.exists():
            unpack(path, folder)
        return root_of(folder)


def open_archived(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise InputError(f"{path} is no whole HDF5 file: complete the archive") from None
    if "frames" not in file or "timestamps" not in file or file["frames"].ndim != 3 or \
            file["frames"].shape[:1] != file["timestamps"].shape:
        raise InputError(f"{path} needs frames [N, H, W] and timestamps [N] of the same N")
    return file


def unpack(path: Path, folder: Path) -> None:
    """Unpacks regular files inside `folder` only; a member that points outside is refused by name."""
    opener: Callable = zipfile.ZipFile if path.suffix == ".zip" else tarfile.open
    try:
        with replacing_folder(folder) as temporary, opener(path) as archive:
            if isinstance(archive, zipfile.ZipFile):
                check_members(path, archive.namelist())
                archive.extractall(temporary)
            else:
                archive.extractall(temporary, filter="data")
    except (tarfile.FilterError, tarfile.ReadError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} cannot be unpacked safely: {error}") from None


def check_members(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path} cannot be unpacked safely: its member {name!r} points outside of the archive")


def root_of(folder: Path) -> Path:
    """The folder that holds frames/: the archive's top, or the single folder in it."""
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return inner[0] if not (folder / "frames").exists() and len(inner) == 1 else folder
