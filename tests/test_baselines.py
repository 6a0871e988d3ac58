"""python -m pytest tests/test_baselines.py

Without these, a model could be called good for beating straw men, or bad for losing to opponents that peeked.
"""

from dataclasses import replace

import numpy as np
import pytest

from thermal_action.annotations import Sample
from thermal_action.dataset import ThermalActionDataset
from thermal_action.files import write_json
from thermal_action.recordings import Frames, write_recording
from thermal_action.scoring.baselines import (
    Places,
    background_only,
    blank_persons,
    box_position,
    classify,
    find_persons,
    majority_class,
    nearest_keyframe,
    picture_rooms,
    separate_blocks,
)
from thermal_action.scoring.classification import score_classification, score_clips
from thermal_action.transforms import ThermalActionTransform

MIDDLE = (0.4, 0.4, 0.6, 0.6)


def person(keyframe: int, time: int, box=MIDDLE, device: str = "A", recording: str = "R") -> tuple:
    return box, keyframe, time, device, recording


def places(*persons: tuple) -> Places:
    boxes, keyframe, time, device, recording = zip(*persons, strict=True)
    return Places(np.array(boxes, np.float32), np.array(keyframe), np.array(time), np.array(device), np.array(recording))


def sample(name: str, time: int, boxes, labels, mac: str = "A") -> Sample:
    return Sample(name, "R", mac, time, 0, 60, 40, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
                  np.arange(len(labels)))


def test_persons_come_in_order_and_empty_keyframes_have_none():
    samples = [sample("a", 5, [MIDDLE, MIDDLE], [3, 1]), sample("b", 6, [], []), sample("c", 7, [MIDDLE], [2])]
    found, labels = find_persons(samples)
    assert labels.tolist() == [3, 1, 2]
    assert found.keyframe.tolist() == [0, 0, 2] and found.time.tolist() == [5, 5, 7]
    assert find_persons([])[0].boxes.shape == (0, 4)


def test_majority_answers_with_the_training_frequencies():
    answer = majority_class(np.array([2, 2, 0, 2]), 3, 4)
    assert answer.tolist() == [[0.25, 0, 0.75, 0]] * 3


@pytest.mark.parametrize(("time", "expected"), [(40, 0), (50, 0), (51, 1), (1000, 1)])
def test_nearest_keyframe_in_time_and_the_earlier_of_two(time, expected):
    train = places(person(0, 0), person(1, 100))
    assert nearest_keyframe(train, np.array([0, 1]), places(person(0, time)), 2).argmax() == expected


def test_nearest_keyframe_prefers_its_own_device():
    train = places(person(0, 0, device="A"), person(1, 99, device="B"))
    labels = np.array([0, 1])
    assert nearest_keyframe(train, labels, places(person(0, 100, device="A")), 2).argmax() == 0
    assert nearest_keyframe(train, labels, places(person(0, 100, device="C")), 2).argmax() == 1


def test_nearest_keyframe_takes_the_overlapping_person_then_the_closest():
    left, right = (0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 0.9, 0.9)
    train = places(person(0, 0, left), person(0, 0, right))
    labels = np.array([1, 2])
    assert nearest_keyframe(train, labels, places(person(0, 3, (0.1, 0.0, 0.4, 0.2))), 3).argmax() == 1
    assert nearest_keyframe(train, labels, places(person(0, 3, (0.6, 0.2, 0.8, 0.4))), 3).argmax() == 2
    assert nearest_keyframe(train, labels, places(person(0, 3, (0.21, 0.0, 0.4, 0.2))), 3).argmax() == 1  # no overlap at all


def test_nearest_keyframe_ranks_the_rest_by_frequency_and_names_a_clip_of_two_as_its_truth_is():
    left, right = (0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 0.9, 0.9)
    train = places(person(0, 0, left), person(0, 0, right), *(person(1 + number, 900 + number) for number in range(6)))
    labels = np.array([0, 1, 1, 1, 1, 3, 3, 2])
    answer = nearest_keyframe(train, labels, places(person(0, 1, left), person(0, 1, right)), 4)
    assert answer.sum(axis=1) == pytest.approx([1, 1])
    assert np.argsort(-answer[0], kind="stable").tolist() == [0, 1, 3, 2]
    assert score_clips(answer, np.array([0, 1]), np.zeros(2, int)).top1 == 1.0  # of two actions the lower id


def by_position(count: int, seed: int) -> tuple[Places, np.ndarray]:
    """People on the left do 0, on the right 1; large boxes do 2."""
    generator = np.random.default_rng(seed)
    x, large = generator.uniform(0.1, 0.7, count), generator.random(count) < 0.3
    size = np.where(large, 0.3, 0.15)
    boxes = np.stack([x, np.full(count, 0.3), x + size, 0.3 + size], axis=1)
    found = places(*(person(index, 10_000 * index, tuple(box), recording=f"R{index % 5}") for index, box in enumerate(boxes)))
    return found, np.where(large, 2, (x + size / 2 > 0.45).astype(int))


