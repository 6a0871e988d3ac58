"""pytest tests/test_surviving.py [--kills 20] - what happens to the work when the machine does not play along.

Without these, a power cut, a full disk or a second run could leave half a data set that looks whole, or a model of other data.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clones import ROOT, Clone, tiny_repository
from conftest import Project, made_once, tiny
from thermal_action.files import read_json, write_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
OUTS = {name: [next(iter(out)) if isinstance(out, dict) else out for out in stage["outs"]]
        for name, stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items()}
STAGES = list(OUTS)


def digests(folder: Path, paths: list[str]) -> dict[str, str]:
    files = [file for path in paths for file in sorted([folder / path, *(folder / path).rglob("*")]) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def remove(folder: Path, paths: list[str]) -> None:
    """As DVC does before it runs a stage."""
    for path in (folder / path for path in paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith((".part", ".old")) and ".scratch" not in path.parts]


@dataclass(frozen=True)
class Undisturbed:
    """The folder of a tiny project in which every stage has run once, how long that took and what it wrote."""

    folder: Path
    seconds: dict[str, float]
    written: dict[str, dict[str, str]]

    def before(self, stage: str, folder: Path) -> Path:
        """A copy in which `stage` is the next to run."""
        shutil.copytree(self.folder, folder, symlinks=True)
        remove(folder, [path for later in STAGES[STAGES.index(stage):] for path in OUTS[later]])
        return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Undisturbed:
    folder = made_once(tmp_path_factory, "undisturbed", run_every_stage) / "project"
    return Undisturbed(folder, **read_json(folder.with_name("runs.json")))


def run_every_stage(above: Path) -> None:
    folder = above / "project"
    folder.mkdir(parents=True)
    project = tiny(Project(folder), above / "archive")
    project.set({"model": {"hidden": 16}, "train": {"epochs": 3, "batch_size": 8, "val_every": 1},
                 "evaluate": {"focus_class": "lying", "bootstrap_samples": 100}})
    seconds = {}
    for stage in STAGES:
        begin = time.monotonic()
        project.run(stage, apart=True)
        seconds[stage] = time.monotonic() - begin
    shutil.rmtree(folder / ".scratch")
    write_json(above / "runs.json", {"seconds": seconds, "written": {stage: digests(folder, OUTS[stage]) for stage in STAGES}})


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen:
    return Clone(folder).start(*command, **environment)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Waits, and returns what it said last."""
    out, said = process.communicate()
    assert process.returncode == code, out + said
    assert code == 0 or "Traceback" not in said, said
    return (said.strip().splitlines() or [""])[-1]


