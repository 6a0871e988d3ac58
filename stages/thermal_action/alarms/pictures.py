"""Pictures of alarms: the curve, and each failure with what was seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thermal_action.alarms.events import Night
from thermal_action.alarms.furniture import Furniture
from thermal_action.alarms.rules import Rules
from thermal_action.charts import FOCUS, MODEL, OTHERS, picture, saved_figure
from thermal_action.moments import Moment

# seconds shown before and after a failure
AROUND_S = 60.0


def draw_curve(path: Path, points: Sequence[dict[str, float]], chosen: dict[str, float], rate: float) -> None:
    """Sensitivity against false alarms a sensor and day at all thresholds; the set one and the rate that is wanted are marked."""
    rates = np.array([point["false_alarms_per_day"] for point in points])
    hits = np.array([point["sensitivity"] for point in points])
    with picture(path, 6.4, 4.6) as axes:
        axes.plot(rates, hits, color=MODEL, marker="o", markersize=3)
        axes.plot(chosen["false_alarms_per_day"], chosen["sensitivity"], color=FOCUS, marker="o", markersize=8, linestyle="",
                  label=f"as set: {100 * chosen['sensitivity']:.0f} % at {chosen['false_alarms_per_day']:.1f} a day")
        axes.axvline(rate, color=OTHERS, linestyle="--", linewidth=1, label=f"{rate:g} a day")
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlim=(0, max(rates.max(initial=1), 2 * rate)), ylim=(0, 1.03), xlabel="false alarms a sensor and day",
                 ylabel="events that raised an alarm")
        axes.grid(color="#e4e7ea")
        axes.set_title(f"Alarms for {chosen['events']:.0f} events in {chosen['days']:.2f} sensor-days", fontsize=10, loc="left")
        axes.legend(fontsize=8, frameon=False, loc="lower right")


def draw_failure(path: Path, title: str, time: int, frame: np.ndarray, moment: Moment, classes: Sequence[str],
                 furniture: Furniture, night: Night, trace: Sequence[tuple[int, float]], rules: Rules) -> None:
    """The frame [H, W] C at `time` with what was found in it, and the sum of evidence around it with what really happened."""
    height, width = frame.shape
    with saved_figure(path, 11, 3.9) as figure:
        thermal, line = figure.subplots(1, 2, width_ratios=[1.15, 1])
        thermal.imshow(frame, cmap="inferno", extent=(0, width, height, 0))
        for x1, y1, x2, y2 in np.vstack(furniture) * (width, height, width, height):
            thermal.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="#b0b0b0", linestyle="--", linewidth=1)
        for person in moment.persons:
            x1, y1, x2, y2 = np.array(person.box) * (width, height, width, height)
            thermal.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="#35e0ff", linewidth=1.8)
            name = f"{classes[person.action]} {person.probabilities[person.action]:.2f}, score {person.score:.2f}"
            thermal.text(min(x1, 0.6 * width), y1 - 0.4 if y1 > 4 else y2 + 0.4, name, fontsize=7, color="white",
                         va="bottom" if y1 > 4 else "top")
        thermal.set_xticks([])
        thermal.set_yticks([])
        thermal.set_title(title, fontsize=9, loc="left")
        seconds = (np.array([at for at, _ in trace]) - time) / 1000
        near = np.abs(seconds) <= AROUND_S
        line.plot(seconds[near], np.array([value for _, value in trace])[near], color=MODEL)
        for event in night.events:
            if abs(event.start - time) <= 1000 * AROUND_S or event.start <= time <= event.end:
                line.axvspan((event.start - time) / 1000, (event.end - time) / 1000, color=FOCUS, alpha=0.2)
        for level, name in ((rules.raise_at, "raise"), (rules.clear_at, "clear")):
            line.axhline(level, color=OTHERS, linestyle="--", linewidth=1)
            line.text(AROUND_S, level, name, fontsize=7, va="bottom", ha="right")
        line.axvline(0, color="black", linewidth=0.8)
        line.set(xlim=(-AROUND_S, AROUND_S), ylim=(0, 1.03 * rules.most), xlabel="seconds",
                 ylabel="sum of evidence, s (shaded: somebody lies at risk)")
        line.spines[["top", "right"]].set_visible(False)
