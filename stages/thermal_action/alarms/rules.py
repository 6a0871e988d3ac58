"""From moments to alarms. Every rule is a parameter; those of who is no concern can be switched off.

    evidence   of each person: how likely the watched action or its onset is, times how sure the detector is
    bed        who lies on a bed is no concern, be it one that annotators drew or one that the model sees; and what is called
               lying on a bed counts as well as far as no bed is there, nor a chair that annotators drew;
    size       nor is who is seen too small for somebody who lies, as a cat is,
    carer      nor somebody beside whom another person stands
    smoothing  the evidence of the room is that of the person for whom it is largest; what it is above `even` adds up over the
               seconds, what it is below takes away, from 0 to `most` (a cumulative sum: Page, Biometrika 1954)
    alarm      the sum rose above `raise_at` and stayed above `clear_at` for `hold_s`; the next one not before `quiet_s` later
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from thermal_action import InputError
from thermal_action.alarms.furniture import Furniture
from thermal_action.boxes import centres, overlap, sizes
from thermal_action.moments import Moment
from thermal_action.params import Field, section

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
# what one moment says is true for so many seconds at most
LONGEST_S = 2.0


@section
class Rules:
    """The section `rules`."""

    action: str
    onset: str | None
    even: Share
    most: Seconds
    raise_at: Seconds
    clear_at: Seconds
    hold_s: Seconds
    quiet_s: Seconds
    beds: Literal["drawn", "seen", "none"]
    bed_share: Share
    off_bed: str | None
    least_px: Annotated[float, Field(ge=0, le=200)]
    carer_px: Annotated[float, Field(ge=0, le=200)]


def check_rules(rules: Rules, classes: Sequence[str], place: str | Path) -> None:
    """InputError, naming `place`, for rules about an action that the model does not know, or that contradict each other."""
    counted: dict[str | None, str] = {}
    for name in ("action", "onset", "off_bed"):
        action = getattr(rules, name)
        if action is not None and action not in classes:
            raise InputError(f"{place}: rules.{name} {action!r} is none of the classes ({', '.join(classes)}): choose one")
        if action is not None and action in counted:
            raise InputError(f"{place}: rules.{name} is rules.{counted[action]}, {action!r}, which counts anyway: choose another"
                             " or null")
        counted[action] = name
    for low, high in (("clear_at", "raise_at"), ("raise_at", "most")):
        if getattr(rules, low) > getattr(rules, high):
            raise InputError(f"{place}: rules.{low} {getattr(rules, low)} must not be above rules.{high} {getattr(rules, high)}")


@dataclass(frozen=True)
class Alarm:
    """Raised at `time`, when the frame came that raised it, for what has been going on since `since`; both ms. evidence: s."""

    recording: str
    time: int
    since: int
    evidence: float


@dataclass
class Accumulator:
    """The evidence of one sensor, added up; moments are taken in order.

    classes: of the model. furniture: what is drawn. size: (H, W) of the picture in pixels.
    """

    rules: Rules
    classes: Sequence[str]
    furniture: Furniture
    size: tuple[int, int]
    total: float = 0.0
    last: int | None = None  # time of the last moment, ms

    def take(self, moment: Moment) -> float:
        """The sum, in seconds of certainty; where nothing is said, all stays as it was."""
        if not moment.abstained:
            seconds = 0.0 if self.last is None else min((moment.time - self.last) / 1000, LONGEST_S)
            evidence = evidence_of(moment, self.classes, self.rules, self.furniture, self.size)
            self.total = min(max(self.total + seconds * (evidence - self.rules.even), 0.0), self.rules.most)
        self.last = moment.time
        return self.total


@dataclass
class Trigger:
    """Raises the alarms of one sensor by its sum of evidence; moments are taken in order."""

    rules: Rules
    candidate: int | None = None  # since when it is above clear_at,
    since: int | None = None  # and the same once it was above raise_at, ms
    raised: bool = False  # for what is going on now
    quiet_until: int = -1

    def take(self, moment: Moment, total: float) -> Alarm | None:
        if total < self.rules.clear_at:
            self.candidate, self.since, self.raised = None, None, False
            return None
        self.candidate = moment.time if self.candidate is None else self.candidate
        if total >= self.rules.raise_at and self.since is None:
            self.since = self.candidate
        held = self.since is not None and moment.time - self.since >= 1000 * self.rules.hold_s
        if not held or self.raised or moment.known < self.quiet_until:
            return None
        self.raised = True
        self.quiet_until = moment.known + round(1000 * self.rules.quiet_s)
        return Alarm(moment.recording, moment.known, self.since, total)


def evidence_of(moment: Moment, classes: Sequence[str], rules: Rules, furniture: Furniture, size: tuple[int, int]) -> float:
    """The largest evidence of a person whom no rule excuses, 0 to 1."""
    if not moment.persons:
        return 0.0
    boxes = np.array([person.box for person in moment.persons])
    likely = sum(np.array([person.probabilities[classes.index(name)] for person in moment.persons])
                 for name in (rules.action, rules.onset) if name is not None)
    if rules.beds == "seen" or rules.beds == "drawn" and len(furniture.beds):
        on_bed = within(boxes, furniture.beds) if rules.beds == "drawn" else np.array([each.on_bed for each in moment.persons])
        if rules.off_bed is not None:
            on_any = np.maximum(on_bed, within(boxes, furniture.seats)) if rules.beds == "drawn" else on_bed
            other = classes.index(rules.off_bed)
            likely += (1 - on_any) * [person.probabilities[other] for person in moment.persons]
        likely[on_bed >= rules.bed_share] = 0
    likely[np.linalg.norm(sizes(boxes) * (size[1], size[0]), axis=1) < rules.least_px] = 0
    evidence = likely * [person.score for person in moment.persons]
    if rules.carer_px:
        evidence[accompanied(moment, boxes, classes.index(rules.action), rules.carer_px, size)] = 0
    return float(evidence.max())


def within(boxes: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """float [N]: the largest share of each box [N, 4] that one of the pieces [M, 4] holds; 0 where there is none."""
    shared = overlap(boxes[:, None], pieces[None]).max(axis=1, initial=0)
    return shared / np.maximum(np.prod(sizes(boxes), axis=1), 1e-9)


def accompanied(moment: Moment, boxes: np.ndarray, label: int, reach_px: float, size: tuple[int, int]) -> np.ndarray:
    """bool [N]: who has somebody beside them, nearer than `reach_px`, who does something else than the watched action."""
    middles = centres(boxes) * (size[1], size[0])
    upright = np.array([person.action != label for person in moment.persons])
    near = np.linalg.norm(middles[:, None] - middles[None], axis=2) <= reach_px
    np.fill_diagonal(near, False)
    return (near & upright[None]).any(axis=1)


def raise_alarms(moments: Iterable[Moment], totals: Iterable[float], rules: Rules) -> list[Alarm]:
    """The alarms of one recording, of which the sums of evidence are known: they do not depend on when rules raise an alarm."""
    trigger = Trigger(rules)
    raised = (trigger.take(moment, total) for moment, total in zip(moments, totals, strict=True))
    return [alarm for alarm in raised if alarm is not None]
