"""A narrow residual network for 40 x 60 pixels: whole pictures of all frames, cheap because it is thin, not because it is blind.

Networks for films throw away 31 of 32 pixels a side before they decide; here a person is nine pixels wide. So the spatial
stride stays at 4, where two people who stand close remain two, and the window is halved in time three times instead.
"""

from torch import Tensor, nn

from thermal_action.models.convolutions import TemporalConv3d
from thermal_action.windows import CENTRED, keyframe_position

# channels of the stages in widths of the stem, blocks, strides over time, and over rows and columns for each total stride
WIDTHS = (2, 4, 6)
BLOCKS = (1, 2, 1)
TIME_STRIDES = (2, 2, 1)
TIME_STRIDE = 8  # with that of the stem
SPATIAL_STRIDES = {4: (2, 1, 1), 8: (2, 2, 1), 16: (2, 2, 2)}


class SpatialTemporal(nn.Module):
    """Residual block of a convolution over the picture and one over time (R(2+1)D, Tran et al., CVPR 2018)."""

    def __init__(self, in_channels: int, channels: int, time_stride: int, spatial_stride: int):
        super().__init__()
        self.spatial = nn.Conv3d(in_channels, channels, (1, 3, 3), (1, spatial_stride, spatial_stride), (0, 1, 1), bias=False)
        self.spatial_norm = nn.BatchNorm3d(channels)
        self.temporal = TemporalConv3d(channels, channels, (3, 1, 1), (time_stride, 1, 1), (1, 0, 0), bias=False)
        self.temporal_norm = nn.BatchNorm3d(channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels or time_stride * spatial_stride > 1:
            stride = (time_stride, spatial_stride, spatial_stride)
            self.shortcut = nn.Sequential(nn.Conv3d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm3d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.spatial_norm(self.spatial(x)))
        return self.relu(self.temporal_norm(self.temporal(y)) + self.shortcut(x))


class ThermalTiny(nn.Module):
    """Every frame at full resolution -> one map, an eighth of the frames, `spatial_stride` pixels a cell.

    The eighths are counted from the keyframe, so that one of the map's moments is its own.

    width: channels of the stem; the last stage has six times as many. spatial_stride: 4, 8 or 16.
    """

    def __init__(self, *, in_channels: int = 1, spatial_stride: int = 4, width: int = 16, keyframe: float = CENTRED):
        super().__init__()
        if spatial_stride not in SPATIAL_STRIDES:
            raise ValueError(f"thermal_tiny has no spatial stride {spatial_stride}, only {list(SPATIAL_STRIDES)}")
        self.keyframe = keyframe
        stem = nn.Conv3d(in_channels, width, (5, 5, 5), (2, 2, 2), (2, 2, 2), bias=False)
        self.stages = nn.ModuleList([nn.Sequential(stem, nn.BatchNorm3d(width), nn.ReLU())])
        channels, strides = width, SPATIAL_STRIDES[spatial_stride]
        for factor, blocks, time_stride, stride in zip(WIDTHS, BLOCKS, TIME_STRIDES, strides, strict=True):
            before, channels = channels, width * factor
            first = SpatialTemporal(before, channels, time_stride, stride)
            self.stages.append(nn.Sequential(first, *(SpatialTemporal(channels, channels, 1, 1) for _ in range(blocks - 1))))
        self.out_channels = channels

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames [B, in_channels, T, H, W] -> [one map [B, out_channels, ceil(T / 8), h, w]]."""
        frames = frames[:, :, keyframe_position(frames.shape[2], self.keyframe) % TIME_STRIDE :]
        for stage in self.stages:
            frames = stage(frames)
        return [frames]
