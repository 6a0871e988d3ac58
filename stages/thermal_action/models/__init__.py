"""Models that say what the persons in a window of thermal frames do: `model(frames, boxes) -> logits`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.detections import read_persons
from thermal_action.models.cnn_lstm import CNNLSTM
from thermal_action.models.crops import PersonCrops
from thermal_action.models.detector import FoundMaps, PersonDetector
from thermal_action.models.heads import ClipHead, CropHead, RoIHead
from thermal_action.models.inputs import MASK, Channel, Inputs
from thermal_action.models.mvit import MViT
from thermal_action.models.residual import RESIDUAL
from thermal_action.models.slowfast import SlowFast
from thermal_action.models.thermal_tiny import ThermalTiny
from thermal_action.windows import CENTRED

# Backbones by name: built with in_channels, spatial_stride, keyframe and options of their own. Those that need torchvision or
# pytorchvideo import them when they are built: that takes as long as to import torch.
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
    """A backbone between what it sees (`inputs`, of the whole picture or of `crops`) and a `head` that classifies.

    detector: finds the persons who are then classified; None where the head labels whole clips.
    """

    def __init__(self, inputs: Inputs, backbone: nn.Module, head: nn.Module, crops: PersonCrops | None = None,
                 detector: PersonDetector | None = None):
        super().__init__()
        self.crops = crops
        self.inputs = inputs
        self.backbone = backbone
        self.head = head
        self.detector = detector

    def forward(self, frames: Tensor, boxes: list[Tensor], find: bool = False) -> Tensor | tuple[Tensor, FoundMaps]:
        """frames [B, 3, T, H, W] in [0, 1], boxes: B tensors [N_i, 4] (x1, y1, x2, y2 in [0, 1]) -> logits [sum N_i, classes].

        With head `clip` every window has one box, the whole picture, and so one row. With `find` also the detector's maps.
        """
        logits = self.classifier(self.features(frames, boxes))
        return (logits, self.detector(frames)) if find else logits

    def find(self, frames: Tensor, least: float) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of the persons in each of B windows [B, 3, T, H, W], those scored `least` or more: boxes [N_i, 4], scores [N_i] and how
        far each is on a bed [N_i]; see Detections."""
        found = [read_persons(*maps, tuple(frames.shape[3:]), least)
                 for maps in zip(*(each.detach().cpu().numpy() for each in self.detector(frames)), strict=True)]
        return [tuple(torch.from_numpy(each).to(frames.device) for each in detections) for detections in found]

    def features(self, frames: Tensor, boxes: list[Tensor]) -> Tensor:
        """[sum N_i, D]: what the classifier sees of each person (or clip)."""
        owner = torch.cat([box.new_full((len(box),), index, dtype=torch.long) for index, box in enumerate(boxes)])
        if self.crops is not None and not len(owner):
            # normalisation cannot do without anybody: the whole of one window, and no row of it
            return self.features_of(frames[:1], frames.new_tensor([WHOLE_PICTURE]), owner.new_zeros(1))[:0]
        return self.features_of(frames, torch.cat(boxes), owner)

    def features_of(self, frames: Tensor, boxes: Tensor, owner: Tensor) -> Tensor:
        """[N, D] of boxes [N, 4] and the window of each, [N]."""
        if self.crops is None:
            return self.head.describe(self.backbone(self.inputs(frames)), boxes, owner)
        pieces, masks, where = self.crops(frames, boxes, owner)
        seen = self.inputs(pieces)
        masks = nn.functional.interpolate(masks[:, 0], seen.shape[3:])[:, None].expand(-1, -1, seen.shape[2], -1, -1)
        return self.head.describe(self.backbone(torch.cat([seen, masks], dim=1)), boxes, owner, where)

    def parts(self) -> list[nn.Module]:
        """From the input to the output: stem, stages that have parameters, head and detector. Together they hold each parameter
        once."""
        outputs = self.head if self.detector is None else nn.ModuleList([self.head, self.detector])
        return [*(stage for stage in self.backbone.stages if any(True for _ in stage.parameters())), outputs]

    @property
    def channels(self) -> tuple[str, ...]:
        """What the backbone sees."""
        return (*self.inputs.channels, MASK) if self.crops else self.inputs.channels

    @property
    def classifier(self) -> nn.Module:
        return self.head.classify


def build_model(
    name: str,
    *,
    num_classes: int,
    head: Literal["roi", "crop", "clip"] = "roi",
    spatial_stride: int = 8,
    classifier: Literal["linear", "cosine"] = "linear",
    hidden: int = 128,
    roi_size: int = 3,
    context: float = 2.0,
    scene: bool = True,
    crop_px: int = 24,
    dropout: float = 0.5,
    channels: Sequence[Channel] = ("temperature",),
    size: tuple[int, int] | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    difference_std: float | None = None,
    keyframe: float = CENTRED,
    backbone: Mapping[str, Any] | None = None,
) -> ActionModel:
    """The model `name` with random weights.

    spatial_stride: pixels per cell of the map that the head reads. classifier, hidden, dropout: of the head (heads.py); roi_size,
    context, scene: of RoIHead; crop_px: side of PersonCrops. channels, size, mean, std: see Inputs; difference_std: also
    there, None is std, as models had it that were made before it. keyframe: its place in the window, see `Windowing`.
    backbone: the backbone's own arguments.
    ValueError for a spatial stride that the backbone cannot have.
    """
    cut = PersonCrops(crop_px) if head == "crop" else None
    body = BACKBONES[name](in_channels=len(channels) + (cut is not None), spatial_stride=spatial_stride, keyframe=keyframe,
                           **(backbone or {}))
    common = {"classifier": classifier, "hidden": hidden, "dropout": dropout, "keyframe": keyframe}
    if head == "roi":
        top = RoIHead(body.out_channels, num_classes, roi_size=roi_size, context=context, scene=scene, **common)
    else:
        top = {"clip": ClipHead, "crop": CropHead}[head](body.out_channels, num_classes, **common)
    inputs = Inputs(channels, size, mean, std, std if difference_std is None else difference_std)
    if head == "clip":
        return ActionModel(inputs, body, top)
    with torch.random.fork_rng(devices=[]):  # the rest begins as it would without a detector
        detector = PersonDetector(mean=mean, std=std, difference_std=inputs.difference_std, keyframe=keyframe)
    return ActionModel(inputs, body, top, cut, detector)
