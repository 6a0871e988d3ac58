"""python -m pytest tests/test_evaluate.py

Without these, evaluate could score another model, other windows or other people than it says, or hide a score that is missing.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from conftest import Project
from thermal_action import InputError, charts
from thermal_action.annotations import read_annotations
from thermal_action.models import build_model
from thermal_action.scoring.baselines import Places, find_persons, nearest_keyframe
from thermal_action.scoring.tables import Persons, compare, list_precision_recall, list_recalls, summarise, summarise_focus
from thermal_action.training.checkpoints import save_model
from tiny import SEVEN_ACTIONS

torch.set_num_threads(1)
ARCHITECTURE = {"name": "thermal_tiny", "spatial_stride": 4, "head": "roi", "hidden": 8, "backbone": {"width": 4}}
BASELINES = {"majority", "nearest_keyframe", "box_position", "background"}
RIVALS = BASELINES | {"random_forest"}


def put_model(project: Project, **changes) -> None:
    """A model of random weights that fits the tiny recordings, or differs from them by `changes` of its facts."""
    window = json.loads((project.folder / "data/annotations/val.json").read_text())["info"]["window"]
    info = {"model": ARCHITECTURE, "classes": SEVEN_ACTIONS, "frame_size": [16, 16], "window": window, "training": {},
            "transform": {"temperature_range": (5.0, 45.0), "background": "absolute"}} | changes
    torch.manual_seed(0)
    save_model(project.folder / "models/best.pt", build_model(**info["model"], num_classes=len(info["classes"])), info)


@pytest.fixture
def ready(prepared: Project) -> Project:
    prepared.set({"evaluate": {"focus_class": "lying", "bootstrap_samples": 200}})
    put_model(prepared)
    return prepared


def read_rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scores_tables_and_pictures_of_a_tiny_project(ready):
    printed = ready.run("evaluate", apart=True).stdout
    metrics = json.loads((ready.folder / "metrics/evaluate.json").read_text())
    samples, classes = read_annotations(ready.folder / "data/annotations/val.json")
    persons, labels = find_persons(samples)
    assert metrics["data"] == {"persons": len(labels), "clips": len(np.unique(persons.keyframe)),
                               "recordings": len(np.unique(persons.recording))}
    assert metrics["baselines"].keys() == BASELINES and metrics["reference"].keys() == {"random_forest"}
    assert all(name.replace("_", " ") in printed for name in {"model", *RIVALS})
    for score in ("top1", "mean_class", "macro_f1"):
        best = max(baseline[score] for baseline in metrics["baselines"].values())
        assert metrics["margin"][score] == pytest.approx(metrics["model"][score] - best, abs=2e-6)
        assert metrics["margin_over_reference"][score] == pytest.approx(
            metrics["model"][score] - metrics["reference"]["random_forest"][score], abs=2e-6)

    predictions = read_rows(ready.folder / "metrics/predictions.csv")
    assert [row["true"] for row in predictions] == [classes[label] for label in labels]
    assert [row["sample"] for row in predictions] == [samples[keyframe].image_id for keyframe in persons.keyframe]
    assert np.mean([row["true"] == row["predicted"] for row in predictions]) == pytest.approx(metrics["model"]["top1"], abs=1e-5)
    for row in predictions:  # with `true` and these the folds of a cross-validation are scored together
        probabilities = {name: float(row[f"p({name})"]) for name in classes}
        assert float(row["confidence"]) == probabilities[row["predicted"]] == max(probabilities.values())
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert {row[rival] for rival in RIVALS} <= set(classes) and row["sample"].startswith(row["recording"])
    for rival, scores in {**metrics["baselines"], **metrics["reference"]}.items():
        assert np.mean([row["true"] == row[rival] for row in predictions]) == pytest.approx(scores["top1"], abs=1e-5)
        named = [row[rival] == "lying" for row in predictions if row["true"] == "lying"]
        assert scores["focus_recall"] == pytest.approx(np.mean(named), abs=1e-5)
    box = [float(predictions[0][side]) for side in ("x1", "y1", "x2", "y2")]
    assert box == pytest.approx(persons.boxes[0].tolist(), abs=1e-5)

    finding = metrics["finding"]
    assert finding.keys() == {"model", "warm_components"} and "AP@0.5" in printed
    for scores in finding.values():
        assert {"ap50", "ap30", "map50", "map30", "recall", "idf1", "switches"} <= scores.keys()
        assert 0 <= scores["ap50"] <= scores["ap30"] <= 1 and scores["recall"] == pytest.approx(scores["recall_0"])
    assert finding["warm_components"]["ap50"] > 0.5  # the tiny persons are warm and alone

    plots, pictures = ready.folder / "metrics/plots", ready.folder / "metrics/pictures"
    assert {path.stem for path in plots.iterdir()} == {path.stem for path in pictures.iterdir()}
    scores = read_rows(plots / "scores.csv")
    assert {row["predictor"] for row in scores} == {"model", *RIVALS}
    assert len(read_rows(plots / "confusion.csv")) == len(labels)
    for row in read_rows(plots / "per_class_recall.csv"):
        assert float(row["low"]) <= float(row["recall"]) <= float(row["high"])
        assert int(row["support"]) == np.sum(labels == classes.index(row["class"]))

    written = read_files(ready.folder / "metrics")  # the same in every run
    ready.run("evaluate")
    assert read_files(ready.folder / "metrics") == written and len(written) == 16


def test_a_card_goes_with_the_model_and_few_numbers_with_the_experiment(ready):
    """Else a teammate who gets models/best.pt alone would not know what it is, or `dvc exp show` would hide what matters."""
    lock = {"stages": {"hdf5": {"cmd": "-", "outs": [{"path": "data/frames", "md5": "0123abcd.dir"}]}, "train": {"cmd": "-"}}}
    (ready.folder / "dvc.lock").write_text(json.dumps(lock))
    ready.run("evaluate")
    card = (ready.folder / "models/model_card.md").read_text()
    metrics = json.loads((ready.folder / "metrics/evaluate.json").read_text())
    facts = {cells[0]: cells[1] for line in card.splitlines() if line.startswith("| ")
             if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 2}
    assert facts["version of data/frames"] == "0123abcd.dir" and "version of data/raw" not in facts
    assert facts["recordings"] == "source archive" and "simulated" not in card and facts["split"] == "by session, seed 42"
    assert facts["scored on"].startswith(f"{metrics['data']['persons']} persons in {metrics['data']['clips']} windows")
    assert (ready.folder / "metrics/results.md").read_text().strip() in card and "not a medical device" in card
    assert f"Top-1: {100 * metrics['model']['top1']:.1f} %" in card and "few recordings: read the intervals" in card
    weak = {row["class"] for row in read_rows(ready.folder / "metrics/plots/per_class_recall.csv") if float(row["recall"]) < 0.5}
    assert weak and all(f"{name} (" in card.split("names less than half")[1] for name in weak)

    summary = json.loads((ready.folder / "metrics/summary.json").read_text())
    assert summary.items() >= {"top1": metrics["model"]["top1"], "margin_top1": metrics["margin"]["top1"],
                               "focus_recall": metrics["focus"]["recall"],
                               "found_map50": metrics["finding"]["model"]["map50"]}.items()
    assert len(summary) < 10


def test_persons_of_a_clip_share_the_answer_of_a_model_that_labels_clips(ready, monkeypatch):
    """Else a model per clip could not be compared with one per person."""
    path = ready.folder / "data/annotations/val.json"
    coco = json.loads(path.read_text())
    first, second, third = coco["annotations"][:3]
    coco["annotations"] = [first, {**first, "id": 1000, "object_id": 9, "bbox": [0.3, 0.3, 0.2, 0.2]}, third]  # second: nobody
    path.write_text(json.dumps(coco))
    put_model(ready, model=ARCHITECTURE | {"head": "clip"})
    monkeypatch.chdir(ready.folder)
    evaluate.main()
    assert "finding" not in json.loads((ready.folder / "metrics/evaluate.json").read_text())  # it looks for nobody
    rows = read_rows(ready.folder / "metrics/predictions.csv")
    assert [row["sample"] for row in rows] == [first["image_id"], first["image_id"], third["image_id"]]
    answers = [[row[f"p({name})"] for name in SEVEN_ACTIONS] for row in rows]
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize(("changes", "told"), [
    ({"classes": [*SEVEN_ACTIONS[:-1], "flying"]}, "was trained with classes"),
    ({"frame_size": [40, 60]}, r"was trained with frame_size \[40, 60\]"),
    ({"window": {"length": 8, "sampling": "consecutive", "period_ms": 170.0}}, "was trained with window"),
])
def test_a_model_of_other_data_is_refused(ready, monkeypatch, changes, told):
    put_model(ready, **changes)
    monkeypatch.chdir(ready.folder)
    with pytest.raises(InputError, match=told):
        evaluate.main()


def test_refusals_before_any_work(ready, monkeypatch):
    monkeypatch.chdir(ready.folder)

    def refusal() -> str:
        with pytest.raises(InputError) as told:
            evaluate.main()
        return str(told.value)

    ready.set({"evaluate": {"focus_class": "dancing"}})
    assert "'dancing' is none of the classes (sitting," in refusal()
    ready.set({"evaluate": {"focus_class": None}})
    path = ready.folder / "data/annotations/val.json"
    coco = json.loads(path.read_text())
    path.write_text(json.dumps(coco | {"annotations": []}))
    assert "val.json has no person" in refusal()
    path.write_text(json.dumps(coco | {"annotations": [], "images": []}))
    assert "val.json has no image, expected at least 1" in refusal()
    (ready.folder / "models/best.pt").unlink()
    assert "models/best.pt does not exist" in refusal()
    assert not (ready.folder / "metrics").exists()


def test_a_model_that_answers_nan_is_refused(ready, monkeypatch):
    path = ready.folder / "models/best.pt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["head.classify.bias"][0] = float("nan")
    torch.save(content, path)
    monkeypatch.chdir(ready.folder)
    with pytest.raises(InputError, match="not finite"):
        evaluate.main()


def some_persons(labels: list[int], keyframe: list[int], recordings: list[str], focus: int | None = None) -> Persons:
    boxes = np.tile(np.array([0.1, 0.1, 0.4, 0.4], np.float32), (len(labels), 1)) + np.arange(len(labels))[:, None] * 0.05
    places = Places(boxes.astype(np.float32), np.array(keyframe), np.arange(len(labels)), np.array(["A"] * len(labels)),
                    np.array(recordings))
    return Persons(places, np.array(labels), ["a", "b", "c"], focus)


def test_what_cannot_be_told_is_left_out():
    """JSON has no NaN; a 0 in its place would be a lie."""
    persons = some_persons([0, 0, 1], [0, 0, 1], ["R", "R", "R"], focus=2)
    answer = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1]])
    summary = summarise(answer, persons)
    assert "focus_recall" not in summary and "focus_precision" not in summary
    assert summarise_focus(answer, persons, 0.95) == {"support": 0, "predicted": 0}
    assert [row["class"] for row in list_recalls(answer, persons, 0.95)] == ["a", "b"]
    assert {row["class"] for row in list_precision_recall(answer, persons)} == {"a", "b"}
    summaries = {"model": summary, "majority": summary}
    answers = {"model": answer, "majority": answer}
    intervals, margins = compare(answers, summaries, "model", ["majority"], persons, samples=100, level=0.95, seed=0)
    assert intervals == {}  # one recording says nothing about others
    assert margins == {"top1": 0, "mean_class": 0, "macro_f1": 0, "map50": 0}


def test_focus_class_has_recall_and_precision_with_intervals():
    persons = some_persons([2, 2, 2, 0], [0, 1, 2, 3], ["R", "R", "S", "S"], focus=2)
    answer = np.eye(3)[[2, 2, 0, 2]] * 0.7 + 0.1
    focus = summarise_focus(answer, persons, 0.95)
    assert (focus["support"], focus["predicted"]) == (3, 3)
    assert focus["recall"] == focus["precision"] == pytest.approx(2 / 3, abs=1e-6)
    assert 0.2 < focus["recall_low"] < 2 / 3 < focus["recall_high"] < 0.94
    assert summarise(answer, persons)["focus_recall"] == focus["recall"]


def test_margins_are_paired_so_that_a_steady_lead_shows():
    """Ten recordings from easy to hard: both predictors vary widely, the model is one person ahead in each."""
    labels, recordings, model, other = [], [], [], []
    for recording in range(10):
        right = np.arange(10) < recording
        labels += [0] * 10
        recordings += [f"R{recording}"] * 10
        other += np.where(right, 0, 1).tolist()
        model += np.where(right | (np.arange(10) == 9), 0, 1).tolist()
    persons = some_persons(labels, list(range(100)), recordings)
    answers = {"model": np.eye(3)[model], "majority": np.eye(3)[other]}
    summaries = {name: summarise(answer, persons) for name, answer in answers.items()}
    intervals, margins = compare(answers, summaries, "model", ["majority"], persons, samples=1000, level=0.95, seed=0)
    assert margins["top1"] == margins["top1_low"] == margins["top1_high"] == pytest.approx(0.1)
    assert intervals["top1_high"] - intervals["top1_low"] > 0.25


def test_pictures_survive_the_smallest_and_the_largest_evaluation(tmp_path):
    for count in (1, 2, 30):
        classes = [f"an action with a long name, number {number}" for number in range(count)]
        rows = [{"class": name, "recall": 0.0, "low": 0.0, "high": 0.8, "support": 1} for name in classes]
        curve = [{"class": name, "recall": 1.0, "precision": 0.5} for name in classes]
        summary = {"top1": 0.5, "mean_class": 0.5, "macro_f1": 0.5, "map50": 0.5}
        charts.draw_confusion(tmp_path / "confusion.png", np.eye(count, dtype=int), classes)
        charts.draw_recalls(tmp_path / "recalls.png", rows, 0.95, None)
        charts.draw_precision_recall(tmp_path / "curves.png", curve, classes[0])
        charts.draw_calibration(tmp_path / "calibration.png", [{"confidence": 0.4, "accuracy": 0.0, "persons": 1}], 0.4)
        charts.draw_scores(tmp_path / "scores.png", {"model": summary, "majority": summary}, {}, 0.95)
        for path in tmp_path.glob("*.png"):
            assert path.read_bytes().startswith(b"\x89PNG")


def test_published_baseline_of_the_real_recordings(thermal_v1):
    """The nearest-keyframe scores of the published split are known: 87.7 top-1 and 53.4 mean-class per clip."""
    sides = [find_persons(read_annotations(thermal_v1 / "annotations" / f"{side}.json")[0]) for side in ("train", "val")]
    (known, labels), (asked, truth) = sides
    persons = Persons(asked, truth, [str(label) for label in range(14)])
    summary = summarise(nearest_keyframe(known, labels, asked, 14), persons)
    assert summary["clip_top1"] == pytest.approx(0.877, abs=5e-4)
    assert summary["clip_mean_class"] == pytest.approx(0.534, abs=5e-4)
