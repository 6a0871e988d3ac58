"""Features and segments below a data folder: where they lie, and whether they fit each other.

<data_path>/annotations/<name>.json   (ours: <data_path>/segments.json)
                                      {"database": {recording: {"subset", "fps", "duration" s, "annotations": [{"segment":
                                      [start, end] s, "label", "label_id"}]}}}, as ActivityNet's; ours names all labels too, in
                                      order of their ids: "taxonomy": [{"nodeName"}, ...]
<data_path>/<features>/<prefix><recording>.npy   float32 [T, C], a row a step (.npz: the array `feats`)
<data_path>/<features>/manifest.json  ours only, of the features stage: {"stride": frames from a step to the next, "num_frames":
                                      frames a step sees, "fps", "columns", "model", ...}
"""

import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from thermal_action import InputError, shown
from thermal_action.files import read_json
from thermal_action.localization.templates import Template
from thermal_action.params import ActionNames, Field, check_section
from thermal_action.records import Count, read_record, record

SLACK = 0.1  # share of a recording by which its features may end before or after it


@record
class Action:
    label: str | int
    label_id: Count
    segment: list[float | str] = ()  # s; some published files hold numbers as text


@record
class Recording:
    subset: str
    fps: Annotated[float, Field(gt=0)] | None = None
    duration: Annotated[float, Field(gt=0)] | None = None  # s
    annotations: list[Action] | None = None


@record
class Geometry:
    stride: Annotated[int, Field(ge=1)]
    num_frames: Annotated[int, Field(ge=1)]


@record
class Columns:
    name: str
    count: Count


@record
class Describer:
    """Who made features, and how it finds persons."""

    sha256: str  # of the checkpoint
    weights: Literal["trained", "random"]
    seed: Annotated[int, Field(ge=0)]  # of random ones
    score: Annotated[float, Field(gt=0, lt=1)]  # the least


@record
class Manifest(Geometry):
    """What it takes to make the same features of other recordings."""

    fps: Annotated[float, Field(gt=0)]
    columns: list[Columns]
    model: Describer

    @property
    def step_s(self) -> float:
        return self.stride / self.fps

    def find(self, name: str) -> slice:
        """The columns of that name."""
        first = 0
        for columns in self.columns:
            if columns.name == name:
                return slice(first, first + columns.count)
            first += columns.count
        raise InputError(f"data/features/manifest.json has no columns {name!r}: run `dvc repro features`")


@dataclass(frozen=True)
class Data:
    """What a data folder holds, checked: the settings that follow from it, and the name of every label id."""

    settings: dict  # for config["dataset"]
    names: dict[int, str]
    external_scores: str | None


def find_places(folder: Path, template: Template) -> tuple[Path, list[Path]]:
    """The annotation file and the folders of features below a data folder; InputError where one is not named as published, nor
    the only one.
    """
    annotations = folder / template.annotations
    return (choose(annotations.parent, annotations.name, "*.json", "annotation file", template.external_scores),
            [choose(folder, name, "*/", "folder of features", "annotations") if len(template.features) == 1 else folder / name
             for name in template.features])


