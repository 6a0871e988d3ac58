"""Losses of one person each, so that a mean over persons stays a mean whatever the batch or the accumulation."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermal_action import InputError

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


def deferred(kind: ClassWeights, *, epoch: int, epochs: int, share: float) -> ClassWeights:
    """Deferred re-weighting (Cao et al., NeurIPS 2019): no class weights in the first `share` of the epochs, then `kind`.

    Features are best learned from persons as they come; the weights then move the borders between classes.
    """
    return kind if epoch > share * epochs else "none"


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

    The prior is that of the persons `drawn` [C], so what a sampler made up for already is not made up for again. tau between
    0 (plain cross-entropy) and 1 trades mean-class accuracy for top-1. A class without a training person has no prior; it
    takes the largest one, which keeps it from winning unseen.
    """

    def __init__(self, class_weights: Tensor, label_smoothing: float, drawn: Tensor, tau: float):
        super().__init__(class_weights, label_smoothing)
        prior = torch.where(drawn > 0, drawn, drawn.max()).float() / drawn.sum()
        self.register_buffer("shift", tau * prior.log())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().forward(logits + self.shift, labels)


class LDAM(CrossEntropy):
    """Label-distribution-aware margins (Cao et al., NeurIPS 2019): a person's own logit must win by a margin ~ n^(-1/4).

    The rarest class that has persons gets `max_margin`. Margins are cosines, so the classifier must give cosines; `scale` is
    what it multiplies them by (s of the paper).
    """

    def __init__(self, class_weights: Tensor, label_smoothing: float, counts: Tensor, max_margin: float, scale: float):
        super().__init__(class_weights, label_smoothing)
        rarity = counts.clamp(min=1).double() ** -0.25
        margins = max_margin * rarity / rarity[counts > 0].max()
        self.register_buffer("margins", (scale * margins).float())

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        own = functional.one_hot(labels, logits.shape[1])
        return super().forward(logits - own * self.margins, labels)


def build_loss(
    name: str,
    counts: Tensor,
    *,
    drawn: Tensor | None = None,
    class_weights: ClassWeights = "none",
    effective_beta: float = 0.999,
    label_smoothing: float = 0.0,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
    balance_tau: float = 1.0,
    ldam_margin: float = 0.5,
    scale: float = 1.0,
) -> nn.Module:
    """Loss `name`: (logits [N, C], labels [N]) -> [N].

    counts [C]: training persons of each class. drawn [C]: how many of them the sampler shows in an epoch (None: each once).
    scale: what the classifier multiplies its cosines by.
    """
    weights = weigh_classes(counts, class_weights, effective_beta)
    losses: dict[str, Callable[[], nn.Module]] = {
        "cross_entropy": lambda: CrossEntropy(weights, label_smoothing),
        "focal": lambda: Focal(weights, label_smoothing, focal_alpha, focal_gamma),
        "balanced_softmax": lambda: BalancedSoftmax(weights, label_smoothing, counts if drawn is None else drawn, balance_tau),
        "ldam": lambda: LDAM(weights, label_smoothing, counts, ldam_margin, scale),
    }
    return losses[name]()


def check_loss(loss: str, *, classifier: str, class_weights: ClassWeights, sampler: str) -> None:
    """InputError for a loss that cannot work with the classifier, and for a skew made up for twice."""
    if loss == "ldam" and classifier != "cosine":
        raise InputError(f"params.yaml: train.loss ldam sets margins between cosines, and model.classifier is {classifier}: set"
                         " it to cosine")
    if class_weights != "none" and sampler != "shuffle":
        raise InputError(f"params.yaml: train.class_weights {class_weights} and train.sampler {sampler} make up for the same skew"
                         " twice: set class_weights to none or sampler to shuffle")
