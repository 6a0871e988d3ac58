"""Arithmetic of boxes x1, y1, x2, y2 in arrays [..., 4]; `centres` and `sizes` take tensors too."""

import numpy as np

WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0)


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area [...] that pairs of boxes share; shapes broadcast (one box with n: [4] and [n, 4])."""
    shared = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    return np.prod(np.maximum(shared, 0), axis=-1)


def intersection_over_union(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float [...], shapes as in `overlap`; 0 where both are empty."""
    shared = overlap(boxes, others)
    union = np.prod(sizes(boxes), -1) + np.prod(sizes(others), -1) - shared
    return np.divide(shared, union, out=np.zeros(np.shape(union)), where=union > 0)


def centres(boxes: np.ndarray) -> np.ndarray:
    """[..., 2] x, y."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def sizes(boxes: np.ndarray) -> np.ndarray:
    """[..., 2] width, height."""
    return boxes[..., 2:] - boxes[..., :2]


def pixels(box: np.ndarray, height: int, width: int, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of a picture that a box in [0, 1] touches, with `margin` pixels around it."""
    x1, y1, x2, y2 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    return (slice(max(int(np.floor(y1)) - margin, 0), int(np.ceil(y2)) + margin),
            slice(max(int(np.floor(x1)) - margin, 0), int(np.ceil(x2)) + margin))
