"""JSON files that stages write for one another, read into typed, checked records: what nobody reads may be there, too."""

from pathlib import Path
from typing import Annotated, TypeVar, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from thermal_action import InputError
from thermal_action.params import STRICT, Field, describe

Kind = TypeVar("Kind")
Count = Annotated[int, Field(ge=0, lt=1 << 53)]  # also times in ms since 1970
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,149}$")]  # of a recording or an image, and so of files


@dataclass_transform(frozen_default=True)
def record(kind: type[Kind]) -> type[Kind]:
    """Makes a class a record: a frozen dataclass that refuses wrong types and NaN."""
    return pydantic_dataclass(frozen=True, kw_only=True, slots=True, config=STRICT | {"extra": "ignore"})(kind)


def read_record(path: str | Path, kind: type[Kind], stage: str) -> Kind:
    """The file as `kind`; InputError where `stage` did not write it so."""
    remedy = f"run `dvc repro {stage}` or `dvc pull`"
    try:
        return pydantic.TypeAdapter(kind).validate_json(Path(path).read_bytes(), strict=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: {remedy}") from None
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
    if problem["type"] == "json_invalid":
        raise InputError(f"{path} is not JSON ({problem['ctx']['error']}): delete it and {remedy}")
    raise InputError(f"{path}: {describe(problem, '', 'is missing')}; the {stage} stage did not write that: {remedy}")
