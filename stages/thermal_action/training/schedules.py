"""Optimizers and how their learning rate moves."""

import math
from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["cosine", "step", "exponential", "constant"]


def build_optimizer(
    model: nn.Module, name: Literal["sgd", "adamw"], *, lr: float, weight_decay: float, momentum: float = 0.9,
    nesterov: bool = True,
) -> Optimizer:
    """SGD or AdamW. Weight decay pulls on kernels and matrices only, not on biases and normalisation (He et al., CVPR 2019)."""
    decayed = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if name == "sgd":
        return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    return AdamW(groups, lr=lr)


def lr_factor(
    name: Schedule, *, epochs: float, warmup_epochs: float = 0.0, final: float = 0.0, milestones: tuple[float, ...] = (),
    gamma: float = 0.1,
) -> Callable[[float], float]:
    """Learning rate relative to its peak as a function of the time in epochs (fractions included).

    The first `warmup_epochs` rise linearly. Then: cosine falls to `final`; step multiplies by `gamma` at each of
    `milestones` (shares of all epochs); exponential falls evenly in the logarithm to `gamma` at the end.
    """

    def factor(epoch: float) -> float:
        if epoch < warmup_epochs:
            return epoch / warmup_epochs
        progress = min((epoch - warmup_epochs) / max(epochs - warmup_epochs, 1e-9), 1.0)
        if name == "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
        if name == "step":
            return gamma ** sum(epoch >= share * epochs for share in milestones)
        if name == "exponential":
            return gamma**progress
        return 1.0

    return factor


def build_schedule(optimizer: Optimizer, factor: Callable[[float], float], steps_per_epoch: int) -> LambdaLR:
    """Moves the learning rate after every optimizer step; a step takes the rate of its middle, so that none is idle."""
    return LambdaLR(optimizer, lambda step: factor((step + 0.5) / steps_per_epoch))
