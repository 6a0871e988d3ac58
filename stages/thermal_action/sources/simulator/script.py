"""What people do: a seeded script of actions, written a little ahead of the camera, for one resident and visiting carers.

A resident goes from one action to the next; which comes next is decided by what its share of the person boxes still lacks.
Carers come through the door, stand by, walk to a person at risk, kneel or bend beside them, and leave.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from thermal_action.sources.simulator import body
from thermal_action.sources.simulator.body import Figure, Track
from thermal_action.sources.simulator.room import Furniture, Room

SITTING = "sitting"
STANDING = "standing"
WALKING = "walking"
LYING_RISK = "lying down-lying with risk"
LYING_BED = "lying down-lying on the bed/couch"
LEANING = "leaning"
NORMAL_TRANSITION = "transition-normal transition"
RISK_TRANSITION = "transition-lying with risk transition"
BED_TRANSITION = "transition-lying on the bed transition"
LOWER_OTHER = "lower position-other"
KNEELING = "lower position-kneeling"
BENDING = "lower position-bending"
CROUCHING = "lower position-crouching"
OTHER = "other"

# each action's share of the person boxes by default (as skewed as the real ones, in which two of the tail never
# occur), and for how many seconds it lasts, from and to
ACTIONS: dict[str, tuple[float, tuple[float, float]]] = {
    SITTING: (0.060, (6, 18)),
    STANDING: (0.150, (4, 25)),
    WALKING: (0.030, (3, 7)),
    LYING_RISK: (0.600, (20, 70)),
    LYING_BED: (0.070, (10, 28)),
    LEANING: (0.014, (4, 8)),
    NORMAL_TRANSITION: (0.035, (1.2, 2.4)),
    RISK_TRANSITION: (0.024, (1.3, 3.0)),
    BED_TRANSITION: (0.018, (1.6, 3.0)),
    LOWER_OTHER: (0.012, (3, 7)),
    KNEELING: (0.030, (4, 10)),
    BENDING: (0.018, (1.5, 4)),
    CROUCHING: (0.009, (3, 6)),
    OTHER: (0.012, (4, 8)),
}
# the script is written in steps of this many seconds, visitors one step behind the resident
STEP_S = 30.0
WALKING_SPEED_M_S = (0.7, 1.25)
# how many small movements a person makes where another makes one, from and to; who makes more makes larger ones
RESTLESS = (0.3, 2.0)
# where who watches from the door stands, on the way from the middle to the door: where the picture ends, 0.45, legs are left
DOORWAY = (0.36, 0.46)


class Tally:
    """Decides what comes next: every action earns its share of the time and pays for the time it was seen.

    weights: action -> wanted share on any scale; luck: any number, of which the fraction decides who begins with credit.
    """

    def __init__(self, weights: dict[str, float], luck: float):
        total = sum(weights.values())
        self.shares = {name: weight / total for name, weight in weights.items() if weight > 0}
        # an uneven start, so that a rare action shows in some sessions and not in others, as often as its share asks
        self.credit = {name: -(1 - share) * ((luck + 0.2887 * k) % 1) * mean_duration(name)
                       for k, (name, share) in enumerate(self.shares.items())}

    def spend(self, name: str, seconds: float) -> None:
        for other, share in self.shares.items():
            self.credit[other] += share * seconds
        if name in self.credit:
            self.credit[name] -= seconds

    def urge(self, name: str) -> float:
        """Seconds that an action is behind; -inf when it is not wanted at all."""
        return self.credit.get(name, -np.inf)

    def choose(self, names: Sequence[str]) -> str | None:
        """The action most behind among `names`; None when none of them is wanted."""
        wanted = [name for name in names if name in self.credit]
        return max(wanted, key=self.urge) if wanted else None


def mean_duration(name: str) -> float:
    return sum(ACTIONS[name][1]) / 2


class Actor:
    """One person's key poses and labels, appended in order of time; times in s since the session's start."""

    def __init__(self, rng: np.random.Generator, room: Room, tally: Tally, labels: Sequence[str]):
        self.rng, self.room, self.tally, self.labels = rng, room, tally, set(labels)
        self.figure = Figure.draw(rng)
        self.restless = float(rng.uniform(*RESTLESS))
        self.keys: deque[tuple] = deque()
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.names: list[str] = []
        self.stays: deque[tuple[float, float, str]] = deque()
        self.time = 0.0
        self.x, self.y, self.heading, self.walked = 0.0, 0.0, 0.0, 0.0
        self.gait, self.blanket, self.support = 0.0, 0.0, 0.0
        self.pose = self.upright = body.standing(rng)
        self.posture = STANDING
        self.on: Furniture | None = None

    def put_key(self) -> None:
        self.keys.append((self.time, self.x, self.y, self.heading, self.walked, self.gait, self.blanket, self.support, self.pose))

    def appear(self, time: float, x: float, y: float, heading: float) -> None:
        self.time, self.x, self.y, self.heading, self.gait = time, x, y, heading, 0.0
        self.put_key()

    def go(self, label: str, seconds: float, *, to: tuple[float, float] | None = None, heading: float | None = None,
           pose: np.ndarray | None = None, gait: float = 0.0, blanket: float | None = None, support: float | None = None) -> None:
        """The next key, `seconds` later; what is not given stays. The time counts for `label`."""
        if to is not None:
            self.walked += float(np.hypot(to[0] - self.x, to[1] - self.y)) * (gait > 0)
            self.x, self.y = map(float, to)
        if heading is not None:
            self.heading += (heading - self.heading + np.pi) % (2 * np.pi) - np.pi
        self.pose = self.pose if pose is None else pose
        self.blanket = self.blanket if blanket is None else blanket
        self.support = self.support if support is None else support
        self.gait = gait
        self.add_segment(label, self.time, self.time + seconds)
        self.time += seconds
        self.put_key()

    def add_segment(self, label: str, start: float, end: float) -> None:
        self.tally.spend(label, end - start)
        if self.names and self.names[-1] == label and self.ends[-1] == start:
            self.ends[-1] = end
        else:
            self.starts.append(start)
            self.ends.append(end)
            self.names.append(label)

    def label_at(self, time: float) -> str | None:
        """The action at a time; None when the person is away or does something not asked for."""
        index = bisect_right(self.starts, time) - 1
        if index < 0 or time >= self.ends[index]:
            return None
        return self.names[index] if self.names[index] in self.labels else None

    def present(self, time: float) -> bool:
        index = bisect_right(self.starts, time) - 1
        return index >= 0 and time < self.ends[index]

    def forget(self, before: float) -> None:
        """Drops what no frame from `before` on needs."""
        while len(self.keys) > 2 and self.keys[1][0] < before:
            self.keys.popleft()
        passed = bisect_right(self.ends, before)
        del self.starts[:passed], self.ends[:passed], self.names[:passed]

    def track(self, start: float, end: float) -> Track:
        """The keys around a stretch of time."""
        keys = list(self.keys)
        times = [key[0] for key in keys]
        first = max(0, bisect_right(times, start) - 1)
        last = min(len(keys), bisect_right(times, end) + 1)
        chosen = keys[max(0, min(first, last - 2)) : last]
        columns = [np.array(column) for column in zip(*chosen, strict=True)]
        return Track(columns[0], np.stack(columns[1:3], axis=1), *columns[3:])

    def fidget(self, amount: float) -> np.ndarray:
        pose = self.pose + self.rng.normal(0, amount, self.pose.shape) * FIDGET_WEIGHT
        pose[1:] /= np.linalg.norm(pose[1:], axis=1, keepdims=True)
        return pose

    def hold(self, label: str, seconds: float, amount: float = 0.10, every: tuple[float, float] = (1.5, 5.0)) -> None:
        """Stays in a posture, with small movements around it now and then."""
        rest, end = self.pose, self.time + seconds
        amount, every = amount * self.restless**0.5, (every[0] / self.restless, every[1] / self.restless)
        while end - self.time > 1.0:
            pause = min(self.rng.uniform(*every), end - self.time - 0.7)
            if pause > 0.05:
                self.go(label, pause)
            self.pose = rest
            self.go(label, min(self.rng.uniform(0.4, 1.0), end - self.time), pose=self.fidget(amount),
                    heading=self.heading + self.rng.normal(0, amount))
        if end > self.time:
            self.go(label, end - self.time)

    def stay_standing(self, seconds: float) -> None:
        """On one's feet, with a step aside and a look elsewhere now and then."""
        end = self.time + seconds
        while end - self.time > 0.1:
            self.pose = self.upright
            self.hold(STANDING, min(self.rng.uniform(3, 10) / self.restless, end - self.time), 0.12)
            distance, angle = self.rng.uniform(0.1, 0.4), self.rng.uniform(0, 2 * np.pi)
            place = self.x + distance * np.cos(angle), self.y + distance * np.sin(angle)
            inside = all(abs(at) < reach for at, reach in zip(place, self.room.reach, strict=True))
            if end - self.time > 1.0 and inside and self.room.is_free(*place, 0.1):
                self.go(STANDING, self.rng.uniform(0.5, 0.9), to=place, heading=self.heading + self.rng.normal(0, 0.6), gait=0.5)

    def duration(self, label: str) -> float:
        return float(self.rng.uniform(*ACTIONS[label][1]))

    def walk_to(self, x: float, y: float, label: str = WALKING) -> None:
        """Walks around furniture where a way is found; turns while walking."""
        for target in [*self.way_around(x, y), (x, y)]:
            distance = float(np.hypot(target[0] - self.x, target[1] - self.y))
            if distance < 0.05:
                continue
            heading = float(np.arctan2(target[1] - self.y, target[0] - self.x))
            seconds = max(0.4, distance / self.rng.uniform(*WALKING_SPEED_M_S))
            early = min(0.45, 0.5 * seconds)
            share = early / seconds
            start = self.x, self.y
            self.go(label, early, to=(start[0] + share * (target[0] - start[0]), start[1] + share * (target[1] - start[1])),
                    heading=heading, pose=self.upright, gait=1.0)
            self.go(label, seconds - early, to=target, gait=1.0)

    def way_around(self, x: float, y: float) -> list[tuple[float, float]]:
        def blocked(ax, ay, bx, by):
            # the ends may touch furniture: one starts at a bed and ends at a chair
            along = np.linspace(0.12, 0.88, 9)
            return sum(not self.room.is_free(ax + t * (bx - ax), ay + t * (by - ay), 0.12) for t in along)

        best, cost = [], blocked(self.x, self.y, x, y)
        for _ in range(6 if cost else 0):
            via = self.free_spot(0.25)
            now = blocked(self.x, self.y, *via) + blocked(*via, x, y) + 1
            if now < cost:
                best, cost = [via], now
        return best

    def free_spot(self, margin: float = 0.35, reach: float = 0.68) -> tuple[float, float]:
        """A place on the floor that is in view and not in furniture (the last of 40 tries if none is)."""
        for _ in range(40):
            x, y = (float(self.rng.uniform(-1, 1) * half * reach) for half in self.room.reach)
            if self.room.is_free(x, y, margin):
                break
        return x, y

    def near_spot(self, margin: float = 0.3) -> tuple[float, float]:
        """The nearer of two such places."""
        spots = [self.free_spot(margin), self.free_spot(margin)]
        return min(spots, key=lambda spot: np.hypot(spot[0] - self.x, spot[1] - self.y))


