"""Which parts of a model learn in which epoch, and how fast."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from thermal_action import InputError
from thermal_action.models import ActionModel

StrategyName = Literal["full", "frozen", "differential", "progressive"]


def check_strategy(name: str, *, epochs: int, unfreeze_epochs: Sequence[int], classifier_epochs: int, patience: int) -> None:
    """InputError for epochs that cannot be; which parts a model has is known to Strategy alone."""
    if name == "progressive" and not unfreeze_epochs:
        raise InputError("params.yaml: train.strategy progressive needs train.unfreeze_epochs: without, the head alone learns")
    if list(unfreeze_epochs) != sorted(unfreeze_epochs):
        raise InputError(f"params.yaml: train.unfreeze_epochs {list(unfreeze_epochs)} must rise: the last stage comes first")
    if classifier_epochs >= epochs:
        raise InputError(f"params.yaml: train.classifier_epochs {classifier_epochs} must be below train.epochs {epochs}: there is"
                         " no classifier to train again without features")
    if classifier_epochs and patience:
        raise InputError("params.yaml: train.patience would stop before train.classifier_epochs begin: set one of them to 0")


class Strategy:
    """Decides what learns in each epoch (from 1) of `epochs`, by the parts of `model` from the input to the output.

    full: everything at the full rate. frozen: the head alone. differential: the backbone at `backbone_lr` of the rate.
    progressive: the head, from epoch unfreeze_epochs[0] on also the backbone's last stage, from unfreeze_epochs[1] on the one
    before it, and so on, at `backbone_lr` of the rate (Howard and Ruder, ACL 2018); stages without an epoch never learn.
    In the last `classifier_epochs` the classifier alone learns, anew from random weights, on features that no longer change
    (classifier re-training, Kang et al., ICLR 2020).

    What does not learn has no gradient, so the optimizer neither moves nor decays it and its momentum stands still; its
    normalisation layers keep their statistics and its dropout is off. All but the classifier's random weights is a function
    of the epoch alone, so a resumed run goes on as if it had never stopped.
    """

    def __init__(self, model: ActionModel, name: StrategyName, *, epochs: int, backbone_lr: float = 0.1,
                 unfreeze_epochs: Sequence[int] = (), classifier_epochs: int = 0, seed: int = 0):
        self.model = model
        self.name = name
        self.parts = model.parts()
        self.backbone_lr = backbone_lr if name in ("differential", "progressive") else 1.0
        self.unfreeze_epochs = unfreeze_epochs
        self.retrain_from = epochs - classifier_epochs + 1
        self.seed = seed
        self.learning: list[nn.Module] = []
        if name == "progressive" and len(unfreeze_epochs) > len(self.parts) - 1:
            raise InputError(f"params.yaml: train.unfreeze_epochs names {len(unfreeze_epochs)} stages, and the model has"
                             f" {len(self.parts) - 1}")

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters and their share of the learning rate, the head's first."""
        *backbone, head = self.parts
        return [(list(head.parameters()), 1.0), ([each for part in backbone for each in part.parameters()], self.backbone_lr)]

    def phase(self, epoch: int) -> int:
        """How many of the last parts learn in `epoch`; 0: nothing but the classifier."""
        if epoch >= self.retrain_from:
            return 0
        if self.name == "frozen":
            return 1
        if self.name == "progressive":
            return 1 + sum(epoch >= first for first in self.unfreeze_epochs)
        return len(self.parts)

    def start_epoch(self, epoch: int, optimizer: Optimizer, average: AveragedModel | None = None) -> None:
        """Before every epoch, in a resumed run after its weights were loaded. `average` holds a copy of the model."""
        if epoch == self.retrain_from:
            self._forget_classifier(optimizer, average)
        phase = self.phase(epoch)
        self.learning = self.parts[-phase:] if phase else [self.model.classifier]
        self.model.requires_grad_(False)
        for part in self.learning:
            part.requires_grad_(True)

    def train_mode(self) -> None:
        """In place of `model.train()`: what does not learn stays in evaluation mode."""
        self.model.train()
        for part in self.parts:
            part.eval()
        for part in self.learning:
            part.train()

    def _forget_classifier(self, optimizer: Optimizer, average: AveragedModel | None) -> None:
        """New random weights for the classifier, on the averaged features where there are some: they are the ones kept."""
        if average is not None:
            self.model.load_state_dict(average.module.state_dict())
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            for module in self.model.classifier.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        for parameter in self.model.classifier.parameters():
            optimizer.state.pop(parameter, None)
        if average is not None:
            average.n_averaged.zero_()  # begins anew as a copy, at the first step of the new classifier
