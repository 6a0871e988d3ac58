"""A checkpoint as the recogniser runs it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.look import look_at
from thermal_action.models.convolutions import absorb_normalisation
from thermal_action.training.checkpoints import load_model


class Described(NamedTuple):
    """The persons of a window."""

    boxes: np.ndarray  # (N, 4) x1, y1, x2, y2 in [0, 1]
    scores: np.ndarray  # (N,) how sure the detector is, from 0 to 1
    on_bed: np.ndarray  # (N,) share of the box that it takes for a bed
    probabilities: np.ndarray  # (N, C) of the actions
    descriptions: np.ndarray  # (N, D) what the classifier told them from


class TorchModel:
    """`info` says how the model was trained (training/checkpoints.py)."""

    def __init__(self, checkpoint: str | Path, device: str):
        self.device = torch.device(device)
        self.model, self.info = load_model(checkpoint, self.device)
        absorb_normalisation(self.model)

    def look(self, windows: np.ndarray, least: float) -> list[tuple[np.ndarray, ...]]:
        """Boxes [N, 4], scores [N], shares on a bed [N], probabilities [N, C] of the persons of each window [B, T, H, W] C."""
        return [window[:4] for window in self.describe(windows, least)]

    @torch.inference_mode()
    def describe(self, windows: np.ndarray, least: float) -> list[Described]:
        """The persons, scored `least` or more, of each window [B, T, H, W] C, or [B, T, H, W, 3] of videos."""
        frames = torch.from_numpy(np.stack([look_at(window, **self.info["transform"]) for window in windows])).to(self.device)
        frames = frames.movedim(-1, 1) if frames.ndim == 5 else frames[:, None].expand(-1, 3, -1, -1, -1)
        if self.model.detector is None:
            boxes = [frames.new_tensor([WHOLE_PICTURE])] * len(frames)
            scores, on_bed = [frames.new_ones(1)] * len(frames), [frames.new_zeros(1)] * len(frames)
        else:
            boxes, scores, on_bed = (list(column) for column in zip(*self.model.find(frames, least), strict=True))
        descriptions = self.model.features(frames, boxes)
        probabilities = self.model.classifier(descriptions).float().softmax(dim=1)
        rows = (each.split([len(own) for own in boxes]) for each in (probabilities, descriptions.float()))
        return [Described(*(each.cpu().numpy() for each in window))
                for window in zip(boxes, scores, on_bed, *rows, strict=True)]
