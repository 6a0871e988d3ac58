"""A repository of its own for every test that runs stage scripts."""

import fcntl
import importlib.util
import io
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from clones import ROOT, Clone, finished_repository, merge
from tiny import SEVEN_ACTIONS, write_archive, write_clips

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTORCH_JIT", "0")  # for tests of localization, which turns it off where it comes before torch
# 20 cases of each property, the same on every run; with HYPOTHESIS_PROFILE=local 1,000 new ones, 10,000 and more of all
settings.register_profile("ci", max_examples=20, derandomize=True, deadline=None, database=None)
settings.register_profile("local", max_examples=1_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# what only the environment of `make mmaction2` can run
collect_ignore = [] if importlib.util.find_spec("mmaction") else ["mmaction2"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=1, help="how often tests/test_surviving.py kills each stage")


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("kills")


def call(script: str, *arguments: object, folder: Path | None = None, apart: bool = False) -> subprocess.CompletedProcess:
    """Runs stages/<script>.py in a folder: in this process, where torch is imported already, or `apart`, in one of its own.

    An error that the script does not turn into a sentence is an error of the test.
    """
    path, words = str(ROOT / f"stages/{script}.py"), list(map(str, arguments))
    if apart:
        return subprocess.run([sys.executable, path, *words], cwd=folder, capture_output=True, text=True)
    code, out, said = 0, io.StringIO(), io.StringIO()
    with chdir(folder or "."), patch.dict(os.environ), patch.object(sys, "argv", [path, *words]):
        with redirect_stdout(out), redirect_stderr(said):
            try:
                runpy.run_path(path, run_name="__main__")
            except SystemExit as end:
                code = end.code or 0
    return subprocess.CompletedProcess([path, *words], code, out.getvalue(), said.getvalue())


class Project:
    """A folder with params.yaml in which the repository's stage scripts run as DVC would run them."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "stages").symlink_to(ROOT / "stages")
        self.params = YAML(typ="safe").load(ROOT / "params.yaml")
        self.set({"runtime": {"processes": 1, "workers": 0, "threads": 1, "device": "cpu"}})

    def set(self, changes: Mapping) -> None:
        """Merges into params.yaml."""
        merge(self.params, changes)
        with open(self.folder / "params.yaml", "w") as file:
            YAML().dump(self.params, file)

    def run(self, *stages: str, check: bool = True, apart: bool = False) -> subprocess.CompletedProcess:
        for stage in stages:
            process = call(stage, folder=self.folder, apart=apart)
            if check:
                assert process.returncode == 0, f"{stage} failed:\n{process.stdout}\n{process.stderr}"
        return process

    def refusal(self, stage: str, code: int = 2, apart: bool = False) -> str:
        """The sentence with which a stage refuses its input."""
        process = self.run(stage, check=False, apart=apart)
        assert process.returncode == code, process.stdout + process.stderr
        assert "Traceback" not in process.stderr
        return process.stderr.strip().splitlines()[-1]


def tiny(project: Project, archive: Path) -> Project:
    if not archive.exists():
        write_archive(archive)
    project.set({"classes": SEVEN_ACTIONS, "window": {"length": 16}, "validate": {"num_samples": 2},
                 "fetch": {"source": "archive", "archive": {"location": str(archive), "sha256": None}}})
    return project


def clips(project: Project, folder: Path) -> Project:
    """A project of tiny 16x24 clips of seven actions, from video files."""
    if not folder.exists():
        write_clips(folder)
    places = {side: {"location": str(folder / side), "checksum": None} for side in ("train", "test")}
    project.set({"classes": SEVEN_ACTIONS, "window": {"length": 8, "sampling": "whole"}, "validate": {"num_samples": 2},
                 "fetch": {"source": "videos", "videos": {**places, "damaged": "refuse"}},
                 "hdf5": {"clip": {"frames": 8, "size": "native"}}, "coco": {"split_by": "subject", "val_fraction": 0.25}})
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


@pytest.fixture
def tiny_project(project: Project, tmp_path: Path) -> Project:
    """A project of tiny 16x16 recordings with seven actions, from an archive."""
    return tiny(project, tmp_path / "archive")


@pytest.fixture
def clip_project(project: Project, tmp_path: Path) -> Project:
    return clips(project, tmp_path / "videos")


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny project after fetch, hdf5 and coco; made once, copied by `prepared`."""
    folder = tmp_path_factory.mktemp("prepared") / "project"
    folder.mkdir()
    tiny(Project(folder), folder.parent / "archive").run("fetch", "hdf5", "coco", apart=True)
    return folder


@pytest.fixture
def prepared(project: Project, prepared_data: Path) -> Project:
    """A tiny project with recordings and annotations, of its own."""
    shutil.copytree(prepared_data / "data", project.folder / "data")
    return tiny(project, prepared_data.parent / "archive")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which the first process of pytest-xdist that wants it makes, while the others wait."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, whole = base / name, base / f"{name}.whole"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository in which `dvc repro` has run and its result is committed; who runs dvc in it, or changes it, takes a copy."""
    return Clone(made_once(tmp_path_factory, "finished", finished_repository))


@pytest.fixture(scope="session")
def thermal_v1() -> Path:
    """The real recordings, where there are any: THERMAL_V1 or ../shared/thermal-v1."""
    folder = Path(os.environ.get("THERMAL_V1", ROOT.parent / "shared" / "thermal-v1"))
    if not folder.is_dir():
        pytest.skip("no real recordings here (set THERMAL_V1 to their folder)")
    return folder
