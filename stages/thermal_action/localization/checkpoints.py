"""Checkpoints of ActionFormer: those of the stage localize, of train_actionformer_wrapper.py, and published ones."""

import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from actionformer import make_meta_arch
from torch import Tensor, nn

from thermal_action import InputError, shown
from thermal_action.files import replacing
from thermal_action.localization.data import Manifest
from thermal_action.params import check_section
from thermal_action.training.checkpoints import check_whole, read_plain

LOCALIZE = "run `dvc repro localize` in pipelines/localization, or `dvc pull`"
PLACES = {"json_file", "feat_folder", "ext_score_file"}  # settings that may be called otherwise when a run goes on


@dataclass(frozen=True)
class Localizer:
    """What models/localizer.pt holds: all that it takes to find segments in a recording, but for the model of its features."""

    model: nn.Module
    config: dict
    names: list[str]  # of the labels, in order of their ids
    features: Manifest


def read_localizer(path: Path, device: torch.device) -> Localizer:
    """InputError for a file that is damaged, or that the stage localize did not write."""
    content = read_checkpoint(path, LOCALIZE)
    check_whole(path, LOCALIZE)
    try:
        features = check_section(content.get("features"), Manifest, "features")
    except InputError as reason:
        raise InputError(f"{path} does not say how its features are made ({reason}): {LOCALIZE}") from None
    config = content["config"]
    model = make_meta_arch(config["model_name"], **config["model"]).to(device).eval()
    load_weights(model, content["state_dict_ema"], path)
    return Localizer(model, config, content["names"], features)


def read_checkpoint(path: Path, remedy: str = "give a checkpoint of train_actionformer_wrapper.py or a published one") -> dict:
    content = read_plain(path, name=str(path), remedy=remedy)
    if not isinstance(content, dict) or "state_dict_ema" not in content:
        raise InputError(f"{path} is no checkpoint of ActionFormer, it has no `state_dict_ema`: {remedy}")
    return content


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Published checkpoints were saved from within DataParallel, under `module.`."""
    try:
        model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in weights.items()})
    except RuntimeError as error:
        raise InputError(f"{path} holds weights of another network ({' '.join(str(error).split())[:120]}): give the template and"
                         " the data that it was trained on") from None


def read_models(path: Path, config: dict, device: torch.device) -> dict[str, nn.Module]:
    """{"ema", and "raw" where the checkpoint has it}: models with the averaged weights, and with those themselves."""
    content = read_checkpoint(path)
    models = {}
    for name, key in (("ema", "state_dict_ema"), ("raw", "state_dict")):
        if key in content:
            models[name] = make_meta_arch(config["model_name"], **config["model"]).to(device)
            load_weights(models[name], content[key], path)
    return models


def different(one: dict, other: dict, above: str = "") -> str:
    """The first setting that differs, as text; nothing where none does."""
    for key in sorted((one.keys() | other.keys()) - PLACES):
        ours, theirs = other.get(key), one.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            if found := different(theirs, ours, f"{above}{key}."):
                return found
        elif ours != theirs:
            return f"{above}{key} {shown(theirs)} there, {shown(ours)} here"
    return ""


def save(path: Path, content: dict) -> None:
    """Equal contents give equal bytes, also those of a run that was resumed."""
    # into an open file: given a path, torch writes its name into the archive
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(settled(content), file)


def settled(value: Any) -> Any:
    """The same, but which of its parts are one object is decided by what they are: pickle writes an object it met before as a
    reference, and what was read from a file is made of other objects than what a run began with."""
    if isinstance(value, dict):
        kept = {settled(key): settled(each) for key, each in value.items()}
        return OrderedDict(kept) if isinstance(value, OrderedDict) else kept
    if isinstance(value, list | tuple):
        return type(value)(map(settled, value))
    return sys.intern(value) if isinstance(value, str) else value
