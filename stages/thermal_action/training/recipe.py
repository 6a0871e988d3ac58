"""The section `train` of params.yaml, and what follows from it: how a model is trained."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from thermal_action import InputError
from thermal_action.augmentation import Augment
from thermal_action.models import ActionModel
from thermal_action.params import Field, section
from thermal_action.training.engine import Precision
from thermal_action.training.epoch import Learner, average_weights
from thermal_action.training.initial import Init
from thermal_action.training.loaders import InnerSplit
from thermal_action.training.losses import ClassWeights, build_loss, check_loss, deferred
from thermal_action.training.samplers import SamplerKind
from thermal_action.training.schedules import Schedule, build_optimizer, build_schedule, lr_factor
from thermal_action.training.strategies import Strategy, StrategyName, check_strategy

Share = Annotated[float, Field(ge=0, le=1)]


@section
class Train:
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    init: Init
    # what learns, and for how long
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    strategy: StrategyName
    backbone_lr: Annotated[float, Field(gt=0, le=1)]  # of the rate
    unfreeze_epochs: list[Annotated[int, Field(ge=1, le=10_000)]]
    classifier_epochs: Annotated[int, Field(ge=0, le=10_000)]
    # which windows
    batch_size: Annotated[int, Field(ge=1, le=4096)]  # windows
    accumulate: Annotated[int, Field(ge=1, le=1024)]  # batches
    sampler: SamplerKind
    mixup: Annotated[float, Field(ge=0, le=100)]
    # steps
    optimizer: Literal["sgd", "adamw"]
    lr: Annotated[float, Field(gt=0, le=10)]
    lr_batch: Annotated[int, Field(ge=0, le=65_536)]  # windows
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Schedule
    warmup_epochs: Annotated[float, Field(ge=0, le=1000)]
    final_lr: Share  # of the peak
    milestones: list[Share]  # of all epochs
    gamma: Annotated[float, Field(gt=0, le=1)]
    clip_norm: Annotated[float, Field(ge=0, le=1000)]
    finding: Annotated[float, Field(gt=0, le=100)]  # of the loss
    ema: Annotated[float, Field(ge=0, lt=1)]
    precision: Precision
    # what is minimised
    loss: Literal["cross_entropy", "focal", "balanced_softmax", "ldam"]
    balance_tau: Annotated[float, Field(ge=0, le=2)]
    focal_alpha: Annotated[float, Field(gt=0, le=1)]
    focal_gamma: Annotated[float, Field(ge=0, le=10)]
    ldam_margin: Annotated[float, Field(gt=0, le=2)]  # cosine
    class_weights: ClassWeights
    effective_beta: Annotated[float, Field(ge=0, lt=1)]
    reweight_from: Annotated[float, Field(ge=0, lt=1)]  # of all epochs
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    # which epoch is kept
    select: Literal["last", "inner"]
    inner_val_fraction: Annotated[float, Field(gt=0, lt=1)]
    inner_split_by: InnerSplit
    monitor: Literal["top1", "mean_class", "both", "loss"]
    patience: Annotated[int, Field(ge=0, le=10_000)]  # epochs
    min_delta: Annotated[float, Field(ge=0, le=100)]
    val_every: Annotated[int, Field(ge=0, le=10_000)]  # epochs
    augment: Augment

    @property
    def peak_lr(self) -> float:
        """The rate for the windows of one step: `lr` is meant for `lr_batch` of them (Goyal et al., 2017, arXiv 1706.02677)."""
        return self.lr * self.batch_size * self.accumulate / self.lr_batch if self.lr_batch else self.lr

    @property
    def watched(self) -> list[str]:
        """The scores of the inner side whose mean tells the best epoch."""
        return ["top1", "mean_class"] if self.monitor == "both" else [self.monitor]


def check_recipe(train: Train, classifier: str) -> None:
    """What no single field can know. InputError names the fields; `classifier` is model.classifier."""
    if train.optimizer == "sgd" and train.nesterov and train.momentum == 0:
        raise InputError("params.yaml: train.nesterov needs a train.momentum above 0")
    if train.patience and train.select == "last":
        raise InputError(f"params.yaml: train.patience {train.patience} needs an inner side to watch: set train.select to"
                         " inner, or patience to 0")
    check_strategy(train.strategy, epochs=train.epochs, unfreeze_epochs=train.unfreeze_epochs,
                   classifier_epochs=train.classifier_epochs, patience=train.patience)
    check_loss(train.loss, classifier=classifier, class_weights=train.class_weights, sampler=train.sampler)


def build_learner(train: Train, network: ActionModel, steps_per_epoch: int, device: torch.device) -> Learner:
    """`network`, on `device`, with all that changes it, before its first step."""
    strategy = Strategy(network, train.strategy, epochs=train.epochs, backbone_lr=train.backbone_lr,
                        unfreeze_epochs=train.unfreeze_epochs, classifier_epochs=train.classifier_epochs, seed=train.seed)
    optimizer = build_optimizer(strategy.groups(), train.optimizer, lr=train.peak_lr, weight_decay=train.weight_decay,
                                momentum=train.momentum, nesterov=train.nesterov)
    factor = lr_factor(train.schedule, epochs=train.epochs, warmup_epochs=train.warmup_epochs, final=train.final_lr,
                       milestones=tuple(train.milestones), gamma=train.gamma, restart_epochs=train.classifier_epochs)
    return Learner(network, strategy, optimizer, build_schedule(optimizer, factor, steps_per_epoch),
                   torch.amp.GradScaler(device.type, enabled=train.precision == "fp16"),
                   average_weights(network, train.ema) if train.ema else None)


def build_epoch_loss(train: Train, epoch: int, learner: Learner, counts: Tensor, drawn: Tensor) -> nn.Module:
    """The loss of epoch `epoch` (from 1). counts, drawn [C]: persons of each class there are, and that the epoch shows."""
    weights = deferred(train.class_weights, epoch=epoch, epochs=train.epochs - train.classifier_epochs, share=train.reweight_from)
    if learner.strategy.phase(epoch) == 0:
        weights = "none"  # the sampler balances the classes
    return build_loss(train.loss, counts, drawn=drawn, class_weights=weights, effective_beta=train.effective_beta,
                      label_smoothing=train.label_smoothing, focal_alpha=train.focal_alpha, focal_gamma=train.focal_gamma,
                      balance_tau=train.balance_tau, ldam_margin=train.ldam_margin,
                      scale=getattr(learner.model.classifier, "scale", 1.0))
