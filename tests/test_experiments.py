"""pytest tests/test_experiments.py - seeds, folds and pipelines with the real git and dvc, on tiny recordings."""

import csv
import json
import os
import shutil
import signal
import time
from importlib import import_module
from statistics import fmean, stdev

import pytest

from clones import ROOT, SEVEN, TINY, Clone, tiny_repository
from thermal_action.files import file_sha256, read_json
from tiny import write_archive

# lists in lists, a recipe and a name that is none, as in benchmarks/variants.yaml
VARIANTS = """
.folds: &folds
- coco.folds=$FOLDS
short:
- *folds
- short.txt
"""
RECIPE = """# one epoch
-S train.epochs=1
-S train.lr=0.003
"""
# the same once more by hand: the model of short-s0-f0
SHORT = ["-S", "train.epochs=1", "-S", "train.lr=0.003", "-S", "train.seed=0", "-S", "coco.folds=2"]
NAMES = ["short-s0-f0", "short-s0-f1", "short-s1-f0", "short-s1-f1"]


def list_names(clone: Clone) -> list[str]:
    return sorted(clone.run("dvc", "exp", "list", "--name-only").split())


def compare(clone: Clone, *arguments: str, check: bool = True) -> tuple[str, dict[str, list[str]]]:
    """What benchmarks/experiments.py prints, and the cells of each row of the first table by name."""
    said = clone.run("env", "PYTHONPATH=stages", "python", "benchmarks/experiments.py", *arguments, check=check)
    return said, dict(reversed(read_rows(said)))


