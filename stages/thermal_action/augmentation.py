"""What training varies on purpose: windows that the sensor could have seen, with boxes and labels that stay true.

`augmentations` lists them in the order in which a picture comes about: scene, lens, sensor, link, annotator. Each is a
call (window, generator) -> window that never writes into what it was given; one that is off is not in the list.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch.nn.functional import grid_sample

from thermal_action.boxes import centres, pixels, sizes
from thermal_action.params import Field, section

Share = Annotated[float, Field(ge=0, le=1)]

# A move or a jitter never shrinks a box below this part of the picture (a quarter of a pixel in 60).
SMALLEST_SIDE = 1 / 240
# Around a person's box, what is done to the person fades over this part of the box's side, and over some pixels at least.
FADE, FADE_PX = 0.3, 2.0
# Warmer than the surroundings by less, C: floor and noise; by more than the second: certainly the person.
FLOOR_C, PERSON_C = 0.5, 1.5
# What arrives of a frame that lost packets (96, 672, 1248 or 1824 of 2400 pixels), and how often on the real device.
RECEIVED, OFTEN = (0.04, 0.28, 0.52, 0.76), (0.03, 0.1, 0.21, 0.66)
# Tries to find a place for a rectangle, and a person who fits somewhere.
TRIES = 10
# Object id of a person who was pasted in.
PASTED = -1


@section
class Augment:
    """The section `train.augment`. Every one is off at 0."""

    copy_paste: Share
    copy_paste_balance: Share
    person_contrast: Annotated[float, Field(ge=0, lt=1)]
    time_warp: Annotated[float, Field(ge=0, le=3)]
    flip_horizontal: Share
    flip_vertical: Share
    half_turn: Share
    shift_px: Annotated[int, Field(ge=0, le=64)]
    rotation_deg: Annotated[float, Field(ge=0, le=45)]
    scale: Annotated[float, Field(ge=0, le=1)]
    crop: Annotated[float, Field(ge=0, le=0.9)]
    erasing: Share
    contrast: Annotated[float, Field(ge=0, lt=1)]
    offset_c: Annotated[float, Field(ge=0, le=20)]
    brightness: Annotated[float, Field(ge=0, lt=1)]
    fixed_pattern_c: Annotated[float, Field(ge=0, le=5)]
    noise_c: Annotated[float, Field(ge=0, le=5)]
    dropped_frames: Annotated[float, Field(ge=0, le=0.9)]
    lost_packets: Share
    box_jitter: Annotated[float, Field(ge=0, le=0.4)]


@dataclass
class Window:
    """Frames around a keyframe, which stands at T // 2, and the persons in the keyframe.

    frames [T, H, W] float32 C; boxes [N, 4] x1, y1, x2, y2 in [0, 1]; labels [N] int64; object_ids [N] int64.
    furniture: (name, box) as annotated. Only copy-paste reads it, and comes before all that moves.
    donors: (generator, balance) -> a person of another recording, or None where there is none; see `CopyPaste`.
    room_c: median of the frames as they were given, C.
    """

    frames: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    object_ids: np.ndarray
    furniture: Sequence[tuple[str, np.ndarray]] = ()
    donors: "Callable[[np.random.Generator, float], Donor | None] | None" = None
    room_c: float | None = None

    def __post_init__(self):
        if self.room_c is None:
            self.room_c = room_c(self.frames)


@dataclass
class Donor:
    """A person of another window: box [4], label, the furniture there, and a call that reads the frames [T, H, W] C."""

    box: np.ndarray
    label: int
    furniture: Sequence[tuple[str, np.ndarray]]
    frames: Callable[[], np.ndarray]


def room_c(frames: np.ndarray) -> float:
    """Median temperature of a window, C; every fourth frame tells it as well."""
    return float(np.median(frames[::4]))


Augmentation = Callable[[Window, np.random.Generator], Window]


def augmentations(*, dark_c: float = 5.0, copy_paste: float = 0.0, copy_paste_balance: float = 0.0, person_contrast: float = 0.0,
                  time_warp: float = 0.0, flip_horizontal: float = 0.5, flip_vertical: float = 0.5, half_turn: float = 0.0,
                  shift_px: int = 4, rotation_deg: float = 0.0, scale: float = 0.0, crop: float = 0.0, erasing: float = 0.0,
                  contrast: float = 0.2, offset_c: float = 0.5, brightness: float = 0.0, fixed_pattern_c: float = 0.0,
                  noise_c: float = 0.1, dropped_frames: float = 0.0, lost_packets: float = 0.0,
                  box_jitter: float = 0.1) -> list[Augmentation]:
    """Those that are on, in order. `Augment` has their ranges, each class says what its numbers mean; dark_c: C that is black."""
    chain = [
        (copy_paste, CopyPaste(copy_paste, copy_paste_balance)),
        (person_contrast, PersonContrast(person_contrast)),
        (time_warp, TimeWarp(time_warp)),
        (max(flip_horizontal, flip_vertical, half_turn, shift_px), Move(flip_horizontal, flip_vertical, half_turn, shift_px)),
        (max(rotation_deg, scale, crop), Resample(rotation_deg, scale, crop)),
        (erasing, Erasing(erasing)),
        (contrast, Gain(contrast)),
        (offset_c, Offset(offset_c)),
        (brightness, Gain(brightness, pivot_c=dark_c)),
        (fixed_pattern_c, FixedPattern(fixed_pattern_c)),
        (noise_c, Noise(noise_c)),
        (dropped_frames, DroppedFrames(dropped_frames)),
        (lost_packets, LostPackets(lost_packets)),
        (box_jitter, BoxJitter(box_jitter)),
    ]
    return [augmentation for strength, augmentation in chain if strength]


# --- scene ---


@dataclass(frozen=True)
class CopyPaste:
    """With this probability a person of another recording joins, labelled (Ghiasi et al., Simple Copy-Paste, CVPR 2021).

    The lens shows a person at the rim from the side and one below it from above: the donor keeps its distance and angle to it
    in one of the picture's four mirror images, where nobody stands and the furniture below is the same (who is moved off
    the bed would lie on the floor, under the wrong label). The silhouette, what is warmer than its surroundings, is followed
    through the window and covers what lies below; the level is moved from room to room.

    balance: 0 takes donors as often as their classes come, 1 all classes equally often (weights count ** -balance).
    """

    probability: float
    balance: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        if window.donors is None or rng.random() >= self.probability:
            return window
        for _ in range(TRIES):
            donor = window.donors(rng, self.balance)
            if donor is None:
                return window
            for mirror in rng.permutation(4):
                flips = bool(mirror & 1), bool(mirror & 2)
                box = flip_box(donor.box, *flips)
                if is_free(box, window) and surfaces(box, window.furniture) == surfaces(donor.box, donor.furniture):
                    return paste(donor, flips, box, window)
        return window


def flip_box(box: np.ndarray, horizontal: bool, vertical: bool) -> np.ndarray:
    x1, y1, x2, y2 = box
    if horizontal:
        x1, x2 = 1 - x2, 1 - x1
    if vertical:
        y1, y2 = 1 - y2, 1 - y1
    return np.array([x1, y1, x2, y2], box.dtype)


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Area that box [4] shares with each of others [N, 4]."""
    return np.prod(np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0), axis=1)


