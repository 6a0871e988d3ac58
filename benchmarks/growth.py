"""How time and memory of the data stages grow with the number of recordings; as a table in Markdown and a curve.

run  python benchmarks/growth.py [--recordings 10 100 1000] [--file growth.md] [--picture growth.png]

Recordings of some 190 frames, 1 MB in all, for the sake of the disk: ten simulated ones, and the same frames again at other times
under other names, so that five devices have ever more sessions. Each stage runs on one core in processes of its own; a thousand
recordings take six minutes and 2 GB of the temporary folder.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workspace import Cost, Workspace, describe_machine

SHORT = {"fetch.simulator.rooms": 5, "fetch.simulator.sessions": 2, "fetch.simulator.recordings": 1,
         "fetch.simulator.seconds": 10.0, "fetch.buffer_frames": 64}
STAGES = ("hdf5", "coco", "validate")
MONTH_MS = 30 * 24 * 3_600_000
HEADINGS = ("recordings", "frames", "stage", "processor time, s", "clock, s", "ms a recording", "MB")


def repeat(raw: Path, target: Path, count: int) -> int:
    """Writes `count` recordings to `target`, those of `raw` month after month; how many frames they have."""
    query = json.loads((raw / "query.json").read_text())
    names = list(query["received"])
    received = {}
    (target / "keyframes").mkdir(parents=True)
    for number in range(count):
        name, later = names[number % len(names)], number // len(names) * MONTH_MS
        copied = f"{name}_{number // len(names):03d}"
        facts = query["received"][name]
        received[copied] = facts | {key: facts[key] + later for key in ("first_ts", "last_ts")}
        keyframes = [json.loads(line) for line in open(raw / "keyframes" / f"{name}.jsonl")]
        lines = (json.dumps(keyframe | {"data_id": copied, "data_time": keyframe["data_time"] + later}) for keyframe in keyframes)
        (target / "keyframes" / f"{copied}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (target / "frames" / copied).mkdir(parents=True)
        for page in (raw / "frames" / name).glob("*.jsonl"):
            frames = (json.loads(line) for line in open(page))
            lines = (json.dumps(frame | {"ts": frame["ts"] + later}, separators=(",", ":")) for frame in frames)
            (target / "frames" / copied / page.name).write_text("".join(f"{line}\n" for line in lines))
    frames = sum(facts["frames"] for facts in received.values())
    (target / "query.json").write_text(json.dumps(query | {"received": received, "frames": frames}))
    return frames


def measure(counts: list[int], folder: Path) -> Iterator[tuple[int, int, str, Cost]]:
    source = Workspace(folder / "source", SHORT)
    source.run_stage("fetch")
    for count in counts:
        workspace = Workspace(folder / str(count), SHORT)
        frames = repeat(source.folder / "data/raw", workspace.folder / "data/raw", count)
        for stage in STAGES:
            yield count, frames, stage, workspace.run_stage(stage)
        shutil.rmtree(workspace.folder)


def draw(path: Path, measured: list[tuple[int, int, str, Cost]]) -> None:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (times, memory) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for stage in STAGES:
        counts = [count for count, _, name, _ in measured if name == stage]
        costs = [cost for _, _, name, cost in measured if name == stage]
        times.loglog(counts, [cost.processor_s for cost in costs], "o-", label=stage)
        memory.semilogx(counts, [cost.mb for cost in costs], "o-", label=stage)
    times.set(xlabel="recordings", ylabel="processor time, s", title="time")
    memory.set(xlabel="recordings", ylabel="MB", ylim=(0, None), title="most memory of a process")
    times.legend()
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--file", type=Path, help="file for the table")
    parser.add_argument("--picture", type=Path, help="file for the curve")
    options = parser.parse_args()
    lines, measured = [f"{describe_machine()}\n", f"| {' | '.join(HEADINGS)} |\n|---:|---:|---|---:|---:|---:|---:|"], []
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for count, frames, stage, cost in measure(options.recordings, Path(folder)):
            measured.append((count, frames, stage, cost))
            lines.append(f"| {count:,} | {frames:,} | {stage} | {cost.processor_s:.1f} | {cost.seconds:.1f} |"
                         f" {1000 * cost.processor_s / count:.1f} | {cost.mb:.0f} |")
            print(lines[-1], flush=True)
    if options.file:
        options.file.write_text("\n".join(lines) + "\n")
    if options.picture:
        draw(options.picture, measured)


if __name__ == "__main__":
    main()
