"""From the maps of the person detector to persons: the peaks of the heat, each with its box. Without torch."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from thermal_action.boxes import intersection_over_union

STRIDE = 2  # pixels a cell of the maps: two persons who stand close, seven pixels apart, are three cells apart
# persons of one window at most, and the IoU from which two boxes are of one person
MOST, SAME_PERSON_IOU = 20, 0.5
# cells that score less than this share of a person's score have no say in the person's box
LEAST_VOTE = 0.02


class Detections(NamedTuple):
    """The persons of one window, the most certain first."""

    boxes: np.ndarray  # float32 (N, 4) x1, y1, x2, y2 in [0, 1]
    scores: np.ndarray  # float32 (N,) in [0, 1]
    on_bed: np.ndarray  # float32 (N,) share of the box that is bed


def read_persons(heat: np.ndarray, sides: np.ndarray, beds: np.ndarray, size: tuple[int, int], least: float) -> Detections:
    """The persons of one window whose score is at least `least`.

    A person is a peak of the heat, and has the box on which the cells around agree: the mean of their boxes, weighted by the root
    of their scores (box voting: Gidaris and Komodakis, ICCV 2015).

    heat: logits [h, w] of somebody's middle; sides [4, h, w]: pixels from a cell's middle to the left, upper, right and lower
    side of the person's box; beds: logits [h, w] of a bed; size: (H, W) of the picture in pixels.
    """
    score = 1 / (1 + np.exp(-heat.astype(np.float64)))
    rows, columns = np.nonzero(score >= LEAST_VOTE * least)
    scores, boxes = score[rows, columns], cell_boxes(rows, columns, sides, size)
    peak = (heat == maximum_filter(heat, 3, mode="constant", cval=-np.inf))[rows, columns] & (scores >= least)
    candidates = np.flatnonzero(peak)
    kept: list[int] = []
    for candidate in candidates[np.argsort(-scores[candidates], kind="stable")].tolist():
        if len(kept) < MOST and not (intersection_over_union(boxes[candidate], boxes[kept]) > SAME_PERSON_IOU).any():
            kept.append(candidate)
    voted = np.array([vote(candidate, boxes, scores) for candidate in kept], np.float32).reshape(-1, 4)
    return Detections(voted, scores[kept].astype(np.float32), bed_shares(voted, beds, size))


def cell_boxes(rows: np.ndarray, columns: np.ndarray, sides: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[N, 4] in [0, 1]: the box that each of N cells would give the person whose middle it is."""
    x, y = STRIDE * columns + 0.5, STRIDE * rows + 0.5
    left, top, right, bottom = sides[:, rows, columns].astype(np.float64)
    return np.clip(np.stack([x - left, y - top, x + right, y + bottom], axis=1) / np.tile((size[1], size[0]), 2), 0, 1)


def vote(candidate: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """[4]: the box of the person whose peak is `candidate`."""
    says = (scores >= LEAST_VOTE * scores[candidate]) & (intersection_over_union(boxes[candidate], boxes) >= SAME_PERSON_IOU)
    says[candidate] = True
    return np.average(boxes[says], axis=0, weights=np.sqrt(scores[says]))


def bed_shares(boxes: np.ndarray, beds: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 [N]: the mean of how likely the cells within each of boxes [N, 4] are of a bed; 0 for a box between cells."""
    likely = 1 / (1 + np.exp(-beds.astype(np.float64)))
    y, x = ((STRIDE * np.arange(cells) + 0.5) / pixels for cells, pixels in zip(beds.shape, size, strict=True))
    x1, y1, x2, y2 = boxes.T[..., None]
    inside = ((y >= y1) & (y <= y2))[:, :, None] & ((x >= x1) & (x <= x2))[:, None]
    return ((inside * likely).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)).astype(np.float32)
