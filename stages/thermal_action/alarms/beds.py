"""Where beds stand in a sensor's picture, as its keyframe file says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thermal_action.annotations import BEDS
from thermal_action.keyframes import read_keyframes


def find_beds(path: str | Path, classes: Sequence[str]) -> np.ndarray:
    """Where annotators drew beds, [M, 4]: the median of each one's boxes."""
    drawn: dict[int, list] = {}
    for keyframe in read_keyframes(path, classes):
        for annotation in keyframe.annotations:
            if annotation.category == "furniture" and annotation.subcategory in BEDS:
                drawn.setdefault(annotation.object_id, []).append(annotation.bbox)
    middles = np.array([np.median(boxes, axis=0) for boxes in drawn.values()]).reshape(-1, 4)
    return np.clip(np.hstack([middles[:, :2] - middles[:, 2:] / 2, middles[:, :2] + middles[:, 2:] / 2]), 0, 1)
