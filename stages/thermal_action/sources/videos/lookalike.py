"""A look-alike of HRI30, to try the pipeline on: drawn clips, as many classes, named and stored as the real ones.

A class is what somebody does with what, as in HRI30: a body that walks, nears, goes away or stays, and a tool that it carries,
lifts, puts down or works with. The tools are a triangle (drill), a ring (polisher) and a square (object). A subject has a colour,
a size, a pace and a room of its own; tempo, place and length of a clip are its own. What the clips have of the real ones is the
form: that a model learns them says that the pipeline works, and nothing of how it does on HRI30.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from thermal_action import InputError
from thermal_action.raw import Progress, encoder
from thermal_action.raw_store import RawStore
from thermal_action.sources.videos import Clip, fetch_clips, name_recording
from thermal_action.videos import decoder, write_video

RATE = 15  # frames a second
SECONDS = (1.6, 2.8)  # of a clip
BIT_RATE = 600_000


@dataclass(frozen=True)
class Act:
    """One class: how the body moves across the picture (x, y, in bodies a clip) and how much it grows, what the tool does and is.
    """

    tool: str | None
    across: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0
    hand: str = "carried"  # carried, lifted, lowered, working, given or idle


LEFT, RIGHT, NEAR, FAR = (-1.6, 0.0), (1.6, 0.0), 0.45, -0.45
DRILL, POLISHER, OBJECT = "triangle", "ring", "square"
# in the order of HRI30's classes
ACTS = (
    Act(OBJECT, hand="given"),
    Act(DRILL, growth=FAR), Act(POLISHER, growth=FAR),
    Act(DRILL, LEFT, FAR), Act(POLISHER, LEFT, FAR), Act(DRILL, RIGHT, FAR), Act(POLISHER, RIGHT, FAR),
    Act(DRILL, LEFT, NEAR), Act(POLISHER, LEFT, NEAR), Act(DRILL, RIGHT, NEAR), Act(POLISHER, RIGHT, NEAR),
    Act(DRILL, growth=NEAR), Act(POLISHER, growth=NEAR),
    Act(DRILL, LEFT), Act(POLISHER, LEFT), Act(DRILL, RIGHT), Act(POLISHER, RIGHT),
    Act(DRILL, hand="idle"), Act(POLISHER, hand="idle"),
    Act(DRILL, hand="lifted"), Act(POLISHER, hand="lifted"), Act(OBJECT, hand="lifted"),
    Act(DRILL, hand="lowered"), Act(POLISHER, hand="lowered"),
    Act(DRILL, hand="working"), Act(POLISHER, hand="working"),
    Act(None, hand="pacing"), Act(OBJECT, hand="pacing"), Act(DRILL, hand="pacing"), Act(POLISHER, hand="pacing"),
)


@dataclass(frozen=True)
class Subject:
    """Somebody, and where they work. Colours are uint8 [3], sizes relative to what is usual."""

    body: np.ndarray
    tool: np.ndarray
    wall: np.ndarray
    size: float
    pace: float
    sway: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Subject":
        wall = rng.uniform(40, 110, 3)
        return cls(np.clip(wall + rng.uniform(50, 120, 3), 0, 255), rng.uniform(170, 255, 3), wall, rng.uniform(0.85, 1.15),
                   rng.uniform(0.85, 1.15), rng.uniform(0, 0.05))


class LookalikeSource:
    """seed: decides every clip together with the rest. subjects: how many people; the last `test_subjects` of them are in the
    test clips alone. videos: of each class and subject. rows, cols: pixels of the picture, even numbers.
    """

    def __init__(self, *, seed: int, subjects: int, test_subjects: int, videos: int, rows: int, cols: int, classes: Sequence[str],
                 scratch: str | Path = ".scratch"):
        if len(classes) != len(ACTS):
            raise InputError(f"fetch.source lookalike draws {len(ACTS)} classes, but `classes` in params.yaml has {len(classes)}")
        if test_subjects >= subjects:
            raise InputError(f"fetch.lookalike.test_subjects {test_subjects} must be below subjects {subjects}: somebody trains")
        self.drawn = {"seed": seed, "videos": videos, "rows": rows, "cols": cols}
        self.subjects, self.test_subjects = subjects, test_subjects
        self.classes, self.scratch = list(classes), Path(scratch)

    def query(self) -> dict:
        return encoder() | decoder()

    def fetch(self, store: RawStore, progress: Progress) -> None:
        fetch_clips(self.clips(), store, self.classes, skip=False, progress=progress)

    def clips(self) -> Iterator[Clip]:
        encoding = self.query()
        for subject in range(self.subjects):
            testing = subject >= self.subjects - self.test_subjects
            for label in range(len(ACTS)):
                for video in range(self.drawn["videos"]):
                    key = [self.drawn["seed"], subject, label, video]
                    name = f"CID{label + 1:02d}_SID{subject + 1:02d}_VID{video + 1:02d}"
                    if testing:  # a name that says nothing, in an order that says nothing
                        name = f"{np.random.default_rng([*key, 1]).integers(1 << 32):08x}"
                    yield Clip(name_recording(name, "test" if testing else "train"), f"{name}.avi", None if testing else label,
                               None if testing else f"SID{subject + 1:02d}", {**self.drawn, "key": key, "code": encoding},
                               partial(self.written, key, name))

    @contextmanager
    def written(self, key: list[int], name: str) -> Iterator[Path]:
        """The clip of a subject, class and video, as a file for as long as it is looked at."""
        seed, subject, label, _ = key
        person = Subject.draw(np.random.default_rng([seed, subject]))
        pictures = draw_clip(ACTS[label], person, self.drawn["rows"], self.drawn["cols"], np.random.default_rng(key))
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="lookalike-") as folder:
            path = Path(folder) / f"{name}.avi"
            write_video(path, pictures, RATE, bit_rate=BIT_RATE)
            yield path


def draw_clip(act: Act, subject: Subject, rows: int, cols: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """uint8 [rows, cols, 3], one picture after the other."""
    count = round(rng.uniform(*SECONDS) * RATE)
    texture = subject.wall + rng.normal(0, 6, (rows // 4 + 1, cols // 4 + 1, 1)).repeat(4, 0).repeat(4, 1)[:rows, :cols]
    unit, phase = 0.16 * rows * subject.size, rng.uniform(0, 2 * np.pi)
    strength = rng.uniform(0.8, 1.2) * subject.pace
    middle = np.array([rng.uniform(0.44, 0.56) * cols, rng.uniform(0.5, 0.6) * rows])
    for step in range(count):
        time = step / (count - 1)  # from 0 to 1
        place, size, hand = pose(act, time, strength, phase)
        centre = middle + place * unit + subject.sway * unit * np.array([np.sin(9 * time + phase), np.cos(7 * time + phase)])
        picture = texture + rng.normal(0, 4, (rows, cols, 1))
        paint(picture, subject.body, "square", centre, unit * size * np.array([0.7, 1.4]))
        paint(picture, subject.body * 0.9, "disc", centre - (0, 1.9 * unit * size), unit * size * np.array([0.55, 0.55]))
        if act.tool:
            paint(picture, subject.tool, act.tool, centre + hand * unit * size, unit * size * np.array([0.75, 0.75]))
        yield np.clip(picture, 0, 255).astype(np.uint8)


def pose(act: Act, time: float, strength: float, phase: float) -> tuple[np.ndarray, float, np.ndarray]:
    """(x, y of the body and its size, in bodies; x, y of the tool from the body's middle) at `time` of a clip."""
    along = (time - 0.5) * strength
    place = along * 2 * np.array(act.across)
    size = 1 + 2 * along * act.growth
    hand = np.array([1.1, 0.2])
    if act.hand == "pacing":  # to and fro
        place = place + np.array([1.3 * strength * np.sin(2 * np.pi * 1.5 * time + phase), 0])
    elif act.hand == "working":
        hand = hand + np.array([0.5 * np.sin(2 * np.pi * 5 * strength * time + phase), 0])
    elif act.hand == "given":  # out and back
        hand = hand + np.array([1.6 * strength * np.sin(np.pi * time) - 0.3, 0])
    elif act.hand in ("lifted", "lowered"):
        hand = hand + np.array([0, 2.6 * along * (-1 if act.hand == "lifted" else 1)])
    return place, size, hand


def paint(picture: np.ndarray, colour: np.ndarray, shape: str, centre: np.ndarray, half: np.ndarray) -> None:
    """Draws a shape of half width and height `half` around `centre`, x and y in pixels, with soft edges, into [H, W, 3]."""
    height, width = picture.shape[:2]
    x = (np.arange(width) + 0.5 - centre[0]) / half[0]
    y = (np.arange(height)[:, None] + 0.5 - centre[1]) / half[1]
    inside = {
        "square": lambda: np.minimum(1 - np.abs(x), 1 - np.abs(y)),
        "disc": lambda: 1 - np.hypot(x, y),
        "ring": lambda: 0.3 - np.abs(np.hypot(x, y) - 0.7),
        "triangle": lambda: np.minimum(1 - y, (1 + y - 2 * np.abs(x)) / 2),
    }[shape]()
    cover = np.clip(inside * half.min() + 0.5, 0, 1)[..., None]
    picture += cover * (colour - picture)
