"""Frame-mAP of action detection, to the letter of the official AVA evaluation.

Source: activitynet/ActivityNet, Evaluation/get_ava_performance.py and Evaluation/ava/ at commit 1212804 (PASCAL VOC 2010
rules). What it does and other implementations do not:

- Every class is a detection problem of its own; one row per (box, class), no argmax and no penalty between classes.
- Of one image the 50 rows with the highest scores count, over all classes together; a later row that only ties with the
  lowest kept one does not enter.
- In order of descending score, a detection goes to the ground-truth box of its class with the largest IoU. It is true
  when that IoU reaches the threshold and the box is still free, else false: a second hit of one box is false, even if
  another box would have been free.
- Detections of an image without ground truth are false. Excluded images leave both the ground truth and the detections.
- Detections of all images are pooled per class and sorted by argsort, then reversed: of equal scores the last comes first.
- AP is the area under the monotone envelope of all points; a class with ground truth and no detection has AP 0 and
  counts, a class without ground truth has NaN and does not.
- Detections with an empty box are dropped, after they have taken their place among the 50.

An image is whatever has one key: a keyframe's id here, (video, whole second) in AVA, where keyframes are one second apart.
"""

import heapq
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from thermal_action.boxes import intersection_over_union
from thermal_action.scoring.classification import precision_recall

ROWS_PER_IMAGE = 50


@dataclass(frozen=True)
class LabelledBoxes:
    """n rows: ground truth (one row per person and action), or detections (one row per box and class, with scores).

    `images` n keys; `boxes` float [n, 4] x1, y1, x2, y2 in any one unit; `labels` int [n] from 0; `scores` float [n].
    """

    images: Sequence[Hashable]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self):
        columns = [self.images, self.boxes, self.labels] + ([] if self.scores is None else [self.scores])
        if len({len(column) for column in columns}) != 1:
            raise ValueError(f"images, boxes, labels and scores differ in length: {[len(column) for column in columns]}")
        if self.scores is not None and not np.all(np.isfinite(self.scores)):
            raise ValueError("scores must be finite")


@dataclass(frozen=True)
class FrameMap:
    """`mean` over the classes with ground truth (NaN if there are none); `average_precision` [C]; `support` [C]."""

    mean: float
    average_precision: np.ndarray
    support: np.ndarray


def detect_in_boxes(images: Sequence[Hashable], boxes: np.ndarray, probabilities: np.ndarray) -> LabelledBoxes:
    """Detections of N given boxes [N, 4] with class probabilities [N, C]: N * C rows.

    With the annotated boxes this makes the "ground-truth boxes" frame-mAP, which scores the classification alone; with a
    detector's boxes multiply its box scores into `probabilities`, and it is the frame-mAP.
    """
    count, num_classes = probabilities.shape
    return LabelledBoxes(
        images=[image for image in images for _ in range(num_classes)],
        boxes=np.repeat(boxes, num_classes, axis=0),
        labels=np.tile(np.arange(num_classes), count),
        scores=probabilities.reshape(-1),
    )


def frame_map(truth: LabelledBoxes, detections: LabelledBoxes, num_classes: int, iou: float = 0.5,
              excluded: Collection[Hashable] = ()) -> FrameMap:
    """Frame-mAP at an IoU threshold; `excluded` image keys are left out on both sides.

    The order of rows and images matters only for equal scores. ValueError for detections without scores or labels
    outside 0..num_classes-1.
    """
    if detections.scores is None:
        raise ValueError("detections need scores")
    for rows in (truth, detections):
        if len(rows.labels) and not 0 <= np.min(rows.labels) <= np.max(rows.labels) < num_classes:
            raise ValueError(f"labels {np.min(rows.labels)}..{np.max(rows.labels)} leave the {num_classes} classes")
    numbers: dict[Hashable, int] = {}
    truth_image, truth_labels, truth_boxes, _ = rank_rows(truth, numbers, set(excluded), capacity=0)
    image, labels, boxes, scores = rank_rows(detections, numbers, set(excluded), capacity=ROWS_PER_IMAGE)
    solid = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    image, labels, boxes, scores = image[solid], labels[solid], boxes[solid], scores[solid]
    true = match(truth_image * num_classes + truth_labels, truth_boxes, image * num_classes + labels, boxes, iou)
    support = np.bincount(truth_labels, minlength=num_classes)
    average = np.array([
        average_precision(scores[labels == label], true[labels == label], support[label]) for label in range(num_classes)
    ])
    present = support > 0
    return FrameMap(float(average[present].mean()) if present.any() else float("nan"), average, support)


