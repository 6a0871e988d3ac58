"""Optimizers and how their learning rate moves."""

import math
from collections.abc import Callable, Iterable
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["cosine", "step", "exponential", "constant"]


def build_optimizer(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]], name: Literal["sgd", "adamw"], *, lr: float, weight_decay: float,
    momentum: float = 0.9, nesterov: bool = True,
) -> Optimizer:
    """SGD or AdamW over `groups`: parameters, and their share of `lr`, which every schedule keeps.

    Weight decay pulls on kernels and matrices only, not on biases and normalisation (He et al., CVPR 2019). Parameters that
    do not learn yet belong in it, too: without a gradient they neither move nor decay, and their momentum begins when
    they do.
    """
    settings = []
    for parameters, share in groups:
        parameters = list(parameters)
        for decay, chosen in ((weight_decay, [each for each in parameters if each.ndim > 1]),
                              (0.0, [each for each in parameters if each.ndim <= 1])):
            if chosen:
                settings.append({"params": chosen, "lr": share * lr, "weight_decay": decay})
    if name == "sgd":
        return SGD(settings, lr=lr, momentum=momentum, nesterov=nesterov)
    return AdamW(settings, lr=lr)


def lr_factor(
    name: Schedule, *, epochs: float, warmup_epochs: float = 0.0, final: float = 0.0, milestones: tuple[float, ...] = (),
    gamma: float = 0.1, restart_epochs: float = 0.0,
) -> Callable[[float], float]:
    """Learning rate relative to its peak as a function of the time in epochs (fractions included).

    The first `warmup_epochs` rise linearly. Then: cosine falls to `final`; step multiplies by `gamma` at each of
    `milestones` (shares of all epochs); exponential falls evenly in the logarithm to `gamma` at the end. The last
    `restart_epochs` of the epochs go through the same once more, without a warm-up.
    """

    def factor(epoch: float) -> float:
        total, warmup = epochs - restart_epochs, warmup_epochs
        if restart_epochs and epoch >= total:
            epoch, total, warmup = epoch - total, restart_epochs, 0.0
        if epoch < warmup:
            return epoch / warmup
        progress = min((epoch - warmup) / max(total - warmup, 1e-9), 1.0)
        if name == "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
        if name == "step":
            return gamma ** sum(epoch >= share * total for share in milestones)
        if name == "exponential":
            return gamma**progress
        return 1.0

    return factor


def build_schedule(optimizer: Optimizer, factor: Callable[[float], float], steps_per_epoch: int) -> LambdaLR:
    """Moves the learning rate after every optimizer step; a step takes the rate of its middle, so that none is idle."""
    return LambdaLR(optimizer, lambda step: factor((step + 0.5) / steps_per_epoch))
