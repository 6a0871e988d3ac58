"""Segments that were found, whoever found them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from actionformer.utils.metrics import segment_iou

# of two segments of one label that overlap more (tIoU) the less certain says nothing new
SAME = 0.5


class Segment(NamedTuple):
    """From `start` to `end` (in s, or in steps, the one after the last), label id, certainty from 0 to 1."""

    start: float
    end: float
    label: int
    score: float


def is_among(segment: Segment, others: Iterable[Segment]) -> bool:
    """Whether one of the others is nearly the same, of the same label."""
    spans = [other[:2] for other in others if other.label == segment.label]
    return bool(spans) and segment_iou(np.array(segment[:2]), np.array(spans)).max() > SAME


def suppress(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Those, the most certain first, that are not nearly the same as one before."""
    kept: list[Segment] = []
    for segment in segments:
        if not is_among(segment, kept):
            kept.append(segment)
            yield segment


def to_results(found: Mapping[str, Iterable[Segment]]) -> dict[str, np.ndarray | list[str]]:
    """What the scorer takes (names, times in s, labels, scores) of the segments of recordings."""
    rows = [(name, segment) for name, segments in found.items() for segment in segments]
    return {"video-id": [name for name, _ in rows],
            "t-start": np.array([segment.start for _, segment in rows]),
            "t-end": np.array([segment.end for _, segment in rows]),
            "label": np.array([segment.label for _, segment in rows], int),
            "score": np.array([segment.score for _, segment in rows])}
