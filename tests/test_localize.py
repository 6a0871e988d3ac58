"""pytest tests/test_localize.py - the stage that learns when actions happen, and the reference that it must beat."""

import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("actionformer", reason="ActionFormer is not installed: `make localize`")

from ruamel.yaml import YAML  # noqa: E402

from clones import ROOT  # noqa: E402
from conftest import call  # noqa: E402
from planted import plant  # noqa: E402
from thermal_action.files import read_json, write_json  # noqa: E402
from thermal_action.localization import reference  # noqa: E402
from thermal_action.localization.data import measure_columns  # noqa: E402
from thermal_action.localization.reference import Merging, find_runs, runs_of  # noqa: E402
from thermal_action.localization.scores import Scorer  # noqa: E402
from thermal_action.localization.segments import Segment, suppress  # noqa: E402
from thermal_action.scoring.detection import area_under_envelope  # noqa: E402

TIOU = np.linspace(0.3, 0.7, 5)


def test_runs_begin_and_end_where_they_do_and_small_gaps_are_closed():
    inside = np.array([1, 1, 0, 1, 0, 0, 0, 1, 1, 1], bool)
    assert runs_of(inside, 0) == [(0, 2), (3, 4), (7, 10)]
    assert runs_of(inside, 1) == [(0, 4), (7, 10)]
    assert runs_of(inside, 3) == [(0, 10)]
    assert runs_of(np.zeros(5, bool), 3) == []


def test_a_run_is_found_once_and_as_certain_as_its_mean():
    probabilities = np.zeros((30, 2))
    probabilities[10:20, 1] = 0.75
    assert list(find_runs(probabilities, Merging(smooth=1, gap=0))) == [Segment(10, 20, 1, 0.75)]
    # over three steps its edges fade, and the core is the most certain
    best = max(find_runs(probabilities, Merging(smooth=3, gap=0)), key=lambda segment: segment.score)
    assert (best.start, best.end, best.score) == (11, 19, pytest.approx(0.75))


def test_of_nearly_equal_runs_the_most_certain_stays():
    runs = [Segment(0, 10, 0, 0.9), Segment(0, 12, 0, 0.8), Segment(8, 20, 0, 0.7), Segment(30, 31, 0, 0.1)]
    assert list(suppress(runs)) == [runs[0], runs[2], runs[3]]


def test_reference_finds_what_probabilities_say(tmp_path):
    folder = plant(tmp_path / "data", layout="thermal", recordings={"validation": 4}, classes=3)
    database, step_s = read_json(folder / "segments.json")["database"], 4 / 6
    probabilities = {}
    for name, each in database.items():
        probabilities[name] = np.zeros((128, 3))
        for action in each["annotations"]:
            start, end = (round(time / step_s) for time in action["segment"])
            probabilities[name][start:end, action["label_id"]] = 0.9
    scorer = Scorer(str(folder / "segments.json"), "validation", TIOU, {label: f"action {label}" for label in range(3)})
    scorer.evaluate(reference.find_all(probabilities, Merging(smooth=1, gap=0), step_s))
    assert scorer.scores["mAP"] == 1


def test_a_forest_learns_which_actions_are_in_a_step(tmp_path):
    # of features that say so, and of recordings that were learned from only by what has not seen them
    numbers, recordings = np.random.default_rng(0), {}
    for name in "abcdefgh":
        marked = np.zeros((60, 3), bool)
        marked[20:35, 0] = marked[30:50, 1] = True
        recordings[name] = np.hstack([marked + numbers.normal(0, 0.2, marked.shape), numbers.normal(0, 1, (60, 4))]), marked
    # if its own answers counted, they would be these
    unknown = {"b": (recordings["b"][0], np.hstack([~recordings["b"][1][:, :2], np.zeros((60, 1), bool)]))}
    own, asked = reference.learn_steps(recordings | unknown, {"new": recordings["a"][0]}, seed=0, jobs=1)
    assert ((asked["new"] > 0.5) == recordings["a"][1])[6:-6].mean() > 0.95 and not asked["new"][:, 2].any()
    assert ((own["b"] > 0.5) == recordings["b"][1])[6:-6, :2].mean() > 0.95


def test_a_step_has_the_actions_of_its_middle():
    segments = [{"segment": [1.0, 2.5], "label_id": 1}, {"segment": [2.4, 2.6], "label_id": 0}]
    assert np.argwhere(reference.mark_steps(segments, 4, 1.0, 2)).tolist() == [[1, 1], [2, 0]]


