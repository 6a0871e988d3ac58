"""A furnished room as the ceiling camera sees it: floor, walls, furniture, hot objects, and the warmth that people leave."""

from dataclasses import dataclass

import numpy as np

from thermal_action.sources.simulator.camera import PSF_SIGMA_PX, Camera, blur, smoothstep

# median, coldest and warmest per cent of a recording's pixels, C, as measured; the first is aimed at, the others follow
BACKGROUND_MEDIAN_C = (16.4, 17.9)
BACKGROUND_P1_C, BACKGROUND_P99_C = (13.8, 14.6), (22.1, 23.6)
# warmth left behind: after 48 s on the floor 0.83 C that fades with 17 s, after 120 s on a bed 4.76 C with 68 s
FLOOR_RESIDUE = (0.83, 48.0, 17.0)
BED_RESIDUE = (4.76, 120.0, 68.0)
CHAIR_RESIDUE = (2.4, 120.0, 45.0)
VISIBLE_RESIDUE_C = 0.8
# a kettle's side cools from 45 C to 31.5 C, time constant 48 minutes
KETTLE_C, KETTLE_TAU_S = (45.0, 31.5), 48 * 60.0
SUPERSAMPLE = 3
SIZES_M = {  # length, width, height of what one sits or lies on
    "bed": (2.0, 0.95, 0.50),
    "couch": (1.85, 0.80, 0.42),
    "chair": (0.52, 0.52, 0.45),
}
OTHER_SIZES_M = {"table": (1.1, 0.7, 0.74), "cupboard": (0.9, 0.45, 1.1), "rug": (1.7, 1.2, 0.0), "box": (0.4, 0.4, 0.3)}


