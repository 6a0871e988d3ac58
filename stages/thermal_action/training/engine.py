"""One epoch of training, and predictions."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from thermal_action import InputError

Precision = Literal["fp32", "bf16", "fp16"]
Batch = tuple[Tensor, list[Tensor], list[Tensor], list[dict]]


@dataclass
class Learner:
    """Everything that changes while a model learns."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler  # does nothing unless fp16
    average: AveragedModel | None  # exponential moving average of the weights

    @property
    def final_model(self) -> nn.Module:
        """The model to score and to keep: the average where there is one."""
        return self.average.module if self.average else self.model


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("runtime.device is cuda, but torch sees no CUDA device: set it to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


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


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=kind, enabled=precision != "fp32")


def move(frames: Tensor, boxes: list[Tensor], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """To the device; channels that are one picture seen three times travel once."""
    shared = frames.stride(1) == 0
    moved = (frames[:, :1] if shared else frames).to(device, non_blocking=True)
    return moved.expand_as(frames) if shared else moved, [box.to(device, non_blocking=True) for box in boxes]


def train_one_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    loss: nn.Module,
    *,
    epoch: int,
    device: torch.device,
    precision: Precision = "fp32",
    accumulate: int = 1,
    clip_norm: float = 0.0,
) -> dict[str, float]:
    """One pass: {"loss", "top1"} over its persons, and the last "lr".

    `accumulate` batches make one optimizer step, whose gradient is that of the mean over all of their persons. The gradient
    is cut to norm `clip_norm` (0: not). Raises InputError when the loss or the gradient is no longer finite.
    """
    learner.model.train()
    total_loss, correct, persons, lr = 0.0, 0, 0, learner.schedule.get_last_lr()[0]
    for step, group in enumerate(grouped(batches, accumulate), start=1):
        group = [batch for batch in group if sum(len(labels) for labels in batch[2])]  # a batch of empty scenes teaches nothing
        in_group = sum(len(labels) for batch in group for labels in batch[2])
        learner.optimizer.zero_grad(set_to_none=True)
        for frames, boxes, labels, _ in group:
            frames, boxes = move(frames, boxes, device)
            labels = torch.cat(labels).to(device)
            with autocast(device, precision):
                logits = learner.model(frames, boxes).float()
            losses = loss(logits, labels)
            learner.scaler.scale(losses.sum() / in_group).backward()
            total_loss += require_finite(losses.detach().sum().item(), "loss", epoch, step, learner)
            correct += int((logits.argmax(dim=1) == labels).sum())
        persons += in_group
        lr = learner.schedule.get_last_lr()[0]
        if group:
            take_step(learner, clip_norm, epoch, step)
        learner.schedule.step()
    return {"loss": total_loss / max(persons, 1), "top1": correct / max(persons, 1), "lr": lr}


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    batches = iter(batches)
    while group := list(islice(batches, size)):
        yield group


def take_step(learner: Learner, clip_norm: float, epoch: int, step: int) -> None:
    learner.scaler.unscale_(learner.optimizer)
    norm = nn.utils.clip_grad_norm_(learner.model.parameters(), clip_norm or float("inf"))
    if not learner.scaler.is_enabled():  # fp16's scaler skips steps that overflow
        require_finite(norm.item(), "gradient", epoch, step, learner)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if learner.average:
        learner.average.update_parameters(learner.model)


def require_finite(value: float, what: str, epoch: int, step: int, learner: Learner) -> float:
    if value - value != 0:  # infinity or NaN
        raise InputError(
            f"the {what} became {value} in epoch {epoch}, step {step}, at a learning rate of"
            f" {learner.schedule.get_last_lr()[0]:.3g}: lower train.lr, lengthen train.warmup_epochs or set train.clip_norm"
        )
    return value


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[Batch], *, device: torch.device, precision: Precision = "fp32"
) -> Iterator[tuple[Tensor, Tensor, list[Tensor], list[dict]]]:
    """(logits [sum N_i, C], labels [sum N_i], boxes, extras) of every batch, on the CPU, in the order of the batches."""
    model.eval()
    for frames, boxes, labels, extras in batches:
        moved, moved_boxes = move(frames, boxes, device)
        with autocast(device, precision):
            logits = model(moved, moved_boxes).float().cpu()
        yield logits, torch.cat(labels), boxes, extras


def score(
    model: nn.Module, batches: Iterable[Batch], *, device: torch.device, precision: Precision = "fp32"
) -> dict[str, float]:
    """{"loss", "top1", "mean_class"} over all persons; the loss is plain cross-entropy, so that runs compare.

    mean_class is the mean recall over the classes that have a person here.
    """
    results = [(logits, labels) for logits, labels, _, _ in predict(model, batches, device=device, precision=precision)]
    logits, labels = torch.cat([row for row, _ in results]), torch.cat([row for _, row in results])
    if not len(labels):
        raise InputError("no person to score on this side of the split: change coco.split_by or coco.val_fraction")
    hits = logits.argmax(dim=1) == labels
    support = torch.bincount(labels, minlength=logits.shape[1])
    recalls = torch.bincount(labels, weights=hits.double(), minlength=logits.shape[1])[support > 0] / support[support > 0]
    return {
        "loss": float(nn.functional.cross_entropy(logits, labels)),
        "top1": float(hits.double().mean()),
        "mean_class": float(recalls.mean()),
    }
