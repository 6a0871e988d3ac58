"""The section `model` of params.yaml."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from thermal_action import InputError
from thermal_action.models import thermal_tiny
from thermal_action.models.inputs import Channel
from thermal_action.params import Field, PictureSize, parse_size, section
from thermal_action.training.finding import BoxSource
from thermal_action.windows import CENTRED

Name = Literal["thermal_tiny", "slowfast", "slowfast_r50", "slowfast_r101", "slowonly_r50", "c2d_r50", "i3d_r50", "r2plus1d_r50",
               "csn_r101", "x3d_s", "x3d_m", "mvit_b", "cnn_lstm"]


@section
class Input:
    min_c: Annotated[float, Field(ge=-50, le=255)]
    max_c: Annotated[float, Field(ge=-50, le=255)]
    background: Literal["absolute", "window_median"]
    channels: Annotated[list[Channel], Field(min_length=1, max_length=3)]
    size: PictureSize
    mean: Annotated[float, Field(ge=0, le=1)]
    std: Annotated[float, Field(gt=0, le=1)]
    difference_std: Annotated[float, Field(gt=0, le=1)]


@section
class ThermalTiny:
    width: Annotated[int, Field(ge=4, le=256)]  # channels


@section
class SlowFast:
    depth: Literal[18, 50, 101]
    width: Annotated[int, Field(ge=4, le=256)]  # channels
    tau: Annotated[int, Field(ge=1, le=64)]  # frames
    alpha: Annotated[int, Field(ge=1, le=64)]
    beta: Annotated[int, Field(ge=1, le=64)]
    stem_kernel: Literal[3, 5, 7]  # pixels


@section
class Lateral:
    lateral: Literal["norm_relu", "plain"]
    lateral_kernel: Literal[5, 7]  # frames of the fast pathway


@section
class CNNLSTM:
    depth: Literal[18, 50]
    hidden: Annotated[int, Field(ge=1, le=4096)]  # channels each way
    frames: Annotated[int, Field(ge=1, le=1024)]


@section
class Model:
    name: Name
    spatial_stride: Literal[4, 8, 16, 32]  # pixels
    head: Literal["roi", "crop", "clip"]
    boxes: BoxSource
    classifier: Literal["linear", "cosine"]
    hidden: Annotated[int, Field(ge=4, le=4096)]  # channels
    roi_size: Annotated[int, Field(ge=1, le=14)]  # cells
    context: Annotated[float, Field(ge=1, le=10)]  # times the box
    scene: bool
    crop_px: Annotated[int, Field(ge=8, le=256)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    input: Input
    thermal_tiny: ThermalTiny
    slowfast: SlowFast
    slowfast_r50: Lateral
    slowfast_r101: Lateral
    cnn_lstm: CNNLSTM


def check_model(model: Model) -> None:
    """What no single field can know; InputError names both."""
    slowfast = model.slowfast
    for name, divisor in (("tau", "alpha"), ("width", "beta")):
        if getattr(slowfast, name) % getattr(slowfast, divisor):
            raise InputError(f"params.yaml: model.slowfast.{name} {getattr(slowfast, name)} must be a multiple of"
                             f" model.slowfast.{divisor} {getattr(slowfast, divisor)}")
    if model.name == "thermal_tiny" and model.spatial_stride not in thermal_tiny.SPATIAL_STRIDES:
        raise InputError(f"params.yaml: model.name thermal_tiny has no model.spatial_stride {model.spatial_stride}; it has"
                         f" {', '.join(map(str, thermal_tiny.SPATIAL_STRIDES))}")
    if model.head == "crop":
        named = "model.crop_px" if model.input.size == "native" else "model.input.size"
        sides = parse_size(model.input.size) or [model.crop_px]
        if min(sides) < 2 * model.spatial_stride:
            raise InputError(f"params.yaml: {named} {'x'.join(map(str, sides))} leaves less than two cells a side at"
                             f" model.spatial_stride {model.spatial_stride}: give a side of at least"
                             f" {2 * model.spatial_stride} pixels, or a smaller stride")
    if model.head == "clip" and model.boxes != "annotated":
        raise InputError(f"params.yaml: model.head clip labels whole windows and finds nobody: set model.boxes"
                         f" {model.boxes} to annotated")
    if model.input.min_c >= model.input.max_c:
        raise InputError(f"params.yaml: model.input.min_c {model.input.min_c} must be below max_c {model.input.max_c}")


def architecture(model: Model, keyframe: float = CENTRED) -> dict[str, Any]:
    """The arguments of `build_model` but the number of classes, which the model file keeps; keyframe: window.keyframe."""
    head = {name: getattr(model, name) for name in ("classifier", "hidden", "roi_size", "context", "scene", "crop_px", "dropout")}
    own = getattr(model, model.name, None)
    return {"name": model.name, "spatial_stride": model.spatial_stride, "head": model.head, **head,
            "channels": list(model.input.channels), "size": parse_size(model.input.size),
            "mean": model.input.mean, "std": model.input.std, "difference_std": model.input.difference_std, "keyframe": keyframe,
            "backbone": asdict(own) if own is not None else {}}
