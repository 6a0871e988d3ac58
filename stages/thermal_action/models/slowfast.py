"""SlowFast (Feichtenhofer et al., ICCV 2019) for small thermal pictures.

The pathways come from pytorchvideo's builder; what differs from its Kinetics and AVA configurations is the spatial
stride. Those end at 1/32 and 1/16, which of a 40 x 60 picture leaves 2 x 2 and 3 x 4 cells: neighbours melt together.
"""

from pytorchvideo.models.resnet import create_bottleneck_block
from pytorchvideo.models.slowfast import create_slowfast
from torch import Tensor, nn
from torch.nn import functional

# Spatial strides of (stem, pool, four stages) for each total stride. The early layers give way last: their maps are
# the largest, so a stride there saves the most.
SPATIAL_STRIDES = {
    4: (2, 2, (1, 1, 1, 1)),
    8: (2, 2, (1, 2, 1, 1)),
    16: (2, 2, (1, 2, 2, 1)),
    32: (2, 2, (1, 2, 2, 2)),
}
DEPTHS = (18, 50, 101)


class TemporalConv3d(nn.Conv3d):
    """A convolution over time alone, kernel (k, 1, 1), computed in two dimensions: time and pixel.

    Same weights, same result; on CPUs its backward pass takes half to a fifth of the time (benchmarks/learning.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, padding = self.weight.flatten(3), (self.padding[0], 0)
        y = functional.conv2d(x.flatten(3), weight, self.bias, (self.stride[0], 1), padding)
        return y.unflatten(3, x.shape[3:])


def bottleneck(**config) -> nn.Module:
    """pytorchvideo's bottleneck, whose first convolution goes over time alone."""
    return create_bottleneck_block(**(config | {"conv_a": TemporalConv3d}))


class SlowFast(nn.Module):
    """Slow pathway every `tau`-th frame, fast pathway every `tau / alpha`-th with `1 / beta` of the channels.

    width: channels of the slow stem (64 in the paper); the last stage has 32 times as many.
    depth: 18, 50 or 101 (blocks per stage as pytorchvideo has them: 18 is one bottleneck a stage).
    spatial_stride: 4, 8, 16 or 32 pixels a cell of the maps.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        spatial_stride: int = 8,
        depth: int = 18,
        width: int = 16,
        tau: int = 8,
        alpha: int = 4,
        beta: int = 4,
        stem_kernel: int = 3,
    ):
        super().__init__()
        if tau % alpha or width % beta:
            raise ValueError(f"tau {tau} must be a multiple of alpha {alpha}, and width {width} one of beta {beta}")
        stem, pool, stages = SPATIAL_STRIDES[spatial_stride]
        self.slow_step = tau
        self.fast_step = tau // alpha
        pathways = create_slowfast(
            slowfast_channel_reduction_ratio=(beta,),
            slowfast_fusion_conv_stride=(alpha, 1, 1),
            input_channels=(in_channels, in_channels),
            model_depth=depth,
            stem_dim_outs=(width, width // beta),
            stem_conv_kernel_sizes=((1, stem_kernel, stem_kernel), (5, stem_kernel, stem_kernel)),
            stem_conv_strides=((1, stem, stem),) * 2,
            stem_pool=(nn.MaxPool3d if pool > 1 else None,) * 2,
            stem_pool_strides=((1, pool, pool),) * 2,
            stage_spatial_strides=(stages, stages),
            bottleneck=bottleneck,
            head=None,
            head_pool=nn.AdaptiveAvgPool3d,
        )
        self.stages = pathways.blocks[:-1]  # without the builder's pooling, which wants a fixed picture size
        self.out_channels = width * 32 + width // beta * 32

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames [B, in_channels, T, H, W] -> maps of the slow and of the fast pathway [B, C_i, T_i, h, w]."""
        pathways = [frames[:, :, :: self.slow_step], frames[:, :, :: self.fast_step]]
        for stage in self.stages:
            pathways = stage(pathways)
        return pathways
