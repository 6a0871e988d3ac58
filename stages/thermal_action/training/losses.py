"""Losses of one person each, so that a mean over persons stays a mean whatever the batch or the accumulation."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

ClassWeights = Literal["none", "inverse", "effective"]


def weigh_classes(counts: Tensor, kind: ClassWeights, effective_beta: float = 0.999) -> Tensor:
    """float32 [classes], mean 1 over the training persons; a class without a person gets the largest weight.

    inverse: 1 / n. effective: (1 - beta) / (1 - beta^n), the effective number of samples (Cui et al., CVPR 2019).
    """
    counts = counts.double()
    present = counts.clamp(min=1)
    weights = {
        "none": lambda: torch.ones_like(present),
        "inverse": lambda: 1 / present,
        "effective": lambda: (1 - effective_beta) / (1 - effective_beta**present),
    }[kind]()
    return (weights * counts.sum() / (weights * counts).sum()).float()


class CrossEntropy(nn.Module):
    """Cross-entropy [N] of logits [N, C]."""

    def __init__(self, class_weights: Tensor, label_smoothing: float):
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        plain = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        return plain * self.class_weights[labels]


class Focal(CrossEntropy):
    """alpha (1 - p)^gamma times the cross-entropy (Lin et al., ICCV 2017, for one label of many)."""

    def __init__(self, class_weights: Tensor, label_smoothing: float, alpha: float, gamma: float):
        super().__init__(class_weights, label_smoothing)
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        certainty = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
        return self.alpha * (1 - certainty) ** self.gamma * super().forward(logits, labels)


class BalancedSoftmax(CrossEntropy):
    """Cross-entropy of logits + tau log prior (Ren et al., NeurIPS 2020; tau 1): learns as if classes were equally frequent.

    tau between 0 (plain cross-entropy) and 1 trades mean-class accuracy for top-1. A class without a training person has
    no prior; it takes the largest one, which keeps it from winning unseen.
    """

    def __init__(self, class_weights: Tensor, label_smoothing: float, counts: Tensor, tau: float):
        super().__init__(class_weights, label_smoothing)
        prior = torch.where(counts > 0, counts, counts.max()).float() / counts.sum()
        self.register_buffer("shift", tau * prior.log())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(logits + self.shift, labels)


def build_loss(
    name: str,
    counts: Tensor,
    *,
    class_weights: ClassWeights = "none",
    effective_beta: float = 0.999,
    label_smoothing: float = 0.0,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
    balance_tau: float = 1.0,
) -> nn.Module:
    """Loss `name`: (logits [N, C], labels [N]) -> [N]. `counts` [C]: training persons of each class."""
    weights = weigh_classes(counts, class_weights, effective_beta)
    losses: dict[str, Callable[[], nn.Module]] = {
        "cross_entropy": lambda: CrossEntropy(weights, label_smoothing),
        "focal": lambda: Focal(weights, label_smoothing, focal_alpha, focal_gamma),
        "balanced_softmax": lambda: BalancedSoftmax(weights, label_smoothing, counts, balance_tau),
    }
    return losses[name]()
