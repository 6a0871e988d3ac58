"""Whether a person keeps one identity from keyframe to keyframe."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from thermal_action.boxes import intersection_over_union


@dataclass(frozen=True)
class Identified:
    """n boxes x1, y1, x2, y2 [n, 4] in numbered keyframes [n], and whose each is, a number [n] that means the same everywhere."""

    keyframe: np.ndarray
    boxes: np.ndarray
    identity: np.ndarray


def score_tubes(persons: Identified, found: Identified, iou: float) -> dict[str, float]:
    """idf1 in [0, 1] and switches, a count, of `found` against `persons`; keyframes of a person are in order of time.

    idf1 (Ristani et al., Performance measures for multi-target tracking, ECCV workshops 2016): identities are assigned to persons
    one to one, such that the most boxes agree (overlap by `iou` or more); it is 2 agreeing / all boxes of both. A switch is a
    person who is next seen under another identity (Bernardin and Stiefelhagen, CLEAR MOT, 2008).
    """
    person, identity = (np.unique(each.identity, return_inverse=True)[1] for each in (persons, found))
    together = np.zeros((person.max(initial=-1) + 1, identity.max(initial=-1) + 1))
    switches, last = 0, {}
    for keyframe in np.unique(persons.keyframe):
        own, there = np.flatnonzero(persons.keyframe == keyframe), np.flatnonzero(found.keyframe == keyframe)
        overlap = intersection_over_union(persons.boxes[own][:, None], found.boxes[there][None])
        for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[row, column] >= iou:
                one, other = person[own[row]], identity[there[column]]
                together[one, other] += 1
                switches += last.get(one, other) != other
                last[one] = other
    agreeing = together[linear_sum_assignment(-together)].sum()
    total = len(persons.boxes) + len(found.boxes)
    return {"idf1": float(2 * agreeing / total) if total else float("nan"), "switches": int(switches)}
