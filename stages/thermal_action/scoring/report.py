"""What an evaluation comes to: all numbers, and the few that variants are compared by."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from thermal_action.scoring import tables
from thermal_action.scoring.tables import Persons

# scores of the others beside the model's; all of them are in plots/scores.csv
SHORT = ("top1", "mean_class", "macro_f1", "focus_recall", "focus_precision")


def gather_metrics(answers: Mapping[str, np.ndarray], summaries: Mapping[str, Mapping[str, float]], persons: Persons, *,
                   reference: str, samples: int, level: float, seed: int) -> dict:
    """Scores of "model", margins over the best of the baselines and over `reference`, with intervals from `samples` redraws."""
    model = summaries["model"]
    rivals = {name: {score: summary[score] for score in SHORT if score in summary} for name, summary in summaries.items()
              if name != "model"}
    forest = {reference: rivals.pop(reference)}
    draw = {"samples": samples, "level": level, "seed": seed}
    intervals, margin = tables.compare(answers, summaries, "model", list(rivals), persons, **draw)
    _, forest_margin = tables.compare(answers, summaries, "model", list(forest), persons, **draw)
    metrics = {
        "data": {"persons": len(persons.labels), "clips": len(np.unique(persons.places.keyframe)),
                 "recordings": len(np.unique(persons.places.recording))},
        "model": {name: value for name, value in model.items() if not name.startswith(("clip_", "focus_"))} | intervals,
        "clip": {name.removeprefix("clip_"): value for name, value in model.items() if name.startswith("clip_")},
        "baselines": rivals,
        "reference": forest,
        "margin": margin,
        "margin_over_reference": forest_margin,
    }
    if persons.focus is not None:
        metrics["focus"] = tables.summarise_focus(answers["model"], persons, level)
    return metrics


def summarise_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The few numbers that `dvc exp show` and `dvc metrics diff` put side by side."""
    places = {"top1": ("model", "top1"), "mean_class": ("model", "mean_class"), "map50": ("model", "map50"),
              "margin_top1": ("margin", "top1"), "margin_mean_class": ("margin", "mean_class"),
              "focus_recall": ("focus", "recall"), "focus_precision": ("focus", "precision")}
    summary = {name: metrics[part][score] for name, (part, score) in places.items() if score in metrics.get(part, {})}
    found = metrics.get("finding", {}).get("model", {})
    return summary | {f"found_{score}": found[score] for score in ("ap50", "map50") if score in found}
