"""One session of one device: a continuous take, rendered block by block, and what an annotator draws on its frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thermal_action.keyframes import Annotation
from thermal_action.sources.simulator.actions import Tally
from thermal_action.sources.simulator.actor import Actor
from thermal_action.sources.simulator.animal import Animal, Posture
from thermal_action.sources.simulator.body import Patches, draw_person
from thermal_action.sources.simulator.camera import LOST_DK, PACKET_PX, Arrivals, Camera, Sensor, receive_frames
from thermal_action.sources.simulator.room import VISIBLE_RESIDUE_C, Residue, Room
from thermal_action.sources.simulator.script import Script

BLOCK_FRAMES = 64
# an annotator sees a person where the picture is this much warmer than without them (C)
SEEN_C = 1.6
# how far annotators draw a box beyond what they see, px on each side (mean, std), by how much more or less one of them does so
# than another (std), and when they draw it anew
BOX_MARGIN_PX, THING_MARGIN_PX = (-0.1, 0.5), (1.0, 0.5)
HABIT_PX = 0.4
REDRAW_PX = 1.4
FEWEST_PIXELS = 14


@dataclass(frozen=True)
class Role:
    """What one person does in a block of n frames."""

    actor: Actor
    labels: list[str | None]  # None where they are out of view or do what was not asked for
    near: np.ndarray  # [n] whether any joint is in the picture
    body: np.ndarray  # [n, 15, 3] joints, m
    blanket: np.ndarray  # [n]


@dataclass
class Block:
    """Some frames of a take. Rendered when first asked for: many are skipped when a fetch is resumed."""

    take: "Take"
    arrivals: Arrivals
    number: int
    residues: list[Residue]
    cast: list["Role"]
    animals: list[Posture]

    @cached_property
    def rendered(self) -> tuple[np.ndarray, np.ndarray, dict[int, Patches]]:
        """int16 deci-Kelvin [n, rows, cols], the quiet scene [n, rows, cols] C, and each visible actor's patches."""
        return self.take.render(self)


@dataclass
class Seen:
    """One person in one frame: box in px (left, top, right, bottom), share hidden, label."""

    actor: int
    label: str | None
    box: tuple[float, float, float, float]
    hidden: float


