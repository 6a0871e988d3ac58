"""What training varies on purpose: windows that the sensor could have seen, with boxes and labels that stay true.

`augmentations` lists them in the order in which a picture comes about: scene, lens, sensor, link, annotator. Each is a
call (window, generator) -> window that never writes into what it was given; one that is off is not in the list.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np

from thermal_action.augmentation.lens import Erasing, Move, Resample
from thermal_action.augmentation.people import CopyPaste, PersonContrast
from thermal_action.augmentation.sensor import BoxJitter, DroppedFrames, FixedPattern, Gain, LostPackets, Noise, Offset, TimeWarp
from thermal_action.augmentation.window import Window
from thermal_action.params import Field, section

Share = Annotated[float, Field(ge=0, le=1)]


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
