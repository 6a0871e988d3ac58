"""A small copy of the pipeline in a folder of its own, and what a command in it costs; for the benchmarks.

Imports little: a process begins with as much memory as the one that starts it, and that counts as its own.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("numpy", "h5py", "torch")
# recordings of some 180 frames, two of a room: `fetch.simulator.rooms` says how many
SHORT = {"fetch.simulator.sessions": 2, "fetch.simulator.recordings": 1, "fetch.simulator.seconds": 10.0,
         "fetch.buffer_frames": 64}
# everything on one core
RUNTIME = {"runtime.processes": 1, "runtime.threads": 1, "runtime.device": "cpu"}


@dataclass(frozen=True)
class Cost:
    """Of a command with all of its processes; memory is the most that one of them held."""

    seconds: float
    processor_s: float
    mb: float


class Workspace:
    """`changes` to params.yaml are named as for `dvc exp run -S`: fetch.simulator.rooms."""

    def __init__(self, folder: Path, changes: Mapping[str, object]):
        self.folder = folder
        folder.mkdir()
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "requirements.txt"):
            shutil.copy(ROOT / name, folder)
        self.params = YAML(typ="safe").load(ROOT / "params.yaml")
        self.set(RUNTIME | dict(changes))

    def set(self, changes: Mapping[str, object]) -> None:
        for name, value in changes.items():
            *sections, key = name.split(".")
            section = self.params
            for each in sections:
                section = section[each]
            section[key] = value
        with open(self.folder / "params.yaml", "w") as file:
            YAML().dump(self.params, file)

    def run(self, *command: str) -> tuple[str, Cost]:
        """What a command prints, and its cost. RuntimeError with the end of its error output where it fails."""
        environment = os.environ | {"PYTHONPATH": "stages", "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            begun = time.perf_counter()
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=output, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            errors.seek(0)
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.read()[-2000:]}")
            return output.read(), Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    def run_stage(self, name: str) -> Cost:
        return self.run(sys.executable, "-W", "ignore", f"stages/{name}.py")[1]


def describe_machine() -> str:
    models = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")] or ["unknown"]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)])
    return f"{models[0]}, {len(os.sched_getaffinity(0))} cores, {gib:.0f} GiB; {versions}; commit {commit or 'unknown'}"
