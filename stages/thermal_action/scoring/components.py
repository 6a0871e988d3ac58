"""Finding persons without learning: warm connected components of what differs from the room, as a day of classical work gives.

Its settings are those of a grid that find the training side's persons best.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter, label, sum_labels

from thermal_action.dataset import ThermalActionDataset
from thermal_action.scoring.baselines import Places, find_persons, in_order_of_frames
from thermal_action.scoring.detection import LabelledBoxes, frame_map

# every how many frames of the window tell its background
EVERY = 4
# warmth of all pixels of a component together that gives it a score of 0.5, C
HALF_SURE_C = 100.0
# training windows that the settings are chosen on, evenly spread
CHOOSING = 200


@dataclass(frozen=True)
class Settings:
    of: str  # what warm is reckoned from: the room's median (room) or the pixel's lowest temperature in the window (background)
    threshold_c: float  # above it
    smoothing_px: float  # deviation of the blur before
    least_px: int  # smallest component
    margin_px: float  # added to its box


GRID = [Settings(*values) for values in product(("room", "background"), (1.5, 2.5, 3.5, 5.0), (0.0, 0.8), (8, 20),
                                                (-0.5, 0.0, 0.5))]


def warmth(frames: np.ndarray, keyframe: int) -> dict[str, np.ndarray]:
    """frames [T, H, W] C -> the keyframe's moment [H, W] C above what each of `Settings.of` reckons from."""
    moment = frames[max(keyframe - 1, 0) : keyframe + 2].mean(axis=0)
    return {"room": moment - np.median(frames[::EVERY]), "background": moment - frames[::EVERY].min(axis=0)}


class Components(NamedTuple):
    """The n warm components of a picture of shape (H, W)."""

    sides: np.ndarray  # (n, 4) x1, y1, x2, y2 pixels
    areas: np.ndarray  # (n,) pixels
    heats: np.ndarray  # (n,) sum of the warmth, C
    shape: tuple[int, int]

    def boxes(self, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
        """(boxes [m, 4] in [0, 1], scores [m]), the most certain first: the warmer and larger, the surer."""
        large = self.areas >= settings.least_px
        margin = settings.margin_px * np.array([-1, -1, 1, 1])
        boxes = np.clip((self.sides[large] + margin) / np.tile(self.shape[::-1], 2), 0, 1)
        heats = np.maximum(self.heats[large], 0)
        scores = heats / (heats + HALF_SURE_C)
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order]


def find_components(picture: np.ndarray, threshold_c: float, smoothing_px: float) -> Components:
    """Of one picture of `warmth` [H, W]."""
    smooth = gaussian_filter(picture, smoothing_px) if smoothing_px else picture
    components, count = label(smooth > threshold_c, structure=np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    sides = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in find_objects(components)]
    return Components(np.array(sides, float).reshape(-1, 4), sum_labels(np.ones_like(picture), components, numbers),
                      sum_labels(picture, components, numbers), picture.shape)


def find_all(data: ThermalActionDataset, numbers: Iterable[int], settings: Sequence[Settings], progress: Callable[[int], object],
             ) -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
    """What each of `settings` finds in the samples `numbers`: number -> one (boxes, scores) for each."""
    found = {}
    wanted = set(numbers)
    for number in in_order_of_frames(data.samples):
        if number in wanted:
            warm = warmth(data.frames.read(data.samples[number].recording, data.window(number)), data.windowing.position)
            pictures = {(each.of, each.threshold_c, each.smoothing_px) for each in settings}
            seen = {(of, *how): find_components(warm[of], *how) for of, *how in pictures}
            found[number] = [seen[each.of, each.threshold_c, each.smoothing_px].boxes(each) for each in settings]
            progress(1)
    return found


def find_by_warmth(train: ThermalActionDataset, val: ThermalActionDataset, progress: Callable[[int], object] = int,
                   ) -> list[tuple[np.ndarray, np.ndarray]]:
    """(boxes [n, 4], scores [n]) of each sample of `val`, with the settings that suit `train`; progress(n): n more windows."""
    settings = choose_settings(train, progress)
    found = find_all(val, range(len(val)), [settings], progress)
    return [found[number][0] for number in range(len(val))]


def choose_settings(train: ThermalActionDataset, progress: Callable[[int], object]) -> Settings:
    """Those of the grid with the highest AP of persons at IoU 0.5 on the training side; the first of equals."""
    numbers = np.unique(np.linspace(0, len(train) - 1, CHOOSING).round().astype(int)).tolist()
    found = find_all(train, numbers, GRID, progress)
    places, _ = find_persons([train.samples[number] for number in numbers])
    return GRID[int(np.argmax([average_precision([found[number][place] for number in numbers], places)
                               for place in range(len(GRID))]))]


def average_precision(found: Sequence[tuple[np.ndarray, np.ndarray]], places: Places) -> float:
    truth = LabelledBoxes(places.keyframe.tolist(), places.boxes, np.zeros(len(places.boxes), np.int64))
    images = [number for number, (boxes, _) in enumerate(found) for _ in boxes]
    boxes, scores = (np.concatenate([each[part] for each in found]) for part in (0, 1))
    return frame_map(truth, LabelledBoxes(images, boxes, np.zeros(len(scores), np.int64), scores), 1, 0.5).mean
