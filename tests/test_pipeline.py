"""pytest tests/test_pipeline.py - the whole pipeline with the real git and dvc in temporary clones, on tiny recordings."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, merge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEVEN = ["sitting", "standing", "walking", "lying down-lying with risk", "transition-normal transition",
         "lower position-bending", "other"]
# a 16x16 sensor with 7 actions: what a user changes is params.yaml alone
TINY = {
    "classes": SEVEN,
    "fetch": {"page_frames": 100, "buffer_frames": 16,
              "simulator": {"rooms": 2, "sessions": 2, "recordings": 1, "seconds": 20.0, "rows": 16, "cols": 16, "people": 1,
                            "class_weights": {name: 1.0 for name in SEVEN}}},
    "window": {"length": 16},
    "validate": {"num_samples": 1, "limits": {"max_cold_share": 1.0}},
    "model": {"hidden": 16, "slowfast": {"width": 8, "tau": 4, "alpha": 2}},
    "train": {"epochs": 2, "batch_size": 8, "val_every": 1},
    "evaluate": {"bootstrap_samples": 100},
    "runtime": {"processes": 1, "workers": 0, "threads": 1, "device": "cpu"},
}


class Clone:
    """A Git clone with DVC in which commands run with this environment's python first."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        process = subprocess.run(command, cwd=self.folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        assert not check or process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
        return process.stdout + process.stderr

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", message)

    def locked_hashes(self) -> dict[str, str]:
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}

    def metrics(self) -> dict:
        return json.loads((self.folder / "metrics/evaluate.json").read_text())


def tiny_repository(folder: Path) -> Clone:
    """The files Git knows of, with tiny parameters, committed."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).exists() and name != "dvc.lock" and not name.startswith("metrics/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    merge(params, TINY)
    yaml.dump(params, folder / "params.yaml")
    clone = Clone(folder)
    clone.run("git", "init", "--quiet")
    clone.commit("tiny")
    return clone


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Clone:
    """A repository in which `dvc repro` has run and its result is committed."""
    clone = tiny_repository(tmp_path_factory.mktemp("first"))
    clone.run("dvc", "repro")
    clone.commit("first result")
    return clone


def test_a_sensor_of_16x16_with_seven_actions_needs_params_alone(first):
    recording = next((first.folder / "data/frames").glob("*.h5"))
    import h5py
    with h5py.File(recording) as file:
        assert file["frames"].shape[1:] == (16, 16)
    assert json.loads((first.folder / "data/annotations/class_mapping.json").read_text())["classes"] == SEVEN
    metrics = first.metrics()
    assert 0 <= metrics["model"]["top1"] <= 1
    assert set(metrics["baselines"]) == {"majority", "nearest_keyframe", "box_position", "background"}


def test_a_second_repro_does_nothing(first):
    assert "Data and pipelines are up to date" in first.run("dvc", "repro")
    assert "Data and pipelines are up to date" in first.run("dvc", "repro", "--allow-missing", "--dry")
    assert first.run("git", "status", "--porcelain") == ""


def test_git_never_sees_data_or_models(first):
    tracked = first.run("git", "ls-files").split("\n")
    assert not [name for name in tracked if name.endswith((".h5", ".pt", ".jsonl", ".png", ".csv"))]


def test_another_clone_computes_the_same_data_and_the_same_metrics(first, tmp_path):
    second = tiny_repository(tmp_path)
    second.run("dvc", "repro")
    assert first.locked_hashes() == second.locked_hashes()
    assert first.metrics() == second.metrics()


def test_experiments_compare_parameters_and_bad_ones_are_refused(first, tmp_path):
    clone = Clone(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(first.folder), str(clone.folder)], check=True)
    shutil.copytree(first.folder / ".dvc/cache", clone.folder / ".dvc/cache")
    clone.run("dvc", "checkout")
    said = clone.run("dvc", "exp", "run", "--set-param", "train.lr=0.0005", "--name", "slower")
    assert "Running stage 'train'" in said and "Running stage 'hdf5'" not in said
    shown = clone.run("dvc", "exp", "show", "--csv")
    assert "slower" in shown and "0.0005" in shown
    assert "model.top1" in clone.run("dvc", "metrics", "diff", "--all")
    assert "train.lr" in clone.run("dvc", "params", "diff")
    assert "file:///" in clone.run("dvc", "plots", "diff")
    clone.run("git", "checkout", "--quiet", ".")
    refused = clone.run("dvc", "exp", "run", "--set-param", "train.lr=true", check=False)
    assert "train.lr = true" in refused and "Traceback" not in refused.split("ERROR: failed to reproduce")[0]


def test_a_teammate_pulls_and_has_nothing_to_do(first, tmp_path):
    first.run("dvc", "remote", "add", "--default", "--force", "storage", str(tmp_path / "storage"))
    first.run("dvc", "push")
    second = Clone(tmp_path / "second")
    subprocess.run(["git", "clone", "--quiet", str(first.folder), str(second.folder)], check=True)
    shutil.copy(first.folder / ".dvc/config", second.folder / ".dvc/config")
    second.run("dvc", "pull")
    assert "Data and pipelines are up to date" in second.run("dvc", "repro")
    assert (second.folder / "models/best.pt").exists() and second.metrics() == first.metrics()
    first.run("git", "checkout", "--quiet", ".dvc/config")