class Take:
    """A session. `seed` and `day` decide everything; `device_seed` what stays with the device and its room."""

    def __init__(self, *, camera: Camera, device_seed: list[int], seed: list[int], labels: Sequence[str],
                 weights: dict[str, float], luck: float, people: int, presence: float, animals: int, fps: float, loss: float,
                 bad_link: bool):
        self.camera, self.seed = camera, seed
        layout, day = np.random.default_rng([*device_seed, 0]), np.random.default_rng([*seed, 0])
        self.room = Room(camera, layout, day)
        self.sensor = Sensor(camera, np.random.default_rng([*device_seed, 1]), day, self.room.ambient_c)
        self.script = Script([*seed, 1], self.room, labels, Tally(weights, luck), people, presence)
        self.animals = [Animal(np.random.default_rng([*seed, 5, k]), self.room) for k in range(animals)]
        self.residues: list[Residue] = []
        pixels = camera.rows * camera.cols
        self.arrivals = receive_frames([*seed, 2], fps=fps, pixels=pixels, loss=loss, bad=bad_link, block=BLOCK_FRAMES)

    def blocks(self) -> Iterator[Block]:
        """The take's blocks without end, in order of time."""
        for number, arrivals in enumerate(self.arrivals):
            if not len(arrivals.captured_s):
                continue
            start, end = float(arrivals.captured_s[0]), float(arrivals.captured_s[-1])
            self.script.write(end + 60.0)
            for animal in self.animals:
                animal.plan(end)
            self.leave_warmth(end)
            self.residues = [residue for residue in self.residues if not residue.over(start)]
            cast = [self.follow(actor, arrivals.captured_s) for actor in self.script.actors]
            animals = [animal.at(arrivals.captured_s) for animal in self.animals]
            yield Block(self, arrivals, number, list(self.residues), cast, animals)
            self.script.forget(start)
            for animal in self.animals:
                animal.forget(start)

    def follow(self, actor: Actor, times: np.ndarray) -> Role:
        present = np.array([actor.present(time) for time in times])
        if not present.any():
            return Role(actor, [None] * len(times), present, np.zeros((len(times), 15, 3)), np.zeros(len(times)))
        body, blanket = actor.track(times[0], times[-1]).at(times, actor.figure.stature)
        columns, rows, _ = self.camera.project(body)
        near = (columns > -0.5) & (columns < self.camera.cols - 0.5) & (rows > -0.5) & (rows < self.camera.rows - 0.5)
        near = near.any(axis=1) & present
        labels = [actor.label_at(time) if visible else None for time, visible in zip(times, near, strict=True)]
        return Role(actor, labels, near, body, blanket)

    def leave_warmth(self, until: float) -> None:
        """Turns stays that have begun into residues."""
        for actor in self.script.actors:
            while actor.stays and actor.stays[0].start <= until:
                stay = actor.stays.popleft()
                self.residues.append(Residue(stay, self.silhouette(actor, stay.start + 1.0)))

    def silhouette(self, actor: Actor, time: float) -> np.ndarray:
        """[rows, cols] what a person covers, a little smeared."""
        body, blanket = actor.track(time, time).at(np.array([time]), actor.figure.stature)
        person = draw_person(self.camera, actor.figure, body, blanket)
        picture = np.zeros((1, self.camera.rows, self.camera.cols), dtype=np.float32)
        inside, patch = clip_patch(person, 0, self.camera)
        picture[0][inside] = person.alpha[0][patch]
        return picture[0]

    def render(self, block: Block) -> tuple[np.ndarray, np.ndarray, dict[int, Patches]]:
        times = block.arrivals.captured_s
        scene = self.room.scene_at(times, block.residues)
        for animal, posture in zip(self.animals, block.animals, strict=True):
            alpha, warmth = animal.draw(self.camera, posture)
            scene += warmth - alpha * (scene - np.float32(self.room.ambient_c))
        quiet = scene.copy()
        people: dict[int, Patches] = {}
        for index, role in enumerate(block.cast):
            if role.near.any():
                person = draw_person(self.camera, role.actor.figure, role.body[role.near], role.blanket[role.near])
                people[index] = self.place_person(person, role.near)
        # who is nearer to the camera covers the others
        for index in sorted(people, key=lambda k: float(people[k].top_m.mean())):
            self.paint_person(scene, people[index])
        rng = np.random.default_rng([*self.seed, 3, block.number])
        reported = self.sensor.expose(scene, rng)
        flat = reported.reshape(len(reported), -1)
        packet = np.arange(flat.shape[1]) // PACKET_PX
        for frame in np.flatnonzero(~block.arrivals.arrived.all(axis=1)):
            came = flat[frame, block.arrivals.arrived[frame, packet]]
            flat[frame, : len(came)], flat[frame, len(came) :] = came, LOST_DK
        return reported, quiet, people

    def place_person(self, person: Patches, near: np.ndarray) -> Patches:
        """Patches of the frames in `near` -> patches of all frames, empty elsewhere."""
        if near.all():
            return person
        n, size = len(near), person.alpha.shape[1]
        row, col, top = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
        alpha, warmth = np.zeros((n, size, size), np.float32), np.zeros((n, size, size), np.float32)
        row[near], col[near], top[near] = person.row, person.col, person.top_m
        alpha[near], warmth[near] = person.alpha, person.warmth
        return Patches(row, col, alpha, warmth, top)

    def paint_person(self, scene: np.ndarray, person: Patches) -> None:
        """scene [n, rows, cols] C, changed in place: T = T (1 - alpha) + alpha (room + warmth)."""
        for frame in range(len(scene)):
            inside, patch = clip_patch(person, frame, self.camera)
            part = scene[frame][inside]
            part += person.warmth[frame][patch] - person.alpha[frame][patch] * (part - np.float32(self.room.ambient_c))

    def people_in(self, block: Block, frame: int) -> list[Seen]:
        """Who is visible in one frame, from the rendered silhouettes."""
        _, quiet, people = block.rendered
        seen = []
        order = sorted(people, key=lambda k: float(people[k].top_m.mean()))
        for position, index in enumerate(order):
            person = people[index]
            inside, patch = clip_patch(person, frame, self.camera)
            alpha = person.alpha[frame][patch]
            if not alpha.size or not alpha.any():
                continue
            clear = 1 - self.sensor.rim[inside]
            contrast = person.warmth[frame][patch] - alpha * (quiet[frame][inside] - np.float32(self.room.ambient_c))
            mask = (contrast * clear > SEEN_C) & (alpha > 0.3)
            for above in order[position + 1 :]:
                cover = np.zeros(quiet.shape[1:], np.float32)
                other_inside, other_patch = clip_patch(people[above], frame, self.camera)
                cover[other_inside] = people[above].alpha[frame][other_patch]
                mask &= cover[inside] < 0.5
                clear = clear * (1 - cover[inside])
            if mask.sum() < FEWEST_PIXELS * max(self.camera.scale, 0.4):
                continue
            role = block.cast[index]
            hidden = 1 - float((alpha * clear).sum() / alpha.sum()) * (1 - 0.45 * role.blanket[frame])
            rows, cols = np.nonzero(mask)
            top, left = inside[0].start, inside[1].start
            box = (left + cols.min(), top + rows.min(), left + cols.max() + 1, top + rows.max() + 1)
            seen.append(Seen(index, role.labels[frame], tuple(map(float, box)), hidden))
        return sorted(seen, key=lambda one: one.actor)


