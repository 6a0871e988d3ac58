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

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import ROOT
from planted import plant
from thermal_action import InputError
from thermal_action.files import read_json, write_json

pytest.importorskip("actionformer", reason="actionformer is not installed: `make localize`")
from actionformer import ANETdetection, ModelEma, make_meta_arch, validate_config  # noqa: E402
from actionformer.datasets import make_data_loader, make_dataset  # noqa: E402
from actionformer.utils import fix_random_seed, make_optimizer, make_scheduler, train_one_epoch, valid_one_epoch  # noqa: E402

from thermal_action.localization import engine, scores  # noqa: E402
from thermal_action.localization.data import open_data  # noqa: E402
from thermal_action.localization.samples import ThermalSegments  # noqa: E402
from thermal_action.localization.templates import TEMPLATES, build_config, choose_template, over  # noqa: E402

torch.set_num_threads(1)
COMMAND = [sys.executable, str(ROOT / "stages/train_actionformer_wrapper.py")]
CPU = torch.device("cpu")

# configs/*.yaml of happyharrycn/actionformer_release at 61ea7eb
COMMON = {
    "opt.type": "AdamW", "opt.weight_decay": 0.05, "opt.schedule_type": "cosine", "opt.warmup": True, "opt.warmup_epochs": 5,
    "train_cfg.clip_grad_l2norm": 1.0, "train_cfg.cls_prior_prob": 0.01, "train_cfg.center_sample": "radius",
    "train_cfg.center_sample_radius": 1.5, "train_cfg.droppath": 0.1, "test_cfg.nms_method": "soft",
    "test_cfg.pre_nms_thresh": 0.001, "test_cfg.iou_threshold": 0.1, "test_cfg.min_score": 0.001, "model.n_head": 4,
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
    "test_cfg.duration_thresh",
)
SPLITS = (["training"], ["validation"])


def anet(channels: int, fps: int) -> tuple:
    return (channels, 16, 16, fps, 1, ".npy", "v_", *SPLITS, 192, True, 0.5, [7, 7, 7, 7, 7, -1], [2, 2, 5], RANGES, 256, 256, 256,
            True, 1e-3, 10, 16, 200, 0.1, 2.0, 0.0, 2000, 100, 0.75, 0.9, False, 0.001)


def epic(classes: int, smoothing: float) -> tuple:
    return (2304, 16, 32, 30, classes, ".npz", None, *SPLITS, 2304, False, 0.3, 9, [2, 2, 5],
            [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 10000]], 512, 512, 512, False, 1e-4, 16, 2, 250, smoothing, 1.0, 0.0,
            5000, 2000, 0.4, 0.75, True, 0.05)


PUBLISHED = {
    "thumos_i3d": (2048, 4, 16, None, 20, ".npy", None, ["validation"], ["test"], 2304, False, 0.5, 19, [2, 2, 5], RANGES, 512,
                   512, 512, False, 1e-4, 30, 2, 100, 0.0, 1.0, 0.0, 2000, 200, 0.5, 0.7, True, 0.05),
    "anet_tsp": anet(512, 15),
    "anet_i3d": anet(2048, 25),
    "ego4d_slowfast": (2304, 16, 32, 30, 110, ".npy", None, *SPLITS, 1024, False, 0.3, 9, [2, 2, 6],
                       [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 128], [64, 10000]], 512, 512, 512, True, 1e-4, 10, 2,
                       100, 0.0, 1.0, 0.1, 5000, 2000, 0.9, 0.95, True, 0.05),
    "epic_slowfast_verb": epic(97, 0.0),
    "epic_slowfast_noun": epic(300, 0.1),
}
# of models built from the original's files, in millions
PARAMETERS = {"thumos_i3d": 29.25, "anet_tsp": 6.94, "anet_i3d": 8.12, "ego4d_slowfast": 32.95, "epic_slowfast_verb": 29.76,
              "epic_slowfast_noun": 30.08}
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


def small(name: str, folder: Path, **changes: dict) -> tuple[dict, dict[int, str]]:
    """A template with a small network, for a planted folder, and the names of its labels."""
    data = open_data(folder, TEMPLATES[name], training=True)
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
    found = engine.score(ours.average.module, config, names)

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
    raw, ours, theirs = (engine.score(model, config, names).scores["mAP"]
                         for model in (learner.model, learner.average.module, package.module))
    print(raw, ours, theirs)
    assert ours > 0.8 and ours > raw - 0.05 and theirs < 0.3, (raw, ours, theirs)


def test_a_recording_of_any_length_is_searched_in_chunks(trained, tmp_path):
    config, _, learner, _ = trained
    folder = plant(tmp_path / "long", layout="thermal", recordings={"training": 1, "validation": 1}, classes=5, steps=1000)
    vectors = read_json(folder / "annotations/thermal.json")["database"]["validation_000"]
    data, _ = small("thermal", folder)
    video = engine.open_validation(data)[0].dataset[0]
    model = copy.deepcopy(learner.average.module)
    whole = engine.AnyLength(model)
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
