"""Recordings that the tests hand to MMAction2, and the configurations that they begin from."""

import copy
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from conftest import ROOT, Project
from thermal_action.files import read_json, write_json

torch.set_num_threads(1)
CONFIGS = ROOT / "stages/thermal_action/mmaction2/configs"
EMPTY = 3  # the keyframe of each side whose persons are taken out
LOOK = {"temperature_range": (5.0, 45.0), "background": "window_median"}


def prepare(folder: Path) -> Path:
    """data/ of simulated recordings in full size, 64 frames a window, after fetch, hdf5 and coco; some windows hold two persons,
    one of each side nobody."""
    folder.mkdir()
    project = Project(folder)
    project.set({"fetch": {"simulator": {"rooms": 2, "sessions": 2, "recordings": 1, "seconds": 25.0, "visits": 0.6}}})
    project.run("fetch", "hdf5", "coco")
    for side in ("train", "val"):
        path = folder / f"data/annotations/{side}.json"
        coco = read_json(path)
        empty = coco["images"][EMPTY]["id"]
        write_json(path, coco | {"annotations": [one for one in coco["annotations"] if one["image_id"] != empty]})
    return folder / "data"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("handed") / "project")


def configure(kind: str, data: Path, work: Path, classes: int = 14) -> Config:
    """slowfast_r50_<kind>.py on that data, without output beside `work`."""
    os.environ |= {"THERMAL_DATA": str(data), "THERMAL_CLASSES": str(classes)}
    config = Config.fromfile(CONFIGS / f"slowfast_r50_{kind}.py")
    config.work_dir = str(work)
    init_default_scope("mmaction")  # as the Runner does
    return config


def build_runner(config: Config) -> Runner:
    """Under a name of its own: mmengine keeps the state of runs by name."""
    config.experiment_name = str(config.work_dir)
    return Runner.from_cfg(copy.deepcopy(config))


class Losses(Hook):
    """What each step of a run lost."""

    def __init__(self):
        self.seen: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append(outputs["loss"].item())
