"""Who is asked the same as the model: baselines that never look at a person, and a random forest that does."""

import numpy as np
from tqdm import tqdm

from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.dataset import ThermalActionDataset
from thermal_action.scoring import baselines, reference
from thermal_action.scoring.baselines import find_persons

REFERENCE = "random_forest"


def ask_rivals(train: ThermalActionDataset, val: ThermalActionDataset, seed: int, jobs: int) -> dict[str, np.ndarray]:
    """What each says of the persons of `val`, having seen `train`: float [N, C]. jobs: processes of the forest.

    Where every person is as large as the picture, a clip, there is neither a position nor anything behind to tell from; and as
    each is a device of its own, the nearest keyframe is that of the clip most like in length.
    """
    (known, labels), (asked, _) = find_persons(train.samples), find_persons(val.samples)
    count = len(train.classes)
    annotated = [*train.samples, *val.samples]
    clips = all((places.boxes == WHOLE_PICTURE).all() for places in (known, asked))
    answers = {"majority": baselines.majority_class(labels, len(asked.boxes), count),
               "nearest_keyframe": baselines.nearest_keyframe(known, labels, asked, count)}
    with tqdm(total=(2 - clips) * len(annotated), unit="window", desc="baselines and forest") as bar:
        if not clips:
            answers["box_position"] = baselines.box_position(known, labels, asked, count, seed)
            rooms = [baselines.picture_rooms(side, annotated, bar.update) for side in (train, val)]
            answers["background"] = baselines.background_only(known, labels, rooms[0], asked, rooms[1], count, seed)
        features = [reference.describe_persons(side, bar.update) for side in (train, val)]
    answers[REFERENCE] = reference.random_forest(features[0], labels, features[1], count, seed, jobs)
    return answers
