"""make mmaction2 - without these, MMAction2 could learn nothing from our windows, or be scored by other rules than ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mmaction
import numpy as np
import pytest
import torch
from handed import CONFIGS, EMPTY, Losses, build_runner, configure, data  # noqa: F401
from mmaction.evaluation import ava_eval
from mmaction.registry import METRICS
from mmengine.evaluator import BaseMetric
from test_handed_data import SIZE, others_than_empty, ours, write_proposals

from conftest import ROOT
from thermal_action import InputError
from thermal_action.annotations import clip_label, read_annotations
from thermal_action.ava import key_of, write_detections, write_label_map, write_truth
from thermal_action.scoring.baselines import find_persons
from thermal_action.scoring.classification import score_classification
from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map
from thermal_action.scoring.finding import Found, summarise_finding
from thermal_action.scoring.rows import present
from thermal_action.scoring.tables import Persons, summarise

TOOLS = Path(mmaction.__file__).parent / ".mim/tools"
STEPS = 10


def learn_by_heart(kind, data, work):  # noqa: F811
    """A run of ten steps on the same four windows, without augmentation: (runner, losses, scores of the validation side)."""
    config = configure(kind, data, work)
    config.train_cfg.update(max_epochs=STEPS, val_begin=STEPS + 1)
    config.param_scheduler, config.optim_wrapper.optimizer.lr = [], 0.005
    config.train_dataloader.batch_size = 4
    config.train_dataloader.dataset.update(indices=4, augment=None)
    head = config.model.cls_head if kind == "recognition" else config.model.roi_head.bbox_head
    head.dropout_ratio = 0
    runner, losses = build_runner(config), Losses()
    runner.register_hook(losses)
    runner.train()
    return runner, losses.seen, runner.val()


@pytest.fixture(scope="module")
def recognition(data, tmp_path_factory):  # noqa: F811
    return learn_by_heart("recognition", data, tmp_path_factory.mktemp("recognition"))


@pytest.fixture(scope="module")
def detection(data, tmp_path_factory):  # noqa: F811
    return learn_by_heart("detection", data, tmp_path_factory.mktemp("detection"))


@pytest.mark.parametrize("kind", ["recognition", "detection"])
def test_the_runner_learns_our_windows(kind, request):
    runner, losses, _ = request.getfixturevalue(kind)
    assert runner.iter == STEPS == len(losses) and np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.5 * losses[0], losses
    assert type(runner.model).__name__ == {"recognition": "Recognizer3D", "detection": "FastRCNN"}[kind]
    assert type(runner.model).__name__ != "FastRCNN" or type(runner.model.roi_head).__name__ == "AVARoIHead"


def normalised(runner, frames):
    preprocess = runner.model.data_preprocessor
    return (frames - preprocess.mean) / preprocess.std


@torch.no_grad()
def test_recognition_is_scored_as_we_score(data, recognition):  # noqa: F811
    """Its own network on our data set's tensors, under our functions, says what the Runner said."""
    runner, _, said = recognition
    own = ours(data)
    runner.model.eval()
    answers, labels = [], []
    for index in others_than_empty(own):
        frames, _, truth, _ = own[index]
        answers.append(runner.model(normalised(runner, frames)[None, None], stage="head")[0].softmax(0).double().numpy())
        labels.append(clip_label(truth.tolist()))
    scores = score_classification(np.stack(answers), np.array(labels))
    expected = {"top1": scores.top1, "top5": scores.top5, "mean_class": scores.mean_class, "macro_f1": scores.macro_f1,
                "ece": scores.calibration_error, "nll": scores.negative_log_likelihood}
    assert said == pytest.approx({f"thermal/{name}": value for name, value in expected.items()}, abs=2e-6)


@torch.no_grad()
def test_detection_is_scored_as_we_score(data, detection):  # noqa: F811
    runner, _, said = detection
    own, model = ours(data), runner.model
    model.eval()
    answers = []
    for index in others_than_empty(own):
        frames, boxes, *_ = own[index]
        rois = torch.cat([torch.zeros(len(boxes), 1), boxes * SIZE], dim=1)
        features, _ = model.roi_head.bbox_roi_extractor(model.backbone(normalised(runner, frames)[None]), rois)
        answers.append(model.roi_head.bbox_head(features).softmax(1).double().numpy())
    persons = Persons(*find_persons(own.samples), classes=own.classes)
    expected = summarise(np.concatenate(answers), persons)
    assert {"top1", "mean_class", "map50", "map30", "clip_top1"} <= expected.keys()
    assert said == pytest.approx({f"thermal/{name}": value for name, value in expected.items()}, abs=2e-6)


def tool(name, *arguments, data, folder):  # noqa: F811
    """MMAction2's own script, as it comes in its wheel."""
    environment = {"PYTHONPATH": str(ROOT / "stages"), "THERMAL_DATA": str(data), "THERMAL_CLASSES": "14", "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-W", "ignore", str(TOOLS / f"{name}.py"), *map(str, arguments)], cwd=folder,
                             capture_output=True, text=True, env=os.environ | environment)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return process.stdout + process.stderr


