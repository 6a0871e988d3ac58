"""What an evaluation writes down: summaries with intervals, and rows for the tables behind every picture.

An `answer` is float [N, C], the probabilities that a model, a baseline or the reference gives for the N validation persons.
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
from thermal_action.scoring.finding import Found, match_persons
from thermal_action.scoring.intervals import bootstrap_scores, percentile_interval, resample_groups, wilson
from thermal_action.scoring.rows import Row, present

HEADINGS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class", "macro_f1": "macro-F1", "map50": "mAP@0.5",
            "focus_recall": "focus recall", "focus_precision": "focus precision", "clip_top1": "clip top-1",
            "clip_top5": "clip top-5", "clip_mean_class": "clip mean-class"}
FINDING = {"ap50": "AP@0.5", "ap30": "AP@0.3", "map50": "mAP@0.5", "map30": "mAP@0.3", "recall": "recall",
           "precision": "precision", "top1": "top-1 of found", "mean_class": "mean-class of found", "idf1": "IDF1"}

CLIP_COLUMNS = ("Video", "Predicted_Class", "Predicted_Label", "Confidence", "Top_5")


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


def compare(answers: Mapping[str, np.ndarray], summaries: Mapping[str, Mapping[str, float]], model: str, rivals: Sequence[str],
            persons: Persons, *, samples: int, level: float, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """(intervals of the model's top1 and mean_class, margins over the best of the rivals in each score with their intervals).

    Recordings are redrawn, the same ones for the model and the rival. No interval where that changes nothing: of one recording
    alone, or of mean_class where each class has one.
    """
    intervals: dict[str, float] = {}
    margins: dict[str, float] = {}
    draws = resample_groups(persons.places.recording, samples, seed)
    drawn = {name: bootstrap_scores(rank_classes(answers[name])[:, 0], persons.labels, persons.places.recording,
                                    len(persons.classes), draws) for name in (model, *rivals)}
    for score in ("top1", "mean_class", "macro_f1", "map50"):
        best = max(rivals, key=lambda name: summaries[name][score])
        margins[score] = summaries[model][score] - summaries[best][score]
        if score in drawn[model] and draws.shape[1] > 1:
            for table, values in ((intervals, drawn[model][score]), (margins, drawn[model][score] - drawn[best][score])):
                low, high = percentile_interval(values, level)
                if low < high:
                    table |= {f"{score}_low": low, f"{score}_high": high}
    return present(intervals), present(margins)


def list_predictions(answers: Mapping[str, np.ndarray], model: str, persons: Persons, samples: Sequence[Sample],
                     ) -> Iterator[Row]:
    """One row per person: enough to pool the folds of a cross-validation and to score them together.

    Sample, recording, object_id, box in [0, 1], true action, predicted one and its probability, then what each rival says, under
    its name, and the model's probability of every class, `p(<class>)`.
    """
    object_ids = np.concatenate([sample.object_ids for sample in samples])
    named = {name: rank_classes(answer)[:, 0] for name, answer in answers.items()}
    predicted = named.pop(model)
    for person, probabilities in enumerate(answers[model]):
        x1, y1, x2, y2 = (round(float(side), 5) for side in persons.places.boxes[person])
        yield {
            "sample": samples[persons.places.keyframe[person]].image_id, "recording": str(persons.places.recording[person]),
            "object_id": int(object_ids[person]), "x1": x1, "y1": y1, "x2": x2, "y2": y2,
            "true": persons.classes[persons.labels[person]], "predicted": persons.classes[predicted[person]],
            "confidence": round(float(probabilities[predicted[person]]), 6),
            **{rival: persons.classes[labels[person]] for rival, labels in named.items()},
            **{f"p({name})": round(float(value), 6) for name, value in zip(persons.classes, probabilities, strict=True)},
        }


def list_clips(answer: np.ndarray, samples: Sequence[Sample], classes: Sequence[str]) -> Iterator[Row]:
    """One row per clip, in the columns that HRI30's users know; classes are counted from 1, as in the names of its videos."""
    for sample, probabilities, order in zip(samples, answer, rank_classes(answer), strict=True):
        likeliest = [f"{classes[label]}({probabilities[label]:.4f})" for label in order[:5]]
        first = (sample.file_name or sample.recording, int(order[0]) + 1, classes[order[0]], f"{probabilities[order[0]]:.4f}")
        yield dict(zip(CLIP_COLUMNS, (*first, "; ".join(likeliest)), strict=True))


def list_confusions(answer: np.ndarray, persons: Persons) -> Iterator[Row]:
    for actual, predicted in zip(persons.labels, rank_classes(answer)[:, 0], strict=True):
        yield {"actual": persons.classes[actual], "predicted": persons.classes[predicted]}


def list_recalls(answer: np.ndarray, persons: Persons, level: float) -> Iterator[Row]:
    """Recall of each class that has support, with its Wilson interval, precision (empty where it is never named) and F1, in order
    of the class ids."""
    named = rank_classes(answer)[:, 0]
    hits = np.bincount(persons.labels[named == persons.labels], minlength=len(persons.classes))
    predicted = np.bincount(named, minlength=len(persons.classes))
    low, high = wilson(hits, persons.support, level)
    for label in np.flatnonzero(persons.support):
        yield {"class": persons.classes[label], "recall": round(hits[label] / persons.support[label], 6),
               "low": round(low[label], 6), "high": round(high[label], 6), "support": int(persons.support[label]),
               "precision": round(hits[label] / predicted[label], 6) if predicted[label] else "",
               "f1": round(2 * hits[label] / (persons.support[label] + predicted[label]), 6)}


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
    """Every score of the model and of its rivals."""
    for predictor, summary in summaries.items():
        for score, value in summary.items():
            yield {"predictor": predictor, "score": score, "value": value}


def list_finding(found: Mapping[str, Found], persons: Persons) -> Iterator[Row]:
    """Points (recall, precision) of persons found at IoU 0.5, from the most certain detection on, of each way to find them."""
    for predictor, each in found.items():
        which = match_persons(each, persons.places)
        true = np.zeros(len(each.scores), bool)
        true[which[which >= 0]] = True
        precision, recall = precision_recall(each.scores, true, len(which))
        best = precision.max(initial=0)
        yield {"class": f"person, {predictor}", "recall": 0.0, "precision": round(float(best), 6)}
        for point in np.flatnonzero(np.diff(recall, prepend=0)):
            yield {"class": f"person, {predictor}", "recall": round(recall[point], 6), "precision": round(precision[point], 6)}


def format_finding(summaries: Mapping[str, Mapping[str, float]]) -> str:
    """Scores of finding persons as another table; nothing where nobody is looked for."""
    if not summaries:
        return ""
    rows = [["%", *FINDING.values(), "switches"], ["---", *("---:" for _ in range(len(FINDING) + 1))]]
    for name, summary in summaries.items():
        scores = (f"{100 * summary[score]:.1f}" if score in summary else "-" for score in FINDING)
        rows.append([name.replace("_", " "), *scores, str(summary["switches"])])
    return "\n" + "\n".join(align(rows)) + "\n"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]


def format_scores(summaries: Mapping[str, Mapping[str, float]], persons: Persons) -> str:
    """Scores in percent as a Markdown table, a row for each predictor."""
    columns = {score: heading for score, heading in HEADINGS.items() if any(score in scores for scores in summaries.values())}
    rows = [["%", *columns.values()], ["---", *("---:" for _ in columns)]]
    for name, summary in summaries.items():
        rows.append([name.replace("_", " "), *(f"{100 * summary[score]:.1f}" if score in summary else "-" for score in columns)])
    lines = align(rows)
    if persons.focus is not None:
        support = persons.support[persons.focus]
        lines += ["", f"Focus: {persons.classes[persons.focus]}, {support} of {len(persons.labels)} persons."]
    return "\n".join(lines) + "\n"
