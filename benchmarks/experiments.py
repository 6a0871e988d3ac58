"""Tables that compare DVC experiments, in Markdown; no number is typed by hand.

in   experiments <variant>-s<seed>, with folds <variant>-s<seed>-f<fold> (sweep.py runs them), their metrics and predictions
out  for each data set a table: scores of the variants in percent, mean and sample standard deviation over seeds, then of the
     baselines and the random forest
run  PYTHONPATH=stages python benchmarks/experiments.py [variant ...] [--benchmark models.json] [--pipeline pipelines/transfer]

Folds are pooled: each person is predicted once, by the model that never saw it, and all are scored as one validation side.
Where predictions are in neither cache nor remote, the scores of evaluate.json are averaged over folds, and the table says so. How
persons were found follows in a table of its own, whose scores are means of the folds in any case.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import dvc.api
import numpy as np
from dvc.exceptions import DvcException
from ruamel.yaml import YAML

from thermal_action.scoring.baselines import Places
from thermal_action.scoring.tables import FINDING, HEADINGS, Persons, summarise

SCORES = {score: heading for score, heading in HEADINGS.items() if "top5" not in score}
# keys of benchmarks/models.py --json: heading and format
COSTS = {"parameters": ("parameters", ",.0f"), "gmac": ("GMAC", ".2f"), "ms": ("ms a window", ".0f"),
         "clips_per_s": ("training clips/s", ".2f"), "mb": ("MB", ".0f")}
Summary = dict[str, float]  # scores by name


def variant_of(name: str) -> str:
    return re.sub(r"(-s\d+)?(-f\d+)?$", "", name)


@dataclass(frozen=True)
class Experiment:
    name: str
    rev: str
    time: str
    folder: str  # of its pipeline, "" or with a slash at its end
    params: dict  # of all files, without seed, fold and what decides nothing
    seed: int
    fold: int
    metrics: dict
    frames: str  # hash

    @property
    def variant(self) -> str:
        return variant_of(self.name)

    def section(self, name: str) -> dict:
        return self.params[f"{self.folder}params.yaml"][name]

    @property
    def data(self) -> str:
        """The same text for the same validation persons, scored in the same way."""
        return json.dumps([self.frames, *(self.section(name) for name in ("classes", "window", "coco", "evaluate"))])

    def rows(self, path: str) -> list[dict[str, str]]:
        return list(csv.DictReader(dvc.api.read(f"{self.folder}{path}", rev=self.rev).splitlines()))


def warn(text: str) -> None:
    print(f"experiments: {text}: left out", file=sys.stderr)


def ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_experiments(folder: str, variants: list[str], all_commits: bool) -> list[Experiment]:
    """The finished experiments of the pipeline in `folder`, of these variants or of all, oldest first."""
    shown = json.loads(ask(sys.executable, "-m", "dvc", "exp", "show", "--json", *["--all-commits"] * all_commits))
    found = []
    for experiment in (experiment for commit in shown for experiment in commit["experiments"] or []):
        entry = experiment["revs"][0]
        if variants and variant_of(entry["name"]) not in variants:
            continue
        if (experiment["executor"] or {}).get("state") == "running":  # it shows the numbers of the commit that it began at
            warn(f"{entry['name']} is still running, or was killed")
            continue
        data = entry["data"] or {}
        try:
            metrics = json.loads(ask("git", "show", f"{entry['rev']}:{folder}metrics/evaluate.json"))
        except subprocess.CalledProcessError:
            warn(f"{entry['name']} has no {folder}metrics/evaluate.json")
            continue
        lock = YAML(typ="safe").load(ask("git", "show", f"{entry['rev']}:{folder}dvc.lock"))["stages"]
        hashes = {(stage, file["path"]): file["md5"] for stage in ("hdf5", "train", "evaluate")
                  for file in [*lock[stage]["deps"], *lock[stage]["outs"]]}
        if hashes["train", "models/best.pt"] != hashes["evaluate", "models/best.pt"]:
            warn(f"{entry['name']} trained {folder}models/best.pt, but did not evaluate it")
            continue
        params = {file: document["data"] for file, document in data["params"].items()}
        own = params[f"{folder}params.yaml"]
        seed, fold = own["train"]["seed"], own["coco"]["fold"]
        for document in params.values():
            del document["train"]["seed"], document["coco"]["fold"]
            document.pop("server", None), document.pop("runtime", None)
        found.append(Experiment(entry["name"], entry["rev"], data["timestamp"], folder, params, seed, fold, metrics,
                                hashes["hdf5", "data/frames"]))
    return sorted(found, key=lambda experiment: experiment.time)


def group(experiments: Iterable[Experiment], key: str) -> dict[object, list[Experiment]]:
    groups = defaultdict(list)
    for experiment in experiments:
        groups[getattr(experiment, key)].append(experiment)
    return groups


def list_runs(variant: list[Experiment]) -> list[list[Experiment]]:
    """The folds of each seed. SystemExit when experiments differ in more than seed and fold."""
    first, folds = variant[0], variant[0].section("coco")["folds"] or 1
    for other in variant:
        if other.params != first.params:
            sys.exit(f"experiments: {first.name} and {other.name} differ in more than train.seed and coco.fold: see `dvc params"
                     f" diff {first.name} {other.name}`; rename or remove one of them")
    runs = [list({one.fold: one for one in seed}.values()) for seed in group(variant, "seed").values()]
    for run in runs:
        if len(run) < folds:
            warn(f"{first.variant}, seed {run[0].seed}: {len(run)} of {folds} folds")
    return [run for run in runs if len(run) == folds]


def pool_folds(run: list[Experiment]) -> dict[str, Summary]:
    """Scores of all folds' persons. Rivals only name a class, so they have no mean average precision."""
    rows = [row for experiment in run for row in experiment.rows("metrics/predictions.csv")]
    columns, focus = list(rows[0]), run[0].section("evaluate")["focus_class"]
    classes = [column[2:-1] for column in columns if column.startswith("p(")]
    rivals = columns[columns.index("confidence") + 1:columns.index(f"p({classes[0]})")]
    recordings = np.array([row["recording"] for row in rows])
    places = Places(boxes=np.array([[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows], np.float32),
                    keyframe=np.unique([row["sample"] for row in rows], return_inverse=True)[1],
                    time=np.zeros(len(rows), np.int64), device=recordings, recording=recordings)
    labels = np.array([classes.index(row["true"]) for row in rows])
    persons = Persons(places, labels, classes, None if focus is None else classes.index(focus))
    summaries = {"model": summarise(np.array([[row[f"p({name})"] for name in classes] for row in rows], float), persons)}
    for rival in rivals:
        named = summarise(np.eye(len(classes))[[classes.index(row[rival]) for row in rows]], persons)
        summaries[rival] = {score: value for score, value in named.items() if not score.startswith("map")}
    return summaries


def average(summaries: list[Summary], scores: Iterable[str] = SCORES) -> Summary:
    return {score: fmean(summary[score] for summary in summaries) for score in scores if all(score in s for s in summaries)}


def average_folds(run: list[Experiment]) -> dict[str, Summary]:
    """The same from evaluate.json, which Git keeps; it holds less of the rivals."""
    found = defaultdict(list)
    for metrics in (experiment.metrics for experiment in run):
        more = {f"{part}_{score}": value for part in ("clip", "focus") for score, value in metrics.get(part, {}).items()}
        for name, summary in {"model": metrics["model"] | more, **metrics["baselines"], **metrics["reference"]}.items():
            found[name].append(summary)
    return {name: average(summaries) for name, summaries in found.items()}


def score_run(run: list[Experiment]) -> tuple[dict[str, Summary], str]:
    """Scores of the model and its rivals, and how they came about."""
    folds = run[0].section("coco")["folds"]
    try:
        if folds:
            return pool_folds(run), f", {folds} folds pooled"
        summaries = defaultdict(dict)
        for row in run[0].rows("metrics/plots/scores.csv"):
            summaries[row["predictor"]][row["score"]] = float(row["value"])
        return summaries, ""
    except (DvcException, OSError):
        return average_folds(run), f", mean of {folds} folds (predictions are in no cache)" if folds else ""


def percent(summaries: list[Summary], scores: Iterable[str] = SCORES) -> list[str]:
    """A cell per score: mean, and standard deviation where there are several."""
    cells = []
    for values in ([100 * summary[score] for summary in summaries if score in summary] for score in scores):
        cells.append(f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "") if values else "-")
    return cells


