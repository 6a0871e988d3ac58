"""Stops the pipeline on a broken data set, and shows what is in a sound one.

in   data/frames, data/annotations
out  metrics/validation_report.json   {"ok": true, ...}, problems and warnings in sentences, counts
     metrics/dataset_stats.json       sizes of the data set, per side and class
     metrics/validation/*.png         windows with boxes and labels
run  python stages/validate.py        exits with 1 when there are problems (the report is written all the same)
"""

import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.annotations import Sample, read_annotations, read_info
from thermal_action.files import code_sha256, replacing_folder, write_json
from thermal_action.kept import Kept
from thermal_action.params import Field, read_params, section
from thermal_action.records import read_record
from thermal_action.scans import Entry, RecordingScan, Scanning
from thermal_action.script import run
from thermal_action.verdict import Limits, judge_annotations, judge_frames, judge_split
from thermal_action.windows import Windowing

FRAMES, ANNOTATIONS, METRICS = Path("data/frames"), Path("data/annotations"), Path("metrics")
KEPT = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"), "validate")


@section
class Validate:
    num_samples: Annotated[int, Field(ge=0, le=200)]
    limits: Limits


def scan_recordings(info: dict[str, Entry], samples: list[Sample], scanning: Scanning) -> list[RecordingScan]:
    """Reads every frame once, but none of a recording that was scanned before."""
    own: dict[str, list[Sample]] = {name: [] for name in info}
    for sample in samples:
        if sample.recording not in info:
            raise InputError(f"{FRAMES} has no recording {sample.recording}, but {sample.image_id} is annotated: run hdf5 again")
        own[sample.recording].append(sample)
    kept, code, scans = Kept(KEPT), code_sha256(__file__), {}
    with tqdm(total=sum(entry.total_frames for entry in info.values()), unit="frame", desc="validate") as bar:
        for name in sorted(info):
            key, scan = scanning.provide(name, info[name], own[name], kept, code, bar.update)
            scans[key] = scan
    kept.forget_all_but(set(scans))
    return list(scans.values())


def describe(sides: dict[str, list[Sample]], classes: list[str], scans: list[RecordingScan], counts: dict) -> dict:
    """The few numbers that `dvc metrics diff` should show."""
    steps = np.concatenate([np.diff(scan.timestamps) for scan in scans])
    thermal = [scan for scan in scans if scan.temperature]
    contrasts = {image: contrast for scan in scans for image, contrast in scan.contrasts.items()}
    persons = {name: [] for name in classes}
    for sample in (sample for side in sides.values() for sample in side):
        for label, contrast in zip(sample.labels, contrasts.get(sample.image_id, ()), strict=False):
            persons[classes[label]].append(float(contrast))
    return {
        **{key: counts[key] for key in ("recordings", "devices", "frames", "damaged_frames")},
        "median_period_ms": float(np.median(steps)),
        **({"temperature": {"min_c": round(min(scan.temperature["min_c"] for scan in thermal), 2),
                            "max_c": round(max(scan.temperature["max_c"] for scan in thermal), 2)}} if thermal else {}),
        **{side: count_side(samples, classes) for side, samples in sides.items()},
        "contrast_median_c": {name: round(float(np.nanmedian(values)), 2) for name, values in persons.items() if values},
    }


def count_side(samples: list[Sample], classes: list[str]) -> dict:
    labels = Counter(classes[label] for sample in samples for label in sample.labels)
    return {"images": len(samples), "persons": labels.total(), "classes": dict(labels)}


def draw_samples(samples: list[Sample], classes: list[str], scans: list[RecordingScan], windowing: Windowing,
                 folder: Path) -> None:
    from thermal_action.pictures import draw_window

    scan_of = {scan.recording: scan for scan in scans}
    for rank, sample in enumerate(samples):
        scan = scan_of[sample.recording]
        seconds = (scan.timestamps[windowing.frames(scan.timestamps, sample.frame_idx)] - sample.timestamp) / 1000
        draw_window(folder / f"{rank:02d}_{sample.image_id}.png", sample, scan.windows[sample.image_id], seconds,
                    windowing.position, classes)


def choose_samples(samples: list[Sample], number: int) -> list[Sample]:
    """`number` samples to draw, every class in turn, rarest first."""
    counts = Counter(int(label) for sample in samples for label in sample.labels)
    chosen: dict[str, Sample] = {}
    waiting = {label: [sample for sample in samples if label in sample.labels] for label in sorted(counts, key=counts.get)}
    while len(chosen) < number and any(waiting.values()):
        for candidates in waiting.values():
            while candidates and candidates[-1].image_id in chosen:
                candidates.pop()
            if candidates and len(chosen) < number:
                sample = candidates.pop(len(candidates) // 2)
                chosen[sample.image_id] = sample
    return list(chosen.values())


def main() -> None:
    params = read_params("validate", Validate)
    info = read_info(ANNOTATIONS / "val.json")  # both say the same, and this one is small
    recordings = read_record(FRAMES / "sensor_info.json", dict[str, Entry], "hdf5")
    sides, classes = {}, []
    for side in ("train", "val", "test"):
        if side != "test" or (ANNOTATIONS / "test.json").exists():
            sides[side], classes = read_annotations(ANNOTATIONS / f"{side}.json", least=int(side != "test"))
    shown = choose_samples([*sides["val"], *sides["train"]], params.num_samples)
    scanning = Scanning(FRAMES, params.limits.dead_pixel_c, info.window, {sample.image_id for sample in shown})
    scans = scan_recordings(recordings, [sample for side in sides.values() for sample in side], scanning)
    verdict = (judge_frames(scans, params.limits) + judge_annotations(sides, classes, scans, params.limits)
               + judge_split(sides, scans, info))
    verdict.counts["duplicate_frames"] = sum(entry.duplicate_frames for entry in recordings.values())
    with replacing_folder(METRICS / "validation") as folder:
        draw_samples(shown, classes, scans, info.window, folder)
    write_json(METRICS / "dataset_stats.json", describe(sides, classes, scans, verdict.counts))
    write_json(METRICS / "validation_report.json", {"ok": not verdict.problems, "split_by": info.split_by, **asdict(verdict)})
    for sentence in verdict.warnings:
        print(f"validate: warning: {sentence}")
    for sentence in verdict.problems:
        print(f"validate: {sentence}", file=sys.stderr)
    print(f"validate: {verdict.counts['frames']} frames, {verdict.counts['damaged_frames']} of them damaged and repaired, "
          f"{len(verdict.warnings)} warnings, {len(verdict.problems)} problems")
    if verdict.problems:
        sys.exit(1)


if __name__ == "__main__":
    run(main, alone=True)
