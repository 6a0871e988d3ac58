"""pytest tests/test_clips.py - clips of videos through every stage behind hdf5: who is in training is no test of it.

pytest -m slow tests/test_clips.py: the look-alike, and the large networks with every strategy.
"""

import csv
import json
import shlex
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.utils.hydra import apply_overrides
from PIL import Image
from ruamel.yaml import YAML

import evaluate
import train
from conftest import ROOT, Project, call, clips
from hdf5 import Hdf5
from thermal_action.annotations import read_annotations
from thermal_action.dataset import ThermalActionDataset, collate_fn
from thermal_action.params import read_params
from thermal_action.recordings import Recording
from thermal_action.scoring.answers import Respondent
from thermal_action.sources.options import Fetch, check_fetch
from thermal_action.training.checkpoints import load_model
from thermal_action.training.initial import check_init
from thermal_action.training.loaders import carve_inner_side
from thermal_action.training.options import Model, check_model
from thermal_action.training.recipe import Train, check_recipe
from thermal_action.transforms import ThermalActionTransform
from thermal_action.windows import Windowing
from tiny import SEVEN_ACTIONS, write_archive

torch.set_num_threads(1)
COLUMNS = "Video,Predicted_Class,Predicted_Label,Confidence,Top_5"
COLOURS = {"min_c": 0.0, "max_c": 255.0, "background": "absolute", "channels": ["red", "green", "blue"], "size": "native",
           "mean": 0.45, "std": 0.225}
MODEL = {"name": "thermal_tiny", "thermal_tiny": {"width": 4}, "spatial_stride": 4, "head": "clip", "classifier": "linear",
         "hidden": 8, "input": COLOURS}
TRAIN = {"seed": 1, "init": {"source": "scratch", "location": None, "sha256": None}, "epochs": 2, "strategy": "full",
         "classifier_epochs": 0, "batch_size": 8, "sampler": "shuffle", "mixup": 0.0, "optimizer": "adamw", "lr": 0.01,
         "schedule": "cosine", "warmup_epochs": 0.0, "loss": "cross_entropy", "class_weights": "none", "ema": 0.0,
         "select": "inner", "inner_val_fraction": 0.34, "inner_split_by": "subject", "monitor": "both", "patience": 15,
         "min_delta": 0.001, "val_every": 1,
         "augment": {"copy_paste": 0.0, "person_contrast": 0.0, "flip_horizontal": 0.0, "flip_vertical": 0.0, "shift_px": 2,
                     "contrast": 0.2, "offset_c": 0.0, "brightness": 0.2, "noise_c": 0.0, "box_jitter": 0.0}}
EVALUATE = {"focus_class": None, "bootstrap_samples": 100}


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """Tiny clips of seven actions by four subjects, through every stage before train."""
    folder = tmp_path_factory.mktemp("validated") / "project"
    folder.mkdir()
    clips(Project(folder), folder.parent / "videos").run("fetch", "hdf5", "coco", "validate")
    return folder


@pytest.fixture
def ready(project, validated):
    """A copy of it."""
    for part in ("data", "metrics"):
        shutil.copytree(validated / part, project.folder / part)
    clips(project, validated.parent / "videos").set(
        {"model": MODEL, "train": TRAIN, "evaluate": EVALUATE, "validate": {"num_samples": 0}})
    return project


@pytest.fixture
def model_of_clips(ready):
    ready.set({"train": {"epochs": 1, "select": "last", "patience": 0, "val_every": 0}})
    ready.run("train")
    return ready


def read(project, name):
    return json.loads((project.folder / name).read_text())


def side(project, name):
    return read_annotations(project.folder / f"data/annotations/{name}.json", least=0)[0]


def change(project, name, edit):
    path = project.folder / f"data/annotations/{name}.json"
    coco = json.loads(path.read_text())
    edit(coco)
    path.write_text(json.dumps(coco))


# --- coco ---