def clip_patch(person: Patches, frame: int, camera: Camera) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch lies in the frame, and which part of it."""
    size = person.alpha.shape[1]
    row, col = int(person.row[frame]), int(person.col[frame])
    top, left = max(row, 0), max(col, 0)
    bottom, right = max(min(row + size, camera.rows), top), max(min(col + size, camera.cols), left)
    return (slice(top, bottom), slice(left, right)), (slice(top - row, bottom - row), slice(left - col, right - col))


class Annotator:
    """Draws the boxes of one recording: by hand, and copied from keyframe to keyframe until they no longer fit."""

    def __init__(self, take: Take, rng: np.random.Generator):
        self.take, self.rng = take, rng
        self.habit = rng.normal(0, HABIT_PX)
        self.camera = take.camera
        self.drawn: dict[int, tuple[tuple, Annotation]] = {}
        # category, kind and box of what stays where it is
        self.things = [("furniture", piece.kind, piece.box(self.camera)) for piece in take.room.furniture
                       if piece.kind in ("bed", "chair", "couch")]
        self.things += [("object", hot.kind, hot.box(self.camera)) for hot in take.room.objects]

    def annotate(self, block: Block, frame: int, seen: list[Seen]) -> tuple[Annotation, ...]:
        time = float(block.arrivals.captured_s[frame])
        people = [self.annotate_person(person) for person in seen]
        present = self.things + [("object", animal.kind, posture.box(self.camera, frame))
                                 for animal, posture in zip(self.take.animals, block.animals, strict=True)]
        first = len(self.take.script.actors)
        things = [self.annotate_thing(key, *thing, time, block, seen) for key, thing in enumerate(present, start=first)]
        return tuple(annotation for annotation in [*things, *people] if annotation)

    def annotate_person(self, person: Seen) -> Annotation:
        obscured = f"{min(75, 25 * int(4 * max(person.hidden, 0.0) + 0.5))}%"
        return self.draw(person.actor, person.box, (person.label, obscured),
                         lambda bbox: Annotation(bbox, "person", person.label, obscured, None, person.actor))

    def annotate_thing(self, key: int, category: str, kind: str, box: tuple, time: float, block: Block,
                       seen: list[Seen]) -> Annotation | None:
        inside = clip_box(box, self.camera.rows, self.camera.cols)
        area = (box[2] - box[0]) * (box[3] - box[1])
        visible = max(inside[2] - inside[0], 0) * max(inside[3] - inside[1], 0) / area
        if visible < 0.25:
            return None
        hidden = 1 - visible * (1 - max((overlap_share(inside, person.box) for person in seen), default=0.0))
        obscured = f"{min(75, 25 * int(4 * hidden + 0.3))}%"
        residual = "yes" if self.is_warm(inside, time, block) else "no"
        return self.draw(key, inside, (obscured, residual),
                         lambda bbox: Annotation(bbox, category, kind, obscured, residual, key))

    def is_warm(self, box: tuple, time: float, block: Block) -> bool:
        """Whether warmth that someone left shows in the box."""
        rows, cols = slice(int(box[1]), int(np.ceil(box[3]))), slice(int(box[0]), int(np.ceil(box[2])))
        left = [residue for residue in block.residues if residue.stay.end < time and residue.stay.kind != "floor"]
        return any(float(residue.strength(np.array([time]))[0] * residue.mask[rows, cols].max(initial=0)) > VISIBLE_RESIDUE_C
                   for residue in left)

    def draw(self, key: int, box: tuple, facts: tuple, make) -> Annotation:
        """A new box, or the last one while it still fits."""
        last = self.drawn.get(key)
        if last and last[0][1] == facts and max(abs(a - b) for a, b in zip(last[0][0], box, strict=True)) < REDRAW_PX:
            return last[1]
        mean, std = BOX_MARGIN_PX if key < len(self.take.script.actors) else THING_MARGIN_PX
        smallest = -np.minimum(1.0, 0.25 * np.tile([box[2] - box[0], box[3] - box[1]], 2))
        margin = np.clip(self.rng.normal(mean + self.habit, std, 4), smallest, 2.5)
        drawn = (box[0] - margin[0], box[1] - margin[1], box[2] + margin[2], box[3] + margin[3])
        left, top, right, bottom = clip_box(drawn, self.camera.rows, self.camera.cols)
        rows, cols = self.camera.rows, self.camera.cols
        bbox = tuple(round(value, 6) for value in ((left + right) / 2 / cols, (top + bottom) / 2 / rows,
                                                   (right - left) / cols, (bottom - top) / rows))
        annotation = make(bbox)
        self.drawn[key] = ((box, facts), annotation)
        return annotation


def clip_box(box: tuple, rows: int, cols: int) -> tuple[float, float, float, float]:
    return (float(np.clip(box[0], 0, cols)), float(np.clip(box[1], 0, rows)),
            float(np.clip(box[2], 0, cols)), float(np.clip(box[3], 0, rows)))


def overlap_share(box: tuple, other: tuple) -> float:
    """Share of `box` that `other` covers."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))
