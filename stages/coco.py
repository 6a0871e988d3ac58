"""Keyframes -> COCO-style annotations and a split that cannot leak.

in   data/raw/keyframes, data/frames
out  data/annotations/{train,val}.json    images, persons, context boxes (see thermal_action/annotations.py)
     data/annotations/test.json           the same of recordings that the source keeps for testing, if it is one that does
     data/annotations/class_mapping.json  class names and ids
     data/annotations/segments.json       runs of one person's same label, ActivityNet style
     data/annotations/dataset_info.json   counts, split, purged windows
run  python stages/coco.py
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from thermal_action import InputError
from thermal_action.annotations import image_id
from thermal_action.files import replacing_folder, write_json, write_json_lists
from thermal_action.keyframes import OPTIONAL, Annotation, Keyframe, read_keyframe_folder
from thermal_action.params import ActionNames, Field, read_params, section
from thermal_action.recordings import Recording
from thermal_action.records import read_record, record
from thermal_action.script import run
from thermal_action.segments import find_segments
from thermal_action.splits import SplitBy, Window, split_windows
from thermal_action.windows import Windowing, nearest_frames

RAW, FRAMES, ANNOTATIONS = Path("data/raw"), Path("data/frames"), Path("data/annotations")


@section
class Coco:
    split_by: SplitBy
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    folds: Annotated[int, Field(ge=0, le=50)]
    fold: Annotated[int, Field(ge=0, le=49)]
    seed: Annotated[int, Field(ge=0)]
    session_gap_s: Annotated[float, Field(ge=0)]
    block_s: Annotated[float, Field(ge=1)]
    segment_max_gap_s: Annotated[float, Field(gt=0)]


@record
class Given:
    """data/raw/split.json: image ids of both sides, and recordings for testing alone, of a source that has such."""

    train: list[str] = field(default_factory=list)
    val: list[str] = field(default_factory=list)
    test: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A keyframe, the nearest frame of its recording, and the span of its window."""

    keyframe: Keyframe
    frame_idx: int
    frame_distance_ms: int
    size: tuple[int, int]  # width, height
    window: Window


def place_keyframes(recording: Recording, keyframes: list[Keyframe], classes: list[str],
                    windowing: Windowing) -> Iterator[Placed]:
    timestamps, size = recording.timestamps, (recording.width, recording.height)
    indices = nearest_frames(timestamps, np.array([keyframe.data_time for keyframe in keyframes]))
    for keyframe, index in zip(keyframes, indices.tolist(), strict=True):
        frames = windowing.frames(timestamps, index)
        labels = tuple(classes.index(person.subcategory) for person in keyframe.persons)
        window = Window(image_id(keyframe.data_id, keyframe.data_time), keyframe.data_id, keyframe.mac_address,
                        keyframe.data_time, int(timestamps[frames.min()]), int(timestamps[frames.max()]), labels,
                        keyframe.subject)
        yield Placed(keyframe, index, abs(int(timestamps[index]) - keyframe.data_time), size, window)


def to_coco(side: Sequence[Placed], classes: list[str], first_id: int, info: dict) -> dict:
    """One side of the split, with iterators for lists; annotation ids count on from `first_id`."""
    persons = ((each.window.image_id, person) for each in side for person in each.keyframe.persons)
    return {
        "info": info,
        "images": map(to_image, side),
        "annotations": ({"id": number, "category_id": classes.index(person.subcategory), "category_name": person.subcategory,
                         **to_entry(image, person)} for number, (image, person) in enumerate(persons, first_id)),
        "context": ({"category": box.category, "subcategory": box.subcategory, **to_entry(each.window.image_id, box)}
                    for each in side for box in each.keyframe.annotations if box.category != "person"),
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
    }


def to_image(placed: Placed) -> dict:
    window, (width, height) = placed.window, placed.size
    return {"id": window.image_id, "sensor_id": window.recording, "mac_address": window.mac_address,
            "timestamp": window.timestamp, "width": width, "height": height, "frame_idx": placed.frame_idx,
            "frame_distance_ms": placed.frame_distance_ms,
            **{key: getattr(placed.keyframe, key) for key in OPTIONAL if getattr(placed.keyframe, key) is not None}}