def test_subjects_change_sides_as_a_whole_and_test_clips_stand_apart(ready):
    train, val, test = (side(ready, name) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (21, 7, 3)
    assert len({sample.subject for sample in train}) == 3 and len({sample.subject for sample in val}) == 1
    assert not {sample.subject for sample in train} & {sample.subject for sample in val}
    for sample in (*train, *val):
        assert sample.boxes.tolist() == [[0, 0, 1, 1]] and sample.labels.tolist() == [int(sample.recording[3:5]) - 1]
        assert (sample.height, sample.width, sample.file_name) == (16, 24, f"{sample.recording}.avi")
    assert {sample.file_name for sample in test} == {"clip 0.mp4", "clip 1.mp4", "clip 2.mp4"}
    assert not any(len(sample.boxes) for sample in test) and {sample.subject for sample in test} == {None}
    info, database = read(ready, "data/annotations/dataset_info.json"), read(ready, "data/annotations/segments.json")["database"]
    assert info["test"]["images"] == 3 and info["test"]["boxes"] == 0 and info["split_by"] == "subject"
    assert Counter(entry["subset"] for entry in database.values()) == {"training": 21, "validation": 7, "testing": 3}


def test_every_subject_validates_once_in_folds(ready):
    validated = []
    for fold in range(4):
        ready.set({"coco": {"folds": 4, "fold": fold}})
        assert f"split by subject, fold {fold} of 4" in ready.run("coco").stdout
        (subject,) = {sample.subject for sample in side(ready, "val")}
        assert subject not in {sample.subject for sample in side(ready, "train")} and len(side(ready, "test")) == 3
        validated.append(subject)
    assert sorted(validated) == ["SID01", "SID02", "SID03", "SID04"]
    ready.set({"coco": {"folds": 5, "fold": 0}})
    assert "finds only 4 groups in 28 keyframes: choose at most 4 folds" in ready.refusal("coco")


def test_a_stratified_split_says_that_it_knows_the_subjects(ready):
    """As published, and easier: who reads its score must be told."""
    ready.set({"coco": {"split_by": "stratified"}})
    ready.run("coco")
    assert Counter(int(sample.labels[0]) for sample in side(ready, "val")) == dict.fromkeys(range(7), 1)
    printed = ready.run("validate").stdout
    report = read(ready, "metrics/validation_report.json")
    shared = {sample.subject for sample in side(ready, "val")} & {sample.subject for sample in side(ready, "train")}
    assert report["ok"] and report["split_by"] == "stratified"
    assert any(f"{len(shared)} subjects stand on both sides, {min(shared)} for one" in warning for warning in report["warnings"])
    assert "that training has seen" in printed
    ready.set({"coco": {"split_by": "subject"}})
    ready.run("coco", "validate")
    assert not any("subject" in warning for warning in read(ready, "metrics/validation_report.json")["warnings"])


def test_one_video_under_two_names_never_stands_on_both_sides(ready, validated, tmp_path):
    # copied by mistake, it would be learned by heart and then scored
    folder = shutil.copytree(validated.parent / "videos", tmp_path / "videos")
    (subject,) = {sample.subject for sample in side(ready, "val")}
    train = min(sample.subject for sample in side(ready, "train"))
    shutil.copyfile(folder / f"train/CID01_{subject}_VID01.avi", folder / f"train/CID01_{train}_VID02.avi")
    shutil.copyfile(folder / f"train/CID02_{train}_VID01.avi", folder / f"train/CID03_{train}_VID02.avi")
    shutil.copyfile(folder / f"train/CID02_{train}_VID01.avi", folder / "test/mine.avi")
    clips(ready, folder).set({"validate": {"num_samples": 0}})
    ready.run("fetch", "hdf5")
    for by in ("stratified", "recording", "subject"):
        ready.set({"coco": {"split_by": by}})
        ready.run("coco")
        devices = [{sample.mac_address for sample in side(ready, name)} for name in ("train", "val")]
        assert devices[1] and not devices[0] & devices[1]
    assert read(ready, "data/annotations/dataset_info.json")["purged"]["recordings"] == [f"CID01_{train}_VID02"]
    ready.run("validate")
    told = " ".join(read(ready, "metrics/validation_report.json")["warnings"])
    assert "1 of 4 windows for testing share frames with those of training and validation" in told
    assert f"CID02_{train}_VID01" in told and "'standing'" in told and "'walking'" in told  # one video, two classes


def test_recordings_of_nobody_known_are_not_split_by_subject(prepared):
    prepared.set({"coco": {"split_by": "subject"}})
    said = prepared.refusal("coco")
    assert "the keyframes of D0_S0 do not say who is recorded: choose recording or session in `coco.split_by`" in said


# --- validate ---


def test_sound_clips_pass_and_are_described_without_temperatures(ready):
    report, stats = read(ready, "metrics/validation_report.json"), read(ready, "metrics/dataset_stats.json")
    assert report["ok"] and not report["problems"] and not report["warnings"]
    assert report["counts"]["frames"] == 31 * 8 and report["counts"]["shared_between_sides"]["frames"] == 0
    assert "temperature" not in stats and (stats["train"]["persons"], stats["test"]["images"]) == (21, 3)
    pictures = sorted((ready.folder / "metrics/validation").iterdir())
    assert len(pictures) == 2
    for path in pictures:
        seen = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(seen, axis=0)) > 100
    for _ in range(2):  # the second time from what the first scan kept
        ready.run("validate")
        assert (read(ready, "metrics/validation_report.json"), read(ready, "metrics/dataset_stats.json")) == (report, stats)


