"""What each augmentation does, to look at."""

from dataclasses import dataclass

import numpy as np

from thermal_action.augmentation import Augment, augmentations
from thermal_action.augmentation.window import Window

# Strengths at which each is plain to see.
TYPICAL = {"copy_paste": 1.0, "person_contrast": 0.4, "time_warp": 0.5, "flip_horizontal": 1.0, "flip_vertical": 1.0,
           "half_turn": 1.0, "shift_px": 6, "rotation_deg": 15.0, "scale": 0.25, "crop": 0.3, "erasing": 1.0, "contrast": 0.4,
           "offset_c": 2.0, "brightness": 0.3, "fixed_pattern_c": 0.5, "noise_c": 0.5, "dropped_frames": 0.4,
           "lost_packets": 0.4, "box_jitter": 0.2}
OFF = dict.fromkeys(Augment.__annotations__, 0)
# of persons and of a thermal sensor, not of a video's clips
THERMAL = {"copy_paste", "person_contrast", "offset_c", "fixed_pattern_c", "noise_c", "lost_packets", "box_jitter"}
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
        if window.frames.ndim == 4 and name in THERMAL and not on:
            continue
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