def format_table(experiments: list[Experiment], costs: dict[str, dict]) -> str:
    """Markdown of the experiments on one data set."""
    rows, rivals, ways = [], defaultdict(list), set()
    for name, variant in group(experiments, "variant").items():
        scored = [score_run(run) for run in list_runs(variant)]
        ways.update(way for _, way in scored)
        model = variant[0].section("model")
        size = model["input"]["size"]
        cost = costs.get(" ".join([model["name"], model["head"], *[size] * (size != "native")]), {})
        rows.append([name, str(len(scored)), *percent([summaries.pop("model") for summaries, _ in scored]),
                     *(format(cost[key], form) if key in cost else "-" for key, (_, form) in COSTS.items() if costs)])
        for summaries, _ in scored:
            for rival, summary in summaries.items():
                rivals[rival].append(summary)
    for name, summaries in rivals.items():
        rows.append([name.replace("_", " "), "", *percent([average(summaries)]), *("" for _ in COSTS if costs)])
    headings = ["%", "seeds", *SCORES.values(), *(heading for heading, _ in COSTS.values() if costs)]
    fetch, coco, evaluate = (experiments[0].section(name) for name in ("fetch", "coco", "evaluate"))
    how = "".join(sorted(ways))
    title = f"{fetch['source']}, split by {coco['split_by']}{how}; focus: {evaluate['focus_class'] or 'none'}"
    return f"{title}\n\n{markdown(headings, rows)}{format_finding(experiments)}"


