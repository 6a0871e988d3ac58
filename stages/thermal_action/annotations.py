"""COCO-style annotations: one image per keyframe, one annotation per person, furniture and objects as context.

    images       id `<recording>_<ms>`, sensor_id, mac_address, timestamp, width (columns), height (rows), frame_idx; subject,
                 who is recorded, and file_name, of the video that it was, where they are known
    annotations  id, image_id, bbox (normalised cx, cy, w, h), category_id, category_name, object_id
    context      image_id, bbox, category, subcategory, object_id: what is no person (a bed tells "on the bed" from "at risk")
    info         the window every sample is (windows.Windowing)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from thermal_action import InputError, shown
from thermal_action.params import Field
from thermal_action.records import Count, Name, read_record, record
from thermal_action.windows import Windowing

# furniture that one lies on, by its subcategory: it tells lying on the bed/couch from lying with risk
BEDS = ("bed", "couch", "sofa")


Coordinate = Annotated[float, Field(ge=-1e9, le=1e9)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


@record
class Info:
    window: Windowing
    split_by: str


@record
class Described:
    info: Info


@record
class Image:
    id: Name
    sensor_id: Name
    mac_address: str
    timestamp: Count
    width: Annotated[int, Field(gt=0, lt=1 << 16)]
    height: Annotated[int, Field(gt=0, lt=1 << 16)]
    frame_idx: Count
    subject: str | None = None
    file_name: str | None = None


@record
class Person:
    id: int
    image_id: str
    bbox: Box
    category_id: int
    object_id: Annotated[int, Field(ge=-1 << 63, lt=1 << 63)]
    attribute_obscured: Literal["0%", "25%", "50%", "75%"] | None = None


@record
class Context:
    image_id: str
    bbox: Box
    category: str
    subcategory: str


@record
class Category:
    id: int
    name: Annotated[str, Field(min_length=1)]


@record
class Annotations:
    images: list[Image]
    annotations: list[Person]
    context: list[Context] = field(default_factory=list)
    categories: list[Category]


@dataclass(frozen=True, slots=True)
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
    subject: str | None = None
    file_name: str | None = None


def image_id(recording: str, timestamp: int) -> str:
    return f"{recording}_{timestamp}"


def corners(bbox: Sequence[float]) -> np.ndarray:
    """(cx, cy, w, h) -> float32 (x1, y1, x2, y2), cut at the frame's edges."""
    cx, cy, w, h = bbox
    return np.clip(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dtype=np.float32), 0, 1)


def read_info(path: str | Path) -> Info:
    """The windows that an annotation file was made for, and how it was split."""
    return read_record(path, Described, "coco").info


def read_annotations(path: str | Path, least: int = 1) -> tuple[list[Sample], list[str]]:
    """Samples in the file's order and the class names in order of their ids. InputError for a file that contradicts itself, or
    has less than `least` samples.
    """
    coco = read_record(path, Annotations, "coco")
    if len(coco.images) < least:
        raise InputError(f"{path} has no image, expected at least {least}; run `dvc repro coco` or `dvc pull`")
    categories = sorted(coco.categories, key=lambda category: category.id)
    if [category.id for category in categories] != list(range(len(categories))):
        raise InputError(f"{path}: category ids must count from 0 without holes, found {shown([c.id for c in categories])}")
    persons = {image.id: [] for image in coco.images}
    context = {image.id: [] for image in coco.images}
    if len(persons) != len(coco.images):
        raise InputError(f"{path} has an image id twice: image ids must be unique")
    for kind, entries, own in (("annotation", coco.annotations, persons), ("context", coco.context, context)):
        for number, entry in enumerate(entries):
            if entry.image_id not in own:
                raise InputError(f"{path}: {kind} {number} belongs to no image ({shown(entry.image_id)})")
            own[entry.image_id].append(entry)
    for person in coco.annotations:
        if not 0 <= person.category_id < len(categories):
            raise InputError(f"{path}: annotation {person.id} has category_id {person.category_id}, expected 0 to "
                             f"{len(categories) - 1}")
    samples = [to_sample(image, persons[image.id], context[image.id]) for image in coco.images]
    return samples, [category.name for category in categories]


def to_sample(image: Image, persons: list[Person], context: list[Context]) -> Sample:
    return Sample(
        image_id=image.id, recording=image.sensor_id, mac_address=image.mac_address, timestamp=image.timestamp,
        frame_idx=image.frame_idx, width=image.width, height=image.height,
        boxes=np.array([corners(person.bbox) for person in persons], dtype=np.float32).reshape(-1, 4),
        labels=np.array([person.category_id for person in persons], dtype=np.int64),
        object_ids=np.array([person.object_id for person in persons], dtype=np.int64),
        obscured=[person.attribute_obscured for person in persons],
        context=[(thing.category, thing.subcategory, corners(thing.bbox)) for thing in context],
        subject=image.subject, file_name=image.file_name,
    )


def clip_label(labels: Sequence[int]) -> int:
    """The most frequent label of a frame, ties to the lowest id (the rule of the published clip scores)."""
    counts = Counter(int(label) for label in labels)
    return min(counts, key=lambda label: (-counts[label], label))
