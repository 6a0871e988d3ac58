"""Pictures of an evaluation, one question each: what is mixed up, what is missed, how certain, better than nothing?"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thermal_action.files import replacing
from thermal_action.scoring.detection import area_under_envelope

MODEL, FOCUS, OTHERS = "#1f5fa8", "#d1495b", "#9aa5b1"
RIVALS = ("#c7ccd1", "#9aa5b1", "#d9b26f", "#a9784f", "#3a8f5c")
PANELS_A_ROW = 5
SCORES = {"top1": "top-1", "mean_class": "mean-class\naccuracy", "macro_f1": "macro-F1", "map50": "frame-mAP\n@ 0.5",
          "focus_recall": "focus class:\nrecall", "focus_precision": "focus class:\nprecision", "clip_top1": "top-1\nper clip",
          "clip_mean_class": "mean-class\nper clip"}
Rows = Sequence[Mapping]


@contextmanager
def saved_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """To draw on; saved as PNG, the same bytes for the same drawing. Sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


@contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Axes]:
    """The only axes of a figure."""
    with saved_figure(path, width, height) as figure:
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        yield axes


def wrap(name: str, width: int = 24) -> str:
    """On lines of at most `width` characters, NamesLikeThis between their words."""
    return "\n".join(textwrap.wrap(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name), width))


def draw_confusion(path: str | Path, confusion: np.ndarray, classes: Sequence[str]) -> None:
    """Counts int [C actual, C predicted]; the colour is the share of the row, so rare classes are as visible as frequent ones.

    Classes that neither occur nor are predicted are left out.
    """
    met = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    counts = confusion[np.ix_(met, met)]
    names, support = [classes[label] for label in met], counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    with picture(path, 3.6 + 0.62 * len(met), 2.6 + 0.52 * len(met)) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.argwhere(counts):
            axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=9,
                      color="white" if shares[row, column] > 0.55 else "black", fontweight="bold" if row == column else None)
        axes.set_xticks(range(len(met)), [wrap(name) for name in names], fontsize=8, rotation=45, ha="right",
                        rotation_mode="anchor")
        axes.set_yticks(range(len(met)), [f"{wrap(name)}  ({number})" for name, number in zip(names, support, strict=True)],
                        fontsize=8)
        axes.set_xlabel("predicted")
        axes.set_ylabel("actual (persons)")
        axes.set_title("Confusions: persons in numbers, share of the row in colour", fontsize=10, loc="left")


def draw_recalls(path: str | Path, rows: Rows, level: float, focus: str | None) -> None:
    """Recall of each class with its interval, the best on top."""
    rows = sorted(rows, key=lambda row: (row["recall"], row["support"]))
    with picture(path, 8, 1.4 + 0.42 * len(rows)) as axes:
        for place, row in enumerate(rows):
            colour = FOCUS if row["class"] == focus else MODEL
            axes.barh(place, row["recall"], color=colour, alpha=0.75, height=0.7)
            axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1.2, marker="|", markersize=7)
            axes.plot(row["recall"], place, color=colour, marker="o", markersize=6, clip_on=False, zorder=3)
        axes.set_yticks(range(len(rows)), [f"{wrap(row['class'], 40)}  ({row['support']})" for row in rows], fontsize=9)
        axes.set_xlim(0, 1.01)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"recall, with its {100 * level:g} % interval (persons in brackets)")
        axes.set_title("Recall of each class", fontsize=10, loc="left")
        axes.grid(axis="x", color="#e4e7ea")
        axes.set_axisbelow(True)


def draw_precision_recall(path: str | Path, rows: Rows, focus: str | None) -> None:
    """One panel per class: precision reached at each recall, and the area under it (average precision)."""
    curves = {name: list(points) for name, points in groupby(rows, key=lambda row: row["class"])}
    down = -(-len(curves) // PANELS_A_ROW)
    with saved_figure(path, 2.1 * PANELS_A_ROW, 0.5 + 1.9 * down) as figure:
        panels = figure.subplots(down, PANELS_A_ROW, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (name, points) in zip(panels, curves.items(), strict=False):
            recall, precision = (np.array([point[column] for point in points]) for column in ("recall", "precision"))
            best = np.maximum.accumulate(precision[::-1])[::-1]  # the area is that under the best reached from here on
            colour = FOCUS if name == focus else MODEL
            axes.fill_between([0, *recall], [best[0], *best], step="pre", color=colour, alpha=0.2, linewidth=0)
            axes.step([0, *recall], [best[0], *best], where="pre", color=colour, linewidth=1.5)
            axes.set_title(f"{wrap(name, 22)}\n{area_under_envelope(precision, recall):.2f}", fontsize=8.5)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.05))
            axes.set_xticks([0, 0.5, 1])
            axes.set_yticks([0, 0.5, 1])
            axes.spines[["top", "right"]].set_visible(False)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        figure.supxlabel("recall", fontsize=9)
        figure.supylabel("precision", fontsize=9)
        figure.suptitle("Precision against recall of each class, and average precision", fontsize=10)


