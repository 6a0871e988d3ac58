"""What a training run reads: windows in a seeded order, and an inner validation side where one is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from thermal_action import InputError
from thermal_action.dataset import ThermalActionDataset, collate_fn
from thermal_action.files import read_json
from thermal_action.splits import Window, split_windows
from thermal_action.transforms import ThermalActionTransform


@dataclass
class Loaders:
    """What a run reads. `inner` is None unless an inner validation side was carved out of the training side."""

    train: DataLoader
    inner: DataLoader | None
    val: DataLoader
    label_counts: np.ndarray
    info: dict  # what the model file says about its input


def carve_inner_side(data: ThermalActionDataset, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Sample indices to train on and to choose the best epoch by: whole recordings, and no frame on both sides."""
    windows = []
    for index, sample in enumerate(data.samples):
        first_ms, last_ms = data.window_times(index)
        windows.append(Window(sample.image_id, sample.recording, sample.mac_address, sample.timestamp, first_ms, last_ms,
                              tuple(sample.labels.tolist())))
    split = split_windows(windows, by="recording", val_fraction=fraction, seed=seed, recording_spans={}, session_gap_s=0,
                          block_s=1)
    place = {sample.image_id: index for index, sample in enumerate(data.samples)}
    print(f"train: the best epoch is chosen on {len(split.val)} of the {len(windows)} training windows;"
          f" {len(split.purged)} that share frames with them are left out")
    return [place[name] for name in split.train], [place[name] for name in split.val]


def open_loaders(frames: Path, annotations: Path, *, look: Mapping, augment: Mapping, batch_size: int, seed: int,
                 inner_val_fraction: float | None, workers: int, pin_memory: bool) -> Loaders:
    """Loaders of both sides of `annotations` (train.json, val.json) over the recordings in `frames`.

    look, augment: arguments of ThermalActionTransform, those of every window and those of training alone.
    inner_val_fraction: share of the training windows kept apart to choose an epoch by; None keeps none apart.
    InputError when the files do not fit each other or nobody is there to learn from.
    """
    window = read_json(annotations / "train.json").get("info", {}).get("window")
    if window is None:
        raise InputError(f"{annotations / 'train.json'} does not say what its windows are (info.window): run `dvc repro coco`")

    def dataset(side: str, transform: ThermalActionTransform) -> ThermalActionDataset:
        return ThermalActionDataset(frames, annotations / f"{side}.json", transform, window["length"],
                                    sampling=window["sampling"], period_ms=window["period_ms"], seed=seed)

    def loader(data: Dataset, shuffle: bool) -> DataLoader:
        # one replica: the order of an epoch depends on (seed, epoch) alone
        sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
        return DataLoader(data, batch_size, sampler=sampler, collate_fn=collate_fn, num_workers=workers,
                          persistent_workers=workers > 0, pin_memory=pin_memory,
                          generator=torch.Generator())  # its own, so that workers do not shift the random numbers of dropout

    train = dataset("train", ThermalActionTransform(True, **look, **augment))
    val = dataset("val", ThermalActionTransform(False, **look))
    if train.classes != val.classes or train.frame_size != val.frame_size:
        raise InputError(f"{annotations}: train.json and val.json differ in classes or frame size: run `dvc repro coco`")
    chosen, inner = list(range(len(train))), None
    if inner_val_fraction is not None:
        chosen, inner_indices = carve_inner_side(train, inner_val_fraction, seed)
        inner = loader(Subset(dataset("train", ThermalActionTransform(False, **look)), inner_indices), shuffle=False)
    counts = train.label_counts(chosen)
    if not counts.sum():
        raise InputError(f"{annotations / 'train.json'} has no person to learn from: change coco.split_by or coco.val_fraction")
    info = {"classes": train.classes, "frame_size": list(train.frame_size), "window": window, "transform": dict(look)}
    return Loaders(loader(Subset(train, chosen), shuffle=True), inner, loader(val, shuffle=False), counts, info)
