"""Windows of frames around keyframes, with the persons in them, as torch tensors."""

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from thermal_action import InputError
from thermal_action.annotations import Sample, clip_label, read_annotations
from thermal_action.augmentation.people import stand_alone
from thermal_action.augmentation.window import Donor, Window
from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.recordings import CHUNK_FRAMES, Recording
from thermal_action.windows import CENTRED, Windowing

Item = tuple[Tensor, Tensor, Tensor, dict]


class DecodedFrames:
    """Frames of many recordings, decoded a chunk at a time and kept while they fit in a budget (least recently used out).

    Neighbouring keyframes' windows overlap by five sixths, and every epoch reads them all again: without it, gunzip
    takes longer than the network.
    """

    def __init__(self, hdf5_root: Path, budget_bytes: int):
        self._root = hdf5_root
        self._budget = budget_bytes
        self._recordings: dict[str, Recording] = {}
        self._timestamps: dict[str, np.ndarray] = {}
        self._chunks: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def timestamps(self, recording: str) -> np.ndarray:
        if recording not in self._timestamps:
            self._recordings[recording] = Recording(self._root / f"{recording}.h5")
            self._timestamps[recording] = self._recordings[recording].timestamps
        return self._timestamps[recording]

    def read(self, recording: str, indices: np.ndarray) -> np.ndarray:
        """float32 [n, H, W] C, or [n, H, W, 3] from 0 to 255 of a video."""
        chunks, places = np.divmod(indices, CHUNK_FRAMES)
        starts = [0, *(np.flatnonzero(chunks[1:] != chunks[:-1]) + 1).tolist()]  # of frames in a row that are of one chunk
        parts = [self._chunk(recording, int(chunks[start])) for start in starts]
        frames = np.empty((len(indices), *parts[0].shape[1:]), parts[0].dtype)
        for part, start, end in zip(parts, starts, [*starts[1:], len(indices)], strict=True):
            # a mode other than raise, or numpy writes a copy first; `Windowing` stays inside of a recording
            np.take(part, places[start:end], axis=0, out=frames[start:end], mode="clip")
        return frames.astype(np.float32, copy=False)

    def _chunk(self, recording: str, chunk: int) -> np.ndarray:
        key = (recording, chunk)
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        total = len(self.timestamps(recording))
        first = chunk * CHUNK_FRAMES
        frames = self._recordings[recording].read(slice(first, min(first + CHUNK_FRAMES, total)))
        self._chunks[key] = frames
        self._bytes += frames.nbytes
        while self._bytes > self._budget and self._chunks:
            self._bytes -= self._chunks.popitem(last=False)[1].nbytes
        return frames

    def close(self) -> None:
        for recording in self._recordings.values():
            recording.close()
        self._recordings.clear()
        self._timestamps.clear()
        self._chunks.clear()
        self._bytes = 0