def test_box_position_finds_what_position_gives_away():
    (train, labels), (val, truth) = by_position(200, 1), by_position(80, 2)
    answer = box_position(train, labels, val, 4, seed=0)
    assert score_classification(answer, truth).top1 > 0.9


def test_the_strongest_opponent_depends_on_how_the_sides_were_split():
    """Memory wins where neighbours stand on the other side, trend where whole blocks are new; both must be found."""
    generator = np.random.default_rng(0)
    block = np.repeat(np.arange(8), 25)
    # within a block the label follows which block it is (memory); across blocks it follows the second feature, weakly
    labels = (generator.random(8) < 0.5).astype(int)[block]
    features = np.column_stack([block * 10.0, generator.normal(size=200)])
    alone = np.arange(200)
    remembered = classify(features, labels, alone, features[::7] + 0.01, 2, seed=0)
    assert np.mean(remembered.argmax(axis=1) == labels[::7]) == 1.0

    trend = (features[:, 1] > 0).astype(int)
    noisy = np.where(generator.random(200) < 0.1, 1 - trend, trend)
    elsewhere = np.column_stack([np.full(100, 1000.0), generator.normal(size=100)])
    answer = classify(features, noisy, block, elsewhere, 2, seed=0)
    assert np.mean(answer.argmax(axis=1) == (elsewhere[:, 1] > 0)) > 0.85


