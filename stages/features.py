"""Describes recordings for models that look for actions in the whole of them: a row of numbers for each step of an even clock.

in   a checkpoint (models/best.pt), and recordings: whatever thermal_action/streams.py opens, above all a folder of the hdf5 stage
out  data/features/<recording>.npy   float32 [T, C], rows as thermal_action/features.py has them; of a recording that is cut into
                                     chunks <recording>@<start in s>.npy
     data/features/manifest.json     clock, columns and model; of each file its recording, start, duration and T (steps)
run  python ../../stages/features.py ../../models/best.pt data/frames   in pipelines/localization
"""

import argparse
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.features import Timed, Weights, count_columns, cut_chunks, describe, open_model, write_rows
from thermal_action.files import file_sha256, replacing_folder, write_json
from thermal_action.params import Field, read_params, section
from thermal_action.runtime import Runtime
from thermal_action.script import run
from thermal_action.streams import Stream, open_streams
from thermal_action.torch_file import TorchModel
from thermal_action.training.engine import choose_device

FEATURES = Path("data/features")
BATCH = 8  # windows looked at together


@section
class Features:
    weights: Weights
    seed: Annotated[int, Field(ge=0, lt=2**31)]  # of random weights
    score: Annotated[float, Field(gt=0, lt=1)]  # of the persons found
    fps: Annotated[float, Field(ge=1, le=60)]
    stride: Annotated[int, Field(ge=1, le=8)]  # ticks
    chunk_s: Annotated[float, Field(ge=10, le=86_400)]
    overlap_s: Annotated[float, Field(ge=0, le=43_200)]

    @property
    def step_s(self) -> float:
        return self.stride / self.fps

    def steps(self, seconds: float) -> int:
        return int(seconds / self.step_s)


def check_chunks(params: Features) -> None:
    if params.overlap_s > params.chunk_s / 2:
        raise InputError(f"params.yaml: features.overlap_s {params.overlap_s:g} is more than half of features.chunk_s"
                         f" {params.chunk_s:g}: make it smaller")


def describe_recording(model: TorchModel, stream: Stream, params: Features, folder: Path) -> dict[str, dict]:
    """Writes the features of a recording; returns what the manifest says of each of its files, by the file's name."""
    whole = folder / f"{stream.name}.npy"
    with tqdm(stream.frames, total=stream.total, unit="frame", desc=stream.name) as bar, open(whole, "wb") as file:
        frames = Timed(bar)
        rows = describe(model, frames, 1000 * params.step_s, least=params.score, batch=BATCH)
        count = write_rows(file, rows, sum(count_columns(model).values()))
    if not count:
        raise InputError(f"{stream.name} is shorter than half a step of {params.step_s:.3g} s: leave it out, or make"
                         " features.stride smaller")
    chunks = list(cut_chunks(count, params.steps(params.chunk_s), params.steps(params.overlap_s)))
    entries = {}
    for start, end in chunks:
        start_s, end_s = start * params.step_s, end * params.step_s if end < count else frames.duration_s
        entries[f"{stream.name}@{start_s:.0f}" if len(chunks) > 1 else stream.name] = {
            "recording": stream.name, "first_ms": frames.first, "start_s": round(start_s, 3),
            "duration": round(end_s - start_s, 3), "steps": end - start}
    if len(chunks) > 1:
        stored = np.load(whole, mmap_mode="r")
        for name, (start, end) in zip(entries, chunks, strict=True):
            np.save(folder / f"{name}.npy", stored[start:end])
        whole.unlink()
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("recordings", type=Path)
    options = parser.parse_args()
    params, runtime = read_params("features", Features), read_params("runtime", Runtime)
    check_chunks(params)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    model = open_model(options.model, choose_device(runtime.device), params.weights, params.seed)
    shape, columns = model.info["model"], count_columns(model)
    about = {"sha256": file_sha256(options.model), "name": shape["name"], "head": shape["head"], "weights": params.weights,
             "seed": params.seed, "score": params.score}
    entries: dict[str, dict] = {}
    with replacing_folder(FEATURES) as folder:
        for stream in open_streams(options.recordings, tuple(model.info["frame_size"])):
            entries |= describe_recording(model, stream, params, folder)
        write_json(folder / "manifest.json", {
            "fps": params.fps, "stride": params.stride, "num_frames": params.stride, "files": entries, "model": about,
            "classes": model.info["classes"],
            "columns": [{"name": name, "count": count} for name, count in columns.items()]})
    steps = sum(entry["steps"] for entry in entries.values())
    print(f"features: {steps} steps of {params.step_s:.3g} s in {len(entries)} files, {sum(columns.values())} numbers a step")


if __name__ == "__main__":
    run(main, alone=True)
