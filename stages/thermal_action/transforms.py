"""From degrees to network input: scaling, background normalisation, and augmentation whose boxes follow."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Background = Literal["absolute", "window_median"]

# Where a room is moved to by window_median: between the medians of measured rooms, 16.2 and 18.1 C, rounded, so that one
# temperature range serves both ways.
ROOM_C = 17.0
# A flip, a shift or a jitter never shrinks a box below this part of the picture (a quarter of a pixel in 60).
SMALLEST_SIDE = 1 / 240


class ThermalActionTransform:
    """Window of frames [T, H, W] C and boxes [N, 4] -> frames [3, T, H, W] float32 in [0, 1] and boxes [N, 4].

    The three channels are one: a view without a copy. Boxes are x1, y1, x2, y2 in [0, 1] before and after.

    is_train: augment; without it the same window always gives the same tensor.
    temperature_range: C that become 0 and 1; beyond them values are cut.
    background: `absolute` trusts the sensor's level. `window_median` moves the median of the whole window to 17 C first,
        for the level drifts by degrees between sensors, seasons and warm-up. (One number a window: a level per pixel would
        erase whoever lies still.)

    Augmentation (all off at 0; draws come from the generator passed to the call):
    flip_horizontal, flip_vertical: probability of each; a ceiling camera has no upside.
    shift_px: largest move in pixels each way. No move takes a box's centre out of the picture, or a person at the edge from it.
    contrast: largest relative change of the contrast to the room (clothing, room temperature).
    offset_c: standard deviation of a change of level, C.
    noise_c: largest standard deviation of white noise added to each pixel and frame, C.
    box_jitter: largest move of each box side, relative to the box's size (annotators and detectors differ).
    """

    def __init__(
        self,
        is_train: bool,
        *,
        temperature_range: tuple[float, float] = (5.0, 45.0),
        background: Background = "absolute",
        flip_horizontal: float = 0.5,
        flip_vertical: float = 0.5,
        shift_px: int = 4,
        contrast: float = 0.2,
        offset_c: float = 0.5,
        noise_c: float = 0.1,
        box_jitter: float = 0.1,
    ):
        low, high = temperature_range
        if low >= high:
            raise ValueError(f"temperature_range {temperature_range} must rise")
        self.is_train = is_train
        self.temperature_range = (low, high)
        self.background = background
        self.flip_horizontal = flip_horizontal
        self.flip_vertical = flip_vertical
        self.shift_px = shift_px
        self.contrast = contrast
        self.offset_c = offset_c
        self.noise_c = noise_c
        self.box_jitter = box_jitter

    def __call__(
        self, frames: np.ndarray, boxes: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        low, high = self.temperature_range
        room = float(np.median(frames[::4]))  # every fourth frame tells it as well
        level, gain, noise_c = (ROOM_C if self.background == "window_median" else room), 1.0, 0.0
        if self.is_train:
            rng = rng or np.random.default_rng()
            frames, boxes = self._move(frames, boxes, rng)
            boxes = jitter_boxes(boxes, self.box_jitter, rng)
            gain = 1 + rng.uniform(-self.contrast, self.contrast)
            level += rng.normal(0, self.offset_c)
            noise_c = rng.uniform(0, self.noise_c)
        # (frames - room) * gain + level, scaled, in one pass
        scaled = (frames - np.float32(room)) * np.float32(gain / (high - low))
        scaled += np.float32((level - low) / (high - low))
        if noise_c:
            scaled += rng.standard_normal(scaled.shape, dtype=np.float32) * np.float32(noise_c / (high - low))
        frames = torch.from_numpy(np.clip(scaled, 0.0, 1.0, out=scaled))
        return frames.expand(3, *frames.shape), torch.from_numpy(boxes.astype(np.float32).reshape(-1, 4))

    def _move(self, frames: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        _, height, width = frames.shape
        x = place_along(width, rng.random() < self.flip_horizontal, self.shift_px, boxes[:, 0::2], rng)
        y = place_along(height, rng.random() < self.flip_vertical, self.shift_px, boxes[:, 1::2], rng)
        frames = frames[:, y[0][:, None], x[0][None, :]]
        return frames, np.stack([x[1][:, 0], y[1][:, 0], x[1][:, 1], y[1][:, 1]], axis=1)


def place_along(
    pixels: int, flip: bool, shift_px: int, sides: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip and shift along one axis: (source pixel of every pixel, sides [N, 2] of the boxes there)."""
    source = np.arange(pixels)
    if flip:
        source, sides = source[::-1], 1 - sides[:, ::-1]
    shift = int(rng.integers(-shift_px, shift_px + 1))
    if len(sides):
        edges, centres = sides * pixels, sides.mean(axis=1) * pixels
        # the edge repeats: whoever is cut by it would be smeared over the pixels that a move away from it uncovers
        lowest = 0 if edges.max() > pixels - 1 else -min(centres.min(), shift_px)
        highest = 0 if edges.min() < 1 else min(pixels - centres.max(), shift_px)
        shift = int(np.clip(shift, lowest, highest))
    source = source[np.clip(np.arange(pixels) - shift, 0, pixels - 1)]
    return source, np.clip(sides + shift / pixels, 0, 1)


def jitter_boxes(boxes: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
    """Every side of boxes [N, 4] moved by up to `largest` of the box's size, within the picture and never inside out."""
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = np.clip(boxes + rng.uniform(-largest, largest, boxes.shape) * size, 0, 1)
    keep = (moved[:, 2:] - moved[:, :2]).min(axis=1, initial=1.0) >= SMALLEST_SIDE
    return np.where(keep[:, None], moved, boxes)
