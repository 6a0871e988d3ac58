"""Opponents that never look at a person: a model that does not beat them has learned the furniture, or the split leaks.

    majority           the most frequent action of the training side
    nearest keyframe   the label of the training keyframe nearest in time
    box position       where the box stands and how large it is
    background         the room with every person blanked out

Each takes training persons with their labels and validation persons without: a baseline that reads a validation label
cannot be written against these functions. Each gives probabilities float [N, C] of the N validation persons.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from thermal_action.annotations import Sample
from thermal_action.boxes import centres, intersection_over_union, pixels, sizes
from thermal_action.dataset import ThermalActionDataset
from thermal_action.scoring.classification import score_classification

# keyframes are annotated about every second: one that far outside a window still tells where somebody stood in it
REACH_MS = 2000


@dataclass(frozen=True)
class Places:
    """Where and when N persons were seen: boxes x1, y1, x2, y2 in [0, 1], and no label."""

    boxes: np.ndarray  # float32 (N, 4)
    keyframe: np.ndarray  # int (N,) number of the sample that the person stands in
    time: np.ndarray  # int64 (N,) ms
    device: np.ndarray  # str (N,) MAC address
    recording: np.ndarray  # str (N,)


def find_persons(samples: Sequence[Sample]) -> tuple[Places, np.ndarray]:
    """All persons of all samples, in order, and their labels int64 [N]."""
    keyframe = np.repeat(np.arange(len(samples)), [len(sample.boxes) for sample in samples])
    places = Places(
        boxes=np.concatenate([np.empty((0, 4), np.float32), *(sample.boxes for sample in samples)]),
        keyframe=keyframe,
        time=np.array([sample.timestamp for sample in samples], dtype=np.int64)[keyframe],
        device=np.array([sample.mac_address for sample in samples])[keyframe],
        recording=np.array([sample.recording for sample in samples])[keyframe],
    )
    return places, np.concatenate([np.empty(0, np.int64), *(sample.labels for sample in samples)])


def class_frequencies(labels: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(labels, minlength=num_classes) / len(labels)


def majority_class(labels: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    """The class frequencies of the training labels for each of `count` persons: float [count, C]."""
    return np.tile(class_frequencies(labels, num_classes), (count, 1))


def nearest_keyframe(train: Places, labels: np.ndarray, val: Places, num_classes: int) -> np.ndarray:
    """The label of the closest person in the training keyframe nearest in time: float [N, C].

    Nearest among the keyframes of the same device, or of any device where the person's own has none in training; the
    earlier one of two equally near. In that keyframe the person with the largest IoU, of equal ones (all 0, where nobody
    overlaps) the one with the nearest centre, then the first. The label takes nine tenths of the probability; the
    training frequencies share out the rest and so rank the other four of the top five.
    """
    found = np.array([closest_label(train, labels, *where) for where in zip(val.boxes, val.time, val.device, strict=True)])
    return 0.9 * np.eye(num_classes)[found] + 0.1 * class_frequencies(labels, num_classes)


def closest_label(train: Places, labels: np.ndarray, box: np.ndarray, time: int, device: str) -> int:
    candidates = np.flatnonzero(train.device == device)
    if not len(candidates):
        candidates = np.arange(len(labels))
    distance = np.abs(train.time[candidates] - time)
    first = candidates[np.lexsort((train.keyframe[candidates], train.time[candidates], distance))[0]]
    present = np.flatnonzero(train.keyframe == train.keyframe[first])
    overlap = intersection_over_union(box, train.boxes[present])
    apart = np.linalg.norm(centres(train.boxes[present]) - centres(box), axis=1)
    return int(labels[present[np.lexsort((apart, -overlap))[0]]])


def box_position(train: Places, labels: np.ndarray, val: Places, num_classes: int, seed: int) -> np.ndarray:
    """What the strongest classifier makes of a box's centre and size: float [N, C]."""
    blocks = separate_blocks(train, val)
    return classify(describe_boxes(train.boxes), labels, blocks, describe_boxes(val.boxes), num_classes, seed)


