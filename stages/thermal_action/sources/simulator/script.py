"""What the people of a session do, written a little ahead of the camera."""

from collections.abc import Sequence

import numpy as np

from thermal_action.sources.simulator.actions import Tally
from thermal_action.sources.simulator.actor import Actor
from thermal_action.sources.simulator.resident import Resident
from thermal_action.sources.simulator.room import Room
from thermal_action.sources.simulator.visitor import Visitor

# the script is written in steps of this many seconds, visitors one step behind the resident
STEP_S = 30.0


class Script:
    """The people of one session, written ahead in fixed steps so that the same seed gives the same play."""

    def __init__(self, seed: list[int], room: Room, labels: Sequence[str], tally: Tally, people: int, presence: float):
        self.resident = Resident(np.random.default_rng([*seed, 1]), room, tally, labels)
        self.resident.begin()
        self.visitors = [Visitor(np.random.default_rng([*seed, 2 + k]), room, tally, labels) for k in range(people - 1)]
        for visitor in self.visitors:
            visitor.begin(presence, self.resident)
        self.written = 0.0

    @property
    def actors(self) -> list[Actor]:
        return [self.resident, *self.visitors]

    def write(self, until: float) -> None:
        while self.written < until:
            self.written += STEP_S
            self.resident.plan(self.written + 4 * STEP_S)
            for visitor in self.visitors:
                visitor.plan(self.written)

    def forget(self, before: float) -> None:
        for actor in self.actors:
            actor.forget(before)
