"""What a second process, a cluster and a second rank bring on this machine, and what they cost; as a table in Markdown.

run  python benchmarks/scaling.py [--file scaling.md]       on a quiet machine of two cores; ten minutes

hdf5 on few and on many recordings, so that the start of processes and cluster stands apart from what each recording takes; train
for an epoch with two threads, or with two ranks of one thread; two trainings one after the other, or side by side.
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

FEW, MANY = 20, 400
ROUNDS = 3
EPOCH = {"train.epochs": 1, "train.init.source": "scratch"}


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
    workspace = Workspace(folder / "training", EPOCH)
    for stage in ("fetch", "hdf5", "coco"):
        workspace.run_stage(stage)
    for ranks, threads in ((1, 1), (1, 2), (2, 1)):
        workspace.set({"runtime.ranks": ranks, "runtime.threads": threads})
        yield f"train, an epoch, ranks: {ranks}, threads of each: {threads}", f"{train(workspace):.1f} s"
    workspace.set({"runtime.ranks": 1, "runtime.threads": 2})
    in_turn = train(workspace) + train(workspace)
    workspace.set({"runtime.threads": 1})
    other = Workspace(folder / "other", EPOCH)
    shutil.copytree(workspace.folder / "data", other.folder / "data")
    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, (workspace, other)))
    side_by_side = time.perf_counter() - begun
    yield "two trainings", f"{in_turn:.1f} s in turn with two threads; {side_by_side:.1f} s side by side with one thread each"


def train(workspace: Workspace) -> float:
    """Seconds of the clock of a training from nothing."""
    for made in ("models", "metrics", ".scratch"):
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
