"""What sensor, link and annotator make of a scene: other temperatures, noise, time, losses, other boxes."""

from dataclasses import dataclass, replace

import numpy as np

from thermal_action.augmentation.window import Window
from thermal_action.boxes import sizes

# A packet's share of a frame (576 of 2400 pixels; the last one is shorter, and never lost), and how often the real device loses
# one, two, three and four.
PACKET, OFTEN = 0.24, (0.66, 0.21, 0.1, 0.03)
# A jitter never shrinks a box below this part of the picture (a quarter of a pixel in 60).
SMALLEST_SIDE = 1 / 240


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


@dataclass(frozen=True)
class TimeWarp:
    """Slower or faster around the keyframe, by a factor of up to 1 + largest. Only frames of the window are used (others may
    belong to the validation side): where it ends, its first and last frame repeat, as at the ends of a recording."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        total = len(window.frames)
        speed = (1 + self.largest) ** rng.uniform(-1, 1)
        steps = np.rint((np.arange(total) - window.keyframe) * speed).astype(int)
        return replace(window, frames=window.frames[np.clip(window.keyframe + steps, 0, total - 1)])


@dataclass(frozen=True)
class DroppedFrames:
    """Up to this share of the frames never arrives and their neighbours close up; where the window ends, its ends repeat."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        total = len(window.frames)
        arrived = rng.random(total) >= rng.uniform(0, self.largest)
        arrived[window.keyframe] = True
        kept = np.flatnonzero(arrived)
        steps = np.arange(total) - window.keyframe + np.searchsorted(kept, window.keyframe)
        return replace(window, frames=window.frames[kept[np.clip(steps, 0, len(kept) - 1)]])


@dataclass(frozen=True)
class LostPackets:
    """Up to this share of the frames loses packets, which repeat the frame before, as the hdf5 stage repairs them."""

    largest: float

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        cut = rng.random(len(window.frames)) < rng.uniform(0, self.largest)
        cut[0] = False  # nothing is known before it
        frames = window.frames.copy()
        flat = frames.reshape(len(frames), -1)
        for index in np.flatnonzero(cut):
            for packet in rng.choice(len(OFTEN), 1 + rng.choice(len(OFTEN), p=OFTEN), replace=False):
                lost = slice(round(packet * PACKET * flat.shape[1]), round((packet + 1) * PACKET * flat.shape[1]))
                flat[index, lost] = flat[index - 1, lost]
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
