"""Model files for later stages, and unfinished runs that go on after a crash."""

import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import nn

from thermal_action import InputError
from thermal_action.files import replacing
from thermal_action.models import build_model

FORMAT = "thermal-action model 1"
# what a later stage needs to feed a model the way it was trained, beside its weights
INFO_KEYS = ("model", "classes", "transform", "window", "frame_size", "training")


def save_model(path: str | Path, model: nn.Module, info: dict[str, Any]) -> None:
    """Weights and plain facts, in a file that loads without running anybody's code (`weights_only=True`).

    info: model (arguments of `build_model`), classes (names in order of their ids), transform (arguments of
    `ThermalActionTransform`), window (length, sampling, period_ms), frame_size (H, W), training (what it was trained with).
    """
    missing = set(INFO_KEYS) - info.keys()
    if missing:
        raise ValueError(f"info lacks {sorted(missing)}")
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        # into an open file: given a path, torch writes its name into the archive, and equal models would differ in bytes
        torch.save({"format": FORMAT, "state_dict": weights, **info}, file)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """(model ready to predict, info) of a file that `save_model` wrote; `info` as there.

    InputError for a missing or torn file, one that holds code (a pickle), or a checkpoint of another project.
    """
    content = load_plain(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no model of this project ({FORMAT!r}): train one with `dvc repro train`, or `dvc pull`")
    missing = sorted({"state_dict", *INFO_KEYS} - content.keys())
    if missing:
        raise InputError(f"{path} lacks {missing[0]!r}: train it again with `dvc repro train`")
    try:
        model = build_model(**content["model"], num_classes=len(content["classes"]))
        model.load_state_dict(content["state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path} holds weights of another version of the model ({' '.join(str(error).split())[:120]}): train it again with"
            " `dvc repro train`"
        ) from None
    return model.to(device).eval(), {key: content[key] for key in INFO_KEYS}


def load_plain(path: str | Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro train` or `dvc pull`") from None
    except pickle.UnpicklingError:
        raise InputError(f"{path} is no plain checkpoint: it holds Python objects, which could run code; not loaded") from None
    except (RuntimeError, EOFError, BadZipFile, ValueError) as error:
        raise InputError(f"{path} is no whole checkpoint ({' '.join(str(error).split())[:80]}): train it again with"
                         " `dvc repro train`, or `dvc pull`") from None


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # epochs finished
    history: list[dict[str, float]] = field(default_factory=list)  # scalars of each of them
    best_epoch: int = 0
    best_score: float = -1.0
    best_weights: dict[str, torch.Tensor] | None = None


class UnfinishedRun:
    """The state of a run after each epoch, kept outside of DVC's outs, which a re-run deletes.

    The folder is named by the fingerprint of everything that decides the result, so that a run with other parameters, data
    or code starts anew instead of going on with somebody else's weights.
    """

    def __init__(self, scratch: str | Path, fingerprint: str):
        self.folder = Path(scratch) / f"train-{fingerprint}"
        self.path = self.folder / "unfinished.pt"

    def save(self, progress: Progress, **parts: Any) -> None:
        """`parts`: whatever has a state_dict (None is kept as None). Also keeps torch's random numbers. Atomic."""
        states = {name: part.state_dict() if part is not None else None for name, part in parts.items()}
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        with replacing(self.path) as temporary:
            torch.save({"progress": vars(progress), "states": states, "random": random}, temporary)

    def resume(self, device: torch.device, **parts: Any) -> Progress:
        """Brings `parts` and the random numbers back to the last epoch kept; a fresh Progress when there is none."""
        if not self.path.exists():
            return Progress()
        content = torch.load(self.path, map_location=device, weights_only=True)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(content["states"][name])
        torch.set_rng_state(content["random"]["cpu"].cpu())
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in content["random"]["cuda"]])
        return Progress(**content["progress"])

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