@pytest.mark.parametrize(("val_time", "device", "blocks"), [
    (1_003_000, "A", [0, 0, 0, 1, 1, 2]),  # 3 s from the training side: what is 3 s apart is a block
    (500, "A", [0, 1, 2, 3, 4, 5]),  # among the keyframes: each is one
    (90_000_000, "A", [0, 0, 0, 1, 1, 1]),  # nothing is that far apart: recordings
    (0, "new", [0, 0, 0, 1, 1, 1]),  # a new device, and only one in training: recordings
])
def test_blocks_mirror_the_distance_between_the_sides(val_time, device, blocks):
    times = [0, 1000, 2000, 600_000, 601_000, 1_000_000]
    train = places(*(person(index, time, recording="RS"[index // 3]) for index, time in enumerate(times)))
    assert separate_blocks(train, places(person(0, val_time, device=device))).tolist() == blocks


def test_blocks_are_devices_for_a_new_device():
    train = places(person(0, 0, device="A"), person(1, 10, device="B"), person(2, 20, device="A"))
    assert separate_blocks(train, places(person(0, 5, device="C"))).tolist() == [0, 1, 0]


@pytest.mark.parametrize("labels", [[0], [1, 1], [0, 1], [0, 1, 1, 2]])
def test_a_handful_of_training_persons_is_enough_to_answer(labels):
    train = places(*(person(index, 1000 * index) for index in range(len(labels))))
    val = places(person(0, 60_000), person(1, 61_000))
    for answer in (box_position(train, np.array(labels), val, 4, 0), nearest_keyframe(train, np.array(labels), val, 4),
                   background_only(train, np.array(labels), np.ones((4, 6)), val, np.ones((2, 6)), 4, 0)):
        assert answer.shape == (2, 4) and answer.sum(axis=1) == pytest.approx([1, 1])


def test_blanked_pixels_change_nothing_and_all_others_do():
    generator = np.random.default_rng(0)
    frames = generator.normal(20, 1, (9, 12, 20)).astype(np.float32)
    boxes = np.array([[0.3, 0.25, 0.6, 0.75]])
    room = blank_persons(frames, boxes)
    warmer = frames.copy()
    warmer[:, 3:9, 6:12] += 15
    assert np.array_equal(blank_persons(warmer, boxes), room)
    warmer[:, 3:9, 6:12] = np.nan
    assert np.array_equal(blank_persons(warmer, boxes), room)
    for row, column in np.argwhere(np.ones((12, 20))):
        touched = frames.copy()
        touched[:, row, column] += 15
        inside = 2 <= row < 10 and 5 <= column < 13  # the box and its margin of a pixel
        assert np.array_equal(blank_persons(touched, boxes), room) == inside


def test_a_room_is_cells_of_visible_pixels_and_nearest_cells_behind_persons():
    frames = np.tile(np.repeat(np.arange(5.0), 4), (3, 8, 1))  # (3, 8, 20): five columns of cells of 0..4 C
    assert blank_persons(frames, np.empty((0, 4))).tolist() == [0, 1, 2, 3, 4] * 2
    assert blank_persons(frames, np.array([[0.0, 0.0, 0.36, 1.0]])).tolist() == [2, 2, 2, 3, 4] * 2
    assert np.isnan(blank_persons(frames, np.array([[0.0, 0.0, 1.0, 1.0]]))).all()
    assert blank_persons(np.ones((2, 10, 7)), np.empty((0, 4))).tolist() == [1] * 6  # sizes that cells do not divide


HEIGHT, WIDTH = 12, 20


def write_side(folder, name: str, keyframes: list[tuple[int, tuple, int]], warm: np.ndarray | None = None):
    """A recording of 100 noisy frames, with persons (frame, box, label); `warm` [100, H, W] C is added."""
    generator = np.random.default_rng(1)
    frames = generator.normal(20, 1, (100, HEIGHT, WIDTH)).astype(np.float32) + (0 if warm is None else warm)
    folder.mkdir(exist_ok=True)
    numbers = np.arange(100)
    write_recording(folder / "R.h5", [Frames(1000 * numbers, numbers, frames, 0 * numbers)], sensor_id="R", mac_address="A",
                    compression="none", level=1)
    images = [{"id": f"R_{index}", "sensor_id": "R", "mac_address": "A", "timestamp": 1000 * index, "width": WIDTH,
               "height": HEIGHT, "frame_idx": index} for index in sorted({index for index, _, _ in keyframes})]
    persons = [{"id": number, "image_id": f"R_{index}", "category_id": label, "object_id": 0,
                "bbox": [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]}
               for number, (index, box, label) in enumerate(keyframes)]
    write_json(folder / f"{name}.json", {"images": images, "annotations": persons,
                                         "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]})
    return ThermalActionDataset(folder, folder / f"{name}.json", ThermalActionTransform(False), 16)


def test_the_background_never_sees_a_person_not_even_one_annotated_a_moment_earlier(tmp_path):
    """Somebody who lay in the corner for most of the window and then got up must not be in the median of the room."""
    corner, keyframe = (0.0, 0.0, 0.3, 0.5), (0.6, 0.5, 0.8, 1.0)
    heat = np.zeros((100, HEIGHT, WIDTH), np.float32)
    heat[:, :6, :6] = 10  # pixels of `corner`
    heat[:, 6:, 12:16] = 10  # pixels of `keyframe`
    persons = [(44, corner, 0), (50, keyframe, 1)]
    cold, warm = (write_side(tmp_path / name, "val", persons, added) for name, added in (("cold", None), ("warm", heat)))
    assert np.array_equal(picture_rooms(cold, cold.samples), picture_rooms(warm, warm.samples))
    alone = [picture_rooms(data, data.samples[1:])[1] for data in (cold, warm)]
    assert not np.array_equal(*alone)  # the other keyframe's box is what hides the corner
    elsewhere = [replace(found, mac_address="B") for found in warm.samples[:1]]
    assert not np.array_equal(picture_rooms(warm, [*elsewhere, warm.samples[1]])[1], picture_rooms(warm, warm.samples)[1])


def test_a_window_full_of_people_gets_the_average_room(tmp_path):
    everywhere = (0.0, 0.0, 1.0, 1.0)
    data = write_side(tmp_path, "val", [(10, MIDDLE, 0), (50, everywhere, 0), (90, MIDDLE, 1)])
    rooms = picture_rooms(data, data.samples)
    assert np.array_equal(rooms[1], (rooms[0] + rooms[2]) / 2)
    hidden = write_side(tmp_path / "hidden", "val", [(50, everywhere, 0)])
    assert picture_rooms(hidden, hidden.samples).tolist() == [[0.0] * 15]


def test_no_baseline_reads_a_validation_label(tmp_path):
    train = write_side(tmp_path, "train", [(index, (0.1 + index / 200, 0.2, 0.3 + index / 200, 0.6), index % 2)
                                           for index in range(8, 92, 4)])
    answers = []
    for flip in (0, 1):
        val = write_side(tmp_path / f"val{flip}", "val", [(index, MIDDLE, (index + flip) % 2) for index in range(10, 90, 5)])
        (known, labels), (asked, truth) = find_persons(train.samples), find_persons(val.samples)
        annotated = [*train.samples, *val.samples]
        rooms = [picture_rooms(side, annotated) for side in (train, val)]
        answers.append([truth, majority_class(labels, len(asked.boxes), 2), nearest_keyframe(known, labels, asked, 2),
                        box_position(known, labels, asked, 2, 0),
                        background_only(known, labels, rooms[0], asked, rooms[1], 2, 0)])
    (truth, *first), (flipped, *second) = answers
    assert np.array_equal(truth, 1 - flipped)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one, other)


def test_background_tells_rooms_apart_and_nothing_more():
    generator = np.random.default_rng(0)
    rooms = generator.normal(18, 3, (2, 30))  # two rooms; in the first people mostly do 0, in the second 1
    where = np.arange(80) % 2
    train = places(*(person(index, 1000 * index, recording=f"R{index // 10}") for index in range(80)))
    pictures = rooms[where] + generator.normal(0, 0.1, (80, 30))
    val = places(person(0, 85_000), person(0, 85_000), person(1, 86_000))
    answer = background_only(train, where, pictures, val, rooms, 2, seed=0)
    assert answer.argmax(axis=1).tolist() == [0, 0, 1]
    assert np.array_equal(answer[0], answer[1])
