"""pytest tests/test_localization.py - without these, ActionFormer trains and prints a mAP, and the mAP is wrong.

The settings, losses, weights and detections are those of the package `actionformer`, which is the published method.
"""

import copy
import functools
import json
import operator
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train_actionformer_wrapper
from conftest import ROOT, call
from planted import plant
from thermal_action import InputError
from thermal_action.files import read_json, write_json

pytest.importorskip("actionformer", reason="actionformer is not installed: `make localize`")
from actionformer import ANETdetection, ModelEma, make_meta_arch, validate_config  # noqa: E402
from actionformer.datasets import make_data_loader, make_dataset  # noqa: E402
from actionformer.utils import fix_random_seed, make_optimizer, make_scheduler, train_one_epoch, valid_one_epoch  # noqa: E402

from thermal_action.localization import checkpoints, engine, inference, scores  # noqa: E402
from thermal_action.localization.data import Data, find_places, open_data  # noqa: E402
from thermal_action.localization.samples import ThermalSegments  # noqa: E402
from thermal_action.localization.templates import TEMPLATES, Template, build_config, choose_template, over  # noqa: E402

torch.set_num_threads(1)
COMMAND = [sys.executable, str(ROOT / "stages/train_actionformer_wrapper.py")]
CPU = torch.device("cpu")

# configs/*.yaml of happyharrycn/actionformer_release at 61ea7eb
COMMON = {
    "opt.type": "AdamW", "opt.weight_decay": 0.05, "opt.schedule_type": "cosine", "opt.warmup": True, "opt.warmup_epochs": 5,
    "train_cfg.clip_grad_l2norm": 1.0, "train_cfg.cls_prior_prob": 0.01, "train_cfg.center_sample": "radius",
    "train_cfg.center_sample_radius": 1.5, "train_cfg.droppath": 0.1, "test_cfg.nms_method": "soft",
    "test_cfg.pre_nms_thresh": 0.001, "test_cfg.iou_threshold": 0.1, "test_cfg.min_score": 0.001, 
    "model.backbone_type": "convTransformer", "model.fpn_type": "identity", "init_rand_seed": 1234567891,
    "dataset.crop_ratio": [0.9, 1.0],
}
RANGES = [[0, 4], [4, 8], [8, 16], [16, 32], [32, 64], [64, 10000]]
COLUMNS = (
    "dataset.input_dim", "dataset.feat_stride", "dataset.num_frames", "dataset.default_fps", "dataset.num_classes",
    "dataset.file_ext", "dataset.file_prefix", "train_split", "val_split", "dataset.max_seq_len", "dataset.force_upsampling",
    "dataset.trunc_thresh", "model.n_mha_win_size", "model.backbone_arch", "model.regression_range", "model.embd_dim",
    "model.fpn_dim", "model.head_dim", "model.use_abs_pe", "opt.learning_rate", "opt.epochs", "loader.batch_size",
    "train_cfg.init_loss_norm", "train_cfg.label_smoothing", "train_cfg.loss_weight", "train_cfg.dropout",
    "test_cfg.pre_nms_topk", "test_cfg.max_seg_num", "test_cfg.nms_sigma", "test_cfg.voting_thresh", "test_cfg.multiclass_nms",
    "test_cfg.duration_thresh", "model.max_buffer_len_factor", "model.n_head",
)
SPLITS = (["training"], ["validation"])


def anet(channels: int, fps: int) -> tuple:
    return (channels, 16, 16, fps, 1, ".npy", "v_", *SPLITS, 192, True, 0.5, [7, 7, 7, 7, 7, -1], [2, 2, 5], RANGES, 256, 256,
            256, True, 1e-3, 10, 16, 200, 0.1, 2.0, 0.0, 2000, 100, 0.75, 0.9, False, 0.001, 1.0, 4)


def epic(classes: int, smoothing: float) -> tuple:
    return (2304, 16, 32, 30, classes, ".npz", None, *SPLITS, 2304, False, 0.3, 9, [2, 2, 5],
            [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 10000]], 512, 512, 512, False, 1e-4, 16, 2, 250, smoothing, 1.0,
            0.0, 5000, 2000, 0.4, 0.75, True, 0.05, 4.0, 4)


def ego4d(channels: int | list[int], levels: int, width: int, *, frames: int = 32, heads: int = 4,
          embedded: list[int] | None = None) -> tuple:
    widest = [[64, 256], [128, 10000]] if levels == 7 else [[64, 10000]]
    ranges = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 128], *widest]
    return (channels, 16, frames, 30, 110, ".npy", None, *SPLITS, 1024, False, 0.3, 9, [2, 2, levels], ranges,
            embedded or width, width, width, True, 1e-4, 10, 2, 100, 0.0, 1.0, 0.1, 5000, 2000, 0.9, 0.95, True, 0.05, 4.0, heads)


