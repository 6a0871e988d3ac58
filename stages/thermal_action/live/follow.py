"""Follows one sensor: says what happens, raises alarms, and outlives its source."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from thermal_action.alarms.rules import Accumulator, Trigger
from thermal_action.live.feeds import Feed
from thermal_action.moments import Moment, Observer, to_record
from thermal_action.sources.tdengine.rest import Unreachable
from thermal_action.streams import Frame, Slider

Event = dict[str, Any]


class Follower:
    """Reads `feed` and gives events as they come about:

    alarm     rules raised one: time, since when, sum of evidence
    moment    what the persons of a keyframe do, as predict.py writes it (with `tell_moments`)
    abstains, speaks    from now on nothing is said, and why; and again something
    away, back          the source does not answer, and why; and again it does
    silent, damaged     no new frame for `silent_s` seconds; so many more frames were no frames

    Each has the sensor's time of the newest frame, time_ms. A frame that is older than the one before is left out as damaged.
    """

    def __init__(self, feed: Feed, observer: Observer, accumulator: Accumulator, *, every: int, tell_moments: bool,
                 silent_s: float):
        self.feed, self.observer = feed, observer
        self.accumulator, self.trigger = accumulator, Trigger(accumulator.rules)
        self.slider = Slider(observer.recognizer.windowing, every)
        self.tell_moments, self.silent_s = tell_moments, silent_s
        self.newest: int | None = None
        self.is_away = self.is_silent = False
        self.abstains: str | None = None
        self.damaged = self.late = 0

    def events(self, stop: Callable[[], bool], pause: Callable[[], object], clock: Callable[[], float] = time.monotonic,
               ) -> Iterator[Event]:
        """Until `stop()`; `pause()` between two readings that brought nothing, `clock()` in seconds."""
        heard = clock()
        while not stop():
            try:
                frames = self.feed.read()
            except Unreachable as reason:
                if not self.is_away:
                    self.is_away = True
                    yield self.event("away", reason=str(reason))
                pause()
                continue
            if self.is_away:
                self.is_away = False
                yield self.event("back")
            for frame in frames:
                yield from self.take(frame)
            yield from self.count_damaged()
            if frames:
                heard, self.is_silent = clock(), False
                continue
            if not self.is_silent and clock() - heard >= self.silent_s:
                self.is_silent = True
                yield self.event("silent", seconds=round(clock() - heard, 1))
            pause()

    def take(self, frame: Frame) -> Iterator[Event]:
        if self.newest is not None and frame.time <= self.newest:
            self.late += 1
            return
        self.newest = frame.time
        for window in self.slider.push(frame):
            (moment,) = self.observer.observe([window])
            yield from self.tell(moment)

    def tell(self, moment: Moment) -> Iterator[Event]:
        if moment.abstained and not self.abstains:
            yield self.event("abstains", reason=moment.abstained)
        elif self.abstains and not moment.abstained:
            yield self.event("speaks")
        self.abstains = moment.abstained
        if self.tell_moments:
            yield self.event("moment", **to_record(moment, self.observer.recognizer.classes))
        alarm = self.trigger.take(moment, self.accumulator.take(moment))
        if alarm is not None:
            yield self.event("alarm", since_ms=alarm.since, evidence=round(alarm.evidence, 4))

    def count_damaged(self) -> Iterator[Event]:
        damaged = self.feed.damaged + self.late
        if damaged > self.damaged:
            yield self.event("damaged", frames=damaged - self.damaged)
            self.damaged = damaged

    def event(self, kind: str, **facts: Any) -> Event:
        return {"event": kind, "sensor": self.observer.recording, "time_ms": self.newest} | facts
