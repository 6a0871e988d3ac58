"""Recordings from a folder, .zip or .tar (local, or a URL with checksum), for teammates without the database.

    frames/<recording>.h5              frames [N, H, W] C, timestamps [N] ms, frame_seqs [N]; attribute mac_address
    keyframes/*.json(l)                keyframe files
    annotations/{train,val}.json       optional: a given split, COCO style
"""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import h5py

from thermal_action import InputError, shown
from thermal_action.files import (
    check_sha256,
    check_url,
    download,
    file_sha256,
    fingerprint,
    is_url,
    read_json,
    replacing_folder,
)
from thermal_action.keyframes import Keyframe, read_keyframe_folder
from thermal_action.raw import PayloadFormat, Progress, RawFrame, encoder
from thermal_action.raw_store import RawRecording, RawStore

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# what unpacking raises; RuntimeError: encrypted, or compressed in a way unknown here; ValueError: names that no file can have
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
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

    def _unpacked(self, sha256: str | None) -> Path:
        location = self.location
        if is_url(location):
            check_url(location, sha256, parameter="fetch.archive.location")
            check_suffix(urlsplit(location).path)
            kept = self.scratch / f"download-{fingerprint([location, sha256])}" / Path(urlsplit(location).path).name
            location = str(download(location, kept, sha256, parameter="fetch.archive.sha256"))
        path = Path(location)
        if path.is_dir():
            return path
        if not path.is_file():
            raise InputError(f"fetch.archive.location {location} does not exist: give a folder, an archive file or a URL")
        check_suffix(location)
        actual = check_sha256(path, sha256, parameter="fetch.archive.sha256")
        folder = self.scratch / f"archive-{actual[:16]}"
        if not folder.exists():
            unpack(path, folder)
        return root_of(folder)


def read_ids(path: Path) -> list[str]:
    try:
        ids = [image["id"] for image in read_json(path)["images"]]
    except (KeyError, TypeError):
        ids = [None]
    if not all(isinstance(name, str) for name in ids):
        raise InputError(f"{path} has no `images`, each with an id: write it COCO style, or leave annotations/ out")
    return ids


def check_suffix(location: str) -> None:
    if not location.endswith(ARCHIVE_SUFFIXES):
        raise InputError(f"fetch.archive.location {location} is neither a folder nor one of {', '.join(ARCHIVE_SUFFIXES)}")


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


def unpack(path: Path, folder: Path) -> None:
    """Unpacks files inside `folder` only; a member that points elsewhere, is no file or does not fit on the disk is refused."""
    opener: Callable = zipfile.ZipFile if path.suffix == ".zip" else tarfile.open
    try:
        with replacing_folder(folder) as temporary, opener(path) as archive:
            left = shutil.disk_usage(temporary).free
            for member in archive.infolist() if isinstance(archive, zipfile.ZipFile) else archive:
                left -= member.file_size if isinstance(member, zipfile.ZipInfo) else member.size
                check_member(path, member, left)
                if isinstance(member, zipfile.ZipInfo):
                    archive.extract(member, temporary)
                else:
                    archive.extract(member, temporary, filter="data")
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} cannot be unpacked safely: {error}") from None


def check_member(path: Path, member: zipfile.ZipInfo | tarfile.TarInfo, left: int) -> None:
    """left: bytes of the disk with this member unpacked."""
    name = member.filename if isinstance(member, zipfile.ZipInfo) else member.name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{path} cannot be unpacked safely: its member {shown(name)} points outside of the archive")
    # symbolic links, too: with them the filter of Python below 3.11.13 lets members out (CVE-2025-4517)
    if isinstance(member, tarfile.TarInfo) and not (member.isfile() or member.isdir() or member.islnk()):
        raise InputError(f"{path} cannot be unpacked safely: its member {shown(name)} is neither a file nor a folder")
    if left < 0:
        raise InputError(f"{path} holds more than the disk has room for, at the latest with its member {shown(name)}: make room")


def root_of(folder: Path) -> Path:
    """The folder that holds frames/: the archive's top, or the single folder in it."""
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return inner[0] if not (folder / "frames").exists() and len(inner) == 1 else folder
