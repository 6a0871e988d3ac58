"""From degrees, or a video's pixels, to network input: background normalisation, augmentation in training, scaling."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from thermal_action.annotations import BEDS
from thermal_action.augmentation import augmentations
from thermal_action.augmentation.window import Window
from thermal_action.look import ROOM_C, Background, scale


class ThermalActionTransform:
    """Window of frames [T, H, W] C -> frames [3, T, H, W] float32 in [0, 1], boxes [N, 4], labels [N], object ids [N], beds.

    The three channels are one: a view without a copy; those of a video, [T, H, W, 3], are its colours. Boxes are x1, y1, x2, y2
    in [0, 1] before and after. Copy-paste may add a person; nobody is ever lost. Beds are the boxes [M, 4] of furniture to lie
    on.

    is_train: augment; without it the same window always gives the same tensor.
    temperature_range: C, or values of a video's pixels, that become 0 and 1; beyond them values are cut.
    background: `absolute` trusts the sensor's level. `window_median` moves the median of the whole window to 17 C first,
        for the level drifts by degrees between sensors, seasons and warm-up. (One number a window: a level per pixel would
        erase whoever lies still.)
    augment: strengths by name, see `augmentations`; every one is off at 0. Draws come from the generator that is
        passed to the call, or made of the seed.
    """

    def __init__(self, is_train: bool, *, temperature_range: tuple[float, float] = (5.0, 45.0),
                 background: Background = "absolute", **augment: float):
        low, high = temperature_range
        if low >= high:
            raise ValueError(f"temperature_range {temperature_range} must rise")
        self.temperature_range = (low, high)
        self.background = background
        self.augmentations = augmentations(dark_c=low, **augment) if is_train else []

    def __call__(self, window: Window, seed: np.random.Generator | Sequence[int] | None = None,
                 ) -> tuple[Tensor, Tensor, Tensor, np.ndarray, Tensor]:
        if self.background == "window_median":
            window = replace(window, frames=window.frames + (ROOM_C - window.room_c), room_c=ROOM_C)
        rng = np.random.default_rng(seed) if self.augmentations else None
        for augmentation in self.augmentations:
            window = augmentation(window, rng)
        own = window.frames if self.background == "window_median" else None  # a copy, with which nobody else works
        frames = torch.from_numpy(scale(window.frames, self.temperature_range, out=own))
        beds = [box for name, box in window.furniture if name in BEDS]
        boxes, beds = (torch.from_numpy(np.array(each, np.float32).reshape(-1, 4)) for each in (window.boxes, beds))
        return as_channels(frames), boxes, torch.from_numpy(window.labels), window.object_ids, beds


def as_channels(frames: Tensor) -> Tensor:
    """A window [T, H, W], or one in colours [T, H, W, 3] -> [3, T, H, W], a view."""
    return frames.movedim(-1, 0) if frames.ndim == 4 else frames.expand(3, *frames.shape)