PUBLISHED = {
    "thumos_i3d": (2048, 4, 16, None, 20, ".npy", None, ["validation"], ["test"], 2304, False, 0.5, 19, [2, 2, 5], RANGES, 512,
                   512, 512, False, 1e-4, 30, 2, 100, 0.0, 1.0, 0.0, 2000, 200, 0.5, 0.7, True, 0.05, 6.0, 4),
    "anet_tsp": anet(512, 15),
    "anet_i3d": anet(2048, 25),
    "ego4d_slowfast": ego4d(2304, 6, 512),
    "ego4d_omnivore": ego4d(1536, 7, 512),
    "ego4d_egovlp": ego4d(256, 7, 384, frames=16),
    "ego4d_omnivore_egovlp": ego4d(1792, 7, 768, heads=12),
    "ego4d_slowfast_egovlp": ego4d(2560, 7, 768, heads=12),
    "ego4d_slowfast_omnivore_egovlp": ego4d([2304, 1536, 256], 7, 1024, heads=16, embedded=[256, 384, 384]),
    "epic_slowfast_verb": epic(97, 0.0),
    "epic_slowfast_noun": epic(300, 0.1),
}
# of models built from the original's files, in millions
PARAMETERS = {"thumos_i3d": 29.25, "anet_tsp": 6.94, "anet_i3d": 8.12, "ego4d_slowfast": 32.95, "epic_slowfast_verb": 29.76,
              "epic_slowfast_noun": 30.08, "ego4d_omnivore": 34.93, "ego4d_egovlp": 18.68, "ego4d_omnivore_egovlp": 77.16,
              "ego4d_slowfast_egovlp": 78.93, "ego4d_slowfast_omnivore_egovlp": 134.05}
# a network that learns planted classes in seconds
SMALL = {"dataset": {"max_seq_len": 128},
         "model": {"backbone_arch": [1, 1, 2], "regression_range": [[0, 4], [4, 8], [8, 10000]], "n_mha_win_size": 5,
                   "embd_dim": 32, "fpn_dim": 32, "head_dim": 32, "n_head": 2},
         "opt": {"learning_rate": 1e-3}, "test_cfg": {"pre_nms_topk": 200, "max_seg_num": 50}, "loader": {"num_workers": 0}}


@pytest.fixture(autouse=True)
def settings_of_torch():
    """The package turns deterministic algorithms on for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def thumos(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("thumos") / "data", layout="thumos", recordings={"validation": 6, "test": 4}, classes=5,
                 frames=16)


@pytest.fixture(scope="module")
def thermal(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("thermal") / "data", layout="thermal", recordings={"training": 10, "validation": 4},
                 classes=5, empty=1)


def open_folder(folder: Path, template: Template) -> Data:
    return open_data(*find_places(folder, template), template, training=True)


def small(name: str, folder: Path, **changes: dict) -> tuple[dict, dict[int, str]]:
    """A template with a small network, for a planted folder, and the names of its labels."""
    data = open_folder(folder, TEMPLATES[name])
    return build_config(over(over(over(TEMPLATES[name].changes, SMALL), {"dataset": data.settings}), changes)), data.names


def train(config: dict, epochs: int, *, growing: bool = True) -> engine.Learner:
    learner, batches = engine.start(config, CPU, growing=growing)
    for _ in range(epochs):
        learner.history.append(engine.train_epoch(learner, batches, config["train_cfg"]["clip_grad_l2norm"]))
    return learner


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", PUBLISHED)
def test_template_is_the_published_one(name):
    config = json.loads(json.dumps(build_config(TEMPLATES[name].changes)))  # tuples are lists
    for key, value in {**COMMON, **dict(zip(COLUMNS, PUBLISHED[name], strict=True))}.items():
        assert functools.reduce(operator.getitem, key.split("."), config) == value, key


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_makes_a_network_of_the_published_size(name):
    config = build_config(over(TEMPLATES[name].changes, {"dataset": {"json_file": "", "feat_folder": ""}}))
    validate_config(config)
    with torch.device("meta"):
        model = make_meta_arch(config["model_name"], **config["model"])
    millions = sum(weights.numel() for weights in model.parameters()) / 1e6
    assert round(millions, 2) == PARAMETERS[name] if name in PARAMETERS else 1 < millions < 3


def test_templates_share_nothing_and_a_length_is_rounded_up_to_what_the_network_can_divide():
    config = build_config(over(TEMPLATES["thumos_i3d"].changes, {"dataset": {"max_seq_len": 577}}))
    assert config["dataset"]["max_seq_len"] == config["model"]["max_seq_len"] == 1152
    config["train_cfg"]["head_empty_cls"].append(3)
    config["dataset"]["crop_ratio"].append(3)
    fresh = build_config(TEMPLATES["thumos_i3d"].changes)
    assert fresh["train_cfg"]["head_empty_cls"] == [] and fresh["dataset"]["crop_ratio"] == [0.9, 1.0]
    with pytest.raises(InputError, match="none of the templates: choose one of thumos_i3d, anet_tsp"):
        choose_template("thumos")


def test_it_trains_and_detects_as_the_package_does(thumos):
    """The package's own loader, loop and average on one side; losses, gradients, weights and detections are the same bits."""
    config, names = small("thumos_i3d", thumos, loader={"num_workers": 1})
    ours, batches = engine.start(config, CPU, growing=False)
    losses = engine.train_epoch(ours, batches, 1.0)
    found = inference.score(ours.average.module, config, names)

    generator = fix_random_seed(config["init_rand_seed"])
    data = make_dataset("thumos", True, config["train_split"], **config["dataset"])
    loader = make_data_loader(data, True, generator, **config["loader"])
    model = make_meta_arch(config["model_name"], **config["model"])
    optimizer = make_optimizer(model, config["opt"])
    average, seen = ModelEma(model), []
    model.register_forward_hook(lambda _, __, answer: seen.append(answer) if model.training else None)
    train_one_epoch(loader, model, optimizer, make_scheduler(optimizer, config["opt"], len(loader)), 0, model_ema=average,
                    clip_grad_l2norm=1.0, print_freq=100)
    assert losses["final_loss"] == torch.stack([each["final_loss"].detach() for each in seen]).mean().item()
    for name, weights in model.named_parameters():
        assert torch.equal(weights.grad, ours.model.get_parameter(name).grad), name
    assert same(model.state_dict(), ours.model.state_dict())
    assert same(average.module.state_dict(), ours.average.module.state_dict())

    evaluator = ANETdetection(config["dataset"]["json_file"], "test", np.linspace(0.3, 0.7, 5), num_workers=1)
    validation = make_dataset("thumos", False, config["val_split"], **config["dataset"])
    mean = valid_one_epoch(make_data_loader(validation, False, None, 1, 1), average.module, -1, evaluator=evaluator)
    assert len(found.predictions["video-id"]) > 50
    assert mean == found.scores["mAP"] and (evaluator.ap == found.truth.ap).all()