@dataclass(frozen=True)
class Furniture:
    """A rectangle on the floor: centre (m), heading of its length (rad), sizes (m), warmth against the floor (C)."""

    kind: str
    x: float
    y: float
    heading: float
    length: float
    width: float
    height: float
    warmth: float
    round: bool = False

    def local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return (x - self.x) * cos + (y - self.y) * sin, (y - self.y) * cos - (x - self.x) * sin

    def covers(self, x: np.ndarray, y: np.ndarray, margin: float = 0.0) -> np.ndarray:
        along, across = self.local(np.asarray(x), np.asarray(y))
        if self.round:
            return np.hypot(along / (self.length / 2 + margin), across / (self.width / 2 + margin)) < 1
        return (abs(along) < self.length / 2 + margin) & (abs(across) < self.width / 2 + margin)

    def place(self, along: float, across: float) -> tuple[float, float]:
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return self.x + along * cos - across * sin, self.y + along * sin + across * cos

    def outline(self) -> np.ndarray:
        """[8, 3] corners, at the floor and at the top."""
        corners = [(*self.place(a * self.length / 2, b * self.width / 2), z)
                   for z in (0.0, self.height) for a in (-1, 1) for b in (-1, 1)]
        return np.array(corners)

    def box(self, camera: Camera) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels (0 is the picture's left or upper edge), not cut at the picture's border."""
        columns, rows, _ = camera.project(self.outline())
        return columns.min() + 0.5, rows.min() + 0.5, columns.max() + 0.5, rows.max() + 0.5


@dataclass(frozen=True)
class HotObject:
    """A small warm thing: subcategory of the annotation, place (m), size (m), warmth above the room (C) at the start, decay."""

    kind: str
    x: float
    y: float
    z: float
    size: float
    warmth: float
    tau_s: float

    def warmth_at(self, seconds: float) -> float:
        return self.warmth * float(np.exp(-seconds / self.tau_s))

    def box(self, camera: Camera) -> tuple[float, float, float, float]:
        """As Furniture.box."""
        column, row, per_metre = camera.project(np.array([self.x, self.y, self.z]))
        half = self.size * per_metre / 2 + 0.5
        return column + 0.5 - half, row + 0.5 - half, column + 0.5 + half, row + 0.5 + half


@dataclass
class Stay:
    """Somebody rests on something: since when and until when (s; inf while that is not written yet), and on what."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True)
class Residue:
    """Warmth that a stay leaves: the silhouette [rows, cols] of who rested."""

    stay: Stay
    mask: np.ndarray

    def strength(self, times: np.ndarray) -> np.ndarray:
        """C above the surroundings at `times` (s)."""
        after, seconds, tau = {"floor": FLOOR_RESIDUE, "chair": CHAIR_RESIDUE}.get(self.stay.kind, BED_RESIDUE)
        full = after / (1 - np.exp(-seconds / tau))
        warmed = full * (1 - np.exp(-np.clip(np.minimum(times, self.stay.end) - self.stay.start, 0, None) / tau))
        return warmed * np.exp(-np.clip(times - self.stay.end, 0, None) / tau)

    def over(self, time: float) -> bool:
        return time > self.stay.end and self.strength(np.array([time]))[0] < 0.05


class Room:
    """One device's room. `layout` seeds what stays, `day` what a session changes (chairs moved, kettle on, warmth)."""

    def __init__(self, camera: Camera, layout: np.random.Generator, day: np.random.Generator):
        self.camera = camera
        self.reach = camera.floor_reach()
        self.half_walls = (self.reach[0] * layout.uniform(1.0, 1.5), self.reach[1] * layout.uniform(1.1, 1.9))
        self.turn = layout.normal(0, 0.07)
        self.furniture = self.furnish(layout)
        self.door = self.place_door(layout)
        self.ambient_c = float(layout.uniform(*BACKGROUND_MEDIAN_C) + day.normal(0, 0.12))
        self.ambient_c = float(np.clip(self.ambient_c, *BACKGROUND_MEDIAN_C))
        self.paint_seed = int(layout.integers(2**31))
        self.furniture = [self.rearrange(piece, day) for piece in self.furniture]
        self.objects = self.place_objects(layout, day)
        self.picture = self.paint(day)
        self.spots = {hot.kind: self.paint_spot(hot) for hot in self.objects}

    @property
    def beds(self) -> list[Furniture]:
        return [piece for piece in self.furniture if piece.kind in ("bed", "couch")]

    @property
    def seats(self) -> list[Furniture]:
        return [piece for piece in self.furniture if piece.kind in SIZES_M]

    def furnish(self, rng: np.random.Generator) -> list[Furniture]:
        kinds = ["bed"] if rng.random() < 0.75 else ["couch"]
        if kinds == ["bed"] and rng.random() < 0.3:
            kinds.append("couch")
        kinds += ["chair"] * (2 if rng.random() < 0.3 else 1)
        kinds += [kind for kind in ("table", "cupboard", "box", "box") if rng.random() < 0.5]
        pieces: list[Furniture] = []
        for kind in kinds:
            length, width, height = SIZES_M.get(kind) or OTHER_SIZES_M[kind]
            sign = 1 if rng.random() < 0.7 else -1
            warmth = {"bed": sign * rng.uniform(0.9, 1.7), "couch": sign * rng.uniform(0.9, 1.7),
                      "chair": rng.uniform(1.2, 3.2)}.get(kind, rng.uniform(-0.4, 1.2))
            size = length * rng.uniform(0.95, 1.05), width * rng.uniform(0.95, 1.1), height * rng.uniform(0.92, 1.08)
            best = None
            for _ in range(60):
                across = rng.random() < (0.35 if kind in ("bed", "couch") else 0.5)
                heading = self.turn + (rng.integers(2) + 0.5 * across) * np.pi
                x, y = (rng.uniform(-1, 1) * reach * (0.75 if kind in SIZES_M else 1.1) for reach in self.reach)
                piece = Furniture(kind, float(x), float(y), float(heading), *map(float, size), float(warmth),
                                  kind in ("chair", "box"))
                clash = sum(float(overlap(piece, other)) for other in pieces)
                # furniture leaves the middle free, as people do
                cost = 10 * clash + max(0, 0.55 - np.hypot(x / self.reach[0], y / self.reach[1])) * (kind != "chair")
                if best is None or cost < best[0]:
                    best = cost, piece
                if cost == 0:
                    break
            pieces.append(best[1])
        return pieces

    def place_door(self, rng: np.random.Generator) -> tuple[float, float]:
        """Where visitors come from: a point outside the picture."""
        side = rng.uniform(-0.6, 0.6)
        x, y = ((side, 1), (side, -1), (1, side), (-1, side))[rng.integers(4)]
        return x * self.reach[0] * 2.2, y * self.reach[1] * 2.2

    def rearrange(self, piece: Furniture, rng: np.random.Generator) -> Furniture:
        if piece.kind != "chair":
            return piece
        dx, dy = rng.normal(0, 0.12, 2)
        return Furniture(piece.kind, piece.x + dx, piece.y + dy, piece.heading + rng.normal(0, 0.2), piece.length,
                         piece.width, piece.height, piece.warmth, piece.round)

    def place_objects(self, layout: np.random.Generator, day: np.random.Generator) -> list[HotObject]:
        objects = []
        shelf = layout.uniform(-0.65, 0.65), layout.choice([-0.62, 0.62])
        if layout.random() < 0.5 and day.random() < 0.8:
            warmth = day.uniform(*sorted(KETTLE_C)) - self.ambient_c
            objects.append(HotObject("water kettle", shelf[0] * self.reach[0], shelf[1] * self.reach[1], 0.9,
                                     day.uniform(0.19, 0.24), warmth, KETTLE_TAU_S))
        if day.random() < 0.2:
            objects.append(HotObject("laptop", day.uniform(-0.6, 0.6) * self.reach[0], day.choice([-0.55, 0.55]) * self.reach[1],
                                     0.75, 0.33, day.uniform(4.5, 8), np.inf))
        bed = next((piece for piece in self.furniture if piece.kind == "bed"), None)
        if bed and layout.random() < 0.6:
            x, y = bed.place(-0.36 * bed.length, 0)
            objects.append(HotObject("pillow", x, y, bed.height, 0.42, layout.uniform(-0.8, 1.0), np.inf))
        return objects

    def is_free(self, x: float, y: float, margin: float = 0.3, ignore: Furniture | None = None) -> bool:
        blocking = ("table", "cupboard", "box", *SIZES_M)
        return not any(piece.covers(x, y, margin) for piece in self.furniture if piece.kind in blocking and piece is not ignore)

    def free_spot(self, rng: np.random.Generator, margin: float, reach: float = 1.0) -> tuple[float, float]:
        """A place on the floor, within `reach` of what is in view, that is not in furniture (the last of 40 tries if none is)."""
        for _ in range(40):
            x, y = (float(rng.uniform(-1, 1) * half * reach) for half in self.reach)
            if self.is_free(x, y, margin):
                break
        return x, y

    def paint(self, day: np.random.Generator) -> np.ndarray:
        """The quiet scene [rows, cols] C as the lens blurs it, before rim, fixed pattern and noise."""
        rng = np.random.default_rng(self.paint_seed)
        rays = self.camera.rays(SUPERSAMPLE)
        down = np.maximum(-rays[..., 2], 1e-3)
        x, y = (self.camera.height_m * rays[..., k] / down for k in (0, 1))
        beyond = np.maximum(abs(x) / self.half_walls[0], abs(y) / self.half_walls[1])
        x, y = np.clip(x, -6, 6), np.clip(y, -6, 6)
        slope = rng.normal(0, 0.14, 2)
        scene = np.clip(slope[0] * x + slope[1] * y, -0.8, 0.8) + 0.22 * waves(x, y, rng) + 0.10 * waves(4 * x, 4 * y, rng)
        scene += self.paint_floor(x, y, rng)
        height = self.camera.height_m * (1 - 1 / np.maximum(beyond, 1))
        scene = np.where(beyond > 1, scene * 0.4 + rng.uniform(-0.2, 0.4) + 0.25 * height, scene)
        scene += self.paint_wall(x, y, beyond, height, rng)
        for piece in self.furniture:
            scene = self.paint_furniture(scene, piece, rays)
        scene += day.normal(0, 0.05) * x + day.normal(0, 0.05) * y
        scene = blur(scene, PSF_SIGMA_PX * SUPERSAMPLE)
        rows, cols = self.camera.rows, self.camera.cols
        scene = scene.reshape(rows, SUPERSAMPLE, cols, SUPERSAMPLE).mean(axis=(1, 3))
        return (scene - np.median(scene) + self.ambient_c).astype(np.float32)

    def paint_floor(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A cold part of the floor, rugs, a warm pipe under it."""
        out = np.zeros_like(x)
        corner = rng.choice([-1, 1], 2) * np.array(self.reach) * rng.uniform(0.35, 0.75, 2)
        cold = Furniture("cold", *corner, self.turn + rng.normal(0, 0.1), rng.uniform(2.0, 4.2), rng.uniform(1.0, 2.0), 0, 0)
        along, across = cold.local(x, y)
        softness = rng.uniform(0.05, 0.5, 2)
        inside = smoothstep((cold.length / 2 - abs(along)) / softness[0] + 0.5)
        inside *= smoothstep((cold.width / 2 - abs(across)) / softness[1] + 0.5)
        out -= inside * (rng.uniform(2.0, 2.6) + 0.25 * waves(2 * x, 2 * y, rng))
        for _ in range(rng.integers(0, 3)):
            rug = Furniture("rug", *(rng.uniform(-0.8, 0.8, 2) * self.reach), self.turn + rng.integers(2) * np.pi / 2,
                            rng.uniform(1.2, 2.0), rng.uniform(0.8, 1.3), 0, 0)
            out[rug.covers(x, y)] += rng.choice([-1, 1]) * rng.uniform(0.3, 1.2)
        if rng.random() < 0.6:
            angle, offset = rng.uniform(0, np.pi), rng.uniform(-1.2, 1.2)
            away = x * np.sin(angle) - y * np.cos(angle) - offset
            out += rng.uniform(0.4, 0.9) * np.exp(-((away / 0.15) ** 2))
        return out

    def paint_wall(self, x, y, beyond, height, rng: np.random.Generator) -> np.ndarray:
        """A window and perhaps a heater below it."""
        out = np.zeros_like(x)
        side = rng.integers(4)
        along = (x if side < 2 else y) / np.maximum(beyond, 1)
        facing = ((y < 0), (y > 0), (x < 0), (x > 0))[side] & (beyond > 1)
        facing &= (abs(y) / self.half_walls[1] > abs(x) / self.half_walls[0]) == (side < 2)
        middle, half = rng.uniform(-0.6, 0.6), rng.uniform(0.4, 0.8)
        near = abs(along - middle) < half
        out[facing & near & (height > 0.9)] -= rng.uniform(0.8, 2.0)
        if rng.random() < 0.4:
            out[facing & near & (height > 0.15) & (height < 0.7)] += rng.uniform(3.0, 6.0)
        return out

    def paint_furniture(self, scene: np.ndarray, piece: Furniture, rays: np.ndarray) -> np.ndarray:
        """Covers the rays that meet the piece between floor and top; the sides are nearer to the floor's temperature."""
        down = np.maximum(-rays[..., 2], 1e-3)
        under = scene
        for share in (0.0, 0.33, 0.67, 1.0):
            height = self.camera.height_m - share * piece.height
            hit = piece.covers(height * rays[..., 0] / down, height * rays[..., 1] / down)
            base = 0.35 * scene + piece.warmth * (1 if share == 1 else 0.55)
            under = np.where(hit, base, under)
        return under

    def paint_spot(self, hot: HotObject) -> np.ndarray:
        """[rows, cols] blurred footprint of a hot object, 1 where it fills the pixel."""
        column, row, per_metre = self.camera.project(np.array([hot.x, hot.y, hot.z]))
        v, u = np.mgrid[: self.camera.rows, : self.camera.cols]
        half = hot.size * per_metre / 2
        edge = 0.8 / PSF_SIGMA_PX
        across = np.tanh((half - abs(u - column)) * edge) + np.tanh((half + abs(u - column)) * edge)
        along = np.tanh((half - abs(v - row)) * edge) + np.tanh((half + abs(v - row)) * edge)
        return (0.25 * across * along).astype(np.float32)

    def scene_at(self, times: np.ndarray, residues: list[Residue]) -> np.ndarray:
        """The room without people, float32 [n, rows, cols] C, at `times` (s since the session's start)."""
        scene = np.repeat(self.picture[None], len(times), axis=0)
        for residue in residues:
            strength = residue.strength(times).astype(np.float32)
            if strength.max() > 0.02:
                scene += strength[:, None, None] * residue.mask
        for hot in self.objects:
            scene += np.float32(hot.warmth_at(float(times[0]))) * self.spots[hot.kind]
        return scene


def overlap(a: Furniture, b: Furniture) -> bool:
    steps = np.linspace(-0.5, 0.5, 7)
    along, across = np.meshgrid(steps * (a.length + 0.3), steps * (a.width + 0.3))
    x, y = a.place(along, across)
    return bool(b.covers(x, y, 0.1).any())


def waves(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field of standard deviation about 1 and wave lengths of some metres."""
    out = np.zeros_like(x)
    for _ in range(8):
        angle, k, phase = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 2.6), rng.uniform(0, 2 * np.pi)
        out += np.sin(k * (x * np.cos(angle) + y * np.sin(angle)) + phase) / 2
    return out

