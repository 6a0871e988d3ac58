"""What a training run reads: windows in a seeded order, and an inner validation side where one is wanted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from thermal_action import InputError
from thermal_action.annotations import read_info
from thermal_action.dataset import ThermalActionDataset, collate_fn
from thermal_action.splits import Window, split_windows
from thermal_action.training.distributed import Team
from thermal_action.training.samplers import EpochSampler, SamplerKind
from thermal_action.transforms import ThermalActionTransform

InnerSplit = Literal["recording", "subject", "keyframe"]


@dataclass
class Loaders:
    """What a run reads. `inner` is None unless an inner validation side was carved out of the training side."""

    train: DataLoader
    balanced: DataLoader  # the training windows, drawn class by class, for a classifier that is trained again
    inner: DataLoader | None
    val: DataLoader
    label_counts: np.ndarray  # int64 [classes], of the training windows
    purged: int  # training windows left out because they share frames with the inner side
    info: dict  # what the model file says about its input


def carve_inner_side(data: ThermalActionDataset, fraction: float, seed: int, *, by: InnerSplit = "recording",
                     ) -> tuple[list[int], list[int]]:
    """Sample indices to train on and to choose the best epoch by: whole recordings, or all of some subjects, and no frame on both
    sides, or keyframes.

    Indices on neither side are those of windows that share frames with the second one.
    """
    windows = []
    for index, sample in enumerate(data.samples):
        first_ms, last_ms = data.window_times(index)
        windows.append(Window(sample.image_id, sample.recording, sample.mac_address, sample.timestamp, first_ms, last_ms,
                              tuple(sample.labels.tolist()), sample.subject))
    split = split_windows(windows, by=by, val_fraction=fraction, seed=seed, recording_spans={}, session_gap_s=0,
                          block_s=1)
    place = {sample.image_id: index for index, sample in enumerate(data.samples)}
    return [place[name] for name in split.train], [place[name] for name in split.val]


def open_loaders(frames: Path, annotations: Path, *, look: Mapping, augment: Mapping, label_per: str, batch_size: int,
                 sampler: SamplerKind, seed: int, inner_val_fraction: float | None, inner_split_by: InnerSplit, team: Team,
                 workers: int, cache_mb: int) -> Loaders:
    """Loaders of both sides of `annotations` (train.json, val.json) over the recordings in `frames`.

    look, augment: arguments of ThermalActionTransform, those of every window and those of training alone.
    label_per, cache_mb: see ThermalActionDataset. batch_size: training windows a batch, of all ranks of `team` together.
    inner_val_fraction: share of the training windows kept apart to choose an epoch by (None: none); see carve_inner_side.
    InputError when the files do not fit each other or nobody is there to learn from.
    """
    windowing = read_info(annotations / "train.json").window

    def dataset(side: str, transform: ThermalActionTransform) -> ThermalActionDataset:
        return ThermalActionDataset(frames, annotations / f"{side}.json", transform, windowing, seed=seed,
                                    cache_mb=cache_mb, label_per=label_per)

    def loader(data: ThermalActionDataset, order: Sampler | None = None) -> DataLoader:
        return DataLoader(data, batch_size if order is None else batch_size // team.size, sampler=order, collate_fn=collate_fn,
                          num_workers=workers, persistent_workers=workers > 0, pin_memory=team.device.type == "cuda",
                          generator=torch.Generator())  # its own, so that workers do not shift the random numbers of dropout

    train = dataset("train", ThermalActionTransform(True, **look, **augment))
    val = dataset("val", ThermalActionTransform(False, **look))
    if train.classes != val.classes or train.frame_size != val.frame_size:
        raise InputError(f"{annotations}: train.json and val.json differ in classes or frame size: run `dvc repro coco`")
    info = {"classes": train.classes, "frame_size": list(train.frame_size), "window": asdict(windowing), "transform": dict(look)}
    inner, purged = None, 0
    if inner_val_fraction is not None:
        chosen, inner_indices = carve_inner_side(train, inner_val_fraction, seed, by=inner_split_by)
        inner = loader(dataset("train", ThermalActionTransform(False, **look)).subset(inner_indices))
        purged = len(train) - len(chosen) - len(inner_indices)
        train = train.subset(chosen)
    counts = train.label_counts()
    if not counts.sum():
        raise InputError(f"{annotations / 'train.json'} has no person to learn from: change coco.split_by or coco.val_fraction")
    labels = [train.labels(index) for index in range(len(train))]
    shown, balanced = (EpochSampler(labels, kind=kind, seed=seed, rank=team.rank, replicas=team.size)
                       for kind in (sampler, "class_balanced"))
    return Loaders(loader(train, shown), loader(train, balanced), inner, loader(val), counts, purged, info)