class Both:
    """Both averages of one run."""

    def __init__(self, *averages: ModelEma):
        self.averages = averages

    def update(self, model: torch.nn.Module) -> None:
        for average in self.averages:
            average.update(model)


@pytest.fixture(scope="module")
def trained(thermal):
    """(config, names, learner, the package's average) after 20 epochs of 5 steps."""
    config, names = small("thermal", thermal, opt={"epochs": 15, "learning_rate": 4e-3})
    learner, batches = engine.start(config, CPU, growing=True)
    ours, package = learner.average, ModelEma(learner.model)
    learner.average = Both(ours, package)
    for _ in range(20):
        engine.train_epoch(learner, batches, 1.0)
    learner.average = ours
    torch.use_deterministic_algorithms(False)
    return config, names, learner, package


def test_average_of_a_short_run_is_as_good_as_its_weights(trained):
    """With the package's constant decay the random beginning is still four fifths of the average, and the mAP says nothing."""
    config, names, learner, package = trained
    raw, ours, theirs = (inference.score(model, config, names).scores["mAP"]
                         for model in (learner.model, learner.average.module, package.module))
    assert ours > 0.8 and ours > raw - 0.05 and theirs < 0.3, (raw, ours, theirs)


def test_a_recording_of_any_length_is_searched_in_chunks(trained, tmp_path):
    config, _, learner, _ = trained
    folder = plant(tmp_path / "long", layout="thermal", recordings={"training": 1, "validation": 1}, classes=5, steps=1000)
    vectors = read_json(folder / "segments.json")["database"]["validation_000"]
    data, _ = small("thermal", folder)
    video = inference.open_validation(data)[0].dataset[0]
    model = copy.deepcopy(learner.average.module)
    whole = inference.AnyLength(model)
    assert whole.limit == 768 < video["feats"].shape[1]
    with pytest.raises(AssertionError, match="Reached max buffer length"):
        model.eval()([video])
    answer = whole([video])[0]
    whole.limit = 256  # more chunks, and less to see around each
    for found in (answer, whole([video])[0]):
        sure = found["scores"] > 0.3
        assert {"video_id", "segments", "scores", "labels"} == found.keys()
        hits = 0
        for action in vectors["annotations"]:
            start, end = action["segment"]
            overlap = (found["segments"].clamp(start, end).diff(dim=1)[:, 0]
                       / (found["segments"][:, 1].clamp(min=end) - found["segments"][:, 0].clamp(max=start)))
            hits += int((overlap[sure & (found["labels"] == action["label_id"])] > 0.5).sum())
        assert 0.9 * len(vectors["annotations"]) <= hits <= 1.1 * len(vectors["annotations"]), hits
    assert len(answer["segments"]) > config["test_cfg"]["max_seg_num"]


def overlap(one: list[float], other: list[float]) -> float:
    inside = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return inside / (one[1] - one[0] + other[1] - other[0] - inside)


def average_precision(truth: list[tuple], found: list[tuple], threshold: float) -> float:
    """Of rows (recording, segment, score), from the definition: each true segment is met once, precision is interpolated."""
    met, hits = set(), []
    for name, segment, _ in sorted(found, key=lambda row: -row[2]):
        near = [(overlap(segment, each), number) for number, (other, each) in enumerate(truth) if other == name]
        best = max([pair for pair in near if pair[1] not in met and pair[0] >= threshold], default=None)
        hits.append(best is not None)
        met |= {best[1]} if best else set()
    precision = [sum(hits[:rank]) / rank for rank in range(1, len(hits) + 1)]
    return sum(max(precision[rank:]) for rank, hit in enumerate(hits) if hit) / len(truth)


@pytest.fixture
def scattered(tmp_path):
    """(annotation file, predictions) of five classes in six recordings, of which the truth never shows class 1 in one variant."""
    numbers = np.random.default_rng(3)
    database, rows = {}, []
    for recording in range(6):
        name, truth = f"r{recording}", []
        for start in np.cumsum(numbers.uniform(4, 9, 12)):
            segment, label = [float(start), float(start + numbers.uniform(1, 6))], int(numbers.integers(5))
            truth.append({"segment": segment, "label": f"action {label}", "label_id": label})
            for _ in range(3):
                moved = sorted(np.add(segment, numbers.normal(0, 0.7, 2)))
                rows.append((name, *moved, label if numbers.random() < 0.7 else int(numbers.integers(5)), numbers.random()))
        database[name] = {"subset": "validation", "duration": 120.0, "annotations": truth}
    write_json(tmp_path / "truth.json", {"database": database})
    return tmp_path / "truth.json", as_results(rows)


