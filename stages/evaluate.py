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

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.annotations import read_annotations, read_info
from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.dataset import ThermalActionDataset, collate_fn
from thermal_action.files import write_json, write_text
from thermal_action.models import ActionModel
from thermal_action.params import Field, read_params, section
from thermal_action.records import read_record
from thermal_action.runtime import Runtime
from thermal_action.scoring import components, tables
from thermal_action.scoring.baselines import find_persons
from thermal_action.scoring.card import Dataset, Trained, format_card, read_versions
from thermal_action.scoring.finding import Found, summarise_finding
from thermal_action.scoring.plots import write_plots
from thermal_action.scoring.report import gather_metrics, summarise_metrics
from thermal_action.scoring.rivals import REFERENCE, ask_rivals
from thermal_action.scoring.rows import present, write_rows
from thermal_action.scoring.tables import Persons
from thermal_action.script import run
from thermal_action.training.checkpoints import load_model
from thermal_action.training.engine import answer_in_boxes, choose_device
from thermal_action.transforms import ThermalActionTransform

MODEL, FRAMES, ANNOTATIONS, METRICS = Path("models/best.pt"), Path("data/frames"), Path("data/annotations"), Path("metrics")
CARD, LOCK = Path("models/model_card.md"), Path("dvc.lock")
# windows per forward pass: changes the memory needed, not a score
BATCH = 8
COMPONENTS = "warm_components"
# detections scored less than this change no score worth reading
LEAST_SCORE = 0.02


@section
class Evaluate:
    focus_class: str | None
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)]
    found_score: Annotated[float, Field(gt=0, lt=1)]
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


def open_side(path: Path, info: dict, cache_mb: int) -> ThermalActionDataset:
    """A side of the split, fed as the model was trained. InputError when the model belongs to other annotations."""
    windowing = read_info(path).window
    data = ThermalActionDataset(FRAMES, path, ThermalActionTransform(False, **info["transform"]), windowing, cache_mb=cache_mb,
                                label_per="clip" if info["model"].get("head") == "clip" else "person")
    facts = {"classes": data.classes, "frame_size": list(data.frame_size), "window": asdict(windowing)}
    for name, fact in facts.items():
        if fact != info[name]:
            raise InputError(f"{MODEL} was trained with {name} {info[name]}, but {path} has {fact}: run `dvc repro train`")
    return data


def open_sides(info: dict, cache_mb: int) -> tuple[ThermalActionDataset, ThermalActionDataset]:
    """Training and validation; InputError also where nobody is."""
    paths = ANNOTATIONS / "train.json", ANNOTATIONS / "val.json"
    sides = [open_side(path, info, cache_mb) for path in paths]
    for path, data in zip(paths, sides, strict=True):
        if not any(len(sample.boxes) for sample in data.samples):
            raise InputError(f"{path} has no person: change coco.split_by or coco.val_fraction and run `dvc repro`")
    return sides[0], sides[1]


def find_focus(name: str | None, classes: list[str]) -> int | None:
    if name is not None and name not in classes:
        raise InputError(f"params.yaml: evaluate.focus_class {name!r} is none of the classes ({', '.join(classes)}): choose one, "
                         "or null for none")
    return None if name is None else classes.index(name)


def ask_model(model: ActionModel, data: ThermalActionDataset, warm: list[tuple[np.ndarray, np.ndarray]], device: torch.device,
              workers: int) -> tuple[np.ndarray, dict[str, Found]]:
    """Probabilities float64 [N, C] of all persons, in order of the samples, and whom the detector found; `warm` (boxes, scores of
    each sample) is who was found without it. Both with the model's answers there."""
    batches = DataLoader(data, BATCH, collate_fn=collate_fn, num_workers=workers)
    others = [torch.from_numpy(boxes).float() for boxes, _ in warm]
    seen = list(tqdm(answer_in_boxes(model, batches, others, device=device, least=LEAST_SCORE), total=len(data), desc="model"))
    answers = {name: to_probabilities([getattr(window, name) for window in seen]) for name in ("annotated", "found", "others")}
    found = [(window.boxes.numpy(), window.scores.numpy()) for window in seen]
    return answers["annotated"], {"model": Found.gather(found, answers["found"]),
                                  COMPONENTS: Found.gather(warm, answers["others"])}


def ask_of_clips(model: ActionModel, data: ThermalActionDataset, device: torch.device, workers: int) -> np.ndarray:
    """Probabilities float64 [samples, C] of a model that labels whole windows, whoever is annotated in them."""
    batches = DataLoader(data, BATCH, collate_fn=collate_fn, num_workers=workers)
    whole = [torch.tensor([WHOLE_PICTURE])] * len(data)
    seen = answer_in_boxes(model, batches, whole, device=device, least=LEAST_SCORE)
    return to_probabilities([window.others for window in tqdm(seen, total=len(data), desc="model")])


def name_test_clips(model: ActionModel, info: dict, device: torch.device, runtime: Runtime) -> int | None:
    """Writes what the model says of the clips for testing alone; how many, None of a source that has no such."""
    path = ANNOTATIONS / "test.json"
    if not path.exists():
        return None
    samples, classes = read_annotations(path, least=0)
    answer = np.empty((0, len(classes)))
    if samples:
        answer = ask_of_clips(model, open_side(path, info, runtime.cache_mb), device, runtime.workers)
    write_rows(METRICS / "test_predictions.csv", tables.list_clips(answer, samples, classes), tables.CLIP_COLUMNS)
    return len(samples)


def to_probabilities(logits: list[torch.Tensor]) -> np.ndarray:
    joined = torch.cat(logits)
    if not torch.isfinite(joined).all():
        raise InputError(f"{MODEL} answers with numbers that are not finite: train it again with another train.lr")
    return torch.softmax(joined.double(), dim=1).numpy()


def main() -> None:
    params, runtime = read_params("evaluate", Evaluate), read_params("runtime", Runtime)
    source = read_params("fetch", dict)["source"]
    device = choose_device(runtime.device)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    model, info = load_model(MODEL, device)
    dataset = read_record(ANNOTATIONS / "dataset_info.json", Dataset, "coco")
    train, val = open_sides(info, runtime.cache_mb)
    persons = Persons(*find_persons(val.samples), classes=val.classes, focus=find_focus(params.focus_class, val.classes))

    clips = model.detector is None
    if clips:  # the persons of a window share its answer, and nobody is found
        answer, found = ask_of_clips(model, val, device, runtime.workers)[persons.places.keyframe], {}
    else:
        with tqdm(total=min(components.CHOOSING, len(train)) + len(val), unit="window", desc=COMPONENTS.replace("_", " ")) as bar:
            warm = components.find_by_warmth(train, val, bar.update)
        answer, found = ask_model(model, val, warm, device, runtime.workers)
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
                      dataset, info, sum(weights.numel() for weights in model.parameters()))
    write_text(CARD, format_card(trained, metrics, table, recalls, params.confidence_level))
    print(table)
    named = name_test_clips(model, info, device, runtime) if clips else None
    if named is not None:
        print(f"evaluate: {named} clips for testing alone were named in {METRICS / 'test_predictions.csv'}")
    data, top1 = metrics["data"], 100 * metrics["model"]["top1"]
    print(f"evaluate: {data['persons']} persons in {data['clips']} windows of {data['recordings']} recordings; "
          f"top-1 {top1:.1f} %, the best baseline's {top1 - 100 * metrics['margin']['top1']:.1f} %, "
          f"the forest's {top1 - 100 * metrics['margin_over_reference']['top1']:.1f} %")


if __name__ == "__main__":
    run(main, alone=True)
