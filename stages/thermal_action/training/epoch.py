"""One epoch of training."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from thermal_action import InputError
from thermal_action.training.distributed import Team
from thermal_action.training.engine import Batch, Precision, autocast, move
from thermal_action.training.mixup import mix
from thermal_action.training.strategies import Strategy


@dataclass
class Learner:
    """Everything that changes while a model learns."""

    model: nn.Module
    strategy: Strategy
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler  # does nothing unless fp16
    average: AveragedModel | None  # exponential moving average of the weights

    @property
    def final_model(self) -> nn.Module:
        """The model to score and to keep: the average where there is one."""
        return self.average.module if self.average else self.model

    @property
    def states(self) -> dict[str, Any]:
        """What a run that goes on must find as it was, by name; the strategy follows from the epoch."""
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler,
                "average": self.average}


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average with a decay of min(decay, (1 + t) / (10 + t)) at step t, so that short runs profit too."""

    def mix(averages: list[Tensor], currents: list[Tensor], steps: Tensor | int) -> None:
        kept = min(decay, (1 + int(steps)) / (10 + int(steps)))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - kept)
            else:
                average.copy_(current)  # counters of normalisation layers

    return AveragedModel(model, multi_avg_fn=mix, use_buffers=True)


def train_one_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    loss: nn.Module,
    *,
    epoch: int,
    team: Team,
    generator: np.random.Generator,
    precision: Precision = "fp32",
    accumulate: int = 1,
    clip_norm: float = 0.0,
    mixup: float = 0.0,
) -> dict[str, float]:
    """One pass: {"loss", "top1"} over the persons of all ranks, and the last "lr".

    `accumulate` batches make one optimizer step, whose gradient is that of the mean over all of their persons on all ranks of
    `team`. The gradient is cut to norm `clip_norm` (0: not). mixup: see `mix`; `generator` draws for it. Raises InputError
    when the loss or the gradient is no longer finite.
    """
    learner.strategy.train_mode()
    replica = team.replicate(learner.model)
    total_loss, correct, persons, lr = 0.0, 0.0, 0.0, learner.schedule.get_last_lr()[0]
    for step, group in enumerate(grouped(batches, accumulate), start=1):
        group = [mix(*batch, alpha=mixup, generator=generator) if mixup else weigh_equally(*batch) for batch in group]
        # persons of each batch on all ranks, a mixed one counted as far as it is seen; a batch without any teaches nothing
        counts = team.sum(*(float(torch.cat(weights).sum()) for *_, weights in group))
        group = [batch for batch, count in zip(group, counts, strict=True) if count]
        learner.optimizer.zero_grad(set_to_none=True)
        sums = []
        for index, (frames, boxes, labels, weights) in enumerate(group, start=1):
            frames, boxes = move(frames, boxes, team.device)
            labels, weights = torch.cat(labels).to(team.device), torch.cat(weights).to(team.device)
            with team.accumulating(replica, last=index == len(group)):
                with autocast(team.device, precision):
                    logits = replica(frames, boxes).float()
                summed = (weights * loss(logits, labels)).sum()
                # the ranks' gradients will be averaged, which divides by their number once more
                learner.scaler.scale(summed * team.size / sum(counts)).backward()
            sums.append(torch.stack([summed.detach(), (weights * (logits.argmax(dim=1) == labels)).sum()]))
        lr = learner.schedule.get_last_lr()[0]
        if group:
            step_loss, step_correct = team.sum(*torch.stack(sums).sum(dim=0).tolist())
            total_loss += require_finite(step_loss, "loss", epoch, step, lr)
            correct, persons = correct + step_correct, persons + sum(counts)
            take_step(learner, clip_norm, epoch, step)
        else:
            learner.optimizer.step()  # moves nothing, for there is no gradient; the schedule wants to come second
        learner.schedule.step()
    return {"loss": total_loss / max(persons, 1), "top1": correct / max(persons, 1), "lr": lr}


def weigh_equally(
    frames: Tensor, boxes: list[Tensor], labels: list[Tensor], _: list[dict]
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    return frames, boxes, labels, [torch.ones(len(each)) for each in labels]


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    batches = iter(batches)
    while group := list(islice(batches, size)):
        yield group


def take_step(learner: Learner, clip_norm: float, epoch: int, step: int) -> None:
    learner.scaler.unscale_(learner.optimizer)
    norm = nn.utils.clip_grad_norm_(learner.model.parameters(), clip_norm or float("inf"))
    if not learner.scaler.is_enabled():  # fp16's scaler skips steps that overflow
        require_finite(norm.item(), "gradient", epoch, step, learner.schedule.get_last_lr()[0])
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if learner.average:
        learner.average.update_parameters(learner.model)


def require_finite(value: float, what: str, epoch: int, step: int, lr: float) -> float:
    if value - value != 0:  # infinity or NaN
        raise InputError(
            f"the {what} became {value} in epoch {epoch}, step {step}, at a learning rate of {lr:.3g}: lower train.lr, lengthen"
            " train.warmup_epochs or set train.clip_norm"
        )
    return value
