"""Keyframe files: what annotators drew. JSON Lines, one keyframe a line, sometimes concatenated without newlines."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thermal_action import InputError, shown
from thermal_action.files import replacing

CATEGORIES = ("person", "furniture", "object", "building", "environment", "appliance")
OBSCURED = ("0%", "25%", "50%", "75%")
MAC_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
RECORDING_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
OPTIONAL = ("subject", "file_name")
# annotation tools let a box stick out by a fraction of a pixel: that much is cut off, more is refused
OVERSHOOT = 0.01
# of the sides of a box; a smaller one is empty in float32, in which boxes are computed
SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Annotation:
    """One box: `bbox` is (cx, cy, w, h) in [0, 1] of width and height; only `person` carries an action."""

    bbox: tuple[float, float, float, float]
    category: str
    subcategory: str
    attribute_obscured: str | None
    attribute_heat_residual: str | None
    object_id: int


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The boxes of one frame; times in ms since 1970 (UTC), mac_address in lower case.

    subject: who is recorded, where that is known; file_name: of the video that the recording was. Both are left out where None.
    """

    data_id: str
    mac_address: str
    annotator_id: str
    annotation_time: int
    data_time: int
    annotations: tuple[Annotation, ...]
    subject: str | None = None
    file_name: str | None = None

    @property
    def persons(self) -> list[Annotation]:
        return [annotation for annotation in self.annotations if annotation.category == "person"]


def read_keyframes(path: str | Path, classes: Sequence[str]) -> list[Keyframe]:
    """Keyframes of one recording in order of time.

    Raises InputError, naming file and record, for a file that is empty or cut, a missing or mistyped field, a person whose
    subcategory is not in `classes`, a box outside the frame, two keyframes of one time, or records of two recordings.
    """
    path = Path(path)
    keyframes: list[Keyframe] = []
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give the folder that holds the keyframe files") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): export the keyframe file again") from None
    for number, record in enumerate(split_records(text, path), start=1):
        keyframes.append(parse_keyframe(record, classes, f"{path}, record {number}"))
    if not keyframes:
        raise InputError(f"{path} holds no keyframe: annotate the recording or remove the file")
    check_one_recording(keyframes, path)
    return sorted(keyframes, key=lambda keyframe: keyframe.data_time)


def split_records(text: str, path: Path) -> Iterator[object]:
    decoder, position, number = json.JSONDecoder(), 0, 1
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        if position == len(text):
            return
        try:
            record, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, record {number}: cut off or not JSON at character {error.pos} ({error.msg}): "
                             "export the keyframe file again") from None
        except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
            raise InputError(f"{path}, record {number}: no keyframe, though JSON, behind character {position}: "
                             "export the keyframe file again") from None
        yield record
        number += 1


def parse_keyframe(record: object, classes: Sequence[str], place: str) -> Keyframe:
    if not isinstance(record, dict):
        raise InputError(f"{place}: a {type(record).__name__} where an object with data_id and annotations is expected")
    data_id = take(record, "data_id", str, place)
    if not RECORDING_ID.fullmatch(data_id):
        raise InputError(f"{place}: data_id {shown(data_id)} is no recording name: use letters, digits, '_', '-' and '.'")
    mac_address = take(record, "mac_address", str, place)
    if not MAC_ADDRESS.fullmatch(mac_address):
        raise InputError(f"{place}: mac_address {shown(mac_address)} is not six hex pairs joined by ':'")
    annotator_id = record.get("annotator_id", "")
    if isinstance(annotator_id, (list, dict)):
        raise InputError(f"{place}: annotator_id is {shown(annotator_id)}, expected text or a number")
    annotations = take(record, "annotations", list, place)
    return Keyframe(
        data_id=data_id,
        mac_address=mac_address.lower(),  # one device must not look like two: the split would let it stand on both sides
        annotator_id=str(annotator_id),
        annotation_time=take(record, "annotation_time", int, place) if "annotation_time" in record else 0,
        data_time=take_time(record, place),
        annotations=tuple(parse_annotation(annotation, classes, f"{place}, annotation {index}")
                          for index, annotation in enumerate(annotations, start=1)),
        **{key: take(record, key, str, place) for key in OPTIONAL if record.get(key) is not None},
    )


def take(record: dict, key: str, kind: type, place: str):
    """The field `key`, which must be there and of type `kind` (true is no number), and fit into the files of later stages."""
    if key not in record:
        raise InputError(f"{place}: the field {key} is missing")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{place}: {key} is {shown(value)}, expected {kind.__name__}")
    if kind is int and not -1 << 63 <= value < 1 << 63:
        raise InputError(f"{place}: {key} is {shown(value)}, more than 64 bits hold")
    if kind is str and any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{place}: {key} is {shown(value)}, which holds half a character: export the keyframe file again")
    return sys.intern(value) if kind is str else value  # thousands of keyframes say the same few words


