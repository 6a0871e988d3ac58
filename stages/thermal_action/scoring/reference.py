"""A random forest on crops, motion and position: what a day of classical feature engineering gets out of the same windows.

Unlike the baselines it looks at the person, and so tells what a network is worth beyond what can be measured by hand. Only the
training side teaches it. Its settings are fixed: of 36 forests these trees are the best on simulated recordings (of another seed
than the default's, cross-validated by recording, by top-1 + mean-class). What it is told was chosen with real recordings in
view, so it is rather flattered there.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import map_coordinates
from sklearn.ensemble import ExtraTreesClassifier

from thermal_action.boxes import centres, sizes
from thermal_action.dataset import ThermalActionDataset
from thermal_action.scoring.baselines import fit_and_answer, in_order_of_frames

# the parts of a window: long before, before, around, after and long after the keyframe; their ends as shares of its length
PART_ENDS = (0.25, 0.45, 0.55, 0.75, 1.0)
PARTS = len(PART_ENDS)
# a crop: cells a side, and its side relative to the box's
CELLS, CROP = 16, 2.0
# so many C above the room is a person, and neither noise (0.2 to 0.4 C) nor most of the warm rim
WARM_C = 1.5
# the distance to the next person, for somebody who is alone
FAR_PX = 60.0


def random_forest(train: np.ndarray, labels: np.ndarray, val: np.ndarray, num_classes: int, seed: int, jobs: int = 1,
                  ) -> np.ndarray:
    """What the forest learns from training persons [N, F] and says of others [M, F]: float [M, C]; `jobs` threads.

    Extremely randomised trees (Geurts, Ernst and Wehenkel, Machine Learning 63, 2006). Five persons a leaf, classes weighted
    by the inverse of their count: on a few hundred persons smaller leaves rarely answer with a rare class.
    """
    forest = ExtraTreesClassifier(300, min_samples_leaf=5, max_features=0.5, class_weight="balanced", random_state=seed,
                                  n_jobs=jobs)
    # threads add up the trees in any order: rounded, so that it decides no tie
    return np.round(fit_and_answer(forest, train, labels, val, num_classes), 12)


def describe_persons(data: ThermalActionDataset, progress: Callable[[int], object] = int) -> np.ndarray:
    """Features of all persons of `data`, in the order of find_persons: float32 [N, F]; progress(n): n more windows."""
    found: dict[int, np.ndarray] = {}
    for number in in_order_of_frames(data.samples):
        sample = data.samples[number]
        if len(sample.boxes):
            found[number] = describe(picture_parts(data.brightness(number), data.windowing.position), sample.boxes)
        progress(1)
    return np.concatenate([found[number] for number in sorted(found)]).astype(np.float32)


def picture_parts(frames: np.ndarray, keyframe: int) -> np.ndarray:
    """The keyframe, each part's mean and each part's motion: frames [T, H, W] C -> float [1 + 2 PARTS, H, W] C.

    Temperatures are relative to the room, the median of the window. Motion is the mean absolute difference of successive
    frames.
    """
    relative = frames - np.median(frames)
    steps = np.abs(np.diff(relative, axis=0, prepend=relative[:1]))
    ends = np.round(np.array(PART_ENDS) * len(frames)).astype(int)
    starts = np.minimum(np.append(0, ends[:-1]), len(frames) - 1)
    parts = [slice(start, max(end, start + 1)) for start, end in zip(starts, ends, strict=True)]
    return np.stack([relative[keyframe], *(relative[part].mean(axis=0) for part in parts),
                     *(steps[part].mean(axis=0) for part in parts)])


def describe(pictures: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Features of N > 0 persons with `boxes` [N, 4] in the pictures of picture_parts: float [N, F].

    Place and size, temperatures, motion, where the warmth lies and how that changes, and the crops themselves.
    """
    count, quarter = len(boxes), CELLS // 4
    upright, turned = cut_out(pictures, boxes, outward=False), cut_out(pictures, boxes, outward=True)
    motion = upright[:, 1 + PARTS :]
    inside = upright[:, :, quarter:-quarter, quarter:-quarter]  # the box without its surroundings
    temperatures = inside[:, : 1 + PARTS].reshape(count, 1 + PARTS, -1)
    warmth = describe_warmth(turned[:, : 1 + PARTS])  # (N, 1 + PARTS, 6)
    changes = np.diff(warmth[:, 1:], axis=1)
    blocks = [
        describe_places(boxes, *pictures.shape[1:]),
        np.moveaxis(np.percentile(temperatures, [10, 50, 90, 100], axis=-1), 0, -1), temperatures.std(axis=-1),
        inside[:, 1 + PARTS :].mean(axis=(-2, -1)), motion.mean(axis=(-2, -1)), motion.max(axis=(-2, -1)),
        warmth, changes.sum(axis=1), np.abs(changes).sum(axis=1),
        shrink(turned[:, [0, 1, PARTS]], 2), shrink(upright[:, 0], 2), shrink(motion.mean(axis=1), 4),
    ]
    return np.concatenate([block.reshape(count, -1) for block in blocks], axis=1)


