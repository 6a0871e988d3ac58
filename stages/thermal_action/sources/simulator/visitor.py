"""Carers: come through the door, stand by, walk to a person who lies, kneel or bend beside them, and leave."""

import numpy as np

from thermal_action.sources.simulator import body
from thermal_action.sources.simulator.actions import (
    BENDING,
    CROUCHING,
    KNEELING,
    LYING_BED,
    LYING_RISK,
    NORMAL_TRANSITION,
    STANDING,
    WALKING,
)
from thermal_action.sources.simulator.actor import Actor
from thermal_action.sources.simulator.resident import Resident


class Visitor(Actor):
    """A carer: comes, stands by or helps, goes. `presence` is the share of the time spent in the room."""

    def begin(self, presence: float, resident: Resident) -> None:
        self.presence, self.resident = presence, resident
        self.door = self.room.door
        self.time = float(self.rng.uniform(-50, 50 / max(presence, 0.01) - 50))

    def plan(self, until: float) -> None:
        while self.time < until and self.presence > 0:
            start = self.time
            self.visit(self.rng.uniform(18, 60))
            self.time += self.rng.uniform(0.5, 1.5) * (self.time - start) * (1 - self.presence) / self.presence

    def visit(self, stay: float) -> None:
        end = max(self.time, 0.0) + stay
        self.appear(self.time, *self.door, float(np.arctan2(-self.door[1], -self.door[0])))
        self.walk_to(*self.post())
        while self.time < end:
            if self.resident_down() and self.rng.random() < 0.6:
                self.help()
            else:
                self.stand_by(self.rng.uniform(6, 20))
        self.walk_to(*self.door)
        self.go(WALKING, 0.1, gait=0.0)

    def post(self) -> tuple[float, float]:
        """A place to stand and watch from, rather at the picture's edge and not on top of the resident."""
        near = self.resident_place()
        spots = [self.free_spot(0.25, reach=0.8) for _ in range(6)]
        edge = self.room.reach
        return max(spots, key=lambda spot: min(np.hypot(spot[0] - near[0], spot[1] - near[1]), 1.6)
                   + 1.2 * np.hypot(spot[0] / edge[0], spot[1] / edge[1]))

    def resident_place(self) -> tuple[float, float]:
        track = self.resident.track(self.time, self.time)
        return tuple(track.place[0])

    def resident_down(self) -> bool:
        return self.resident.label_at(self.time) in (LYING_RISK, LYING_BED)

    def stand_by(self, seconds: float) -> None:
        x, y = self.resident_place()
        self.go(STANDING, 0.6, heading=float(np.arctan2(y - self.y, x - self.x)), pose=self.upright)
        self.stay_standing(seconds)

    def help(self) -> None:
        """Beside the person who lies: stands, kneels, bends or crouches there."""
        x, y = self.resident_place()
        angle = np.arctan2(self.y - y, self.x - x) + self.rng.normal(0, 0.4)
        far = self.rng.uniform(0.75, 1.05)
        self.walk_to(x + far * np.cos(angle), y + far * np.sin(angle))
        facing = float(np.arctan2(y - self.y, x - self.x))
        self.go(STANDING, 0.6, heading=facing, pose=self.upright)
        choice = self.tally.choose([STANDING, KNEELING, BENDING, CROUCHING])
        if choice == KNEELING:
            self.go(NORMAL_TRANSITION, self.rng.uniform(0.9, 1.5), pose=body.kneeling(self.rng))
            self.hold(KNEELING, self.duration(KNEELING), 0.16)
            self.go(NORMAL_TRANSITION, self.rng.uniform(0.9, 1.5), pose=self.upright)
        elif choice == BENDING:
            self.go(BENDING, self.rng.uniform(0.6, 1.1), pose=body.bending(self.rng))
            self.hold(BENDING, self.duration(BENDING), 0.16, (0.6, 1.6))
            self.go(STANDING, 0.7, pose=self.upright)
        elif choice == CROUCHING:
            self.go(CROUCHING, self.rng.uniform(0.7, 1.2), pose=body.crouching(self.rng))
            self.hold(CROUCHING, self.duration(CROUCHING), 0.12)
            self.go(NORMAL_TRANSITION, self.rng.uniform(0.7, 1.2), pose=self.upright)
        else:
            self.stay_standing(self.rng.uniform(5, 14))