def rank_rows(rows: LabelledBoxes, numbers: dict[Hashable, int], excluded: set, capacity: int,
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(image number, label, box, score) of the rows that count: images as they appear, in each by descending score.

    `capacity` rows an image at most, 0 for all; ground truth has the score 1. `numbers` gives image keys their numbers and is
    shared by both sides.
    """
    counts = [row for row, key in enumerate(rows.images) if key not in excluded] if excluded else slice(None)
    images = [rows.images[row] for row in counts] if excluded else rows.images
    scores = (np.ones(len(rows.labels)) if rows.scores is None else np.asarray(rows.scores, float))[counts]
    labels, boxes = np.asarray(rows.labels, np.int64)[counts], np.asarray(rows.boxes, float).reshape(-1, 4)[counts]
    places = {key: number for number, key in enumerate(dict.fromkeys(images))}  # as they appear
    place = np.fromiter(map(places.__getitem__, images), np.int64, len(images))
    order = np.argsort(place - 1j * scores, kind="stable")  # complex numbers sort by their real part, then the other
    ordered = place[order]
    starts = np.searchsorted(ordered, np.arange(len(places)))
    rank = np.arange(len(order)) - starts[ordered]
    crowded = np.diff(starts, append=len(order)) > (capacity or len(order))
    tied = find_tied(place, scores, labels, order, crowded)
    kept = order[~tied[ordered] & (rank < (capacity or len(order)))]
    kept = np.concatenate([kept, rank_tied(np.flatnonzero(tied[place]), place, scores, labels, boxes, capacity)])
    kept = kept[np.argsort(place[kept], kind="stable")]
    image = np.array([numbers.setdefault(key, len(numbers)) for key in places], dtype=np.int64)
    return image[place[kept]], labels[kept], boxes[kept], scores[kept]


def find_tied(place: np.ndarray, scores: np.ndarray, labels: np.ndarray, order: np.ndarray, crowded: np.ndarray) -> np.ndarray:
    """bool [images]: where equal scores make a difference: within a class, and between two where not all rows of the image count.

    `order` of the rows: by image, then by score; `crowded` bool [images].
    """
    equal = np.zeros(len(crowded), dtype=bool)
    equal[place[order][1:][(np.diff(place[order]) == 0) & (np.diff(scores[order]) == 0)]] = True
    rows = order[equal[place[order]]]
    rows = rows[np.lexsort((labels[rows], scores[rows], place[rows]))]
    same = np.logical_and.reduce([np.diff(column[rows]) == 0 for column in (place, scores, labels)])
    tied = equal & crowded
    tied[place[rows][1:][same]] = True
    return tied


def rank_tied(rows: np.ndarray, place: np.ndarray, scores: np.ndarray, labels: np.ndarray, boxes: np.ndarray,
              capacity: int) -> np.ndarray:
    """Those of `rows` that count, image by image, from a heap of (score, action, y1, x1, y2, x2) as in the official read_csv: the
    heap's own order decides between equal scores.
    """
    x1, y1, x2, y2 = boxes[rows].T.tolist()
    heaps: dict[int, list[tuple]] = {}
    row_of: dict[tuple, int] = {}  # of equal entries the last, for a row's number in the entry would change the heap's order
    entries = zip(scores[rows].tolist(), labels[rows].tolist(), y1, x1, y2, x2, strict=True)
    for row, image, entry in zip(rows.tolist(), place[rows].tolist(), entries, strict=True):
        heap = heaps.setdefault(image, [])
        row_of[image, entry] = row
        if not capacity or len(heap) < capacity:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    return np.array([row_of[image, entry] for image, heap in heaps.items()
                     for entry in sorted(heap, key=lambda entry: -entry[0])], dtype=np.int64)


def match(truth_key: np.ndarray, truth_boxes: np.ndarray, key: np.ndarray, boxes: np.ndarray, iou: float) -> np.ndarray:
    """bool [n]: which detections are true. A key stands for one class in one image; detections of one key by falling score.

    Greedy matching in one pass: which box a detection goes to does not depend on what was taken before, so the true ones
    are the first to reach each box.
    """
    by_key = np.argsort(truth_key, kind="stable")
    sorted_key = truth_key[by_key]
    first = np.searchsorted(sorted_key, key, side="left")
    count = np.searchsorted(sorted_key, key, side="right") - first
    candidates = np.flatnonzero(count)
    if not len(candidates):
        return np.zeros(len(key), dtype=bool)
    # all pairs of a detection and a box of its key: pairs of one detection stand together
    detection = np.repeat(candidates, count[candidates])
    starts = np.cumsum(count[candidates]) - count[candidates]
    box = by_key[np.arange(len(detection)) - np.repeat(starts - first[candidates], count[candidates])]
    overlap = intersection_over_union(boxes[detection], truth_boxes[box])
    largest = np.maximum.reduceat(overlap, starts)
    is_largest = overlap == np.repeat(largest, count[candidates])
    # the first of equally large ones, as argmax does
    place = np.minimum.reduceat(np.where(is_largest, np.arange(len(overlap)), len(overlap)), starts)
    reaches = largest >= iou
    true = np.zeros(len(key), dtype=bool)
    true[candidates[reaches][np.unique(box[place[reaches]], return_index=True)[1]]] = True
    return true


def average_precision(scores: np.ndarray, true: np.ndarray, support: int) -> float:
    """AP over all points (VOC 2010) of n detections; NaN without support, 0 without detections."""
    if not support:
        return float("nan")
    return area_under_envelope(*precision_recall(scores, true, support))


def area_under_envelope(precision: np.ndarray, recall: np.ndarray) -> float:
    """Area under the smallest falling curve above the points (n,), recall rising; 0 without points."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))
