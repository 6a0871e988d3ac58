"""A repository of its own for every test that runs stage scripts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from clones import ROOT, Clone, finished_repository, merge
from tiny import SEVEN_ACTIONS, write_archive

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTORCH_JIT", "0")  # for tests of localization, which turns it off where it comes before torch
# 20 cases of each property, the same on every run; with HYPOTHESIS_PROFILE=local 1,000 new ones, 10,000 and more of all
settings.register_profile("ci", max_examples=20, derandomize=True, deadline=None, database=None)
settings.register_profile("local", max_examples=1_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=1, help="how often tests/test_surviving.py kills each stage")


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("kills")


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

    def run(self, *stages: str, check: bool = True) -> subprocess.CompletedProcess:
        for stage in stages:
            process = subprocess.run([sys.executable, f"stages/{stage}.py"], cwd=self.folder, capture_output=True, text=True)
            if check:
                assert process.returncode == 0, f"{stage} failed:\n{process.stdout}\n{process.stderr}"
        return process

    def refusal(self, stage: str, code: int = 2) -> str:
        """The sentence with which a stage refuses its input."""
        process = self.run(stage, check=False)
        assert process.returncode == code, process.stdout + process.stderr
        assert "Traceback" not in process.stderr
        return process.stderr.strip().splitlines()[-1]


def tiny(project: Project, archive: Path) -> Project:
    if not archive.exists():
        write_archive(archive)
    project.set({"classes": SEVEN_ACTIONS, "window": {"length": 16}, "validate": {"num_samples": 2},
                 "fetch": {"source": "archive", "archive": {"location": str(archive), "sha256": None}}})
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


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny project after fetch, hdf5 and coco; made once, copied by `prepared`."""
    folder = tmp_path_factory.mktemp("prepared") / "project"
    folder.mkdir()
    tiny(Project(folder), folder.parent / "archive").run("fetch", "hdf5", "coco")
    return folder


@pytest.fixture
def prepared(project: Project, prepared_data: Path) -> Project:
    """A tiny project with recordings and annotations, of its own."""
    shutil.copytree(prepared_data / "data", project.folder / "data")
    return tiny(project, prepared_data.parent / "archive")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository in which `dvc repro` has run and its result is committed; tests that change it take a copy."""
    return finished_repository(tmp_path_factory.mktemp("finished") / "repository")


@pytest.fixture(scope="session")
def thermal_v1() -> Path:
    """The real recordings, where there are any: THERMAL_V1 or ../shared/thermal-v1."""
    folder = Path(os.environ.get("THERMAL_V1", ROOT.parent / "shared" / "thermal-v1"))
    if not folder.is_dir():
        pytest.skip("no real recordings here (set THERMAL_V1 to their folder)")
    return folder
