"""pytest tests/test_structure.py - an edit re-runs what it must and no more: dvc.yaml names exactly the code it runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conftest import ROOT

STAGES = ROOT / "stages"
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")


def imported_modules(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, also inside functions; `from a import b` names a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


def files_of(module: str) -> list[Path]:
    """The module's file and the __init__ files above it, of those that lie in stages/."""
    parts = module.split(".")
    above = [STAGES.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    return [path for path in [*above, STAGES.joinpath(*parts).with_suffix(".py")] if path.exists()]


def import_closure(script: Path) -> set[str]:
    reached, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [file for module in imported_modules(path) for file in files_of(module)]
    return {str(path.relative_to(ROOT)) for path in reached}


def code_deps(stage: dict) -> set[str]:
    found = set()
    for dependency in (ROOT / name for name in stage["deps"] if name.startswith("stages")):
        found.update(dependency.rglob("*.py") if dependency.is_dir() else [dependency])
    return {str(path.relative_to(ROOT)) for path in found}


def read_sections(script: Path) -> set[str]:
    """The sections of params.yaml that a script reads."""
    return {node.args[0].value for node in ast.walk(ast.parse(script.read_text()))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_params"}


@pytest.mark.parametrize("name", PIPELINE["stages"])
def test_deps_are_the_import_closure_of_the_script(name):
    script = STAGES / f"{name}.py"
    assert PIPELINE["stages"][name]["cmd"] == f"python stages/{name}.py"
    closure, declared = import_closure(script), code_deps(PIPELINE["stages"][name])
    assert declared == closure, f"missing {sorted(closure - declared)}, too many {sorted(declared - closure)}"


@pytest.mark.parametrize("name", PIPELINE["stages"])
def test_params_are_the_sections_that_the_script_reads(name):
    # server and runtime say how, never what: a change of them must not re-run anything
    read = read_sections(STAGES / f"{name}.py") - {"server", "runtime"}
    assert set(PIPELINE["stages"][name].get("params", [])) == read


def test_every_section_is_read_and_every_stage_described():
    assert set().union(*(read_sections(STAGES / f"{name}.py") for name in PIPELINE["stages"])) == set(PARAMS)
    assert list(PIPELINE["stages"]) == ["fetch", "hdf5", "coco", "validate", "train", "evaluate"]
    assert all(stage["desc"] for stage in PIPELINE["stages"].values())


def test_every_parameter_has_a_sentence_above_it():
    # one comment may speak of a few keys in a row, of one line each
    uncommented = []
    for line in (ROOT / "params.yaml").read_text().splitlines():
        key = line.strip()
        if key.startswith("#") or (line.endswith(":") and not line.startswith(" ")):
            uncommented = []  # a comment, or a section, whose name says what it is
        elif key and not key.startswith("-") and not key.endswith(":"):
            uncommented.append(key)
        assert len(uncommented) <= 5, f"params.yaml: nothing is said of {uncommented}"


@pytest.mark.parametrize("name", ["fetch", "hdf5", "coco", "validate"])
def test_data_stages_start_without_torch_or_matplotlib(name):
    code = f"import sys, {name}; print([m for m in ('torch', 'matplotlib', 'scipy', 'dvclive') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=STAGES, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_the_library_never_imports_a_stage_and_arrows_point_down():
    stages = {f"{path.stem}" for path in STAGES.glob("*.py")}
    for path in (STAGES / "thermal_action").rglob("*.py"):
        assert not stages & {name.split(".")[0] for name in imported_modules(path)}, path
    low = ["files", "keyframes", "raw", "recordings", "annotations", "splits", "checks", "params"]
    high = ("thermal_action.sources", "thermal_action.training", "thermal_action.scoring", "thermal_action.models",
            "thermal_action.dataset")
    for name in low:
        modules = imported_modules(STAGES / "thermal_action" / f"{name}.py")
        assert not [module for module in modules if module.startswith(high)], name


def test_readme_shows_the_table_that_the_pipeline_wrote():
    # the results of the commit, not of a memory: copy metrics/results.md into README after `make repro`
    assert (ROOT / "metrics/results.md").read_text().strip() in (ROOT / "README.md").read_text()