def take_choice(record: dict, key: str, choices: tuple[str, ...], place: str) -> str | None:
    """The field `key`, if it is there."""
    value = record.get(key)
    if value is None:
        return None
    if value not in choices:
        raise InputError(f"{place}: {key} is {shown(value)}, expected {', '.join(choices)} or null")
    return choices[choices.index(value)]


def take_time(record: dict, place: str) -> int:
    time = take(record, "data_time", int, place)
    if not 0 < time < 1 << 53:
        raise InputError(f"{place}: data_time {time} is no time in ms since 1970")
    return time


def parse_annotation(record: object, classes: Sequence[str], place: str) -> Annotation:
    if not isinstance(record, dict):
        raise InputError(f"{place}: a {type(record).__name__} where an object with bbox and category is expected")
    category = take(record, "category", str, place)
    if category not in CATEGORIES:
        raise InputError(f"{place}: category {shown(category)} is none of {', '.join(CATEGORIES)}")
    subcategory = take(record, "subcategory", str, place)
    if category == "person" and subcategory not in classes:
        raise InputError(f"{place}: subcategory {shown(subcategory)} is no action of `classes` in params.yaml: "
                         "correct the record or add the class")
    return Annotation(parse_box(take(record, "bbox", list, place), place), category, subcategory,
                      take_choice(record, "attribute_obscured", OBSCURED, place),
                      take_choice(record, "attribute_heat_residual", ("yes", "no"), place),
                      take(record, "object_id", int, place))


def parse_box(bbox: list, place: str) -> tuple[float, float, float, float]:
    numbers = [value for value in bbox if isinstance(value, (int, float)) and not isinstance(value, bool)]
    # compared as they are, since an integer may be too large for a float; NaN compares false
    if len(bbox) != 4 or len(numbers) != 4 or not all(-1e9 < value < 1e9 for value in numbers):
        raise InputError(f"{place}: bbox {shown(bbox)} is not four finite numbers [cx, cy, w, h]")
    cx, cy, w, h = map(float, bbox)
    if min(cx - w / 2, cy - h / 2) < -OVERSHOOT or max(cx + w / 2, cy + h / 2) > 1 + OVERSHOOT:
        raise InputError(f"{place}: bbox {bbox} leaves the frame: [cx, cy, w, h] must lie in [0, 1]")
    if any(min(middle + side / 2, 1) - max(middle - side / 2, 0) < SMALLEST for middle, side in ((cx, w), (cy, h))):
        raise InputError(f"{place}: bbox {bbox} is empty: width and height in the frame must be above 0")
    return cx, cy, w, h


def check_one_recording(keyframes: list[Keyframe], path: Path) -> None:
    first, seen = keyframes[0], {}
    for number, keyframe in enumerate(keyframes, start=1):
        if (keyframe.data_id, keyframe.mac_address) != (first.data_id, first.mac_address):
            raise InputError(f"{path}, record {number}: {keyframe.data_id} of {keyframe.mac_address}, but record 1 is "
                             f"{first.data_id} of {first.mac_address}: one file holds one recording")
        if keyframe.data_time in seen:
            raise InputError(f"{path}, record {number}: data_time {keyframe.data_time} was already annotated in record "
                             f"{seen[keyframe.data_time]}: keep one of the two")
        seen[keyframe.data_time] = number


def write_keyframes(path: str | Path, keyframes: Sequence[Keyframe]) -> None:
    """JSON Lines in the order given, fields in the order of the dataclasses."""
    with replacing(path) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            for keyframe in keyframes:
                record = {key: value for key, value in asdict(keyframe).items() if key not in OPTIONAL or value is not None}
                file.write(json.dumps(record, allow_nan=False) + "\n")


def read_keyframe_files(folder: str | Path, classes: Sequence[str], suffix: str = "*.json*") -> dict[Path, list[Keyframe]]:
    """Path -> keyframes of every keyframe file of a folder; InputError when it has none or two of one recording."""
    folder = Path(folder)
    files: dict[Path, list[Keyframe]] = {}
    origin: dict[str, Path] = {}
    for path in sorted(folder.glob(suffix)):
        files[path] = read_keyframes(path, classes)
        recording = files[path][0].data_id
        if recording in origin:
            raise InputError(f"{path} and {origin[recording]} both annotate {recording}: merge them into one file")
        origin[recording] = path
    if not files:
        raise InputError(f"{folder} holds no keyframe file ({suffix}): give the folder that holds them")
    return files


def read_keyframe_folder(folder: str | Path, classes: Sequence[str], suffix: str = "*.json*") -> dict[str, list[Keyframe]]:
    """Recording id -> keyframes; InputError as read_keyframe_files."""
    return {keyframes[0].data_id: keyframes for keyframes in read_keyframe_files(folder, classes, suffix).values()}
