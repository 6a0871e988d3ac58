"""Annotations and detections as the files of AVA (Gu et al., CVPR 2018), for tools that read only those.

    <side>.csv        video, timestamp, x1, y1, x2, y2, action, person: a row per person and keyframe
    predictions.csv   video, timestamp, x1, y1, x2, y2, action, score: a row per box and action
    actions.pbtxt     the names of the actions

No heading, boxes in [0, 1] of width and height, actions counted from 1. A video is a recording, a timestamp the time of a
keyframe in ms since 1970: AVA writes whole seconds there, of which two keyframes may share one. Who evaluates such files takes
both for a name only. A keyframe without persons has no row. Numbers have as many digits as it takes to read the same ones back.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from thermal_action import InputError, shown
from thermal_action.annotations import Sample
from thermal_action.files import replacing, write_text
from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes

Key = tuple[str, int]  # video, timestamp
Entry = tuple[Key, list[float], int, str]  # key, box, label from 0, what stands in the last column
COLUMNS = 8
LARGEST = 1 << 63
LABEL = re.compile(r'item \{\n  name: "([^"\n]+)"\n  id: (\d{1,9})\n\}\n')


def key_of(sample: Sample) -> Key:
    return sample.recording, sample.timestamp


def index_keys(samples: Sequence[Sample], source: str | Path) -> dict[Key, int]:
    """The number of each sample by its key; InputError where two have the same, `source` is the file they are of."""
    numbers: dict[Key, int] = {}
    for number, sample in enumerate(samples):
        first = samples[numbers.setdefault(key_of(sample), number)]
        if first is not sample:
            raise InputError(f"{source}: {first.image_id} and {sample.image_id} are of one recording and one millisecond, which"
                             " AVA's files cannot tell apart: leave one of them out")
    return numbers


def write_truth(path: str | Path, samples: Sequence[Sample]) -> int:
    """Every person of the samples; returns how many rows."""
    return write_rows(path, ((key_of(sample), box, label, str(person)) for sample in samples
                             for box, label, person in zip(sample.boxes, sample.labels, sample.object_ids, strict=True)))


def write_detections(path: str | Path, rows: LabelledBoxes) -> int:
    """Rows whose `images` are keys, and whose scores are there; returns how many."""
    return write_rows(path, ((image, box, label, repr(float(score))) for image, box, label, score in
                             zip(rows.images, rows.boxes, rows.labels, rows.scores, strict=True)))


def write_rows(path: str | Path, rows: Iterable[tuple[Key, np.ndarray, int, str]]) -> int:
    count = 0
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for (video, timestamp), box, label, last in rows:
            # str, not float: 0.2 in float32 is 0.2, not 0.20000000298
            writer.writerow([video, f"{timestamp:04d}", *map(str, np.asarray(box, np.float32)), int(label) + 1, last])
            count += 1
    return count


def read_truth(path: str | Path, num_classes: int) -> tuple[LabelledBoxes, np.ndarray]:
    """What write_truth wrote: the rows, boxes float32, and who each person is, int64 [n]. InputError names file and line."""
    entries = list(read_rows(path, num_classes))
    return gather(entries), np.array([whole(last, f"{path}, line {line}: person", -LARGEST, LARGEST)
                                      for line, (*_, last) in enumerate(entries, start=1)], dtype=np.int64)


def read_detections(path: str | Path, num_classes: int) -> LabelledBoxes:
    """What write_detections wrote, boxes float32, scores float64. InputError names file and line."""
    entries = list(read_rows(path, num_classes))
    return gather(entries, [number(last, f"{path}, line {line}: score") for line, (*_, last) in enumerate(entries, start=1)])


def gather(entries: list[Entry], scores: list[float] | None = None) -> LabelledBoxes:
    return LabelledBoxes([key for key, *_ in entries], np.array([box for _, box, *_ in entries], np.float32).reshape(-1, 4),
                         np.array([label for *_, label, _ in entries], np.int64),
                         None if scores is None else np.array(scores, np.float64))


def read_rows(path: str | Path, num_classes: int) -> Iterator[Entry]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.reader(file, strict=True), start=1):
                yield read_row(row, num_classes, f"{path}, line {line}")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: `python stages/export_ava.py` writes such files") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV ({error}): write it again") from None


def read_row(row: list[str], num_classes: int, place: str) -> Entry:
    if len(row) != COLUMNS:
        raise InputError(f"{place} has {len(row)} columns: video, timestamp, x1, y1, x2, y2, action and person or score make"
                         f" {COLUMNS}")
    box = [number(text, f"{place}: {name}") for name, text in zip(("x1", "y1", "x2", "y2"), row[2:6], strict=True)]
    if not (0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1):
        raise InputError(f"{place}: the box {box} must rise from x1 to x2 and y1 to y2, within 0 and 1 of width and height")
    return (row[0], whole(row[1], f"{place}: timestamp", 0, LARGEST)), box, whole(row[6], f"{place}: action", 1,
                                                                                 num_classes + 1) - 1, row[7]


def number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place} is {shown(text)}, no number: correct it")
    return value


def whole(text: str, place: str, least: int, end: int) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or not least <= int(text) < end:
        raise InputError(f"{place} is {shown(text)}, no whole number from {least} to {end - 1}: correct it")
    return int(text)


def write_label_map(path: str | Path, classes: Sequence[str]) -> None:
    """InputError for a name that the format, and what reads it, cannot hold."""
    for name in classes:
        if re.search(r'["\\\x00-\x1f]', name):
            raise InputError(f"the class {shown(name)} has a quote, a backslash or a control character, which a .pbtxt label map"
                             " cannot hold: rename it in params.yaml")
    write_text(path, "".join(f'item {{\n  name: "{name}"\n  id: {place}\n}}\n' for place, name in enumerate(classes, start=1)))


def read_label_map(path: str | Path) -> list[str]:
    """The names in order of their ids; InputError unless these count from 1 without holes."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: `python stages/export_ava.py` writes it") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text: write it again") from None
    items = LABEL.findall(text)
    if not items or LABEL.sub("", text).strip():
        raise InputError(f"{path} is no label map of `item {{ name: ... id: ... }}` entries: write it again")
    if [int(place) for _, place in items] != list(range(1, len(items) + 1)):
        raise InputError(f"{path}: ids must count from 1 without holes, found {shown([int(place) for _, place in items])}")
    return [name for name, _ in items]