def as_results(rows: list[tuple]) -> dict:
    """(recording, start, end, label, score) as `valid_one_epoch` passes predictions on."""
    names, starts, ends, labels, certain = zip(*rows, strict=True)
    return {"video-id": list(names), "t-start": np.array(starts), "t-end": np.array(ends), "label": np.array(labels),
            "score": np.array(certain)}


NAMES = {label: f"action {label}" for label in range(5)}
TIOU = np.linspace(0.3, 0.7, 5)


def test_average_precision_is_that_of_the_definition(scattered):
    path, results = scattered
    scorer = scores.Scorer(str(path), "validation", TIOU, NAMES)
    scorer.evaluate(results)
    database = read_json(path)["database"]
    for label in range(5):
        truth = [(name, action["segment"]) for name, each in database.items() for action in each["annotations"]
                 if action["label_id"] == label]
        found = [(name, [start, end], score) for name, start, end, kind, score in zip(*results.values(), strict=True)
                 if kind == label]
        expected = [average_precision(truth, found, threshold) for threshold in TIOU]
        assert np.abs(scorer.truth.ap[:, label] - expected).max() < 1e-12
    assert 0.1 < scorer.scores["mAP"] < 0.9
    assert scorer.scores["mAP"] == pytest.approx(np.mean([scorer.scores[f"mAP@{threshold:.2f}"] for threshold in TIOU]))


def test_average_recall_counts_what_the_first_proposals_of_a_recording_meet(scattered):
    path, results = scattered
    scorer = scores.Scorer(str(path), "validation", TIOU, NAMES)
    scorer.evaluate(results)
    database = read_json(path)["database"]
    for number in (1, 5, 10, 50, 100):
        reached = []
        for name, each in database.items():
            own = [row for row in zip(*results.values(), strict=True) if row[0] == name]
            first = sorted(own, key=lambda row: -row[4])[:number]
            reached += [np.mean([any(overlap(row[1:3], action["segment"]) >= threshold for row in first) for threshold in TIOU])
                        for action in each["annotations"]]
        assert scorer.scores[f"AR@{number}"] == pytest.approx(np.mean(reached), abs=1e-12)
    assert scorer.scores["AR@1"] < scorer.scores["AR@10"] < scorer.scores["AR@100"] < 1


def test_predictions_of_a_class_that_the_truth_never_shows_change_nothing(tmp_path):
    """The package counts them as another class, whose new number is their old one."""
    rows, database = [], {}
    for recording in range(4):
        actions = [{"segment": [10.0 * place, 10.0 * place + 5], "label": f"action {label}", "label_id": label}
                   for place, label in enumerate((0, 2, 3, 4), start=1)]
        database[f"r{recording}"] = {"subset": "validation", "annotations": actions}
        rows += [(f"r{recording}", *action["segment"], action["label_id"], 0.5) for action in actions]
    write_json(tmp_path / "truth.json", {"database": database})
    absent = [(f"r{recording}", 60.0 + 6 * place, 65.0 + 6 * place, 1, 0.9) for recording in range(4) for place in range(3)]
    package = ANETdetection(str(tmp_path / "truth.json"), "validation", TIOU, num_workers=1)
    assert package.evaluate(as_results(rows + absent), verbose=False)[1] < 0.9

    scorer = scores.Scorer(str(tmp_path / "truth.json"), "validation", TIOU, NAMES)
    scorer.evaluate(as_results(rows))
    alone = scorer.scores
    scorer.evaluate(as_results(rows + absent))
    assert scorer.scores["mAP"] == alone["mAP"] == 1 and scorer.scores["AP"] == alone["AP"]
    assert scorer.scores["absent_labels_predicted"] == len(absent) and alone["absent_labels_predicted"] == 0
    assert "action 1" in {each["label"] for each in scorer.list_predictions()["r0"]}


def test_a_network_that_finds_nothing_scores_nothing(thermal):
    config, names = small("thermal", thermal, test_cfg={"pre_nms_thresh": 1.0})
    learner, _ = engine.start(config, CPU, growing=True)
    scorer = inference.score(learner.model, config, names)
    assert {scorer.scores[name] for name in ("mAP", "mAP@0.30", "AR@100", "recall@5x@0.50")} == {0}
    assert scorer.list_predictions() == {} and set(scorer.scores["AP"]) == set(names.values())


