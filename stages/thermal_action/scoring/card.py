"""The card that goes with a model, after Mitchell et al. 2019, Model Cards for Model Reporting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from thermal_action.look import COLOURS
from thermal_action.records import Count, record
from thermal_action.scoring.rows import Row
from thermal_action.scoring.tables import align

# recall under which an action is named as one that the model seldom finds
WEAK = 0.5
# recordings under which the card warns of chance
FEW = 20
TOO_FEW = "The side that it was scored on has few recordings: read the intervals."
SIMULATED = {"simulator": "Its recordings were simulated: the scores compare models and promise nothing about a real room.",
             "lookalike": "Its clips were drawn: the scores compare models and promise nothing about real ones."}
TEMPLATE = """# Model card

Written by `stages/evaluate.py` beside `best.pt`.

{facts}

## Scores

{table}

Top-1: {top1}. Over the best of the {baselines} baselines that never look at a person: {margins}.{few}

Actions of which it names less than half: {weak}. Of these nobody was there to be scored: {unseen}.

## Intended use

{purpose}{simulated}

{limits}

## Use

{use} The file loads with `weights_only=True`.
"""
# purpose, limits and use of a model of thermal recordings,
THERMAL = ("""\
To study and compare how actions are recognised in recordings of a ceiling-mounted thermal sensor like the one that it was trained
on.""", """\
It is not a medical device, and nobody's safety may depend on it: it misses falls, and what it calls a fall may be none. Another
sensor, mounting, room or group of people needs scores of its own first.""", """\
    python stages/predict.py models/best.pt RECORDING --out predictions

or `ThermalActionRecognizer("models/best.pt")` in a program.""")
# and of one of videos
VIDEO = ("To study and compare how actions are recognised in clips of videos like those that it was trained on.",
         "Nobody's safety may depend on it. Another camera, view, workplace or group of people needs scores of its own first.",
         "`dvc repro` names the clips of `fetch.videos.test` in `metrics/test_predictions.csv`.")
COUNTS = {2: "two", 4: "four"}


def read_versions(lock: Path, folders: Sequence[str]) -> dict[str, str]:
    """The hash of each folder in a dvc.lock; nothing where no stage there has written it yet, or DVC is not used."""
    stages = YAML(typ="safe").load(lock)["stages"] if lock.exists() else {}
    hashes = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return {folder: hashes[folder] for folder in folders if folder in hashes}


@record
class Side:
    images: Count
    boxes: Count
    recordings: list[str]


@record
class Dataset:
    """What data/annotations/dataset_info.json says of the split."""

    split_by: str
    seed: Count
    folds: Count
    fold: Count
    train: Side
    val: Side


@dataclass(frozen=True)
class Trained:
    """What a card says of a model: where its recordings come from, how they were split, what was trained and how it scored."""

    source: str  # fetch.source
    versions: Mapping[str, str]  # folder: its hash in dvc.lock
    dataset: Dataset
    info: Mapping[str, Any]  # beside the weights
    parameters: int

    @property
    def split(self) -> str:
        fold = f", fold {self.dataset.fold} of {self.dataset.folds}" if self.dataset.folds else ""
        return f"by {self.dataset.split_by}{fold}, seed {self.dataset.seed}"


def format_card(trained: Trained, metrics: Mapping[str, Any], table: str, recalls: Sequence[Row], level: float) -> str:
    """Markdown. metrics: as evaluate.json holds them, table: their Markdown, recalls: rows of `tables.list_recalls`."""
    info, model = trained.info, metrics["model"]
    window, training = info["window"], info["training"]
    video = not {*COLOURS}.isdisjoint(info["model"].get("channels", ()))
    unit = "colour" if video else "C"
    looks = (f"{window['length']} frames of {info['frame_size'][0]}x{info['frame_size'][1]} pixels in {unit}, "
             f"{window['sampling'].replace('_', ' ')}, keyframe at {window['keyframe']:g} of the window")
    whom = "clip" if info["model"].get("head") == "clip" else "person"
    found = ", and where persons are" if "finding" in metrics else ""
    rows = [["", ""], ["---", "---"],
            ["network", f"{info['model']['name']}, head {info['model'].get('head', 'roi')}, {trained.parameters:,} parameters"],
            ["sees", looks],
            ["says", f"one of {len(info['classes'])} actions of every {whom}{found}"],
            ["recordings", f"source {trained.source}"],
            *([f"version of {folder}", version] for folder, version in trained.versions.items()),
            ["split", trained.split],
            ["trained on", describe_side(trained.dataset.train)],
            ["scored on", describe_side(trained.dataset.val)],
            ["training", f"{training.get('epochs', '-')} epochs, seed {training.get('seed', '-')}, weights from "
                         f"{training.get('init', {}).get('source', '-')}"]]
    margins = [f"{heading} {100 * metrics['margin'][score]:+.1f} points{interval(metrics['margin'], score, level)}"
               for score, heading in (("top1", "top-1"), ("mean_class", "mean-class accuracy"))]
    weak = [f"{row['class']} ({100 * row['recall']:.0f} % of {row['support']})" for row in recalls if row["recall"] < WEAK]
    unseen = [name for name in info["classes"] if name not in {row["class"] for row in recalls}]
    purpose, limits, use = VIDEO if video else THERMAL
    return TEMPLATE.format(
        purpose=purpose, limits=limits, use=use, baselines=COUNTS[len(metrics["baselines"])],
        facts="\n".join(align(rows)), table=table.strip(), top1=f"{100 * model['top1']:.1f} %{interval(model, 'top1', level)}",
        margins="; ".join(margins), few=f" {TOO_FEW}" if metrics["data"]["recordings"] < FEW else "",
        weak=", ".join(weak) or "none", unseen=", ".join(unseen) or "none",
        simulated=f" {SIMULATED[trained.source]}" if trained.source in SIMULATED else "")


def describe_side(side: Side) -> str:
    return f"{side.boxes} persons in {side.images} windows of {len(side.recordings)} recordings"


def interval(scores: Mapping[str, float], score: str, level: float) -> str:
    low, high = scores.get(f"{score}_low"), scores.get(f"{score}_high")
    return "" if low is None else f" ({100 * level:g} % interval over recordings {100 * low:.1f} to {100 * high:.1f})"