def format_finding(experiments: list[Experiment]) -> str:
    """Markdown of how persons were found; nothing where nobody is looked for. The others were the same for all variants."""
    rows, others = [], defaultdict(list)
    for name, variant in group(experiments, "variant").items():
        runs = [[experiment.metrics["finding"] for experiment in run] for run in list_runs(variant)
                if all("finding" in experiment.metrics for experiment in run)]
        own = [average([fold.pop("model") for fold in run], FINDING) for run in runs]
        rows += [[name, str(len(own)), *percent(own, FINDING)]] if own else []
        for other in {other for run in runs for fold in run for other in fold}:
            others[other] += [average([fold[other] for fold in run], FINDING) for run in runs]
    rows += [[name.replace("_", " "), "", *percent([average(each, FINDING)], FINDING)] for name, each in others.items()]
    return "\n" + markdown(["%", "seeds", *FINDING.values()], rows) if rows else ""


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (headings, ["---", *("---:" for _ in headings[1:])], *rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="*", help="only these")
    parser.add_argument("--benchmark", type=Path, help="costs of the models, as benchmarks/models.py --json writes them")
    parser.add_argument("--pipeline", default="", help="folder of another dvc.yaml")
    parser.add_argument("--all-commits", action="store_true", help="not only experiments that began at HEAD")
    options = parser.parse_args()
    costs = json.loads(options.benchmark.read_text())["models"] if options.benchmark else {}
    folder = f"{options.pipeline}/" if options.pipeline else ""
    experiments = read_experiments(folder, options.variant, options.all_commits)
    if not experiments:
        sys.exit("experiments: no finished experiment of that name began at this commit (`dvc exp list --all-commits`)")
    print("\n".join(format_table(found, costs) for found in group(experiments, "data").values()))


if __name__ == "__main__":
    main()
