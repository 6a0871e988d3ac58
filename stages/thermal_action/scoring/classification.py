"""How often the right action is named: per person, and per clip to compare with published clip scores.

All functions take probabilities float [N, C] (rows sum to 1) and labels int [N] in 0..C-1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thermal_action.annotations import clip_label

# -log of a probability of 0 is infinite; this floor bounds one wrong, fully confident answer at 27.6 nats
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of N predictions; a class without support has recall NaN, one never predicted has precision NaN."""

    top1: float
    top5: float  # the true class is among the five most probable (among all, where there are fewer than five)
    mean_class: float  # mean of the recalls of the classes that have support
    macro_f1: float  # mean F1 of the classes that have support or were predicted
    calibration_error: float  # expected calibration error in [0, 1]
    negative_log_likelihood: float  # nats
    recall: np.ndarray  # (C,)
    precision: np.ndarray  # (C,)
    support: np.ndarray  # (C,) labels of each class
    confusion: np.ndarray  # (C actual, C predicted) counts


def score_classification(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> ClassificationScores:
    """All scores of `probabilities` [N, C] against `labels` [N]; `bins` of the calibration error.

    ValueError for N = 0, shapes that do not fit, labels outside 0..C-1 and rows that are no probabilities.
    """
    check_probabilities(probabilities, labels)
    order = rank_classes(probabilities)
    confusion = count_confusions(labels, order[:, 0], probabilities.shape[1])
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision = divide(hits, support), divide(hits, predicted)
    f1 = divide(2 * hits, support + predicted)
    return ClassificationScores(
        top1=float(hits.sum() / len(labels)),
        top5=float(np.mean((order[:, :5] == labels[:, None]).any(axis=1))),
        mean_class=float(np.nanmean(recall)),
        macro_f1=float(np.nanmean(f1)),
        calibration_error=expected_calibration_error(reliability(probabilities, labels, bins)),
        negative_log_likelihood=negative_log_likelihood(probabilities, labels),
        recall=recall,
        precision=precision,
        support=support,
        confusion=confusion,
    )


def check_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> None:
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or not len(labels):
        raise ValueError(f"probabilities {probabilities.shape} do not fit labels {labels.shape}, or there are none")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels {labels.min()}..{labels.max()} leave the {probabilities.shape[1]} classes")
    if not np.all(probabilities >= 0) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise ValueError("probabilities must be at least 0 and sum to 1 in every row")


def rank_classes(probabilities: np.ndarray) -> np.ndarray:
    """Class ids int [N, C] from the most to the least probable; equally probable ones in the order of their ids."""
    return np.argsort(-probabilities, axis=1, kind="stable")


def count_confusions(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int [C actual, C predicted]."""
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(true class) in nats."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)).mean())


@dataclass(frozen=True)
class Reliability:
    """Predictions gathered in bins of equal width of their confidence; NaN in a bin without any."""

    edges: np.ndarray  # (bins + 1,)
    count: np.ndarray  # (bins,)
    confidence: np.ndarray  # (bins,) mean probability of the predicted class
    accuracy: np.ndarray  # (bins,) how often it was right


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Confidence beside accuracy (Guo et al., On Calibration of Modern Neural Networks, 2017); bins open at the left."""
    predicted = rank_classes(probabilities)[:, 0]
    confidence = probabilities[np.arange(len(labels)), predicted]
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    return Reliability(
        edges=edges,
        count=count,
        confidence=divide(np.bincount(places, confidence, minlength=bins), count),
        accuracy=divide(np.bincount(places, predicted == labels, minlength=bins), count),
    )


def expected_calibration_error(gathered: Reliability) -> float:
    """Mean distance between confidence and accuracy, each bin weighted by its predictions."""
    filled = gathered.count > 0
    distance = np.abs(gathered.confidence[filled] - gathered.accuracy[filled])
    return float(np.average(distance, weights=gathered.count[filled]))


def answer_clips(probabilities: np.ndarray, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the persons of each clip together say: (clip ids [K] ascending, float [K, C]).

    A clip's answer is named as its truth is, by `clip_label` of its persons' likeliest actions, and is the mean over the
    persons who say so. (A mean over all of them could name an action that none of them has, and would lose the tie of two
    persons who are both named rightly.)
    """
    named = rank_classes(probabilities)[:, 0]
    ids = np.unique(clips)
    answers = np.empty((len(ids), probabilities.shape[1]))
    for place, clip in enumerate(ids):
        inside = clips == clip
        answers[place] = probabilities[inside & (named == clip_label(named[inside]))].mean(axis=0)
    return ids, answers


def score_clips(probabilities: np.ndarray, labels: np.ndarray, clips: np.ndarray, bins: int = 15) -> ClassificationScores:
    """The scores of clips instead of persons; `clips` int [N] says which clip a person stands in.

    A frame of two people has one label here, so half of its people cannot be wrong: use it only beside published
    clip scores.
    """
    ids, answers = answer_clips(probabilities, clips)
    return score_classification(answers, np.array([clip_label(labels[clips == clip]) for clip in ids]), bins)


def precision_recall(scores: np.ndarray, positive: np.ndarray, positives: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each of n predictions, the most certain first: (float [n], float [n]).

    `positive` bool [n]; recall counts against `positives` (by default: all that are in `positive`). Ties in `scores`
    are taken in reverse order of appearance, as by the AVA evaluation.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    hits = np.cumsum(positive[order])
    total = hits[-1] if positives is None and len(hits) else positives
    return hits / np.arange(1, len(hits) + 1), hits / (total or np.nan)


def divide(numerator: Sequence[float] | np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(len(denominator), np.nan), where=np.asarray(denominator) > 0)