def kill_within(process: subprocess.Popen, seconds: float) -> None:
    """SIGKILL to the process and all that it started, unless it ends before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


# a killed run

@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_killed_anywhere_gives_the_same_when_it_runs_again(undisturbed, tmp_path, stage, kills):
    folder = undisturbed.before(stage, tmp_path / "project")
    moments = random.Random(stage)
    for _ in range(kills):
        kill_within(start(folder, "python", f"stages/{stage}.py"), moments.uniform(0, undisturbed.seconds[stage]))
        remove(folder, OUTS[stage])
        finish(start(folder, "python", f"stages/{stage}.py"))
        assert digests(folder, OUTS[stage]) == undisturbed.written[stage]
        assert not left_over(folder)
        remove(folder, OUTS[stage])


def test_a_repro_that_was_killed_again_and_again_ends_as_if_it_had_not_been(finished, tmp_path, kills):
    # in another clone: the same data and the same metrics are computed there, too
    clone, moments = tiny_repository(tmp_path / "clone"), random.Random(0)
    for _ in range(kills):
        kill_within(start(clone.folder, "dvc", "repro"), moments.uniform(2, 30))
    clone.dvc("repro")
    assert clone.locked_hashes() == finished.locked_hashes()
    assert clone.metrics() == finished.metrics()


# a disk that refuses

needs_namespaces = pytest.mark.skipif(subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"],
                                                     capture_output=True).returncode != 0, reason="no user namespaces here")
# the file `rest` leaves so many KB of the disk
ON_A_DISK = """
mount -t tmpfs -o size=64m small {disk} && cp -a {folder}/. {disk} && cd {disk} || exit 99
head -c $(( $(df --output=avail --block-size=1k . | tail -1) - {spare_kb} ))K /dev/zero > rest
{prepare}
python stages/{stage}.py
code=$?
find . -name '*.part' >&2
exit $code
"""


def run_on_a_disk(folder: Path, stage: str, *, spare_kb: int, prepare: str = "") -> str:
    """What a stage says last that runs on a copy of the folder, on a disk of that much free space that only it sees."""
    disk = folder.with_name("disk")
    disk.mkdir()
    script = ON_A_DISK.format(disk=disk, folder=folder, stage=stage, spare_kb=spare_kb, prepare=prepare)
    return finish(start(folder, "unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script), code=2)


@needs_namespaces
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_full_disk_is_one_sentence(undisturbed, tmp_path, stage, share):
    written = sum((undisturbed.folder / path).stat().st_size for path in undisturbed.written[stage])
    # the lock of the stage takes a page
    said = run_on_a_disk(undisturbed.before(stage, tmp_path / "project"), stage, spare_kb=4 + int(share * written / 1024))
    assert said.startswith(f"{stage}.py: ")
    assert "No space left on device: free some space, then run it again" in said or stage == "hdf5" and "disk has space" in said


@needs_namespaces
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_read_only_is_one_sentence(undisturbed, tmp_path, stage):
    said = run_on_a_disk(undisturbed.before(stage, tmp_path / "project"), stage, spare_kb=1000, prepare="mount -o remount,ro .")
    assert said.startswith(f"{stage}.py: ") and said.endswith(": Read-only file system: make it writable, then run it again")


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_of_somebody_else_is_one_sentence(undisturbed, tmp_path, stage):
    folder = undisturbed.before(stage, tmp_path / "project")
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]:
        path.chmod(0o555)
    # root may write anywhere, but for these
    limited = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    said = finish(start(folder, *limited, "python", f"stages/{stage}.py"), code=2)
    assert said.startswith(f"{stage}.py: ")
    assert said.endswith(": Permission denied: give yourself the rights to it, then run it again")


# two runs, and a clock that goes backwards

@pytest.mark.parametrize("stage", STAGES)
def test_a_second_run_in_the_same_folder_waits_outside(undisturbed, tmp_path, stage):
    folder = undisturbed.before(stage, tmp_path / "project")
    first = start(folder, "python", f"stages/{stage}.py")
    while f" FLOCK  ADVISORY  WRITE {first.pid} " not in Path("/proc/locks").read_text():
        assert first.poll() is None
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)  # it goes on when the second has had its turn
    said = finish(start(folder, "python", f"stages/{stage}.py"), code=2)
    assert said.startswith(f"{stage}.py: another {stage}.py in {folder} is running")
    first.send_signal(signal.SIGCONT)
    finish(first)
    assert digests(folder, OUTS[stage]) == undisturbed.written[stage]


def test_a_clock_that_goes_backwards_changes_nothing(undisturbed, tmp_path):
    backwards = """import time
        real, begin = time.time, time.time()
        time.time = lambda: begin - 1000 * (real() - begin)
        time.time_ns = lambda: int(1e9 * time.time())"""
    (tmp_path / "sitecustomize.py").write_text("\n".join(line.strip() for line in backwards.splitlines()))
    folder = undisturbed.before("fetch", tmp_path / "project")
    for stage in STAGES:
        finish(start(folder, "python", f"stages/{stage}.py", PYTHONPATH=str(tmp_path)))
        assert digests(folder, OUTS[stage]) == undisturbed.written[stage], stage


# files that changed behind the back of a stage

@pytest.mark.parametrize("stage", ["coco", "validate", "train", "evaluate"])
def test_a_recording_that_was_cut_short_is_named(undisturbed, tmp_path, stage, kills):
    folder, places = undisturbed.before(stage, tmp_path / "project"), random.Random(stage)
    for _ in range(kills):
        recording = places.choice(sorted((folder / "data/frames").glob("*.h5")))
        whole = recording.read_bytes()
        recording.write_bytes(whole[:places.randrange(len(whole))])
        said = finish(start(folder, "python", f"stages/{stage}.py"), code=2)
        assert f"data/frames/{recording.name}" in said and "dvc" in said
        assert not digests(folder, OUTS[stage])
        recording.write_bytes(whole)
