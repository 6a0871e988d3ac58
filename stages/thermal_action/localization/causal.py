"""What is said of a recording while it goes on: each segment once, a fixed delay after its end.

At every look at what there is until now, a model finds segments anew. One that ends at t counts if it was found at t + delay at
the latest, from nothing that came later. The last that counts is the one that is said, at the first look after t + delay, unless
that look has it go on.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from thermal_action.features import Look
from thermal_action.localization.checkpoints import Localizer
from thermal_action.localization.inference import find
from thermal_action.localization.segments import Segment, is_among, suppress

REMEMBERED = 1000  # segments said, among which a new one is looked for


class Said(NamedTuple):
    """A segment, and when it was said (s); None where it was not before all was known."""

    segment: Segment
    time: float | None


@dataclass
class Speaker:
    """Says segments that are scored `least` or more, `delay` seconds after their end."""

    delay: float
    least: float
    pending: list[Segment] = field(default_factory=list)
    said: deque[Segment] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def take(self, now: float, found: Iterable[Segment]) -> list[Segment]:
        """What is to be said at `now` (s), with the segments that were found in what there is until then."""
        sure = sorted((each for each in found if each.score >= self.least and each.end > each.start),
                      key=lambda each: (-each.score, each.start, each.end))
        sure, limit = list(suppress(sure)), now - self.delay
        late = [each for each in sure if each.end < limit]
        ahead = [each for each in sure if each.end >= limit and not is_among(each, self.said)]
        unrevised = [each for each in self.pending if not is_among(each, ahead)]
        due = [each for each in unrevised if each.end < limit]
        self.said += due
        # what only this look, and too late, has end earlier stands as it was
        self.pending = ahead + [each for each in unrevised if each.end >= limit and is_among(each, late)]
        return due

    def finish(self) -> list[Segment]:
        """What is left to say when the recording has ended."""
        return self.pending


def find_again(localizer: Localizer, looks: Iterable[Look]) -> Iterator[tuple[float, list[Segment]]]:
    """When each look at a recording was (s), and the segments (s from its first frame) that are found in what was known."""
    for now, first, rows in looks:
        start_s = first * localizer.features.step_s
        yield now, find(localizer, rows, now - start_s, start_s) if len(rows) else []


def say(looks: Iterable[tuple[float, list[Segment]]], delay: float, least: float) -> Iterator[Said]:
    """Everything that is said of a recording. looks: time (s) and what was found at it, in order, the last at its end."""
    speaker, now = Speaker(delay, least), 0.0
    for now, found in looks:
        yield from (Said(segment, now) for segment in speaker.take(now, found))
    yield from (Said(segment, now) for segment in speaker.finish())
