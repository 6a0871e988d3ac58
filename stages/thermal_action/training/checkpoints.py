"""Model files for later stages."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from thermal_action import InputError
from thermal_action.files import is_web_page, replacing
from thermal_action.models import build_model

FORMAT = "thermal-action model 1"
# what a later stage needs to feed a model the way it was trained, beside its weights
INFO_KEYS = ("model", "classes", "transform", "window", "frame_size", "training")

# mmcv keeps the best score of a run beside the weights, as a number of numpy; these make numbers and run nothing
NUMBERS = [np.dtype, np.dtypes.Float32DType, np.dtypes.Float64DType, np.dtypes.Int64DType, np._core.multiarray.scalar,
           (np._core.multiarray.scalar, "numpy.core.multiarray.scalar")]


def save_model(path: str | Path, model: nn.Module, info: dict[str, Any]) -> None:
    """Weights and plain facts, in a file that loads without running anybody's code (`weights_only=True`).

    info: model (arguments of `build_model`), classes (names in order of their ids), transform (arguments of
    `ThermalActionTransform`), window (fields of `Windowing`), frame_size (H, W), training (what it was trained with).
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

    InputError for a missing or torn file, one in which a bit flipped, one that holds code (a pickle), or a checkpoint of another
    project.
    """
    content = read_plain(path, name=str(path), remedy="run `dvc repro train` or `dvc pull`")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no model of this project ({FORMAT!r}): train one with `dvc repro train`, or `dvc pull`")
    check_whole(path, "run `dvc repro train` or `dvc pull`")
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


def check_whole(path: str | Path, remedy: str) -> None:
    """InputError for a checkpoint in which a bit flipped: torch writes checksums and does not look at them."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise InputError(f"{path} is damaged in {damaged}: delete it and {remedy}")


def read_plain(path: str | Path, *, name: str, remedy: str) -> Any:
    """What a checkpoint holds, if that is nothing but tensors, numbers and text. InputError calls it `name` and says `remedy`."""
    try:
        with torch.serialization.safe_globals(NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{name} does not exist: {remedy}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    if "GLOBAL " in reason:
        kind = reason.split("GLOBAL ")[1].split()[0]
        raise InputError(f"{name} holds {kind}, neither a tensor nor a number nor text: it could run code and was not loaded;"
                         f" {remedy} if it is torn, or, where you trust it, save its weights alone to another file")
    kind = "a web page" if is_web_page(path) else "torn, or none"
    raise InputError(f"{name} is no whole checkpoint, but {kind}: {remedy}")