def to_entry(image: str, box: Annotation) -> dict:
    return {"image_id": image, "bbox": box.bbox, "object_id": box.object_id, "attribute_obscured": box.attribute_obscured}


def describe_side(windows: Sequence[Window], classes: list[str]) -> dict:
    """Counts of images, boxes and classes, for people and for `dvc metrics diff`."""
    labels = Counter(classes[label] for window in windows for label in window.labels)
    return {"images": len(windows), "boxes": labels.total(), "classes": {name: labels[name] for name in classes},
            "recordings": sorted({window.recording for window in windows})}


def main() -> None:
    classes = read_params("classes", ActionNames)
    windowing, params = read_params("window", Windowing), read_params("coco", Coco)
    keyframes = read_keyframe_folder(RAW / "keyframes", classes)
    placed, spans, database = [], {}, {}
    for name, records in keyframes.items():
        with Recording(FRAMES / f"{name}.h5") as recording:
            timestamps = recording.timestamps
            spans[name] = int(timestamps[0]), int(timestamps[-1])
            placed += place_keyframes(recording, records, classes, windowing)
        database[name] = {"duration": (spans[name][1] - spans[name][0]) / 1000, "subset": "unused",
                          "annotations": find_segments(records, *spans[name], params.segment_max_gap_s)}
    path = RAW / "split.json"
    given = read_record(path, Given, "fetch") if path.exists() else Given()
    testing = {*(given.test or ())}
    split = split_windows([each.window for each in placed if each.window.recording not in testing], by=params.split_by,
                          val_fraction=params.val_fraction, seed=params.seed, recording_spans=spans,
                          session_gap_s=params.session_gap_s, block_s=params.block_s,
                          given=asdict(given) if given.train or given.val else None, folds=params.folds, fold=params.fold)
    if not split.train or not split.val:
        raise InputError(f"the split by {params.split_by} gives {len(split.train)} training and {len(split.val)} validation "
                         "keyframes: change coco.val_fraction or coco.split_by")

    sides = {side: [each for each in placed if each.window.image_id in ids]
             for side, ids in (("train", set(split.train)), ("val", set(split.val)), ("purged", set(split.purged)))}
    if given.test is not None:
        sides["test"] = [each for each in placed if each.window.recording in testing]
    summary = {side: describe_side([each.window for each in own], classes) for side, own in sides.items()}
    for side, subset in (("train", "training"), ("val", "validation"), ("test", "testing")):
        for name in summary.get(side, {}).get("recordings", ()):
            database[name]["subset"] = subset if database[name]["subset"] == "unused" else "mixed"
    info = {"window": asdict(windowing), "split_by": params.split_by}
    with replacing_folder(ANNOTATIONS) as folder:
        write_json_lists(folder / "train.json", to_coco(sides["train"], classes, 0, info))
        write_json_lists(folder / "val.json", to_coco(sides["val"], classes, summary["train"]["boxes"], info))
        if "test" in sides:
            write_json_lists(folder / "test.json", to_coco(sides["test"], classes, 0, info))
        write_json(folder / "class_mapping.json", {"classes": classes, "class_to_id": {c: i for i, c in enumerate(classes)}})
        write_json(folder / "segments.json", {"version": "thermal-action 1", "taxonomy": classes, "database": database})
        write_json(folder / "dataset_info.json", {"split_by": params.split_by, "seed": params.seed, "folds": params.folds,
                                                  "fold": params.fold, **summary})
    counts = ", ".join(f"{side} {summary[side]['images']} images with {summary[side]['boxes']} persons"
                       for side in sides)
    fold = f", fold {params.fold} of {params.folds}" if params.folds else ""
    print(f"coco: {counts} (split by {params.split_by}{fold})")


if __name__ == "__main__":
    run(main, alone=True)
