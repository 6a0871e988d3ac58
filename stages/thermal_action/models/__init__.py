"""Models that say what the persons in a window of thermal frames do: `model(frames, boxes) -> logits`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from thermal_action.models.cnn_lstm import CNNLSTM
from thermal_action.models.heads import ClipHead, RoIHead
from thermal_action.models.inputs import Channel, Inputs
from thermal_action.models.mvit import MViT
from thermal_action.models.residual import RESIDUAL
from thermal_action.models.slowfast import SlowFast
from thermal_action.models.thermal_tiny import ThermalTiny

# Backbones by name: built with in_channels, spatial_stride and options of their own.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "thermal_tiny": ThermalTiny,
    "slowfast": SlowFast,
    "slowfast_r50": partial(SlowFast, depth=50, width=64, beta=8, stem_kernel=7),
    "slowfast_r101": partial(SlowFast, depth=101, width=64, beta=8, stem_kernel=7, lateral_kernel=5),
    **RESIDUAL,
    "mvit_b": MViT,
    "cnn_lstm": CNNLSTM,
}


class ActionModel(nn.Module):
    """A backbone between what it sees (`inputs`) and a `head` that classifies."""

    def __init__(self, inputs: Inputs, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.inputs = inputs
        self.backbone = backbone
        self.head = head

    def forward(self, frames: Tensor, boxes: list[Tensor]) -> Tensor:
        """frames [B, 3, T, H, W] in [0, 1], boxes: B tensors [N_i, 4] (x1, y1, x2, y2 in [0, 1]) -> logits [sum N_i, classes].

        With head `clip` every window has one box, the whole picture, and so one row.
        """
        return self.head(self.backbone(self.inputs(frames)), boxes)

    def features(self, frames: Tensor, boxes: list[Tensor]) -> Tensor:
        """[sum N_i, D]: what the classifier sees of each person (or clip)."""
        return self.head.describe(self.backbone(self.inputs(frames)), boxes)

    def parts(self) -> list[nn.Module]:
        """From the input to the output: stem, stages that have parameters, head. Together they hold each parameter once."""
        return [*(stage for stage in self.backbone.stages if any(True for _ in stage.parameters())), self.head]

    @property
    def classifier(self) -> nn.Module:
        return self.head.classify


def build_model(
    name: str,
    *,
    num_classes: int,
    head: Literal["roi", "clip"] = "roi",
    spatial_stride: int = 8,
    classifier: Literal["linear", "cosine"] = "linear",
    hidden: int = 128,
    roi_size: int = 3,
    context: float = 2.0,
    scene: bool = True,
    dropout: float = 0.5,
    channels: Sequence[Channel] = ("temperature",),
    size: tuple[int, int] | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    backbone: Mapping[str, Any] | None = None,
) -> ActionModel:
    """The model `name` with random weights.

    spatial_stride: pixels per cell of the map that the head reads. classifier, hidden, dropout: of the head (heads.py);
    roi_size, context, scene: of RoIHead. channels, size, mean, std: see Inputs. backbone: the backbone's own arguments.
    ValueError for a spatial stride that the backbone cannot have.
    """
    body = BACKBONES[name](in_channels=len(channels), spatial_stride=spatial_stride, **(backbone or {}))
    common = {"classifier": classifier, "hidden": hidden, "dropout": dropout}
    if head == "clip":
        top = ClipHead(body.out_channels, num_classes, **common)
    else:
        top = RoIHead(body.out_channels, num_classes, roi_size=roi_size, context=context, scene=scene, **common)
    return ActionModel(Inputs(channels, size, mean, std), body, top)
