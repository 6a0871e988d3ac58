"""Residual networks of one pathway in the standard configurations of pytorchvideo, whose published weights fit."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from thermal_action.models.convolutions import fold_convolutions
from thermal_action.models.sampling import pick_frames, stage_strides
from thermal_action.windows import CENTRED


class Residual(nn.Module):
    """A network that `build` makes, without its head; it sees `frames` frames of the window.

    first: stride of the first stage, 2 where the stem halves the picture once and not twice.
    """

    def __init__(self, build: Callable[..., nn.Module], frames: int, first: int = 1, *, in_channels: int = 1,
                 spatial_stride: int = 8, keyframe: float = CENTRED):
        super().__init__()
        self.keyframe = keyframe
        strides = (first, *stage_strides(spatial_stride))
        self.frames = frames
        self.stages = fold_convolutions(build(input_channel=in_channels, strides=strides).blocks[:-1])
        self.out_channels = self.stages[-1].res_blocks[-1].branch2.conv_c.out_channels

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames [B, in_channels, T, H, W] -> [one map [B, out_channels, T', h, w]]."""
        features = pick_frames(frames, self.frames, self.keyframe)
        for stage in self.stages:
            features = stage(features)
        return [features]


def square(name: str, *, strides: tuple[int, ...], **arguments) -> nn.Module:
    """Of the builder that wants the strides over rows and columns apart."""
    return builder(name)(stage_spatial_h_stride=strides, stage_spatial_w_stride=strides, **arguments)


def plain(name: str, *, strides: tuple[int, ...], **arguments) -> nn.Module:
    return builder(name)(stage_spatial_stride=strides, **arguments)


def builder(name: str) -> Callable[..., nn.Module]:
    from pytorchvideo.models import hub
    return getattr(hub, name)


# Slow pathway alone (Feichtenhofer et al., ICCV 2019), C2D and I3D (Wang et al., CVPR 2018), R(2+1)D (Tran et al., CVPR 2018),
# CSN (Tran et al., ICCV 2019), X3D (Feichtenhofer, CVPR 2020); each on as many frames as its published weights were trained on.
RESIDUAL = {
    "slowonly_r50": partial(Residual, partial(square, "slow_r50"), 8),
    "c2d_r50": partial(Residual, partial(square, "c2d_r50"), 8),
    "i3d_r50": partial(Residual, partial(square, "i3d_r50"), 8),
    "r2plus1d_r50": partial(Residual, partial(plain, "r2plus1d_r50"), 16, 2),
    "csn_r101": partial(Residual, partial(plain, "csn_r101"), 32),
    "x3d_s": partial(Residual, partial(plain, "x3d_s"), 13, 2),
    "x3d_m": partial(Residual, partial(plain, "x3d_m"), 16, 2),
}
