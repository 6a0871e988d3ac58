"""What pytorchvideo, MMAction2 and torchvision call the weights of networks that stand here too, and how colour becomes heat.

The networks here carry pytorchvideo's names. MMAction2's say the same with other words: a bottleneck has conv1 (over time),
conv2 (over the picture) and conv3 where pytorchvideo has conv_a, conv_b and conv_c, and its slow pathway owns the lateral
convolutions, which have neither norm nor activation.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor

from thermal_action.look import COLOURS
from thermal_action.models.inputs import MASK

Source = Literal["pytorchvideo", "mmaction2", "torchvision"]
# the mean and standard deviation of pictures, from 0 to 1, that all of them were trained with (torchvision: 0.449 and 0.226
# of a grey one)
MEAN, STD = 0.45, 0.225

SIGNS = {
    "checkpoint": r"backbone\.(stages|cnn|patch_embed)\.",
    "pytorchvideo": r"(blocks\.0|patch_embed)\.",
    "mmaction2": r"backbone\.((slow|fast)_path|conv1|layer1)\.",
    "torchvision": r"layer1\.0\.",
}
STEM = re.compile(r"backbone\.(stages\.0\.(multipathway_blocks\.[01]\.)?conv(\.conv_t)?|patch_embed\.patch_model|cnn\.conv1)"
                  r"\.weight")

MMACTION2_STEM = re.compile(r"backbone\.(?:(slow|fast)_path\.)?conv1\.(conv|bn)\.(\w+)")
MMACTION2_BLOCK = re.compile(r"backbone\.(?:(slow|fast)_path\.)?layer(\d)\.(\d+)\.(conv[123]|downsample)\.(conv|bn)\.(\w+)")
MMACTION2_LATERAL = re.compile(r"backbone\.slow_path\.(?:conv1|layer(\d))_lateral\.conv\.weight")
PATHWAYS = {None: "", "slow": "multipathway_blocks.0.", "fast": "multipathway_blocks.1."}
LAYERS = {"conv": "conv", "bn": "norm"}
BRANCHES = {"conv1": "branch2.{}_a", "conv2": "branch2.{}_b", "conv3": "branch2.{}_c", "downsample": "branch1_{}"}


def guess_source(names: Iterable[str]) -> str | None:
    """Whose names these are; None for nobody's known here."""
    names = list(names)
    return next((source for source, sign in SIGNS.items() if any(re.match(sign, name) for name in names)), None)


def rename(source: Source, names: Iterable[str]) -> dict[str, str | None]:
    """Each name of a public file -> the name here; None for what is no part of a backbone. Unknown names stay as they are."""
    names = list(names)
    if source == "torchvision":
        return {name: None if name.startswith("fc.") else f"backbone.cnn.{name}" for name in names}
    if source == "mmaction2":
        return {name: rename_mmaction2(name) if name.startswith("backbone.") else None for name in names}
    if any(name.startswith("patch_embed.") for name in names):
        return {name: None if name.startswith("head.") else f"backbone.{name}" for name in names}
    return {name: rename_pytorchvideo(name) for name in names}


def rename_pytorchvideo(name: str) -> str | None:
    if re.match(r"(blocks\.\d+\.(proj|pool)|detection_head)\.", name):
        return None
    return re.sub(r"^blocks\.", "backbone.stages.", name)


def rename_mmaction2(name: str) -> str:
    if match := MMACTION2_STEM.fullmatch(name):
        pathway, layer, rest = match.groups()
        return f"backbone.stages.0.{PATHWAYS[pathway]}{LAYERS[layer]}.{rest}"
    if match := MMACTION2_BLOCK.fullmatch(name):
        pathway, stage, block, convolution, layer, rest = match.groups()
        branch = BRANCHES[convolution].format(LAYERS[layer])
        return f"backbone.stages.{stage}.{PATHWAYS[pathway]}res_blocks.{block}.{branch}.{rest}"
    if match := MMACTION2_LATERAL.fullmatch(name):
        return f"backbone.stages.{match[1] or 0}.multipathway_fusion.conv_fast_to_slow.weight"
    return name


def fold_stem(weight: Tensor, channels: Sequence[str]) -> Tensor:
    """The stem [O, 3, ...] of a network for colour pictures -> [O, len(channels), ...] for temperatures, or as it is for colours.

    Each channel gets the sum over red, green and blue, which is the answer to a grey picture, divided by the number of channels.
    So one channel answers as the network would to the picture shown three times, and so do several that show the same;
    different ones share alike, since none of them is a colour (as Wang et al., TSN, ECCV 2016, start their optical flow).
    Three times the same channel is the grey picture itself, and leaves the stem as it is. A mask is no picture: its weights
    are 0, and what it is good for has yet to be learned.
    """
    if len(channels) == 3 and len(set(channels)) == 1 or tuple(channels) == COLOURS:
        return weight
    pictures = [float(channel != MASK) for channel in channels]
    return weight.sum(dim=1, keepdim=True) * weight.new_tensor(pictures).view(-1, *[1] * (weight.ndim - 2)) / sum(pictures)
