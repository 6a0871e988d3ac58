"""A cat or a dog: sleeps on the floor, on a chair or at the foot of a bed, sits, walks about, goes out and comes back."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from thermal_action.sources.simulator.camera import PSF_SIGMA_PX, Camera
from thermal_action.sources.simulator.room import Room


@dataclass(frozen=True)
class Kind:
    """From and to: length from rump to head, radius of the trunk and height of its middle (m), warmth of the fur above the room
    (C), speed (m/s)."""

    length: tuple[float, float]
    radius: tuple[float, float]
    height: tuple[float, float]
    warmth: tuple[float, float]
    speed: tuple[float, float]


# sizes as of common breeds; fur is about as warm as clothes (McCafferty, Mammal Review 37, 2007: it keeps most of the warmth in)
KINDS = {
    "cat": Kind((0.32, 0.45), (0.07, 0.10), (0.15, 0.22), (3.5, 6.5), (0.4, 1.2)),
    "dog": Kind((0.45, 0.80), (0.10, 0.16), (0.25, 0.45), (3.0, 6.0), (0.5, 1.4)),
}
# curled up it is so much shorter, and as much wider
CURLED = 0.35
# s of a sleep, of sitting or standing about, of being out
ASLEEP_S, ABOUT_S, OUT_S = (60, 900), (4, 60), (60, 600)
HEAD_WARMTH = 1.15


@dataclass(frozen=True)
class Posture:
    """Of an animal in n frames: rump and head [n, 2, 3] m, radius of the trunk [n] m."""

    ends: np.ndarray
    radius: np.ndarray

    def box(self, camera: Camera, frame: int) -> tuple[float, float, float, float]:
        """As Furniture.box, in one frame."""
        columns, rows, per_metre = camera.project(self.ends[frame])
        reach = self.radius[frame] * per_metre.max() + 0.5
        return columns.min() + 0.5 - reach, rows.min() + 0.5 - reach, columns.max() + 0.5 + reach, rows.max() + 0.5 + reach


class Animal:
    """One animal during a session, written a little ahead as key places between which it goes straight."""

    def __init__(self, rng: np.random.Generator, room: Room):
        self.rng, self.room = rng, room
        self.kind = "cat" if rng.random() < 0.5 else "dog"
        traits = KINDS[self.kind]
        self.length, self.radius, self.height, self.warmth, self.speed = (
            float(rng.uniform(*span)) for span in (traits.length, traits.radius, traits.height, traits.warmth, traits.speed))
        # times (s) and x, y, height (m), heading (rad), how far it is stretched (CURLED to 1)
        self.times: list[float] = []
        self.keys: list[tuple[float, float, float, float, float]] = []
        x, y = room.free_spot(rng, 0.1)
        self.put(-float(rng.uniform(0, 300)), x, y, self.height, float(rng.uniform(0, 2 * np.pi)), 1.0)
        self.rest()

    def put(self, time: float, *key: float) -> None:
        self.times.append(time)
        self.keys.append(key)

    def plan(self, until: float) -> None:
        while self.times[-1] < until:
            if self.rng.random() < 0.15:
                self.walk_to(*self.room.door, self.height)
                self.stay(self.rng.uniform(*OUT_S), 1.0)
            self.walk_to(*self.next_place())
            self.rest()

    def next_place(self) -> tuple[float, float, float]:
        """A bed's foot, a chair or a free place on the floor: x, y and the height of its middle there."""
        low = 0.6 * self.height
        if self.rng.random() < 0.5:
            seat = self.room.seats[self.rng.integers(len(self.room.seats))]
            along = 0.0 if seat.kind == "chair" else seat.length * self.rng.choice([-0.35, 0.35])
            across = 0.0 if seat.kind == "chair" else seat.width * self.rng.uniform(-0.3, 0.3)
            return *seat.place(along, across), seat.height + low
        return *self.room.free_spot(self.rng, 0.1), low

    def walk_to(self, x: float, y: float, height: float) -> None:
        at_x, at_y, was, heading, _ = self.keys[-1]
        way = float(np.hypot(x - at_x, y - at_y))
        turned = float(np.arctan2(y - at_y, x - at_x))
        turned = heading + (turned - heading + np.pi) % (2 * np.pi) - np.pi
        start = self.times[-1] + float(self.rng.uniform(0.5, 1.5))
        self.put(start, at_x, at_y, max(was, self.height), turned, 1.0)
        self.put(start + max(way / self.speed, 0.3), x, y, max(height, self.height), turned, 1.0)
        self.put(self.times[-1] + 0.8, x, y, height, turned, 1.0)

    def rest(self) -> None:
        if self.rng.random() < 0.5:
            self.stay(self.rng.uniform(*ASLEEP_S), float(self.rng.uniform(CURLED, 0.8)))
        else:
            self.stay(self.rng.uniform(*ABOUT_S), float(self.rng.uniform(0.5, 1.0)))

    def stay(self, seconds: float, stretched: float) -> None:
        x, y, height, heading, _ = self.keys[-1]
        heading += float(self.rng.normal(0, 0.8))
        self.put(self.times[-1] + 1.5, x, y, height, heading, stretched)
        self.put(self.times[-1] + seconds, x, y, height, heading, stretched)

    def forget(self, before: float) -> None:
        """Drops what no frame from `before` on needs."""
        passed = max(bisect_right(self.times, before) - 1, 0)
        del self.times[:passed], self.keys[:passed]

    def at(self, times: np.ndarray) -> Posture:
        """Where it is at `times` [n] s."""
        x, y, height, heading, stretched = (np.interp(times, self.times, column) for column in zip(*self.keys, strict=True))
        half = (self.length / 2 - self.radius) * stretched
        along = np.stack([np.cos(heading), np.sin(heading)], axis=1) * half[:, None]
        middle = np.stack([x, y, height], axis=1)[:, None].repeat(2, axis=1)
        middle[:, 0, :2] -= along
        middle[:, 1, :2] += along
        return Posture(middle, self.radius / np.sqrt(stretched))

    def draw(self, camera: Camera, posture: Posture) -> tuple[np.ndarray, np.ndarray]:
        """Blurred silhouette and that times the warmth above the room (C), float32 [n, rows, cols]."""
        columns, rows, per_metre = (values[:, :, None, None] for values in camera.project(posture.ends))
        v, u = np.mgrid[: camera.rows, : camera.cols]
        dx, dy = columns[:, 1] - columns[:, 0], rows[:, 1] - rows[:, 0]
        along = ((u - columns[:, 0]) * dx + (v - rows[:, 0]) * dy) / np.maximum(dx**2 + dy**2, 1e-4)
        along = np.clip(along, 0, 1)
        distance = np.hypot(u - columns[:, 0] - along * dx, v - rows[:, 0] - along * dy)
        reach = posture.radius[:, None, None] * per_metre.mean(axis=1)
        edge = 0.8 / PSF_SIGMA_PX
        alpha = 0.5 * (np.tanh((distance + reach) * edge) - np.tanh((distance - reach) * edge))
        warmth = alpha * self.warmth * (1 + (HEAD_WARMTH - 1) * along)
        return alpha.astype(np.float32), warmth.astype(np.float32)
