"""The one who lives in the room: goes from one action to the next, as what was seen so far asks for."""

from collections.abc import Callable

import numpy as np

from thermal_action.sources.simulator import body
from thermal_action.sources.simulator.actions import (
    BED_TRANSITION,
    BENDING,
    CROUCHING,
    KNEELING,
    LEANING,
    LOWER_OTHER,
    LYING_BED,
    LYING_RISK,
    NORMAL_TRANSITION,
    OTHER,
    RISK_TRANSITION,
    SITTING,
    STANDING,
    WALKING,
)
from thermal_action.sources.simulator.actor import Actor
from thermal_action.sources.simulator.room import Furniture, Stay


class Resident(Actor):
    """Lives in the room: every action is a method that begins and ends in some posture."""

    def begin(self) -> None:
        x, y = self.free_spot(0.3)
        self.appear(0.0, x, y, float(self.rng.uniform(0, 2 * np.pi)))
        self.routines: dict[str, Callable[[], None]] = {
            SITTING: self.sit, STANDING: self.stand, WALKING: self.walk, LYING_RISK: self.lie_at_risk, LYING_BED: self.lie_on_bed,
            LEANING: self.lean, NORMAL_TRANSITION: self.sit_and_rise, RISK_TRANSITION: self.fall_briefly,
            BED_TRANSITION: self.lie_down_briefly, LOWER_OTHER: self.stay_low, KNEELING: self.kneel, BENDING: self.bend,
            CROUCHING: self.crouch, OTHER: self.exercise,
        }

    def plan(self, until: float) -> None:
        while self.time < until:
            goal = self.tally.choose(list(self.routines)) or STANDING
            self.routines[goal]()

    def rise(self) -> None:
        """To standing, from whatever posture."""
        if self.posture in ("chair", "bed edge"):
            self.leave_seat()
        elif self.posture == "bed":
            self.sit_up_on_bed()
            self.leave_seat()
        elif self.posture == "floor":
            self.get_up_from_floor()
        elif self.posture == "low":
            self.go(NORMAL_TRANSITION, self.rng.uniform(0.9, 1.8), pose=self.upright)
        self.posture, self.on = STANDING, None

    def leave_seat(self) -> None:
        seat, front = self.on, self.front_of(self.on)
        self.stays_end()
        self.go(NORMAL_TRANSITION, self.duration(NORMAL_TRANSITION), to=front, pose=self.upright, support=0.0, blanket=0.0)
        self.on = seat

    def sit_up_on_bed(self) -> None:
        """Lying on a bed -> its edge, feet on the floor: a normal transition, as the annotators call it."""
        bed = self.on
        self.stays_end()
        edge, heading = self.edge_of(bed)
        self.go(NORMAL_TRANSITION, self.rng.uniform(1.6, 2.8), to=edge, heading=heading, pose=body.sitting(self.rng),
                blanket=0.0, support=bed.height)
        self.posture = "bed edge"
        if SITTING in self.labels and self.rng.random() < 0.5:
            self.hold(SITTING, self.rng.uniform(1.5, 4.0))

    def get_up_from_floor(self) -> None:
        self.stays_end()
        middle = body.sitting_on_floor if self.rng.random() < 0.5 else body.on_all_fours
        if self.rng.random() < 0.8:
            self.go(NORMAL_TRANSITION, self.rng.uniform(1.2, 2.4), pose=middle(self.rng))
        if self.rng.random() < 0.7 or self.tally.urge(KNEELING) > 0:
            self.go(NORMAL_TRANSITION, self.rng.uniform(0.8, 1.4), pose=body.kneeling(self.rng))
            if KNEELING in self.labels and self.tally.urge(KNEELING) > -3:
                self.hold(KNEELING, self.rng.uniform(1.5, 5.0))
        self.go(NORMAL_TRANSITION, self.rng.uniform(1.0, 2.0), pose=self.upright)

    def stays_begin(self, kind: str) -> None:
        self.stay = Stay(self.time, np.inf, kind)
        self.stays.append(self.stay)

    def stays_end(self) -> None:
        if self.stay:
            self.stay.end, self.stay = self.time, None

    def front_of(self, seat: Furniture) -> tuple[float, float]:
        heading = self.heading_of(seat)
        return self.x + 0.42 * float(np.cos(heading)), self.y + 0.42 * float(np.sin(heading))

    def heading_of(self, seat: Furniture) -> float:
        return self.heading if seat.kind != "chair" else seat.heading

    def edge_of(self, bed: Furniture) -> tuple[tuple[float, float], float]:
        """The place to sit on the long side that is nearer to the middle of the room, and which way one faces there."""
        sides = [bed.place(0.0, side * (bed.width / 2 - 0.15)) for side in (-1, 1)]
        sides = sorted(sides, key=lambda place: np.hypot(*place))
        chosen = sides[0]
        heading = float(np.arctan2(chosen[1] - bed.y, chosen[0] - bed.x))
        along = self.rng.uniform(-0.2, 0.2) * bed.length
        cos, sin = np.cos(bed.heading), np.sin(bed.heading)
        return (float(chosen[0] + along * cos), float(chosen[1] + along * sin)), heading

    def take_seat(self) -> None:
        seats = self.room.seats
        chairs = [seat for seat in seats if seat.kind == "chair"]
        seat = seats[self.rng.integers(len(seats))] if self.rng.random() < 0.4 else chairs[self.rng.integers(len(chairs))]
        if seat.kind == "chair":
            place, heading = (seat.x, seat.y), seat.heading
        else:
            place, heading = self.edge_of(seat)
        self.sit_down(seat, place, heading)

    def sit_down(self, seat: Furniture, place: tuple[float, float], heading: float) -> None:
        self.rise()
        self.walk_to(place[0] + 0.45 * np.cos(heading), place[1] + 0.45 * np.sin(heading))
        turn = self.rng.uniform(0.4, 0.8)
        self.go(STANDING if abs(self.rng.normal()) > 1 else NORMAL_TRANSITION, turn, heading=heading, pose=self.upright)
        self.go(NORMAL_TRANSITION, self.duration(NORMAL_TRANSITION), to=place, heading=heading, pose=body.sitting(self.rng),
                support=seat.height)
        self.posture, self.on = ("chair" if seat.kind == "chair" else "bed edge"), seat
        self.stays_begin("chair")

    def sit(self) -> None:
        if self.posture not in ("chair", "bed edge"):
            self.take_seat()
        self.hold(SITTING, self.duration(SITTING), 0.12)

    def sit_and_rise(self) -> None:
        if self.posture not in ("chair", "bed edge"):
            self.take_seat()
        if SITTING in self.labels:
            self.hold(SITTING, self.rng.uniform(1.0, 2.5))
        self.rise()

    def stand(self) -> None:
        self.rise()
        if self.rng.random() < 0.5:
            self.walk_to(*self.near_spot())
        self.go(STANDING, 0.4, pose=self.upright, heading=self.heading + self.rng.normal(0, 0.5))
        self.stay_standing(self.duration(STANDING))

    def walk(self) -> None:
        self.rise()
        end = self.time + self.duration(WALKING)
        while self.time < end:
            self.walk_to(*self.free_spot(reach=0.75))
        self.go(STANDING, 0.5, pose=self.upright)

    def lean(self) -> None:
        self.rise()
        if self.rng.random() < 0.7:
            piece = self.room.furniture[self.rng.integers(len(self.room.furniture))]
            away = np.arctan2(-piece.y, -piece.x) + self.rng.normal(0, 0.4)
            far, edge = piece.width / 2 + 0.65, 0.7 * np.array(self.room.reach)
            self.walk_to(*np.clip((piece.x + far * np.cos(away), piece.y + far * np.sin(away)), -edge, edge))
            self.go(STANDING, 0.6, heading=float(np.arctan2(piece.y - self.y, piece.x - self.x)), pose=self.upright)
        else:
            self.walk_to(*self.free_spot(reach=0.75))
        self.go(LEANING, 0.8, pose=body.leaning(self.rng))
        self.hold(LEANING, self.duration(LEANING), 0.08)
        self.go(STANDING, 0.7, pose=self.upright)

    def lower(self, label: str, pose: np.ndarray, seconds_down: float, transition: bool) -> None:
        """Down into a low posture; going there is called a transition, or already the posture."""
        self.rise()
        if self.rng.random() < 0.45:
            self.walk_to(*self.near_spot())
        self.go(NORMAL_TRANSITION if transition else label, seconds_down, pose=pose)
        self.posture = "low"

    def kneel(self) -> None:
        self.lower(KNEELING, body.kneeling(self.rng), self.rng.uniform(0.9, 1.6), True)
        self.hold(KNEELING, self.duration(KNEELING), 0.14)

    def crouch(self) -> None:
        self.lower(CROUCHING, body.crouching(self.rng), self.rng.uniform(0.7, 1.2), False)
        self.hold(CROUCHING, self.duration(CROUCHING), 0.12)

    def bend(self) -> None:
        self.lower(BENDING, body.bending(self.rng), self.rng.uniform(0.6, 1.1), False)
        self.hold(BENDING, self.duration(BENDING), 0.16, (0.6, 1.6))
        self.go(STANDING, 0.7, pose=self.upright)
        self.posture = STANDING

    def stay_low(self) -> None:
        """On all fours, creeping, or sitting on the floor."""
        creep = self.rng.random() < 0.5
        pose = (body.on_all_fours if creep else body.sitting_on_floor)(self.rng)
        self.lower(LOWER_OTHER, pose, self.rng.uniform(1.0, 1.8), True)
        if not creep:
            self.hold(LOWER_OTHER, self.duration(LOWER_OTHER), 0.12)
            return
        for _ in range(int(self.duration(LOWER_OTHER) / 0.9)):
            ahead = 0.22 * self.rng.uniform(0.6, 1.2)
            self.go(LOWER_OTHER, 0.9, to=(self.x + ahead * np.cos(self.heading), self.y + ahead * np.sin(self.heading)),
                    pose=self.fidget(0.2), heading=self.heading + self.rng.normal(0, 0.15))

    def exercise(self) -> None:
        """Something that none of the other names fits: arms up and out, on the spot."""
        self.rise()
        if self.rng.random() < 0.45:
            self.walk_to(*self.near_spot())
        end = self.time + self.duration(OTHER)
        beat = self.rng.uniform(0.5, 0.9)
        while self.time < end:
            self.go(OTHER, beat, pose=body.arms_up(self.rng))
            self.go(OTHER, beat, pose=body.arms_wide(self.rng))
        self.go(STANDING, 0.5, pose=self.upright)

    def lying_place(self) -> tuple[tuple[float, float], float]:
        """Where on the floor, near here, a whole body fits, and which way the feet point."""
        best, half = None, self.room.reach
        for _ in range(40):
            # along the longer side of the room more often than across
            spread = 0.45 if self.rng.random() < 0.65 else 3.0
            heading = float(self.rng.choice([0, np.pi]) + self.room.turn + self.rng.normal(0, spread))
            distance, angle = self.rng.uniform(0.1, 0.7), self.rng.uniform(0, 2 * np.pi)
            x, y = self.x + distance * np.cos(angle), self.y + distance * np.sin(angle)
            points = [(x + t * np.cos(heading), y + t * np.sin(heading)) for t in (-0.7, -0.35, 0, 0.4, 0.8)]
            cost = sum(not self.room.is_free(*point, 0.10) for point in points)
            cost += sum(2 * (abs(px) > 0.98 * half[0]) + 2 * (abs(py) > 0.98 * half[1]) for px, py in points)
            if best is None or cost < best[0]:
                best = cost, (x, y), heading
            if cost == 0:
                break
        return best[1], best[2]

    def go_down(self) -> None:
        """Onto the floor with risk: a fall from standing, off a seat or out of bed, or sinking down over the knees."""
        if self.posture in ("chair", "bed", "bed edge") and self.rng.random() < 0.5:
            self.stays_end()
            front = self.edge_of(self.on)[1] if self.posture == "bed" else self.heading
            reach = self.on.width / 2 + 0.35 if self.posture == "bed" else 0.55
            self.x, self.y, back = self.x + reach * np.cos(front), self.y + reach * np.sin(front), (self.x, self.y)
            target, heading = self.lying_place()
            self.x, self.y = back
        else:
            self.rise()
            if self.rng.random() < 0.6:
                self.walk_to(*self.near_spot())
            if not self.room.is_free(self.x, self.y, 0.3):
                self.walk_to(*self.near_spot())
            target, heading = self.lying_place()
        pose = self.pose_on_floor()
        middle = ((self.x + target[0]) / 2, (self.y + target[1]) / 2)
        turn = (heading - self.heading + np.pi) % (2 * np.pi) - np.pi
        if self.rng.random() < 0.65:
            seconds = self.rng.uniform(1.0, 2.0)
            self.go(RISK_TRANSITION, 0.45 * seconds, to=middle, heading=self.heading + 0.4 * turn, pose=body.collapsing(self.rng),
                    support=0.0, blanket=0.0)
            self.go(RISK_TRANSITION, 0.55 * seconds, to=target, heading=heading, pose=pose)
        else:
            first = body.kneeling if self.rng.random() < 0.5 else body.on_all_fours
            self.go(RISK_TRANSITION, self.rng.uniform(0.8, 1.4), to=middle, pose=first(self.rng), support=0.0, blanket=0.0)
            self.go(RISK_TRANSITION, self.rng.uniform(1.0, 2.0), to=target, heading=heading, pose=pose)
        self.posture, self.on = "floor", None
        self.stays_begin("floor")

    def lie_at_risk(self) -> None:
        if self.posture != "floor":
            self.go_down()
        end = self.time + self.duration(LYING_RISK)
        while self.time < end:
            seconds = min(self.rng.uniform(5, 20), max(end - self.time, 1.0))
            self.hold(LYING_RISK, seconds, self.rng.choice([0.05, 0.12, 0.3, 0.5]))
            if self.rng.random() < 0.4 and end - self.time > 4:
                # rolls over, draws up the legs or props themselves up
                self.go(LYING_RISK, self.rng.uniform(1.0, 2.2), pose=self.pose_on_floor(),
                        heading=self.heading + self.rng.normal(0, 0.25))

    def pose_on_floor(self) -> np.ndarray:
        return (body.propped if self.rng.random() < 0.15 else body.lying)(self.rng)

    def fall_briefly(self) -> None:
        if self.posture == "floor":
            self.rise()
        self.go_down()
        if LYING_RISK in self.labels:
            self.hold(LYING_RISK, self.rng.uniform(2.0, 5.0))
        else:
            self.rise()

    def lie_down(self) -> None:
        beds = self.room.beds
        if self.posture == "bed edge" and self.on in beds:
            bed = self.on
        else:
            bed = beds[self.rng.integers(len(beds))]
            self.sit_down(bed, *self.edge_of(bed))
            if SITTING in self.labels and self.rng.random() < 0.4:
                self.hold(SITTING, self.rng.uniform(1.0, 3.0))
        self.stays_end()
        across, along = self.rng.normal(0, 0.07), self.rng.normal(0.08, 0.06)
        self.go(BED_TRANSITION, self.duration(BED_TRANSITION), to=bed.place(along, across),
                heading=bed.heading + self.rng.normal(0, 0.12), pose=body.lying(self.rng), support=bed.height)
        self.posture, self.on = "bed", bed
        self.stays_begin("bed")

    def lie_on_bed(self) -> None:
        if self.posture != "bed":
            self.lie_down()
        if self.on.kind == "bed" and self.blanket == 0 and self.rng.random() < 0.4:
            self.go(LYING_BED, self.rng.uniform(1.5, 3.0), blanket=float(self.rng.uniform(0.5, 1.0)), pose=self.fidget(0.2))
        end = self.time + self.duration(LYING_BED)
        while self.time < end:
            self.hold(LYING_BED, min(self.rng.uniform(5, 15), max(end - self.time, 1.0)), self.rng.choice([0.05, 0.12, 0.2]))

    def lie_down_briefly(self) -> None:
        if self.posture == "bed":
            self.rise()
        self.lie_down()
        if LYING_BED in self.labels:
            self.hold(LYING_BED, self.rng.uniform(2.0, 5.0))
        else:
            self.rise()