# arms and legs move more than the trunk
FIDGET_WEIGHT = np.array([0.08, 0.25, 0.2, 0.2, 0.9, 1, 1.2, 1, 1.2, 0.35, 0.5, 0.35, 0.5])[:, None]


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
        self.stays.append((self.time, np.inf, kind))

    def stays_end(self) -> None:
        if self.stays and self.stays[-1][1] == np.inf:
            self.stays[-1] = (self.stays[-1][0], self.time, self.stays[-1][2])

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


class Visitor(Actor):
    """A carer: comes, stands by or helps, or only watches from the door, and goes.

    `presence` is the share of the time spent in the room, `doorway` the share of visits spent at the door.
    """

    def begin(self, presence: float, doorway: float, resident: Resident) -> None:
        self.presence, self.doorway, self.resident = presence, doorway, resident
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
        watches = self.doorway > 0 and self.rng.random() < self.doorway
        self.walk_to(*(self.threshold() if watches else self.post()))
        while self.time < end:
            if not watches and self.resident_down() and self.rng.random() < 0.6:
                self.help()
            else:
                self.stand_by(self.rng.uniform(6, 20))
        self.walk_to(*self.door)
        self.go(WALKING, 0.1, gait=0.0)

    def threshold(self) -> tuple[float, float]:
        share = self.rng.uniform(*DOORWAY)
        return share * self.door[0], share * self.door[1]

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


class Script:
    """The people of one session, written ahead in fixed steps so that the same seed gives the same play."""

    def __init__(self, seed: list[int], room: Room, labels: Sequence[str], tally: Tally, people: int, presence: float,
                 doorway: float):
        self.resident = Resident(np.random.default_rng([*seed, 1]), room, tally, labels)
        self.resident.begin()
        self.visitors = [Visitor(np.random.default_rng([*seed, 2 + k]), room, tally, labels) for k in range(people - 1)]
        for visitor in self.visitors:
            visitor.begin(presence, doorway, self.resident)
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
