"""Scores the alarms that a model and a set of rules raise in recordings of which all is known: simulated nights.

in   predictions/*.jsonl (stages/predict.py), data/raw/timeline (what happened), data/raw/keyframes (where furniture stands),
     data/frames
out  metrics/alarms.json         sensitivity, false alarms a sensor and day, delay: as the rules are set, with intervals over
                                 recordings, and at the rate that is wanted
     metrics/alarms/*.csv        the curve over all thresholds, events by scenario, false alarms by what happened, all alarms
     metrics/alarms/pictures     the curve, and failures with what was seen
run  python ../../stages/alarms.py   in pipelines/alarms
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.alarms import pictures, scores
from thermal_action.alarms.events import Night, read_night
from thermal_action.alarms.furniture import Furniture, find_furniture
from thermal_action.alarms.rules import Accumulator, Rules, check_rules, raise_alarms
from thermal_action.files import replacing_folder, write_json
from thermal_action.moments import Moment, read_moments
from thermal_action.params import ActionNames, Field, read_params, section
from thermal_action.recordings import Recording
from thermal_action.scoring.rows import present, write_rows
from thermal_action.script import run
from thermal_action.windows import nearest_frames

PREDICTIONS, RAW, FRAMES, METRICS = Path("predictions"), Path("data/raw"), Path("data/frames"), Path("metrics")
STEPS = 50  # thresholds of the curve, up to `rules.most`


@section
class Alarms:
    rate_per_day: Annotated[float, Field(gt=0, le=100)]
    confidence_level: Annotated[float, Field(gt=0.5, lt=1)]
    bootstrap_samples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    pictures: Annotated[int, Field(ge=0, le=200)]


@dataclass(frozen=True)
class Watched:
    """A night, what was predicted, the sums of evidence of it, and what stands in the room."""

    night: Night
    moments: list[Moment]
    totals: list[float]
    furniture: Furniture


def read_watched(path: Path, rules: Rules, classes: list[str]) -> Watched:
    name = path.stem
    moments = read_moments(path)
    if not moments:
        raise InputError(f"{path} holds no prediction: run stages/predict.py again")
    night = read_night(RAW / "timeline" / f"{name}.json", rules.action, moments[0].time, moments[-1].known)
    with Recording(FRAMES / f"{name}.h5") as recording:
        size = recording.height, recording.width
    furniture = find_furniture(RAW / "keyframes" / f"{name}.jsonl", classes)
    accumulator = Accumulator(rules, classes, furniture, size)
    return Watched(night, moments, [accumulator.take(moment) for moment in moments], furniture)


def judge_all(nights: list[Watched], rules: Rules) -> list[scores.Outcome]:
    return [scores.judge(watched.night, raise_alarms(watched.moments, watched.totals, rules)) for watched in nights]


def draw_failures(folder: Path, nights: list[Watched], outcomes: list[scores.Outcome], rules: Rules, classes: list[str],
                  number: int) -> None:
    """A picture of each event that was missed and of each false alarm, `number` at most."""
    failures = []
    for watched, outcome in zip(nights, outcomes, strict=True):
        failures += [(watched, f"missed ({event.scenario})", (event.start + min(event.end, event.start + 20_000)) // 2)
                     for event in watched.night.events if event not in outcome.delays]
        failures += [(watched, f"false alarm ({' and '.join(watched.night.doing(alarm.since)) or 'nobody there'})", alarm.time)
                     for alarm in outcome.false]
    for rank, (watched, what, time) in enumerate(failures[:number]):
        with Recording(FRAMES / f"{watched.night.recording}.h5") as recording:
            frame = recording.read(nearest_frames(recording.timestamps, np.array([time])))[0]
        nearest = min(watched.moments, key=lambda moment: abs(moment.time - time))
        trace = [(moment.time, value) for moment, value in zip(watched.moments, watched.totals, strict=True)]
        name = watched.night.recording
        pictures.draw_failure(folder / f"{rank:02d}_{name}_{time}.png", f"{name}: {what}", time, frame, nearest, classes,
                              watched.furniture, watched.night, trace, rules)


def main() -> None:
    params, rules, classes = read_params("alarms", Alarms), read_params("rules", Rules), read_params("classes", ActionNames)
    check_rules(rules, classes, "params.yaml")
    nights = [read_watched(path, rules, classes) for path in sorted(PREDICTIONS.glob("*.jsonl"))]
    if not nights:
        raise InputError(f"{PREDICTIONS} holds no predictions: run `dvc repro` in pipelines/alarms")

    def outcomes_at(threshold: float) -> list[scores.Outcome]:
        return judge_all(nights, replace(rules, raise_at=threshold, clear_at=min(rules.clear_at, threshold)))

    outcomes = judge_all(nights, rules)
    thresholds = [round(rules.most * step / STEPS, 3) for step in range(1, STEPS + 1)]
    points = scores.curve(tqdm(thresholds, desc="alarms", unit="threshold"), outcomes_at)
    as_set, best = scores.summarise(outcomes), scores.at_rate(points, params.rate_per_day)
    limits = scores.intervals(outcomes, params.bootstrap_samples, params.confidence_level, params.seed)
    bounds = {f"{name}_{side}": value for name, pair in limits.items() for side, value in zip(("low", "high"), pair, strict=True)}
    write_json(METRICS / "alarms.json", {"as_set": present(as_set | bounds), "at_rate": present(best) if best else None})
    with replacing_folder(METRICS / "alarms") as folder:
        write_rows(folder / "curve.csv", points)
        write_rows(folder / "scenarios.csv", scores.by_scenario(outcomes) or [{"scenario": "none", "events": 0}])
        write_rows(folder / "causes.csv", scores.by_cause(outcomes) or [{"truth": "none", "false_alarms": 0}])
        (folder / "pictures").mkdir()
        pictures.draw_curve(folder / "pictures" / "curve.png", points, as_set, params.rate_per_day)
        draw_failures(folder / "pictures", nights, outcomes, rules, classes, params.pictures)
    print(f"alarms: {100 * as_set['sensitivity']:.1f} % of {as_set['events']} events, {as_set['false_alarms_per_day']:.2f} false"
          f" alarms a sensor and day in {as_set['days']:.2f} days, median delay {as_set['delay_median_s']:.1f} s")


if __name__ == "__main__":
    run(main, alone=True)
