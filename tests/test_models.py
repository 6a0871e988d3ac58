"""pytest tests/test_models.py - a model that crashes on another sensor, or that cannot learn, is found here and not overnight."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from pytorchvideo.models import hub
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18, resnet50

from conftest import ROOT
from thermal_action import InputError
from thermal_action.models import BACKBONES, build_model
from thermal_action.models.convolutions import (
    DepthwiseConv3d,
    FrameConv3d,
    TemporalConv3d,
    absorb_normalisation,
    compute_by_frames,
)
from thermal_action.models.crops import PersonCrops
from thermal_action.models.heads import describe_boxes, expand_boxes, pool_time
from thermal_action.models.sampling import pick_frames
from thermal_action.params import read_params
from thermal_action.training.checkpoints import load_model, save_model
from thermal_action.training.options import Model, Name, architecture, check_model

torch.set_num_threads(1)
TINY = {"hidden": 8, "backbone": {"width": 4, "beta": 2}}
# pytorchvideo's builder, and millions of parameters in the table of its model zoo (docs/source/model_zoo.md, Kinetics-400)
PUBLISHED = {
    "slowfast_r50": (hub.slowfast_r50, 34.57),
    "slowfast_r101": (hub.slowfast_r101, 62.83),
    "slowonly_r50": (hub.slow_r50, 32.45),
    "c2d_r50": (hub.c2d_r50, 24.33),
    "i3d_r50": (hub.i3d_r50, 28.04),
    "r2plus1d_r50": (hub.r2plus1d_r50, 28.11),
    "csn_r101": (hub.csn_r101, 22.21),
    "x3d_s": (hub.x3d_s, 3.79),
    "x3d_m": (hub.x3d_m, 3.79),
    "mvit_b": (hub.mvit_base_16x4, 36.61),
}
KINDS = ("thermal_tiny", "slowfast", "slowonly_r50", "r2plus1d_r50", "x3d_s", "mvit_b", "cnn_lstm")  # one of each kind of code
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def build_tiny(**change):
    return build_model("slowfast", **({"num_classes": 3, **TINY} | change))


def random_batch(sizes=(2, 0, 1), frames=32, height=40, width=60, seed=0):
    """Frames, and `sizes` persons in each window."""
    generator = torch.Generator().manual_seed(seed)
    corners = [torch.rand(size, 2, 2, generator=generator).sort(dim=1).values.flatten(1) for size in sizes]
    return torch.rand(len(sizes), 1, frames, height, width, generator=generator).expand(-1, 3, -1, -1, -1), corners


def wake(model):
    """Residual blocks begin as identities, by a last normalisation of weight 0, which holds gradients from what is inside."""
    for module in model.modules():
        if getattr(module, "block_final_bn", False):
            nn.init.ones_(module.weight)
    return model


def answer(model, frames, boxes):
    """The logits, and all that the model says, as one number that depends on every weight."""
    if model.detector is None:
        logits = model(frames, boxes)
        return logits, logits.float().square().sum()
    logits, maps = model(frames, boxes, find=True)
    return logits, sum(each.float().square().sum() for each in (logits, *maps))


def assert_learns(model, frames, boxes):
    answer(model, frames, boxes)[1].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def build_shapes(name, **arguments):
    """A model without numbers: shapes are computed, values are not."""
    if name == "mvit_b":  # its builder asks for a value
        return build_model(name, num_classes=3, **arguments).to("meta")
    with torch.device("meta"):
        return build_model(name, num_classes=3, **arguments)


# every network

@pytest.mark.parametrize(("name", "head"), [*((name, "roi") for name in BACKBONES), *((name, "clip") for name in KINDS),
                                            *((name, "crop") for name in KINDS)])
def test_every_network_learns(name, head):
    """A gradient reaches every weight; an in-place activation before a dropout would raise in backward."""
    look = {"roi": {}, "clip": {"channels": ("temperature", "foreground", "difference"), "size": (32, 48)},
            "crop": {"channels": ("temperature", "difference"), "crop_px": 12, "size": (24, 24)}}[head]
    model = wake(build_model(name, num_classes=14, head=head, spatial_stride=8 if head == "crop" else 16, hidden=8, **look))
    frames, boxes = random_batch((2, 1), frames=16, height=24, width=32)
    boxes = [WHOLE, WHOLE] if head == "clip" else boxes
    rows = sum(map(len, boxes))
    assert_learns(model, frames, boxes)
    assert sorted(map(id, model.parameters())) == sorted(id(each) for part in model.parts() for each in part.parameters())
    assert list(model.head.parameters())[0] is list(model.parts()[-1].parameters())[0]
    assert all(list(part.parameters()) for part in model.parts())
    model.eval()
    with torch.no_grad():
        logits, features = model(frames, boxes), model.features(frames, boxes)
        assert logits.shape == (rows, 14) and features.shape[0] == rows
        assert torch.equal(model.classifier(features), logits) and torch.equal(model(frames, boxes), logits)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_fit(name):
    """By names and shapes, all but those of the head that is replaced; a layer too many would start from random weights."""
    build, millions = PUBLISHED[name]
    with torch.device("cpu" if name == "mvit_b" else "meta"):
        published = build()
    ours = build_shapes(name, channels=("temperature", "foreground", "difference"), spatial_stride=8).backbone
    expected = {key: value.shape for key, value in published.state_dict().items()}
    found = {key.replace("stages.", "blocks."): value.shape for key, value in ours.state_dict().items()}
    head = published.head if name == "mvit_b" else published.blocks[-1]
    prefix = "head." if name == "mvit_b" else f"blocks.{len(published.blocks) - 1}."
    assert found == {key: shape for key, shape in expected.items() if not key.startswith(prefix)}
    total = sum(parameter.numel() for part in (ours, head) for parameter in part.parameters())
    assert round(total / 1e6, 2) == millions


@pytest.mark.parametrize(("depth", "build"), [(18, resnet18), (50, resnet50)])
def test_imagenet_weights_fit(depth, build):
    """Of torchvision, under backbone.cnn; the classifier of 1000 things is left out."""
    with torch.device("meta"):
        expected = {key: value.shape for key, value in build().state_dict().items() if not key.startswith("fc.")}
    ours = build_shapes("cnn_lstm", channels=("temperature", "foreground", "difference"), backbone={"depth": depth}).backbone.cnn
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected


@pytest.mark.parametrize("name", ["x3d_s", "i3d_r50", "r2plus1d_r50"])
def test_published_weights_mean_what_they_meant(name):
    """Faster convolutions and chosen frames give the very features that pytorchvideo's network has for those frames."""
    ours = wake(build_model(name, num_classes=3, spatial_stride=32)).backbone.eval()
    reference = PUBLISHED[name][0](input_channel=1).eval()
    weights = {key.replace("stages.", "blocks."): value for key, value in ours.state_dict().items()}
    assert not reference.load_state_dict(weights, strict=False).unexpected_keys
    frames = torch.rand(1, 1, 64, 24, 32)
    expected = pick_frames(frames, ours.frames)
    with torch.no_grad():
        for block in reference.blocks[:-1]:
            expected = block(expected)
    assert torch.allclose(ours(frames)[0], expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_mvit_is_that_of_pytorchvideo():
    ours = build_model("mvit_b", num_classes=3, spatial_stride=32).backbone.eval()
    reference = hub.mvit_base_16x4(input_channels=1, spatial_size=(40, 60), head=None).eval()
    weights = ours.state_dict()
    key = "cls_positional_encoding.pos_embed_spatial"
    table = weights[key].unflatten(1, (56, 56)).permute(0, 3, 1, 2)
    same = functional.interpolate(table, (56, 56), mode="bilinear", antialias=True)
    assert torch.allclose(same, table, atol=1e-6)  # at its own size the table stays what it was
    weights[key] = functional.interpolate(table, (10, 15), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
    reference.load_state_dict(weights)
    frames = torch.rand(1, 1, 16, 40, 60)
    with torch.no_grad():
        (found,), expected = ours(frames), reference(frames)[:, 1:]
    assert torch.allclose(found.flatten(2).transpose(1, 2), expected, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_stride_is_that_of_the_map_the_boxes_are_read_from(name):
    """At stride 16 and 32 neighbours of 40 x 60 melt together; who asks for 4 or 8 must get it."""
    cells = {4: (10, 15), 8: (5, 8), 16: (3, 4), 32: (2, 2)}
    for stride in {"slowfast": (4, 8, 16, 32), "thermal_tiny": (4, 8, 16)}.get(name, (4, 16)):
        backbone = build_shapes(name, spatial_stride=stride).backbone
        maps = backbone(torch.rand(1, 1, 64, 40, 60, device="meta"))
        assert {each.shape[-2:] for each in maps} == {cells[stride]}
        assert sum(each.shape[1] for each in maps) == backbone.out_channels


@pytest.mark.parametrize("name", BACKBONES)
def test_unknown_strides_are_refused(name):
    with pytest.raises(ValueError, match="no spatial stride 64"):
        build_shapes(name, spatial_stride=64)


@pytest.mark.parametrize("name", ["thermal_tiny", "slowfast", "x3d_s", "c2d_r50", "mvit_b", "cnn_lstm"])
def test_any_sensor_any_window(name):
    model = build_model(name, num_classes=5, spatial_stride=16).eval()
    for height, width, frames in [(16, 16, 9), (24, 33, 17), (8, 9, 2)]:
        with torch.no_grad():
            assert model(*random_batch((1, 3), frames, height, width)).shape == (4, 5)


# the frames a network sees

@pytest.mark.parametrize("count", [8, 13, 16, 32])
@pytest.mark.parametrize("length", [1, 2, 7, 13, 16, 30, 64, 65, 100])
def test_chosen_frames_are_even_and_the_keyframe_is_their_middle(count, length):
    chosen = pick_frames(torch.arange(length)[None, None, :, None, None], count).flatten()
    assert len(chosen) == count and chosen[count // 2] == length // 2
    assert chosen.min() >= 0 and chosen.max() < length
    steps = chosen.diff()
    assert steps.min() >= 0 and steps.max() - steps.min() <= 1
    assert length != count or chosen.tolist() == list(range(length))
    assert chosen[-1] - chosen[0] >= length - 1 - 2 * -(-length // count)  # from end to end


@pytest.mark.parametrize(("name", "count"), [("slowonly_r50", 8), ("c2d_r50", 8), ("i3d_r50", 8), ("r2plus1d_r50", 16),
                                             ("csn_r101", 32), ("x3d_s", 13), ("x3d_m", 16), ("mvit_b", 16), ("cnn_lstm", 16)])
def test_networks_see_as_many_frames_as_their_published_weights_did(name, count):
    backbone = build_shapes(name).backbone
    stem = next(module for module in backbone.modules() if isinstance(module, (nn.Conv3d, nn.Conv2d)))

    def stop(_, arguments):
        raise StopIteration(arguments[0].shape[0 if name == "cnn_lstm" else 2])

    stem.register_forward_pre_hook(stop)  # the rest would take its time
    with pytest.raises(StopIteration, match=f"^{count}$"):
        backbone(torch.rand(1, 1, 64, 40, 60, device="meta"))


def test_pathways_see_every_second_and_every_eighth_frame():
    model = build_tiny(backbone={"width": 4, "beta": 2, "tau": 8, "alpha": 4}).eval()
    seen = []
    for pathway in model.backbone.stages[0].multipathway_blocks:
        pathway.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0, 0, :, 0, 0].tolist()))
    frames = torch.arange(64.0)[None, None, :, None, None].expand(1, 3, 64, 40, 60)
    model(frames, [torch.tensor([[0.1, 0.1, 0.5, 0.5]])])
    assert seen == [list(range(0, 64, 8)), list(range(0, 64, 2))]  # frame 32, the keyframe, is in both


def test_memory_reads_both_ways_and_each_cell_by_itself():
    """The label belongs to the middle of the window: what follows tells falling from rising."""
    backbone = build_model("cnn_lstm", num_classes=3, backbone={"depth": 18, "hidden": 8, "frames": 4}).backbone.eval()
    frames = torch.rand(1, 1, 4, 40, 60)
    later, aside = frames.clone(), torch.rand(1, 512, 1, 1).expand(4, -1, 5, 8).clone()
    later[:, :, 3] += 1
    with torch.no_grad():
        assert not torch.allclose(backbone(frames)[0][:, :, 0], backbone(later)[0][:, :, 0], atol=1e-4)
        backbone.cnn.layer4.register_forward_hook(lambda *_: aside)
        even = backbone(frames)[0]
        aside[:, :, 0, 0] = 0
        (changed,) = torch.nonzero((backbone(frames)[0] - even).abs().amax(dim=(0, 1, 2)).flatten() > 1e-6, as_tuple=True)
    assert changed.tolist() == [0]


# options

@pytest.mark.parametrize("depth", [18, 50, 101])
@pytest.mark.parametrize("spatial_stride", [4, 8, 16, 32])
def test_every_slowfast_learns(depth, spatial_stride):
    model = build_tiny(spatial_stride=spatial_stride, backbone=TINY["backbone"] | {"depth": depth})
    answer(model, *random_batch(height=24, width=36))[1].backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("change", [
    {"tau": 4, "alpha": 2}, {"tau": 16, "alpha": 4}, {"alpha": 1}, {"alpha": 8}, {"beta": 4, "width": 8}, {"beta": 1},
    {"stem_kernel": 7}, {"lateral": "plain", "lateral_kernel": 5}])
def test_every_option_of_slowfast_learns(change):
    assert_learns(wake(build_tiny(backbone=TINY["backbone"] | change)), *random_batch())


@pytest.mark.parametrize("change", [
    {"scene": False}, {"roi_size": 1}, {"dropout": 0.0}, {"context": 1.0}, {"classifier": "cosine"}, {"head": "crop"},
    {"head": "crop", "crop_px": 9, "size": (20, 20), "channels": ("temperature", "foreground", "difference")},
    {"classifier": "cosine", "head": "clip"}, {"size": (80, 120)}, {"channels": ("difference",)},
    {"mean": 0.45, "std": 0.225, "channels": ("temperature", "foreground")}])
def test_every_option_of_head_and_input_learns(change):
    frames, boxes = random_batch()
    assert_learns(wake(build_tiny(**change)), frames, boxes if change.get("head") != "clip" else [WHOLE] * 3)


def test_plain_laterals_are_convolutions_alone():
    """MMAction2's weights have nothing for a normalisation there; one would start untrained between trained layers."""
    plain, normed = (build_shapes("slowfast_r50", backbone={"lateral": lateral, "lateral_kernel": 5}).backbone
                     for lateral in ("plain", "norm_relu"))
    for stage in plain.stages[:-1]:
        assert {key: value.shape[2] for key, value in stage.multipathway_fusion.state_dict().items()} == {
            "conv_fast_to_slow.weight": 5}
        assert stage.multipathway_fusion.activation is None
    missing = sum(parameter.numel() for parameter in normed.parameters()) - sum(each.numel() for each in plain.parameters())
    assert missing == 928  # as counted between MMAction2's and pytorchvideo's networks


def test_contradicting_options_are_refused():
    with pytest.raises(ValueError, match="multiple of alpha"):
        build_tiny(backbone={"tau": 6, "alpha": 4})


def test_params_build_every_network():
    params = read_params("model", Model, ROOT / "params.yaml")
    assert set(get_args(Name)) == set(BACKBONES)
    for name in set(BACKBONES) - {"mvit_b"}:
        arguments = architecture(replace(params, name=name))
        with torch.device("meta"):
            build_model(**arguments, num_classes=14)


def test_a_stride_that_a_network_lacks_is_refused_in_a_sentence():
    params = replace(read_params("model", Model, ROOT / "params.yaml"), head="roi")
    with pytest.raises(InputError, match="thermal_tiny has no model.spatial_stride 32; it has 4, 8, 16"):
        check_model(replace(params, name="thermal_tiny", spatial_stride=32))
    check_model(replace(params, name="x3d_s", spatial_stride=32))
    with pytest.raises(InputError, match="model.crop_px 24 .* model.spatial_stride 16.* 32 pixels"):
        check_model(replace(params, head="crop", crop_px=24, spatial_stride=16))
    with pytest.raises(InputError, match="model.input.size 24x60 .* 32 pixels"):
        check_model(replace(params, head="crop", spatial_stride=16, input=replace(params.input, size="24x60")))


@pytest.mark.parametrize("arguments", [
    {"name": "slowfast", "backbone": {"width": 4, "beta": 2, "lateral": "plain"}, "size": (48, 72), "classifier": "cosine"},
    {"name": "x3d_s", "backbone": {}, "head": "clip", "channels": ["temperature", "difference"]},
    {"name": "thermal_tiny", "backbone": {"width": 4}, "head": "crop", "spatial_stride": 4, "crop_px": 16},
    {"name": "cnn_lstm", "backbone": {"depth": 18, "hidden": 4, "frames": 3}},
])
def test_a_model_file_gives_the_same_model_again(tmp_path, arguments):
    model = build_model(**arguments, num_classes=2, hidden=8).eval()
    info = {"model": arguments | {"hidden": 8}, "classes": ["sitting", "standing"], "transform": {}, "window": {},
            "frame_size": [40, 60], "training": {}}
    save_model(tmp_path / "model.pt", model, info)
    loaded, read = load_model(tmp_path / "model.pt")
    frames, boxes = random_batch((1, 1), frames=8)
    with torch.no_grad():
        assert torch.equal(loaded(frames, boxes), model(frames, boxes))
    assert read["model"] == info["model"]


# precision

@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("head", "classifier"), [("roi", "linear"), ("roi", "cosine"), ("clip", "cosine"), ("crop", "linear")])
def test_half_precision_learns(precision, head, classifier):
    model = build_tiny(head=head, classifier=classifier)
    frames, boxes = random_batch((1, 1, 1) if head == "clip" else (2, 0, 1), frames=16, height=16, width=16)
    with torch.autocast("cpu", precision):
        logits, everything = answer(model, frames, boxes)
    everything.backward()
    assert logits.isfinite().all() and all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "own"), [("x3d_s", {}), ("mvit_b", {}), ("thermal_tiny", {"width": 4}),
                                           ("cnn_lstm", {"depth": 18, "hidden": 8, "frames": 4})])
