"""A window on its way through augmentation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thermal_action.look import room_c


@dataclass
class Window:
    """Frames around a keyframe, and the persons in the keyframe.

    frames [T, H, W] float32 C, or [T, H, W, 3] from 0 to 255 of a video; boxes [N, 4] x1, y1, x2, y2 in [0, 1]; labels [N] int64;
    object_ids [N] int64.
    furniture: (name, box) as annotated.
    donors: (generator, balance) -> a person of another recording, or None where there is none; see `people.CopyPaste`.
    keyframe: its place among the frames, T // 2 if none is given.
    room_c: median of the frames as they were given, C.
    """

    frames: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    object_ids: np.ndarray
    furniture: Sequence[tuple[str, np.ndarray]] = ()
    donors: "Callable[[np.random.Generator, float], Donor | None] | None" = None
    keyframe: int | None = None
    room_c: float | None = None

    def __post_init__(self):
        if self.keyframe is None:
            self.keyframe = len(self.frames) // 2
        if self.room_c is None:
            self.room_c = room_c(self.frames)

    def moved(self, frames: np.ndarray, move: Callable[[np.ndarray], np.ndarray]) -> "Window":
        """With other frames, in which all boxes [n, 4] are where `move` says."""
        furniture = [(name, move(box[None])[0]) for name, box in self.furniture]
        return replace(self, frames=frames, boxes=move(self.boxes), furniture=furniture)


@dataclass
class Donor:
    """A person of another window: box [4], label, the furniture there, and a call that reads the frames [T, H, W] C."""

    box: np.ndarray
    label: int
    furniture: Sequence[tuple[str, np.ndarray]]
    frames: Callable[[], np.ndarray]
