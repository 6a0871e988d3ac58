"""python -m pytest tests/test_windows.py

Without these, a model could be shown other frames than it was trained on, or a causal one the future.
"""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from thermal_action import InputError
from thermal_action.annotations import read_info
from thermal_action.augmentation import augmentations
from thermal_action.augmentation.window import Window
from thermal_action.models import BACKBONES, build_model
from thermal_action.models.heads import pool_time
from thermal_action.models.sampling import pick_frames
from thermal_action.windows import Windowing, nearest_frames, spread_evenly

torch.set_num_threads(1)


def windowing(length: int = 64, sampling: str = "consecutive", period_ms: float = 170.0, keyframe: float = 0.5) -> Windowing:
    return Windowing(length=length, sampling=sampling, period_ms=period_ms, keyframe=keyframe)


def test_a_window_is_32_before_the_keyframe_and_31_after():
    window = windowing().frames(np.arange(1000) * 170, 500)
    assert window.tolist() == list(range(468, 532)) and window[32] == 500


@pytest.mark.parametrize(("keyframe", "position"), [(0.0, 0), (0.25, 16), (0.5, 32), (0.9, 57), (1.0, 63)])
def test_the_keyframe_stands_where_it_is_wanted(keyframe, position):
    wanted = windowing(keyframe=keyframe)
    for sampling in ("consecutive", "uniform_time"):
        window = windowing(sampling=sampling, keyframe=keyframe).frames(np.arange(1000) * 170, 500)
        assert wanted.position == position and window[position] == 500 and len(window) == 64


def test_a_causal_window_sees_nothing_that_is_yet_to_come():
    times = np.cumsum(np.random.default_rng(0).integers(35, 900, 400))
    for sampling in ("consecutive", "uniform_time"):
        for centre in (0, 5, 200, 399):
            assert windowing(sampling=sampling, keyframe=1.0).frames(times, centre).max() == centre


def test_edges_repeat():
    assert windowing(6).frames(np.arange(10) * 170, 1).tolist() == [0, 0, 0, 1, 2, 3]
    assert windowing(6).frames(np.arange(10) * 170, 9).tolist() == [6, 7, 8, 9, 9, 9]
    assert windowing(4, "uniform_time", 100).frames(np.array([5]), 0).tolist() == [0, 0, 0, 0]


def test_uniform_time_takes_the_frame_nearest_to_each_tick():
    times = np.array([0, 100, 130, 160, 400, 500, 600])
    assert windowing(6, "uniform_time", 100).frames(times, 4).tolist() == [1, 3, 4, 4, 5, 6]


def test_the_earlier_of_two_equally_near_frames_is_taken():
    assert nearest_frames(np.array([0, 100, 200]), np.array([50, 51, -9, 999])).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(("total", "expected"), [
    (8, [0, 1, 2, 3, 4, 5, 6, 7]), (16, [1, 3, 5, 7, 9, 11, 13, 15]), (80, [5, 15, 25, 35, 45, 55, 65, 75]),
    (3, [0, 0, 0, 1, 1, 2, 2, 2]), (1, [0] * 8),
])
def test_a_whole_clip_is_seen_evenly_wherever_its_keyframe_stands(total, expected):
    for keyframe, centre in ((0.5, total // 2), (1.0, total - 1), (0.0, 0)):
        window = windowing(8, "whole", keyframe=keyframe).frames(40 * np.arange(total), centre)
        assert window.tolist() == expected and window.dtype == np.int64


def test_frames_kept_of_a_clip_are_spread_as_evenly_as_can_be():
    for total in range(1, 120):
        for count in (1, 2, 8, 16, 64):
            chosen = spread_evenly(total, count)
            assert len(chosen) == count and 0 <= chosen[0] <= chosen[-1] < total
            assert chosen[0] == total - 1 - chosen[-1] or abs(chosen[0] - (total - 1 - chosen[-1])) == 1
            assert np.ptp(np.diff(chosen)) <= 1 if count > 1 else True


def test_annotations_say_what_their_windows_are(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"info": {"window": asdict(windowing(keyframe=1.0)), "split_by": "session"}}))
    assert read_info(path).window == windowing(keyframe=1.0)
    path.write_text(json.dumps({"info": {"window": {"length": 64, "sampling": "consecutive", "period_ms": 170.0},
                                         "split_by": "session"}}))
    with pytest.raises(InputError, match="train.json: info.window.keyframe is missing"):
        read_info(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="train.json: info is missing"):
        read_info(path)


# networks

@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_network_reads_the_keyframe_of_a_causal_window(name):
    """What it makes of the window depends on the last frame: of those that it picks the keyframe is one."""
    torch.manual_seed(0)
    small = {"slowfast": {"width": 8, "beta": 2}, "thermal_tiny": {"width": 4}, "cnn_lstm": {"hidden": 8}}.get(name)
    model = build_model(name, num_classes=3, head="clip", hidden=8, keyframe=1.0, backbone=small).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.ones_(module.weight)  # csn begins with blocks that add nothing
    frames = torch.rand(1, 1, 64, 40, 60).expand(1, 3, 64, 40, 60)
    changed = frames.clone()
    changed[:, :, 63] += 1
    boxes = [torch.tensor([[0.0, 0.0, 1.0, 1.0]])]
    with torch.no_grad():
        assert not torch.equal(model(frames, boxes), model(changed, boxes))


@pytest.mark.parametrize("count", [1, 8, 13, 16, 32, 64, 100])
@pytest.mark.parametrize("keyframe", [0.0, 0.3, 0.5, 1.0])
def test_picked_frames_are_in_order_and_hold_the_keyframe(count, keyframe):
    chosen = pick_frames(torch.arange(64)[None, None, :, None, None], count, keyframe).flatten()
    assert len(chosen) == count and min(int(64 * keyframe), 63) in chosen.tolist()
    assert (chosen.diff() >= 0).all()


def test_the_moment_of_a_causal_window_is_its_end():
    features = torch.arange(8.0)[None, None, :, None, None]
    assert pool_time(features, 1.0).flatten().tolist() == [3.5, 7.0, 6.5]


def test_pathways_of_a_causal_window_end_with_the_keyframe():
    backbone = BACKBONES["slowfast"](keyframe=1.0, width=4, beta=2, tau=8, alpha=4).eval()
    seen = []
    for pathway in backbone.stages[0].multipathway_blocks:
        pathway.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0, 0, :, 0, 0].tolist()))
    backbone(torch.arange(64.0)[None, None, :, None, None].expand(1, 1, 64, 40, 60))
    assert seen == [list(range(7, 64, 8)), list(range(7, 64, 2))]


# augmentation

@pytest.mark.parametrize("strength", [{"time_warp": 1.0}, {"dropped_frames": 0.8}])
def test_time_bends_around_the_keyframe_wherever_it_stands(strength):
    off = dict.fromkeys(("flip_horizontal", "flip_vertical", "shift_px", "contrast", "offset_c", "noise_c", "box_jitter"), 0)
    (augmentation,) = augmentations(**off | strength)
    frames = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None], (64, 4, 4))
    window = Window(frames, np.empty((0, 4), np.float32), np.empty(0, int), np.empty(0, int), keyframe=63)
    for seed in range(5):
        ticks = augmentation(window, np.random.default_rng(seed)).frames[:, 0, 0]
        assert ticks[63] == 63 and (np.diff(ticks) >= 0).all()