def describe_places(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centre, size and area of N boxes, distance from the picture's centre, how many they are and how near the next one is."""
    count = len(boxes)
    middle, size = centres(boxes) * (width, height), sizes(boxes) * (width, height)  # pixels
    apart = np.linalg.norm(middle[:, None] - middle[None], axis=-1) + np.diag(np.full(count, FAR_PX))
    return np.column_stack([middle, size, size.prod(axis=1), np.linalg.norm(middle - (width / 2, height / 2), axis=1),
                            np.full(count, count), apart.min(axis=1, initial=FAR_PX)])


def cut_out(pictures: np.ndarray, boxes: np.ndarray, outward: bool) -> np.ndarray:
    """Pictures [P, H, W] around N boxes, CROP times their size, bilinear: float [N, P, CELLS, CELLS].

    `outward`: squares of the box's area whose first axis points away from the picture's centre, for seen from the ceiling
    whoever stands points that way and whoever lies does not.
    """
    height, width = pictures.shape[1:]
    middle, size = centres(boxes) * (width, height), sizes(boxes) * (width, height)  # pixels (N, 2)
    steps = ((np.arange(CELLS) + 0.5) / CELLS - 0.5) * CROP
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    grid = np.stack([columns, rows], axis=-1)[None]  # (1, CELLS, CELLS, 2) x, y
    if outward:
        away = middle - (width / 2, height / 2)
        x, y = (away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)).T[:, :, None, None]
        grid = np.stack([y * columns + x * rows, y * rows - x * columns], axis=-1)
        size = np.sqrt(size.prod(axis=1, keepdims=True))
    places = grid * size[:, None, None] + middle[:, None, None] - 0.5  # the middle of pixel 0 is at 0.5
    return np.stack([map_coordinates(picture, [places[..., 1], places[..., 0]], order=1, mode="nearest")
                     for picture in pictures], axis=1)


def describe_warmth(crops: np.ndarray) -> np.ndarray:
    """Where the warmth of crops [..., CELLS, CELLS] C lies and how far it spreads: float [..., 6].

    The share of warm cells, the centroid (2), the variances along both axes and the covariance; lengths relative to the crop.
    """
    warmth = np.maximum(crops - WARM_C, 0)
    warmth /= np.maximum(warmth.sum(axis=(-2, -1), keepdims=True), 1e-6)
    place = (np.arange(CELLS) + 0.5) / CELLS - 0.5
    rows, columns = warmth.sum(axis=-1), warmth.sum(axis=-2)
    row, column = rows @ place, columns @ place
    return np.stack([(crops > WARM_C).mean(axis=(-2, -1)), row, column, rows @ place**2 - row**2, columns @ place**2 - column**2,
                     np.einsum("...ij,i,j->...", warmth, place, place) - row * column], axis=-1)


def shrink(crops: np.ndarray, factor: int) -> np.ndarray:
    """Means of `factor` x `factor` cells of crops [..., CELLS, CELLS]."""
    side = CELLS // factor
    return crops.reshape(*crops.shape[:-2], side, factor, side, factor).mean(axis=(-3, -1))
