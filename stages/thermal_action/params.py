"""params.yaml, read as YAML 1.2 into typed, frozen, checked sections.

PyYAML would read `1e-05`, which `dvc exp run -S` writes, as a string (YAML 1.1), hence ruamel.yaml; pydantic (which DVC
brings along) checks types and ranges: `true` is no learning rate, an unknown key is a typing error.
"""

import json
import math
from pathlib import Path
from typing import Annotated, TypeVar, dataclass_transform

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from thermal_action import InputError, shown

__all__ = ["ActionNames", "Field", "PictureSize", "parse_size", "read_params", "section"]

Kind = TypeVar("Kind")
# wrong parameters that a sentence names
NAMED = 3
STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass_transform(frozen_default=True)
def section(kind: type[Kind]) -> type[Kind]:
    """Makes a class a section of params.yaml: a frozen dataclass that refuses wrong types, unknown keys and NaN."""
    return pydantic_dataclass(frozen=True, kw_only=True, config=STRICT)(kind)


def without_repeats(names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{repeated[0]!r} stands there twice")
    return names


# the section `classes`: action names in the order of their ids
ActionNames = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2), pydantic.AfterValidator(without_repeats)]


# rows x columns, or as the pictures are
PictureSize = Annotated[str, Field(pattern=r"^(native|[1-9]\d{1,3}x[1-9]\d{1,3})$")]


def parse_size(size: str) -> tuple[int, int] | None:
    """(rows, columns) of a PictureSize; None for native."""
    if size == "native":
        return None
    rows, columns = size.split("x")
    return int(rows), int(columns)


def read_params(name: str, kind: type[Kind], file: str | Path = "params.yaml") -> Kind:
    """The section `name` as `kind`; InputError names the key, its value and what must hold."""
    file = Path(file)
    try:
        document = YAML(typ="safe").load(file)
    except FileNotFoundError:
        raise InputError(f"{file} does not exist: run the stage from the repository's root") from None
    except (YAMLError, ValueError, LookupError, RecursionError) as error:  # all but the first: no date, no number, too deep
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())[:500]}") from None
    if not isinstance(document, dict) or name not in document:
        raise InputError(f"{file} has no section `{name}`: add it (README describes the sections)")
    return check_section(document[name], kind, f"{file}: {name}")


def check_section(value: object, kind: type[Kind], place: str) -> Kind:
    try:
        # JSON, so that lists may become tuples and yet `true` never becomes 1
        return pydantic.TypeAdapter(kind, config=None).validate_json(to_json(value, place), strict=True)
    except pydantic.ValidationError as error:
        problems = error.errors()
        more = [f"and {len(problems) - NAMED} more"] * (len(problems) > NAMED)
        raise InputError("; ".join([describe(problem, place) for problem in problems[:NAMED]] + more)) from None


def to_json(value: object, place: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        try:
            found = non_json(value)
        except RecursionError:  # an anchor inside of what it names
            found = value
        raise InputError(f"{place} holds a value that is neither text, a finite number, true/false nor a list: "
                         f"{shown(found)}") from None


def non_json(value: object) -> object:
    """The first leaf of a section that JSON cannot hold: a date, NaN, infinity."""
    children = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        found = non_json(child)
        if found is not None:
            return found
    plain = isinstance(value, (dict, list, str, bool, int, type(None))) or isinstance(value, float) and math.isfinite(value)
    return None if plain else value


def describe(problem: dict, place: str, missing: str = "is missing: add it") -> str:
    key = ".".join([*([place] * bool(place)), *(shown(part).strip("'") for part in problem["loc"])])
    if problem["type"] == "unexpected_keyword_argument":
        return f"{key} is no parameter of this section: correct its spelling or remove it"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{key} {missing}"
    given, must = json.dumps(problem["input"]), problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key} = {given if len(given) <= 80 else given[:77] + '...'}: {must}"