def describe_boxes(boxes: np.ndarray) -> np.ndarray:
    """(cx, cy, w, h, distance from the picture's centre) of boxes [N, 4]: float [N, 5]."""
    centre = centres(boxes)
    return np.column_stack([centre, sizes(boxes), np.linalg.norm(centre - 0.5, axis=1)])


def background_only(train: Places, labels: np.ndarray, train_rooms: np.ndarray, val: Places, val_rooms: np.ndarray,
                    num_classes: int, seed: int) -> np.ndarray:
    """What the strongest classifier makes of the blanked rooms (see picture_rooms): float [N, C].

    `train_rooms`, `val_rooms` float [keyframes, cells], in the order of the samples. All persons of a keyframe get the
    same answer.
    """
    blocks = separate_blocks(train, val)
    answers = classify(train_rooms[train.keyframe], labels, blocks, val_rooms, num_classes, seed)
    return answers[val.keyframe]


def separate_blocks(train: Places, val: Places) -> np.ndarray:
    """Parts of the training side that are as far from each other in time as it is from the validation side: int [N].

    Keyframes of one device closer than that belong to one block. So the inner choice of a classifier meets the difficulty
    that the outer one will: across seconds under a split by keyframe, across sessions under a split by session, across
    devices when the device is new. With a single block the recordings are taken apart, or else the keyframes.
    """
    shared = np.intersect1d(train.device, val.device)
    apart = min((smallest_distance(train.time[train.device == device], val.time[val.device == device])
                 for device in shared), default=np.inf)
    order = np.lexsort((train.time, train.device))
    new_device = train.device[order][1:] != train.device[order][:-1]
    starts = new_device | (np.diff(train.time[order]) >= max(apart, 1))
    blocks = np.empty(len(order), dtype=np.int64)
    blocks[order] = np.concatenate([[0], np.cumsum(starts)])
    for finer in (train.recording, train.keyframe):
        if len(np.unique(blocks)) == 1:
            blocks = np.unique(finer, return_inverse=True)[1]
    return blocks


def smallest_distance(times: np.ndarray, others: np.ndarray) -> int:
    times = np.sort(times)
    after = np.clip(np.searchsorted(times, others), 1, len(times) - 1) if len(times) > 1 else np.zeros(len(others), int)
    return int(np.minimum(np.abs(times[after] - others), np.abs(times[after - 1] - others)).min())


def candidate_classifiers(rows: int, seed: int) -> list[ClassifierMixin]:
    """From the mere frequencies over trend to pure memory, for `rows` training rows.

    On real recordings none wins on leaky and clean splits both: one neighbour is best on the former, logistic regression on
    the latter, and where the background tells nothing, whatever reads it does worse than the frequencies.
    """
    trend = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    neighbours = [make_pipeline(StandardScaler(), KNeighborsClassifier(min(k, rows), weights="distance"))
                  for k in (50, 15, 5, 1)]
    trees = [ExtraTreesClassifier(50, min_samples_leaf=leaf, class_weight="balanced", random_state=seed) for leaf in (3, 1)]
    return [DummyClassifier(strategy="prior"), trend, *neighbours, *trees]


def classify(features: np.ndarray, labels: np.ndarray, blocks: np.ndarray, unseen: np.ndarray, num_classes: int, seed: int,
             ) -> np.ndarray:
    """Probabilities float [M, C] of `unseen` [M, F] by the best of candidate_classifiers on the training side [N, F].

    Best is the highest mean of top-1, mean-class accuracy and macro-F1 in a cross-validation over whole `blocks` [N]; the
    frequencies have a point's start, for what beats them by less is chance.
    """
    candidates = candidate_classifiers(len(labels), seed)
    best = 0
    # the threads of a regression this small wait for each other: fifty times as long where something else runs
    with threadpool_limits(1):
        if len(np.unique(blocks)) > 1:
            answers = cross_validate(features, labels, blocks, num_classes, seed)
            scores = [score_classification(answer, labels) for answer in answers]
            means = np.array([(score.top1 + score.mean_class + score.macro_f1) / 3 for score in scores])
            means[0] += 0.01
            best = int(np.argmax(means))
        return fit_and_answer(candidates[best], features, labels, unseen, num_classes)