def test_area_under_the_curves_is_the_average_precision(tmp_path):
    folder = plant(tmp_path / "data", layout="thermal", recordings={"validation": 5}, classes=3)
    numbers, found = np.random.default_rng(0), []
    for name, each in read_json(folder / "segments.json")["database"].items():
        for action in each["annotations"] * 3:
            start, end = sorted(np.add(action["segment"], numbers.normal(0, 1, 2)))
            found.append((name, start, end, action["label_id"] if numbers.random() < 0.7 else 0, numbers.random()))
    names, starts, ends, labels, certain = zip(*found, strict=True)
    scorer = Scorer(str(folder / "segments.json"), "validation", TIOU, {label: f"action {label}" for label in range(3)})
    scorer.evaluate({"video-id": list(names), "t-start": np.array(starts), "t-end": np.array(ends), "label": np.array(labels),
                     "score": np.array(certain)})
    assert scorer.mean_precision(scorer.predictions) == pytest.approx(scorer.scores["mAP"], abs=1e-9)
    rows = list(scorer.list_precision_recall(0.5))
    for label in range(3):
        points = [row for row in rows if row["class"] == f"action {label}"]
        recall, precision = (np.array([point[column] for point in points]) for column in ("recall", "precision"))
        assert area_under_envelope(precision, recall) == pytest.approx(scorer.truth.ap[2, label], abs=1e-5)


def test_columns_are_measured_over_all_steps(tmp_path):
    rows = np.random.default_rng(0).normal(3, 2, (50, 3)).astype(np.float32)
    rows[:, 2] = 7
    np.save(tmp_path / "a.npy", rows[:20])
    np.save(tmp_path / "b.npy", rows[20:])
    measured = measure_columns([tmp_path / "a.npy", tmp_path / "b.npy"])
    assert measured["mean"] == pytest.approx(rows.astype(float).mean(axis=0).tolist())
    assert measured["std"] == pytest.approx([*rows[:, :2].astype(float).std(axis=0), 1.0])


@pytest.fixture
def project(tmp_path):
    """A folder with planted features, whose last columns say what happens, and few epochs."""
    folder = plant(tmp_path / "data", layout="thermal", recordings={"training": 6, "validation": 3}, classes=3, channels=8)
    for name, each in read_json(folder / "segments.json")["database"].items():
        path = folder / f"features/{name}.npy"
        said = np.zeros((128, 3), np.float32)
        for action in each["annotations"]:
            start, end = (round(6 * time / 4) for time in action["segment"])
            said[start:end, action["label_id"]] = 0.6
        np.save(path, np.hstack([np.load(path), said]))
    manifest = read_json(folder / "features/manifest.json")
    columns = [{"name": "description", "count": 8}, {"name": "probabilities", "count": 3}]
    write_json(folder / "features/manifest.json", manifest | {"columns": columns, "model": {
        "sha256": "0" * 64, "weights": "trained", "seed": 0, "score": 0.2}})
    params = YAML().load(ROOT / "pipelines/localization/params.yaml")
    params["localize"] |= {"epochs": 1, "max_seq_len": 128, "pictures": 2}
    params["runtime"]["threads"] = 1
    YAML().dump(params, tmp_path / "params.yaml")
    yield tmp_path
    torch.use_deterministic_algorithms(False)  # which the package turns on for the whole process


@pytest.mark.slow
def test_the_stage_gives_the_same_again_and_scores_the_reference_beside_it(project):
    # whoever compares two runs must see what was changed, not chance
    first = call("localize", folder=project, apart=True)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "the best reference's 100.0 %" in first.stdout
    scores = read_json(project / "metrics/localize.json")
    assert read_json(project / "metrics/summary.json") == {
        "margin": scores["margin"], **{name: scores["actionformer"][name] for name in ("mAP", "mAP@0.50", "AR@100")}}
    assert scores["thresholds"]["mAP"] == 1 and scores["margin"] == scores["actionformer"]["mAP"] - 1
    assert len(list((project / "metrics/localization/time_lines").glob("*.png"))) == 2
    files = [project / "models/localizer.pt", *(project / "metrics").rglob("*")]
    made = {path: path.read_bytes() for path in files if path.is_file()}
    shutil.rmtree(project / "metrics")
    assert call("localize", folder=project).returncode == 0
    assert {path: path.read_bytes() for path in made} == made


def test_the_stage_says_what_is_missing(project):
    (project / "data/features/manifest.json").unlink()
    refused = call("localize", folder=project)
    assert refused.returncode == 2 and "manifest.json does not exist" in refused.stderr and "Traceback" not in refused.stderr
