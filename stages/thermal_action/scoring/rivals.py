"""Who is asked the same as the model: four baselines that never look at a person, and a random forest that does."""

import numpy as np
from tqdm import tqdm

from thermal_action.dataset import ThermalActionDataset
from thermal_action.scoring import baselines, reference
from thermal_action.scoring.baselines import find_persons

REFERENCE = "random_forest"


def ask_rivals(train: ThermalActionDataset, val: ThermalActionDataset, seed: int, jobs: int) -> dict[str, np.ndarray]:
    """What each says of the persons of `val`, having seen `train`: float [N, C]. jobs: processes of the forest."""
    (known, labels), (asked, _) = find_persons(train.samples), find_persons(val.samples)
    count = len(train.classes)
    annotated = [*train.samples, *val.samples]
    with tqdm(total=2 * len(annotated), unit="window", desc="baselines and forest") as bar:
        rooms = [baselines.picture_rooms(side, annotated, bar.update) for side in (train, val)]
        features = [reference.describe_persons(side, bar.update) for side in (train, val)]
    return {
        "majority": baselines.majority_class(labels, len(asked.boxes), count),
        "nearest_keyframe": baselines.nearest_keyframe(known, labels, asked, count),
        "box_position": baselines.box_position(known, labels, asked, count, seed),
        "background": baselines.background_only(known, labels, rooms[0], asked, rooms[1], count, seed),
        REFERENCE: reference.random_forest(features[0], labels, features[1], count, seed, jobs),
    }