def is_free(box: np.ndarray, window: Window) -> bool:
    """Whether nobody's box meets this one or what fades around it."""
    size = np.array(window.frames.shape[:0:-1])
    fade = fading(sizes(box) * size) / size
    return not overlap(np.concatenate([box[:2] - fade, box[2:] + fade]), window.boxes).any()


def surfaces(box: np.ndarray, furniture: Sequence[tuple[str, np.ndarray]]) -> set[str]:
    """What a person is on or at: furniture whose box shares half of the smaller of the two boxes."""
    if not furniture:
        return set()
    boxes = np.stack([other for _, other in furniture])
    shared = overlap(box, boxes) >= 0.5 * np.minimum(np.prod(sizes(box)), np.prod(sizes(boxes), axis=1))
    return {name for (name, _), shares in zip(furniture, shared, strict=True) if shares}


def stand_alone(boxes: np.ndarray) -> np.ndarray:
    """bool [N]: whose box meets nobody else's; the others cannot be cut out without a piece of somebody."""
    return np.array([not np.delete(overlap(box, boxes), index).any() for index, box in enumerate(boxes)], dtype=bool)


def paste(donor: Donor, flips: tuple[bool, bool], box: np.ndarray, window: Window) -> Window:
    horizontal, vertical = flips
    source = donor.frames()[:, :: -1 if vertical else 1, :: -1 if horizontal else 1]
    excess = source - surroundings_c(source, box)
    silhouette = np.clip((excess - FLOOR_C) / (PERSON_C - FLOOR_C), 0, 1) * neighbourhood(source, box)
    # as warm against this room as against the other one, whatever stands below
    frames = window.frames + silhouette * (source + (window.room_c - room_c(source)) - window.frames)
    return replace(window, frames=frames, boxes=np.concatenate([window.boxes, box[None]]),
                   labels=np.append(window.labels, donor.label), object_ids=np.append(window.object_ids, PASTED))


