"""What MMAction2's networks answer, scored as the evaluate stage scores ours: the same functions, the same names."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric

from thermal_action import InputError
from thermal_action.annotations import clip_label, read_annotations
from thermal_action.ava import index_keys
from thermal_action.scoring.baselines import find_persons
from thermal_action.scoring.classification import score_classification
from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map
from thermal_action.scoring.finding import Found, summarise_finding
from thermal_action.scoring.rows import present
from thermal_action.scoring.tables import Persons, summarise

# of the same box: MMAction2 multiplies boxes by the picture's size and divides them again
BOX_TOLERANCE = 1e-4


class ThermalMetric(BaseMetric):
    """ann_file: the annotations that are evaluated, whose persons are the truth, whatever the data set showed."""

    default_prefix = "thermal"

    def __init__(self, ann_file: str, **options):
        super().__init__(**options)
        self.ann_file = ann_file
        self.samples, self.classes = read_annotations(ann_file)
        self.numbers = index_keys(self.samples, ann_file)

    def number(self, sample: dict) -> int:
        key = sample["video_id"], sample["timestamp"]
        if key not in self.numbers:
            raise InputError(f"{self.ann_file} has no keyframe {key}: give data set and metric the same annotations")
        return self.numbers[key]

    def answers(self, scores: np.ndarray) -> np.ndarray:
        """float64 [..., classes] without the background's column, which comes first where there is one."""
        surplus = scores.shape[-1] - len(self.classes)
        if surplus not in (0, 1):
            raise InputError(f"the network answers with {scores.shape[-1]} classes, {self.ann_file} has {len(self.classes)}: set"
                             " num_classes in the configuration")
        return scores[..., surplus:].astype(np.float64)


@METRICS.register_module()
class ThermalClipMetric(ThermalMetric):
    """Recognition: top-1, top-5, mean-class accuracy, macro-F1 and calibration of the clips that were shown. A clip's truth is
    the most frequent action of its persons. Needs `average_clips="prob"` in the head."""

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """See mmengine.evaluator.BaseMetric."""
        self.results += [(self.number(sample), sample["pred_score"].cpu().numpy()) for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores by name, those that the data can tell."""
        labels = np.array([clip_label(self.samples[number].labels) for number, _ in results])
        scores = score_classification(self.answers(np.stack([answer for _, answer in results])), labels)
        return present({"top1": scores.top1, "top5": scores.top5, "mean_class": scores.mean_class, "macro_f1": scores.macro_f1,
                        "ece": scores.calibration_error, "nll": scores.negative_log_likelihood})


@METRICS.register_module()
class ThermalPersonMetric(ThermalMetric):
    """Detection, per person, and frame-mAP to the letter of the official AVA evaluation.

    boxes: `annotated` (proposals are the annotated persons): what tables.summarise says, as evaluate.json has it of our models.
        `proposed`: what finding.summarise_finding says of whom the proposals found; a detection's score is its proposal's
        times its probability of an action.
    found_score: of proposed; those scored less are no detection of a person for recall, precision, top1, mean_class and idf1.

    Scores of independent classes (sigmoid), or of a softmax that also had a background, go into frame-mAP as they are, and are
    divided by their sum for the scores per person; calibration is left out then.
    """

    def __init__(self, ann_file: str, boxes: Literal["annotated", "proposed"] = "annotated", found_score: float = 0.3, **options):
        super().__init__(ann_file, **options)
        self.boxes, self.found_score = boxes, found_score

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """See mmengine.evaluator.BaseMetric. `proposal_scores` come with the meta keys of PackActionInputs."""
        for sample in data_samples:
            predicted = sample["pred_instances"]
            boxes = predicted["bboxes"].cpu().numpy()
            self.results.append((self.number(sample), boxes, np.asarray(sample.get("proposal_scores", np.ones(len(boxes)))),
                                 predicted["scores"].cpu().numpy()))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores by name, those that the data can tell."""
        by_number = {number: rest for number, *rest in results}
        nothing = [np.empty((0, 4), np.float32), np.empty(0), np.empty((0, len(self.classes)))]
        seen = [by_number.get(number, nothing) for number in range(len(self.samples))]
        answer = np.concatenate([self.answers(scores) for *_, scores in seen])
        total = answer.sum(axis=1, keepdims=True)
        if self.boxes == "proposed":
            found = Found.gather([(boxes, scores) for boxes, scores, _ in seen], answer / total)
            return self.score_proposed(found, answer)
        return self.score_annotated(np.concatenate([boxes for boxes, *_ in seen]), answer, total)

    def score_proposed(self, found: Found, answer: np.ndarray) -> dict[str, float]:
        summary = summarise_finding(found, self.samples, len(self.classes), self.found_score)
        detections = detect_in_boxes(found.keyframe.tolist(), found.boxes, found.scores[:, None] * answer)
        return present(summary | self.frame_maps(detections))

    def score_annotated(self, boxes: np.ndarray, answer: np.ndarray, total: np.ndarray) -> dict[str, float]:
        persons = Persons(*find_persons(self.samples), classes=self.classes)
        if boxes.shape != persons.places.boxes.shape or not np.allclose(boxes, persons.places.boxes, atol=BOX_TOLERANCE):
            raise InputError(f"the answers are about {len(boxes)} boxes, not those of the {len(persons.labels)} persons of"
                             f" {self.ann_file}: evaluate the whole file without proposals, or say boxes=\"proposed\"")
        summary = summarise(answer / total, persons)
        if not np.allclose(total, 1, atol=1e-3):
            del summary["ece"], summary["nll"]
        detections = detect_in_boxes(persons.places.keyframe.tolist(), persons.places.boxes, answer)
        return present(summary | self.frame_maps(detections))

    def frame_maps(self, detections: LabelledBoxes) -> dict[str, float]:
        places, labels = find_persons(self.samples)
        truth = LabelledBoxes(places.keyframe.tolist(), places.boxes, labels)
        return {f"map{round(100 * iou)}": frame_map(truth, detections, len(self.classes), iou).mean for iou in (0.5, 0.3)}
