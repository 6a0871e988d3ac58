"""pytest tests/test_pipeline.py - the whole pipeline with the real git and dvc in temporary clones, on tiny recordings."""

import json
import shutil
from pathlib import Path

import h5py
import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from clones import ROOT, SEVEN, Clone, tiny_repository

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy_of_finished(finished, tmp_path_factory) -> Clone:
    folder = tmp_path_factory.mktemp("copy") / "clone"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Clone(folder)


def test_a_sensor_of_16x16_with_seven_actions_needs_params_alone(finished):
    recording = next((finished.folder / "data/frames").glob("*.h5"))
    with h5py.File(recording) as file:
        assert file["frames"].shape[1:] == (16, 16)
    assert json.loads((finished.folder / "data/annotations/class_mapping.json").read_text())["classes"] == SEVEN
    metrics = finished.metrics()
    assert 0 <= metrics["model"]["top1"] <= 1
    assert set(metrics["baselines"]) == {"majority", "nearest_keyframe", "box_position", "background"}


def test_a_second_repro_does_nothing(copy_of_finished):
    assert "Data and pipelines are up to date" in copy_of_finished.run("dvc", "repro")
    assert "Data and pipelines are up to date" in copy_of_finished.run("dvc", "repro", "--allow-missing", "--dry")
    assert copy_of_finished.run("git", "status", "--porcelain") == ""


def test_git_never_sees_data_or_models(copy_of_finished):
    tracked = copy_of_finished.run("git", "ls-files").split("\n")
    made = [name for name in tracked if name.endswith((".h5", ".pt", ".jsonl", ".png", ".csv"))]
    assert [name for name in made if not name.startswith("benchmarks/")] == []


# a parameter of each section, and the first stage that must run again; how a stage works is no part of its result
FIRST_STAGE = {
    'classes=[sitting,standing,walking,"lying down-lying with risk",other]': "fetch", "fetch.simulator.seed=43": "fetch",
    "hdf5.level=3": "hdf5", "window.length=8": "coco", "coco.seed=1": "coco", "validate.num_samples=0": "validate",
    "model.hidden=8": "train", "train.augment.offset_c=1": "train", "evaluate.seed=1": "evaluate", "server.retries=1": None,
    "runtime.workers=1": None,
}


@pytest.mark.parametrize(("override", "stage"), FIRST_STAGE.items())
def test_a_parameter_of_any_section_runs_again_what_it_reaches(copy_of_finished, override, stage):
    # what -S does; `dvc exp run --dry` works in a folder without data, and fails for want of them
    apply_overrides(copy_of_finished.folder / "params.yaml", [override])
    said = copy_of_finished.dvc("repro", "--dry")
    copy_of_finished.git("checkout", "--quiet", ".")
    running = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    assert running[:1] == ([stage] if stage else [])


def test_every_section_is_tried():
    assert {override.partition(".")[0].partition("=")[0] for override in FIRST_STAGE} == YAML(typ="safe").load(
        ROOT / "params.yaml").keys()


# clips of four people, one of whom validates and one of whom is for testing alone, and a network of seconds
CLIPS = {
    "fetch": {"lookalike": {"subjects": 4, "test_subjects": 1, "rows": 16, "cols": 24}}, "hdf5": {"clip": {"size": "native"}},
    "window": {"length": 8}, "validate": {"num_samples": 1},
    "model": {"name": "thermal_tiny", "spatial_stride": 4, "hidden": 8, "thermal_tiny": {"width": 4}},
    "train": {"epochs": 2, "select": "last", "patience": 0, "batch_size": 8}, "evaluate": {"bootstrap_samples": 100},
    "runtime": {"processes": 1, "threads": 1, "device": "cpu"},
}


def test_clips_are_an_experiment_like_any_other(tmp_path):
    clone, pipeline = tiny_repository(tmp_path), "pipelines/hri30"
    clone.set_params(CLIPS, f"{pipeline}/params.yaml")
    asleep = tmp_path / "pipelines/.dvcignore"
    asleep.write_text(asleep.read_text().replace("/hri30/\n", ""))
    clone.dvc("repro", f"{pipeline}/dvc.yaml")
    clone.commit("clips")
    seen = [name for name in clone.git("ls-files", pipeline).split() if "metrics" in name or "models" in name]
    assert sorted(Path(name).name for name in seen) == ["dataset_stats.json", "evaluate.json", "model_card.md", "results.md",
                                                        "summary.json", "validation_report.json"]
    named = (tmp_path / pipeline / "metrics/test_predictions.csv").read_text().splitlines()
    assert named[0] == "Video,Predicted_Class,Predicted_Label,Confidence,Top_5" and len(named) == 1 + 30
    said = clone.dvc("exp", "run", f"{pipeline}/dvc.yaml", "-S", f"{pipeline}/params.yaml:coco.split_by=stratified")
    assert "Running stage 'pipelines/hri30/dvc.yaml:coco'" in said and "dvc.yaml:hdf5'" not in said.replace("hdf5' didn't", "")
    assert "subjects stand on both sides" in said
    assert "top1" in clone.dvc("metrics", "diff", "--all")


def test_experiments_compare_parameters_and_bad_ones_are_refused(copy_of_finished):
    clone = copy_of_finished
    said = clone.run("dvc", "exp", "run", "--set-param", "train.lr=0.0005", "--name", "slower")
    assert "Running stage 'train'" in said and "Running stage 'hdf5'" not in said
    shown = clone.run("dvc", "exp", "show", "--csv")
    assert "slower" in shown and "0.0005" in shown
    assert "top1" in clone.run("dvc", "metrics", "diff", "--all")
    assert "train.lr" in clone.run("dvc", "params", "diff")
    assert "file:///" in clone.run("dvc", "plots", "diff")
    clone.run("git", "checkout", "--quiet", ".")
    refused = clone.run("dvc", "exp", "run", "--set-param", "train.lr=true", check=False)
    assert "train.lr = true" in refused and "Traceback" not in refused.split("ERROR: failed to reproduce")[0]
