"""Settings of ActionFormer: those published for its benchmarks, and our own for thermal recordings.

Source of the published ones: configs/*.yaml of happyharrycn/actionformer_release at 61ea7eb, as differences to the package's
`DEFAULTS`. A step is one feature; regression ranges, window sizes and max_seq_len count steps.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field

from actionformer.core.config import DEFAULTS, _merge, _update_config

from thermal_action import InputError

FAR = 10_000  # "to infinity" in a regression range
# (shortest, longest) distance in steps to an end of an action that a level of the pyramid regresses: neighbours overlap
OVERLAPPING = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 128], [64, FAR]]


@dataclass(frozen=True)
class Template:
    """Settings, and where its data lie below --data_path: <annotations>, <features>/<prefix><recording><ext>; of several folders
    of features a recording has the columns of all.
    """

    annotations: str
    features: tuple[str, ...]
    changes: dict = field(repr=False)
    external_scores: str | None = None  # beside the annotations: scores of classes for proposals without one
    own: bool = False  # our layout, checks and dataset class, and an average of the weights that fits short runs


def over(base: dict, changes: dict) -> dict:
    """`changes`, filled up from `base`; shares nothing with either."""
    merged = deepcopy(changes)
    _merge(deepcopy(base), merged)
    return merged


COMMON = {
    "devices": [],
    "dataset": {"file_prefix": None, "file_ext": ".npy", "crop_ratio": [0.9, 1.0]},
    "train_cfg": {"clip_grad_l2norm": 1.0, "init_loss_norm": 100},
    "test_cfg": {"min_score": 0.001},
    "opt": {"weight_decay": 0.05, "warmup_epochs": 5},
}
THUMOS = {
    "dataset_name": "thumos", "train_split": ["validation"], "val_split": ["test"],
    "dataset": {"num_classes": 20, "input_dim": 2048, "feat_stride": 4, "num_frames": 16, "max_seq_len": 2304},
    "model": {"n_mha_win_size": 19},
    "test_cfg": {"pre_nms_topk": 2000, "max_seg_num": 200, "voting_thresh": 0.7},
    "opt": {"learning_rate": 1e-4, "epochs": 30},
    "loader": {"batch_size": 2},
}
ANET = {
    "dataset_name": "anet", "train_split": ["training"], "val_split": ["validation"],
    "dataset": {"num_classes": 1, "input_dim": 512, "feat_stride": 16, "num_frames": 16, "default_fps": 15, "max_seq_len": 192,
                "force_upsampling": True, "file_prefix": "v_"},
    "model": {"n_mha_win_size": [7, 7, 7, 7, 7, -1], "embd_dim": 256, "fpn_dim": 256, "head_dim": 256, "use_abs_pe": True,
              "max_buffer_len_factor": 1.0},
    "train_cfg": {"init_loss_norm": 200, "label_smoothing": 0.1, "loss_weight": 2.0},
    "test_cfg": {"pre_nms_topk": 2000, "max_seg_num": 100, "nms_sigma": 0.75, "voting_thresh": 0.9, "multiclass_nms": False,
                 "duration_thresh": 0.001},
    "opt": {"learning_rate": 1e-3, "epochs": 10},
    "loader": {"batch_size": 16},
}
EGO4D = {
    "dataset_name": "ego4d", "train_split": ["training"], "val_split": ["validation"],
    "dataset": {"num_classes": 110, "input_dim": 2304, "feat_stride": 16, "num_frames": 32, "default_fps": 30,
                "max_seq_len": 1024, "trunc_thresh": 0.3},
    "model": {"backbone_arch": [2, 2, 6], "regression_range": OVERLAPPING, "n_mha_win_size": 9, "use_abs_pe": True,
              "max_buffer_len_factor": 4.0},
    "train_cfg": {"dropout": 0.1},
    "test_cfg": {"pre_nms_topk": 5000, "max_seg_num": 2000, "nms_sigma": 0.9, "voting_thresh": 0.95},
    "opt": {"learning_rate": 1e-4, "epochs": 10},
    "loader": {"batch_size": 2},
}
EPIC = {
    "dataset_name": "epic", "train_split": ["training"], "val_split": ["validation"],
    "dataset": {"num_classes": 97, "input_dim": 2304, "feat_stride": 16, "num_frames": 32, "default_fps": 30,
                "max_seq_len": 2304, "trunc_thresh": 0.3, "file_ext": ".npz"},
    "model": {"regression_range": [*OVERLAPPING[:5], [32, FAR]], "n_mha_win_size": 9, "max_buffer_len_factor": 4.0},
    "train_cfg": {"init_loss_norm": 250},
    "test_cfg": {"pre_nms_topk": 5000, "max_seg_num": 2000, "nms_sigma": 0.4, "voting_thresh": 0.75},
    "opt": {"learning_rate": 1e-4, "epochs": 16},
    "loader": {"batch_size": 2},
}
DEEPER = over(EGO4D, {"model": {"backbone_arch": [2, 2, 7], "regression_range": [*OVERLAPPING[:6], [64, 256], [128, FAR]]}})


def fused(channels: int) -> dict:
    """Features of two kinds side by side, for a wider network."""
    return over(DEEPER, {"dataset": {"input_dim": channels},
                         "model": {"n_head": 12, "embd_dim": 768, "fpn_dim": 768, "head_dim": 768}})


# At 6 frames a second and stride 4 a step is 0.67 s: one crop is 171 s, and what lies within a level's range lasts up to
# 5, 11, 21, 43 s and longer. 1.5 M weights; 35 epochs of 22 recordings take two minutes on a core. NMS in Python is most of what
# finding costs: few candidates a level (pre_nms_topk).
THERMAL = {
    "dataset_name": "thermal", "train_split": ["training"], "val_split": ["validation"],
    "dataset": {"max_seq_len": 256},
    "model": {"backbone_arch": [2, 2, 4], "regression_range": [[0, 4], [4, 8], [8, 16], [16, 32], [32, FAR]],
              "n_mha_win_size": 9, "embd_dim": 128, "fpn_dim": 128, "head_dim": 128},
    "test_cfg": {"pre_nms_topk": 500, "max_seg_num": 200, "voting_thresh": 0.7},
    "opt": {"learning_rate": 1e-3, "epochs": 30},
    "loader": {"batch_size": 2, "num_workers": 0},
}
TEMPLATES = {
    "thumos_i3d": Template("annotations/thumos14.json", ("i3d_features",), THUMOS),
    "anet_tsp": Template("annotations/anet1.3_tsp_filtered.json", ("tsp_features",), ANET, "cuhk_val_simp_share.json"),
    "anet_i3d": Template("annotations/anet1.3_i3d_filtered.json", ("i3d_features",),
                         over(ANET, {"dataset": {"input_dim": 2048, "default_fps": 25}}), "cuhk_val_simp_share.json"),
    "ego4d_slowfast": Template("annotations/ego4d.json", ("slowfast_features",), EGO4D),
    "ego4d_omnivore": Template("annotations/ego4d.json", ("omnivore_features",), over(DEEPER, {"dataset": {"input_dim": 1536}})),
    "ego4d_egovlp": Template("annotations/ego4d.json", ("egovlp_features",),
                             over(DEEPER, {"dataset": {"input_dim": 256, "num_frames": 16},
                                           "model": {"embd_dim": 384, "fpn_dim": 384, "head_dim": 384}})),
    "ego4d_omnivore_egovlp": Template("annotations/ego4d.json", ("omnivore_features", "egovlp_features"),
                                      fused(1792)),
    "ego4d_slowfast_egovlp": Template("annotations/ego4d.json", ("slowfast_features", "egovlp_features"),
                                      fused(2560)),
    # each kind of features has a projection of its own
    "ego4d_slowfast_omnivore_egovlp": Template(
        "annotations/ego4d.json", ("slowfast_features", "omnivore_features", "egovlp_features"),
        over(DEEPER, {"dataset": {"input_dim": [2304, 1536, 256]},
                      "model": {"n_head": 16, "embd_dim": [256, 384, 384], "fpn_dim": 1024, "head_dim": 1024}})),
    "epic_slowfast_verb": Template("annotations/epic_kitchens_100_verb.json", ("features",), EPIC),
    "epic_slowfast_noun": Template("annotations/epic_kitchens_100_noun.json", ("features",),
                                   over(EPIC, {"dataset": {"num_classes": 300}, "train_cfg": {"label_smoothing": 0.1}})),
    "thermal": Template("segments.json", ("features",), THERMAL, own=True),
}


def choose_template(name: str) -> Template:
    if name not in TEMPLATES:
        raise InputError(f"--config_template {name} is none of the templates: choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def build_config(changes: dict) -> dict:
    """The package's whole configuration: its defaults, what all templates have in common, and `changes` over them."""
    config = over(DEFAULTS, over(COMMON, changes))
    config["dataset"]["max_seq_len"] = fit_length(config["dataset"]["max_seq_len"], config["model"])
    return _update_config(config)


def fit_length(steps: int, model: dict) -> int:
    """`steps`, rounded up until every level of the pyramid holds whole attention windows."""
    levels = model["backbone_arch"][-1] + 1
    sizes = model["n_mha_win_size"]
    windows = [sizes] * levels if isinstance(sizes, int) else sizes
    divisor = math.lcm(*(model["scale_factor"] ** level * (window // 2 * 2 if window > 1 else 1)
                         for level, window in enumerate(windows)))
    return -(-steps // divisor) * divisor