@dataclass(frozen=True)
class PersonContrast:
    """Each person warmer or colder against the room by up to this share, as clothes and blankets make them.

    What exceeds the room's temperature in the person's neighbourhood is scaled; the neighbourhood follows the person and fades.
    """

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        changes = rng.uniform(-self.largest, self.largest, len(window.boxes)).astype(np.float32)
        if not len(changes):
            return window
        near = np.stack([neighbourhood(window.frames, box) for box in window.boxes])
        # who share a pixel share its change
        change = np.tensordot(changes, near, 1) / np.maximum(near.sum(axis=0), 1)
        return replace(window, frames=window.frames + change * np.maximum(window.frames - window.room_c, 0))


def neighbourhood(frames: np.ndarray, box: np.ndarray) -> np.ndarray:
    """float32 [T, H, W]: 1 in the box that follows its person through the window, fading to 0 around it."""
    width_height = np.array(frames.shape[:0:-1])
    size = sizes(box) * width_height
    near = []
    for path, side, fade, pixel_count in zip(follow(frames, box).T, size, fading(size), width_height, strict=True):
        beyond = np.abs(np.arange(pixel_count) + 0.5 - path[:, None]) - side / 2  # (T, pixels)
        share = np.clip(1 - beyond / fade, 0, 1)
        near.append((share * share * (3 - 2 * share)).astype(np.float32))
    x, y = near
    return y[:, :, None] * x[:, None, :]


def fading(size_px: np.ndarray) -> np.ndarray:
    """Pixels over which the neighbourhood of a box of this size fades."""
    return np.maximum(FADE * size_px, FADE_PX)