def open_data(path: Path, folders: Sequence[Path], template: Template, *, training: bool) -> Data:
    """Checks the recordings of the validation split and, for `training`, of the training split. Features of several folders stand
    side by side.

    InputError where the package would leave recordings out silently, count them as missed, or fail in the model.
    """
    settings = template.changes["dataset"]
    if template.own:
        geometry = read_record(folders[0] / "manifest.json", Geometry, "features")
        settings = settings | {"feat_stride": geometry.stride, "num_frames": geometry.num_frames}
    document = read_json(path)
    if not isinstance(document, dict) or "database" not in document:
        raise InputError(f"{path} has no `database`: it must be an annotation file in ActivityNet's layout")
    database = check_section(document["database"], dict[str, Recording], f"{path}: database")
    names = read_own_labels(path, document) if template.own else read_labels(path, database)
    used = {}
    for learned in (False, True)[:1 + training]:
        for split in template.changes["train_split" if learned else "val_split"]:
            used |= select_split(path, database, split, template, learned=learned)
    prefix, ending = settings.get("file_prefix", ""), settings.get("file_ext", ".npy")
    shapes, *others = (read_shapes({name: folder / f"{prefix}{name}{ending}" for name in used}, path) for folder in folders)
    for other, folder in zip(others, folders[1:], strict=True):
        for name, (steps, _) in other.items():
            if steps != shapes[name][0]:
                raise InputError(f"{folder} has {steps} steps of {name}, {folders[0]} {shapes[name][0]}: make both of the same"
                                 " windows")
    widths = [next(iter(each.values()))[1] for each in (shapes, *others)]
    if template.own:
        for name, recording in used.items():
            check_segments(f"{path}: {name}", recording, names)
            check_length(f"{path}: {name}", recording, shapes[name][0], settings["feat_stride"], settings["num_frames"])
    if training and template.changes["dataset_name"] == "anet":
        for name, recording in used.items():
            check_reach(f"{path}: {name}", recording, shapes[name][0], settings)
    scores = path.with_name(template.external_scores) if template.external_scores else None
    proposals = scores is not None and scores.exists()
    return Data({"json_file": str(path), "feat_folder": str(folders[0]) if len(folders) == 1 else list(map(str, folders)),
                 "input_dim": widths if isinstance(settings.get("input_dim"), list) else sum(widths),
                 "num_classes": 1 if proposals else count_classes(path, names, template),
                 "feat_stride": settings["feat_stride"], "num_frames": settings["num_frames"]},
                names, str(scores) if proposals else None)


def choose(folder: Path, published: str, pattern: str, kind: str, other: str | None) -> Path:
    """The entry of a folder that is named as published, or the only one of its kind; `other` is of another kind."""
    found = sorted(path for path in folder.glob(pattern) if path.name != other) if folder.is_dir() else []
    named = [path for path in found if path.name == published] or found
    if len(named) != 1:
        listed = f"{len(found)} of them ({', '.join(path.name for path in found[:3])})" if found else "none"
        raise InputError(f"{folder / published} does not exist, and {folder} holds {listed} to take in its place: put the {kind}"
                         " there; --data_path names a folder with annotations/<name>.json and a folder of features beside it")
    return named[0]


def read_own_labels(path: Path, document: dict) -> dict[int, str]:
    nodes = document.get("taxonomy")
    labels = [node.get("nodeName") if isinstance(node, dict) else node for node in nodes] if isinstance(nodes, list) else nodes
    return dict(enumerate(check_section(labels, ActionNames, f"{path}: taxonomy")))


def read_labels(path: Path, database: dict[str, Recording]) -> dict[int, str]:
    """The name of each label id of a published file, which has no list of them, from its annotations."""
    names, ids = {}, {}
    for recording, action in ((name, each) for name, one in database.items() for each in one.annotations or ()):
        known, number = names.setdefault(action.label_id, action.label), ids.setdefault(action.label, action.label_id)
        if (known, number) != (action.label, action.label_id):
            raise InputError(f"{path}: {recording} has {shown(action.label)} with the label_id {action.label_id}, elsewhere it is"
                             f" {number}, or that id {shown(known)}: give every label one id of its own")
    return {number: str(names[number]) for number in sorted(names)}


def count_classes(path: Path, names: dict[int, str], template: Template) -> int:
    """How many classes the model tells apart. EPIC-KITCHENS has classes that nobody shows, and its dataset class knows that."""
    sparse = template.changes["dataset_name"] == "epic"
    count = template.changes["dataset"]["num_classes"] if sparse else len(names)
    if max(names, default=-1) >= count:
        raise InputError(f"{path}: {shown(names[max(names)])} has the label_id {max(names)}, but there are {count} labels: number"
                         f" them from 0 to {count - 1} without holes")
    return count


def select_split(path: Path, database: dict[str, Recording], split: str, template: Template, *, learned: bool,
                 ) -> dict[str, Recording]:
    """The recordings of a split, which have all that the dataset classes need."""
    subsets = sorted({recording.subset for recording in database.values()})
    chosen = {name: recording for name, recording in database.items() if recording.subset.lower() == split}
    if not chosen:
        raise InputError(f"{path}: no recording has the subset {split!r}, only {shown(subsets)}: correct `subset`")
    name_of_set, fixed_fps = template.changes["dataset_name"], template.changes["dataset"].get("default_fps")
    for name, recording in (chosen if name_of_set == "ego4d" else database).items():  # the other classes read all of the file
        if recording.annotations is None:
            raise InputError(f"{path}: {name} has no `annotations`: add them, [] where nothing happens")
    for name, recording in chosen.items():
        if recording.fps is None and fixed_fps is None:
            raise InputError(f"{path}: {name} has no `fps`, frames a second: add it")
        if recording.duration is None and name_of_set in ("anet", "thermal"):
            raise InputError(f"{path}: {name} has no `duration` in seconds: add it")
        if learned and not recording.annotations and not template.own:
            raise InputError(f"{path}: {name} has no action, and the package cannot learn from that: give it another `subset`, or"
                             " use the template thermal")
    return chosen


