"""pytest tests/test_initial.py - a model starts from the weights that it was told to, from all of them, or from none."""

import http.server
import pickle
import threading
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torchvision
from pytorchvideo.models import hub
from pytorchvideo.models.slowfast import create_slowfast
from torch import nn

import mmaction2_layout
from thermal_action import InputError
from thermal_action.files import file_sha256
from thermal_action.models import build_model
from thermal_action.training.checkpoints import save_model
from thermal_action.training.initial import Init, blend, check_init, find_weights, initialise, summary

torch.set_num_threads(1)
CLASSES = ["sitting", "standing", "lying"]
KINETICS = {"mean": 0.45, "std": 0.225}
# small SlowFasts, as this project builds them and as pytorchvideo does
SMALL = {"depth": 18, "width": 16, "tau": 8, "alpha": 4, "beta": 4, "stem_kernel": 7}
INFO = {"transform": {}, "window": {}, "frame_size": (40, 60), "training": {}}


def build(name="slowfast", **options):
    torch.manual_seed(1)
    backbone = {"backbone": SMALL | options.pop("backbone", {})} if name == "slowfast" else {}
    return build_model(name, **({"num_classes": len(CLASSES), "hidden": 8, "spatial_stride": 32} | KINETICS | backbone | options))


def slowfast(depth=18, lateral_kernel=7, width=16, beta=4):
    return create_slowfast(slowfast_channel_reduction_ratio=(beta,), slowfast_fusion_conv_kernel_size=(lateral_kernel, 1, 1),
                           stem_dim_outs=(width, width // beta), model_depth=depth, model_num_class=400)


def trained(network, seed=0):
    """As if trained: no norm is the identity, and none is zero, with which networks begin."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
            module.num_batches_tracked.fill_(7)
    return network.eval()


def public_file(path, network, key="model_state", prefix="", **others):
    state = OrderedDict((prefix + name, tensor) for name, tensor in network.state_dict().items())
    torch.save({key: state, **others} if key else state, path)
    return path


def start(model, source, location, sha256=None, classes=CLASSES, scratch=".", keep=0.0):
    init = Init(source=source, location=str(location), sha256=sha256, keep=keep)
    return initialise(model, init, classes=classes, scratch=scratch)


def refusal(model, *arguments, **options):
    """The sentence of a refusal, which leaves the model as it was."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        start(model, *arguments, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value)


def grey(frames, size=32, seed=3):
    return torch.rand(2, 1, frames, size, size, generator=torch.Generator().manual_seed(seed))


def assert_same_maps(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape and other.std() > 1e-3
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


@pytest.mark.parametrize(("name", "published", "frames", "stems"), [
    ("slowonly_r50", hub.slow_r50, 8, 1), ("c2d_r50", hub.c2d_r50, 8, 1), ("i3d_r50", hub.i3d_r50, 8, 1),
    ("r2plus1d_r50", hub.r2plus1d_r50, 16, 1), ("csn_r101", hub.csn_r101, 32, 1), ("x3d_s", hub.x3d_s, 13, 1),
    ("x3d_m", hub.x3d_m, 16, 1),
])
@torch.no_grad()
def test_published_networks_see_a_temperature_as_their_own_see_grey(tmp_path, name, published, frames, stems):
    network = trained(published())
    model = build(name).eval()
    report = start(model, "pytorchvideo", public_file(tmp_path / "A.pyth", network))
    assert len(report["folded"]) == stems and not report["warnings"]
    assert all(other.startswith(("head.", "detector.")) for other in report["fresh"])
    picture = grey(frames).double()  # random normalisation multiplies rounding
    maps = picture.expand(-1, 3, -1, -1, -1)
    for block in network.double().blocks[:-1]:
        maps = block(maps)
    assert_same_maps(model.double().backbone(picture), [maps])


def test_slowfast_r50_of_the_standard_size_fills_from_the_published_names(tmp_path):
    network = hub.slowfast_r50()
    model = build_model("slowfast_r50", num_classes=14, **KINETICS)
    report = start(model, "pytorchvideo", public_file(tmp_path / "SLOWFAST_8x8_R50.pyth", network))
    theirs = {name.replace("blocks.", "backbone.stages.", 1): tensor for name, tensor in network.state_dict().items()
              if "proj" not in name}
    assert report["used"] == len(theirs) == 660
    assert report["skipped"] == {"not of the backbone": ["blocks.6.proj.weight", "blocks.6.proj.bias"]}
    assert report["folded"] == [f"backbone.stages.0.multipathway_blocks.{pathway}.conv.weight" for pathway in (0, 1)]
    assert sum(name.startswith("head.") for name in report["fresh"]) == 8
    assert all(name.startswith(("head.", "detector.")) for name in report["fresh"])
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in theirs.items() if name not in report["folded"])
    assert summary(report).splitlines() == [
        "init: 660 tensors of pytorchvideo SLOWFAST_8x8_R50.pyth used, 2 of them folded from colour; random start: "
        f"head.classify.weight, head.classify.bias, head.reduce.0.weight and {len(report['fresh']) - 3} more",
        "init: left in the file, not of the backbone: blocks.6.proj.weight, blocks.6.proj.bias"]


@pytest.mark.parametrize(("depth", "kernel"), [(18, 7), (101, 5)])
@torch.no_grad()
def test_slowfast_sees_a_temperature_as_pytorchvideos_sees_grey(tmp_path, depth, kernel):
    network = trained(slowfast(depth, kernel))
    model = build(backbone={"depth": depth, "lateral_kernel": kernel}).eval()
    start(model, "pytorchvideo", public_file(tmp_path / "SLOWFAST.pyth", network))
    picture = grey(32)
    maps = [picture[:, :, ::step].expand(-1, 3, -1, -1, -1) for step in (8, 2)]
    for block in network.blocks[:-2]:
        maps = block(maps)
    assert_same_maps(model.backbone(picture), maps)


def test_mvit_keeps_the_published_positions(tmp_path):
    network = hub.mvit_base_16x4()
    model = build("mvit_b")
    report = start(model, "pytorchvideo", public_file(tmp_path / "MVIT_B_16x4.pyth", network))
    own, theirs = model.state_dict(), network.state_dict()
    folded = "patch_embed.patch_model.weight"
    assert report["used"] == len(theirs) - 2 and report["folded"] == ["backbone." + folded]
    assert report["skipped"] == {"not of the backbone": ["head.proj.weight", "head.proj.bias"]}
    torch.testing.assert_close(own["backbone." + folded], theirs[folded].sum(dim=1, keepdim=True))
    same = theirs.keys() - {folded, "head.proj.weight", "head.proj.bias"}
    assert all(torch.equal(own[f"backbone.{name}"], theirs[name]) for name in same)


def test_the_layout_of_mmaction2_has_the_parameters_of_the_package():
    # 33,675,830: counted in MMAction2 1.2.0 with 14 classes
    with torch.device("meta"):
        assert sum(weight.numel() for weight in mmaction2_layout.slowfast(14).parameters()) == 33_675_830


@pytest.mark.parametrize("kernel", [5, 7])
@torch.no_grad()
def test_slowfast_sees_a_temperature_as_mmaction2s_sees_grey(tmp_path, kernel):
    network = trained(mmaction2_layout.slowfast(depth=18, base=16, beta=4, fusion_kernel=kernel))
    model = build(backbone={"lateral": "plain", "lateral_kernel": kernel}).eval()
    report = start(model, "mmaction2", public_file(tmp_path / "slowfast_r50.pth", network, "state_dict", meta={"epoch": 256}))
    assert report["skipped"] == {"not of the backbone": ["cls_head.fc_cls.weight", "cls_head.fc_cls.bias"]}
    picture = grey(32)
    assert_same_maps(model.backbone(picture), network.backbone(picture.expand(-1, 3, -1, -1, -1)))


def test_slowfast_r50_of_the_standard_size_fills_from_the_names_of_mmaction2(tmp_path):
    network = mmaction2_layout.slowfast()
    model = build("slowfast_r50", backbone={"lateral": "plain"})
    report = start(model, "mmaction2", public_file(tmp_path / "slowfast_r50_8x8x1.pth", network, "state_dict", meta={}))
    assert report["used"] == len(network.state_dict()) - 2 == 640
    own = model.state_dict()
    for theirs, ours in {
        "slow_path.layer3.5.conv1.conv.weight": "stages.3.multipathway_blocks.0.res_blocks.5.branch2.conv_a.weight",
        "fast_path.layer2.0.downsample.bn.running_var": "stages.2.multipathway_blocks.1.res_blocks.0.branch1_norm.running_var",
        "slow_path.conv1_lateral.conv.weight": "stages.0.multipathway_fusion.conv_fast_to_slow.weight",
        "slow_path.layer3_lateral.conv.weight": "stages.3.multipathway_fusion.conv_fast_to_slow.weight",
    }.items():
        assert torch.equal(own[f"backbone.{ours}"], network.state_dict()[f"backbone.{theirs}"])


@torch.no_grad()
def test_slowonly_sees_a_temperature_as_mmaction2s_sees_grey(tmp_path):
    network = trained(mmaction2_layout.slowonly())
    model = build("slowonly_r50").eval()
    report = start(model, "mmaction2", public_file(tmp_path / "slowonly_r50.pth", network, "state_dict", meta={}))
    assert report["used"] == 318
    picture = grey(8)
    assert_same_maps(model.backbone(picture), [network.backbone(picture.expand(-1, 3, -1, -1, -1))])


def test_a_file_with_other_laterals_names_the_parameter(tmp_path):
    """Else the slow pathway would get from the fast one what it never saw in training."""
    theirs = public_file(tmp_path / "a.pth", mmaction2_layout.slowfast(depth=18, base=16, beta=4, fusion_kernel=5), "state_dict")
    sentence = refusal(build(backbone={"lateral_kernel": 5}), "mmaction2", theirs)
    assert "multipathway_fusion.norm" in sentence and sentence.endswith(
        "set lateral to plain in the section of params.yaml that model.name names")
    assert "set lateral to plain and lateral_kernel to 5" in refusal(build(), "mmaction2", theirs)
    theirs = public_file(tmp_path / "b.pyth", slowfast())
    assert "set lateral to norm_relu in the section" in refusal(build(backbone={"lateral": "plain"}), "pytorchvideo", theirs)
    assert "set lateral_kernel to 7 in the section" in refusal(build(backbone={"lateral_kernel": 5}), "pytorchvideo", theirs)


@torch.no_grad()
def test_cnn_lstm_starts_from_pictures_and_learns_time_anew(tmp_path):
    network = trained(torchvision.models.resnet18())
    model = build("cnn_lstm").eval()
    report = start(model, "torchvision", public_file(tmp_path / "resnet18-f37072fd.pth", network, key=None))
    assert report["folded"] == ["backbone.cnn.conv1.weight"] and "backbone.lstm.weight_ih_l0" in report["fresh"]
    assert report["skipped"] == {"not of the backbone": ["fc.weight", "fc.bias"]}
    assert not any("cnn" in name for name in report["fresh"])
    maps = {}
    for whole, cnn in (("theirs", network), ("ours", model.backbone.cnn)):
        pictures = grey(1, 64)[:, :, 0].expand(-1, 3 if whole == "theirs" else 1, -1, -1)
        layers = [getattr(cnn, name) for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")]
        maps[whole] = nn.Sequential(*layers)(pictures)
    assert_same_maps([maps["ours"]], [maps["theirs"]])
    assert "set model.name" in refusal(build(), "torchvision", tmp_path / "resnet18-f37072fd.pth")


@torch.no_grad()
def test_a_mask_starts_unseen(tmp_path):
    """Pieces of the picture answer as to the grey picture, whoever they belong to."""
    network = trained(slowfast())
    model = build(head="crop", channels=["temperature", "difference"], crop_px=64).eval()
    start(model, "pytorchvideo", public_file(tmp_path / "a.pyth", network))
    picture = grey(32)
    seen = torch.cat([picture, picture, torch.rand_like(picture)], dim=1)
    plain = build().eval()
    start(plain, "pytorchvideo", tmp_path / "a.pyth")
    assert_same_maps(model.backbone(seen), plain.backbone(picture))


@pytest.mark.parametrize("channels", [["temperature"], ["temperature", "foreground"], ["temperature", "foreground", "difference"],
                                      ["temperature"] * 3])
@torch.no_grad()
def test_channels_that_show_the_same_are_the_grey_picture(tmp_path, channels):
    network = trained(slowfast())
    model = build(channels=channels).eval()
    report = start(model, "pytorchvideo", public_file(tmp_path / "a.pyth", network))
    assert len(report["folded"]) == (0 if channels == ["temperature"] * 3 else 2)
    picture = grey(32)
    maps = [picture[:, :, ::step].expand(-1, 3, -1, -1, -1) for step in (8, 2)]
    for block in network.blocks[:-2]:
        maps = block(maps)
    assert_same_maps(model.backbone(picture.expand(-1, len(channels), -1, -1, -1)), maps)


def our_file(path, model, classes=CLASSES, **options):
    arguments = {"name": "slowfast", "hidden": 8, "spatial_stride": 32, "backbone": SMALL, **KINETICS, **options}
    save_model(path, model, {**INFO, "classes": list(classes), "model": arguments})
    return path


@torch.no_grad()
@torch.no_grad()
def test_a_network_of_colours_takes_the_published_stem_as_it_is(tmp_path):
    network = trained(hub.slow_r50())
    model = build("slowonly_r50", channels=["red", "green", "blue"], head="clip").eval()
    report = start(model, "pytorchvideo", public_file(tmp_path / "A.pyth", network))
    assert not report["folded"] and not report["warnings"]
    frames = torch.rand(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(3)).double()
    maps = frames
    for block in network.double().blocks[:-1]:
        maps = block(maps)
    assert_same_maps(model.double().backbone(frames), [maps])
    swapped = build("slowonly_r50", channels=["blue", "green", "red"], head="clip")
    assert start(swapped, "pytorchvideo", tmp_path / "A.pyth")["folded"]


@torch.no_grad()
def test_cnn_lstm_of_colours_takes_the_stem_of_imagenet_as_it_is(tmp_path):
    network = trained(torchvision.models.resnet18())
    model = build("cnn_lstm", channels=["red", "green", "blue"], head="clip")
    report = start(model, "torchvision", public_file(tmp_path / "A.pth", network, key=None))
    assert not report["folded"]
    stem = network.conv1.weight
    assert any(torch.equal(tensor.flatten(), stem.flatten()) for tensor in model.state_dict().values() if tensor.shape[0] == 64)


def test_a_model_of_ours_goes_on_where_it_stood(tmp_path):
    teacher, model = trained(build()), build().eval()
    nn.init.normal_(teacher.classifier.weight)
    report = start(model, "checkpoint", our_file(tmp_path / "best.pt", teacher))
    assert report["used"] == len(model.state_dict()) and not (report["fresh"] or report["skipped"] or report["warnings"])
    frames, boxes = grey(32).expand(-1, 3, -1, -1, -1), [torch.tensor([[0.1, 0.2, 0.6, 0.7]])] * 2
    assert torch.equal(model(frames, boxes), teacher(frames, boxes))


@pytest.mark.parametrize(("reason", "options", "classes", "fresh"), [
    ("other classes", {"num_classes": 4}, [*CLASSES, "walking"], 2),
    ("other classes", {}, ["lying", "sitting", "standing"], 2),  # as many, but others: the rows would mean something else
    ("another classifier", {"classifier": "cosine"}, CLASSES, 1),
    ("another head", {"hidden": 4}, CLASSES, 8),
    ("another head", {"head": "clip"}, CLASSES, 8),
])
def test_of_another_head_only_what_fits_is_used(tmp_path, reason, options, classes, fresh):
    teacher, model = trained(build()), build(**options)
    report = start(model, "checkpoint", our_file(tmp_path / "best.pt", teacher), classes=classes)
    more = ["another detector"] if model.detector is None else []
    assert list(report["skipped"]) == [reason, *more] and len(report["fresh"]) == fresh
    own, theirs = model.state_dict(), teacher.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own if name.startswith("backbone."))
    assert all(name.startswith("head.") for name in report["fresh"])
    assert f"left in the file, {reason}: head." in summary(report)


def test_a_share_of_the_start_is_kept():
    start, model = trained(build(), seed=1).state_dict(), trained(build(), seed=2)
    learned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    blend(model, start, 0.25)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 0.25 * start[name] + 0.75 * learned[name], atol=1e-6)
    assert not torch.equal(start["head.reduce.1.bias"], learned["head.reduce.1.bias"])


def test_a_share_of_random_weights_is_not_kept(tmp_path):
    path = our_file(tmp_path / "best.pt", trained(build()))
    sentence = refusal(build(num_classes=4), "checkpoint", path, keep=0.5, classes=[*CLASSES, "walking"])
    assert "train.init.keep 0.5" in sentence and "leaves head.classify.weight, head.classify.bias random" in sentence
    assert start(build(), "checkpoint", path, keep=0.5)["keep"] == 0.5


def test_a_model_of_ours_that_sees_other_channels_is_refused(tmp_path):
    path = our_file(tmp_path / "best.pt", build(channels=["temperature", "foreground"]), channels=["temperature", "foreground"])
    assert "model.input.channels" in refusal(build(channels=["temperature", "difference"]), "checkpoint", path)


def test_another_normalisation_is_told(tmp_path):
    report = start(build(mean=0.0, std=1.0), "pytorchvideo", public_file(tmp_path / "a.pyth", slowfast()))
    assert "with mean 0.45, std 0.225, model.input has mean 0.0, std 1.0" in summary(report).splitlines()[-1]
    report = start(build(), "checkpoint", our_file(tmp_path / "best.pt", build(), mean=0.2, std=0.225))
    assert "mean 0.2" in report["warnings"][0]
    look = {"difference_std": 0.05, **KINETICS}
    report = start(build(), "checkpoint", our_file(tmp_path / "best.pt", build(), **look))
    assert "difference_std 0.05, model.input has mean 0.45, std 0.225, difference_std 0.225" in report["warnings"][0]
    assert start(build(difference_std=0.056), "checkpoint", tmp_path / "best.pt")["warnings"]
    assert not start(build(difference_std=0.05), "checkpoint", tmp_path / "best.pt")["warnings"]


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_prefixes_of_wrapped_models_are_taken_off(tmp_path, prefix):
    report = start(build(), "pytorchvideo", public_file(tmp_path / "a.pyth", slowfast(), prefix=prefix))
    assert report["used"] == len(slowfast().state_dict()) - 2


def test_a_detection_file_of_pytorchvideo_fills_the_backbone(tmp_path):
    network = hub.slow_r50_detection()
    report = start(build("slowonly_r50"), "pytorchvideo", public_file(tmp_path / "SLOW_4x16_R50_DETECTION.pyth", network))
    assert report["skipped"] == {"not of the backbone": ["detection_head.proj.weight", "detection_head.proj.bias"]}


def test_old_files_that_count_no_batches_load(tmp_path):
    network = slowfast()
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches_tracked" not in name}
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    assert start(build(), "pytorchvideo", tmp_path / "a.pyth")["used"] == len(state) - 2


def test_a_file_that_does_not_fill_the_backbone_stops_with_what_differs(tmp_path):
    """A network that trains from random weights, believing that it does not, wastes days."""
    deep, small = public_file(tmp_path / "deep.pyth", slowfast(50)), public_file(tmp_path / "small.pyth", slowfast())
    # the deeper file holds all that the shallow network needs, and yet is another network
    sentence = refusal(build(), "pytorchvideo", deep)
    assert "deep.pyth does not fill the backbone: " in sentence and "of the file are left over" in sentence
    assert "res_blocks.1" in sentence and "set model.name" in sentence
    sentence = refusal(build(backbone={"depth": 50}), "pytorchvideo", small)
    assert "tensors are missing (backbone.stages.1.multipathway_blocks.0.res_blocks.1.branch2.conv_a.weight" in sentence
    sentence = refusal(build(backbone={"stem_kernel": 3}), "pytorchvideo", small)
    assert "2 have another shape" in sentence and "[16, 1, 1, 7, 7] there and [16, 1, 1, 3, 3] here" in sentence
    wrong = public_file(tmp_path / "wrong.pyth", slowfast(), prefix="net.backbone.")
    sentence = refusal(build(), "pytorchvideo", wrong)
    assert "no file of train.init.source pytorchvideo, its names (net.backbone.blocks.0.multipathway_blocks.0.conv" in sentence
    path = our_file(tmp_path / "tiny.pt", build("thermal_tiny", spatial_stride=8), name="thermal_tiny")
    assert "does not fill the backbone" in refusal(build(), "checkpoint", path)
    assert "left over (backbone.stages.0.0.weight" in refusal(build(), "checkpoint", path)


@pytest.mark.parametrize(("wrong", "right"), [("mmaction2", "pytorchvideo"), ("torchvision", "pytorchvideo"),
                                              ("checkpoint", "pytorchvideo"), ("pytorchvideo", "mmaction2"),
                                              ("pytorchvideo", "checkpoint"), ("pytorchvideo", "torchvision")])
def test_a_wrong_source_names_the_right_one(tmp_path, wrong, right):
    if right == "checkpoint":
        path = our_file(tmp_path / "a", build())
    elif right == "mmaction2":
        path = public_file(tmp_path / "a", mmaction2_layout.slowfast(depth=18, base=16, beta=4), "state_dict")
    else:
        path = public_file(tmp_path / "a", slowfast() if right == "pytorchvideo" else torchvision.models.resnet18())
    sentence = refusal(build(), wrong, path)
    assert sentence.endswith(f"are those of {right}: set train.init.source to {right}")


def layouts(path, content):
    """The same in the format of today and in the one of torch before 1.6, which MMAction2 publishes its files in."""
    for zipped in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        yield path


def test_a_torn_file_is_never_used(tmp_path):
    for path in layouts(tmp_path / "torn.pyth", {"model_state": slowfast().state_dict()}):
        whole = path.read_bytes()
        start(build(), "pytorchvideo", path)
        model = build()
        for length in (0, 1, 5, 100, 300, 1000, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1):
            path.write_bytes(whole[:length])
            assert "torn" in refusal(model, "pytorchvideo", path).removeprefix(str(path)), length


class Code:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def test_code_in_a_file_is_not_run(tmp_path):
    model = build()
    for path in layouts(tmp_path / "evil.pth", {"state_dict": slowfast().state_dict(), "meta": Code()}):
        sentence = refusal(model, "mmaction2", path)
        assert "evil.pth holds exec, neither a tensor nor a number nor text: it could run code and was not loaded" in sentence
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Code()}, protocol=2))
    assert "could run code" in refusal(model, "mmaction2", tmp_path / "evil.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    assert "whole.pth holds torch.nn.modules.linear.Linear" in refusal(model, "pytorchvideo", tmp_path / "whole.pth")


def test_plain_facts_beside_the_weights_are_no_obstacle(tmp_path):
    meta = {"mmengine_version": "0.10.7", "CLASSES": ("run", "sit"), "seed": 1, "epoch": 256, "cfg": "model = dict()",
            "hook_msgs": {"best_score": np.float64(0.71), "last": np.float32(0.7), "iter": np.int64(3)}, "dataset_meta": {}}
    network = mmaction2_layout.slowfast(depth=18, base=16, beta=4)
    content = {"meta": meta, "state_dict": network.state_dict(), "message_hub": {"log": [1.0]}, "param_schedulers": [{"T": 3}],
               "optimizer": torch.optim.SGD(network.parameters(), 0.1, 0.9).state_dict()}
    for path in layouts(tmp_path / "a.pth", content):
        assert start(build(backbone={"lateral": "plain"}), "mmaction2", path)["used"] == len(network.state_dict()) - 2
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))  # as numpy 1 named it
    assert start(build(backbone={"lateral": "plain"}), "mmaction2", path)["used"] == len(network.state_dict()) - 2


