"""Moves of the picture, boxes with it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import grid_sample

from thermal_action.augmentation.window import Window
from thermal_action.boxes import WHOLE_PICTURE, centres, overlap, sizes

# Tries to find a place for a rectangle.
TRIES = 10


@dataclass(frozen=True)
class Move:
    """Exact pixel moves: flips and a half turn, each with its probability (a ceiling camera has no upside), and a shift of up to
    shift_px each way, edges repeated. No move takes a box's centre out of the picture, or a person at the edge from it."""

    flip_horizontal: float
    flip_vertical: float
    half_turn: float
    shift_px: int

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        height, width = window.frames.shape[1:3]
        mirror_x, mirror_y, turn = rng.random(3) < (self.flip_horizontal, self.flip_vertical, self.half_turn)
        people = seen_whole(window.boxes)
        columns, along_x = place_along(width, mirror_x ^ turn, self.shift_px, people[:, 0::2], rng)
        rows, along_y = place_along(height, mirror_y ^ turn, self.shift_px, people[:, 1::2], rng)

        def move(boxes: np.ndarray) -> np.ndarray:
            return np.stack([along_x(boxes[:, 0::2]), along_y(boxes[:, 1::2])], axis=2).reshape(-1, 4)

        source = (rows[:, None] * width + columns).ravel()
        flat = window.frames.reshape(len(window.frames), height * width, *window.frames.shape[3:])
        frames = flat.take(source, axis=1).reshape(window.frames.shape)
        return window.moved(frames, move)


def seen_whole(boxes: np.ndarray) -> np.ndarray:
    """Those of boxes [N, 4] that a move must keep in the picture: not a clip's, which is all of it."""
    return boxes[(boxes != WHOLE_PICTURE).any(axis=1)]


def place_along(
    length: int, flip: bool, shift_px: int, sides: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Flip and shift along one axis of `length` pixels, which suit persons with `sides` [N, 2]: (source pixel of every pixel,
    what becomes of a box's sides)."""

    def turn(sides: np.ndarray) -> np.ndarray:
        return 1 - sides[:, ::-1] if flip else sides

    source, sides = np.arange(length)[:: -1 if flip else 1], turn(sides)
    shift = int(rng.integers(-shift_px, shift_px + 1))
    if len(sides):
        edges, middles = sides * length, sides.mean(axis=1) * length
        # the edge repeats: whoever is cut by it would be smeared over the pixels that a move away from it uncovers
        lowest = 0 if edges.max() > length - 1 else -min(middles.min(), shift_px)
        highest = 0 if edges.min() < 1 else min(length - middles.max(), shift_px)
        shift = int(np.clip(shift, lowest, highest))
    source = source[np.clip(np.arange(length) - shift, 0, length - 1)]
    return source, lambda sides: np.clip(turn(sides) + shift / length, 0, 1)


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
    height, width = window.frames.shape[1:3]
    picture = np.array([width, height])

    def middles_of(boxes: np.ndarray) -> np.ndarray:
        return ((centres(boxes) - 0.5) * picture @ linear.T) / picture - shift + 0.5

    def move(boxes: np.ndarray) -> np.ndarray:
        middles = middles_of(boxes)
        half = np.sqrt((sizes(boxes) * picture) ** 2 @ (linear**2).T) / picture / 2
        return np.clip(np.concatenate([middles - half, middles + half], axis=1), 0, 1).astype(np.float32)

    people = seen_whole(window.boxes)
    if (np.abs(middles_of(people) - 0.5) > 0.5).any():
        return None
    rows, columns = np.mgrid[:height, :width]
    targets = np.stack([columns, rows], axis=-1) + 0.5 - picture / 2 + shift * picture  # (H, W, 2)
    source = targets @ np.linalg.inv(linear).T / picture + 0.5
    if smears(source, people, picture):
        return None
    grid = torch.from_numpy((2 * source - 1).astype(np.float32))
    # frames, and their colours, as channels of one picture: they share the grid
    layers = np.ascontiguousarray(np.moveaxis(window.frames, 3, 1) if window.frames.ndim == 4 else window.frames)
    frames = grid_sample(torch.from_numpy(layers.reshape(-1, height, width))[None], grid[None], mode="bilinear",
                         padding_mode="border", align_corners=False)[0].numpy().reshape(layers.shape)
    return window.moved(np.moveaxis(frames, 1, -1) if window.frames.ndim == 4 else frames, move)


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
        height, width = window.frames.shape[1:3]
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
