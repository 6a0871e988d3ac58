"""A checkpoint as the recogniser runs it."""

from pathlib import Path

import numpy as np
import torch

from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.look import look_at
from thermal_action.models.convolutions import absorb_normalisation
from thermal_action.training.checkpoints import load_model


class TorchModel:
    """`info` says how the model was trained (training/checkpoints.py)."""

    def __init__(self, checkpoint: str | Path, device: str):
        self.device = torch.device(device)
        self.model, self.info = load_model(checkpoint, self.device)
        absorb_normalisation(self.model)

    @torch.inference_mode()
    def look(self, windows: np.ndarray, least: float) -> list[tuple[np.ndarray, ...]]:
        """Boxes [N, 4], scores [N], shares on a bed [N], probabilities [N, C] of the persons of each window [B, T, H, W] C."""
        frames = torch.from_numpy(np.stack([look_at(window, **self.info["transform"]) for window in windows])).to(self.device)
        frames = frames[:, None].expand(-1, 3, -1, -1, -1)
        if self.model.detector is None:
            boxes = [frames.new_tensor([WHOLE_PICTURE])] * len(frames)
            scores, on_bed = [frames.new_ones(1)] * len(frames), [frames.new_zeros(1)] * len(frames)
        else:
            boxes, scores, on_bed = (list(column) for column in zip(*self.model.find(frames, least), strict=True))
        probabilities = self.model(frames, boxes).float().softmax(dim=1).split([len(each) for each in boxes])
        return [tuple(each.cpu().numpy() for each in window) for window in zip(boxes, scores, on_bed, probabilities, strict=True)]
