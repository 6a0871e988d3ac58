"""Starting weights of a model: none, a model of ours, or a public one.

Nothing starts half: the backbone loads as a whole, each tensor by name and shape, or the training stops and says what differs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import torch
from torch import Tensor

from thermal_action import InputError
from thermal_action.files import check_sum, check_url, download, is_url
from thermal_action.models import ActionModel
from thermal_action.params import Field, section
from thermal_action.training.checkpoints import FORMAT, read_plain
from thermal_action.training.public_weights import MEAN, STD, STEM, Source, fold_stem, guess_source, rename


@section
class Init:
    source: Literal["scratch", "checkpoint", "pytorchvideo", "mmaction2", "torchvision"]
    location: str | None  # path or http(s) URL
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    keep: Annotated[float, Field(ge=0, lt=1)]  # of the start's weights


def check_init(init: Init) -> None:
    """What no single field can know, and whether a local file is there; InputError names the parameter."""
    if init.source == "scratch":
        if init.location is not None:
            raise InputError(f"params.yaml: train.init.location is {init.location}, but train.init.source is scratch: set the"
                             " source, or the location to null")
        if init.keep:
            raise InputError(f"params.yaml: train.init.keep {init.keep} would keep random weights: set it to 0, or"
                             " train.init.source to checkpoint")
    elif init.location is None:
        raise InputError(f"params.yaml: train.init.source {init.source} needs train.init.location, a path or a URL")
    elif is_url(init.location):
        check_url(init.location, init.sha256, parameter="train.init.location")
    elif not Path(init.location).is_file():
        raise InputError(f"train.init.location {init.location} is no file: give the path of one, or a URL")


def find_weights(init: Init, scratch: str | Path) -> Path | None:
    """The local file; a URL is downloaded once, to scratch/weights/<sha256>; None for scratch. InputError as check_init."""
    check_init(init)
    if init.location is None:
        return None
    if not is_url(init.location):
        return Path(init.location)
    return download(init.location, Path(scratch) / "weights" / init.sha256, init.sha256, parameter="train.init.sha256")


def initialise(model: ActionModel, init: Init, *, classes: Sequence[str], scratch: str | Path = ".scratch") -> dict[str, Any]:
    """Loads the weights that `init` names into `model`, whose classes are called `classes`; returns a plain report:

    source, file (its name), sha256, used (count of tensors), folded (names of stems made for colour), skipped (reason -> names
    in the file), fresh (names in the model that keep their random values), keep (as given), warnings.
    InputError, and the model stays as it was, when the file is not what `init` says or does not fill the backbone.
    """
    path = find_weights(init, scratch)
    if path is None:
        return {"source": "scratch"}
    sha256 = check_sum(path, init.sha256, parameter="train.init.sha256")
    content = read_plain(path, name=init.location, remedy="get the file again")
    weights = tensors_of(content, init.location)
    require_source(weights, init)
    if init.source == "checkpoint":
        fit, look = fit_checkpoint(content, weights, model, classes, init.location)
    else:
        fit, look = fit_public(init.source, weights, model.channels), {"mean": MEAN, "std": STD}
    own = model.state_dict()
    require_backbone(fit.found, own, init)
    fresh = [name for name in own if name not in fit.found]
    if init.keep and fresh:
        raise InputError(f"params.yaml: train.init.keep {init.keep} needs a start for the whole model, but {init.location} leaves"
                         f" {name_some(fresh)} random: set it to 0")
    with torch.no_grad():
        for name, tensor in fit.found.items():
            own[name].copy_(tensor)
    return {"source": init.source, "file": Path(urlsplit(init.location).path).name, "sha256": sha256, "used": len(fit.found),
            "folded": fit.folded, "skipped": fit.skipped, "fresh": fresh, "keep": init.keep,
            "warnings": compare_look(model, look)}


@torch.no_grad()
def blend(model: ActionModel, start: Mapping[str, Tensor], share: float) -> None:
    """Every weight and statistic of `model` becomes share * start + (1 - share) * its own: what fine-tuning learned of new data,
    without forgetting all that it began with (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022)."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(start[name].to(tensor), share)


def summary(report: Mapping[str, Any]) -> str:
    """Two or three lines for the reader of a log; none for scratch."""
    if report["source"] == "scratch":
        return ""
    folded = f", {len(report['folded'])} of them folded from colour" if report["folded"] else ""
    lines = [f"init: {report['used']} tensors of {report['source']} {report['file']} used{folded}; random start:"
             f" {name_some(report['fresh'])}"]
    lines += [f"init: left in the file, {reason}: {name_some(names)}" for reason, names in report["skipped"].items()]
    return "\n".join(lines + [f"init: warning: {sentence}" for sentence in report["warnings"]])


def tensors_of(content: Any, location: str) -> dict[str, Tensor]:
    """The weights of a checkpoint by their names, without the prefixes that wrappers of a model add."""
    state = content
    for key in ("model_state", "state_dict"):  # pytorchvideo, MMAction2 and ours; torchvision's are bare
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            state = content[key]
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise InputError(f"{location} holds no weights, neither bare nor under model_state or state_dict: give another file")
    return {name.removeprefix("module.").removeprefix("model."): tensor for name, tensor in tensors.items()}


def require_source(weights: Mapping[str, Tensor], init: Init) -> None:
    seems = guess_source(weights)
    if seems != init.source:
        remedy = f"are those of {seems}: set train.init.source to {seems}" if seems else "are unknown: give another file"
        raise InputError(f"{init.location} is no file of train.init.source {init.source}, its names ({name_some(list(weights))}) "
                         + remedy)


