"""pytest tests/test_train.py - a run that does not resume, or resumes to other numbers, costs a night and then lies about it."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

import train
from conftest import ROOT, Project
from fetch import Fetch
from thermal_action import InputError
from thermal_action.dataset import ThermalActionDataset
from thermal_action.files import write_json
from thermal_action.models import build_model
from thermal_action.params import check_section, read_params
from thermal_action.training.checkpoints import load_model
from thermal_action.training.loaders import carve_inner_side
from thermal_action.training.options import Model, architecture, check_model
from thermal_action.training.recipe import Train, check_recipe
from thermal_action.windows import Windowing
from tiny import SEVEN_ACTIONS, write_archive

TRAIN = {
    "seed": 1, "init": {"source": "scratch", "location": None}, "epochs": 4, "strategy": "full", "classifier_epochs": 0,
    "batch_size": 8, "accumulate": 1, "sampler": "shuffle", "mixup": 0.0, "optimizer": "adamw", "lr": 0.003, "lr_batch": 0,
    "weight_decay": 0.01, "schedule": "cosine", "warmup_epochs": 1.0, "loss": "balanced_softmax", "class_weights": "none",
    "clip_norm": 1.0, "ema": 0.9, "precision": "fp32", "select": "last", "inner_val_fraction": 0.4,
    "inner_split_by": "recording", "patience": 0, "val_every": 1,
    "augment": {"shift_px": 1},
}
MODEL = {"name": "thermal_tiny", "thermal_tiny": {"width": 4}, "spatial_stride": 4, "head": "roi", "classifier": "linear",
         "hidden": 8, "roi_size": 2, "dropout": 0.3, "input": {"background": "window_median", "size": "native"}}
# ways to train that differ in what must survive a crash
MODES = {
    "progressive": {"train": {"strategy": "progressive", "unfreeze_epochs": [2, 3], "mixup": 0.4, "optimizer": "sgd", "lr": 0.05,
                              "precision": "bf16"}},
    "classifier": {"train": {"strategy": "differential", "classifier_epochs": 1, "sampler": "square_root"}},
    "deferred": {"model": {"classifier": "cosine"}, "train": {"loss": "ldam", "class_weights": "effective", "reweight_from": 0.4,
                                                              "accumulate": 2, "ema": 0.0}},
    "early": {"model": {"head": "clip"}, "train": {"select": "inner", "monitor": "loss", "patience": 1, "min_delta": 100.0}},
}


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """Tiny 16x16 recordings of seven actions, through every stage before train."""
    folder = tmp_path_factory.mktemp("validated") / "project"
    folder.mkdir()
    write_archive(folder.parent / "archive")
    project = Project(folder)
    source = {"source": "archive", "archive": {"location": str(folder.parent / "archive"), "sha256": None}}
    project.set({"classes": SEVEN_ACTIONS, "window": {"length": 16}, "validate": {"num_samples": 0}, "fetch": source})
    project.run("fetch", "hdf5", "coco", "validate")
    return folder


@pytest.fixture
def ready(validated, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(validated, tmp_path / "project", symlinks=True)
    (tmp_path / "project" / "stages").unlink()  # which Project sets again
    project = Project(tmp_path / "project")
    project.set({"classes": SEVEN_ACTIONS, "window": {"length": 16}, "model": MODEL, "train": TRAIN})
    monkeypatch.chdir(project.folder)
    return project


def outcome(project):
    """Weights, facts and learning curves of a finished run, which are moved aside."""
    content = torch.load(project.folder / "models/best.pt", weights_only=True)
    curves = {str(path.relative_to(project.folder)): path.read_bytes()
              for path in sorted((project.folder / "metrics/training").rglob("*")) if path.is_file()}
    assert not list((project.folder / ".scratch").glob("train-*")), "a finished run leaves nothing behind"
    shutil.rmtree(project.folder / "models")
    shutil.rmtree(project.folder / "metrics/training")
    return content, curves


def assert_same(one, two):
    (content, curves), (other, other_curves) = one, two
    weights, other_weights = content.pop("state_dict"), other.pop("state_dict")
    assert content == other and curves == other_curves
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def start(project):
    return subprocess.Popen([sys.executable, "stages/train.py"], cwd=project.folder, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)


def kill_after(project, line):
    """Starts training and kills it, without a chance to tidy up, once it has printed `line`."""
    process = start(project)
    for printed in process.stdout:
        if printed.startswith(line):
            break
    else:
        pytest.fail(f"training ended before it printed {line!r}")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_killed_and_resumed_run_equals_an_uninterrupted_one(ready, capsys):
    """Killed in an epoch, while it starts, and after its last epoch: weights, facts and curves are the same."""
    ready.set({"train": {"epochs": 3, "select": "inner", "accumulate": 2}})
    train.main()
    assert "goes on" not in capsys.readouterr().out
    expected = outcome(ready)

    kill_after(ready, "epoch 1/3")
    process = start(ready)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.kill()
    process.communicate()
    kill_after(ready, "epoch 3/3")
    shutil.rmtree(ready.folder / "metrics/training")  # DVC deletes outs before it runs a stage again
    assert "goes on after epoch 3 of 3" in ready.run("train", apart=True).stdout
    assert_same(outcome(ready), expected)


@pytest.mark.parametrize("mode", MODES)
def test_run_goes_on_after_its_last_finished_epoch(ready, capsys, monkeypatch, mode):
    """In every way to train, stopped by an error in every epoch but the first."""
    ready.set({"train": {"epochs": 3}})
    ready.set(MODES[mode])
    train.main()
    last = 2 if mode == "early" else 3
    assert f"{last} epochs; models/best.pt" in capsys.readouterr().out
    expected = outcome(ready)

    whole, reached = train.run_epoch, [1]

    def fail_at_first(epoch, *arguments):
        if epoch not in reached:
            reached.append(epoch)
            raise MemoryError
        return whole(epoch, *arguments)

    monkeypatch.setattr(train, "run_epoch", fail_at_first)
    for _ in range(1, last):
        with pytest.raises(MemoryError):
            train.main()
    capsys.readouterr()
    train.main()
    assert f"goes on after epoch {last - 1} of 3" in capsys.readouterr().out
    assert_same(outcome(ready), expected)


def test_workers_do_not_change_the_result(ready):
    ready.set({"train": {"epochs": 2}})
    train.main()
    expected = outcome(ready)
    ready.set({"runtime": {"workers": 2}})
    train.main()
    assert_same(outcome(ready), expected)


def test_other_parameters_start_anew(ready, capsys, monkeypatch):
    """A run with another learning rate must not go on with the old weights and report the old numbers."""
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_model", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            train.main()
    unfinished = list((ready.folder / ".scratch").glob("train-*"))
    assert len(unfinished) == 1
    ready.set({"train": {"lr": 0.002, "epochs": 1}})
    train.main()
    printed = capsys.readouterr().out
    assert "goes on" not in printed and "epoch 1/1" in printed
    assert list((ready.folder / ".scratch").glob("train-*")) == unfinished


def test_other_starting_weights_start_anew(ready, capsys, monkeypatch):
    """Under the same name, too; and the report tells which of them the network took."""
    ready.set({"train": {"epochs": 1}})
    train.main()
    shutil.move("models/best.pt", "start.pt")
    ready.set({"train": {"seed": 2, "init": {"source": "checkpoint", "location": "start.pt"}}})
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_model", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            train.main()
    content = torch.load("start.pt", weights_only=True)
    content["state_dict"]["head.classify.bias"] += 1
    torch.save(content, "start.pt")
    capsys.readouterr()
    train.main()
    printed = capsys.readouterr().out
    assert "goes on" not in printed and "start.pt" in printed
    assert json.loads(Path("metrics/training/init.json").read_text())["used"] > 10


def test_what_is_kept_of_the_start_comes_back(ready):
    """Half of the way from the start to what was trained without keeping."""
    ready.set({"train": {"epochs": 1}})
    train.main()
    shutil.move("models/best.pt", "start.pt")
    kept = []
    for keep in (0.0, 0.5):
        ready.set({"train": {"init": {"source": "checkpoint", "location": "start.pt", "keep": keep}}})
        train.main()
        kept.append(torch.load("models/best.pt", weights_only=True)["state_dict"])
    begun = torch.load("start.pt", weights_only=True)["state_dict"]
    for name, tensor in kept[1].items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, (begun[name] + kept[0][name]) / 2, atol=1e-6)
    assert not torch.equal(kept[0]["head.classify.bias"], begun["head.classify.bias"])


def test_model_file_and_curves(ready, capsys):
    ready.set({"train": {"epochs": 2, "select": "inner", "val_every": 2}})
    train.main()
    model, info = load_model(ready.folder / "models/best.pt")
    assert info["classes"] == SEVEN_ACTIONS and info["frame_size"] == [16, 16]
    assert info["window"]["length"] == 16 and info["transform"]["background"] == "window_median"
    assert info["training"]["select"] == "inner" and info["training"]["epoch"] in (1, 2)
    assert model(torch.rand(1, 3, 16, 16, 16), [torch.tensor([[0.2, 0.2, 0.6, 0.6]])]).shape == (1, 7)
    plots = ready.folder / "metrics/training/plots/metrics"
    assert {str(path.relative_to(plots)) for path in plots.rglob("*.tsv")} == {
        "lr.tsv", "train/loss.tsv", "train/top1.tsv", "train/finding.tsv", "inner/loss.tsv", "inner/top1.tsv",
        "inner/mean_class.tsv", "val/loss.tsv", "val/top1.tsv", "val/mean_class.tsv"}
    assert (plots / "train/loss.tsv").read_text().startswith("step\tloss\n1\t")
    assert [line.split("\t")[0] for line in (plots / "val/top1.tsv").read_text().splitlines()] == ["step", "2"]
    assert (ready.folder / "metrics/augmentation/augmentation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((ready.folder / "metrics/training/init.json").read_text())["source"] == "scratch"
    assert info["training"]["init"]["source"] == "scratch"
    assert "the best epoch is chosen on" in capsys.readouterr().out and not (ready.folder / "dvc.yaml").exists()


def test_validation_side_decides_nothing(ready):
    """Looking at it more or less often, or at other labels there, must give the same weights: it is what evaluate scores."""
    ready.set({"train": {"epochs": 2, "select": "inner"}})
    train.main()
    expected, _ = outcome(ready)
    ready.set({"train": {"val_every": 0}})
    val = ready.folder / "data/annotations/val.json"
    coco = json.loads(val.read_text())
    for person in coco["annotations"]:
        person["category_id"] = 0
    val.write_text(json.dumps(coco))
    train.main()
    content, _ = outcome(ready)
    assert all(torch.equal(content["state_dict"][name], weights) for name, weights in expected["state_dict"].items())


def test_inner_side_shares_no_frame_with_training(ready):
    """Else the epoch is chosen on frames that were learnt by heart."""
    data = ThermalActionDataset(train.FRAMES, train.ANNOTATIONS / "train.json", None, 16)
    learnt, chosen_by = ([(data.samples[index].mac_address, *data.window_times(index), data.samples[index].recording)
                          for index in side] for side in carve_inner_side(data, 0.4, seed=1))
    assert learnt and chosen_by and not {span[3] for span in learnt} & {span[3] for span in chosen_by}
    assert not any(a[0] == b[0] and a[1] <= b[2] and b[1] <= a[2] for a in learnt for b in chosen_by)

    learnt, chosen_by = carve_inner_side(data, 0.4, seed=1, by="keyframe")  # that of a split that leaks as well
    assert sorted(learnt + chosen_by) == list(range(len(data))) and len(chosen_by) == int(0.4 * len(data))
    assert {data.samples[index].recording for index in learnt} & {data.samples[index].recording for index in chosen_by}


def test_training_refuses_data_that_was_not_validated(ready):
    report = ready.folder / "metrics/validation_report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"ok": False}))
    with pytest.raises(InputError, match="validation_report.json does not say ok"):
        train.main()
    report.unlink()
    with pytest.raises(InputError, match="validation_report.json does not exist"):
        train.main()


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"train": {"lr": True}}, "train.lr = true"),
    ({"train": {"lr": 0.0}}, "train.lr = 0.0"),
    ({"train": {"momentun": 0.9}}, "train.momentun is no parameter"),
    ({"model": {"spatial_stride": 5}}, "model.spatial_stride = 5"),
    ({"model": {"slowfast": {"tau": 6}}}, "model.slowfast.tau 6 must be a multiple of model.slowfast.alpha 4"),
    ({"model": {"slowfast": {"width": 9}}}, "model.slowfast.width 9"),
    ({"model": {"input": {"min_c": 50.0}}}, "min_c 50.0 must be below max_c 45.0"),
    ({"train": {"optimizer": "sgd", "momentum": 0.0}}, "train.nesterov needs"),
    ({"train": {"patience": 3}}, "train.patience 3 needs an inner side"),
    ({"train": {"loss": "ldam"}}, "train.loss ldam .* model.classifier is linear"),
    ({"train": {"init": {"source": "checkpoint"}}}, "train.init"),
    ({"runtime": {"ranks": 3}}, "train.batch_size 8 cannot be shared evenly by 3 processes"),
])
def test_impossible_parameters_are_refused_before_any_work(project, monkeypatch, changes, sentence):
    project.set({"model": MODEL, "train": TRAIN})
    project.set(changes)
    monkeypatch.chdir(project.folder)
    write_json("metrics/validation_report.json", {"ok": True})
    with pytest.raises(InputError, match=sentence):
        train.main()


def test_a_learning_rate_that_explodes_ends_in_a_sentence(ready):
    ready.set({"train": {"optimizer": "sgd", "lr": 10.0, "clip_norm": 0.0, "warmup_epochs": 0.0, "ema": 0.0, "epochs": 200,
                         "loss": "cross_entropy", "schedule": "constant", "val_every": 0, "momentum": 0.99, "weight_decay": 1.0}})
    with pytest.raises(InputError, match=r"became (nan|inf|-inf) in epoch \d+, step \d+, .*: lower train.lr"):
        train.main()


def apply_recipe(name: str) -> tuple[Model, Train]:
    """By the line in its head, `grep -v '#' ... | xargs dvc exp run`; what goes stale would be found after an hour of set-up."""
    words = shlex.split(Path(f"stages/recipes/{name}.txt").read_text(), comments=True)
    assert set(words[::2]) == {"-S"}
    apply_overrides("params.yaml", words[1::2])
    model, recipe = read_params("model", Model), read_params("train", Train)
    check_model(model)
    check_recipe(recipe, model.classifier)
    return model, recipe


def test_pretraining_recipe_is_accepted_as_dvc_would_apply_it(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    default = read_params("model", Model)
    model, recipe = apply_recipe("pretraining")
    assert model == default, "pipelines/transfer starts from it"
    simulator = read_params("fetch", Fetch).simulator
    assert simulator.rooms == 160 and simulator.balance > 0 and recipe.epochs < 10


def test_alarms_recipe_is_accepted_as_dvc_would_apply_it(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    default = read_params("model", Model)
    model, _ = apply_recipe("alarms")
    assert model == default, "as large as what watch.py is measured with"
    assert read_params("window", Windowing).keyframe == 1.0
    simulator = read_params("fetch", Fetch).simulator
    assert simulator.nights == 0.5 and set(simulator.class_weights) <= set(project.params["classes"])


def test_published_recipe_is_accepted_as_dvc_would_apply_it(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    before = project.params
    model, recipe = apply_recipe("published")
    with torch.device("meta"):
        assert build_model(**architecture(model), num_classes=14).inputs.size == (256, 384)
    assert asdict(recipe.augment).keys() == before["train"]["augment"].keys()
    own = {"copy_paste_balance", "flip_horizontal", "brightness", "contrast", "erasing", "crop"}
    assert not any(strength for name, strength in asdict(recipe.augment).items() if name not in own), "one of ours is on"
    assert recipe.peak_lr == 0.005 and recipe.patience == 20 and model.head == "clip"


def test_learning_rate_follows_the_batch():
    """Twice the windows a step, twice the rate; else a larger GPU silently learns more slowly."""
    recipe = YAML(typ="safe").load(ROOT / "params.yaml")["train"] | {"lr": 0.01, "lr_batch": 8, "batch_size": 16, "accumulate": 3}
    assert check_section(recipe, Train, "train").peak_lr == pytest.approx(0.06)
    assert check_section(recipe | {"lr_batch": 0}, Train, "train").peak_lr == 0.01


def test_nothing_is_kept_in_memory_when_asked_so(ready):
    """runtime says how fast, never what: a machine with little memory must get the same model."""
    ready.set({"train": {"epochs": 1}})
    train.main()
    expected = outcome(ready)
    ready.set({"runtime": {"cache_mb": 0}})
    train.main()
    assert_same(outcome(ready), expected)