@pytest.mark.parametrize(("content", "words"), [
    (b"<!DOCTYPE html><html>sign in</html>", "a web page"), (b"\n<HTML>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "no whole checkpoint"), (bytes(20_000), "no whole checkpoint"),
    (b'{"weights": 1}', "no whole checkpoint"), (b"PK\x03\x04...", "no whole checkpoint"),
])
def test_what_is_no_checkpoint_is_refused(tmp_path, content, words):
    (tmp_path / "a.pth").write_bytes(content)
    assert words in refusal(build(), "pytorchvideo", tmp_path / "a.pth")


@pytest.mark.parametrize("content", [{}, [1, 2], torch.zeros(3), {"model_state": {}}, {"state_dict": {"a": 1}}])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    assert "holds no weights" in refusal(build(), "pytorchvideo", tmp_path / "a.pth")


def test_wrong_parameters_are_refused_before_any_work(tmp_path):
    def sentence(**fields):
        with pytest.raises(InputError) as error:
            check_init(Init(**({"location": None, "sha256": None, "keep": 0.0} | fields)))
        return str(error.value)

    assert "needs train.init.location" in sentence(source="pytorchvideo")
    assert "train.init.source is scratch" in sentence(source="scratch", location="a.pth")
    assert "train.init.sha256" in sentence(source="mmaction2", location="https://example.org/a.pth")
    assert "train.init.keep 0.5 would keep random" in sentence(source="scratch", keep=0.5)
    assert "is no file" in sentence(source="mmaction2", location=str(tmp_path))
    assert "is no file" in sentence(source="mmaction2", location=str(tmp_path / "nowhere.pth"))
    check_init(Init(source="scratch", location=None, sha256=None, keep=0.0))
    assert find_weights(Init(source="scratch", location=None, sha256=None, keep=0.0), tmp_path) is None
    public_file(tmp_path / "a.pyth", slowfast())
    assert "train.init.sha256 says 0000" in refusal(build(), "pytorchvideo", tmp_path / "a.pyth", sha256="0" * 64)


@contextmanager
def server(files, requests):
    """path -> (status, body, Content-Length)."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            status, body, length = files[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        listening.server_close()


def test_a_url_is_downloaded_once_and_whole(tmp_path):
    scratch, requests = tmp_path / ".scratch", []
    path = public_file(tmp_path / "SLOWFAST.pyth", slowfast())
    body, sha256 = path.read_bytes(), file_sha256(path)
    page = b"<!doctype html><title>Sign in</title>"
    files = {"/SLOWFAST.pyth": (200, body, len(body)), "/torn.pyth": (200, body[:-9], len(body)), "/gone.pyth": (404, b"", 0),
             "/broken.pyth": (503, b"", 0), "/page.pyth": (200, page, len(page))}
    with server(files, requests) as url:
        for name, words in (("torn", "cannot be downloaded (ChunkedEncodingError)"), ("gone", "(HTTP 404)"),
                            ("broken", "(HTTP 503)"), ("page", "and is a web page, train.init.sha256 says")):
            sentence = refusal(build(), "pytorchvideo", f"{url}/{name}.pyth", sha256, scratch=scratch)
            assert words in sentence and f"{url}/{name}.pyth" in sentence
            assert not list((scratch / "weights").iterdir())
        sentence = refusal(build(), "pytorchvideo", f"{url}/SLOWFAST.pyth", "0" * 64, scratch=scratch)
        assert sha256 in sentence and not list((scratch / "weights").iterdir())
        requests.clear()
        for _ in range(2):
            report = start(build(), "pytorchvideo", f"{url}/SLOWFAST.pyth", sha256, scratch=scratch)
        assert requests == ["/SLOWFAST.pyth"] and (report["file"], report["sha256"]) == ("SLOWFAST.pyth", sha256)
        assert [kept.name for kept in (scratch / "weights").iterdir()] == [sha256]
    kept, location = scratch / "weights" / sha256, f"{url}/SLOWFAST.pyth"
    kept.write_bytes(body[:-9])
    assert "get the file again" in refusal(build(), "pytorchvideo", location, sha256, scratch=scratch)
    kept.unlink()
    assert "cannot be downloaded (ConnectionError)" in refusal(build(), "pytorchvideo", location, sha256, scratch=scratch)