@pytest.mark.parametrize("kind", ["recognition", "detection"])
def test_mmaction2s_own_scripts_train_resume_and_test(data, tmp_path, kind):  # noqa: F811
    config, work = CONFIGS / f"slowfast_r50_{kind}.py", tmp_path / "work"
    few = ["train_dataloader.dataset.indices=4", "train_dataloader.batch_size=2", "train_cfg.val_interval=2"]
    tool("train", config, "--work-dir", work, "--cfg-options", *few, "train_cfg.max_epochs=1", data=data, folder=tmp_path)
    said = tool("train", config, "--work-dir", work, "--resume", "--cfg-options", *few, "train_cfg.max_epochs=2", data=data,
                folder=tmp_path)
    assert "resumed from the latest checkpoint" in said and "Epoch(train) [2][2/2]" in said
    # nothing but weights, numbers and texts: no pickle of anybody's classes
    assert torch.load(work / "epoch_2.pth", weights_only=True)["meta"]["epoch"] == 2
    trained = re.findall(r"thermal/(\w+): ([\d.]+)", said)
    tested = re.findall(r"thermal/(\w+): ([\d.]+)", tool("test", config, work / "epoch_2.pth", "--work-dir", work, data=data,
                                                         folder=tmp_path))
    assert tested == trained and {"top1", "mean_class"} <= dict(tested).keys()
    assert ("map50" in dict(tested)) == (kind == "detection")


class Answers(BaseMetric):
    """What the network said, as detections for an AVA csv."""

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            boxes, scores = (sample["pred_instances"][name].numpy() for name in ("bboxes", "scores"))
            self.results.append(([(sample["video_id"], sample["timestamp"])] * len(boxes), boxes, scores[:, 1:]))

    def compute_metrics(self, results):
        images, boxes, scores = zip(*results, strict=True)
        self.rows = detect_in_boxes(sum(images, []), np.concatenate(boxes), np.concatenate(scores).astype(np.float64))
        return {}


def test_both_evaluations_beside_each_other_in_one_run(data, tmp_path, monkeypatch):  # noqa: F811
    """As for AVA itself: sigmoids and a background's column; our annotations for our metric, their export for MMAction2's."""
    samples, classes = read_annotations(data / "annotations/val.json")
    truth, labels, found = (str(tmp_path / name) for name in ("val.csv", "actions.pbtxt", "found.csv"))
    write_truth(truth, samples)
    write_label_map(labels, classes)
    config = configure("detection", data, tmp_path / "work")
    config.model.roi_head.bbox_head.update(background_class=True, multilabel=True, num_classes=15)
    config.val_dataloader.dataset.background_class = True
    config.val_evaluator = [config.val_evaluator, {"type": "AVAMetric", "ann_file": truth, "label_file": labels,
                                                   "exclude_file": None, "num_classes": 15}]
    runner = build_runner(config)
    loop = runner.val_loop
    loop.evaluator.metrics.append(answers := Answers())
    monkeypatch.chdir(tmp_path)  # AVAMetric writes a file where it stands
    said = runner.val()
    assert "thermal/top1" in said and "thermal/ece" not in said  # sigmoids are no probabilities of one action
    write_detections(found, answers.rows)
    theirs = ava_eval(found, "mAP", labels, truth, None, verbose=False)["overall"]
    assert 0.05 < theirs < 1 and said["thermal/map50"] == pytest.approx(theirs, abs=1e-6)
    assert 0 < said["mAP/overall"] <= 1  # of four decimals, in which a network that has learned nothing says the same of all


def ask(metric, results):
    """What the Runner does with the answers (video, timestamp, other fields) of its windows."""
    metric.process(None, [{"video_id": key[0], "timestamp": key[1], **fields} for key, fields in results])
    return {name.removeprefix("thermal/"): value for name, value in metric.evaluate(len(results)).items()}


def test_right_answers_have_a_hundred_percent_and_others_what_our_functions_say(data):  # noqa: F811
    path = data / "annotations/val.json"
    samples, classes = read_annotations(path)
    generator = np.random.default_rng(0)
    for shape, right in ((14, True), (14, False), (15, False)):  # with a background's column, of whose share nothing is left
        answers = [generator.dirichlet(np.ones(shape), len(sample.boxes)) for sample in samples]
        if shape == 15:
            for answer in answers:
                answer[:, 1:] *= generator.uniform(0.01, 1, (len(answer), 1))
        if right:
            answers = [np.eye(14)[sample.labels] for sample in samples]
        said = ask(METRICS.build({"type": "ThermalPersonMetric", "ann_file": path}), [
            (key_of(sample), {"pred_instances": {"bboxes": torch.from_numpy(sample.boxes), "scores": torch.from_numpy(answer)}})
            for sample, answer in zip(samples, answers, strict=True) if len(sample.boxes)])
        actions = np.concatenate(answers)[:, -14:]
        persons = Persons(*find_persons(samples), classes=classes)
        expected = summarise(actions / actions.sum(axis=1, keepdims=True), persons)
        if shape == 15:
            keyframes = persons.places.keyframe.tolist()
            truth = LabelledBoxes(keyframes, persons.places.boxes, persons.labels)
            detections = detect_in_boxes(keyframes, persons.places.boxes, actions)
            raw = {f"map{round(100 * iou)}": frame_map(truth, detections, 14, iou).mean for iou in (0.5, 0.3)}
            assert present(raw) != {name: expected[name] for name in raw}
            expected = {name: value for name, value in (expected | present(raw)).items() if name not in ("ece", "nll")}
        assert said == expected
        assert not right or said["top1"] == said["map50"] == said["clip_mean_class"] == 1.0


