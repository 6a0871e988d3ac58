"""Where beds and chairs stand in a sensor's picture, as its keyframe file says."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermal_action.annotations import BEDS
from thermal_action.keyframes import read_keyframes

# furniture that one sits on, by its subcategory
SEATS = ("chair", "armchair")


class Furniture(NamedTuple):
    """Boxes x1, y1, x2, y2 in [0, 1] of what one lies on, [M, 4], and of what one sits on, [K, 4]."""

    beds: np.ndarray = np.empty((0, 4))
    seats: np.ndarray = np.empty((0, 4))


def find_furniture(path: str | Path, classes: Sequence[str]) -> Furniture:
    """What annotators drew: of each piece the median of its boxes."""
    drawn: dict[tuple[str | None, int], list] = {}
    for keyframe in read_keyframes(path, classes):
        for annotation in keyframe.annotations:
            if annotation.category == "furniture":
                drawn.setdefault((annotation.subcategory, annotation.object_id), []).append(annotation.bbox)
    return Furniture(*(corners([np.median(boxes, axis=0) for (kind, _), boxes in drawn.items() if kind in kinds])
                       for kinds in (BEDS, SEATS)))


def corners(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Boxes as keyframe files have them, x, y of the middle, width, height -> [N, 4] x1, y1, x2, y2."""
    middles = np.array(boxes).reshape(-1, 4)
    return np.clip(np.hstack([middles[:, :2] - middles[:, 2:] / 2, middles[:, :2] + middles[:, 2:] / 2]), 0, 1)