def test_a_subject_on_both_sides_stops_the_pipeline(ready):
    train = side(ready, "train")[0].subject
    change(ready, "val", lambda coco: coco["images"][0].update(subject=train))
    assert ready.run("validate", check=False).returncode == 1
    assert any(f"the split by subject leaks: 1 subjects stand on both sides, {train}" in problem
               for problem in read(ready, "metrics/validation_report.json")["problems"])


def test_a_clip_that_stands_still_is_a_problem(ready):
    import h5py
    with h5py.File(ready.folder / f"data/frames/{side(ready, 'train')[0].recording}.h5", "r+") as file:
        file["frames"][1:] = file["frames"][:1]
    assert ready.run("validate", check=False).returncode == 1
    assert any("repeat the one before" in problem for problem in read(ready, "metrics/validation_report.json")["problems"])


# --- what a model is shown ---


def test_a_model_is_shown_the_colours_of_the_whole_clip(ready):
    data = ThermalActionDataset(ready.folder / "data/frames", ready.folder / "data/annotations/train.json",
                                ThermalActionTransform(False, temperature_range=(0.0, 255.0)),
                                Windowing(length=8, sampling="whole", period_ms=40.0, keyframe=0.5), label_per="clip")
    items = [data[index] for index in (0, 5)]
    for index, (frames, boxes, labels, extras) in zip((0, 5), items, strict=True):
        with Recording(ready.folder / f"data/frames/{data.samples[index].recording}.h5") as recording:
            stored = recording.read(slice(None))
        assert frames.shape == (3, 8, 16, 24) and extras["frame_indices"].tolist() == list(range(8))
        assert torch.allclose(frames, torch.from_numpy(stored).permute(3, 0, 1, 2) / 255, atol=1e-6)
        assert boxes.tolist() == [[0, 0, 1, 1]] and labels.tolist() == data.samples[index].labels.tolist()
    stacked = collate_fn(items)[0]
    assert stacked.shape == (2, 3, 8, 16, 24) and all(torch.equal(stacked[place], item[0]) for place, item in enumerate(items))


def test_the_epoch_is_chosen_by_subjects_who_are_not_trained_on(ready):
    data = ThermalActionDataset(ready.folder / "data/frames", ready.folder / "data/annotations/train.json", None,
                                Windowing(length=8, sampling="whole", period_ms=40.0, keyframe=0.5))
    for seed in range(5):
        sides = carve_inner_side(data, 0.34, seed, by="subject")
        learnt, chosen_by = ({data.samples[index].subject for index in own} for own in sides)
        assert learnt and chosen_by and not learnt & chosen_by and sum(map(len, sides)) == len(data)


# --- train and evaluate ---