def test_half_precision_says_nearly_the_same(name, own):
    model = build_model(name, num_classes=3, spatial_stride=16, backbone=own).eval()
    frames, boxes = random_batch((1,), frames=16, height=24, width=32)
    with torch.no_grad():
        full = model(frames, boxes)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(frames, boxes)
    assert torch.allclose(half.float(), full, atol=0.1)


# heads

@pytest.mark.parametrize("head", ["roi", "crop", "clip"])
@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_window_without_persons_gives_no_rows(head, classifier):
    model = build_tiny(head=head, classifier=classifier)
    frames, boxes = random_batch((0, 0))
    assert model(frames, boxes).shape == (0, 3)
    assert model(frames, [WHOLE, WHOLE[:0]]).shape == (1, 3)


@pytest.mark.parametrize("head", ["roi", "crop", "clip"])
def test_rows_belong_to_their_windows(head):
    """Logits come in the order of the windows and of the boxes in each: a person scored in another window is a wrong score."""
    model = build_tiny(head=head, scene=False).eval()
    frames, boxes = random_batch((1, 1)) if head == "clip" else random_batch((2, 1))
    with torch.no_grad():
        together = model(frames, boxes)
        alone = torch.cat([model(frames[index : index + 1], [boxes[index]]) for index in (0, 1)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-5)


def test_cosines_are_scaled_once_and_forget_length():
    """The classifier multiplies by its scale, so that a softmax can be sure; a loss with margins must not do so again."""
    classifier = build_tiny(classifier="cosine").classifier
    features = torch.randn(20, classifier.weight.shape[1])
    logits = classifier(features)
    assert logits.abs().max() <= classifier.scale and torch.allclose(classifier(7 * features), logits, atol=1e-4)
    assert torch.allclose(classifier(classifier.weight).diagonal(), torch.full((3,), classifier.scale))
    assert classifier(torch.zeros_like(features[:1])).isfinite().all()


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
    model = build_tiny().eval()
    boxes = torch.tensor([[0.4, 0.4, 0.6, 0.6], [0.7, 0.4, 0.9, 0.6], [0.45, 0.45, 0.55, 0.55]])
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 16, 40, 60), [boxes])
    assert not torch.allclose(logits[0], logits[1], atol=1e-3) and not torch.allclose(logits[0], logits[2], atol=1e-3)
    assert describe_boxes(boxes[:1]).tolist()[0] == pytest.approx([0, 0, 0.6931, 0.6931], abs=1e-4)