def surroundings_c(frames: np.ndarray, box: np.ndarray) -> float:
    """Median temperature of a ring around the box at the keyframe, C."""
    keyframe = frames[len(frames) // 2]
    ring = np.zeros(keyframe.shape, dtype=bool)
    ring[pixels(box, *keyframe.shape, margin=3)] = True
    ring[pixels(box, *keyframe.shape)] = False
    return float(np.median(keyframe[ring] if ring.any() else keyframe))


def follow(frames: np.ndarray, box: np.ndarray) -> np.ndarray:
    """[T, 2] centre x, y of the box in pixels, following its person from the keyframe both ways.

    Mean shift: the box moves to the centroid of the warmth in it (Comaniciu et al., CVPR 2000), and stays where there is none.
    """
    picture, middle = np.array(frames.shape[:0:-1]), len(frames) // 2
    start, (reach_x, reach_y) = centres(box) * picture, sizes(box) * picture / 2 + FADE_PX
    warmth = np.maximum(frames - (surroundings_c(frames, box) + (FLOOR_C + PERSON_C) / 2), 0)
    grid_x, grid_y = np.arange(picture[0]) + np.float32(0.5), np.arange(picture[1]) + np.float32(0.5)

    def towards_warmth(warmth: np.ndarray, x: float, y: float) -> tuple[float, float]:
        columns = slice(max(int(x - reach_x), 0), math.ceil(x + reach_x))
        rows = slice(max(int(y - reach_y), 0), math.ceil(y + reach_y))
        near = warmth[rows, columns]
        per_column = near.sum(axis=0)
        total = float(per_column.sum())
        return (float(per_column @ grid_x[columns]) / total, float(near.sum(axis=1) @ grid_y[rows]) / total) if total else (x, y)

    path = np.empty((len(frames), 2))
    path[middle] = towards_warmth(warmth[middle], *start.tolist())
    for ahead in (-1, 1):
        place = tuple(path[middle].tolist())
        for index in range(middle + ahead, len(frames) if ahead > 0 else -1, ahead):
            path[index] = place = towards_warmth(warmth[index], *place)
    return path + (start - path[middle])


@dataclass(frozen=True)
class TimeWarp:
    """Slower or faster around the keyframe, by a factor of up to 1 + largest. Only frames of the window are used (others may
    belong to the validation side): where it ends, its first and last frame repeat, as at the ends of a recording."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        total = len(window.frames)
        speed = (1 + self.largest) ** rng.uniform(-1, 1)
        steps = np.rint((np.arange(total) - total // 2) * speed).astype(int)
        return replace(window, frames=window.frames[np.clip(total // 2 + steps, 0, total - 1)])


# --- lens ---


@dataclass(frozen=True)
class Move:
    """Exact pixel moves: flips and a half turn, each with its probability (a ceiling camera has no upside), and a shift of up to
    shift_px each way, edges repeated. No move takes a box's centre out of the picture, or a person at the edge from it."""

    flip_horizontal: float
    flip_vertical: float
    half_turn: float
    shift_px: int

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        _, height, width = window.frames.shape
        mirror_x, mirror_y, turn = rng.random(3) < (self.flip_horizontal, self.flip_vertical, self.half_turn)
        columns, x = place_along(width, mirror_x ^ turn, self.shift_px, window.boxes[:, 0::2], rng)
        rows, y = place_along(height, mirror_y ^ turn, self.shift_px, window.boxes[:, 1::2], rng)
        boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
        source = (rows[:, None] * width + columns).ravel()
        frames = window.frames.reshape(-1, height * width).take(source, axis=1).reshape(window.frames.shape)
        return replace(window, frames=frames, boxes=boxes)


def place_along(
    length: int, flip: bool, shift_px: int, sides: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip and shift along one axis of `length` pixels: (source pixel of every pixel, sides [N, 2] of the boxes there)."""
    source = np.arange(length)
    if flip:
        source, sides = source[::-1], 1 - sides[:, ::-1]
    shift = int(rng.integers(-shift_px, shift_px + 1))
    if len(sides):
        edges, middles = sides * length, sides.mean(axis=1) * length
        # the edge repeats: whoever is cut by it would be smeared over the pixels that a move away from it uncovers
        lowest = 0 if edges.max() > length - 1 else -min(middles.min(), shift_px)
        highest = 0 if edges.min() < 1 else min(length - middles.max(), shift_px)
        shift = int(np.clip(shift, lowest, highest))
    source = source[np.clip(np.arange(length) - shift, 0, length - 1)]
    return source, np.clip(sides + shift / length, 0, 1)


@dataclass(frozen=True)
class Resample:
    """Rotation about the centre, scale and crop in one bilinear resampling, edges repeated.

    rotation_deg: largest angle. scale: factor of up to 1 + scale, either way.
    crop: largest share of the area cut away; what is left, its aspect changed by up to 4/3, fills the picture (MMAction2's
        random resized crop; 0.3 keeps 0.7 to 1).

    A person nearly fills the ellipse inscribed in the box, so the new box is the one around the turned ellipse: exact for
    quarter turns and scales, and without the corners that the bounding rectangle of a turned rectangle adds.
    A transformation that takes a box's centre out of the picture, or smears a person at the edge, is halved, at most twice.
    """

    rotation_deg: float
    scale: float
    crop: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        angle = math.radians(rng.uniform(-self.rotation_deg, self.rotation_deg))
        zoom = rng.uniform(-1, 1) * math.log1p(self.scale)
        area = -math.log(1 - rng.uniform(0, self.crop))
        stretch = rng.uniform(-1, 1) * min(math.log(4 / 3), area)
        enlarge = np.array([area + stretch, area - stretch]) / 2  # log; both at least 0: the crop fits into the picture
        centre = rng.uniform(-0.5, 0.5, 2) * (1 - np.exp(-enlarge))  # of the crop, from the picture's
        for strength in (1.0, 0.5, 0.25):
            larger = np.exp(enlarge * strength)
            linear = larger[:, None] * rotation(angle * strength) * math.exp(zoom * strength)
            resampled = resample(window, linear, larger * centre * strength)
            if resampled:
                return resampled
        return window


def rotation(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def resample(window: Window, linear: np.ndarray, shift: np.ndarray) -> Window | None:
    """The window under p -> linear @ p - shift * (W, H), in pixels from the picture's centre; None if it costs a person."""
    _, height, width = window.frames.shape
    picture = np.array([width, height])
    middles = ((centres(window.boxes) - 0.5) * picture @ linear.T) / picture - shift + 0.5
    if (np.abs(middles - 0.5) > 0.5).any():
        return None
    rows, columns = np.mgrid[:height, :width]
    targets = np.stack([columns, rows], axis=-1) + 0.5 - picture / 2 + shift * picture  # (H, W, 2)
    source = targets @ np.linalg.inv(linear).T / picture + 0.5
    if smears(source, window.boxes, picture):
        return None
    grid = torch.from_numpy((2 * source - 1).astype(np.float32))
    # frames as channels of one picture: they share the grid
    frames = grid_sample(torch.from_numpy(np.ascontiguousarray(window.frames))[None], grid[None], mode="bilinear",
                         padding_mode="border", align_corners=False)[0].numpy()
    half = np.sqrt((sizes(window.boxes) * picture) ** 2 @ (linear**2).T) / picture / 2
    boxes = np.clip(np.concatenate([middles - half, middles + half], axis=1), 0, 1)
    return replace(window, frames=frames, boxes=boxes.astype(np.float32))


def smears(source: np.ndarray, boxes: np.ndarray, picture: np.ndarray) -> bool:
    """Whether pixels from beyond the picture (source [H, W, 2] in its units) repeat the edge where it cuts a person."""
    repeated = np.clip(source, 0, 1)
    beyond = repeated[(np.abs(source - repeated) * picture > 0.5).any(axis=-1)]  # (n, 2)
    margin = 1 / picture
    cut = (boxes[:, :2] < margin).any(axis=1) | (boxes[:, 2:] > 1 - margin).any(axis=1)
    return any(((beyond > box[:2] - margin) & (beyond < box[2:] + margin)).all(axis=1).any() for box in boxes[cut])


@dataclass(frozen=True)
class Erasing:
    """With this probability a rectangle of 2 to 33 % of the picture, aspect 0.3 to 3.3, has room temperature in all frames
    (Zhong et al., Random Erasing, AAAI 2020). It never covers more than half of anybody, whose label would be a guess."""

    probability: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        if rng.random() >= self.probability:
            return window
        _, height, width = window.frames.shape
        picture = np.array([width, height])
        for _ in range(TRIES):
            area, aspect = rng.uniform(0.02, 0.33) * width * height, math.exp(rng.uniform(math.log(0.3), math.log(3.3)))
            size = np.rint([math.sqrt(area * aspect), math.sqrt(area / aspect)]).astype(int)
            if (size < 1).any() or (size > picture).any():
                continue
            x1, y1 = rng.integers(0, picture - size, endpoint=True)
            x2, y2 = size + (x1, y1)
            hidden = overlap(np.array([x1, y1, x2, y2]) / np.tile(picture, 2), window.boxes)
            if (hidden <= 0.5 * np.prod(sizes(window.boxes), axis=1)).all():
                frames = window.frames.copy()
                frames[:, y1:y2, x1:x2] = window.room_c
                return replace(window, frames=frames)
        return window


# --- temperature and sensor ---


@dataclass(frozen=True)
class Gain:
    """All differences to a temperature up to this share larger or smaller: to the room's, a change of contrast; to what is black
    in the picture, one of brightness (a factor, as in torchvision's ColorJitter)."""

    largest: float
    pivot_c: float | None = None  # None: the room's

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        gain = 1 + rng.uniform(-self.largest, self.largest)
        frames = window.frames * gain
        frames += (window.room_c if self.pivot_c is None else self.pivot_c) * (1 - gain)
        return replace(window, frames=frames)


@dataclass(frozen=True)
class Offset:
    """Another level, with this standard deviation in C."""

    deviation_c: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        return replace(window, frames=window.frames + rng.normal(0, self.deviation_c))


@dataclass(frozen=True)
class FixedPattern:
    """A constant of its own for every pixel, normally distributed; standard deviation up to this, C."""

    largest_c: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        deviation = rng.uniform(0, self.largest_c)
        return replace(window, frames=window.frames + rng.standard_normal(window.frames.shape[1:], dtype=np.float32) * deviation)


@dataclass(frozen=True)
class Noise:
    """White noise in every pixel and frame; standard deviation up to this, C."""

    largest_c: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        deviation = rng.uniform(0, self.largest_c)
        frames = rng.standard_normal(window.frames.shape, dtype=np.float32)
        frames *= deviation
        frames += window.frames
        return replace(window, frames=frames)


# --- link and annotator ---


@dataclass(frozen=True)
class DroppedFrames:
    """Up to this share of the frames never arrives and their neighbours close up; where the window ends, its ends repeat."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        total = len(window.frames)
        arrived = rng.random(total) >= rng.uniform(0, self.largest)
        arrived[total // 2] = True
        kept = np.flatnonzero(arrived)
        steps = np.arange(total) - total // 2 + np.searchsorted(kept, total // 2)
        return replace(window, frames=window.frames[kept[np.clip(steps, 0, len(kept) - 1)]])


@dataclass(frozen=True)
class LostPackets:
    """Up to this share of the frames arrives cut; their last pixels repeat the frame before, as the hdf5 stage repairs them."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        cut = rng.random(len(window.frames)) < rng.uniform(0, self.largest)
        cut[0] = False  # nothing is known before it
        frames = window.frames.copy()
        flat = frames.reshape(len(frames), -1)
        for index in np.flatnonzero(cut):
            received = round(rng.choice(RECEIVED, p=OFTEN) * flat.shape[1])
            flat[index, received:] = flat[index - 1, received:]
        return replace(window, frames=frames)


@dataclass(frozen=True)
class BoxJitter:
    """Every side of every box moves by up to this share of the box's size: annotators and detectors differ."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        moves = rng.uniform(-self.largest, self.largest, window.boxes.shape).astype(np.float32)
        moved = np.clip(window.boxes + moves * np.tile(sizes(window.boxes), 2), 0, 1)
        keep = sizes(moved).min(axis=1, initial=1.0) >= SMALLEST_SIDE
        return replace(window, boxes=np.where(keep[:, None], moved, window.boxes))


# --- to look at ---

# Strengths at which each is plain to see.
TYPICAL = {"copy_paste": 1.0, "person_contrast": 0.4, "time_warp": 0.5, "flip_horizontal": 1.0, "flip_vertical": 1.0,
           "half_turn": 1.0, "shift_px": 6, "rotation_deg": 15.0, "scale": 0.25, "crop": 0.3, "erasing": 1.0, "contrast": 0.4,
           "offset_c": 2.0, "brightness": 0.3, "fixed_pattern_c": 0.5, "noise_c": 0.5, "dropped_frames": 0.4,
           "lost_packets": 0.4, "box_jitter": 0.2}
OFF = dict.fromkeys(Augment.__annotations__, 0)
OVER_TIME = {"time_warp", "dropped_frames", "lost_packets"}


@dataclass
class Example:
    """One augmentation alone; `over_time` when one frame does not show it."""

    title: str
    before: Window
    after: Window
    over_time: bool


def examples(data, index: int, *, seed: int, **strengths: float) -> list[Example]:
    """What each augmentation does to sample `index` of a ThermalActionDataset, those that are off at a typical strength.

    strengths: all fields of `Augment`. Of nine draws the one that changes most is shown, of probabilities a hit. For
    `pictures.draw_augmentations`, which cannot import this module: validate draws without torch.
    """
    window, shown = data.read(index), []
    for name, typical in TYPICAL.items():
        on = bool(strengths[name])
        strength = strengths[name] if on and typical != 1.0 else typical
        settings = OFF | {name: strength, "copy_paste_balance": strengths["copy_paste_balance"]}
        (augmentation,) = augmentations(**settings)
        draws = [augmentation(window, np.random.default_rng([seed, draw])) for draw in range(9)]
        title = f"{name} {strengths[name] if on else strength}" + ("" if on else " (off)")
        shown.append(Example(title, window, max(draws, key=lambda drawn: change(window, drawn)), name in OVER_TIME))
    return shown


def change(before: Window, after: Window) -> float:
    moved = len(after.boxes) == len(before.boxes) and np.abs(after.boxes - before.boxes).sum()
    return float(np.abs(after.frames - before.frames).mean() + moved)