def read_shapes(files: dict[str, Path], annotations: Path) -> dict[str, tuple[int, int]]:
    """(T, C) of the features of each recording."""
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        raise InputError(f"{files[missing[0]]} does not exist: {len(missing)} of the {len(files)} recordings of {annotations}"
                         " have no features; make them, or take the recordings out of the file")
    shapes = {name: read_features(file).shape for name, file in files.items()}
    usual = Counter(width for _, width in shapes.values()).most_common(1)[0][0]
    for name, (steps, width) in shapes.items():
        if width != usual:
            turned = usual == steps or len({first for first, _ in shapes.values()}) == 1
            raise InputError(f"{files[name]} has {width} columns, others {usual}: every file holds [T, C], a row a step and the"
                             " same columns" + "; this one seems to be [C, T], transpose it" * turned)
    return shapes


def read_features(path: Path) -> np.ndarray:
    """Float [T, C], of .npy files mapped into memory. InputError for a file that holds no such array."""
    try:
        loaded = np.load(path, mmap_mode="r")
        features = loaded["feats"] if path.suffix == ".npz" else loaded
    except (ValueError, OSError, EOFError, LookupError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no features ({' '.join(str(error).split())[:100]}): make it again") from None
    if features.ndim != 2 or not features.size or features.dtype.kind != "f":
        raise InputError(f"{path} holds {features.dtype} {list(features.shape)}: features are float32 [T, C], a row a step")
    return features


def measure_columns(paths: Iterable[Path]) -> dict[str, list[float]]:
    """Mean and standard deviation of each column of features, those that never change with 1: {"mean": [C], "std": [C]}."""
    count, total, squares = 0, 0.0, 0.0
    for path in paths:
        features = read_features(path).astype(np.float64)
        count, total, squares = count + len(features), total + features.sum(axis=0), squares + np.square(features).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return {"mean": mean.tolist(), "std": np.where(std > 1e-6, std, 1.0).tolist()}


def check_segments(place: str, recording: Recording, names: dict[int, str]) -> None:
    for number, action in enumerate(recording.annotations):
        if names.get(action.label_id) != action.label:
            raise InputError(f"{place}: annotation {number} has the label {shown(action.label)} and label_id {action.label_id}:"
                             f" the file's own list calls that id {shown(names.get(action.label_id))}; correct one of them")
        start, end = check_section(action.segment, tuple[float, float], f"{place}: segment {number}")
        if not 0 <= start < end <= recording.duration:
            raise InputError(f"{place}: annotation {number} lasts from {start} to {end} s: it must begin before it ends and lie"
                             f" within the {recording.duration} s of the recording")


def check_length(place: str, recording: Recording, steps: int, stride: int, frames: int) -> None:
    """A wrong rate or stride would shift every segment."""
    covered = ((steps - 1) * stride + frames) / recording.fps
    if abs(covered - recording.duration) > SLACK * recording.duration + 2 * stride / recording.fps:
        raise InputError(f"{place} lasts {recording.duration:g} s, but its {steps} features of every {stride} frames at"
                         f" {recording.fps:g} a second last {covered:.1f} s: correct `fps`, `duration` or manifest.json")


def check_reach(place: str, recording: Recording, steps: int, settings: dict) -> None:
    """ActivityNet's dataset class takes no action of which less than half lies within the features, and fails without any."""
    covered = ((steps - 1) * settings["feat_stride"] + settings["num_frames"]) / settings["default_fps"]
    segments = [(float(start), float(end)) for start, end in (action.segment for action in recording.annotations)]
    if segments and not any(min(end, covered) - start >= 0.5 * (end - start) for start, end in segments):
        raise InputError(f"{place}: its features end after {covered:.1f} s, before the middle of every action: make them again,"
                         " or take the recording out of the file")
