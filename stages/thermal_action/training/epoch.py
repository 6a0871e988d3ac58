"""One epoch of training."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
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
from thermal_action.training.finding import BoxSource, choose_boxes, finding_loss
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
    def tasks(self) -> list[list[nn.Parameter]]:
        """Parameters that have a loss of their own: of the classifier with all that it sees by, and of the detector."""
        detector = getattr(self.model, "detector", None)
        finds = [] if detector is None else list(detector.parameters())
        own = {id(parameter) for parameter in finds}
        return [[parameter for parameter in self.model.parameters() if id(parameter) not in own], *([finds] if finds else [])]

    @property
    def detector_learns(self) -> bool:
        return any(parameter.requires_grad for parameter in chain(*self.tasks[1:]))

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
    finding: float = 0.0,
    boxes_from: BoxSource = "annotated",
) -> dict[str, float]:
    """One pass: {"loss", "top1"} over the persons of all ranks, and the last "lr"; "finding", the detector's loss, if it learns.

    `accumulate` batches make one optimizer step, whose gradient is that of the mean over all of their persons on all ranks of
    `team`. The gradient is cut to norm `clip_norm` (0: not). mixup: see `mix`; `generator` draws for it. finding: weight of the
    detector's loss, where the model has one that learns in this epoch; it shares no weight with the classifier, and its gradient
    is cut apart. boxes_from: see `choose_boxes`. Raises InputError when a loss or a gradient is no longer finite.
    """
    learner.strategy.train_mode()
    replica = team.replicate(learner.model)
    finding = finding if learner.detector_learns else 0.0
    total_loss, correct, total_finding, persons, lr = 0.0, 0.0, 0.0, 0.0, learner.schedule.get_last_lr()[0]
    for step, group in enumerate(grouped(batches, accumulate), start=1):
        beds = [[extra["beds"] for extra in extras] if finding else [] for *_, extras in group]
        group = [mix(*batch, alpha=mixup, generator=generator) if mixup else weigh_equally(*batch) for batch in group]
        # persons of each batch on all ranks, a mixed one counted as far as it is seen; a batch without any teaches nothing
        counts = team.sum(*(float(torch.cat(weights).sum()) for *_, weights in group))
        group = [Shown(*batch, around) for batch, around, count in zip(group, beds, counts, strict=True) if count]
        learner.optimizer.zero_grad(set_to_none=True)
        sums = []
        for index, batch in enumerate(group, start=1):
            with team.accumulating(replica, last=index == len(group)):
                classified, right, found = lose(learner, replica, batch, loss, device=team.device, precision=precision,
                                                find=finding > 0, boxes_from=boxes_from)
                # the ranks' gradients will be averaged, which divides by their number once more
                learner.scaler.scale((classified + finding * found) * team.size / sum(counts)).backward()
            sums.append(torch.stack([classified.detach(), right, found.detach()]))
        lr = learner.schedule.get_last_lr()[0]
        if group:
            step_loss, step_correct, step_finding = team.sum(*torch.stack(sums).sum(dim=0).tolist())
            total_loss += require_finite(step_loss, "loss", epoch, step, lr)
            total_finding += require_finite(step_finding, "detector's loss", epoch, step, lr)
            correct, persons = correct + step_correct, persons + sum(counts)
            take_step(learner, clip_norm, epoch, step)
        else:
            learner.optimizer.step()  # moves nothing, for there is no gradient; the schedule wants to come second
        learner.schedule.step()
    means = {"loss": total_loss, "top1": correct} | ({"finding": total_finding} if finding else {})
    return {name: total / max(persons, 1) for name, total in means.items()} | {"lr": lr}


@dataclass
class Shown:
    """A batch as it is learned from: B windows, how far each of their persons is seen, and where beds stand."""

    frames: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    weights: list[Tensor]
    beds: list[Tensor]


def lose(learner: Learner, replica: nn.Module, batch: Shown, loss: nn.Module, *, device: torch.device, precision: Precision,
         find: bool, boxes_from: BoxSource) -> tuple[Tensor, Tensor, Tensor]:
    """Of a batch: the classifier's loss, the persons it names rightly and, with `find`, the detector's loss; all summed."""
    frames, boxes = move(batch.frames, batch.boxes, device)
    labels, weights, beds = ([each.to(device) for each in column] for column in (batch.labels, batch.weights, batch.beds))
    shown, named, heavy = choose_boxes(learner.final_model, frames, boxes, labels, weights, boxes_from)
    named, heavy = torch.cat(named), torch.cat(heavy)
    with autocast(device, precision):
        logits, maps = replica(frames, shown, find=True) if find else (replica(frames, shown), None)
    logits = logits.float()
    classified, right = (heavy * loss(logits, named)).sum(), (heavy * (logits.argmax(dim=1) == named)).sum()
    found = finding_loss(maps, boxes, weights, beds, frames.shape[3:]) if find else torch.zeros_like(classified)
    return classified, right, found


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
    for parameters in learner.tasks:
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
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
