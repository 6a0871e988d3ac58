"""How fast each step from a source to a score is, beside the least that any program needs for it; as a table in Markdown.

run  make bench     (python benchmarks/throughput.py [part ...] [--file table.md] [--compile]); the last table is throughput.md

On eight simulated recordings in a temporary folder, on one core; four minutes of processor time. What stands in one part runs in
one process, in turn, so that a busy machine slows all alike; the best of some rounds is told, by processor time (what a core can
do) and by the clock. Memory is the most that the part's process held, of a stage with its own processes; libraries are among it.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path

from workspace import Workspace, describe_machine

RECORDINGS = {"fetch.simulator.rooms": 4, "fetch.simulator.sessions": 1, "train.epochs": 1, "train.init.source": "scratch"}
RAW, FRAMES, ANNOTATIONS = Path("data/raw"), Path("data/frames"), Path("data/annotations")
WINDOWS, BOXES = 400, 100_000
HEADINGS = ("part", "what", "unit", "by processor time", "by the clock", "MB", "beside")
MODELS = {"thermal_tiny": 4, "slowfast": 8}  # pixels a cell
Row = tuple[str, str, float, float, str]
"""What, unit, how much by processor time and by the clock, a remark."""


def spend(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - clock


def compare(works: Mapping[str, Callable[[], object]], amount: float, unit: str, rounds: int = 3,
            remark: Callable[[str], str] = lambda name: "") -> Iterator[Row]:
    """`amount` of `unit` a second that each work gets done, in the best of some rounds in which they take turns."""
    spent = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            spent[name].append(spend(work))
    for name, pairs in spent.items():
        processor, clock = (min(column) for column in zip(*pairs, strict=True))
        yield name, f"{unit}/s", amount / processor, amount / clock, remark(name)


def measure_fetch() -> Iterator[Row]:
    from fetch import open_source
    from thermal_action.params import ActionNames, read_params
    from thermal_action.raw import pages, read_query
    from thermal_action.raw_store import RawStore
    from thermal_action.sources.options import Fetch

    params, classes = read_params("fetch", Fetch), read_params("classes", ActionNames)
    archive = Path("archive")
    archive.mkdir()
    (archive / "frames").symlink_to(FRAMES.resolve())
    (archive / "keyframes").symlink_to((RAW / "keyframes").resolve())
    archived = replace(params, source="archive", archive=replace(params.archive, location=str(archive), sha256=None))

    def bring(params: Fetch) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = open_source(params, classes, Path(folder))
            with RawStore(Path(folder) / "raw", {}, params.page_frames, Path(folder)) as store:
                source.fetch(store, lambda frames: None)
                store.publish()

    def read_pages() -> None:
        for folder in (RAW / "frames").iterdir():
            for page in pages(folder):
                page.read_bytes()

    works = {"simulator": lambda: bring(params), "archive": lambda: bring(archived), "a bare read of the pages": read_pages}
    yield from compare(works, read_query(RAW, asdict(params))["frames"], "frames", rounds=2)


def measure_hdf5() -> Iterator[Row]:
    import h5py
    import hdf5plugin

    from hdf5 import Hdf5
    from thermal_action.params import read_params
    from thermal_action.raw import read_query
    from thermal_action.recordings import CHUNK_FRAMES, Frames, Recording, write_recording

    params, query = read_params("hdf5", Hdf5), read_query(RAW, read_params("fetch", dict))
    decoded = []
    for path in sorted(FRAMES.glob("*.h5")):
        with Recording(path) as recording:
            decoded.append(Frames(recording.timestamps, recording.frame_seqs, recording.read(slice(None)), recording.lost_pixels))
    recordings = [frames.pictures for frames in decoded]
    target = Path("converted")
    target.mkdir()

    def convert(compression: str) -> None:
        conversion = replace(params, compression=compression).conversion(RAW)
        for recording, received in query["received"].items():
            conversion.convert(recording, received, target / f"{recording}.h5")

    def write_decoded(compression: str) -> None:
        for number, frames in enumerate(decoded):
            write_recording(target / f"decoded{number}.h5", [frames], sensor_id="bench", mac_address="02:00:00:00:00:00",
                            compression=compression, level=params.level)

    def write(filters: Mapping) -> None:
        for number, frames in enumerate(recordings):
            with h5py.File(target / f"bare{number}.h5", "w", libver="v110") as file:
                chunks = (CHUNK_FRAMES, *frames.shape[1:])
                dataset = file.create_dataset("frames", (0, *frames.shape[1:]), "<f4", maxshape=(None, *frames.shape[1:]),
                                              chunks=chunks, **filters)
                for start in range(0, len(frames), CHUNK_FRAMES):
                    chunk = frames[start : start + CHUNK_FRAMES]
                    dataset.resize(start + len(chunk), axis=0)
                    dataset[start:] = chunk

    bare = {f"gzip {params.level}": {"compression": "gzip", "compression_opts": params.level, "shuffle": True},
            "lzf": {"compression": "lzf", "shuffle": True}, "none": {},
            "blosc2 lz4": hdf5plugin.Blosc2(cname="lz4", clevel=5), "blosc2 zstd": hdf5plugin.Blosc2(cname="zstd", clevel=1)}
    works = {f"from pages, gzip {params.level}": lambda: convert("gzip"), "from pages, lzf": lambda: convert("lzf"),
             "from pages, none": lambda: convert("none"),
             f"decoded frames, gzip {params.level}": lambda: write_decoded("gzip"),
             "decoded frames, lzf": lambda: write_decoded("lzf"), "decoded frames, none": lambda: write_decoded("none"),
             **{f"h5py alone, {name}": lambda filters=filters: write(filters) for name, filters in bare.items()}}
    sizes = {}
    for name, work in works.items():  # a round that is not timed tells the sizes
        work()
        files = list(target.glob("*.h5"))
        sizes[name] = sum(file.stat().st_size for file in files) / 1e6
        for file in files:
            file.unlink()
    yield from compare(works, sum(map(len, recordings)), "frames", rounds=2, remark=lambda name: f"{sizes[name]:.1f} MB on disk")


def measure_windows() -> Iterator[Row]:
    import numpy as np

    from thermal_action.dataset import DecodedFrames
    from thermal_action.recordings import Recording
    from thermal_action.windows import CENTRED, Windowing

    windowing = Windowing(length=64, sampling="consecutive", period_ms=170.0, keyframe=CENTRED)
    recordings = {path.stem: Recording(path) for path in sorted(FRAMES.glob("*.h5"))}
    times = {name: recording.timestamps for name, recording in recordings.items()}
    maps = {}
    for name, recording in recordings.items():
        recording.read(slice(None)).tofile(f"{name}.raw")
        maps[name] = np.memmap(f"{name}.raw", np.float32, "r", shape=(len(recording), recording.height, recording.width))
    rng = np.random.default_rng(0)
    wanted = [(name, windowing.frames(times[name], int(rng.integers(len(times[name])))))
              for name in rng.choice(list(recordings), WINDOWS).tolist()]
    kept = DecodedFrames(FRAMES, 512_000_000)

    def read_all(read: Callable[[str, np.ndarray], np.ndarray]) -> Callable[[], None]:
        def work() -> None:
            for name, indices in wanted:
                read(name, indices)
        return work

    def start() -> None:
        kept.close()
        read_all(kept.read)()

    works = {"every window decoded anew": read_all(lambda name, indices: recordings[name].read(indices)),
             f"decoded frames kept, the first {WINDOWS}": start,
             "decoded frames kept, after warm-up": read_all(kept.read),
             "a raw np.memmap": read_all(lambda name, indices: maps[name][indices])}
    yield from compare(works, WINDOWS, "windows")


def measure_batches() -> Iterator[Row]:
    from thermal_action.annotations import read_info
    from thermal_action.dataset import ThermalActionDataset, collate_fn
    from thermal_action.params import read_params
    from thermal_action.training.options import Model
    from thermal_action.training.recipe import Train
    from thermal_action.transforms import ThermalActionTransform

    model, params = read_params("model", Model), read_params("train", Train)
    look = {"temperature_range": (model.input.min_c, model.input.max_c), "background": model.input.background}

    def loaded(cache_mb: int, augment: Mapping) -> Callable[[], None]:
        transform = ThermalActionTransform(bool(augment), **look, **augment)
        data = ThermalActionDataset(FRAMES, ANNOTATIONS / "train.json", transform, read_info(ANNOTATIONS / "train.json").window,
                                    cache_mb=cache_mb)
        shown = range(min(len(data), WINDOWS) // params.batch_size * params.batch_size)

        def work() -> int:
            for start in shown[:: params.batch_size]:
                collate_fn([data[index] for index in shown[start : start + params.batch_size]])
            return len(shown)
        return work

    augment = asdict(params.augment)
    works = {"decoded anew": loaded(0, {}), "decoded frames kept": loaded(512, {}), "kept, and augmented": loaded(512, augment)}
    count = [work() for work in works.values()][0]  # warms up
    yield from compare(works, count, "windows")


def measure_training(compiled: bool = False) -> Iterator[Row]:
    import torch
    from models import BATCH, build, make_windows, training_step

    torch.set_num_threads(1)
    layout = torch.channels_last_3d
    for name, stride in MODELS.items():
        torch.manual_seed(0)
        frames, works = make_windows(), {}
        for variant in ("fp32", "bf16", "fp32, channels last", *(["fp32, torch.compile"] if compiled else [])):
            model, shown = build(name, "crop", "native", stride).train(), frames
            if variant == "fp32, channels last":
                shown = frames.contiguous(memory_format=layout)
                for parameter in model.parameters():
                    if parameter.dim() == 5:
                        parameter.data = parameter.data.contiguous(memory_format=layout)
            if variant == "fp32, torch.compile":
                model = torch.compile(model)
            works[f"{name}, {variant}"] = training_step(model, shown, "bf16" if variant == "bf16" else "fp32")
        starts = {key: spend(step)[1] for key, step in works.items()}
        yield from compare(works, BATCH, "windows", rounds=8, remark=lambda key, starts=starts: f"first step {starts[key]:.1f} s")


def measure_frame_map() -> Iterator[Row]:
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map

    rng, classes, per_image = np.random.default_rng(0), 14, 2
    centre, size = rng.uniform(0.1, 0.9, (BOXES, 2)), rng.uniform(0.05, 0.25, (BOXES, 2))
    true = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    found = true + rng.normal(0, 0.02, true.shape)
    number, labels = np.arange(BOXES) // per_image, rng.integers(0, classes, BOXES)
    named = np.where(rng.random(BOXES) < 0.7, labels, rng.integers(0, classes, BOXES))
    scores, probabilities = rng.random(BOXES), rng.dirichlet(np.ones(classes), BOXES)
    images = [f"room{image % 6}_S1_R1_{1_767_596_400_000 + image}" for image in number.tolist()]
    truth = LabelledBoxes(images, true, labels)

    def corner_and_size(boxes: np.ndarray) -> np.ndarray:
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

    annotations = [{"id": index + 1, "image_id": int(image), "category_id": int(label), "bbox": box, "area": box[2] * box[3],
                    "iscrowd": 0} for index, (image, label, box) in
                   enumerate(zip(number, labels, corner_and_size(true).tolist(), strict=True))]
    dataset = {"info": {}, "images": [{"id": image} for image in range(BOXES // per_image)],
               "annotations": annotations, "categories": [{"id": label} for label in range(classes)]}
    rows = np.column_stack([number, corner_and_size(found), scores, named])

    def evaluate_coco() -> None:
        with redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = dataset
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
            evaluation.params.iouThrs, evaluation.params.maxDets = np.array([0.5]), [50]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.evaluate()
            evaluation.accumulate()

    single, shared = f"{BOXES:,} boxes of one class each", f"{BOXES:,} boxes with {classes} probabilities each"
    works = {single: lambda: frame_map(truth, LabelledBoxes(images, found, named, scores), classes),
             shared: lambda: frame_map(truth, detect_in_boxes(images, found, probabilities), classes),
             f"{single}, pycocotools": evaluate_coco}
    for what, _, processor, clock, _ in compare(works, 1, "evaluations", rounds=2):
        yield what, "s", 1 / processor, 1 / clock, ""


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def measure_validate() -> Iterator[Row]:
    import validate
    from thermal_action import pictures

    def work() -> None:
        with redirect_stdout(io.StringIO()):
            validate.main()

    work()  # imports
    timed = list(compare({"frames, annotations and pictures": work}, 1, "runs"))
    inputs = [*FRAMES.glob("*"), ANNOTATIONS / "train.json", ANNOTATIONS / "val.json"]
    on_disk = sum(path.stat().st_size for path in inputs)
    pictures.draw_window = lambda *arguments: None  # matplotlib reads its fonts again for every picture
    begun = bytes_read()
    work()
    remark = f"reads {(bytes_read() - begun) / 1e6:.2f} MB for pictures and verdict, on disk are {on_disk / 1e6:.2f} MB"
    for what, _, processor, clock, _ in timed:
        yield what, "s", 1 / processor, 1 / clock, remark


PARTS = {"fetch": measure_fetch, "hdf5": measure_hdf5, "windows": measure_windows, "batches": measure_batches,
         "training": measure_training, "frame-map": measure_frame_map, "validate": measure_validate}


def measure_stages(workspace: Workspace) -> Iterator[tuple[str, float, Row]]:
    """Each stage as a whole, and `dvc repro` that finds nothing to do."""
    for name in ("fetch", "hdf5", "coco", "validate", "train", "evaluate"):
        cost = workspace.run_stage(name)
        yield "stage", cost.mb, (name, "s", cost.processor_s, cost.seconds, "")
    dvc = [sys.executable, "-m", "dvc"]
    workspace.run(*dvc, "init", "--no-scm", "--quiet")
    workspace.run(*dvc, "commit", "--force", "--quiet")
    for _ in range(2):
        output, cost = workspace.run(*dvc, "repro")
    assert "up to date" in output, output
    yield "dvc", cost.mb, ("`dvc repro`, nothing to do", "s", cost.processor_s, cost.seconds, "")


def measure_part(workspace: Workspace, name: str, compiled: bool) -> Iterator[tuple[str, float, Row]]:
    output, cost = workspace.run(sys.executable, "-W", "ignore", __file__, "--one", name, *(["--compile"] if compiled else []))
    for row in json.loads(output):
        yield name, cost.mb, row


def to_table(measured: Iterable[tuple[str, float, Row]]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |\n|---|---|---|---:|---:|---:|---|\n"
    for part, mb, (what, unit, processor, clock, remark) in measured:
        amounts = (f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}" for amount in (processor, clock))
        yield f"| {part} | {what} | {unit} | {' | '.join(amounts)} | {mb:.0f} | {remark} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", default=["stages", *PARTS], help=f"stages, {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--file", type=Path, help="file for the table")
    parser.add_argument("--compile", action="store_true", help="train with torch.compile as well: minutes more")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with redirect_stdout(sys.stderr):  # what is measured may print
            rows = list(PARTS[options.one](**({"compiled": True} if options.compile and options.one == "training" else {})))
        print(json.dumps(rows))
        return
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "project", RECORDINGS)
        if "stages" not in options.part:
            for name in ("fetch", "hdf5", "coco", "validate"):
                workspace.run_stage(name)
        measured = (row for part in options.part for row in
                    (measure_stages(workspace) if part == "stages" else measure_part(workspace, part, options.compile)))
        lines = [f"{describe_machine()}\n\n"]
        print(lines[0], end="")
        for line in to_table(measured):
            print(line, end="", flush=True)
            lines.append(line)
    if options.file:
        options.file.write_text("".join(lines))


if __name__ == "__main__":
    main()