@dataclass
class Fit:
    """Which of a file's tensors go where."""

    found: dict[str, Tensor]  # by the model's names
    folded: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)  # reason -> names in the file


def fit_public(source: Source, weights: Mapping[str, Tensor], channels: Sequence[str]) -> Fit:
    """All but the head, which knows other classes."""
    fit = Fit({})
    for name, ours in rename(source, weights).items():
        if ours is None:
            fit.skipped.setdefault("not of the backbone", []).append(name)
            continue
        fit.found[ours] = weights[name]
        if STEM.fullmatch(ours) and weights[name].shape[1] == 3:
            fit.found[ours] = fold_stem(weights[name], channels)
            if fit.found[ours] is not weights[name]:
                fit.folded.append(ours)
    return fit


def fit_checkpoint(content: Any, weights: Mapping[str, Tensor], model: ActionModel, classes: Sequence[str],
                   location: str) -> tuple[Fit, Mapping[str, Any]]:
    """All of a model of ours but what of its head does not fit; and how that model looks at a window."""
    if content.get("format") != FORMAT:
        raise InputError(f"{location} is no model of this project ({FORMAT!r}): give a models/best.pt of `dvc repro train`")
    seen = list(content["model"].get("channels", ["temperature"]))
    if seen != list(model.inputs.channels):
        raise InputError(f"{location} sees {seen}, model.input.channels says {list(model.inputs.channels)}: make them the same")
    own = model.state_dict()
    reason, unfit = unfit_head(weights, own, same_classes=content["classes"] == list(classes))
    finding = [name for name in weights if name.startswith("detector.")]
    same = all(name in own and own[name].shape == weights[name].shape for name in finding)
    skipped = {why: names for why, names in ((reason, unfit), ("another detector", [] if same else finding)) if names}
    left = {name for names in skipped.values() for name in names}
    return Fit({name: tensor for name, tensor in weights.items() if name not in left}, skipped=skipped), content["model"]


def unfit_head(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], *, same_classes: bool) -> tuple[str, list[str]]:
    """(why, which): tensors of a file's head that the model cannot use. Its last layer is of no use to another description."""
    def shapes(state: Mapping[str, Tensor], last: bool) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in state.items()
                if name.startswith("head.") and name.startswith("head.classify.") == last}

    if shapes(weights, False) != shapes(own, False):
        return "another head", [*shapes(weights, False), *shapes(weights, True)]
    if not same_classes:
        return "other classes", list(shapes(weights, True))
    if shapes(weights, True) != shapes(own, True):
        return "another classifier", list(shapes(weights, True))
    return "", []


def require_backbone(found: Mapping[str, Tensor], own: Mapping[str, Tensor], init: Init) -> None:
    """InputError unless each tensor of the backbone is found in its shape, and nothing is left that would belong there."""
    # a file of pictures knows nothing of time, and old ones do not count the batches that a norm has seen
    of = "backbone.cnn." if init.source == "torchvision" else "backbone."
    missing = [name for name in own if name.startswith(of) and name not in found and not name.endswith("num_batches_tracked")]
    left = [name for name in found if name not in own]
    other = [name for name in found if name in own and found[name].shape != own[name].shape]
    if not missing + left + other:
        return
    total = sum(name.startswith("backbone.") for name in own)
    differs = []
    if missing:
        differs.append(f"{len(missing)} of its {total} tensors are missing ({name_some(missing)})")
    if other:
        there, here = list(found[other[0]].shape), list(own[other[0]].shape)
        differs.append(f"{len(other)} have another shape ({other[0]} is {there} there and {here} here)")
    if left:
        differs.append(f"{len(left)} of the file are left over ({name_some(left)})")
    raise InputError(f"{init.location} does not fill the backbone: {', '.join(differs)}; {propose(missing, left, other, found)}")


def propose(missing: list[str], left: list[str], other: list[str], found: Mapping[str, Tensor]) -> str:
    """The remedy: which of the parameters would make the file fit."""
    settings = []
    if missing and all("multipathway_fusion.norm" in name for name in missing):
        settings.append("lateral to plain")
    if left and all("multipathway_fusion.norm" in name for name in left):
        settings.append("lateral to norm_relu")
    if other and all("conv_fast_to_slow" in name for name in other):
        settings.append(f"lateral_kernel to {found[other[0]].shape[2]}")
    if len(settings) != bool(missing) + bool(left) + bool(other):  # not all that differs would be gone
        return "set model.name and its sizes to the network that the file was trained as"
    return f"set {' and '.join(settings)} in the section of params.yaml that model.name names"


def compare_look(model: ActionModel, look: Mapping[str, Any]) -> list[str]:
    """A sentence when the model normalises what it sees otherwise than the one that the weights come from."""
    theirs = {"mean": look.get("mean", 0.0), "std": look.get("std", 1.0)}
    if look.get("difference_std") is not None:
        theirs["difference_std"] = look["difference_std"]
    ours = {name: getattr(model.inputs, name) for name in theirs}
    if all(math.isclose(theirs[name], ours[name], rel_tol=0.02) for name in theirs):
        return []
    theirs, ours = (", ".join(f"{name} {value}" for name, value in look.items()) for look in (theirs, ours))
    return [f"the weights were trained with {theirs}, model.input has {ours}"]


def name_some(names: Sequence[str]) -> str:
    """A count would do for a machine, and all names for nobody."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "none"
