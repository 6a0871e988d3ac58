"""Learns when actions begin and end, from features of whole recordings, and scores it beside what is said of single steps: by the
classifier that they come from, and by a forest that learned from them.

in   data/features, data/segments.json
out  models/localizer.pt             averaged weights of ActionFormer, and its settings
     metrics/localize.json           mAP per tIoU and its mean, AR@N, recall at k times the number of true segments: of the model,
                                     of its weights without averaging (`raw`), and of the references
     metrics/summary.json            the few of them that `dvc exp show` and `dvc metrics diff` show
     metrics/localization/           losses; mAP by tIoU and precision-recall per class as tables and pictures; time lines of
                                     validation recordings over their features; predictions.json
run  python ../../stages/localize.py   in pipelines/localization, after `make localize`; killed and run again, it goes on
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from dvclive import Live
from tqdm import tqdm

from thermal_action.charts import draw_precision_recall
from thermal_action.files import code_sha256, file_sha256, fingerprint, read_json, replacing_folder, write_json
from thermal_action.localization import checkpoints, data, engine, inference, reference, templates
from thermal_action.localization.pictures import draw_overlaps, draw_time_line
from thermal_action.localization.samples import TIOU
from thermal_action.localization.scores import Scorer
from thermal_action.params import Field, read_params, section
from thermal_action.records import read_record
from thermal_action.runtime import Runtime
from thermal_action.scoring.rows import Row, write_rows
from thermal_action.script import run

FEATURES, SEGMENTS = Path("data/features"), Path("data/segments.json")
MODEL, METRICS = Path("models/localizer.pt"), Path("metrics")
SHOWN = ("mAP", "mAP@0.50", "AR@100")
SCRATCH = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"))


@section
class Localize:
    lr: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=1024)]  # recordings
    max_seq_len: Annotated[int, Field(ge=32, le=65_536)]  # steps
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    pictures: Annotated[int, Field(ge=0, le=200)]
    least_score: Annotated[float, Field(ge=0, lt=1)]


def configure(params: Localize, found: data.Data, template: templates.Template) -> dict:
    split = template.changes["train_split"]
    learned = [name for name, each in read_json(SEGMENTS)["database"].items() if each["subset"] in split]
    columns = data.measure_columns(FEATURES / f"{name}.npy" for name in learned)
    chosen = {"init_rand_seed": params.seed, "dataset": found.settings | columns | {"max_seq_len": params.max_seq_len},
              "opt": {"learning_rate": params.lr, "epochs": params.epochs}, "loader": {"batch_size": params.batch_size}}
    return templates.build_config(templates.over(template.changes, chosen))


def fingerprint_run(config: Mapping, environment: Mapping) -> str:
    """Stands for everything that decides the result: settings, data, code, and what rounds differently."""
    return fingerprint({"config": config, "environment": environment, "code": code_sha256(__file__),
                        "inputs": {path.name: file_sha256(path) for path in [SEGMENTS, *sorted(FEATURES.glob("*"))]}})


def ask_references(config: dict, names: Mapping[int, str], manifest: data.Manifest, seed: int, jobs: int,
                   ) -> dict[str, tuple[Scorer, reference.Merging]]:
    """What each reference finds on the validation side, merged as finds most on the training side."""
    database = read_json(SEGMENTS)["database"]
    learned, asked = ([name for name, each in database.items() if each["subset"] in config[split]]
                      for split in ("train_split", "val_split"))
    features = {name: data.read_features(FEATURES / f"{name}.npy") for name in [*learned, *asked]}
    marked = {name: reference.mark_steps(database[name]["annotations"], len(features[name]), manifest.step_s, len(names))
              for name in learned}
    classifier = {name: rows[:, manifest.find("probabilities")] for name, rows in features.items()}
    found = {}
    with tqdm(total=reference.FOLDS + 1 + 2 * len(reference.MERGINGS), unit="trial", desc="references") as bar:
        own, others = reference.learn_steps({name: (features[name], marked[name]) for name in learned},
                                            {name: features[name] for name in asked}, seed, jobs, bar.update)
        for name, probabilities in (("thresholds", classifier), ("forest", own | others)):
            known, unseen = ({each: probabilities[each] for each in side} for side in (learned, asked))
            merging = reference.choose_merging(Scorer(str(SEGMENTS), *config["train_split"], TIOU, names), known,
                                               manifest.step_s, bar.update)
            scorer = Scorer(str(SEGMENTS), *config["val_split"], TIOU, names)
            scorer.evaluate(reference.find_all(unseen, merging, manifest.step_s))
            found[name] = scorer, merging
    return found


def list_overlaps(scorers: Mapping[str, Scorer]) -> Iterator[Row]:
    for predictor, scorer in scorers.items():
        for tiou in scorer.thresholds:
            yield {"predictor": predictor, "tiou": round(float(tiou), 2), "mAP": round(scorer.scores[f"mAP@{tiou:.2f}"], 6)}


def learn(config: dict, environment: dict, epochs: int) -> engine.Learner:
    """ActionFormer after its last epoch; goes on where a run of the same settings was killed."""
    learner, batches = engine.start(config, engine.choose_device(environment["device"]), growing=True)
    unfinished = SCRATCH / f"localize-{fingerprint_run(config, environment)}.pt"
    if unfinished.exists():
        learner.resume(unfinished, config)
    while (epoch := len(learner.history) + 1) <= epochs:
        learner.history.append(engine.train_epoch(learner, batches, config["train_cfg"]["clip_grad_l2norm"]))
        checkpoints.save(unfinished, learner.state(config))
        print(f"epoch {epoch}/{epochs}  " + "  ".join(f"{name} {value:.4g}" for name, value in learner.history[-1].items()),
              flush=True)
    unfinished.unlink(missing_ok=True)
    return learner


def write_curves(folder: Path, history: list[dict[str, float]]) -> None:
    with Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None) as live:
        for losses in history:
            for name, value in losses.items():
                live.log_metric(name, value)
            live.next_step()


def write_plots(folder: Path, scorers: dict[str, Scorer], step_s: float, params: Localize) -> None:
    true = read_json(SEGMENTS)["database"]
    predictions = scorers["actionformer"].list_predictions()
    write_json(folder / "predictions.json", predictions)
    draw_overlaps(folder / "overlaps.png", write_rows(folder / "overlaps.csv", list_overlaps(scorers)))
    curves = write_rows(folder / "precision_recall.csv", scorers["actionformer"].list_precision_recall(0.5))
    draw_precision_recall(folder / "precision_recall.png", curves, None)
    shown = sorted(name for name, each in true.items() if each["subset"] == "validation")
    for name in shown[:: max(len(shown) // max(params.pictures, 1), 1)][:params.pictures]:
        draw_time_line(folder / "time_lines" / f"{name}.png", name, true[name]["annotations"], predictions.get(name, []),
                       data.read_features(FEATURES / f"{name}.npy"), step_s, params.least_score)


def main() -> None:
    params, runtime = read_params("localize", Localize), read_params("runtime", Runtime)
    engine.set_threads(runtime.threads)
    manifest = read_record(FEATURES / "manifest.json", data.Manifest, "features")
    template = templates.choose_template("thermal")
    found = data.open_data(SEGMENTS, [FEATURES], template, training=True)
    config = configure(params, found, template)
    environment = engine.describe_environment(engine.choose_device(runtime.device))
    learner = learn(config, environment, config["opt"]["epochs"] + config["opt"]["warmup_epochs"])
    scorers = {"actionformer": inference.score(learner.average.module, config, found.names)}
    references = ask_references(config, found.names, manifest, params.seed, runtime.threads or -1)
    scorers |= {name: scorer for name, (scorer, _) in references.items()}
    scores = {name: scorer.scores for name, scorer in scorers.items()}
    margin = scores["actionformer"]["mAP"] - max(scores[name]["mAP"] for name in references)
    raw = inference.score(learner.model, config, found.names).scores
    with replacing_folder(METRICS / "localization") as folder:
        write_curves(folder / "training", learner.history)
        write_plots(folder, scorers, manifest.step_s, params)
    checkpoints.save(MODEL, learner.averaged(config) | {"names": list(found.names.values()), "features": asdict(manifest)})
    write_json(METRICS / "localize.json", {**scores, "raw": {"mAP": raw["mAP"]}, "margin": margin,
                                           "merging": {name: asdict(merging) for name, (_, merging) in references.items()}})
    write_json(METRICS / "summary.json", {name: scores["actionformer"][name] for name in SHOWN} | {"margin": margin})
    truth, best = scorers["actionformer"].truth.ground_truth, {name: 100 * each["mAP"] for name, each in scores.items()}
    print(f"localize: {len(truth)} segments of {truth['label'].nunique()} actions in {truth['video-id'].nunique()} recordings;"
          f" mAP {best['actionformer']:.1f} %, the best reference's {best['actionformer'] - 100 * margin:.1f} %")


if __name__ == "__main__":
    run(main, alone=True)
