"""How a model looks at temperatures: the sensor's level taken out, then a range of degrees scaled to [0, 1]; and at a video's
pixels likewise. Without torch.
"""

from typing import Literal

import numpy as np

Background = Literal["absolute", "window_median"]
# a video's channels
COLOURS = ("red", "green", "blue")

# Where a room is moved to by window_median: between the medians of measured rooms, 16.2 and 18.1 C, rounded, so that one
# temperature range serves both ways.
ROOM_C = 17.0


def room_c(frames: np.ndarray) -> float:
    """Median temperature of a window, C; every fourth frame tells it as well. As np.median of numbers without NaN, seven times as
    fast: numpy is quick to partition at one place, and slow at the two of which np.median asks.
    """
    values = frames[::4].ravel()
    half = len(values) // 2
    parts = np.partition(values, half)
    lower = parts[half] if len(values) % 2 else parts[:half].max()
    return float(np.mean([lower, parts[half]], dtype=values.dtype))


def scale(frames: np.ndarray, temperature_range: tuple[float, float], out: np.ndarray | None = None) -> np.ndarray:
    """frames C -> float32 in [0, 1]; beyond the range values are cut. `out` may be `frames`: a window less to write."""
    low, high = temperature_range
    scaled = np.subtract(frames, low, out=out)
    scaled *= 1 / (high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def look_at(frames: np.ndarray, *, temperature_range: tuple[float, float], background: Background) -> np.ndarray:
    """A window [T, H, W] C as a model sees it, without augmentation: float32 [T, H, W] in [0, 1]; see ThermalActionTransform."""
    if background == "window_median":
        moved = frames + (ROOM_C - room_c(frames))
        return scale(moved, temperature_range, out=moved)
    return scale(frames, temperature_range)
