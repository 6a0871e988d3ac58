"""What an evaluation writes down: summaries with intervals, and rows for the tables behind every picture.

An `answer` is float [N, C], the probabilities that a model or a baseline gives for the N validation persons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thermal_action.annotations import Sample
from thermal_action.scoring.baselines import Places
from thermal_action.scoring.classification import (
    precision_recall,
    rank_classes,
    reliability,
    score_classification,
    score_clips,
)
from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map
from thermal_action.scoring.intervals import bootstrap_scores, percentile_interval, resample_groups, wilson

Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Persons:
    """The N validation persons that every answer is about."""

    places: Places
    labels: np.ndarray  # int64 (N,)
    classes: Sequence[str]
    focus: int | None = None  # id of the class whose recall matters most

    @property
    def support(self) -> np.ndarray:
        return np.bincount(self.labels, minlength=len(self.classes))


def summarise(answer: np.ndarray, persons: Persons, bins: int = 15) -> dict[str, float]:
    """All scores of one answer by name, per person and (`clip_`) per clip; what the data cannot tell is left out."""
    scores = score_classification(answer, persons.labels, bins)
    clips = score_clips(answer, persons.labels, persons.places.keyframe, bins)
    images = persons.places.keyframe.tolist()
    truth = LabelledBoxes(images, persons.places.boxes, persons.labels)
    detections = detect_in_boxes(images, persons.places.boxes, answer)
    summary = {
        "top1": scores.top1, "top5": scores.top5, "mean_class": scores.mean_class, "macro_f1": scores.macro_f1,
        "ece": scores.calibration_error, "nll": scores.negative_log_likelihood,
        "map50": frame_map(truth, detections, len(persons.classes), 0.5).mean,
        "map30": frame_map(truth, detections, len(persons.classes), 0.3).mean,
        "clip_top1": clips.top1, "clip_top5": clips.top5, "clip_mean_class": clips.mean_class, "clip_macro_f1": clips.macro_f1,
    }
    if persons.focus is not None:
        summary |= {"focus_recall": scores.recall[persons.focus], "focus_precision": scores.precision[persons.focus]}
    return present(summary)


def summarise_focus(answer: np.ndarray, persons: Persons, level: float) -> dict[str, float]:
    """Recall and precision of the focus class with Wilson intervals."""
    predicted = rank_classes(answer)[:, 0] == persons.focus
    actual = persons.labels == persons.focus
    hits = (predicted & actual).sum()
    summary: dict[str, float] = {"support": int(actual.sum()), "predicted": int(predicted.sum())}
    for name, trials in (("recall", actual.sum()), ("precision", predicted.sum())):
        low, high = wilson(hits, trials, level)
        summary |= {name: hits / trials if trials else np.nan, f"{name}_low": low[0], f"{name}_high": high[0]}
    return present(summary)


def compare(answers: Mapping[str, np.ndarray], summaries: Mapping[str, Mapping[str, float]], model: str, persons: Persons, *,
            samples: int, level: float, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """(intervals of the model's top1 and mean_class, margins over the best baseline of each score with their intervals).

    Recordings are redrawn, the same ones for the model and the baseline. No interval when there is only one recording.
    """
    intervals: dict[str, float] = {}
    margins: dict[str, float] = {}
    draws = resample_groups(persons.places.recording, samples, seed)
    drawn = {name: bootstrap_scores(rank_classes(answer)[:, 0], persons.labels, persons.places.recording, len(persons.classes),
                                    draws) for name, answer in answers.items()}
    for score in ("top1", "mean_class", "macro_f1", "map50"):
        best = max((name for name in answers if name != model), key=lambda name: summaries[name][score])
        margins[score] = summaries[model][score] - summaries[best][score]
        if score in drawn[model] and draws.shape[1] > 1:
            for table, values in ((intervals, drawn[model][score]), (margins, drawn[model][score] - drawn[best][score])):
                table[f"{score}_low"], table[f"{score}_high"] = percentile_interval(values, level)
    return present(intervals), present(margins)


def present(scores: Mapping[str, float]) -> dict[str, float]:
    """Plain numbers with six decimals, without those that are undefined."""
    return {name: value if isinstance(value, int) else round(float(value), 6)
            for name, value in scores.items() if np.isfinite(value)}


def list_predictions(answer: np.ndarray, persons: Persons, samples: Sequence[Sample]) -> Iterator[Row]:
    """One row per person: sample, box in [0, 1], true and predicted action, and the five most probable ones."""
    object_ids = np.concatenate([sample.object_ids for sample in samples])
    for person, order in enumerate(rank_classes(answer)[:, :5]):
        x1, y1, x2, y2 = (round(float(side), 5) for side in persons.places.boxes[person])
        row: Row = {
            "sample": samples[persons.places.keyframe[person]].image_id, "object_id": int(object_ids[person]),
            "x1": x1, "y1": y1, "x2": x2, "y2": y2,
            "true": persons.classes[persons.labels[person]], "predicted": persons.classes[order[0]],
            "confidence": round(float(answer[person, order[0]]), 5),
        }
        for rank, label in enumerate(order, start=1):
            row |= {f"top{rank}": persons.classes[label], f"top{rank}_probability": round(float(answer[person, label]), 5)}
        yield row


def list_confusions(answer: np.ndarray, persons: Persons) -> Iterator[Row]:
    for actual, predicted in zip(persons.labels, rank_classes(answer)[:, 0], strict=True):
        yield {"actual": persons.classes[actual], "predicted": persons.classes[predicted]}


def list_recalls(answer: np.ndarray, persons: Persons, level: float) -> Iterator[Row]:
    """Recall of each class that has support, with its Wilson interval, in order of the class ids."""
    hits = np.bincount(persons.labels[rank_classes(answer)[:, 0] == persons.labels], minlength=len(persons.classes))
    low, high = wilson(hits, persons.support, level)
    for label in np.flatnonzero(persons.support):
        yield {"class": persons.classes[label], "recall": round(hits[label] / persons.support[label], 6),
               "low": round(low[label], 6), "high": round(high[label], 6), "support": int(persons.support[label])}


def list_precision_recall(answer: np.ndarray, persons: Persons) -> Iterator[Row]:
    """Points (recall, precision) of each class that has support, from the most certain prediction on."""
    for label in np.flatnonzero(persons.support):
        precision, recall = precision_recall(answer[:, label], persons.labels == label)
        # between two true predictions only the precision falls: those points say nothing new
        for point in np.flatnonzero(np.diff(recall, prepend=0)):
            yield {"class": persons.classes[label], "recall": round(recall[point], 6), "precision": round(precision[point], 6)}


def list_calibration(answer: np.ndarray, persons: Persons, bins: int) -> Iterator[Row]:
    gathered = reliability(answer, persons.labels, bins)
    for place in np.flatnonzero(gathered.count):
        yield {"confidence": round(gathered.confidence[place], 6), "accuracy": round(gathered.accuracy[place], 6),
               "persons": int(gathered.count[place])}


def list_scores(summaries: Mapping[str, Mapping[str, float]]) -> Iterator[Row]:
    """Every score of the model and of every baseline."""
    for predictor, summary in summaries.items():
        for score, value in summary.items():
            yield {"predictor": predictor, "score": score, "value": value}
