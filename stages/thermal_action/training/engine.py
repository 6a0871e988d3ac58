"""Where a model runs, what it predicts, and how that scores."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from thermal_action import InputError
from thermal_action.models import ActionModel

Precision = Literal["fp32", "bf16", "fp16"]
Batch = tuple[Tensor, list[Tensor], list[Tensor], list[dict]]


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("runtime.device is cuda, but torch sees no CUDA device: set it to auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=kind, enabled=precision != "fp32")


def move(frames: Tensor, boxes: list[Tensor], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """To the device; channels that are one picture seen three times travel once."""
    shared = frames.stride(1) == 0
    moved = (frames[:, :1] if shared else frames).to(device, non_blocking=True)
    return moved.expand_as(frames) if shared else moved, [box.to(device, non_blocking=True) for box in boxes]


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


class Seen(NamedTuple):
    """What a model says of one window, on the CPU."""

    annotated: Tensor  # (N, C) logits in the annotated boxes
    found: Tensor  # (M, C) logits in the boxes that the detector found,
    boxes: Tensor  # (M, 4) these boxes
    scores: Tensor  # (M,) and how sure it is of them
    others: Tensor  # (K, C) logits in other boxes


@torch.no_grad()
def answer_in_boxes(model: ActionModel, batches: Iterable[Batch], others: Iterable[Tensor], *, device: torch.device, least: float,
         ) -> Iterator[Seen]:
    """What `model` says of every window of the batches: in the annotated boxes, in those that it finds itself (scored `least` or
    more; none without a detector) and in `others`, a tensor [K_i, 4] for each window."""
    model.eval()
    others = iter(others)
    for frames, boxes, *_ in batches:
        frames, boxes = move(frames, boxes, device)
        more = [next(others).to(device) for _ in boxes]
        nobody = frames.new_empty(0, 4), frames.new_empty(0), frames.new_empty(0)
        found = model.find(frames, least) if model.detector is not None else [nobody] * len(boxes)
        parts = [(own, detected, other) for own, (detected, *_), other in zip(boxes, found, more, strict=True)]
        logits = model(frames, [torch.cat(part) for part in parts]).float().cpu()
        rows = iter(logits.split([len(boxes) for part in parts for boxes in part]))
        for detected, scores, _ in found:
            yield Seen(next(rows), next(rows), detected.cpu(), scores.cpu(), next(rows))


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
