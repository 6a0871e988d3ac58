"""Convolutions computed in another way: same result, faster on CPUs."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


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


class FrameConv3d(nn.Conv3d):
    """A convolution computed frame by frame: the moments of the kernel are so many more channels of a two-dimensional one.

    onnxruntime takes about half the time of nn.Conv3d for it, torch takes more.
    """

    def forward(self, x: Tensor) -> Tensor:
        moments, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        frames = functional.pad(x.transpose(1, 2), (0, 0) * 3 + (padding, padding))  # (B, T, C, H, W)
        length = (frames.shape[1] - moments) // stride + 1
        seen = torch.stack([frames[:, moment : moment + stride * (length - 1) + 1 : stride] for moment in range(moments)], dim=3)
        y = functional.conv2d(seen.flatten(2, 3).flatten(0, 1), self.weight.flatten(1, 2), self.bias, self.stride[1:],
                              self.padding[1:])
        return y.unflatten(0, (x.shape[0], length)).transpose(1, 2)


def compute_by_frames(network: nn.Module) -> nn.Module:
    """Turns the three-dimensional convolutions of `network` that are no TemporalConv3d, nor of groups, into FrameConv3d."""
    for module in network.modules():
        if type(module) is nn.Conv3d and module.groups == 1 and max(module.dilation) == 1:
            module.__class__ = FrameConv3d
    return network


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


def absorb_normalisation(network: nn.Module) -> nn.Module:
    """Multiplies the batch normalisation of a network that learns no more into the convolutions before it.

    Which one is before: the neighbour in an nn.Sequential, or `<name>` of a module for its `<name>_norm`. Others stay.
    """
    for module in network.modules():
        children = list(module.named_children())
        pairs = [(name.removesuffix("_norm"), name) for name, _ in children if name.endswith("_norm")]
        if isinstance(module, nn.Sequential):
            pairs = [(first, second) for (first, _), (second, _) in zip(children, children[1:], strict=False)]
        for first, second in pairs:
            convolution, norm = getattr(module, first, None), getattr(module, second)
            if isinstance(convolution, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(module, first, fuse_conv_bn_eval(convolution.eval(), norm.eval()))
                setattr(module, second, nn.Identity())
    return network
