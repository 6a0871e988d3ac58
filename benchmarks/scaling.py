"""What a second process, a cluster and a second rank bring on this machine, and what they cost; as a table in Markdown.

run  PYTHONPATH=stages python benchmarks/scaling.py [--file scaling.md]       on a quiet machine of two cores; ten minutes

hdf5 on few and on many recordings, and train for few and for more epochs, so that what it takes to begin stands apart: in
processes and on a cluster, with threads and with ranks; two trainings one after the other, or side by side.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from workspace import SHORT, Workspace, describe_machine

FEW, MANY = 20, 400  # recordings
SHORT_RUN, LONG_RUN = 1, 4  # epochs
ROUNDS = 3


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """The address of a Dask scheduler with so many processes of one thread."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", scheduler_port=0, dashboard_address=None) as one:
        yield one.scheduler_address


def convert(workspace: Workspace, runtime: Mapping[str, object]) -> float:
    """Seconds of the clock that hdf5 takes from nothing, the least of some rounds."""
    workspace.set(runtime)
    seconds = []
    for _ in range(ROUNDS):
        for kept in ("data/frames", ".scratch"):
            shutil.rmtree(workspace.folder / kept, ignore_errors=True)
        seconds.append(workspace.run_stage("hdf5").seconds)
    return min(seconds)


def measure_hdf5(folder: Path) -> Iterator[tuple[str, str]]:
    workspaces = {}
    for count in (FEW, MANY):
        workspaces[count] = Workspace(folder / str(count), SHORT | {"fetch.simulator.rooms": count // 2})
        workspaces[count].run_stage("fetch")
    for name, cores, dask in (("one process", 1, False), ("two processes", 2, False), ("Dask, one worker", 1, True),
                              ("Dask, two workers", 2, True)):
        if dask:
            with cluster(cores) as address:
                few, many = (convert(workspace, {"runtime.dask": address}) for workspace in workspaces.values())
        else:
            few, many = (convert(workspace, {"runtime.processes": cores}) for workspace in workspaces.values())
        each = (many - few) / (MANY - FEW)
        yield f"hdf5, {name}", f"{many:.1f} s for {MANY} recordings: {few - FEW * each:.1f} s to begin, {1000 * each:.1f} ms each"


def measure_training(folder: Path) -> Iterator[tuple[str, str]]:
    workspace = Workspace(folder / "training", {"train.init.source": "scratch"})
    for stage in ("fetch", "hdf5", "coco", "validate"):
        workspace.run_stage(stage)
    for ranks, threads in ((1, 1), (1, 2), (2, 1)):
        workspace.set({"runtime.ranks": ranks, "runtime.threads": threads})
        short, long = (train(workspace, epochs) for epochs in (SHORT_RUN, LONG_RUN))
        each = (long - short) / (LONG_RUN - SHORT_RUN)
        yield (f"train, {ranks} rank{'s' * (ranks > 1)} of {threads} thread{'s' * (threads > 1)}",
               f"{long:.1f} s for {LONG_RUN} epochs: {short - SHORT_RUN * each:.1f} s to begin and to end, {each:.1f} s each")
    workspace.set({"runtime.ranks": 1, "runtime.threads": 2})
    in_turn = train(workspace) + train(workspace)
    workspace.set({"runtime.threads": 1})
    other = Workspace(folder / "other", {"train.init.source": "scratch"})
    for made in ("data", "metrics"):
        shutil.copytree(workspace.folder / made, other.folder / made)
    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, (workspace, other)))
    side_by_side = time.perf_counter() - begun
    yield "two trainings", f"{in_turn:.1f} s in turn with two threads; {side_by_side:.1f} s side by side with one thread each"


def train(workspace: Workspace, epochs: int = LONG_RUN) -> float:
    """Seconds of the clock of a training from nothing."""
    workspace.set({"train.epochs": epochs})
    for made in ("models", "metrics/training", "metrics/augmentation", ".scratch"):
        shutil.rmtree(workspace.folder / made, ignore_errors=True)
    return workspace.run_stage("train").seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="file for the table")
    options = parser.parse_args()
    lines = [f"{describe_machine()}\n\n| what | clock |\n|---|---|\n"]
    print(lines[0], end="")
    with tempfile.TemporaryDirectory() as folder:
        for measured in (measure_hdf5, measure_training):
            for what, took in measured(Path(folder)):
                lines.append(f"| {what} | {took} |\n")
                print(lines[-1], end="", flush=True)
    if options.file:
        options.file.write_text("".join(lines))


if __name__ == "__main__":
    main()
