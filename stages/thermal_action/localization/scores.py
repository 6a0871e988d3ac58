"""How well segments are found: average precision and recall of the package's evaluator, and average recall of proposals."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout

import numpy as np
from actionformer.utils import ANETdetection
from actionformer.utils.metrics import k_segment_iou, segment_iou
from actionformer.utils.postprocessing import results_to_dict
from pandas import DataFrame

from thermal_action import InputError
from thermal_action.localization.segments import to_results
from thermal_action.scoring.classification import precision_recall
from thermal_action.scoring.detection import area_under_envelope
from thermal_action.scoring.rows import Row

PROPOSALS = (1, 5, 10, 50, 100)  # N of AR@N


class Scorer:
    """Takes the place of ANETdetection in `valid_one_epoch`: keeps the predictions, and what they score.

    The evaluator numbers the labels of the ground truth anew, and would take a prediction of a label that is not among them for
    one of the class that got its number: such predictions are left out (they are no class of the mean) and counted.
    """

    def __init__(self, json_file: str, split: str, thresholds: np.ndarray, names: Mapping[int, str]):
        self.names, self.thresholds = names, thresholds
        self.truth = ANETdetection(json_file, split, thresholds, num_workers=1)
        if self.truth.ground_truth.empty:
            raise InputError(f"{json_file}: no recording of the split {split!r} has an action: there is nothing to score")
        self.predictions, self.scores = to_results({}), {}

    def evaluate(self, results: Mapping, verbose: bool = False) -> tuple[np.ndarray, float, np.ndarray]:
        """mAP [thresholds], its mean, recall at 1x and 5x [thresholds, 2]; `verbose` is what the package passes, and ignored."""
        known = np.isin(results["label"], list(self.truth.activity_index))
        scored = {key: np.asarray(values)[known] for key, values in results.items()}
        with redirect_stdout(io.StringIO()):  # it complains of each class that nothing was predicted of
            mean, average, recall = self.truth.evaluate(scored, verbose=False)
        self.predictions = results
        self.scores = {"mAP": float(average), "absent_labels_predicted": int((~known).sum())}
        for threshold, precision, recalls in zip(self.thresholds, mean, recall, strict=True):
            self.scores |= {f"mAP@{threshold:.2f}": float(precision)}
            self.scores |= {f"recall@{k}x@{threshold:.2f}": float(value)
                            for k, value in zip(self.truth.top_k, recalls, strict=True)}
        recalls = average_recall(self.truth.ground_truth, DataFrame(results), self.thresholds, PROPOSALS)
        self.scores |= {f"AR@{number}": value for number, value in recalls.items()}
        self.scores["AP"] = {self.names[label]: float(self.truth.ap[:, place].mean())
                             for label, place in self.truth.activity_index.items()}
        return mean, average, recall

    def mean_precision(self, results: Mapping) -> float:
        """The mAP of `evaluate`, thirty times as fast: to choose among many results."""
        return float(np.mean([area_under_envelope(*curve) for _, curves in self.trace_curves(results, self.thresholds)
                              for curve in curves]))

    def list_precision_recall(self, tiou: float) -> Iterator[Row]:
        """Points (recall, precision) of each true label, from the most certain prediction on."""
        for label, [(precision, recall)] in self.trace_curves(self.predictions, np.array([tiou])):
            for point in np.flatnonzero(np.diff(recall, prepend=0)):
                yield {"class": self.names[label], "recall": round(recall[point], 6), "precision": round(precision[point], 6)}

    def trace_curves(self, results: Mapping, thresholds: np.ndarray) -> Iterator[tuple[int, list[tuple[np.ndarray, np.ndarray]]]]:
        """Of each true label precision and recall after each of its predictions, at each threshold."""
        found = DataFrame(results)
        for label, number in sorted(self.truth.activity_index.items()):
            truth = self.truth.ground_truth[self.truth.ground_truth["label"] == number]
            own = found[found["label"] == label]
            # in the order in which precision_recall takes them
            own = own.iloc[np.argsort(own["score"].to_numpy(), kind="stable")[::-1]]
            certain = -np.arange(len(own))
            yield label, [precision_recall(certain, true, len(truth)) for true in match(truth, own, thresholds)]

    def list_predictions(self) -> dict[str, list[dict]]:
        """{recording: [{"label": name, "score", "segment": [start, end] s}]}, from the most certain on."""
        found = results_to_dict(self.predictions)
        return {name: [{"label": self.names.get(each["label"], str(each["label"])), "score": round(each["score"], 6),
                        "segment": [round(time, 3) for time in each["segment"]]}
                       for each in sorted(actions, key=lambda action: -action["score"])]
                for name, actions in found.items()}


def match(truth: DataFrame, predictions: DataFrame, thresholds: np.ndarray) -> np.ndarray:
    """bool [thresholds, n]: which predictions of one label, the most certain first, are true: each takes the segment of its
    recording that it overlaps most and that none before it took, as in ActivityNet's evaluation.
    """
    spans = {name: segments[["t-start", "t-end"]].to_numpy() for name, segments in truth.groupby("video-id")}
    taken = {name: np.zeros((len(thresholds), len(segments)), dtype=bool) for name, segments in spans.items()}
    true, rows = np.zeros((len(thresholds), len(predictions)), dtype=bool), np.arange(len(thresholds))
    for number, (name, *span) in enumerate(predictions[["video-id", "t-start", "t-end"]].itertuples(index=False)):
        if name in spans:
            overlaps = np.where(taken[name], -1, segment_iou(np.array(span), spans[name]))
            best = overlaps.argmax(axis=1)
            true[:, number] = overlaps[rows, best] >= thresholds
            taken[name][rows, best] |= true[:, number]
    return true


def average_recall(truth: DataFrame, predictions: DataFrame, thresholds: np.ndarray, numbers: Sequence[int]) -> dict[int, float]:
    """AR@N: share of true segments that one of a recording's N most certain predictions meets, mean over the thresholds.

    Labels do not matter, and one prediction may meet several segments, as in ActivityNet's task of temporal action proposals
    (Evaluation/eval_proposal.py of activitynet/ActivityNet; Escorcia et al., DAPs, ECCV 2016), whose N is a mean over recordings.
    """
    proposals = dict(list(predictions.groupby("video-id")))
    best = []  # highest overlap of each true segment with the first N proposals [segments, numbers]
    for name, segments in truth.groupby("video-id"):
        if name not in proposals:
            best.append(np.zeros((len(segments), len(numbers))))
            continue
        ranked = proposals[name].sort_values("score", ascending=False, kind="stable")[:max(numbers)]
        overlap = np.maximum.accumulate(k_segment_iou(ranked[["t-start", "t-end"]].values, segments[["t-start", "t-end"]].values))
        best.append(overlap[[min(number, len(overlap)) - 1 for number in numbers]].T)
    reached = np.concatenate(best)[..., None] >= thresholds  # [segments, numbers, thresholds]
    return dict(zip(numbers, reached.mean(axis=(0, 2)).tolist(), strict=True))