def read_predictions(path: str | Path, samples: Sequence[Sample], classes: Sequence[str]) -> LabelledBoxes:
    """predictions.csv of the evaluate stage as detections: each annotated box with its probability of every class."""
    keys = {sample.image_id: key_of(sample) for sample in samples}
    named = [f"p({name})" for name in classes]
    images, boxes, probabilities = [], [], []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file, strict=True), start=2):
                missing = [name for name in ("sample", "x1", "y1", "x2", "y2", *named) if row.get(name) is None]
                if missing:
                    raise InputError(f"{path}, line {line} has no {shown(missing[0])}: give the predictions.csv that `dvc repro"
                                     " evaluate` wrote for these annotations")
                if row["sample"] not in keys:
                    raise InputError(f"{path}, line {line}: the sample {shown(row['sample'])} is not in the annotations: export"
                                     " those that were evaluated")
                place = f"{path}, line {line}"
                images.append(keys[row["sample"]])
                boxes.append([number(row[side], f"{place}: {side}") for side in ("x1", "y1", "x2", "y2")])
                probabilities.append([number(row[name], f"{place}: {name}") for name in named])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro evaluate` or `dvc pull`") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV ({error}): run `dvc repro evaluate` again") from None
    return detect_in_boxes(images, np.array(boxes, np.float32).reshape(-1, 4),
                           np.array(probabilities, np.float64).reshape(-1, len(classes)))