def test_a_bug_in_the_network_is_no_network_that_finds_nothing(thermal, monkeypatch):
    config, names = small("thermal", thermal)
    learner, _ = engine.start(config, CPU, growing=True)
    monkeypatch.setattr(scores.Scorer, "evaluate", lambda *_, **__: (_ for _ in ()).throw(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        inference.score(learner.model, config, names)


def test_recordings_of_our_own_become_samples(thermal):
    config, _ = small("thermal", thermal)
    data = ThermalSegments(False, ["training"], **config["dataset"])
    empty, busy = data[0], data[1]
    assert empty["segments"].shape == (0, 2) and empty["labels"].shape == (0,) and empty["labels"].dtype == torch.int64
    assert data.get_attributes()["empty_label_ids"] == []
    actions = read_json(thermal / "segments.json")["database"]["training_001"]["annotations"]
    # as the network turns steps back into seconds
    seconds = (busy["segments"] * busy["feat_stride"] + 0.5 * busy["feat_num_frames"]) / busy["fps"]
    assert torch.allclose(seconds, torch.tensor([action["segment"] for action in actions]), atol=1e-4)
    features = np.load(thermal / "features/training_001.npy")
    assert busy["feats"].dtype == torch.float32 and torch.equal(busy["feats"], torch.from_numpy(features.T))


def test_a_long_recording_is_learned_from_as_often_as_it_has_parts(thermal, tmp_path):
    shutil.copytree(thermal, tmp_path / "data")
    file = tmp_path / "data/features/training_001.npy"
    np.save(file, np.tile(np.load(file), (3, 1)))
    change(tmp_path / "data", lambda database: database["training_001"].update(duration=256.0))
    config, _ = small("thermal", tmp_path / "data")
    data = ThermalSegments(True, ["training"], **config["dataset"])
    assert len(data) == 12 and data.drawn.count("training_001") == 3
    assert all(sample["feats"].shape[1] <= 128 for sample in map(data.__getitem__, range(12)))
    assert ThermalSegments(False, ["training"], **config["dataset"])[1]["feats"].shape[1] == 384


def test_a_class_that_training_never_shows_is_expected_of_nobody(thermal, tmp_path):
    shutil.copytree(thermal, tmp_path / "data")
    path = tmp_path / "data/segments.json"
    document = read_json(path)
    write_json(path, document | {"taxonomy": [*document["taxonomy"], {"nodeId": 5, "nodeName": "action 5"}]})
    config, names = small("thermal", tmp_path / "data")
    learner, _ = engine.start(config, CPU, growing=True)
    assert config["train_cfg"]["head_empty_cls"] == [5] and len(names) == 6
    bias = learner.model.cls_head.cls_head.conv.bias
    assert bias[5] < -13 < -5 < bias[:5].min()


def change(folder: Path, how) -> None:
    path, = [*folder.glob("annotations/*.json"), *folder.glob("segments.json")]
    document = read_json(path)
    how(document["database"])
    write_json(path, document)


def rename(name: str, **values):
    """A change of a recording's first action."""
    return lambda folder: change(folder, lambda database: database[name]["annotations"][0].update(values))


def on(name: str, **values):
    """A change of a recording; a key with the value None is removed."""
    def apply(recording):
        recording.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del recording[key]
    return lambda folder: change(folder, lambda database: apply(database[name]))


def resave(name: str, how):
    def apply(folder):
        file, = folder.glob(f"*/{name}.npy")
        np.save(file, how(np.load(file)))
    return apply


THERMAL = {
    "no segments": (lambda folder: (folder / "segments.json").unlink(), "/segments.json does not exist, and .* holds none"),
    "no features": (lambda folder: shutil.rmtree(folder / "features"), "/features does not exist, and .* holds none"),
    "two features": (lambda folder: [(folder / name).mkdir() for name in "ab"] and os.rename(folder / "features", folder / "c"),
                     r"holds 3 of them \(a, b, c\)"),
    "no geometry": (lambda folder: (folder / "features/manifest.json").unlink(), "manifest.json does not exist"),
    "odd geometry": (lambda folder: write_json(folder / "features/manifest.json", {"stride": 0, "num_frames": 4}),
                     "manifest.json: stride = 0: input should be greater than or equal to 1"),
    "other stride": (lambda folder: write_json(folder / "features/manifest.json", {"stride": 8, "num_frames": 4}),
                     "lasts 86 s, but its 128 features of every 8 frames at 6 a second last 170.0 s: correct `fps`"),
    "no database": (lambda folder: write_json(folder / "segments.json", {"taxonomy": []}), "has no `database`"),
    "no labels": (lambda folder: write_json(folder / "segments.json", {"database": {}}), "segments.json: taxonomy"),
    "no subset": (on("training_001", subset=None), "database.training_001.subset is missing: add it"),
    "no fps": (on("training_001", fps=None), "training_001 has no `fps`"),
    "no duration": (on("training_001", duration=None), "training_001 has no `duration` in seconds"),
    "no annotations": (on("training_001", annotations=None), "training_001 has no `annotations`: add them, \\[\\] where nothing"),
    "no split": (lambda folder: change(folder, lambda database: [each.update(subset="Test") for each in database.values()]),
                 "no recording has the subset 'validation', only \\['Test'\\]: correct `subset`"),
    "missing file": (lambda folder: (folder / "features/training_001.npy").unlink(),
                     "training_001.npy does not exist: 1 of the 14 recordings of .* have no features"),
    "torn file": (lambda folder: os.truncate(folder / "features/training_001.npy", 500), "training_001.npy holds no features"),
    "one turned": (resave("training_001", lambda rows: rows[:100].T), "training_001.npy has 100 columns, others 32:"
                   ".* this one seems to be \\[C, T\\], transpose it"),
    "whole numbers": (resave("training_001", lambda rows: rows.astype(int)), "training_001.npy holds int64 \\[128, 32\\]"),
    "flat": (resave("training_001", lambda rows: rows[0]), "training_001.npy holds float32 \\[32\\]"),
    "other label": (rename("training_001", label="running"), "label 'running' and label_id .: the file's own list calls that id"),
    "other id": (rename("training_001", label_id=7), "label_id 7: the file's own list calls that id None"),
    "backwards": (rename("training_001", segment=[5.0, 5.0]), "0 lasts from 5.0 to 5.0 s: it must begin before it ends"),
    "outside": (rename("training_001", segment=[5.0, 500.0]), "annotation 0 lasts from 5.0 to 500.0 s"),
    "no end": (rename("training_001", segment=[5.0]), "training_001: segment 0"),
}
THUMOS = {
    "missing file": (lambda folder: (folder / "i3d_features/test_001.npy").unlink(), "test_001.npy does not exist: 1 of the 10"),
    "holes": (lambda folder: change(folder, lambda database: [
        action.update(label_id=action["label_id"] * 2) for each in database.values() for action in each["annotations"]]),
        "'action 4' has the label_id 8, but there are 5 labels: number them from 0 to 4 without holes"),
    "two ids": (rename("test_001", label_id=4), "give every label one id of its own"),
    "idle": (on("validation_001", annotations=[]), "validation_001 has no action, and the package cannot learn from that"),
    "subset": (lambda folder: change(folder, lambda database: [each.update(subset="training") for each in database.values()]),
              "no recording has the subset 'test', only \\['training'\\]"),
}


@pytest.mark.parametrize("template, case", [*(("thermal", case) for case in THERMAL), *(("thumos_i3d", case) for case in THUMOS)])
def test_data_that_do_not_fit_are_refused_with_a_sentence(thermal, thumos, tmp_path, template, case):
    """The package leaves such recordings out without a word, counts them as missed, or fails deep in the network."""
    shutil.copytree(thermal if template == "thermal" else thumos, tmp_path / "data")
    spoil, sentence = (THERMAL if template == "thermal" else THUMOS)[case]
    spoil(tmp_path / "data")
    with pytest.raises(InputError, match=sentence) as refusal:
        open_folder(tmp_path / "data", TEMPLATES[template])
    assert "\n" not in str(refusal.value)


def test_features_that_end_before_every_action_are_refused(tmp_path):
    folder = plant(tmp_path / "data", layout="anet", recordings={"training": 2, "validation": 2}, classes=5, fps=15, stride=16,
                   frames=16)
    resave("v_training_001", lambda rows: rows[:1])(folder)
    change(folder, lambda database: database["training_001"].update(annotations=[database["training_001"]["annotations"][-1]]))
    with pytest.raises(InputError, match="training_001: its features end after 1.1 s, before the middle of every action"):
        open_folder(folder, TEMPLATES["anet_tsp"])


def test_features_of_two_kinds_stand_side_by_side(tmp_path):
    folder = plant(tmp_path / "data", layout="ego4d", recordings={"training": 2, "validation": 2}, classes=5, fps=30, stride=16,
                   frames=32)
    (folder / "egovlp_features").mkdir()
    for path in (folder / "omnivore_features").iterdir():
        np.save(folder / "egovlp_features" / path.name, np.load(path)[:, :8])
    data = open_folder(folder, TEMPLATES["ego4d_omnivore_egovlp"])
    assert data.settings["input_dim"] == 40
    config = build_config(over(TEMPLATES["ego4d_omnivore_egovlp"].changes, {"dataset": data.settings}))
    made = make_dataset("ego4d", True, config["train_split"], **config["dataset"])[0]["feats"]
    assert made.shape[0] == 40 and torch.equal(made[:8], made[32:])
    shutil.copytree(folder / "omnivore_features", folder / "slowfast_features")
    config, _ = small("ego4d_slowfast_omnivore_egovlp", folder, model={"embd_dim": [16, 8, 8]})  # a projection for each kind
    assert config["model"]["input_dim"] == [32, 32, 8]
    assert train(config, 1).history[0]["final_loss"] > 0
    path = folder / "egovlp_features/training_001.npy"
    np.save(path, np.load(path)[1:])
    with pytest.raises(InputError, match="egovlp_features has 127 steps of training_001, .*omnivore_features 128: make both"):
        open_folder(folder, TEMPLATES["ego4d_omnivore_egovlp"])


def test_features_that_are_all_turned_are_told_from_ones_that_differ(thumos, tmp_path):
    shutil.copytree(thumos, tmp_path / "data")
    for length, file in enumerate(sorted((tmp_path / "data/i3d_features").iterdir()), start=90):
        np.save(file, np.load(file)[:length].T)
    with pytest.raises(InputError, match="this one seems to be .C, T., transpose it"):
        open_folder(tmp_path / "data", TEMPLATES["thumos_i3d"])


def test_number_that_is_none_is_refused_where_it_is_read(thermal, tmp_path):
    shutil.copytree(thermal, tmp_path / "data")
    resave("training_001", lambda rows: np.where(rows == rows.max(), np.nan, rows))(tmp_path / "data")
    config, _ = small("thermal", tmp_path / "data")
    with pytest.raises(InputError, match="training_001.npy holds a number that is not finite"):
        train(config, 1)


def test_a_run_goes_on_to_the_same_weights(thermal, tmp_path):
    config, _ = small("thermal", thermal, opt={"epochs": 3})
    straight = train(config, 3)
    checkpoints.save(tmp_path / "straight.pt", straight.state(config))
    first = train(config, 1)
    checkpoints.save(tmp_path / "last.pt", first.state(config))
    later, batches = engine.start(config, CPU, growing=True)
    later.resume(tmp_path / "last.pt", config)
    assert later.model.loss_normalizer != config["train_cfg"]["init_loss_norm"]
    for _ in range(2):
        later.history.append(engine.train_epoch(later, batches, 1.0))
    checkpoints.save(tmp_path / "later.pt", later.state(config))
    assert (tmp_path / "later.pt").read_bytes() == (tmp_path / "straight.pt").read_bytes()
    assert later.history == straight.history
    assert same(later.model.state_dict(), straight.model.state_dict())
    assert same(later.average.module.state_dict(), straight.average.module.state_dict())
    torch.testing.assert_close(later.optimizer.state_dict()["state"], straight.optimizer.state_dict()["state"], rtol=0, atol=0)
    assert later.scheduler.state_dict() == straight.scheduler.state_dict()
    assert later.model.loss_normalizer == straight.model.loss_normalizer and later.average.decay == straight.average.decay


def test_checkpoints_that_do_not_fit_are_refused_with_a_sentence(thermal, tmp_path):
    config, _ = small("thermal", thermal)
    learner, _ = engine.start(config, CPU, growing=True)
    path = tmp_path / "last.pt"
    with pytest.raises(InputError, match="last.pt does not exist: give a checkpoint"):
        learner.resume(path, config)
    torch.save([1], path)
    with pytest.raises(InputError, match="is no checkpoint of ActionFormer"):
        learner.resume(path, config)
    learner.keep_best(path, 0.5, config)
    with pytest.raises(InputError, match="lacks 'history', with which training would go on"):
        learner.resume(path, config)
    checkpoints.save(path, learner.state(config))
    other, _ = small("thermal", thermal, opt={"epochs": 7})
    other["train_cfg"]["head_empty_cls"] = config["train_cfg"]["head_empty_cls"]
    with pytest.raises(InputError, match=r"other settings \(opt.epochs 30 there, 7 here\): repeat the command"):
        learner.resume(path, other)
    wider, _ = small("thermal", thermal, model={"embd_dim": 48, "fpn_dim": 48})
    with pytest.raises(InputError, match="last.pt holds weights of another network"):
        checkpoints.read_models(path, wider, CPU)


def test_a_published_checkpoint_is_read(thermal, tmp_path):
    """Those were saved from within DataParallel, whose name stands before every weight, with the optimizer beside them."""
    config, names = small("thermal", thermal)
    learner, _ = engine.start(config, CPU, growing=False)
    state = learner.state(config)
    published = {key: state[key] for key in ("epoch", "scheduler", "optimizer")}
    for key in ("state_dict", "state_dict_ema"):
        published[key] = {f"module.{name}": tensor for name, tensor in state[key].items()}
    torch.save(published, tmp_path / "epoch_034.pth.tar")
    models = checkpoints.read_models(tmp_path / "epoch_034.pth.tar", config, CPU)
    assert same(models["ema"].state_dict(), learner.average.module.state_dict())
    assert models.keys() == {"ema", "raw"}
    assert inference.score(models["raw"], config, names).scores == inference.score(learner.model, config, names).scores


@pytest.mark.parametrize("external", [False, True])
def test_activitynet_is_scored_with_classes_of_its_own_or_with_those_given_beside(tmp_path, external):
    """Published: one class of proposals, which borrow the best two classes of a recording; without those, its own classes."""
    folder = plant(tmp_path / "data", layout="anet", recordings={"training": 4, "validation": 2}, classes=5, fps=15, stride=16,
                   frames=16)
    if external:
        database = read_json(folder / "annotations/anet1.3_tsp_filtered.json")["database"]
        given = {name: np.bincount([action["label_id"] for action in each["annotations"]], minlength=5).tolist()
                 for name, each in database.items()}
        write_json(folder / "annotations/cuhk_val_simp_share.json", {"results": given})
    data = open_folder(folder, TEMPLATES["anet_tsp"])
    options = SimpleNamespace(max_seq_len=None, learning_rate=None, epochs=2, batch_size=None, num_workers=0, seed=7)
    settings = train_actionformer_wrapper.settings_of(options, data)
    config = build_config(over(over(over(TEMPLATES["anet_tsp"].changes, {**SMALL, "dataset": {"max_seq_len": 192}}), settings),
                               {"model": {"n_mha_win_size": [7, 7, -1]}}))
    assert (config["dataset"]["num_classes"], config["test_cfg"]["multiclass_nms"]) == ((1, False) if external else (5, True))
    assert config["init_rand_seed"] == 7 and config["opt"]["epochs"] == 2 and config["loader"]["batch_size"] == 16
    learner = train(config, 1, growing=False)
    scorer = inference.score(learner.model, config, data.names)
    assert len(set(scorer.predictions["label"])) > 1
    assert scorer.thresholds[0] == 0.5 and len(scorer.thresholds) == 10


def test_package_is_pure_python_from_the_pinned_source():
    """Compiled, it would be tied to the torch that it was compiled with, and say nothing when that is another."""
    locked = (ROOT / "requirements-localize.txt").read_text()
    for name, version in re.findall(r"^([\w-]+)==([\w.]+)$", (ROOT / "requirements-localize.in").read_text(), re.MULTILINE):
        assert re.search(rf"^{name}=={re.escape(version)} \\\n    --hash=sha256:", locked, re.MULTILINE), f"{name}: `make lock`"
        assert distribution(name).version == version
    assert "Tag: py3-none-any" in distribution("actionformer").read_text("WHEEL")
    assert not [file for file in distribution("actionformer").files if file.suffix == ".so"]


def start_command(folder: Path, *arguments: str) -> subprocess.Popen:
    """The command in `stages/`, as a user types it: a folder of links, so that what it writes is the test's own."""
    stages = folder / "stages"
    stages.mkdir(exist_ok=True)
    if not (script := stages / "train_actionformer_wrapper.py").exists():
        script.symlink_to(ROOT / "stages/train_actionformer_wrapper.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_JIT"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "train_actionformer_wrapper.py", *arguments], cwd=stages, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_command(folder: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of the command, which ends with `code`."""
    process = start_command(folder, *arguments)
    said, complained = process.communicate()
    assert process.returncode == code and "Traceback" not in complained, complained
    return said, complained


def test_command_refuses_with_a_sentence(thermal, tmp_path):
    said, complained = run_command(tmp_path, "--config_template", "thumos", "--data_path", str(thermal), "--output_name", "x",
                                   code=2)
    assert said == "" and not (tmp_path / "stages/ckpt").exists()
    assert complained.startswith("train_actionformer_wrapper.py: --config_template thumos is none of the templates: choose one")


def test_command_says_what_it_takes(tmp_path):
    said, _ = run_command(tmp_path, "--help")
    assert "--config_template thumos_i3d --data_path ./data/thumos --learning_rate 0.0001" in said
    for wrong in (["--epochs", "0"], ["--learning_rate", "nan"], ["--seed", "-1"], ["--resume", "a", "--eval_only", "b"]):
        refused = call("train_actionformer_wrapper", "--config_template", "x", "--data_path", "x", "--output_name", "x", *wrong)
        assert refused.returncode == 2 and wrong[-2] in refused.stderr


@pytest.mark.parametrize("shorter", [pytest.param(["--max_seq_len", "576"], marks=pytest.mark.slow),
                                     pytest.param([], marks=pytest.mark.nightly)])
def test_command_works_as_documented(tmp_path, shorter):
    """On the full network of THUMOS14; one epoch instead of 30, and by day of recordings no longer than these are."""
    plant(tmp_path / "stages/data/thumos", layout="thumos", recordings={"validation": 2, "test": 1}, classes=20, frames=16)
    command = ("--config_template thumos_i3d --data_path ./data/thumos --learning_rate 0.0001 --epochs 1 --batch_size 2"
               " --output_name my_experiment")
    said, _ = run_command(tmp_path, *command.split(), *shorter)
    assert re.fullmatch(r"FINAL_mAP: \d+\.\d\d", said.splitlines()[-1])
    folder = tmp_path / "stages/ckpt/my_experiment"
    assert {path.name for path in folder.iterdir()} == {"best.pt", "config.json", "last.pt", "losses.json", "metrics.json",
                                                        "predictions.json"}
    config = read_json(folder / "config.json")
    assert config["PYTORCH_JIT"] == "0" and config["config"]["opt"]["epochs"] == 1 and config["device"] == "cpu"
    metrics = read_json(folder / "metrics.json")
    assert {"mAP", "mAP@0.30", "mAP@0.70", "AR@1", "AR@100", "recall@1x@0.50", "recall@5x@0.50", "AP"} <= metrics["ema"].keys()
    assert metrics["ema"].keys() == metrics["raw"].keys() and len(read_json(folder / "losses.json")) == 6
    assert said.splitlines()[-1] == f"FINAL_mAP: {100 * metrics['ema']['mAP']:.2f}"


@pytest.mark.slow
def test_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """In fresh processes, and scored once more from its checkpoint."""
    plant(tmp_path / "data", layout="thermal", recordings={"training": 4, "validation": 2}, classes=5, empty=1)
    command = ["--config_template", "thermal", "--data_path", "../data", "--epochs", "2", "--max_seq_len", "100",
               "--eval_every", "3"]
    straight, _ = run_command(tmp_path, *command, "--output_name", "straight")
    process = start_command(tmp_path, *command, "--output_name", "killed")
    for line in process.stdout:
        if line.startswith("epoch 4/7"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    resumed, _ = run_command(tmp_path, *command, "--output_name", "killed", "--resume", "ckpt/killed/last.pt")
    assert re.search(r"^goes on after epoch [45] of 7 ", resumed) and resumed.splitlines()[-1] == straight.splitlines()[-1]
    scored, _ = run_command(tmp_path, *command, "--output_name", "scored", "--eval_only", "ckpt/straight/last.pt")
    assert scored.splitlines()[-1] == straight.splitlines()[-1]
    one, other = tmp_path / "stages/ckpt/straight", tmp_path / "stages/ckpt/killed"
    for name in ("metrics.json", "predictions.json", "losses.json", "config.json", "last.pt", "best.pt"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("metrics.json", "predictions.json"):
        assert (one / name).read_bytes() == (tmp_path / "stages/ckpt/scored" / name).read_bytes()
