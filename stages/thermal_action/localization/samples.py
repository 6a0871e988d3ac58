"""Recordings of our own, as ActionFormer's model takes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from actionformer.datasets.data_utils import truncate_feats
from actionformer.datasets.datasets import register_dataset
from torch import Tensor
from torch.utils.data import Dataset

from thermal_action import InputError
from thermal_action.files import read_json
from thermal_action.localization.data import read_features

TIOU = np.linspace(0.3, 0.7, 5)  # THUMOS14's


def as_sample(name: str, features: np.ndarray, *, fps: float, duration: float, feat_stride: int, num_frames: int,
              mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,), **_: object) -> dict[str, str | float | Tensor]:
    """Features [T, C] as feats float32 [C, T], whose columns become (x - mean) / std, and what turns steps into seconds."""
    scaled = (features.astype(np.float32) - np.float32(mean)) / np.float32(std)
    return {"video_id": name, "feats": torch.from_numpy(np.ascontiguousarray(scaled.T)), "fps": fps, "duration": duration,
            "feat_stride": feat_stride, "feat_num_frames": num_frames}


@register_dataset("thermal")
class ThermalSegments(Dataset):
    """What the package's classes are for published data, but with recordings in which nothing happens, and labels by list.

    In training a recording of more than `max_seq_len` steps counts once for each such part, and each time another part is drawn
    (`truncate_feats`). mean, std: see as_sample. The other arguments are those of the package's classes; those that mean nothing
    here are not looked at.
    """

    def __init__(self, is_training: bool, split: Sequence[str], feat_folder: str, json_file: str, feat_stride: int,
                 num_frames: int, max_seq_len: int, trunc_thresh: float, crop_ratio: Sequence[float] | None, num_classes: int,
                 file_ext: str, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,), **_: object):
        self.is_training, self.split, self.json_file = is_training, split, json_file
        self.folder, self.ending = Path(feat_folder), file_ext
        self.feat_stride, self.num_frames, self.max_seq_len = feat_stride, num_frames, max_seq_len
        self.scale = {"mean": mean, "std": std}
        self.crop = {"trunc_thresh": trunc_thresh, "crop_ratio": crop_ratio}
        self.database = {name: recording for name, recording in read_json(json_file)["database"].items()
                         if recording["subset"].lower() in split}
        self.drawn = [name for name in self.database for _ in range(self.parts(name) if is_training else 1)]
        seen = {action["label_id"] for recording in self.database.values() for action in recording["annotations"]}
        self.empty_label_ids = sorted(set(range(num_classes)) - seen)

    def parts(self, name: str) -> int:
        return -(-len(read_features(self.path(name))) // self.max_seq_len)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}{self.ending}"

    def get_attributes(self) -> Mapping[str, object]:
        return {"dataset_name": "thermal", "tiou_thresholds": TIOU, "empty_label_ids": self.empty_label_ids}

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, index: int) -> dict[str, str | float | Tensor]:
        """As `as_sample` has it, with segments float32 [N, 2] in steps and labels int64 [N]."""
        name = self.drawn[index]
        recording, features = self.database[name], read_features(self.path(name))
        if not np.isfinite(features).all():
            raise InputError(f"{self.path(name)} holds a number that is not finite: make it again")
        segments = torch.tensor([action["segment"] for action in recording["annotations"]]).reshape(-1, 2)
        offset = 0.5 * self.num_frames / self.feat_stride  # a step's time is the middle of the frames that it sees
        sample = as_sample(name, features, fps=recording["fps"], duration=recording["duration"], feat_stride=self.feat_stride,
                           num_frames=self.num_frames, **self.scale) | {
            "segments": segments * recording["fps"] / self.feat_stride - offset,
            "labels": torch.tensor([action["label_id"] for action in recording["annotations"]], dtype=torch.int64),
        }
        if self.is_training:
            return truncate_feats(sample, self.max_seq_len, offset=offset, has_action=len(segments) > 0, **self.crop)
        return sample
