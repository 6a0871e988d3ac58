"""How good alarms are: events that raised one, how soon, and alarms for nothing a sensor and day."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from thermal_action.alarms.events import Event, Night
from thermal_action.alarms.rules import Alarm
from thermal_action.scoring.intervals import percentile_interval, resample_groups

# an alarm so soon after the end of an event is still for it, s
GRACE_S = 15.0


@dataclass
class Outcome:
    """One night under one set of rules."""

    night: Night
    delays: dict[Event, float] = field(default_factory=dict)  # s, of the events that raised an alarm
    false: list[Alarm] = field(default_factory=list)


def judge(night: Night, alarms: Sequence[Alarm]) -> Outcome:
    """An alarm belongs to the latest event that has begun and not long ended; the first alarm of an event finds it, and what
    comes again is no false one."""
    outcome = Outcome(night)
    for alarm in alarms:
        meant = [event for event in night.events if event.start <= alarm.time <= event.end + 1000 * GRACE_S]
        if not meant:
            outcome.false.append(alarm)
        elif meant[-1] not in outcome.delays:
            outcome.delays[meant[-1]] = (alarm.time - meant[-1].start) / 1000
    return outcome


def summarise(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """events, sensitivity, false_alarms_per_day, delay_median_s and delay_p95_s; NaN where nothing can be said."""
    events = sum(len(outcome.night.events) for outcome in outcomes)
    delays = [delay for outcome in outcomes for delay in outcome.delays.values()]
    days = sum(outcome.night.days for outcome in outcomes)
    return {"events": events, "days": days, "sensitivity": len(delays) / events if events else float("nan"),
            "false_alarms_per_day": sum(len(outcome.false) for outcome in outcomes) / days,
            "delay_median_s": float(np.median(delays)) if delays else float("nan"),
            "delay_p95_s": float(np.percentile(delays, 95)) if delays else float("nan")}


def intervals(outcomes: Sequence[Outcome], samples: int, level: float, seed: int) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals over recordings of sensitivity, false_alarms_per_day and delay_median_s."""
    draws = resample_groups(np.arange(len(outcomes)), samples, seed)
    drawn = defaultdict(list)
    for draw in draws:
        summary = summarise([outcome for outcome, times in zip(outcomes, draw.tolist(), strict=True) for _ in range(times)])
        for name in ("sensitivity", "false_alarms_per_day", "delay_median_s"):
            if np.isfinite(summary[name]):
                drawn[name].append(summary[name])
    return {name: percentile_interval(values, level) for name, values in drawn.items()}


def by_scenario(outcomes: Sequence[Outcome]) -> list[dict[str, str | int | float]]:
    """Of each scenario: how many events, how many raised an alarm, and the median delay, s."""
    delays: dict[str, list[float | None]] = defaultdict(list)
    for outcome in outcomes:
        for event in outcome.night.events:
            delays[event.scenario].append(outcome.delays.get(event))
    rows = []
    for scenario, found in sorted(delays.items(), key=lambda item: (-len(item[1]), item[0])):
        known = [delay for delay in found if delay is not None]
        rows.append({"scenario": scenario, "events": len(found), "alarms": len(known),
                     "delay_median_s": round(float(np.median(known)), 1) if known else ""})
    return rows


def by_cause(outcomes: Sequence[Outcome]) -> list[dict[str, str | int]]:
    """What the people in the room did when alarms were raised for nothing."""
    causes = Counter(" and ".join(outcome.night.doing(alarm.since)) or "nobody there" for outcome in outcomes
                     for alarm in outcome.false)
    return [{"truth": truth, "false_alarms": count} for truth, count in causes.most_common()]


def curve(thresholds: Sequence[float], outcomes_at: Callable[[float], list[Outcome]]) -> list[dict[str, float]]:
    """Sensitivity, false alarms a day and delay at each threshold of `raise_at`."""
    return [{"raise_at": threshold, **summarise(outcomes_at(threshold))} for threshold in thresholds]


def at_rate(points: Sequence[dict[str, float]], rate: float) -> dict[str, float] | None:
    """The most sensitive point of a curve with no more than `rate` false alarms a day; of equals the quickest."""
    quiet = [point for point in points if point["false_alarms_per_day"] <= rate]
    return max(quiet, key=lambda point: (point["sensitivity"], -point["delay_median_s"]), default=None)
