"""SlowFast and SlowOnly with the attribute names, kernels, strides and order of MMAction2's ResNet3dSlowFast.

Stands in for the package, which this project does not require: what it computes, what its weights are called.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = {18: (1, 1, 1, 1), 50: (3, 4, 6, 3)}  # 18 as pytorchvideo counts: one bottleneck a stage


class ConvModule(nn.Module):
    """Convolution `conv`, norm `bn` and activation; the lateral ones are the convolution alone."""

    def __init__(self, inside: int, outside: int, kernel, stride=(1, 1, 1), *, norm: bool = True, activation: bool = True):
        super().__init__()
        self.conv = nn.Conv3d(inside, outside, kernel, stride, [side // 2 for side in kernel], bias=False)
        self.bn = nn.BatchNorm3d(outside) if norm else nn.Identity()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x.relu() if self.activation else x


class Bottleneck3d(nn.Module):
    """style pytorch, inflate_style 3x1x1: time in conv1 where inflated, the stride in conv2 and the shortcut."""

    def __init__(self, inside: int, planes: int, stride: int, inflate: bool, shortcut: bool):
        super().__init__()
        self.conv1 = ConvModule(inside, planes, (3, 1, 1) if inflate else (1, 1, 1))
        self.conv2 = ConvModule(planes, planes, (1, 3, 3), (1, stride, stride))
        self.conv3 = ConvModule(planes, 4 * planes, (1, 1, 1), activation=False)
        self.downsample = ConvModule(inside, 4 * planes, (1, 1, 1), (1, stride, stride), activation=False) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(self.conv2(self.conv1(x)))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Pathway(nn.Module):
    """ResNet3dPathway; with `alpha` it owns the lateral convolutions from a fast one with 1 / beta of the channels."""

    def __init__(self, depth: int, base: int, conv1_kernel, inflate, *, alpha: int = 0, beta: int = 8, fusion_kernel: int = 7):
        super().__init__()
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.conv1 = ConvModule(3, base, conv1_kernel, (1, 2, 2))
        fused = 2 * base // beta if alpha else 0
        kernel, stride = (fusion_kernel, 1, 1), (alpha, 1, 1)
        if alpha:
            self.conv1_lateral = ConvModule(base // beta, fused, kernel, stride, norm=False, activation=False)
        inside = base
        for stage, blocks in enumerate(BLOCKS[depth]):
            planes = base * 2**stage
            extra = 2 * inside // beta if alpha else 0
            layer = [Bottleneck3d(inside + extra if block == 0 else 4 * planes, planes, 2 if stage and block == 0 else 1,
                                  bool(inflate[stage]), block == 0) for block in range(blocks)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            inside = 4 * planes
            if alpha and stage < 3:
                lateral = ConvModule(inside // beta, 2 * inside // beta, kernel, stride, norm=False, activation=False)
                self.add_module(f"layer{stage + 1}_lateral", lateral)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


class ResNet3dSlowFast(nn.Module):
    """resample_rate tau and speed_ratio alpha as in the configuration files."""

    def __init__(self, *, depth: int = 50, base: int = 64, tau: int = 8, alpha: int = 4, beta: int = 8, fusion_kernel: int = 7):
        super().__init__()
        self.tau, self.alpha = tau, alpha
        self.slow_path = Pathway(depth, base, (1, 7, 7), (0, 0, 1, 1), alpha=alpha, beta=beta, fusion_kernel=fusion_kernel)
        self.fast_path = Pathway(depth, base // beta, (5, 7, 7), (1, 1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        slow = functional.interpolate(x, mode="nearest", scale_factor=(1 / self.tau, 1.0, 1.0))
        fast = functional.interpolate(x, mode="nearest", scale_factor=(1 / (self.tau // self.alpha), 1.0, 1.0))
        slow = self.slow_path.maxpool(self.slow_path.conv1(slow))
        fast = self.fast_path.maxpool(self.fast_path.conv1(fast))
        slow = torch.cat([slow, self.slow_path.conv1_lateral(fast)], dim=1)
        for stage in range(1, 5):
            slow, fast = getattr(self.slow_path, f"layer{stage}")(slow), getattr(self.fast_path, f"layer{stage}")(fast)
            if stage < 4:
                slow = torch.cat([slow, getattr(self.slow_path, f"layer{stage}_lateral")(fast)], dim=1)
        return slow, fast


class Recognizer3D(nn.Module):
    """A backbone and `cls_head.fc_cls`, as the public files hold them."""

    def __init__(self, backbone: nn.Module, features: int, num_classes: int = 400):
        super().__init__()
        self.backbone = backbone
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(features, num_classes)})


def slowfast(num_classes: int = 400, **options) -> Recognizer3D:
    base, beta = options.get("base", 64), options.get("beta", 8)
    return Recognizer3D(ResNet3dSlowFast(**options), 32 * base + 32 * base // beta, num_classes)


def slowonly(num_classes: int = 400) -> Recognizer3D:
    return Recognizer3D(Pathway(50, 64, (1, 7, 7), (0, 0, 1, 1)), 2048, num_classes)
