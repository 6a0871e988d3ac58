"""Runs that go on after a crash."""

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thermal_action.files import replacing
from thermal_action.training.stopping import EarlyStopping


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # epochs finished
    history: list[dict[str, float]] = field(default_factory=list)  # scalars of each of them
    best_epoch: int = 0
    best_score: float = -math.inf
    best_weights: dict[str, torch.Tensor] | None = None
    stopped: bool = False  # before the last epoch

    def judge(self, model: nn.Module, score: float, stopping: EarlyStopping) -> None:
        """Keeps the weights of `model` if this epoch's `score` is the best so far, the first of equals, or decides to stop."""
        if stopping.sign * score > self.best_score:
            self.best_score, self.best_epoch = stopping.sign * score, self.epoch
            self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        self.stopped = stopping.should_stop(score)


class UnfinishedRun:
    """The state of a run after each epoch, kept outside of DVC's outs, which a re-run deletes.

    The folder is named by the fingerprint of everything that decides the result, so that a run with other parameters, data
    or code starts anew instead of going on with somebody else's weights.
    """

    def __init__(self, scratch: str | Path, fingerprint: str):
        self.folder = Path(scratch) / f"train-{fingerprint}"
        self.path = self.folder / "unfinished.pt"

    def save(self, progress: Progress, **parts: Any) -> None:
        """`parts`: whatever has a state_dict (None is kept as None). Atomic.

        Random numbers are not kept: those of an epoch depend on its number alone (`Team.seed_epoch`).
        """
        states = {name: part.state_dict() if part is not None else None for name, part in parts.items()}
        with replacing(self.path) as temporary:
            torch.save({"progress": vars(progress), "states": states}, temporary)

    def resume(self, device: torch.device, **parts: Any) -> Progress:
        """Brings `parts` back to the last epoch kept; a fresh Progress when there is none."""
        if not self.path.exists():
            return Progress()
        content = torch.load(self.path, map_location=device, weights_only=True)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(content["states"][name])
        return Progress(**content["progress"])

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