def cross_validate(features: np.ndarray, labels: np.ndarray, blocks: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """What each candidate says of each training row when its block was not learned from: float [candidates, N, C]."""
    folds = GroupKFold(min(5, len(np.unique(blocks)))).split(features, groups=blocks)
    answers = np.zeros((len(candidate_classifiers(1, seed)), len(labels), num_classes))
    for known, held_out in folds:
        for number, candidate in enumerate(candidate_classifiers(len(known), seed)):
            answers[number, held_out] = fit_and_answer(candidate, features[known], labels[known], features[held_out],
                                                       num_classes)
    return answers


def fit_and_answer(candidate: ClassifierMixin, features: np.ndarray, labels: np.ndarray, unseen: np.ndarray, num_classes: int,
                   ) -> np.ndarray:
    if len(np.unique(labels)) == 1:  # nothing to tell apart, and some classifiers refuse that
        return majority_class(labels, len(unseen), num_classes)
    candidate.fit(features, labels)
    probabilities = np.zeros((len(unseen), num_classes))
    probabilities[:, candidate.classes_] = candidate.predict_proba(unseen)
    return probabilities


def picture_rooms(data: ThermalActionDataset, annotated: Sequence[Sample], progress: Callable[[int], object] = int) -> np.ndarray:
    """The room behind each window of `data`, persons blanked: float [samples, cells] C; progress(n): n more windows.

    Blanked is every box that any keyframe of `annotated` (both sides of the split: boxes, not labels) draws on that device
    while the window lasts, so that somebody who stands still a moment before the keyframe does not stay in the picture.
    """
    times = np.array([sample.timestamp for sample in annotated])
    devices = np.array([sample.mac_address for sample in annotated])
    rooms: list[np.ndarray] = [np.empty(0)] * len(data)
    for number in in_order_of_frames(data.samples):
        sample = data.samples[number]
        first_ms, last_ms = data.window_times(number)
        near = (times >= first_ms - REACH_MS) & (times <= last_ms + REACH_MS) & (devices == sample.mac_address)
        boxes = np.concatenate([sample.boxes, *(annotated[keyframe].boxes for keyframe in np.flatnonzero(near))])
        rooms[number] = blank_persons(data.frames.read(sample.recording, data.window(number)), boxes)
        progress(1)
    pictures = np.array(rooms)
    hidden = np.isnan(pictures).all(axis=1)  # persons cover everything: the average room stands in
    pictures[hidden] = pictures[~hidden].mean(axis=0) if not hidden.all() else 0
    return pictures


def in_order_of_frames(samples: Sequence[Sample]) -> list[int]:
    """Numbers of the samples such that frames shared by neighbouring windows are decoded once."""
    return sorted(range(len(samples)), key=lambda number: (samples[number].recording, samples[number].frame_idx))


def blank_persons(frames: np.ndarray, boxes: np.ndarray, cell: int = 4, margin: int = 1) -> np.ndarray:
    """The median of frames [T, H, W] in cells of `cell` x `cell` pixels, without any pixel inside `boxes`: float [cells] C.

    `boxes` [n, 4] x1, y1, x2, y2 in [0, 1], each wider by `margin` pixels. A cell is the mean of its visible pixels, or of
    the nearest cell that has some; all NaN when there are none.
    """
    height, width = frames.shape[1:]
    visible = np.ones((height, width), dtype=bool)
    for box in boxes:
        visible[pixels(box, height, width, margin)] = False
    rows, columns = np.arange(0, height, cell), np.arange(0, width, cell)
    median = np.where(visible, np.median(frames, axis=0), 0)
    sums, counts = (np.add.reduceat(np.add.reduceat(pixels, rows, axis=0), columns, axis=1)
                    for pixels in (median, visible.astype(int)))
    if not counts.any():
        return np.full(counts.size, np.nan)
    nearest = distance_transform_edt(counts == 0, return_distances=False, return_indices=True)
    return (sums / np.maximum(counts, 1))[tuple(nearest)].ravel()
