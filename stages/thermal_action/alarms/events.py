"""What really happened: times in which somebody did the watched action, and under which circumstances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thermal_action.files import read_json

# stretches of one person's action that are apart by less are one event, s; shorter ones are none
JOIN_S, SHORTEST_S = 5.0, 3.0
BESIDE = "a carer is in the room"


@dataclass(frozen=True)
class Event:
    """Somebody did the watched action from `start` to `end` (ms), after what `scenario` says."""

    recording: str
    start: int
    end: int
    scenario: str


@dataclass(frozen=True)
class Night:
    """A recording watched throughout: its events, and what everybody did when."""

    recording: str
    start: int  # ms
    end: int
    events: tuple[Event, ...]
    persons: Sequence[Mapping[str, Any]]  # of timeline/<recording>.json

    @property
    def days(self) -> float:
        return (self.end - self.start) / 86_400_000

    def doing(self, time: int) -> list[str]:
        """What the people in the room did at a time, without repeats."""
        return sorted({segment["label"] for person in self.persons for segment in person["segments"]
                       if segment["label"] and segment["start_ms"] <= time < segment["end_ms"]})


def read_night(path: str | Path, action: str, start: int, end: int) -> Night:
    """From a simulator's time line (data/raw/timeline), for a recording that was watched from `start` to `end`."""
    timeline = read_json(path)
    events = [event for person in timeline["persons"] for event in find_events(timeline["recording"], person, action, timeline)
              if event.start < end and event.end > start]
    return Night(timeline["recording"], start, end, tuple(sorted(events, key=lambda event: event.start)), timeline["persons"])


def find_events(recording: str, person: Mapping[str, Any], action: str, timeline: Mapping[str, Any]) -> list[Event]:
    """One person's stretches of `action`; what came before tells the scenario."""
    events: list[Event] = []
    segments = [segment for segment in person["segments"] if segment["label"]]
    before = "the beginning"
    for segment in segments:
        if segment["label"] == action:
            if events and segment["start_ms"] - events[-1].end <= 1000 * JOIN_S:
                events[-1] = Event(recording, events[-1].start, segment["end_ms"], events[-1].scenario)
            else:
                scenario = BESIDE if is_accompanied(timeline, person, segment["start_ms"]) else f"after {before}"
                events.append(Event(recording, segment["start_ms"], segment["end_ms"], scenario))
        elif not segment["label"].startswith("transition"):
            before = segment["label"]
    return [event for event in events if event.end - event.start >= 1000 * SHORTEST_S]


def is_accompanied(timeline: Mapping[str, Any], person: Mapping[str, Any], time: int) -> bool:
    return any(segment["label"] and segment["start_ms"] <= time < segment["end_ms"]
               for other in timeline["persons"] if other["object_id"] != person["object_id"] for segment in other["segments"])