def draw_calibration(path: str | Path, rows: Rows, error: float) -> None:
    """Confidence against accuracy; the area of a point is the number of predictions in its bin."""
    largest = max(row["persons"] for row in rows)
    with picture(path, 5.4, 5.2) as axes:
        axes.plot([0, 1], [0, 1], color=OTHERS, linestyle="--", linewidth=1)
        axes.text(0.02, 1.02, "right more often than it says", fontsize=8, color="#5c6670", va="top")
        axes.text(1.02, 0, "wrong more often than it says", fontsize=8, color="#5c6670", ha="right")
        axes.plot([row["confidence"] for row in rows], [row["accuracy"] for row in rows], color=MODEL, linewidth=1)
        axes.scatter([row["confidence"] for row in rows], [row["accuracy"] for row in rows], color=MODEL, alpha=0.75, zorder=3,
                     s=[20 + 380 * row["persons"] / largest for row in rows])
        for row in rows:
            axes.annotate(f"{row['persons']}", (row["confidence"], row["accuracy"]), textcoords="offset points", xytext=(9, -9),
                          fontsize=8, color="#5c6670")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(-0.03, 1.05)
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        axes.set_title(f"Calibration: expected error {100 * error:.1f} points (numbers: persons)", fontsize=10, loc="left")


def draw_finding(path: str | Path, rows: Rows) -> None:
    """Precision reached at each recall of persons, of each way to find them."""
    with picture(path, 5.6, 4.6) as axes:
        for colour, (name, points) in zip((MODEL, OTHERS), groupby(rows, key=lambda row: row["class"]), strict=False):
            recall, precision = (np.array(column) for column in zip(*((point["recall"], point["precision"]) for point in points),
                                                                      strict=True))
            best = np.maximum.accumulate(precision[::-1])[::-1]
            area = area_under_envelope(precision, recall)
            axes.step(recall, best, where="pre", color=colour, linewidth=1.8,
                      label=f"{name.replace('_', ' ')}: average precision {area:.2f}")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall", ylabel="precision")
        axes.grid(color="#e4e7ea")
        axes.set_title("Persons found, at IoU 0.5", fontsize=10, loc="left")
        axes.legend(fontsize=8, frameon=False, loc="lower left")


def draw_scores(path: str | Path, summaries: Mapping[str, Mapping[str, float]], model: Mapping[str, float], level: float) -> None:
    """The model's scores beside those of its rivals; `model` holds the intervals (`top1_low`, ...), where there are any."""
    shown = [score for score in SCORES if score in summaries["model"]]
    colours = [MODEL, *RIVALS]
    width = 0.8 / len(summaries)
    with picture(path, 1.6 + 1.25 * len(shown), 4.6) as axes:
        for number, (name, summary) in enumerate(summaries.items()):
            places = np.arange(len(shown)) + (number - (len(summaries) - 1) / 2) * width
            heights = [summary.get(score, 0) for score in shown]
            axes.bar(places, heights, width * 0.94, color=colours[number % len(colours)], label=name.replace("_", " "))
            for place, height in zip(places, heights, strict=True):
                axes.text(place, 0.01, f"{100 * height:.0f}", ha="center", va="bottom", fontsize=7,
                          color="white" if name == "model" and height > 0.06 else "black")
        for place, score in enumerate(shown):
            if f"{score}_low" in model:
                spot = place - (len(summaries) - 1) / 2 * width
                axes.plot([spot, spot], [model[f"{score}_low"], model[f"{score}_high"]], color="black", linewidth=1.4, marker="_")
        axes.set_xticks(range(len(shown)), [SCORES[score] for score in shown], fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("score")
        axes.set_title(f"Model, baselines and forest ({100 * level:g} % intervals over recordings)", fontsize=10, loc="left")
        axes.legend(ncols=len(summaries), fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