def is_picture(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.format == "PNG" and min(picture.size) > 100 and len(set(picture.convert("L").tobytes())) > 5


def check_predictions(project, classes, names):
    """test_predictions.csv as HRI30's users know it."""
    text = (project.folder / "metrics/test_predictions.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(text.splitlines()))
    assert sorted(row["Video"] for row in rows) == sorted(names)
    for row in rows:
        assert classes[int(row["Predicted_Class"]) - 1] == row["Predicted_Label"]
        top = [(entry[: entry.index("(")], float(entry[entry.index("(") + 1 : -1])) for entry in row["Top_5"].split("; ")]
        assert top[0] == (row["Predicted_Label"], float(row["Confidence"])) and len(top) == min(5, len(classes))
        shares = [share for _, share in top]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 1.001 and len({name for name, _ in top}) == len(top)
        assert {name for name, _ in top} <= set(classes)
    return rows


def name_test_clips(project, monkeypatch):
    """What evaluate does beside scoring: the rows of test_predictions.csv, checked."""
    monkeypatch.chdir(project.folder)
    respondent = Respondent(evaluate.MODEL, evaluate.FRAMES, torch.device("cpu"), workers=0, cache_mb=16)
    evaluate.name_test_clips(respondent)
    return check_predictions(project, respondent.info["classes"], [sample.file_name for sample in side(project, "test")])


def check_scores(project, source):
    metrics, summary = read(project, "metrics/evaluate.json"), read(project, "metrics/summary.json")
    assert metrics["baselines"].keys() == {"majority", "nearest_keyframe"} and metrics["reference"].keys() == {"random_forest"}
    assert 0 <= metrics["model"]["top1"] <= metrics["model"]["top5"] <= 1 and "finding" not in metrics
    assert summary["top1"] == metrics["model"]["top1"] and "margin_top1" in summary
    for name in ("confusion", "per_class_recall", "scores", "calibration", "precision_recall"):
        assert is_picture(project.folder / f"metrics/pictures/{name}.png")
    assert is_picture(project.folder / "metrics/training/curves.png")
    card = (project.folder / "models/model_card.md").read_text()
    assert "clips of videos" in card and "in colour" in card and "the two baselines" in card
    assert f"source {source}" in card and "fetch.videos.test" in card
    assert not any(word in card for word in ("thermal sensor", "ceiling", "medical", "predict.py", " C,"))
    return metrics


def test_a_model_of_clips_learns_is_scored_and_names_the_test_clips(ready, validated):
    ready.set({"model": {"hidden": 16}, "train": {"epochs": 20, "lr": 0.003, "val_every": 5, "augment": {"shift_px": 0}}})
    told = ready.run("train").stdout
    assert "train: the best epoch is chosen on 7 of the 21 training windows; 0 that share frames" in told
    model, info = load_model(ready.folder / "models/best.pt")
    assert info["window"]["sampling"] == "whole" and info["model"]["channels"] == ["red", "green", "blue"]
    printed = ready.run("evaluate").stdout
    assert "evaluate: 3 clips for testing alone are named in metrics/test_predictions.csv" in printed
    metrics = check_scores(ready, "videos")
    assert metrics["data"] == {"persons": 7, "clips": 7, "recordings": 7}
    curve = (ready.folder / "metrics/training/plots/metrics/train/top1.tsv").read_text().splitlines()
    assert np.mean([float(line.split("\t")[1]) for line in curve[-5:]]) > 2 / 7  # twice of chance
    rows = check_predictions(ready, SEVEN_ACTIONS, [f"clip {number}.mp4" for number in range(3)])

    # what is said of a clip is what a program is told that asks the same model
    with Recording(ready.folder / "data/frames/test_clip_1.h5") as recording:
        frames = torch.from_numpy(recording.read(slice(None))).permute(3, 0, 1, 2)[None] / 255
    with torch.no_grad():
        probabilities = model(frames, [torch.tensor([[0.0, 0.0, 1.0, 1.0]])]).softmax(dim=1)[0]
    (row,) = [row for row in rows if row["Video"] == "clip 1.mp4"]
    assert float(row["Confidence"]) == pytest.approx(float(probabilities.max()), abs=1e-4)
    assert int(row["Predicted_Class"]) == int(probabilities.argmax()) + 1
    written = {path.name: path.read_bytes() for path in (ready.folder / "metrics").rglob("*") if path.is_file()}
    ready.run("evaluate")
    assert {path.name: path.read_bytes() for path in (ready.folder / "metrics").rglob("*") if path.is_file()} == written


def test_an_empty_test_side_is_an_empty_table(model_of_clips, monkeypatch):
    change(model_of_clips, "test", lambda coco: coco["images"].clear())
    assert len(name_test_clips(model_of_clips, monkeypatch)) == 0
    (model_of_clips.folder / "metrics/test_predictions.csv").unlink()
    (model_of_clips.folder / "data/annotations/test.json").unlink()  # of a source that has no such side
    evaluate.name_test_clips(Respondent(evaluate.MODEL, evaluate.FRAMES, torch.device("cpu"), workers=0, cache_mb=16))
    assert not (model_of_clips.folder / "metrics/test_predictions.csv").exists()


def test_training_stops_when_unseen_subjects_are_named_no_better(ready, monkeypatch, capsys):
    monkeypatch.chdir(ready.folder)
    ready.set({"train": {"epochs": 9, "patience": 2, "min_delta": 2.0, "val_every": 0}})  # no score rises by 2
    train.main()
    assert "3 epochs; models/best.pt holds epoch 1" in capsys.readouterr().out
    ready.set({"train": {"epochs": 4, "patience": 15, "min_delta": 0.001}})
    train.main()
    assert "4 epochs; models/best.pt" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["copy_paste", "person_contrast"])
def test_what_needs_warm_persons_is_refused_before_the_first_epoch(ready, name):
    ready.set({"train": {"augment": {name: 0.3}}})
    assert f"train.augment.{name} tells persons by their warmth, and a video has none: set it to 0" in ready.refusal("train")


def test_subjects_are_needed_to_choose_by_them(ready):
    change(ready, "train", lambda coco: [image.pop("subject") for image in coco["images"]])
    assert "do not say who is recorded" in ready.refusal("train")


# --- the stages that clips have no part in ---


def test_the_other_scripts_say_in_a_sentence_what_clips_are_not(model_of_clips, tmp_path):
    """A traceback would leave their owner to guess; a prediction from a window that a stream happens to hold would be worse."""
    features = YAML(typ="safe").load(ROOT / "pipelines/localization/params.yaml")["features"]
    model_of_clips.set({"features": features})
    thermal = write_archive(tmp_path / "thermal", height=16, width=24, frames=30, devices=1, sessions=1) / "frames/D0_S0.h5"
    coloured = ("data/frames", "data/frames/test_clip_0.h5", "data/raw", "data/raw/frames/test_clip_0")
    asked = [("predict", place, "is a clip of a video in colours") for place in coloured]
    asked += [("features", place, "is a clip of a video in colours") for place in coloured[::3]]
    asked += [(script, thermal, "the model labels whole clips") for script in ("predict", "features")]
    asked += [("predict", "data/raw/frames/test_clip_0/video.mp4", "is no recording"),
              ("export", "models/best.onnx", "the model sees a video in colours")]
    for script, place, words in asked:
        process = call(script, "models/best.pt", place, folder=model_of_clips.folder)
        assert process.returncode == 2 and words in process.stderr.strip().splitlines()[-1], (script, place, process.stderr)
    assert not (model_of_clips.folder / "models/best.onnx").exists()


def test_thermal_channels_of_a_clip_are_those_of_its_red(ready, monkeypatch):
    ready.set({"model": {"input": {"channels": ["temperature", "difference"]}}, "train": {"epochs": 1}})
    ready.run("train")
    assert len(name_test_clips(ready, monkeypatch)) == 3


# --- slow ones ---


NETWORKS = {"slowonly_r50": {}, "cnn_lstm": {"cnn_lstm": {"depth": 18, "hidden": 8, "frames": 4}}}
RECIPES = {
    "frozen, cosine, sgd": {"strategy": "frozen", "schedule": "cosine", "optimizer": "sgd", "momentum": 0.9, "lr": 0.01},
    "differential, step, adamw": {"strategy": "differential", "backbone_lr": 0.1, "schedule": "step", "milestones": [0.5],
                                  "optimizer": "adamw"},
    "progressive, exponential, sgd": {"strategy": "progressive", "unfreeze_epochs": [2], "epochs": 2, "schedule": "exponential",
                                      "gamma": 0.5, "optimizer": "sgd", "momentum": 0.9},
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_pipeline_are_tuned_by_every_strategy(ready, monkeypatch, name, recipe):
    ready.set({"model": {"name": name, "spatial_stride": 32, "input": {"size": "48x72"}, **NETWORKS[name]},
               "train": {"epochs": 1, "batch_size": 4}})
    ready.set({"train": {"select": "last", "patience": 0, **RECIPES[recipe]}})
    ready.run("train")
    _, info = load_model(ready.folder / "models/best.pt")
    assert info["model"]["name"] == name and is_picture(ready.folder / "metrics/training/curves.png")
    if recipe.startswith("progressive"):
        rates = [float(line.split("\t")[1]) for line in
                 (ready.folder / "metrics/training/plots/metrics/lr.tsv").read_text().splitlines()[1:]]
        assert len(rates) == 2 and rates[1] < rates[0]
    if recipe.startswith("frozen"):
        assert len(name_test_clips(ready, monkeypatch)) == 3


def test_the_recipe_for_hri30_itself_is_accepted_as_dvc_would_apply_it(tmp_path, monkeypatch):
    # it needs a GPU and 2,100 videos: what goes stale would be found after an hour of set-up
    words = shlex.split((ROOT / "stages/recipes/hri30.txt").read_text(), comments=True)
    own = "pipelines/hri30/params.yaml:"
    assert set(words[::2]) == {"-S"} and all(word.startswith(own) for word in words[1::2])
    shutil.copy(ROOT / "pipelines/hri30/params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("weights.pyth").touch()
    apply_overrides("params.yaml", [word.removeprefix(own) for word in words[1::2]]
                    + ["train.init.location=weights.pyth", "fetch.videos.train.checksum=md5:" + "0" * 32])
    model, recipe, fetch = read_params("model", Model), read_params("train", Train), read_params("fetch", Fetch)
    check_model(model)
    check_recipe(recipe, model.classifier)
    check_init(recipe.init)
    check_fetch(fetch)
    assert (model.name, fetch.source, recipe.patience, recipe.min_delta) == ("slowonly_r50", "videos", 15, 0.001)
    assert read_params("window", Windowing).length == read_params("hdf5", Hdf5).clip.frames == 32
    assert not recipe.augment.flip_horizontal, "a move to the left would be one to the right"
