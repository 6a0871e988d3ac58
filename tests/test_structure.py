"""pytest tests/test_structure.py - an edit re-runs what it must and no more: dvc.yaml names exactly the code it runs.

After a change of dvc.yaml or params.yaml, `python tests/test_structure.py` copies it to pipelines/transfer and pipelines/hri30.
"""

import ast
import functools
import importlib.metadata
import io
import operator
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conftest import ROOT

STAGES = ROOT / "stages"
PIPELINES = {path.parent: YAML(typ="safe").load(path) for path in (ROOT / "dvc.yaml", *ROOT.glob("pipelines/*/dvc.yaml"))}
PIPELINE, PARAMS = PIPELINES[ROOT], YAML(typ="safe").load(ROOT / "params.yaml")
STAGE_CASES = [pytest.param(folder, name, id=f"{folder.relative_to(ROOT)}:{name}")
               for folder, pipeline in PIPELINES.items() for name in pipeline["stages"]]
TRANSFER = ROOT / "pipelines/transfer"
# the parameters that it sets for itself (all others are the root's, so that the model trained on simulation fits),
OWN_PARAMS = ("fetch.source", "fetch.archive.location", "fetch.archive.sha256", "coco.split_by", "coco.folds",
              "train.init.source", "train.init.location", "train.init.keep", "train.epochs", "train.strategy", "train.lr",
              "train.balance_tau", "train.augment.shift_px", "train.augment.scale", "train.augment.box_jitter")
# and what it starts from
PRETRAINED = "../../models/best.pt"
# The pipeline of clips has the root's stages, one output more and one plot less, and lacks what only thermal recordings have.
HRI30 = ROOT / "pipelines/hri30"
ANOTHER_OUT, ABSENT_PLOT = "metrics/test_predictions.csv", "Persons found"
ABSENT = {"server", "fetch.buffer_frames", "fetch.page_frames", "fetch.simulator", "fetch.archive", "fetch.tdengine",
          "hdf5.packet_px", "validate.limits.dead_pixel_c", "validate.limits.min_contrast_c", "validate.limits.max_damaged_share",
          "validate.limits.max_cold_share"}
# What the recordings of two pipelines have otherwise than the root's, of which the same sections are read,
LONGER = ("seed", "rooms", "sessions", "recordings", "seconds", "keyframe_interval_s")
ALARMS, LOCALIZATION = ROOT / "pipelines/alarms", ROOT / "pipelines/localization"
OTHERWISE = {
    ALARMS: [f"fetch.simulator.{key}" for key in (*LONGER, "visits", "nights", "animals")],
    LOCALIZATION: [*(f"fetch.simulator.{key}" for key in (*LONGER, "balance")), "coco.val_fraction", "runtime.threads"],
}
# and what of their own stands in a command
IN_COMMANDS = {ALARMS: {"predict"}, LOCALIZATION: set()}


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


def code_deps(stage: dict, folder: Path) -> set[str]:
    found = set()
    for dependency in ((folder / name).resolve() for name in stage["deps"]):
        if dependency.is_relative_to(STAGES):
            found.update(dependency.rglob("*.py") if dependency.is_dir() else [dependency])
    return {str(path.relative_to(ROOT)) for path in found}


def read_sections(script: Path) -> set[str]:
    """The sections of params.yaml that a script reads."""
    return {node.args[0].value for node in ast.walk(ast.parse(script.read_text()))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "read_params"}


def leaves(section: dict, above: str = "") -> dict[str, object]:
    """Every parameter by its dotted name."""
    found = {}
    for key, value in section.items():
        nested = isinstance(value, dict) and value
        found.update(leaves(value, f"{above}{key}.") if nested else {f"{above}{key}": value})
    return found


@pytest.mark.parametrize("folder, name", STAGE_CASES)
def test_deps_are_the_import_closure_of_the_script(folder, name):
    script, stage = STAGES / f"{name}.py", PIPELINES[folder]["stages"][name]
    assert stage["cmd"].split()[:2] == ["python", os.path.relpath(script, folder)]
    closure, declared = import_closure(script), code_deps(stage, folder)
    assert declared == closure, f"missing {sorted(closure - declared)}, too many {sorted(declared - closure)}"
    assert not [name for name in stage["deps"] if os.path.isabs(name)]


@pytest.mark.parametrize("folder, name", STAGE_CASES)
def test_params_are_the_sections_that_the_script_reads(folder, name):
    # server and runtime say how, never what: a change of them must not re-run anything
    read = read_sections(STAGES / f"{name}.py") - {"server", "runtime"}
    assert set(PIPELINES[folder]["stages"][name].get("params", [])) == read


