"""How a model looks at temperatures: the sensor's level taken out, then a range of degrees scaled to [0, 1]. Without torch."""

from typing import Literal

import numpy as np

Background = Literal["absolute", "window_median"]

# Where a room is moved to by window_median: between the medians of measured rooms, 16.2 and 18.1 C, rounded, so that one
# temperature range serves both ways.
ROOM_C = 17.0


def room_c(frames: np.ndarray) -> float:
    """Median temperature of a window, C; every fourth frame tells it as well."""
    return float(np.median(frames[::4]))


def scale(frames: np.ndarray, temperature_range: tuple[float, float]) -> np.ndarray:
    """frames C -> float32 in [0, 1]; beyond the range values are cut."""
    low, high = temperature_range
    scaled = frames - low
    scaled *= 1 / (high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def look_at(frames: np.ndarray, *, temperature_range: tuple[float, float], background: Background) -> np.ndarray:
    """A window [T, H, W] C as a model sees it, without augmentation: float32 [T, H, W] in [0, 1]; see ThermalActionTransform."""
    if background == "window_median":
        frames = frames + (ROOM_C - room_c(frames))
    return scale(frames, temperature_range)
