"""python -m pytest tests/test_reference.py

Without these, a network could be called good for beating a forest that saw nothing, or bad for losing to one that peeked.
"""

import json

import numpy as np
import pytest

from thermal_action.dataset import ThermalActionDataset
from thermal_action.files import write_json
from thermal_action.recordings import Frames, write_recording
from thermal_action.scoring import reference
from thermal_action.scoring.baselines import find_persons
from thermal_action.scoring.reference import CELLS, PARTS, cut_out, describe, describe_persons, describe_warmth, picture_parts
from thermal_action.transforms import ThermalActionTransform

HEIGHT, WIDTH = 40, 60
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH] + 0.5  # the middles of pixels


def blob(x: float, y: float, long: float = 2.0, wide: float = 2.0) -> np.ndarray:
    return 8 * np.exp(-((COLUMNS - x) / long) ** 2 / 2 - ((ROWS - y) / wide) ** 2 / 2)


def box(x: float, y: float, width: float = 12, height: float = 12) -> list[float]:
    return [(x - width / 2) / WIDTH, (y - height / 2) / HEIGHT, (x + width / 2) / WIDTH, (y + height / 2) / HEIGHT]


def test_parts_of_a_window_tell_what_was_before_and_after_and_where_something_moved():
    frames = np.full((64, HEIGHT, WIDTH), 20.0)
    frames[32:, 10:20, 10:20] += 8  # somebody appears at the keyframe
    pictures = picture_parts(frames, 32)
    assert pictures.shape == (1 + 2 * PARTS, HEIGHT, WIDTH)
    inside, outside = pictures[:, 15, 15], pictures[:, 30, 50]
    assert inside[0] == 8 and not outside.any()  # relative to the room
    before, just_before, around, just_after, after = inside[1 : 1 + PARTS]
    assert before == just_before == 0 and 0 < around < 8 and just_after == after == 8
    assert (inside[1 + PARTS :] > 0).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("length", [2, 3, 5, 16, 64])
