"""How well persons are found, and labelled where they were found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thermal_action.annotations import Sample
from thermal_action.boxes import intersection_over_union
from thermal_action.scoring.baselines import Places, find_persons
from thermal_action.scoring.classification import score_classification
from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map
from thermal_action.scoring.tubes import Identified, score_tubes
from thermal_action.tracking import Tracker

# the overlap from which a person counts as found
FOUND_IOU = 0.5


@dataclass(frozen=True)
class Found:
    """M detections in keyframes that are numbered as those of Places are; of one keyframe the most certain first."""

    keyframe: np.ndarray  # int (M,)
    boxes: np.ndarray  # (M, 4) x1, y1, x2, y2 in [0, 1]
    scores: np.ndarray  # (M,) in [0, 1]
    answers: np.ndarray  # (M, C) probabilities of the actions

    @classmethod
    def gather(cls, found: Sequence[tuple[np.ndarray, np.ndarray]], answers: np.ndarray) -> "Found":
        """Of (boxes, scores) for each keyframe, in order, and the answers of all."""
        return cls(np.repeat(np.arange(len(found)), [len(boxes) for boxes, _ in found]),
                   np.concatenate([boxes for boxes, _ in found]), np.concatenate([scores for _, scores in found]), answers)

    def above(self, least: float) -> "Found":
        sure = self.scores >= least
        return Found(self.keyframe[sure], self.boxes[sure], self.scores[sure], self.answers[sure])


def summarise_finding(found: Found, samples: Sequence[Sample], num_classes: int, least: float) -> dict[str, float]:
    """Scores of `found` against the persons of `samples`, by name; NaN where the data cannot tell.

    ap30, ap50: of persons, whatever they do (all points, as detection.py). map30, map50: frame-mAP, a detection's score times its
    probability of each action. Of the detections scored `least` or more: recall, precision, recall_<share> by how much of the
    person is hidden, top1 and mean_class of those found, idf1 and switches of their identities (tubes.py).
    """
    places, labels = find_persons(samples)
    obscured = [share for sample in samples for share in sample.obscured]
    truth = LabelledBoxes(places.keyframe.tolist(), places.boxes, labels)
    anybody = LabelledBoxes(truth.images, truth.boxes, np.zeros_like(labels))
    persons = LabelledBoxes(found.keyframe.tolist(), found.boxes, np.zeros(len(found.scores), np.int64), found.scores)
    actions = detect_in_boxes(found.keyframe.tolist(), found.boxes, found.scores[:, None] * found.answers)
    sure = found.above(least)
    which = match_persons(sure, places)
    hit = which >= 0
    summary = {f"{name}{round(100 * iou)}": value for iou in (0.5, 0.3) for name, value in (
        ("ap", frame_map(anybody, persons, 1, iou).mean), ("map", frame_map(truth, actions, num_classes, iou).mean))}
    summary |= {"recall": hit.mean(), "precision": hit.sum() / len(sure.scores) if len(sure.scores) else np.nan}
    for share in sorted({share for share in obscured if share is not None}, key=lambda share: int(share.rstrip("%"))):
        hidden = np.array([one == share for one in obscured])
        summary[f"recall_{share.rstrip('%')}"] = hit[hidden].mean()
    if hit.any():
        scores = score_classification(sure.answers[which[hit]], labels[hit])
        summary |= {"top1": scores.top1, "mean_class": scores.mean_class}
    persons = Identified(places.keyframe, places.boxes, name_persons(samples))
    return summary | score_tubes(persons, Identified(sure.keyframe, sure.boxes, follow(sure, samples)), FOUND_IOU)


def name_persons(samples: Sequence[Sample]) -> np.ndarray:
    """int [N]: one number for each (recording, object id)."""
    names = [(sample.recording, object_id) for sample in samples for object_id in sample.object_ids.tolist()]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def match_persons(found: Found, places: Places, iou: float = FOUND_IOU) -> np.ndarray:
    """int [N]: the detection that found each person, -1 for nobody's; the most certain detection chooses first."""
    which = np.full(len(places.boxes), -1)
    for detection in np.argsort(-found.scores, kind="stable"):
        there = np.flatnonzero((places.keyframe == found.keyframe[detection]) & (which < 0))
        overlap = intersection_over_union(found.boxes[detection], places.boxes[there])
        if overlap.size and overlap.max() >= iou:
            which[there[overlap.argmax()]] = detection
    return which


def follow(found: Found, samples: Sequence[Sample]) -> np.ndarray:
    """int [M]: the identity that a tracker gives each detection; those of different recordings differ."""
    identities, begun = np.zeros(len(found.scores), np.int64), 0
    for recording in dict.fromkeys(sample.recording for sample in samples):
        own = [number for number, sample in enumerate(samples) if sample.recording == recording]
        tracker = Tracker((samples[own[0]].height, samples[own[0]].width), begun=begun)
        for number in sorted(own, key=lambda number: samples[number].timestamp):
            there = np.flatnonzero(found.keyframe == number)
            identities[there] = tracker.update(samples[number].timestamp, found.boxes[there])
        begun = tracker.begun
    return identities