def test_persons_of_windows_without_proposals_are_missed(data, tmp_path):  # noqa: F811
    """The truth is the whole file, whatever the data set showed, as in the official evaluation."""
    path = data / "annotations/val.json"
    samples, _ = read_annotations(path)
    write_proposals(tmp_path / "found.csv", samples, chosen=[0, EMPTY])
    boxes = np.concatenate([samples[0].boxes, [[0.8, 0.8, 0.9, 0.9]]]).astype(np.float32)
    shown = {0: boxes, EMPTY: np.array([[0.1, 0.1, 0.2, 0.2]], np.float32)}
    answers = {number: np.full((len(each), 14), 1 / 14) for number, each in shown.items()}
    sure = {number: np.linspace(0.9, 0.4, len(each)) for number, each in shown.items()}
    said = ask(METRICS.build({"type": "ThermalPersonMetric", "ann_file": path, "boxes": "proposed"}), [
        (key_of(samples[number]), {"pred_instances": {"bboxes": torch.from_numpy(shown[number]),
                                                      "scores": torch.from_numpy(answers[number])},
                                   "proposal_scores": sure[number]}) for number in shown])
    nobody = np.empty((0, 4), np.float32), np.empty(0)
    found = Found.gather([(shown[number], sure[number]) if number in shown else nobody for number in range(len(samples))],
                         np.concatenate(list(answers.values())))
    assert said == present(summarise_finding(found, samples, 14, 0.3))
    persons = sum(len(sample.boxes) for sample in samples)
    assert said["recall"] == pytest.approx(len(samples[0].boxes) / persons, abs=1e-6)
    assert said["precision"] == pytest.approx(len(samples[0].boxes) / (len(boxes) + 1), abs=1e-6)


def test_answers_about_others_are_refused_in_a_sentence(data):  # noqa: F811
    path = data / "annotations/val.json"
    samples, _ = read_annotations(path)

    def answer(sample, boxes=None, classes=14):
        boxes = sample.boxes if boxes is None else boxes
        return key_of(sample), {"pred_instances": {"bboxes": torch.from_numpy(boxes),
                                                   "scores": torch.full((len(boxes), classes), 1 / classes)}}
    settings = {"type": "ThermalPersonMetric", "ann_file": path}
    whole = [answer(sample) for sample in samples if len(sample.boxes)]
    for results, sentence in (
        (whole[1:], "not those of the .* persons"),
        ([answer(samples[0], samples[0].boxes + 0.01), *whole[1:]], "not those of the .* persons"),
        ([(("R9", 1), whole[0][1])], r"has no keyframe \('R9', 1\): give data set and metric the same"),
        ([answer(samples[0], classes=80)], "answers with 80 classes, .* has 14: set num_classes"),
    ):
        with pytest.raises(InputError, match=sentence):
            ask(METRICS.build(settings), results)


def test_the_configurations_are_the_same_network_as_ours(data, tmp_path):  # noqa: F811
    """As wide and as long as model.name slowfast_r50 with plain lateral convolutions: weights go from one to the other."""
    from thermal_action.models import build_model
    from thermal_action.training.public_weights import rename
    own = build_model("slowfast_r50", num_classes=14, head="clip", spatial_stride=32, channels=["temperature"] * 3,
                      mean=0.3, std=0.1, backbone={"lateral": "plain"})
    theirs = build_runner(configure("recognition", data, tmp_path)).model.eval()
    weights = theirs.state_dict()
    own.backbone.load_state_dict({new.removeprefix("backbone."): weights[name] for name, new in
                                  rename("mmaction2", weights).items() if new})
    frames, preprocess = ours(data)[0][0][None], theirs.data_preprocessor
    with torch.no_grad():
        said = theirs((frames - preprocess.mean)[:, None] / preprocess.std, stage="backbone")
        same = own.eval().backbone(own.inputs(frames))
    assert [one.shape for one in said] == [one.shape for one in same]
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(said, same, strict=True))


def test_the_log_of_a_run_holds_our_scores(recognition):
    runner, _, said = recognition
    (log,) = Path(runner.work_dir).glob("*/vis_data/scalars.json")
    assert any(json.loads(line).get("thermal/top1") == said["thermal/top1"] for line in log.read_text().splitlines())
