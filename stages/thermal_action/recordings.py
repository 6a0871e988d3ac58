"""One HDF5 file per recording: frames in as a stream, repaired; any of them out.

    frames [N, H, W] float32 C, or [N, H, W, 3] uint8 red, green, blue of a video
    timestamps [N] int64 ms, strictly increasing    frame_seqs [N] int64
    corrupted [N] bool    lost_pixels [N] int32: how many pixels the frame had lost before repair
    attributes: sensor_id, mac_address, total_frames, corrupted_count, min_timestamp, max_timestamp

The same frames give the same bytes: no clock, host or path inside. All datasets have checksums, so that a bit that flipped is
noticed when it is read.
"""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
from isal import isal_zlib

from thermal_action import InputError
from thermal_action.files import replacing

CHUNK_FRAMES = 64
CHUNK_ROWS = 8192


class Frames(NamedTuple):
    """Some frames of a recording: times [n] int64 ms, sequence numbers [n] int64, pictures [n, H, W] float32 C or
    [n, H, W, 3] uint8, and how many pixels of each were lost and repaired [n] int.
    """

    times: np.ndarray
    sequences: np.ndarray
    pictures: np.ndarray
    lost: np.ndarray


def write_recording(path: str | Path, blocks: Iterable[Frames], *, sensor_id: str, mac_address: str,
                    compression: Literal["gzip", "lzf", "none"], level: int) -> int:
    """Streams frames into an HDF5 file, a chunk at a time; returns how many they are.

    There is at least one of `blocks`, and each but the last holds a multiple of CHUNK_FRAMES. `level` of gzip: up to 3 ISA-L's
    deflate, in a sixth of the time of zlib's, which are those above. ValueError when the times do not strictly increase.
    """
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        dataset, total, columns = None, 0, []
        for block in blocks:
            columns.append((block.times, block.sequences, block.lost))
            if dataset is None:
                dataset = create_frames(file, block.pictures, compression, level)
            for start in range(0, len(block.pictures), CHUNK_FRAMES):
                pictures = np.ascontiguousarray(block.pictures[start : start + CHUNK_FRAMES], dataset.dtype)
                if total % CHUNK_FRAMES:
                    raise ValueError(f"a block of {sensor_id} that is not the last ends within a chunk of {CHUNK_FRAMES} frames")
                dataset.id.set_extent((total + len(pictures), *pictures.shape[1:]))
                if compression == "gzip":
                    corner = (total, *[0] * (pictures.ndim - 1))
                    dataset.id.write_direct_chunk(corner, filtered(pictures, dataset.chunks[0], level))
                else:
                    dataset[total:] = pictures
                total += len(pictures)
        file.flush()  # the frames before what follows, whatever HDF5 still held back: the same layout every time
        times, sequences, lost = (np.concatenate(column) for column in zip(*columns, strict=True))
        if np.any(np.diff(times) <= 0):
            raise ValueError(f"times of {sensor_id} do not strictly increase")
        for name, values in {"timestamps": times.astype(np.int64), "frame_seqs": sequences.astype(np.int64),
                             "lost_pixels": lost.astype(np.int32), "corrupted": lost > 0}.items():
            # written now, not when the last who knows of it lets go: a profiler that looks at frames, as Dask's does, may hold it
            file.create_dataset(name, data=values, chunks=(min(total, CHUNK_ROWS),), fletcher32=True).flush()
        file.attrs["sensor_id"], file.attrs["mac_address"] = sensor_id, mac_address
        file.attrs["total_frames"], file.attrs["corrupted_count"] = total, int((lost > 0).sum())
        file.attrs["min_timestamp"], file.attrs["max_timestamp"] = int(times[0]), int(times[-1])
    return total


def create_frames(file: h5py.File, first: np.ndarray, compression: str, level: int) -> h5py.Dataset:
    """The empty data set for pictures like those of the `first` block. Thermal chunks all have CHUNK_FRAMES frames, since a
    recording may go on; a video's clip is one block."""
    colour = first.ndim == 4
    frames = min(len(first), CHUNK_FRAMES) if colour else CHUNK_FRAMES
    filters: dict = {"chunks": (frames, *first.shape[1:]), "fletcher32": True}
    if compression != "none":
        filters |= {"compression": compression, "shuffle": True}
    if compression == "gzip":
        filters["compression_opts"] = level
    return file.create_dataset("frames", (0, *first.shape[1:]), "u1" if colour else "<f4", maxshape=(None, *first.shape[1:]),
                               **filters)


def filtered(pictures: np.ndarray, chunk: int, level: int) -> bytes:
    """Little-endian pictures [n, ...] as HDF5's filters shuffle, deflate and fletcher32 store them in a chunk of `chunk` >= n."""
    if len(pictures) < chunk:  # chunks are stored whole
        missing = np.zeros((chunk - len(pictures), *pictures.shape[1:]), pictures.dtype)
        pictures = np.concatenate([pictures, missing])
    width = pictures.itemsize
    words, plane = pictures.view(f"<u{width}").ravel(), np.empty(pictures.size, np.uint8)
    stream = (isal_zlib if level <= isal_zlib.ISAL_BEST_COMPRESSION else zlib).compressobj(level)
    deflated = []
    for byte in range(width):  # the first of all pixels, then the second
        np.right_shift(words, 8 * byte, out=plane, casting="unsafe")
        deflated.append(stream.compress(plane))
    deflated = b"".join([*deflated, stream.flush()])
    return deflated + fletcher32(deflated).to_bytes(4, "little")


def fletcher32(data: bytes) -> int:
    """HDF5's checksum: the sum of all 16-bit words, below the sum of its growing values, both modulo 2^16 - 1."""
    data += bytes(len(data) % 2)
    rows = np.frombuffer(bytes(-len(data) % 512) + data, ">u2").reshape(-1, 256)  # zeros before the first word change neither
    by_row, by_column = rows.sum(axis=1, dtype=np.uint64), rows.sum(axis=0, dtype=np.uint64)
    first, second = by_row.sum(), 256 * (by_row.cumsum() - by_row).sum() + by_column.cumsum().sum()
    low, high = (int(value - 1) % 0xFFFF + 1 if value else 0 for value in (first, second))  # 0xFFFF stands for 0
    return high << 16 | low


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
    def shape(self) -> tuple[int, ...]:
        """(N, H, W), of a video (N, H, W, 3)."""
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
        """float32 [n, H, W] C, of a video uint8 [n, H, W, 3], of the frames at `indices`, in any order, repeats allowed."""
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
