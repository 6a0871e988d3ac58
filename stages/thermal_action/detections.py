"""From the maps of the person detector to persons: the peaks of the heat, each with its box. Without torch."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from thermal_action.boxes import intersection_over_union

STRIDE = 2  # pixels a cell of the maps: two persons who stand close, seven pixels apart, are three cells apart
# persons of one window at most, and the IoU from which two boxes are one person
MOST, SAME_PERSON_IOU = 20, 0.5


class Detections(NamedTuple):
    """The persons of one window, the most certain first."""

    boxes: np.ndarray  # float32 (N, 4) x1, y1, x2, y2 in [0, 1]
    scores: np.ndarray  # float32 (N,) in [0, 1]


def read_persons(heat: np.ndarray, sides: np.ndarray, size: tuple[int, int], least: float) -> Detections:
    """The persons of one window whose score is at least `least`.

    heat: logits [h, w] of somebody's middle; sides [4, h, w]: pixels from a cell's middle to the left, upper, right and lower
    side of the person's box; size: (H, W) of the picture in pixels.
    """
    score = 1 / (1 + np.exp(-heat.astype(np.float64)))
    rows, columns = np.nonzero((score >= least) & (heat == maximum_filter(heat, 3, mode="constant", cval=-np.inf)))
    order = np.argsort(-score[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    x, y = STRIDE * columns + 0.5, STRIDE * rows + 0.5
    left, top, right, bottom = sides[:, rows, columns].astype(np.float64)
    boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1) / np.tile((size[1], size[0]), 2)
    boxes = np.clip(boxes, 0, 1)
    kept: list[int] = []
    for candidate in range(len(boxes)):
        if len(kept) < MOST and not (intersection_over_union(boxes[candidate], boxes[kept]) > SAME_PERSON_IOU).any():
            kept.append(candidate)
    return Detections(boxes[kept].astype(np.float32), score[rows, columns][kept].astype(np.float32))
