"""A person who moves: key poses and labels, walking around furniture, standing and fidgeting."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

import numpy as np

from thermal_action.sources.simulator import body
from thermal_action.sources.simulator.actions import ACTIONS, STANDING, WALKING, Tally
from thermal_action.sources.simulator.body import Figure, Track
from thermal_action.sources.simulator.room import Furniture, Room, Stay

WALKING_SPEED_M_S = (0.7, 1.25)
# how many small movements a person makes where another makes one, from and to; who makes more makes larger ones
RESTLESS = (0.3, 2.0)
# arms and legs move more than the trunk
FIDGET_WEIGHT = np.array([0.08, 0.25, 0.2, 0.2, 0.9, 1, 1.2, 1, 1.2, 0.35, 0.5, 0.35, 0.5])[:, None]


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
        self.stays: deque[Stay] = deque()  # that no residue was made of yet
        self.stay: Stay | None = None  # the present one
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
        return self.room.free_spot(self.rng, margin, reach)

    def near_spot(self, margin: float = 0.3) -> tuple[float, float]:
        """The nearer of two such places."""
        spots = [self.free_spot(margin), self.free_spot(margin)]
        return min(spots, key=lambda spot: np.hypot(spot[0] - self.x, spot[1] - self.y))