def below(stage: dict) -> dict:
    """A stage of the root as it stands in pipelines/<task>."""
    deps = [name if name.startswith(("data/", "metrics/", "models/")) else f"../../{name}" for name in stage["deps"]]
    return stage | {"cmd": stage["cmd"].replace("stages/", "../../stages/"), "deps": deps}


def test_transfer_is_the_root_pipeline_that_starts_from_its_model():
    expected = PIPELINE | {"stages": {name: below(stage) for name, stage in PIPELINE["stages"].items()}}
    expected["stages"]["train"]["deps"].insert(0, PRETRAINED)
    assert PIPELINES[TRANSFER] == expected, "run python tests/test_structure.py"


def test_transfer_has_all_parameters_and_sets_few_for_itself():
    own, root = leaves(YAML(typ="safe").load(TRANSFER / "params.yaml")), leaves(PARAMS)
    differing = {key for key in own.keys() | root.keys() if key not in own or key not in root or own[key] != root[key]}
    assert differing <= set(OWN_PARAMS), "run python tests/test_structure.py"
    assert own["train.init.location"] == PRETRAINED


def test_clips_go_through_the_root_pipeline():
    own, root = PIPELINES[HRI30], PIPELINE
    assert list(own["stages"]) == list(root["stages"])
    for name, stage in own["stages"].items():
        expected = below(root["stages"][name]) | {"desc": stage["desc"]}
        if name == "evaluate":
            expected["outs"] = [*expected["outs"][:-1], ANOTHER_OUT, expected["outs"][-1]]  # DVC sorts them
        assert stage == expected, "run python tests/test_structure.py"
    assert own["metrics"] == root["metrics"] and own["plots"] == [plot for plot in root["plots"] if ABSENT_PLOT not in plot]


def test_clips_have_the_root_parameters_but_for_those_of_thermal_recordings():
    own, root = leaves(YAML(typ="safe").load(HRI30 / "params.yaml")), leaves(PARAMS)
    absent = {key for key in root if any(key == name or key.startswith(f"{name}.") for name in ABSENT)}
    assert root.keys() - own.keys() == absent
    assert {key.rpartition(".")[0].removesuffix(".train").removesuffix(".test") for key in own.keys() - root.keys()} == {
        "fetch.lookalike", "fetch.videos", "hdf5.clip"}


@pytest.mark.parametrize("folder", OTHERWISE, ids=lambda folder: folder.name)
def test_recordings_come_from_the_same_simulator_and_are_stored_alike(folder):
    own = YAML(typ="safe").load(folder / "params.yaml")
    read = set().union(*(read_sections(STAGES / f"{name}.py") for name in PIPELINES[folder]["stages"]))
    assert own.keys() - read == IN_COMMANDS[folder]
    shared = own.keys() & PARAMS.keys()
    assert shared >= {"classes", "fetch", "hdf5", "server", "runtime"}
    theirs, ours = (leaves({name: params[name] for name in shared}) for params in (PARAMS, own))
    assert theirs.keys() == ours.keys() and {key for key in ours if ours[key] != theirs[key]} <= set(OTHERWISE[folder])
    assert own["fetch"]["simulator"]["seed"] != PARAMS["fetch"]["simulator"]["seed"]


def test_dvc_does_not_see_a_pipeline_that_never_ran():
    # its outputs are in no cache: `dvc pull` and `dvc checkout` would end with an error for everybody
    asleep = (ROOT / "pipelines/.dvcignore").read_text().splitlines()
    for folder in PIPELINES.keys() - {ROOT}:
        assert (folder / "dvc.lock").exists() != (f"/{folder.name}/" in asleep), folder


def test_every_section_is_read_and_every_stage_described():
    assert set().union(*(read_sections(STAGES / f"{name}.py") for name in PIPELINE["stages"])) == set(PARAMS)
    assert list(PIPELINE["stages"]) == ["fetch", "hdf5", "coco", "validate", "train", "evaluate"]
    assert all(stage["desc"] for stage in PIPELINE["stages"].values())


@pytest.mark.parametrize("folder", [ROOT, ALARMS, LOCALIZATION, HRI30], ids=lambda folder: folder.name)
def test_every_parameter_has_a_sentence_above_it(folder):
    # one comment may speak of a few keys in a row, of one line each
    uncommented = []
    for line in (folder / "params.yaml").read_text().splitlines():
        key = line.strip()
        if key.startswith("#") or (line.endswith(":") and not line.startswith(" ")):
            uncommented = []  # a comment, or a section, whose name says what it is
        elif key and not key.startswith("-") and not key.endswith(":") and key.partition(":")[0] not in PARAMS["classes"]:
            uncommented.append(key)
        assert len(uncommented) <= 5, f"params.yaml: nothing is said of {uncommented}"


