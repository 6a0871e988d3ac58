"""Says when actions happen in the recordings that have features, in the layout of ActivityNet, which ActionFormer reads.

in   data/features/manifest.json; data/annotations/segments.json, sides of the split and runs of one person's same label from
     keyframes; data/raw/timeline, the simulator's truth, which counts in place of keyframes where there is one
out  data/segments.json   database: of each file of features subset (training, validation, unused), fps, duration (s) and
                          annotations: segment [start, end] in s from the file's start, label, label_id
                          taxonomy: nodeId and nodeName of every action, 0 to K - 1, also of those that never happen
run  python ../../stages/segments.py   in pipelines/localization

An action is there once at a time, whoever does it (thermal_action/spans.py), and others may be there beside it. Of keyframes: a
label that a single one has lasts no time and is no segment, and where there are none, as in the frames that fetch brings on both
sides of them, nothing is taken to happen.
"""

from pathlib import Path
from typing import Annotated

from thermal_action import InputError
from thermal_action.files import write_json
from thermal_action.params import Field, read_params, section
from thermal_action.records import Count, read_record, record
from thermal_action.script import run
from thermal_action.spans import Span, cut_spans, merge_spans, read_timeline

MANIFEST, KEYFRAMED = Path("data/features/manifest.json"), Path("data/annotations/segments.json")
TIMELINES, SEGMENTS = Path("data/raw/timeline"), Path("data/segments.json")
Seconds = Annotated[float, Field(ge=0)]


@section
class Segments:
    min_share: Annotated[float, Field(gt=0, le=1)]


@record
class Features:
    """A file of features, in the manifest."""

    recording: str
    first_ms: Count
    start_s: Seconds
    duration: Seconds


@record
class Manifest:
    fps: Annotated[float, Field(gt=0)]
    stride: Annotated[int, Field(ge=1)]
    files: dict[str, Features]


@record
class Run:
    segment: tuple[Seconds, Seconds]
    label: str


@record
class Recorded:
    """A recording, in the segments of the coco stage."""

    subset: str
    duration: Seconds
    annotations: list[Run]


@record
class Keyframed:
    taxonomy: list[str]
    database: dict[str, Recorded]


def check_sides(manifest: Manifest, keyframed: Keyframed) -> None:
    """InputError unless every recording has features and belongs to one side."""
    described = {features.recording for features in manifest.files.values()}
    for name in sorted(described ^ keyframed.database.keys()):
        lacking, stage = (KEYFRAMED, "coco") if name in described else (MANIFEST, "features")
        raise InputError(f"{lacking} has no recording {name}: run `dvc repro {stage}`")
    for name, recorded in keyframed.database.items():
        if recorded.subset == "mixed":
            raise InputError(f"{KEYFRAMED}: {name} is on both sides of the split: set coco.split_by to session or recording")


def find_spans(features: Features, recorded: Recorded) -> list[Span]:
    """All that happened in a recording."""
    timeline = TIMELINES / f"{features.recording}.json"
    if timeline.exists():
        return merge_spans(read_timeline(timeline, features.first_ms, recorded.duration))
    return merge_spans(Span(*each.segment, each.label) for each in recorded.annotations if each.segment[0] < each.segment[1])


def main() -> None:
    params = read_params("segments", Segments)
    manifest, keyframed = read_record(MANIFEST, Manifest, "features"), read_record(KEYFRAMED, Keyframed, "coco")
    check_sides(manifest, keyframed)
    labels = {label: number for number, label in enumerate(keyframed.taxonomy)}
    database, found, others = {}, [], 0
    for name, features in manifest.files.items():
        recorded = keyframed.database[features.recording]
        spans = list(cut_spans(find_spans(features, recorded), features.start_s, features.duration, params.min_share))
        known = [span for span in spans if span.label in labels]
        database[name] = {"subset": recorded.subset, "fps": manifest.fps, "duration": features.duration,
                          "annotations": [{"segment": [round(span.start, 3), round(span.end, 3)], "label": span.label,
                                           "label_id": labels[span.label]} for span in known]}
        found += known
        others += len(spans) - len(known)
    write_json(SEGMENTS, {"version": "thermal-action 1", "database": database,
                          "taxonomy": [{"nodeId": number, "nodeName": label} for label, number in labels.items()]})
    step_s = manifest.stride / manifest.fps
    short = sum(span.seconds < step_s for span in found)
    print(f"segments: {len(found)} in {len(database)} files; {short} are shorter than a step of {step_s:.3g} s, which is hard to"
          f" learn, and {others} more are of actions that are not in `classes`")


if __name__ == "__main__":
    run(main, alone=True)
