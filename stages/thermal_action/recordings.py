"""One HDF5 file per recording: frames in as a stream, repaired; any of them out.

    frames [N, H, W] float32 C    timestamps [N] int64 ms, strictly increasing    frame_seqs [N] int64
    corrupted [N] bool    lost_pixels [N] int32: how many pixels the frame had lost before repair
    attributes: sensor_id, mac_address, total_frames, corrupted_count, min_timestamp, max_timestamp

The same frames give the same bytes: no clock, host or path inside.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from thermal_action import InputError
from thermal_action.files import replacing

CHUNK_FRAMES = 64


def write_recording(path: str | Path, frames: Iterable[tuple[int, int, np.ndarray, int]], *, sensor_id: str, mac_address: str,
                    height: int, width: int, compression: Literal["gzip", "lzf", "none"], level: int) -> int:
    """Streams (ts ms, frame_seq, frame [H, W] C, lost pixels) into an HDF5 file, a chunk at a time; returns the frame count.

    ValueError when the times do not strictly increase.
    """
    filters: dict = {"chunks": (CHUNK_FRAMES, height, width)}
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
        file.create_dataset("timestamps", data=times)
        file.create_dataset("frame_seqs", data=np.array(sequences, dtype=np.int64))
        file.create_dataset("lost_pixels", data=lost_pixels)
        file.create_dataset("corrupted", data=lost_pixels > 0)
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
                raise InputError(f"{self.path} is no whole HDF5 file ({str(error)[:80]}): delete it and run `dvc repro hdf5`"
                                 " or `dvc pull`") from None
            for name in ("frames", "timestamps"):
                if not isinstance(file.get(name), h5py.Dataset) or file[name].dtype.kind not in "fiu":
                    raise InputError(f"{self.path} has no dataset {name!r} of numbers: it was not written by the hdf5 stage")
            self._file = file
        return self._file

    @property
    def id(self) -> str:
        return str(self.file.attrs["sensor_id"])

    @property
    def mac_address(self) -> str:
        return str(self.file.attrs["mac_address"])

    @property
    def height(self) -> int:
        return self.file["frames"].shape[1]

    @property
    def width(self) -> int:
        return self.file["frames"].shape[2]

    @property
    def timestamps(self) -> np.ndarray:
        return self.file["timestamps"][:]

    @property
    def frame_seqs(self) -> np.ndarray:
        return self.file["frame_seqs"][:]

    @property
    def lost_pixels(self) -> np.ndarray:
        return self.file["lost_pixels"][:]

    @property
    def corrupted(self) -> np.ndarray:
        return self.file["corrupted"][:]

    def __len__(self) -> int:
        return self.file["frames"].shape[0]

    def read(self, indices: np.ndarray | slice) -> np.ndarray:
        """float32 [n, H, W] C of the frames at `indices`, in any order, repeats allowed."""
        dataset = self.file["frames"]
        if isinstance(indices, slice):
            return dataset[indices]
        indices = np.asarray(indices)
        first = int(indices.min())
        # one contiguous read: HDF5's fancy indexing is slower than the few frames too many
        return dataset[first : int(indices.max()) + 1][indices - first]

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
