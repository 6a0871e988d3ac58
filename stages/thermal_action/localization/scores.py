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
from thermal_action.scoring.classification import precision_recall
from thermal_action.scoring.rows import Row

PROPOSALS = (1, 5, 10, 50, 100)  # N of AR@N
NOTHING = {"video-id": [], "t-start": np.empty(0), "t-end": np.empty(0), "label": np.empty(0, int), "score": np.empty(0)}


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
        self.predictions, self.scores = NOTHING, {}

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

    def list_precision_recall(self, tiou: float) -> Iterator[Row]:
        """Points (recall, precision) of each true label, from the most certain prediction on."""
        found = DataFrame(self.predictions)
        for label, number in sorted(self.truth.activity_index.items()):
            truth = self.truth.ground_truth[self.truth.ground_truth["label"] == number]
            own = found[found["label"] == label].sort_values("score", ascending=False, kind="stable")
            precision, recall = precision_recall(own["score"].to_numpy(), match(truth, own, tiou), len(truth))
            for point in np.flatnonzero(np.diff(recall, prepend=0)):
                yield {"class": self.names[label], "recall": round(recall[point], 6), "precision": round(precision[point], 6)}

    def list_predictions(self) -> dict[str, list[dict]]:
        """{recording: [{"label": name, "score", "segment": [start, end] s}]}, from the most certain on."""
        found = results_to_dict(self.predictions)
        return {name: [{"label": self.names.get(each["label"], str(each["label"])), "score": round(each["score"], 6),
                        "segment": [round(time, 3) for time in each["segment"]]}
                       for each in sorted(actions, key=lambda action: -action["score"])]
                for name, actions in found.items()}


def match(truth: DataFrame, predictions: DataFrame, tiou: float) -> np.ndarray:
    """bool [n]: which predictions of one label, the most certain first, are true: each takes the segment of its recording that it
    overlaps most and that none before it took, as in ActivityNet's evaluation.
    """
    free = {name: segments[["t-start", "t-end"]].to_numpy().tolist() for name, segments in truth.groupby("video-id")}
    true = np.zeros(len(predictions), dtype=bool)
    for number, (name, start, end) in enumerate(predictions[["video-id", "t-start", "t-end"]].itertuples(index=False)):
        if segments := free.get(name):
            overlaps = segment_iou(np.array([start, end]), np.array(segments))
            true[number] = overlaps.max() >= tiou
            if true[number]:
                segments.pop(int(overlaps.argmax()))
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
