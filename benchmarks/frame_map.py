"""Frame-mAP of the same detections here and in MMAction2 1.2.0: where the two differ, and why; as a table in Markdown.

run  PYTHONPATH=stages .venv-mmaction2/bin/python -W ignore benchmarks/frame_map.py \
         [--annotations data/annotations/val.json --predictions metrics/predictions.csv]

Drawn persons (30 keyframes, two in each, 14 actions, three seeds) and detections of each, written as AVA csv by
thermal_action/ava.py and evaluated by

    here        thermal_action/scoring/detection.py, the official AVA protocol, on the arrays; what is read back from the csv must
                score the same to the last bit
    ava_eval    MMAction2's function, on the same csv
    AVAMetric   MMAction2's metric, which writes a csv of its own from what a network answers

at IoU 0.5. With --annotations and --predictions also what the evaluate stage says in annotated boxes.
"""

import argparse
import os
from collections.abc import Callable, Collection
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import thermal_action.mmaction2  # noqa: F401 - puts MMAction2 right before it is imported
from thermal_action.annotations import read_annotations
from thermal_action.ava import (
    Key,
    read_detections,
    read_predictions,
    read_truth,
    write_detections,
    write_label_map,
    write_rows,
    write_truth,
)
from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map

KEYFRAMES, CLASSES, SEEDS = 30, 14, (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """What both sides evaluate: truth, detections of `boxes` (each with a score for every class), and keyframes left out."""

    truth: LabelledBoxes
    images: list[Key]  # of each box
    boxes: np.ndarray  # float32 [n, 4]
    scores: np.ndarray  # float64 [n, CLASSES]
    excluded: Collection[Key] = ()

    @property
    def detections(self) -> LabelledBoxes:
        """The rows that a tool writes: a box has none for a class that it was given no score for (NaN)."""
        rows = detect_in_boxes(self.images, self.boxes, np.nan_to_num(self.scores))
        told = np.flatnonzero(~np.isnan(self.scores.reshape(-1)))
        return LabelledBoxes([rows.images[row] for row in told], rows.boxes[told], rows.labels[told], rows.scores[told])


def draw(seed: int, persons: int = 2) -> Case:
    """Persons side by side, found nearly where they stand, and an answer that leans to the true action."""
    generator = np.random.default_rng(seed)
    images = [("R1", 1_760_000_000_000 + 1000 * keyframe) for keyframe in range(KEYFRAMES) for _ in range(persons)]
    corner = np.stack([np.tile(np.arange(persons) / persons, KEYFRAMES), generator.uniform(0.1, 0.5, len(images))], axis=1)
    boxes = np.concatenate([corner, corner + [0.8 / persons, 0.4]], axis=1)
    labels = np.concatenate([np.arange(CLASSES), generator.integers(0, CLASSES, len(images) - CLASSES)])
    generator.shuffle(labels)
    found = np.clip(boxes + generator.normal(0, 0.03 / persons, boxes.shape), 0, 1)
    logits = generator.normal(0, 1, (len(images), CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Case(LabelledBoxes(images, boxes.astype(np.float32), labels), images, found.astype(np.float32), scores)


def without_a_class(case: Case) -> Case:
    scores = case.scores.copy()
    scores[:, 3] = np.nan
    return replace(case, scores=scores)


def nobody_there(case: Case) -> Case:
    """A sure detection of each class on a keyframe that has no person."""
    return replace(case, images=[*case.images, *[("R1", 1)] * CLASSES],
                   boxes=np.concatenate([case.boxes, np.tile(np.float32([0.1, 0.1, 0.4, 0.8]), (CLASSES, 1))]),
                   scores=np.concatenate([case.scores, np.where(np.eye(CLASSES), 0.999, np.nan)]))


def excluding(case: Case) -> Case:
    return replace(case, excluded=sorted(set(case.images))[::5])


def without_truth(case: Case) -> Case:
    """Nobody does action 3, and the network says of everybody how much."""
    return replace(case, truth=replace(case.truth, labels=np.where(case.truth.labels == 3, 4, case.truth.labels)))


def sharp(case: Case) -> Case:
    """A network as sure as those that have learned for long: most scores are below 0.002."""
    scores = case.scores**6
    return replace(case, scores=scores / scores.sum(axis=1, keepdims=True))


def alike(case: Case) -> Case:
    """Scores that differ in the fifth decimal."""
    return replace(case, scores=0.5 + case.scores * 1e-4)


# persons a keyframe, what is done to the drawn case, and what the two sides make of it
CASES: dict[str, tuple[int, Callable[[Case], Case], str]] = {
    "plain": (2, lambda case: case, "nothing"),
    "a class without detections": (2, without_a_class, "counts as 0 here; leaves the mean there"),
    "sure detections where nobody is": (2, nobody_there, "false here; passed over there (mmaction2#1268)"),
    "6 of 30 keyframes excluded": (2, excluding, "their persons leave the recall here; stay in it there"),
    "8 persons a keyframe": (8, lambda case: case, "the 50 best of a keyframe's 112 rows here; all there"),
    "a class without persons": (2, without_truth, "leaves the mean of both (there by `np.NAN`, which numpy 2 lacks: a shim)"),
    "scores mostly below 0.002": (2, sharp, "AVAMetric drops them (`action_thr`)"),
    "scores that differ in the fifth decimal": (2, alike, "ava_eval computes in float32; AVAMetric writes four decimals"),
}


def score_here(case: Case, folder: Path) -> float:
    """Frame-mAP of the arrays, after the same of the files was seen to be equal."""
    write_files(case, folder)
    sides = [(case.truth, case.detections), (read_truth(folder / "truth.csv", CLASSES)[0],
                                             read_detections(folder / "found.csv", CLASSES))]
    direct, through = (frame_map(truth, found, CLASSES, excluded=set(case.excluded)) for truth, found in sides)
    assert np.array_equal(direct.average_precision, through.average_precision, equal_nan=True)
    return direct.mean


def write_files(case: Case, folder: Path) -> None:
    write_rows(folder / "truth.csv", ((*row, "0") for row in zip(case.truth.images, case.truth.boxes, case.truth.labels,
                                                                 strict=True)))
    write_detections(folder / "found.csv", case.detections)
    write_label_map(folder / "actions.pbtxt", [f"action {label}" for label in range(CLASSES)])
    (folder / "excluded.csv").write_text("".join(f"{video},{timestamp:04d}\n" for video, timestamp in case.excluded))


def score_ava_eval(case: Case, folder: Path) -> float:
    from mmaction.evaluation import ava_eval
    write_files(case, folder)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        said = ava_eval(folder / "found.csv", "mAP", folder / "actions.pbtxt", folder / "truth.csv", folder / "excluded.csv",
                        verbose=False)
    return float(said["overall"])


def score_ava_metric(case: Case, folder: Path) -> float:
    """The network's answers of each keyframe, with a background column, as AVARoIHead gives them; no answer is a score of 0."""
    from mmaction.evaluation.metrics import AVAMetric
    write_files(case, folder)
    metric = AVAMetric(str(folder / "truth.csv"), str(folder / "excluded.csv"), str(folder / "actions.pbtxt"),
                       num_classes=CLASSES + 1)
    by_image: dict[Key, list[int]] = {}
    for row, image in enumerate(case.images):
        by_image.setdefault(image, []).append(row)
    for (video, timestamp), rows in by_image.items():
        scores = np.pad(np.nan_to_num(case.scores[rows]), ((0, 0), (1, 0)))
        metric.process(None, [{"video_id": video, "timestamp": timestamp, "pred_instances": {
            "bboxes": torch.from_numpy(case.boxes[rows]), "scores": torch.from_numpy(scores)}}])
    with chdir(folder), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # it writes its csv where it stands
        return float(metric.evaluate(len(by_image))["mAP/overall"])


SIDES = {"here": score_here, "ava_eval": score_ava_eval, "AVAMetric": score_ava_metric}


def evaluate(case: Case) -> dict[str, float]:
    """Frame-mAP by side."""
    with TemporaryDirectory() as folder:
        return {name: side(case, Path(folder)) for name, side in SIDES.items()}


def read_evaluated(annotations: Path, predictions: Path) -> Case:
    """Probabilities of the evaluate stage in annotated boxes."""
    samples, classes = read_annotations(annotations)
    assert len(classes) == CLASSES, f"{annotations} has {len(classes)} classes, this table is of {CLASSES}"
    rows = read_predictions(predictions, samples, classes)
    with TemporaryDirectory() as folder:
        write_truth(Path(folder, "truth.csv"), samples)
        truth, _ = read_truth(Path(folder, "truth.csv"), CLASSES)
    return Case(truth, rows.images[::CLASSES], rows.boxes[::CLASSES], rows.scores.reshape(-1, CLASSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--predictions", type=Path, help="metrics/predictions.csv of the evaluate stage for those annotations")
    options = parser.parse_args()
    print(f"| frame-mAP, % | {' | '.join(SIDES)} | what differs |\n|---|{'---:|' * len(SIDES)}---|")
    for name, (persons, change, why) in CASES.items():
        scores = [evaluate(change(draw(seed, persons))) for seed in SEEDS]
        cells = [" / ".join(f"{100 * each[side]:.1f}" for each in scores) for side in SIDES]
        print(f"| {name} | {' | '.join(cells)} | {why} |", flush=True)
    if options.annotations and options.predictions:
        scores = evaluate(read_evaluated(options.annotations, options.predictions))
        print(f"| the model in annotated boxes | {' | '.join(f'{100 * value:.2f}' for value in scores.values())} | |")


if __name__ == "__main__":
    main()
