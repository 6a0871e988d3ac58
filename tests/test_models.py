"""pytest tests/test_models.py - a model that crashes on another sensor, or that cannot learn, is found here and not overnight."""

import pytest
import torch

from thermal_action.models import build_model
from thermal_action.models.heads import describe_boxes, expand_boxes, pool_time
from thermal_action.models.slowfast import TemporalConv3d

torch.set_num_threads(1)
TINY = {"width": 4, "beta": 2, "hidden": 8}


def random_batch(sizes=(2, 0, 1), frames=32, height=40, width=60, seed=0):
    """Frames, and `sizes` persons in each window."""
    generator = torch.Generator().manual_seed(seed)
    corners = [torch.rand(size, 2, 2, generator=generator).sort(dim=1).values.flatten(1) for size in sizes]
    return torch.rand(len(sizes), 1, frames, height, width, generator=generator).expand(-1, 3, -1, -1, -1), corners


@pytest.mark.parametrize("depth", [18, 50, 101])
@pytest.mark.parametrize("spatial_stride", [4, 8, 16, 32])
def test_every_configuration_learns(depth, spatial_stride):
    """A gradient reaches every weight; an in-place activation before a dropout would raise in backward."""
    model = build_model("slowfast", num_classes=14, depth=depth, spatial_stride=spatial_stride, **TINY)
    frames, boxes = random_batch(height=24, width=36)
    logits = model(frames, boxes)
    assert logits.shape == (3, 14)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("change", [{"scene": False}, {"in_channels": 3}, {"tau": 4, "alpha": 2}, {"tau": 16, "alpha": 4},
                                    {"alpha": 1}, {"alpha": 8}, {"beta": 4}, {"beta": 1}, {"stem_kernel": 7}, {"roi_size": 1},
                                    {"dropout": 0.0}, {"context": 1.0}])
def test_every_option_learns(change):
    model = build_model("slowfast", num_classes=3, **(TINY | change))
    frames, boxes = random_batch()
    model(frames, boxes).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_learns(precision):
    model = build_model("slowfast", num_classes=3, **TINY)
    frames, boxes = random_batch(frames=16, height=16, width=16)
    with torch.autocast("cpu", precision):
        logits = model(frames, boxes)
    logits.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("height", "width", "frames", "spatial_stride", "classes"),
                         [(16, 16, 64, 4, 7), (40, 60, 64, 8, 14), (24, 32, 17, 16, 2), (8, 8, 2, 32, 3), (62, 80, 9, 8, 5)])
def test_any_sensor_any_window_any_number_of_classes(height, width, frames, spatial_stride, classes):
    model = build_model("slowfast", num_classes=classes, spatial_stride=spatial_stride, **TINY).eval()
    assert model(*random_batch((1, 3), frames, height, width)).shape == (4, classes)


@pytest.mark.parametrize(("spatial_stride", "cells"), [(4, (10, 15)), (8, (5, 8)), (16, (3, 4)), (32, (2, 2))])
def test_stride_is_that_of_the_map_the_boxes_are_read_from(spatial_stride, cells):
    """At stride 16 and 32 neighbours of 40 x 60 melt together; who asks for 4 or 8 must get it."""
    model = build_model("slowfast", num_classes=3, spatial_stride=spatial_stride, **TINY).eval()
    maps = []
    model.head.register_forward_pre_hook(lambda _, arguments: maps.append(arguments[0].shape[-2:]))
    model(*random_batch())
    assert maps == [cells]


def test_window_without_persons_gives_no_rows():
    model = build_model("slowfast", num_classes=3, **TINY)
    assert model(*random_batch((0, 0))).shape == (0, 3)


def test_rows_belong_to_their_windows():
    """Logits come in the order of the windows and of the boxes in each: a person scored in another window is a wrong score."""
    model = build_model("slowfast", num_classes=3, scene=False, **TINY).eval()
    frames, boxes = random_batch((2, 1))
    with torch.no_grad():
        together = model(frames, boxes)
        alone = torch.cat([model(frames[index : index + 1], [boxes[index]]) for index in (0, 1)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-5)


def test_pathways_see_every_second_and_every_eighth_frame():
    model = build_model("slowfast", num_classes=3, tau=8, alpha=4, **TINY).eval()
    seen = []
    for pathway in model.stages[0].multipathway_blocks:
        pathway.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0, 0, :, 0, 0].tolist()))
    frames = torch.arange(64.0)[None, None, :, None, None].expand(1, 3, 64, 40, 60)
    model(frames, [torch.tensor([[0.1, 0.1, 0.5, 0.5]])])
    assert seen == [list(range(0, 64, 8)), list(range(0, 64, 2))]  # frame 32, the keyframe, is in both


def test_convolution_over_time_is_that_of_torch():
    plain, folded = torch.nn.Conv3d(3, 5, (3, 1, 1), (2, 1, 1), (1, 0, 0)), TemporalConv3d(3, 5, (3, 1, 1), (2, 1, 1), (1, 0, 0))
    folded.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 7, 4, 6)
    assert torch.allclose(folded(x), plain(x), atol=1e-6)


def test_contradicting_options_are_refused():
    with pytest.raises(ValueError, match="multiple of alpha"):
        build_model("slowfast", num_classes=3, tau=6, alpha=4)


def test_expanded_boxes_stay_in_the_picture():
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.5], [0.0, 0.9, 0.2, 1.0]])
    expected = torch.tensor([[0.3, 0.35, 0.7, 0.55], [0.0, 0.85, 0.3, 1.0]])
    assert torch.allclose(expand_boxes(boxes, 2.0), expected)


def test_time_is_pooled_to_mean_maximum_and_keyframe():
    features = torch.zeros(1, 1, 8, 1, 1)
    features[0, 0, 3:6, 0, 0] = torch.tensor([3.0, 6.0, 9.0])
    assert pool_time(features).flatten().tolist() == [18 / 8, 9.0, 6.0]
    assert pool_time(features[:, :, :1]).shape == (1, 3, 1, 1)


def test_place_and_size_of_a_box_are_seen():
    """RoIAlign alone would give the same answer for a person below the camera and one at the rim of an even picture."""
    model = build_model("slowfast", num_classes=3, **TINY).eval()
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.6], [0.7, 0.4, 0.9, 0.6], [0.45, 0.45, 0.55, 0.55]])
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 16, 40, 60), [boxes])
    assert not torch.allclose(logits[0], logits[1], atol=1e-3) and not torch.allclose(logits[0], logits[2], atol=1e-3)
    assert describe_boxes(boxes[:1]).tolist()[0] == pytest.approx([0, 0, 0.6931, 0.6931], abs=1e-4)
