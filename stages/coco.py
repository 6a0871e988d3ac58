"""Keyframes -> COCO-style annotations and a split that cannot leak.

in   data/raw/keyframes, data/frames
out  data/annotations/{train,val}.json    images, persons, context boxes (see thermal_action/annotations.py)
     data/annotations/class_mapping.json  class names and ids
     data/annotations/segments.json       runs of one person's same label, ActivityNet style
     data/annotations/dataset_info.json   counts, split, purged windows
run  python stages/coco.py
"""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np

from thermal_action import InputError
from thermal_action.annotations import image_id
from thermal_action.files import read_json, replacing_folder, write_json
from thermal_action.keyframes import Keyframe, read_keyframe_folder
from thermal_action.params import ActionNames, Field, read_params, section
from thermal_action.recordings import Recording
from thermal_action.script import run
from thermal_action.segments import find_segments
from thermal_action.splits import Split, SplitBy, Window, split_windows
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


def place_keyframes(recording: Recording, keyframes: list[Keyframe], classes: list[str],
                    window: Windowing) -> list[tuple[Keyframe, dict, Window]]:
    """Each keyframe with its image entry (the nearest frame) and the span of its window."""
    timestamps, width, height = recording.timestamps, recording.width, recording.height
    placed = []
    indices = nearest_frames(timestamps, np.array([keyframe.data_time for keyframe in keyframes]))
    for keyframe, index in zip(keyframes, indices.tolist(), strict=True):
        frames = window.frames(timestamps, index)
        image = {"id": image_id(keyframe.data_id, keyframe.data_time), "sensor_id": keyframe.data_id,
                 "mac_address": keyframe.mac_address, "timestamp": keyframe.data_time, "width": width,
                 "height": height, "frame_idx": index,
                 "frame_distance_ms": abs(int(timestamps[index]) - keyframe.data_time)}
        labels = tuple(classes.index(person.subcategory) for person in keyframe.persons)
        placed.append((keyframe, image, Window(image["id"], keyframe.data_id, keyframe.mac_address, keyframe.data_time,
                                               int(timestamps[frames.min()]), int(timestamps[frames.max()]), labels)))
    return placed


def to_coco(keyframes: list[tuple[Keyframe, dict]], classes: list[str], first_id: int, info: dict) -> dict:
    """One side of the split. Each keyframe comes with its image entry; annotation ids count on from `first_id`."""
    annotations, context = [], []
    for keyframe, image in keyframes:
        for annotation in keyframe.annotations:
            entry = {"image_id": image["id"], "bbox": list(annotation.bbox), "object_id": annotation.object_id,
                     "attribute_obscured": annotation.attribute_obscured}
            if annotation.category == "person":
                label = classes.index(annotation.subcategory)
                annotations.append({"id": first_id + len(annotations), "category_id": label,
                                    "category_name": annotation.subcategory, **entry})
            else:
                context.append({"category": annotation.category, "subcategory": annotation.subcategory, **entry})
    return {"info": info, "images": [image for _, image in keyframes], "annotations": annotations, "context": context,
            "categories": [{"id": label, "name": name} for label, name in enumerate(classes)]}


def describe_split(placed: list, split: Split, classes: list[str], params: Coco) -> dict:
    """Counts of images, boxes and classes per side, for people and for `dvc metrics diff`."""
    sides = {"train": set(split.train), "val": set(split.val), "purged": set(split.purged)}
    info: dict = {"split_by": params.split_by, "seed": params.seed, "folds": params.folds, "fold": params.fold}
    for side, ids in sides.items():
        labels = Counter(person.subcategory for keyframe, image, _ in placed if image["id"] in ids for person in keyframe.persons)
        info[side] = {"images": len(ids), "boxes": labels.total(), "classes": {name: labels[name] for name in classes},
                      "recordings": sorted({window.recording for _, _, window in placed if window.image_id in ids})}
    return info


def main() -> None:
    classes = read_params("classes", ActionNames)
    window, params = read_params("window", Windowing), read_params("coco", Coco)
    keyframes = read_keyframe_folder(RAW / "keyframes", classes)
    placed, spans, database = [], {}, {}
    for name, records in keyframes.items():
        with Recording(FRAMES / f"{name}.h5") as recording:
            timestamps = recording.timestamps
            spans[name] = int(timestamps[0]), int(timestamps[-1])
            placed += place_keyframes(recording, records, classes, window)
        database[name] = {"duration": (spans[name][1] - spans[name][0]) / 1000,
                          "annotations": find_segments(records, *spans[name], params.segment_max_gap_s)}
    given = read_json(RAW / "split.json") if params.split_by == "given" and (RAW / "split.json").exists() else None
    split = split_windows([w for _, _, w in placed], by=params.split_by, val_fraction=params.val_fraction, seed=params.seed,
                          recording_spans=spans, session_gap_s=params.session_gap_s, block_s=params.block_s, given=given,
                          folds=params.folds, fold=params.fold)
    if not split.train or not split.val:
        raise InputError(f"the split by {params.split_by} gives {len(split.train)} training and {len(split.val)} validation "
                         "keyframes: change coco.val_fraction or coco.split_by")

    info = {"window": asdict(window), "split_by": params.split_by}
    in_train, in_val = set(split.train), set(split.val)
    train = to_coco([(k, image) for k, image, _ in placed if image["id"] in in_train], classes, 0, info)
    val = to_coco([(k, image) for k, image, _ in placed if image["id"] in in_val], classes, len(train["annotations"]), info)
    shown = {side: {image["sensor_id"] for image in coco["images"]} for side, coco in (("training", train), ("validation", val))}
    for name, entry in database.items():
        sides = {side for side, names in shown.items() if name in names}
        entry["subset"] = sides.pop() if len(sides) == 1 else "mixed" if sides else "unused"
    summary = describe_split(placed, split, classes, params)
    with replacing_folder(ANNOTATIONS) as folder:
        write_json(folder / "train.json", train)
        write_json(folder / "val.json", val)
        write_json(folder / "class_mapping.json", {"classes": classes, "class_to_id": {c: i for i, c in enumerate(classes)}})
        write_json(folder / "segments.json", {"version": "thermal-action 1", "taxonomy": classes, "database": database})
        write_json(folder / "dataset_info.json", summary)
    counts = ", ".join(f"{side} {summary[side]['images']} images with {summary[side]['boxes']} persons"
                       for side in ("train", "val", "purged"))
    fold = f", fold {params.fold} of {params.folds}" if params.folds else ""
    print(f"coco: {counts} (split by {params.split_by}{fold})")


if __name__ == "__main__":
    run(main, alone=True)
