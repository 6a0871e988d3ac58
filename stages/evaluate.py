"""Scores what the model says of each person, beside baselines that never look at a person and a random forest that does, and
how it finds them, beside a classical way; names the clips that are there for testing alone.

in   models/best.pt, data/frames, data/annotations/{train,val}.json, and test.json where the source has such recordings
out  metrics/evaluate.json      scores of the model, the baselines and the forest, and the model's margin over them
     metrics/summary.json       the few of them that `dvc exp show` and `dvc metrics diff` show
     metrics/results.md         the table of README
     models/model_card.md       what the model is, was trained on, can and cannot
     metrics/predictions.csv    what each of them says of every person of the validation side
     metrics/test_predictions.csv  what the model, one of whole clips, says of those for testing alone
     metrics/plots/*.csv        tables behind the plots of dvc.yaml; all scores of everybody in scores.csv
     metrics/pictures/*.png     the same as pictures
run  python stages/evaluate.py
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from thermal_action import InputError
from thermal_action.annotations import read_annotations
from thermal_action.dataset import ThermalActionDataset
from thermal_action.files import write_json, write_text
from thermal_action.params import Field, read_params, section
from thermal_action.records import read_record
from thermal_action.runtime import Runtime
from thermal_action.scoring import tables
from thermal_action.scoring.answers import Respondent
from thermal_action.scoring.baselines import find_persons
from thermal_action.scoring.card import Dataset, Trained, format_card, read_versions
from thermal_action.scoring.finding import summarise_finding
from thermal_action.scoring.plots import write_plots
from thermal_action.scoring.report import gather_metrics, summarise_metrics
from thermal_action.scoring.rivals import REFERENCE, ask_rivals
from thermal_action.scoring.rows import present, write_rows
from thermal_action.scoring.tables import Persons
from thermal_action.script import run
from thermal_action.training.engine import choose_device

MODEL, FRAMES, ANNOTATIONS, METRICS = Path("models/best.pt"), Path("data/frames"), Path("data/annotations"), Path("metrics")
CARD, LOCK = Path("models/model_card.md"), Path("dvc.lock")


@section
class Evaluate:
    focus_class: str | None
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)]
    found_score: Annotated[float, Field(gt=0, lt=1)]
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


def find_focus(name: str | None, classes: list[str]) -> int | None:
    if name is not None and name not in classes:
        raise InputError(f"params.yaml: evaluate.focus_class {name!r} is none of the classes ({', '.join(classes)}): choose one, "
                         "or null for none")
    return None if name is None else classes.index(name)


def open_sides(respondent: Respondent) -> tuple[ThermalActionDataset, ThermalActionDataset]:
    """Training and validation; InputError where nobody is."""
    paths = ANNOTATIONS / "train.json", ANNOTATIONS / "val.json"
    sides = [respondent.open_side(path) for path in paths]
    for path, data in zip(paths, sides, strict=True):
        if not any(len(sample.boxes) for sample in data.samples):
            raise InputError(f"{path} has no person: change coco.split_by or coco.val_fraction and run `dvc repro`")
    return sides[0], sides[1]


def name_test_clips(respondent: Respondent) -> None:
    """Writes what a model of clips says of those for testing alone, of a source that has such."""
    path = ANNOTATIONS / "test.json"
    if respondent.clips and path.exists():
        samples, classes = read_annotations(path, least=0)
        answer = respondent.answer_clips(respondent.open_side(path)) if samples else np.empty((0, len(classes)))
        write_rows(METRICS / "test_predictions.csv", tables.list_clips(answer, samples, classes), tables.CLIP_COLUMNS)
        print(f"evaluate: {len(samples)} clips for testing alone are named in {METRICS / 'test_predictions.csv'}")


def main() -> None:
    params, runtime = read_params("evaluate", Evaluate), read_params("runtime", Runtime)
    source = read_params("fetch", dict)["source"]
    device = choose_device(runtime.device)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    respondent = Respondent(MODEL, FRAMES, device, workers=runtime.workers, cache_mb=runtime.cache_mb)
    dataset = read_record(ANNOTATIONS / "dataset_info.json", Dataset, "coco")
    train, val = open_sides(respondent)
    persons = Persons(*find_persons(val.samples), classes=val.classes, focus=find_focus(params.focus_class, val.classes))

    answer, found = respondent.answer_persons(train, val)
    answers = {"model": answer, **ask_rivals(train, val, params.seed, runtime.threads or -1)}
    summaries = {name: tables.summarise(answer, persons, params.calibration_bins) for name, answer in answers.items()}
    metrics = gather_metrics(answers, summaries, persons, reference=REFERENCE, samples=params.bootstrap_samples,
                             level=params.confidence_level, seed=params.seed)
    if found:
        metrics["finding"] = {name: present(summarise_finding(each, val.samples, len(val.classes), params.found_score))
                              for name, each in found.items()}

    write_rows(METRICS / "predictions.csv", tables.list_predictions(answers, "model", persons, val.samples))
    recalls = write_plots(METRICS, answer, persons, summaries, found, metrics, level=params.confidence_level,
                          bins=params.calibration_bins)
    write_json(METRICS / "evaluate.json", metrics)
    write_json(METRICS / "summary.json", summarise_metrics(metrics))
    table = tables.format_scores(summaries, persons) + tables.format_finding(metrics.get("finding", {}))
    write_text(METRICS / "results.md", table)
    trained = Trained(source, read_versions(LOCK, ("data/raw", str(FRAMES), str(ANNOTATIONS))),
                      dataset, respondent.info, sum(weights.numel() for weights in respondent.model.parameters()))
    write_text(CARD, format_card(trained, metrics, table, recalls, params.confidence_level))
    print(table)
    name_test_clips(respondent)
    data, top1 = metrics["data"], 100 * metrics["model"]["top1"]
    print(f"evaluate: {data['persons']} persons in {data['clips']} windows of {data['recordings']} recordings; "
          f"top-1 {top1:.1f} %, the best baseline's {top1 - 100 * metrics['margin']['top1']:.1f} %, "
          f"the forest's {top1 - 100 * metrics['margin_over_reference']['top1']:.1f} %")


if __name__ == "__main__":
    run(main, alone=True)
