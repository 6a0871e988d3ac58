"""Pictures of segments: what was found beside what happened, over what the model saw."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from thermal_action.charts import MODEL, OTHERS, Rows, picture, saved_figure, wrap

TRUE, ROW_IN = "#3a8f5c", 0.42


def draw_time_line(path: str | Path, name: str, true: Sequence[Mapping], found: Sequence[Mapping], features: np.ndarray,
                   step_s: float, least: float) -> None:
    """Above, of each label what happened and what was found, the more certain the darker, `least` and more; below, the features.

    true, found: {"segment": [start, end] s, "label"}, with "score" where found; features [T, C], of which each column is
    shown between its smallest and its largest number here.
    """
    shown = [each for each in found if each["score"] >= least]
    labels = sorted({each["label"] for each in [*true, *shown]})
    seconds = len(features) * step_s
    with saved_figure(path, 11, 1.4 + ROW_IN * len(labels) + 2.2) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[max(ROW_IN * len(labels), 0.5), 2.0])
        for place, label in enumerate(labels):
            draw_bars(above, [each["segment"] for each in true if each["label"] == label], place - 0.2, TRUE)
            for each in shown:
                if each["label"] == label:
                    draw_bars(above, [each["segment"]], place + 0.2, MODEL, alpha=0.15 + 0.85 * min(each["score"], 1.0))
        above.set_yticks(range(len(labels)), [wrap(label, 34) for label in labels], fontsize=8)
        above.set_ylim(len(labels) - 0.5, -0.5)
        above.set_title(f"{name}: what happened (green) and what was found (blue, scores of {least:g} and more)", fontsize=10,
                        loc="left")
        spread = np.ptp(features, axis=0)
        scaled = (features - features.min(axis=0)) / np.where(spread > 0, spread, 1)
        below.imshow(scaled.T, aspect="auto", cmap="magma", extent=(0, seconds, features.shape[1], 0), interpolation="nearest")
        below.set(xlim=(0, seconds), xlabel="seconds", ylabel="feature")
        above.spines[["top", "right"]].set_visible(False)


def draw_bars(axes: Axes, segments: Sequence[Sequence[float]], place: float, colour: str, alpha: float = 1.0) -> None:
    axes.broken_barh([(start, end - start) for start, end in segments], (place - 0.17, 0.34), color=colour, alpha=alpha)


def draw_overlaps(path: str | Path, rows: Rows) -> None:
    """mAP at each tIoU, of each way to find segments: rows of predictor, tiou and mAP."""
    predictors = list(dict.fromkeys(row["predictor"] for row in rows))
    with picture(path, 5.6, 4.2) as axes:
        for number, predictor in enumerate(predictors):
            own = [row for row in rows if row["predictor"] == predictor]
            mean = np.mean([row["mAP"] for row in own])
            axes.plot([row["tiou"] for row in own], [row["mAP"] for row in own], ("o-", "s--", "^:")[number % 3],
                      color=OTHERS if number else MODEL, label=f"{predictor.replace('_', ' ')}: mean {100 * mean:.1f} %")
        axes.set(ylim=(0, 1.02), xlabel="tIoU that counts as found", ylabel="mAP")
        axes.grid(color="#e4e7ea")
        axes.set_title("Segments found, by how well they must overlap", fontsize=10, loc="left")
        axes.legend(fontsize=8, frameon=False)