def test_windows_of_any_length_have_all_parts(length):
    pictures = picture_parts(np.random.default_rng(0).normal(20, 1, (length, 8, 8)), length // 2)
    assert pictures.shape == (1 + 2 * PARTS, 8, 8) and np.isfinite(pictures).all()


@pytest.mark.parametrize("outward", [False, True])
@pytest.mark.parametrize(("x", "y"), [(15, 12), (45, 30), (30, 20), (3, 37)])
def test_crops_stand_where_the_boxes_stand_also_at_the_edge(x, y, outward):
    crops = cut_out(blob(x, y)[None], np.array([box(30, 5), box(x, y)]), outward)
    assert crops.shape == (2, 1, CELLS, CELLS)
    cut = crops[1, 0]
    middle = cut[CELLS // 2 - 1 : CELLS // 2 + 1, CELLS // 2 - 1 : CELLS // 2 + 1]
    assert middle.min() > 5 and middle.max() - middle.min() < 0.5
    assert cut.max() == middle.max()


def test_crops_turned_outward_tell_bodies_along_the_line_of_sight_from_bodies_across_it():
    """Who stands points away from the picture's centre wherever that is, who lies need not."""
    along, across = [], []
    for x, y, long, wide, target in ((50, 20, 4, 1.5, along), (10, 20, 4, 1.5, along), (30, 8, 1.5, 4, along),
                                     (50, 20, 1.5, 4, across), (30, 32, 4, 1.5, across)):
        crops = cut_out(blob(x, y, long, wide)[None], np.array([box(x, y)]), outward=True)
        target.append(describe_warmth(crops)[0, 0, 3] / describe_warmth(crops)[0, 0, 4])
    assert min(along) > 3 and max(across) < 1 / 3


def test_features_are_one_finite_row_per_person_and_ignore_the_level_of_the_sensor():
    frames = np.tile(20 + blob(15, 12) + blob(40, 30), (16, 1, 1))
    boxes = np.array([box(15, 12), box(40, 30), [0.5, 0.5, 0.5, 0.5]])  # the last one is empty
    features = describe(picture_parts(frames, 8), boxes)
    assert features.shape[0] == 3 and np.isfinite(features).all()
    assert np.allclose(describe(picture_parts(frames + 3, 8), boxes), features)
    assert describe(picture_parts(frames, 8), boxes[:1]).shape == (1, features.shape[1])


def write_side(folder, seed: int) -> ThermalActionDataset:
    """300 frames of one person: every 20 frames lying (wide), standing (round) or walking (round, moving); some empty."""
    generator = np.random.default_rng(seed)
    frames, images, persons = [], [], []
    for block in range(15):
        action, x, y = block % 3, generator.uniform(15, 45), generator.uniform(12, 28)
        for step in range(20):
            place = x if action != 2 else x + 6 * np.sin(step)
            frames.append(generator.normal(20, 0.2, (HEIGHT, WIDTH)) + blob(place, y, *((4.5, 2) if action == 0 else (2.5, 2.5))))
        for index in (block * 20 + 9, block * 20 + 11):
            images.append({"id": f"R_{index}", "sensor_id": "R", "mac_address": "A", "timestamp": 1000 * index, "width": WIDTH,
                           "height": HEIGHT, "frame_idx": index})
            if block != 4:  # nobody is annotated there
                persons.append({"id": len(persons), "image_id": f"R_{index}", "category_id": action, "object_id": 0,
                                "bbox": [x / WIDTH, y / HEIGHT, 14 / WIDTH, 12 / HEIGHT]})
    folder.mkdir()
    numbers = np.arange(len(frames))
    write_recording(folder / "R.h5", [Frames(1000 * numbers, numbers, np.array(frames), 0 * numbers)], sensor_id="R",
                    mac_address="A", compression="none", level=1)
    write_json(folder / "side.json", {"images": images[::-1], "annotations": persons,
                                      "categories": [{"id": label, "name": name} for label, name in enumerate("abcd")]})
    return ThermalActionDataset(folder, folder / "side.json", ThermalActionTransform(False), 16)


def test_the_forest_knows_shapes_and_motion(tmp_path):
    train, val = write_side(tmp_path / "train", 0), write_side(tmp_path / "val", 1)
    (_, labels), (asked, truth) = find_persons(train.samples), find_persons(val.samples)
    known, unseen = describe_persons(train), describe_persons(val)
    assert len(known) == len(labels) == 28 and len(unseen) == len(asked.boxes)
    answers = [reference.random_forest(known, labels, unseen, 4, 0, jobs) for jobs in (1, 2)]
    assert np.array_equal(*answers)  # whatever the number of threads
    assert np.mean(answers[0].argmax(axis=1) == truth) > 0.9
    assert answers[0].shape == (28, 4) and answers[0].sum(axis=1) == pytest.approx(np.ones(28))


def test_the_forest_reads_no_validation_label(tmp_path):
    train, val = write_side(tmp_path / "train", 0), write_side(tmp_path / "val", 1)
    path = tmp_path / "val/side.json"
    coco = json.loads(path.read_text())
    for person in coco["annotations"]:
        person["category_id"] = 3
    path.write_text(json.dumps(coco))
    changed = ThermalActionDataset(tmp_path / "val", path, ThermalActionTransform(False), 16)
    assert np.array_equal(describe_persons(val), describe_persons(changed))
    assert set(find_persons(changed.samples)[1]) == {3} and len(train) == 30


@pytest.mark.parametrize("labels", [[0], [1, 1], [0, 1], [0, 1, 1, 2]])
def test_a_handful_of_training_persons_is_enough_to_answer(labels):
    features = np.random.default_rng(0).normal(size=(len(labels) + 2, 5))
    answer = reference.random_forest(features[2:], np.array(labels), features[:2], 4, 0)
    assert answer.shape == (2, 4) and answer.sum(axis=1) == pytest.approx([1, 1])
