"""SlowFast (Feichtenhofer et al., ICCV 2019) for small thermal pictures.

The pathways come from pytorchvideo's builder; what differs from its Kinetics and AVA configurations is the spatial
stride. Those end at 1/32 and 1/16, which of a 40 x 60 picture leaves 2 x 2 and 3 x 4 cells: neighbours melt together.
"""

from typing import Literal

from torch import Tensor, nn

from thermal_action.models.convolutions import fold_convolutions
from thermal_action.models.sampling import stage_strides
from thermal_action.windows import CENTRED, keyframe_position


class SlowFast(nn.Module):
    """Slow pathway every `tau`-th frame, fast pathway every `tau / alpha`-th with `1 / beta` of the channels.

    width: channels of the slow stem (64 in the paper); the last stage has 32 times as many.
    depth: 18, 50 or 101 (blocks per stage as pytorchvideo has them: 18 is one bottleneck a stage).
    spatial_stride: 4, 8, 16 or 32 pixels a cell of the maps.
    lateral: what follows the convolutions from the fast to the slow pathway: norm_relu, as in pytorchvideo and PySlowFast, or
    plain, nothing, as in MMAction2; lateral_kernel: their length in frames of the fast pathway.
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
        lateral: Literal["norm_relu", "plain"] = "norm_relu",
        lateral_kernel: int = 7,
        keyframe: float = CENTRED,
    ):
        from pytorchvideo.models.slowfast import FastToSlowFusionBuilder, create_slowfast
        super().__init__()
        if tau % alpha or width % beta:
            raise ValueError(f"tau {tau} must be a multiple of alpha {alpha}, and width {width} one of beta {beta}")
        stages = (1, *stage_strides(spatial_stride))
        with_norm = lateral == "norm_relu"
        fusion = FastToSlowFusionBuilder(
            slowfast_channel_reduction_ratio=beta,
            conv_fusion_channel_ratio=2,
            conv_kernel_size=(lateral_kernel, 1, 1),
            conv_stride=(alpha, 1, 1),
            norm=nn.BatchNorm3d if with_norm else None,
            activation=nn.ReLU if with_norm else None,
        )
        self.keyframe = keyframe
        self.slow_step = tau
        self.fast_step = tau // alpha
        pathways = create_slowfast(
            slowfast_channel_reduction_ratio=(beta,),
            fusion_builder=fusion.create_module,
            input_channels=(in_channels, in_channels),
            model_depth=depth,
            stem_dim_outs=(width, width // beta),
            stem_conv_kernel_sizes=((1, stem_kernel, stem_kernel), (5, stem_kernel, stem_kernel)),
            stage_spatial_strides=(stages, stages),
            head=None,
            head_pool=nn.AdaptiveAvgPool3d,
        )
        self.stages = fold_convolutions(pathways.blocks[:-1])  # without the builder's pooling, which wants a fixed picture size
        self.out_channels = width * 32 + width // beta * 32

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames [B, in_channels, T, H, W] -> maps of the slow and of the fast pathway [B, C_i, T_i, h, w]."""
        first = keyframe_position(frames.shape[2], self.keyframe) % self.slow_step  # then the keyframe is in both pathways
        pathways = [frames[:, :, first::step] for step in (self.slow_step, self.fast_step)]
        for stage in self.stages:
            pathways = stage(pathways)
        return pathways
