"""One HDF5 file per recording: frames in as a stream, repaired; any of them out.

    frames [N, H, W] float32 C    timestamps [N] int64 ms, strictly increasing    frame_seqs [N] int64
    corrupted [N] bool    lost_pixels [N] int32: how many pixels the frame had lost before repair
    attributes: sensor_id, mac_address, total_frames, corrupted_count, min_timestamp, max_timestamp

The same frames give the same bytes: no clock, host or path inside. All datasets have checksums, so that a bit that flipped is
noticed when it is read.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from thermal_action import InputError
from thermal_action.files import replacing

CHUNK_FRAMES = 64
CHUNK_ROWS = 8192


def write_recording(path: str | Path, frames: Iterable[tuple[int, int, np.ndarray, int]], *, sensor_id: str, mac_address: str,
                    height: int, width: int, compression: Literal["gzip", "lzf", "none"], level: int) -> int:
    """Streams (ts ms, frame_seq, frame [H, W] C, lost pixels) into an HDF5 file, a chunk at a time; returns the frame count.

    ValueError when the times do not strictly increase.
    """
    filters: dict = {"chunks": (CHUNK_FRAMES, height, width), "fletcher32": True}
    if compression != "none":
        filters |= {"compression": compression, "shuffle": True}
    if compression == "gzip":
        filters["compression_opts"] = level
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        dataset = file.create_dataset("frames", (0, height, width), "<f4", maxshape=(None, height, width), **filters)
        total, times, sequences, lost_pixels = 0, [], [], []
        for chunk in chunked(frames, CHUNK_FRAMES):
            dataset.resize(total + len(chunk), axis=0)
            dataset[total:] = np.stack([frame for _, _, frame, _ in chunk])
            total += len(chunk)
            times += [ts for ts, *_ in chunk]
            sequences += [sequence for _, sequence, *_ in chunk]
            lost_pixels += [lost for *_, lost in chunk]
        times = np.array(times, dtype=np.int64)
        if np.any(np.diff(times) <= 0):
            raise ValueError(f"times of {sensor_id} do not strictly increase")
        lost_pixels = np.array(lost_pixels, dtype=np.int32)
        columns = {"timestamps": times, "frame_seqs": np.array(sequences, dtype=np.int64), "lost_pixels": lost_pixels,
                   "corrupted": lost_pixels > 0}
        for name, values in columns.items():
            file.create_dataset(name, data=values, chunks=(min(total, CHUNK_ROWS),), fletcher32=True)
        file.attrs["sensor_id"], file.attrs["mac_address"] = sensor_id, mac_address
        file.attrs["total_frames"], file.attrs["corrupted_count"] = total, int((lost_pixels > 0).sum())
        file.attrs["min_timestamp"], file.attrs["max_timestamp"] = int(times[0]), int(times[-1])
    return total


def chunked(items: Iterable, size: int) -> Iterator[list]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class Recording:
    """A recording on disk, opened read-only at the first access; picklable (each worker process opens its own handle)."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: h5py.File | None = None

    @property
    def file(self) -> h5py.File:
        if self._file is None:
            try:
                file = h5py.File(self.path, "r")
            except FileNotFoundError:
                raise InputError(f"{self.path} does not exist: run `dvc repro hdf5` or `dvc pull`") from None
            except OSError as error:
                raise self.damaged("is no whole HDF5 file", error) from None
            for name in ("frames", "timestamps"):
                if not isinstance(self.look_up(file, name), h5py.Dataset) or file[name].dtype.kind not in "fiu":
                    raise InputError(f"{self.path} has no dataset {name!r} of numbers, so the hdf5 stage did not write it, or it"
                                     " is damaged: run `dvc repro hdf5` or `dvc pull`")
            self._file = file
        return self._file

    def damaged(self, what: str, error: Exception) -> InputError:
        return InputError(f"{self.path} {what} ({str(error)[:80]}): delete it and run `dvc repro hdf5` or `dvc pull`")

    def attribute(self, name: str) -> str:
        try:
            return str(self.file.attrs[name])
        except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
            raise self.damaged(f"has no whole {name}", error) from None

    def look_up(self, file: h5py.File, name: str) -> h5py.Dataset | h5py.Group | None:
        try:
            return file.get(name)
        except (OSError, KeyError, RuntimeError) as error:
            raise self.damaged(f"has no whole {name}", error) from None

    def dataset(self, name: str) -> h5py.Dataset:
        found = self.look_up(self.file, name)
        if not isinstance(found, h5py.Dataset):
            raise InputError(f"{self.path} has no dataset {name!r}, so the hdf5 stage did not write it, or it is damaged: run"
                             " `dvc repro hdf5` or `dvc pull`")
        return found

    def stored(self, name: str, where: slice = slice(None)) -> np.ndarray:
        """Of a dataset what stands at `where`; InputError when the file is damaged there."""
        dataset = self.dataset(name)
        try:
            return dataset[where]
        except OSError as error:
            raise self.damaged(f"cannot be read in its {name}", error) from None

    @property
    def id(self) -> str:
        return self.attribute("sensor_id")

    @property
    def mac_address(self) -> str:
        return self.attribute("mac_address")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.dataset("frames").shape

    @property
    def height(self) -> int:
        return self.shape[1]

    @property
    def width(self) -> int:
        return self.shape[2]

    @property
    def timestamps(self) -> np.ndarray:
        return self.stored("timestamps")

    @property
    def frame_seqs(self) -> np.ndarray:
        return self.stored("frame_seqs")

    @property
    def lost_pixels(self) -> np.ndarray:
        return self.stored("lost_pixels")

    @property
    def corrupted(self) -> np.ndarray:
        return self.stored("corrupted")

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, indices: np.ndarray | slice) -> np.ndarray:
        """float32 [n, H, W] C of the frames at `indices`, in any order, repeats allowed."""
        if isinstance(indices, slice):
            return self.stored("frames", indices)
        indices = np.asarray(indices)
        first = int(indices.min())
        # one contiguous read: HDF5's fancy indexing is slower than the few frames too many
        return self.stored("frames", slice(first, int(indices.max()) + 1))[indices - first]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __getstate__(self) -> dict:
        return {"path": self.path, "_file": None}
