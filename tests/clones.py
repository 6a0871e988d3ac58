"""Git clones with DVC in which tests run the real tools, on recordings so small that the whole pipeline takes seconds."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SEVEN = ["sitting", "standing", "walking", "lying down-lying with risk", "transition-normal transition",
         "lower position-bending", "other"]
# a 16x16 sensor with 7 actions: what a user changes is params.yaml alone
TINY = {
    "classes": SEVEN,
    "fetch": {"page_frames": 100, "buffer_frames": 16,
              "simulator": {"rooms": 2, "sessions": 2, "recordings": 1, "seconds": 20.0, "rows": 16, "cols": 16, "people": 1,
                            "class_weights": {name: 1.0 for name in SEVEN}}},
    "window": {"length": 16},
    "validate": {"num_samples": 1, "limits": {"max_cold_share": 1.0}},
    "model": {"hidden": 16, "slowfast": {"width": 8, "tau": 4, "alpha": 2}},
    "train": {"epochs": 2, "batch_size": 8, "val_every": 1},
    "evaluate": {"bootstrap_samples": 100},
    "runtime": {"processes": 1, "workers": 0, "threads": 1, "device": "cpu"},
}


def merge(target: dict, changes: Mapping) -> None:
    """A dict is merged key by key, everything else replaces."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


class Clone:
    """A Git clone with DVC in which commands run with this environment's python first."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *command: str, check: bool = True, **environment: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        process = subprocess.run(command, cwd=self.folder, env=os.environ | {"PATH": path} | environment, capture_output=True,
                                 text=True)
        assert not check or process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
        return process.stdout + process.stderr

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """The same in the background, in a process group of its own."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.Popen(command, cwd=self.folder, env=os.environ | {"PATH": path} | environment, start_new_session=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def dvc(self, *command: str, **options) -> str:
        return self.run("dvc", *command, **options)

    def git(self, *command: str, **options) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", *command, **options)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def set_params(self, changes: dict, file: str = "params.yaml") -> None:
        yaml = YAML()
        params = yaml.load(self.folder / file)
        merge(params, changes)
        yaml.dump(params, self.folder / file)

    def locked_hashes(self) -> dict[str, str]:
        lock = YAML(typ="safe").load(self.folder / "dvc.lock")
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}

    def metrics(self) -> dict:
        return json.loads((self.folder / "metrics/evaluate.json").read_text())


def tiny_repository(folder: Path) -> Clone:
    """The files Git knows of, with tiny parameters, committed."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                            text=True, check=True).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).exists() and name not in ("dvc.lock", "models/model_card.md") and not name.startswith("metrics/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    clone = Clone(folder)
    clone.set_params(TINY)
    clone.git("init", "--quiet", "--initial-branch", "main")
    clone.commit("tiny")
    return clone


def finished_repository(folder: Path) -> Clone:
    """The same after `dvc repro`, its result committed."""
    clone = tiny_repository(folder)
    clone.dvc("repro")
    clone.commit("result")
    return clone


def cloned(origin: Path, folder: Path) -> Clone:
    subprocess.run(["git", "clone", "--quiet", str(origin), str(folder)], check=True)
    return Clone(folder)