# crops

def cut(picture, *boxes, side=9):
    """Pieces [N, side, side] and masks [N, side, side] of one picture [H, W]."""
    frames = picture.expand(1, 3, 2, *picture.shape)
    owner = torch.zeros(len(boxes), dtype=torch.long)
    pieces, masks, _ = PersonCrops(side)(frames, torch.tensor(boxes).float() / picture.shape[0], owner)
    assert torch.equal(pieces[:, 0, 0], pieces[:, 2, 1])
    return pieces[:, 0, 0], masks[:, 0, 0]


def test_pieces_are_turned_away_from_the_middle():
    """Rows lead away from the middle of the picture: to the right of it, below it, left and above; no pixel is blended there."""
    picture = torch.rand(41, 41)
    boxes = [[28, 16, 37, 25], [16, 28, 25, 37], [4, 16, 13, 25], [16, 4, 25, 13]]
    pieces, _ = cut(picture, *boxes)
    upright = torch.stack([picture[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes])
    for piece, source, turns in zip(pieces, upright, (3, 0, 1, 2), strict=True):
        assert torch.allclose(piece, source.rot90(turns), atol=1e-5)


def test_who_points_away_from_the_camera_looks_the_same_everywhere():
    y, x = torch.meshgrid(torch.arange(60) + 0.5 - 30, torch.arange(60) + 0.5 - 30, indexing="ij")
    star = torch.cos(8 * torch.atan2(y, x))  # eight rays away from the middle, at every 45 degrees
    middles = 30 + 18 * torch.stack([torch.cos(turns := torch.arange(8) * torch.pi / 4), torch.sin(turns)], dim=1)
    pieces, masks = cut(star, *torch.cat([middles - 3.5, middles + 3.5], dim=1).tolist(), side=13)
    assert (pieces - pieces[0]).abs().amax() < 0.15 < pieces[0].std()
    assert masks.sum(dim=(1, 2)).tolist() == pytest.approx([49] * 8, abs=9)
    assert pieces[0][:, 6].min() > 0.9  # the ray runs along the rows


def test_a_mask_tells_whose_piece_it_is():
    _, masks = cut(torch.zeros(41, 41), [30, 19, 37, 22], [16, 16, 25, 25], side=9)
    assert masks[0].sum() == masks[0][1:8, 3:6].sum() == 7 * 3  # 7 pixels away from the middle and 3 across
    assert masks[1].all()


def test_where_a_piece_is_knows_distance_and_extents_but_no_side():
    boxes = torch.tensor([[40, 17, 50, 23], [10, 17, 20, 23], [27, 30, 33, 40], [27, 17, 33, 23], [55, 35, 60, 40]]).float()
    where = PersonCrops(24).describe(boxes / torch.tensor([60, 40, 60, 40]), torch.tensor([60.0, 40.0]))
    diagonal = (30**2 + 20**2) ** 0.5
    assert torch.allclose(where[:, 0], torch.tensor([15, 15, 15, 0, (27.5**2 + 17.5**2) ** 0.5]) / diagonal, atol=1e-5)
    # ten pixels away from the middle and six across, whichever way that is
    assert torch.allclose(where[:3, 1:], torch.tensor([10 / 6, 1.0]).log().expand(3, 2), atol=1e-5)
    assert where.isfinite().all()


def test_a_mirrored_picture_gives_a_mirrored_piece():
    picture = torch.rand(40, 40)
    (piece, mirrored), (mask, other) = (torch.cat(both) for both in zip(
        cut(picture, [25, 8, 33, 14]), cut(picture.flip(1), [7, 8, 15, 14]), strict=True))
    assert torch.allclose(piece, mirrored.flip(1), atol=1e-5) and torch.equal(mask, other.flip(1))


def test_pieces_at_the_edge_and_below_the_camera_are_whole():
    picture = torch.full((20, 20), 7.0)
    pieces, masks = cut(picture, [0, 0, 2, 2], [19, 10, 20, 11], [9, 9, 11, 11], [10, 10, 10, 10], side=24)
    assert torch.allclose(pieces, torch.full((4, 24, 24), 7.0)) and masks.isfinite().all()


# inputs and convolutions

def test_channels_are_temperature_what_moved_and_what_changed():
    frames = torch.full((1, 3, 8, 4, 4), 0.4)
    frames[:, :, 5, 1, 1] = 0.9
    inputs = build_tiny(channels=("temperature", "foreground", "difference"), mean=0.4, std=0.5).inputs
    seen = inputs(frames)[0, :, :, 1, 1]
    moment = torch.eye(8)[5]
    assert torch.allclose(seen, torch.stack([moment, moment, moment - torch.eye(8)[6]]), atol=1e-6)
    faster = build_tiny(channels=("temperature", "difference"), mean=0.4, std=0.5, difference_std=0.1).inputs
    assert torch.allclose(faster(frames)[0, :, :, 1, 1], torch.stack([moment, 5 * (moment - torch.eye(8)[6])]), atol=1e-6)
    enlarged = build_tiny(size=(8, 12)).inputs(frames)
    assert enlarged.shape == (1, 1, 8, 8, 12) and torch.allclose(enlarged[0, 0, 0], torch.tensor(0.4))


def test_channels_are_colours_of_a_video():
    frames = torch.rand(2, 3, 8, 4, 4)
    inputs = build_tiny(channels=("red", "green", "blue"), mean=0.45, std=0.225).inputs
    assert torch.allclose(inputs(frames), (frames - 0.45) / 0.225, atol=1e-6)
    swapped = build_tiny(channels=("blue", "red"), mean=0.0, std=1.0).inputs
    assert torch.equal(swapped(frames), frames[:, [2, 0]])
    assert inputs(frames[:, :1].expand(-1, 3, -1, -1, -1))[:, 0].equal(inputs(frames)[:, 0])  # a grey video is no special case
    enlarged = build_tiny(channels=("red", "green", "blue"), size=(8, 12)).inputs(frames)
    assert enlarged.shape == (2, 3, 8, 8, 12)


@pytest.mark.parametrize("name", ["slowonly_r50", "cnn_lstm", "thermal_tiny"])
def test_a_network_of_clips_tells_colours_apart(name):
    own = {"cnn_lstm": {"depth": 18, "hidden": 8, "frames": 4}, "thermal_tiny": {"width": 4}}.get(name, {})
    model = wake(build_model(name, num_classes=3, head="clip", hidden=8, channels=("red", "green", "blue"),
                             spatial_stride=16, backbone=own))
    frames = torch.rand(2, 3, 8, 32, 32)
    assert_learns(model, frames, [WHOLE, WHOLE])
    model.eval()
    with torch.no_grad():
        assert not torch.allclose(model(frames, [WHOLE, WHOLE]), model(frames.flip(1), [WHOLE, WHOLE]), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_over_time_is_that_of_torch(stride):
    plain, folded = (kind(3, 5, (3, 1, 1), (stride, 1, 1), (1, 0, 0)) for kind in (nn.Conv3d, TemporalConv3d))
    folded.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 7, 4, 6)
    assert torch.allclose(folded(x), plain(x), atol=1e-6)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
def test_convolution_of_each_channel_is_that_of_torch(stride):
    plain, folded = (kind(6, 6, 3, stride, 1, groups=6) for kind in (nn.Conv3d, DepthwiseConv3d))
    folded.load_state_dict(plain.state_dict())
    x = torch.rand(2, 6, 7, 5, 6)
    for output in (folded(x), plain(x)):
        output.square().sum().backward()
    assert torch.allclose(folded(x), plain(x), atol=1e-6)
    assert torch.allclose(folded.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel, stride", [((5, 5, 5), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1))])
def test_convolution_by_frames_is_that_of_torch(kernel, stride):
    convolution = nn.Conv3d(3, 4, kernel, stride, tuple(side // 2 for side in kernel))
    seen = torch.randn(2, 3, 11, 8, 7)
    expected = convolution(seen)
    compute_by_frames(nn.Sequential(convolution))
    assert isinstance(convolution, FrameConv3d) and torch.allclose(convolution(seen), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["thermal_tiny", "slowfast"])
def test_normalisation_that_is_absorbed_changes_no_answer(name):
    model = build_model(name, num_classes=5, head="crop", spatial_stride=8).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 2), nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2), nn.init.uniform_(module.bias, -1, 1)
    frames = torch.rand(1, 1, 64, 40, 60).expand(-1, 3, -1, -1, -1)
    boxes, before = [torch.tensor([[0.2, 0.2, 0.4, 0.5]])], sum(isinstance(one, nn.BatchNorm2d) for one in model.modules())
    with torch.no_grad():
        expected = model(frames, boxes, find=True)
        absorb_normalisation(model)
        same = model(frames, boxes, find=True)
    assert sum(isinstance(one, nn.BatchNorm2d) for one in model.modules()) < before
    assert torch.allclose(same[0], expected[0], atol=1e-4) and torch.allclose(same[1].heat, expected[1].heat, atol=1e-4)