def read_rows(said: str) -> list[tuple[str, list[str]]]:
    """Name and cells of each row of all tables."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("|")]
    return [(name, cells) for name, *cells in rows]


def sweep(clone: Clone, *arguments: str, check: bool = True) -> str:
    return clone.run("env", "FOLDS=2", "python", "benchmarks/sweep.py", "variants.yaml", *arguments, "--seeds", "0", "1",
                     check=check)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Clone:
    """A repository in which a variant was trained with two seeds on both folds, by a sweep that was killed once."""
    clone = tiny_repository(tmp_path_factory.mktemp("experiments") / "clone")
    for file in ("params.yaml", "pipelines/transfer/params.yaml"):
        clone.set_params(TINY, file)
        clone.set_params({"validate": {"num_samples": 0}, "runtime": {"threads": 1}}, file)
    (clone.folder / "variants.yaml").write_text(VARIANTS)
    (clone.folder / "short.txt").write_text(RECIPE)
    clone.commit("variants")
    first = clone.start("python", "benchmarks/sweep.py", "variants.yaml", "--seeds", "0", "1", FOLDS="2")
    while NAMES[0] not in list_names(clone):
        assert first.poll() is None, first.communicate()
        time.sleep(1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert NAMES[0] not in sweep(clone)
    return clone


@pytest.fixture(scope="module")
def hits(swept) -> dict[str, list[bool]]:
    """Whether the model named each validation person rightly, of each experiment."""
    answers = {name: csv.DictReader(read_file(swept, name, "metrics/predictions.csv").splitlines()) for name in NAMES}
    return {name: [row["true"] == row["predicted"] for row in rows] for name, rows in answers.items()}


def read_file(clone: Clone, experiment: str, path: str) -> str:
    clone.run("dvc", "get", ".", path, "--rev", experiment, "--out", "got")
    text = (clone.folder / "got").read_text()
    (clone.folder / "got").unlink()
    return text


@pytest.mark.nightly
def test_a_sweep_runs_each_seed_and_fold_once_and_leaves_the_working_tree_alone(swept):
    # else an interrupted sweep would begin anew, or its parameters would leak into the next experiment
    assert list_names(swept) == NAMES
    assert swept.run("git", "status", "--porcelain") == ""
    assert "sweep:" not in sweep(swept)
    assert "no variant long" in sweep(swept, "long", check=False)


@pytest.mark.nightly
def test_a_queue_tries_every_choice(finished, tmp_path):
    clone = Clone(shutil.copytree(finished.folder, tmp_path / "clone", symlinks=True))
    clone.dvc("exp", "run", "--queue", "-S", "train.lr=choice(0.002,0.008)", "-S", "train.epochs=1")
    clone.dvc("queue", "start")
    while "Running" in (said := clone.dvc("queue", "status")) or "Queued" in said:
        time.sleep(2)
    assert said.count("Success") == 2, said
    shown = csv.DictReader(clone.dvc("exp", "show", "--csv").splitlines())
    assert {"0.002", "0.008"} < {row["train.lr"] for row in shown}


def test_a_seed_is_both_pipelines_and_folds_are_those_of_the_one_that_is_scored(monkeypatch):
    # else the spread over seeds would leave out that of what they start from, which is larger
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    own = "pipelines/transfer/params.yaml:"
    runs = dict(import_module("sweep").list_runs({"v": ["train.epochs=6", f"{own}coco.folds=2"]}, [0, 1], "pipelines/transfer"))
    assert list(runs) == ["v-s0-f0", "v-s0-f1", "v-s1-f0", "v-s1-f1"]
    assert runs["v-s1-f0"] == ["train.epochs=6", f"{own}coco.folds=2", "train.seed=1", f"{own}train.seed=1", f"{own}coco.fold=0"]


@pytest.mark.nightly
def test_the_table_scores_all_folds_as_one_side_and_tells_the_spread_over_seeds(swept, hits):
    # a mean over folds of unlike size, or a single lucky seed, would be published
    top1 = [100 * fmean(hits[f"short-s{seed}-f0"] + hits[f"short-s{seed}-f1"]) for seed in (0, 1)]
    costs = {"thermal_tiny crop": {"parameters": 123456, "gmac": 0.25, "ms": 7.6}}
    (swept.folder / "models.json").write_text(json.dumps({"models": costs}))
    said, rows = compare(swept, "--benchmark", "models.json")
    assert "split by session, 2 folds pooled; focus: lying down-lying with risk" in said
    assert rows["%"][:2] == ["seeds", "top-1"] and rows["%"][-5:-2] == ["parameters", "GMAC", "ms a window"]
    assert rows["short"][:2] == ["2", f"{fmean(top1):.1f} ± {stdev(top1):.1f}"]
    assert rows["short"][-5:] == ["123,456", "0.25", "8", "-", "-"]
    assert set(rows) - {"%", "---", "warm components"} == {"short", "majority", "nearest keyframe", "box position", "background",
                                                           "random forest"}
    (swept.folder / "models.json").unlink()
    assert "no finished experiment of that name" in compare(swept, "long", check=False)[0]


@pytest.mark.nightly
def test_how_persons_were_found_is_a_mean_of_the_folds(swept):
    found = {name: json.loads(read_file(swept, name, "metrics/evaluate.json"))["finding"] for name in NAMES}
    said, _ = compare(swept)
    cells = dict(read_rows(said))
    recall = [100 * fmean(found[f"short-s{seed}-f{fold}"]["model"]["recall"] for fold in (0, 1)) for seed in (0, 1)]
    assert cells["%"][5] == "recall" and cells["short"][5] == f"{fmean(recall):.1f} ± {stdev(recall):.1f}"
    warm = 100 * fmean(one["warm_components"]["recall"] for one in found.values())
    assert cells["warm components"][5] == f"{warm:.1f}"


@pytest.mark.nightly
def test_without_the_cache_the_table_says_that_it_averages(swept, hits):
    cache = swept.folder / ".dvc/cache"
    top1 = [fmean(100 * fmean(hits[f"short-s{seed}-f{fold}"]) for fold in (0, 1)) for seed in (0, 1)]
    cache.rename(swept.folder / "elsewhere")
    said, rows = compare(swept)
    (swept.folder / "elsewhere").rename(cache)
    assert "mean of 2 folds (predictions are in no cache)" in said
    assert rows["short"][:2] == ["2", f"{fmean(top1):.1f} ± {stdev(top1):.1f}"]


@pytest.mark.nightly
def test_training_on_simulation_and_then_on_recordings_is_one_experiment(swept):
    clone, transfer = swept, swept.folder / "pipelines/transfer"
    archive = write_archive(clone.folder.parent / "archive", classes=SEVEN)
    dvcignore = clone.folder / "pipelines/.dvcignore"
    dvcignore.write_text(dvcignore.read_text().replace("/transfer/\n", ""))
    said = clone.run("dvc", "exp", "run", "pipelines/transfer/dvc.yaml", "--name", "transfer", *SHORT,
                     "-S", f"pipelines/transfer/params.yaml:fetch.archive.location={archive}")
    assert said.index("Stage 'train' is cached") < said.index("Running stage 'pipelines/transfer/dvc.yaml:train'")
    assert list_names(clone) == [*NAMES, "transfer"]
    started = read_json(transfer / "metrics/training/init.json")
    assert started["source"] == "checkpoint" and started["sha256"] == file_sha256(clone.folder / "models/best.pt")
    data = read_json(transfer / "metrics/evaluate.json")["data"]
    assert data["recordings"] < 4 and data["persons"] > 0
    said, rows = compare(clone, "transfer", "--pipeline", "pipelines/transfer")
    assert "archive, split by session" in said and rows["transfer"][0] == "1"

    clone.set_params({"train": {"lr": 0.001}})
    stale = clone.run("dvc", "repro", "--dry", "pipelines/transfer/dvc.yaml")
    assert "Running stage 'train'" in stale and "Stage 'pipelines/transfer/dvc.yaml:hdf5' didn't change" in stale
    clone.run("git", "checkout", ".")


def test_an_experiment_that_is_still_running_is_left_out(monkeypatch, capsys):
    # until it ends it shows the numbers of the commit that it began at
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    experiments = import_module("experiments")
    data = {"timestamp": None, "metrics": {"metrics/summary.json": {"data": {"top1": 1.0}}}}
    running = {"revs": [{"name": "v-s0", "rev": "0" * 40, "data": data}], "executor": {"state": "running"}}
    monkeypatch.setattr(experiments, "ask", lambda *_: json.dumps([{"experiments": None}, {"experiments": [running]}]))
    assert experiments.read_experiments("", [], all_commits=False) == []
    assert "v-s0 is still running" in capsys.readouterr().err


@pytest.mark.nightly
def test_experiments_of_one_name_with_other_parameters_are_refused(swept):
    # the mean of two different things would stand in the table under one name
    swept.run("dvc", "exp", "remove", "short-s1-f1")
    said, rows = compare(swept, "short")
    assert "short, seed 1: 1 of 2 folds: left out" in said and rows["short"][0] == "1"
    swept.run("dvc", "exp", "apply", "short-s0-f0")
    swept.set_params({"train": {"lr": 0.5}})
    swept.run("dvc", "exp", "save", "--name", "short-s2-f0", "--include-untracked", "metrics/evaluate.json")
    assert "short-s2-f0 differ in more than train.seed and coco.fold" in compare(swept, "short", check=False)[0]
