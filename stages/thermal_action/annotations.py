"""COCO-style annotations: one image per keyframe, one annotation per person, furniture and objects as context.

    images       id `<recording>_<ms>`, sensor_id, mac_address, timestamp, width (columns), height (rows), frame_idx
    annotations  id, image_id, bbox (normalised cx, cy, w, h), category_id, category_name, object_id
    context      image_id, bbox, category, subcategory, object_id: what is no person (a bed tells "on the bed" from "at risk")
    info         the window every sample is (windows.Windowing)
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermal_action import InputError
from thermal_action.files import read_json
from thermal_action.params import check_section
from thermal_action.windows import Windowing

# furniture that one lies on, by its subcategory: it tells lying on the bed/couch from lying with risk
BEDS = ("bed", "couch", "sofa")


@dataclass(frozen=True)
class Sample:
    """A keyframe and the persons in it. Boxes are x1, y1, x2, y2 in [0, 1] of width and height."""

    image_id: str
    recording: str
    mac_address: str
    timestamp: int
    frame_idx: int
    width: int
    height: int
    boxes: np.ndarray  # float32 (persons, 4)
    labels: np.ndarray  # int64 (persons,)
    object_ids: np.ndarray  # int64 (persons,)
    obscured: list[str | None] = field(default_factory=list)
    context: list[tuple[str, str, np.ndarray]] = field(default_factory=list)  # (category, subcategory, box)


def image_id(recording: str, timestamp: int) -> str:
    return f"{recording}_{timestamp}"


def corners(bbox: Sequence[float]) -> np.ndarray:
    """(cx, cy, w, h) -> float32 (x1, y1, x2, y2), cut at the frame's edges."""
    cx, cy, w, h = bbox
    return np.clip(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dtype=np.float32), 0, 1)


def read_annotations(path: str | Path) -> tuple[list[Sample], list[str]]:
    """Samples in the file's order and the class names in order of their ids; InputError for a file that contradicts itself."""
    path = Path(path)
    coco = read_json(path)
    missing = {"images", "annotations", "categories"} - coco.keys()
    if missing:
        raise InputError(f"{path} has no `{sorted(missing)[0]}`: it was not written by the coco stage")
    categories = sorted(coco["categories"], key=lambda category: category["id"])
    if [category["id"] for category in categories] != list(range(len(categories))):
        raise InputError(f"{path}: category ids must count from 0 without holes, found {[c['id'] for c in categories]}")
    persons, context = defaultdict(list), defaultdict(list)
    images = {image["id"]: image for image in coco["images"]}
    if len(images) != len(coco["images"]):
        raise InputError(f"{path} has an image id twice: image ids must be unique")
    for annotation in coco["annotations"]:
        if annotation["image_id"] not in images:
            raise InputError(f"{path}: annotation {annotation['id']} belongs to no image ({annotation['image_id']})")
        if not 0 <= annotation["category_id"] < len(categories):
            raise InputError(f"{path}: annotation {annotation['id']} has category_id {annotation['category_id']}, expected 0 to "
                             f"{len(categories) - 1}")
        persons[annotation["image_id"]].append(annotation)
    for entry in coco.get("context", []):
        context[entry["image_id"]].append((entry["category"], entry["subcategory"], corners(entry["bbox"])))
    samples = [to_sample(image, persons[image["id"]], context[image["id"]]) for image in coco["images"]]
    return samples, [category["name"] for category in categories]


def read_windowing(path: str | Path) -> Windowing:
    """The windows that an annotation file was made for."""
    window = read_json(path).get("info", {}).get("window")
    if window is None:
        raise InputError(f"{path} does not say what its windows are (info.window): run `dvc repro coco`")
    return check_section(window, Windowing, f"{path}: info.window")


def to_sample(image: dict, persons: list[dict], context: list) -> Sample:
    return Sample(
        image_id=image["id"], recording=image["sensor_id"], mac_address=image["mac_address"], timestamp=image["timestamp"],
        frame_idx=image["frame_idx"], width=image["width"], height=image["height"],
        boxes=np.array([corners(person["bbox"]) for person in persons], dtype=np.float32).reshape(-1, 4),
        labels=np.array([person["category_id"] for person in persons], dtype=np.int64),
        object_ids=np.array([person["object_id"] for person in persons], dtype=np.int64),
        obscured=[person.get("attribute_obscured") for person in persons],
        context=context,
    )


def clip_label(labels: Sequence[int]) -> int:
    """The most frequent label of a frame, ties to the lowest id (the rule of the published clip scores)."""
    counts = Counter(int(label) for label in labels)
    return min(counts, key=lambda label: (-counts[label], label))
