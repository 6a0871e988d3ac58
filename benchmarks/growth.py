"""How time and memory of each stage grow with the number of recordings; as a table in Markdown and a curve.

run  python benchmarks/growth.py [--recordings 10 100 1000] [--more 10000] [--file growth.md] [--picture growth.png]

Simulated recordings of ten seconds (some 180 frames, 1 MB as they come and as they are kept), two of a room, more of each of the
thousand rooms that there can be; train learns for one epoch. Each stage runs on one core in processes of its own. `--more`
recordings go through the data stages only.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workspace import SHORT, Cost, Workspace, describe_machine

EPOCH = {"train.epochs": 1, "train.init.source": "scratch"}
DATA, LEARNING = ["fetch", "hdf5", "coco", "validate"], ["train", "evaluate"]
HEADINGS = ("recordings", "frames", "stage", "processor time, s", "ms a recording", "MB")


def measure(counts: list[int], more: list[int], folder: Path) -> Iterator[tuple[int, int, str, Cost]]:
    for count, stages in [*((count, DATA + LEARNING) for count in counts), *((count, DATA) for count in more)]:
        sessions = max(2, count // 1000)
        size = {"fetch.simulator.rooms": count // sessions, "fetch.simulator.sessions": sessions}
        workspace = Workspace(folder / str(count), SHORT | EPOCH | size)
        for stage in stages:
            cost = workspace.run_stage(stage)
            frames = json.loads((workspace.folder / "data/raw/query.json").read_text())["frames"]
            yield count, frames, stage, cost
        shutil.rmtree(workspace.folder)


def draw(path: Path, measured: list[tuple[int, int, str, Cost]]) -> None:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (times, memory) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for stage in DATA + LEARNING:
        counts = [count for count, _, name, _ in measured if name == stage]
        costs = [cost for _, _, name, cost in measured if name == stage]
        times.loglog(counts, [cost.processor_s for cost in costs], "o-", label=stage)
        memory.semilogx(counts, [cost.mb for cost in costs], "o-", label=stage)
    times.set(xlabel="recordings", ylabel="processor time, s", title="time")
    memory.set(xlabel="recordings", ylabel="MB", ylim=(0, None), title="most memory of a process")
    memory.legend()
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--more", type=int, nargs="+", default=[], help="of the data stages only")
    parser.add_argument("--file", type=Path, help="file for the table")
    parser.add_argument("--picture", type=Path, help="file for the curve")
    options = parser.parse_args()
    lines, measured = [f"{describe_machine()}\n", f"| {' | '.join(HEADINGS)} |\n|---:|---:|---|---:|---:|---:|"], []
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for count, frames, stage, cost in measure(options.recordings, options.more, Path(folder)):
            measured.append((count, frames, stage, cost))
            lines.append(f"| {count:,} | {frames:,} | {stage} | {cost.processor_s:.1f} |"
                         f" {1000 * cost.processor_s / count:.1f} | {cost.mb:.0f} |")
            print(lines[-1], flush=True)
    if options.file:
        options.file.write_text("\n".join(lines) + "\n")
    if options.picture:
        draw(options.picture, measured)


if __name__ == "__main__":
    main()
