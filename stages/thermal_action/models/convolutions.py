"""Convolutions of three-dimensional networks computed in two dimensions: same weights, same result, faster on CPUs."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class TemporalConv3d(nn.Conv3d):
    """A convolution over time alone, kernel (k, 1, 1), computed in two dimensions: time and pixel.

    Its backward pass takes half to a fifth of the time of nn.Conv3d on CPUs (benchmarks/models.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, padding = self.weight.flatten(3), (self.padding[0], 0)
        y = functional.conv2d(x.flatten(3), weight, self.bias, (self.stride[0], 1), padding, groups=self.groups)
        return y.unflatten(3, x.shape[3:])


class DepthwiseConv3d(nn.Conv3d):
    """A convolution of each channel by itself, as the sum over the kernel's moments of convolutions of single frames.

    Forward and backward together take about a third of the time of nn.Conv3d on CPUs; forward alone takes twice as long, so
    nn.Conv3d's own computation serves where no gradient is asked for (benchmarks/models.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or not torch.is_grad_enabled():
            return super().forward(x)
        padding, stride = self.padding[0], self.stride[0]
        moments = functional.pad(x.transpose(1, 2), (0, 0) * 3 + (padding, padding))  # (B, T, C, H, W)
        length = (moments.shape[1] - self.kernel_size[0]) // stride + 1
        y = 0
        for moment in range(self.kernel_size[0]):
            frames = moments[:, moment : moment + stride * length : stride]
            weight = self.weight[:, :, moment]
            y = y + functional.conv2d(frames.flatten(0, 1), weight, None, self.stride[1:], self.padding[1:], groups=self.groups)
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        return y.unflatten(0, frames.shape[:2]).transpose(1, 2)


def fold_convolutions(network: nn.Module) -> nn.Module:
    """Turns the convolutions of `network` that can be into the kinds above; names and weights of parameters stay."""
    for module in network.modules():
        if type(module) is not nn.Conv3d or max(module.dilation) > 1:
            continue
        if module.kernel_size[1:] == module.stride[1:] == (1, 1) and module.padding[1:] == (0, 0):
            module.__class__ = TemporalConv3d
        elif module.groups == module.in_channels > 1 and module.kernel_size[0] > 1:
            module.__class__ = DepthwiseConv3d
    return network
