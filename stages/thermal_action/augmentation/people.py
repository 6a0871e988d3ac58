"""Persons who join, and persons dressed otherwise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thermal_action import InputError
from thermal_action.augmentation.window import Donor, Window, room_c
from thermal_action.boxes import centres, overlap, pixels, sizes

# Around a person's box, what is done to the person fades over this part of the box's side, and over some pixels at least.
FADE, FADE_PX = 0.3, 2.0
# Warmer than the surroundings by less, C: floor and noise; by more than the second: certainly the person.
FLOOR_C, PERSON_C = 0.5, 1.5
# Tries to find a person who fits somewhere.
TRIES = 10
# Object id of a person who was pasted in.
PASTED = -1


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
        require_temperatures(window, "copy_paste")
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


def require_temperatures(window: Window, name: str) -> None:
    if window.frames.ndim == 4:
        raise InputError(f"params.yaml: train.augment.{name} tells persons by their warmth, and a video has none: set it to 0")


def flip_box(box: np.ndarray, horizontal: bool, vertical: bool) -> np.ndarray:
    x1, y1, x2, y2 = box
    if horizontal:
        x1, x2 = 1 - x2, 1 - x1
    if vertical:
        y1, y2 = 1 - y2, 1 - y1
    return np.array([x1, y1, x2, y2], box.dtype)


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
    excess = source - surroundings_c(source[window.keyframe], box)
    silhouette = np.clip((excess - FLOOR_C) / (PERSON_C - FLOOR_C), 0, 1) * neighbourhood(source, box, window.keyframe)
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
        require_temperatures(window, "person_contrast")
        changes = rng.uniform(-self.largest, self.largest, len(window.boxes)).astype(np.float32)
        if not len(changes):
            return window
        near = np.stack([neighbourhood(window.frames, box, window.keyframe) for box in window.boxes])
        # who share a pixel share its change
        change = np.tensordot(changes, near, 1) / np.maximum(near.sum(axis=0), 1)
        return replace(window, frames=window.frames + change * np.maximum(window.frames - window.room_c, 0))


def neighbourhood(frames: np.ndarray, box: np.ndarray, keyframe: int) -> np.ndarray:
    """float32 [T, H, W]: 1 in the box that follows its person through the window, fading to 0 around it."""
    width_height = np.array(frames.shape[:0:-1])
    size = sizes(box) * width_height
    near = []
    for path, side, fade, pixel_count in zip(follow(frames, box, keyframe).T, size, fading(size), width_height, strict=True):
        beyond = np.abs(np.arange(pixel_count) + 0.5 - path[:, None]) - side / 2  # (T, pixels)
        share = np.clip(1 - beyond / fade, 0, 1)
        near.append((share * share * (3 - 2 * share)).astype(np.float32))
    x, y = near
    return y[:, :, None] * x[:, None, :]


def fading(size_px: np.ndarray) -> np.ndarray:
    """Pixels over which the neighbourhood of a box of this size fades."""
    return np.maximum(FADE * size_px, FADE_PX)


def surroundings_c(keyframe: np.ndarray, box: np.ndarray) -> float:
    """Median temperature of a ring around the box in the keyframe [H, W], C."""
    ring = np.zeros(keyframe.shape, dtype=bool)
    ring[pixels(box, *keyframe.shape, margin=3)] = True
    ring[pixels(box, *keyframe.shape)] = False
    return float(np.median(keyframe[ring] if ring.any() else keyframe))


def follow(frames: np.ndarray, box: np.ndarray, keyframe: int) -> np.ndarray:
    """[T, 2] centre x, y of the box in pixels, following its person from the keyframe both ways.

    Mean shift: the box moves to the centroid of the warmth in it (Comaniciu et al., CVPR 2000), and stays where there is none.
    """
    picture = np.array(frames.shape[:0:-1])
    start, (reach_x, reach_y) = centres(box) * picture, sizes(box) * picture / 2 + FADE_PX
    warmth = np.maximum(frames - (surroundings_c(frames[keyframe], box) + (FLOOR_C + PERSON_C) / 2), 0)
    grid_x, grid_y = np.arange(picture[0]) + np.float32(0.5), np.arange(picture[1]) + np.float32(0.5)

    def towards_warmth(warmth: np.ndarray, x: float, y: float) -> tuple[float, float]:
        columns = slice(max(int(x - reach_x), 0), math.ceil(x + reach_x))
        rows = slice(max(int(y - reach_y), 0), math.ceil(y + reach_y))
        near = warmth[rows, columns]
        per_column = near.sum(axis=0)
        total = float(per_column.sum())
        return (float(per_column @ grid_x[columns]) / total, float(near.sum(axis=1) @ grid_y[rows]) / total) if total else (x, y)

    path = np.empty((len(frames), 2))
    path[keyframe] = towards_warmth(warmth[keyframe], *start.tolist())
    for ahead in (-1, 1):
        place = tuple(path[keyframe].tolist())
        for index in range(keyframe + ahead, len(frames) if ahead > 0 else -1, ahead):
            path[index] = place = towards_warmth(warmth[index], *place)
    return path + (start - path[keyframe])