class ThermalActionDataset(Dataset):
    """One sample per annotated keyframe: a window of frames and every person in the keyframe.

    hdf5_root: folder of `<recording>.h5`.
    ann_file: COCO-style annotations (train.json or val.json).
    transforms: called with (`augmentation.window.Window`, seed of what it draws); see `ThermalActionTransform`.
    frame_window: frames a window, consecutive ones with the keyframe in their middle; or a `Windowing`.
    seed: with the epoch (`set_epoch`) and the index of a sample it decides the sample's augmentation, whatever the number
        of workers and wherever a run was resumed.
    cache_mb: decoded frames kept by each worker process, megabytes; 0 keeps none.
    label_per: `person`, or `clip`: one box, the whole picture, with the most frequent label in it (none without persons).

    Copy-paste takes persons from this data set's own samples. To train on some of them use `subset`, not torch's Subset, which
    leaves the others within reach.

    `dataset[i]` is (frames [3, T, H, W] float32 in [0, 1], boxes [N, 4], labels [N] int64, extras), N = 0 allowed; extras
    holds image_id, recording, mac_address, timestamp (ms), object_ids [N] (-1: pasted in, or a clip), frame_indices [T] and
    beds [M, 4], the boxes of furniture to lie on.
    `dataset[i, k]` is the sample when an epoch shows it for the k-th time after its first, augmented differently.
    Pickles without its open files; a forked worker opens its own. InputError for annotations that do not fit the frames.
    """

    def __init__(
        self,
        hdf5_root: str | Path,
        ann_file: str | Path,
        transforms: Callable[[Window, list[int]], tuple[Tensor, Tensor, Tensor, np.ndarray, Tensor]],
        frame_window: int | Windowing = 64,
        *,
        seed: int = 0,
        cache_mb: int = 512,
        label_per: Literal["person", "clip"] = "person",
    ):
        self.hdf5_root = Path(hdf5_root)
        self.ann_file = Path(ann_file)
        self.transforms = transforms
        self.windowing = frame_window if isinstance(frame_window, Windowing) else Windowing(
            length=frame_window, sampling="consecutive", period_ms=170.0, keyframe=CENTRED)
        self.seed = seed
        self.cache_mb = cache_mb
        self.label_per = label_per
        self.samples, self.classes = read_annotations(ann_file)
        self._check_one_size()
        self._people: People | None = None
        self._rooms_c: dict[int, float] = {}  # medians of windows seen: half as dear as reading one
        # shared memory, so that workers that live on see the next epoch
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._frames: DecodedFrames | None = None
        self._owner = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int | tuple[int, int]) -> Item:
        index, repeat = index if isinstance(index, tuple) else (index, 0)
        sample, indices = self.samples[index], self.window(index)
        seed = [self.seed, int(self._epoch), index, repeat]
        frames, boxes, labels, object_ids, beds = self.transforms(self._read(index, indices), seed)
        if self.label_per == "clip":
            labels = torch.tensor(clip_labels(labels.tolist()), dtype=torch.int64)
            boxes = torch.tensor(WHOLE_PICTURE).expand(len(labels), 4)
            object_ids = np.full(len(labels), -1)
        extras = {
            "image_id": sample.image_id,
            "recording": sample.recording,
            "mac_address": sample.mac_address,
            "timestamp": sample.timestamp,
            "object_ids": object_ids,
            "beds": beds,
            "frame_indices": indices,
        }
        return frames, boxes, labels, extras

    def read(self, index: int) -> Window:
        """Sample `index` as it was recorded, and whom copy-paste may add to it."""
        return self._read(index, self.window(index))

    def _read(self, index: int, indices: np.ndarray) -> Window:
        sample = self.samples[index]
        window = Window(self.frames.read(sample.recording, indices), sample.boxes, sample.labels, sample.object_ids,
                        furniture(sample), partial(self._donor, sample.recording), self.windowing.position,
                        self._rooms_c.get(index))
        self._rooms_c[index] = window.room_c
        return window

    def brightness(self, index: int) -> np.ndarray:
        """float32 [T, H, W]: the frames of sample `index` as they were recorded, the colours of a video averaged."""
        frames = self.frames.read(self.samples[index].recording, self.window(index))
        return frames if frames.ndim == 3 else frames.mean(axis=-1)

    def subset(self, indices: Iterable[int]) -> "ThermalActionDataset":
        """The samples at `indices` as a data set of their own, that knows of no others: numbered from 0, with its own epoch."""
        part = copy.copy(self)
        part.samples = [self.samples[index] for index in indices]
        part._people, part._frames, part._rooms_c = None, None, {}
        part._epoch = self._epoch.clone().share_memory_()
        return part

    def _donor(self, recording: str, rng: np.random.Generator, balance: float) -> Donor | None:
        """Somebody of another recording; None where nobody is. Windows of one recording show the same person again."""
        self._people = self._people or People(self.samples)
        found = self._people.draw(rng, balance, not_of=recording)
        if found is None:
            return None
        index, person = found
        sample = self.samples[index]
        return Donor(sample.boxes[person], int(sample.labels[person]), furniture(sample),
                     lambda: self.frames.read(sample.recording, self.window(index)))

    @property
    def frames(self) -> DecodedFrames:
        if self._frames is None or self._owner != os.getpid():  # HDF5 handles do not survive a fork
            self._frames = DecodedFrames(self.hdf5_root, self.cache_mb * 1_000_000)
            self._owner = os.getpid()
        return self._frames

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.samples[0].height, self.samples[0].width

    def set_epoch(self, epoch: int) -> None:
        """Chooses the augmentation of the coming epoch, also for workers already running."""
        self._epoch.fill_(epoch)

    def window(self, index: int) -> np.ndarray:
        """int64 [T]: the frames of sample `index` within its recording."""
        sample = self.samples[index]
        timestamps = self.frames.timestamps(sample.recording)
        if not 0 <= sample.frame_idx < len(timestamps):
            raise InputError(
                f"{self.ann_file}: {sample.image_id} is at frame {sample.frame_idx} of {sample.recording}.h5, which has"
                f" {len(timestamps)} frames: run `dvc repro coco`, the annotations belong to other frames"
            )
        return self.windowing.frames(timestamps, sample.frame_idx)

    def window_times(self, index: int) -> tuple[int, int]:
        """First and last time (ms) of the frames of sample `index`."""
        indices = self.window(index)
        timestamps = self.frames.timestamps(self.samples[index].recording)
        return int(timestamps[indices.min()]), int(timestamps[indices.max()])

    def label_counts(self, indices: np.ndarray | None = None) -> np.ndarray:
        """int64 [classes]: labels of each class, in all samples or in those at `indices`."""
        counts = np.zeros(len(self.classes), dtype=np.int64)
        for index in range(len(self)) if indices is None else indices:
            counts += np.bincount(self.labels(index), minlength=len(self.classes))
        return counts

    def labels(self, index: int) -> np.ndarray:
        """int64 [N]: the labels of sample `index`, before augmentation."""
        labels = self.samples[index].labels
        return np.array(clip_labels(labels), dtype=np.int64) if self.label_per == "clip" else labels

    def close(self) -> None:
        """Closes this process's files and forgets its decoded frames."""
        if self._frames is not None and self._owner == os.getpid():
            self._frames.close()
        self._frames = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_frames": None}

    def _check_one_size(self) -> None:
        first: dict[tuple[int, int], Sample] = {}
        for sample in self.samples:
            first.setdefault((sample.height, sample.width), sample)
        if len(first) > 1:
            (size, one), (other_size, other) = list(first.items())[:2]
            raise InputError(
                f"{self.ann_file}: {one.image_id} has {size[0]} x {size[1]} pixels and {other.image_id} {other_size[0]} x"
                f" {other_size[1]}; train on sensors of one size"
            )


