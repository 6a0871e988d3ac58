"""MViT (Fan et al., Multiscale vision transformers, ICCV 2021) for pictures of any size."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermal_action.models.sampling import pick_frames, stage_strides
from thermal_action.windows import CENTRED

FRAMES = 16
GRID = 56  # patches a side of the table of positions, as the published weights have it
HALVING = (1, 3, 14)  # blocks that may halve the map


class MViT(nn.Module):
    """MViT-B 16x4: patches of 4 x 4 pixels and two frames, sixteen blocks of pooled attention, three of which may halve the map.

    The builder fixes the picture's size by the table of spatial positions alone, so the table keeps its published size and is
    resampled to the patches there are. The class token takes part in attention, and the map leaves it out.
    Parameters have the names of pytorchvideo's network.
    """

    def __init__(self, *, in_channels: int = 1, spatial_stride: int = 8, keyframe: float = CENTRED):
        from pytorchvideo.models.hub import mvit_base_16x4
        super().__init__()
        self.keyframe = keyframe
        halving = [[block, 1, stride, stride] for block, stride in zip(HALVING, stage_strides(spatial_stride), strict=True)]
        network = mvit_base_16x4(input_channels=in_channels, pool_q_stride_size=halving, head=None)
        self.patch_embed = network.patch_embed
        self.cls_positional_encoding = network.cls_positional_encoding
        self.blocks = network.blocks
        self.norm_embed = network.norm_embed
        self.out_channels = network.blocks[-1].dim_out

    @property
    def stages(self) -> list[nn.Module]:
        """Stem and the blocks of each scale; parts() alone reads them, the parameters keep the names of the network."""
        stem = nn.ModuleList([self.patch_embed, self.cls_positional_encoding])
        bounds = zip((0, *HALVING), (*HALVING, len(self.blocks)), strict=True)
        scales = [nn.ModuleList(self.blocks[begin:end]) for begin, end in bounds]
        scales[-1].append(self.norm_embed)
        return [stem, *scales]

    def embed_positions(self, tokens: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Adds to patches [B, t h w, C] of a map of `size` (t, h, w) where they lie, and puts the class token before them."""
        encoding = self.cls_positional_encoding
        table = encoding.pos_embed_spatial.unflatten(1, (GRID, GRID)).permute(0, 3, 1, 2)
        space = functional.interpolate(table, size[1:], mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
        positions = (encoding.pos_embed_temporal[:, :, None] + space[:, None]).flatten(1, 2)
        token = (encoding.cls_token + encoding.pos_embed_class).expand(len(tokens), -1, -1)
        return torch.cat([token, tokens + positions], dim=1)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """frames [B, in_channels, T, H, W] -> [one map [B, out_channels, 8, h, w]]."""
        patches = self.patch_embed.patch_model(pick_frames(frames, FRAMES, self.keyframe))
        size = patches.shape[2:]
        tokens = self.embed_positions(patches.flatten(2).transpose(1, 2), size)
        for block in self.blocks:
            tokens, size = block(tokens, size)
        return [self.norm_embed(tokens)[:, 1:].transpose(1, 2).unflatten(2, tuple(size))]