@pytest.mark.parametrize(("name", "absent"), [
    *((name, ["torch", "matplotlib", "scipy", "dvclive"]) for name in ("fetch", "hdf5", "coco", "validate", "segments")),
    ("alarms", ["torch", "sklearn"]), ("localize", ["torchvision", "pytorchvideo"]),
    *((name, ["torchvision", "pytorchvideo", "torch._dynamo"]) for name in ("predict", "features", "train")),
])
def test_a_stage_starts_without_what_it_may_never_need(name, absent):
    # seconds of every run, and of every test that runs it
    code = f"import sys, {name}; print([m for m in {absent} if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=STAGES, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_the_library_never_imports_a_stage_and_arrows_point_down():
    stages = {f"{path.stem}" for path in STAGES.glob("*.py")}
    for path in (STAGES / "thermal_action").rglob("*.py"):
        assert not stages & {name.split(".")[0] for name in imported_modules(path)}, path
    low = ["files", "keyframes", "raw", "raw_store", "recordings", "annotations", "splits", "checks", "params"]
    high = ("thermal_action.sources", "thermal_action.training", "thermal_action.scoring", "thermal_action.models",
            "thermal_action.dataset")
    for name in low:
        modules = imported_modules(STAGES / "thermal_action" / f"{name}.py")
        assert not [module for module in modules if module.startswith(high)], name


@pytest.mark.parametrize("folder", ["", "tests/"])
def test_the_environment_is_pinned_whole_and_by_hash_and_is_the_one_under_test(folder):
    # else two machines train with unlike versions, or with a package that somebody put another file in place of
    wanted = re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)$", (ROOT / f"{folder}requirements.in").read_text(), re.MULTILINE)
    locked = re.split(r"^(?=[\w.-]+==)", (ROOT / f"{folder}requirements.txt").read_text(), flags=re.MULTILINE)[1:]
    versions = dict(re.match(r"([\w.-]+)==([\w.]+)", block).groups() for block in locked)
    assert len(wanted) > 5 and all("--hash=sha256:" in block for block in locked)
    for name, version in wanted:
        assert versions[name.replace(".", "-")] == version, f"{name}: `make lock`"
        assert importlib.metadata.version(name).partition("+")[0] == version


def test_readme_shows_the_table_that_the_pipeline_wrote():
    # the results of the commit, not of a memory: copy metrics/results.md into README after `make repro`
    assert (ROOT / "metrics/results.md").read_text().strip() in (ROOT / "README.md").read_text()


def copy_from_root() -> None:
    """Writes pipelines/transfer/{dvc,params}.yaml: the root's, but for its own heading, start and parameters; and the stages of
    pipelines/hri30/dvc.yaml: the root's, but for what it says of them."""
    heading = (TRANSFER / "dvc.yaml").read_text().partition("stages:\n")[0]
    stages = (ROOT / "dvc.yaml").read_text().replace(" stages/", " ../../stages/").replace("- requi", "- ../../requi")
    before, train, after = stages.partition("  train:\n")
    after = after.replace("    deps:\n", f"    deps:\n    - {PRETRAINED}\n", 1)
    yaml, text = YAML(), io.StringIO()
    yaml.width = 4096
    yaml.representer.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"))
    params, own = yaml.load(ROOT / "params.yaml"), leaves(YAML(typ="safe").load(TRANSFER / "params.yaml"))
    for key in OWN_PARAMS:
        *sections, name = key.split(".")
        functools.reduce(operator.getitem, sections, params)[name] = own[key]
    yaml.dump(params, text)
    own_heading = (TRANSFER / "params.yaml").read_text().partition("\n\n")[0]
    (TRANSFER / "dvc.yaml").write_text(heading + before + train + after)
    (HRI30 / "dvc.yaml").write_text(clips_from_root(stages))
    (TRANSFER / "params.yaml").write_text(own_heading + "\n\n" + text.getvalue().partition("\n\n")[2])


def clips_from_root(stages: str) -> str:
    own = (HRI30 / "dvc.yaml").read_text()
    for name, stage in PIPELINE["stages"].items():
        stages = stages.replace(f"desc: {stage['desc']}\n", f"desc: {PIPELINES[HRI30]['stages'][name]['desc']}\n")
    last = "    - metrics/summary.json:\n        cache: false\n"
    stages = stages.partition("\nmetrics:")[0].replace(last, f"{last}    - {ANOTHER_OUT}\n")
    return own.partition("stages:\n")[0] + stages + "\nmetrics:" + own.partition("\nmetrics:")[2]


if __name__ == "__main__":
    copy_from_root()