class People:
    """Those of some samples whom copy-paste can cut out, drawn by class and never of one given recording."""

    def __init__(self, samples: list[Sample]):
        self.places = [(index, person) for index, sample in enumerate(samples)
                       for person in np.flatnonzero(stand_alone(sample.boxes)).tolist()]
        self.labels = np.array([samples[index].labels[person] for index, person in self.places], dtype=np.int64)
        self.recordings = np.array([samples[index].recording for index, _ in self.places])

    def draw(self, rng: np.random.Generator, balance: float, not_of: str) -> tuple[int, int] | None:
        """(sample, person), each with weight (persons of the class) ** -balance."""
        others = np.flatnonzero(self.recordings != not_of)
        if not len(others):
            return None
        labels = self.labels[others]
        weights = np.cumsum(np.bincount(labels)[labels] ** -float(balance))
        return self.places[others[np.searchsorted(weights, rng.random() * weights[-1], side="right")]]


def furniture(sample: Sample) -> list[tuple[str, np.ndarray]]:
    return [(name, box) for category, name, box in sample.context if category == "furniture"]


def clip_labels(labels: Iterable[int]) -> list[int]:
    """The one label of a clip; none where nobody is."""
    labels = list(labels)
    return [clip_label(labels)] if labels else []


def collate_fn(items: list[Item]) -> tuple[Tensor, list[Tensor], list[Tensor], list[dict]]:
    """B samples -> (frames [B, 3, T, H, W], boxes: B x [N_i, 4], labels: B x [N_i], extras: B dicts).

    Frames whose channels are one picture seen three times stay so: a third of the memory, and of the way to the GPU.
    """
    frames, boxes, labels, extras = (list(column) for column in zip(*items, strict=True))
    channels = frames[0].shape[0]
    if all(window.stride(0) == 0 for window in frames):
        stacked = torch.stack([window[:1] for window in frames]).expand(-1, channels, -1, -1, -1)
    else:
        stacked = torch.stack(frames)
    return stacked, boxes, labels, extras
