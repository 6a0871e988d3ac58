"""python -m pytest tests/test_finding.py

Without these, whoever is not found, found twice or taken for somebody else could go uncounted.
"""

import numpy as np
import pytest

from thermal_action.annotations import Sample
from thermal_action.scoring.baselines import find_persons
from thermal_action.scoring.components import GRID, Settings, find_components, warmth
from thermal_action.scoring.finding import Found, follow, match_persons, summarise_finding
from thermal_action.scoring.tubes import Identified, score_tubes
from thermal_action.tracking import Tracker

LEFT, RIGHT, BELOW = (0.1, 0.1, 0.3, 0.4), (0.6, 0.1, 0.8, 0.4), (0.1, 0.6, 0.3, 0.9)


def sample(number: int, boxes: list, labels: list[int], object_ids: list[int], recording: str = "R", obscured: str = "0%",
           ) -> Sample:
    return Sample(f"{recording}_{number}", recording, "mac", 1000 * number, number, 60, 40,
                  np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(object_ids, np.int64),
                  [obscured] * len(boxes))


def found(rows: list[tuple[int, tuple, float, int]], num_classes: int = 3) -> Found:
    """(keyframe, box, score, named action) of each detection."""
    answers = 0.1 + 0.7 * np.eye(num_classes)[[action for *_, action in rows]]
    return Found(np.array([keyframe for keyframe, *_ in rows]), np.array([box for _, box, *_ in rows], float).reshape(-1, 4),
                 np.array([score for _, _, score, _ in rows]), answers)


SAMPLES = [sample(0, [LEFT, RIGHT], [0, 1], [7, 8]), sample(1, [LEFT], [0], [7], obscured="50%"), sample(2, [], [], [])]


def test_all_found_and_named_scores_one():
    summary = summarise_finding(found([(0, LEFT, 0.9, 0), (0, RIGHT, 0.8, 1), (1, LEFT, 0.7, 0)]), SAMPLES, 3, 0.5)
    for score in ("ap50", "ap30", "map50", "map30", "recall", "precision", "recall_0", "recall_50", "top1", "mean_class", "idf1"):
        assert summary[score] == pytest.approx(1), score
    assert summary["switches"] == 0


def test_what_is_missed_doubled_misnamed_or_unsure_costs():
    rows = [(0, LEFT, 0.9, 1), (0, RIGHT, 0.2, 1), (1, BELOW, 0.8, 0), (1, LEFT, 0.7, 0), (1, LEFT, 0.6, 0), (2, LEFT, 0.95, 0)]
    summary = summarise_finding(found(rows), SAMPLES, 3, 0.5)
    assert summary["recall"] == pytest.approx(2 / 3)  # the one on the right is unsure
    assert summary["precision"] == pytest.approx(2 / 5)
    assert summary["recall_0"] == pytest.approx(1 / 2) and summary["recall_50"] == 1
    assert summary["top1"] == pytest.approx(1 / 2)  # of the two found, one is misnamed
    # most certain first: false (2), true, false, true, false, true: precision reached 1/2, 1/2, 1/2
    assert summary["ap50"] == pytest.approx(1 / 2)


def test_without_any_detection_the_scores_are_zero_or_open():
    nothing = Found(np.empty(0, int), np.empty((0, 4)), np.empty(0), np.empty((0, 3)))
    summary = summarise_finding(nothing, SAMPLES, 3, 0.5)
    assert summary["ap50"] == summary["map30"] == summary["recall"] == summary["idf1"] == 0
    assert np.isnan(summary["precision"]) and "top1" not in summary


def test_a_detection_finds_one_person_and_the_surest_chooses_first():
    places, _ = find_persons([sample(0, [LEFT, (0.12, 0.1, 0.32, 0.4)], [0, 1], [1, 2])])
    which = match_persons(found([(0, (0.11, 0.1, 0.31, 0.4), 0.6, 0), (0, LEFT, 0.9, 0)]), places)
    assert which.tolist() == [1, 0]
    assert match_persons(found([(0, LEFT, 0.9, 0)]), places).tolist() == [0, -1]
    assert match_persons(found([(0, BELOW, 0.9, 0)]), places).tolist() == [-1, -1]


# identities

def boxes_at(*columns: float) -> np.ndarray:
    """One box of 9 x 9 pixels for each middle, in a row of a 40 x 60 picture."""
    return np.array([[(x - 4.5) / 60, 0.4, (x + 4.5) / 60, 0.625] for x in columns]).reshape(-1, 4)


def test_persons_keep_their_identity_while_they_pass_each_other():
    """One walks right, one left, ten pixels a second; where they meet, the way they were going tells them apart."""
    tracker, seen = Tracker((40, 60)), []
    for step in range(21):
        right, left = 10 + 2 * step, 50 - 2 * step
        order = [right, left] if step % 2 else [left, right]
        identities = tracker.update(200 * step, boxes_at(*order))
        seen.append(identities.tolist() if step % 2 else identities[::-1].tolist())
    assert all(pair == seen[0] for pair in seen) and tracker.begun == 2


def test_who_was_away_for_a_moment_is_known_again_and_for_long_is_not():
    tracker = Tracker((40, 60), patience_s=4.0)
    first = tracker.update(0, boxes_at(20))
    assert tracker.update(3000, boxes_at()).tolist() == []
    assert tracker.update(3500, boxes_at(22)).tolist() == first.tolist()
    assert tracker.update(9000, boxes_at(22)).tolist() != first.tolist()


def test_nobody_jumps_through_the_room():
    tracker = Tracker((40, 60))
    first = tracker.update(0, boxes_at(10))
    assert tracker.update(170, boxes_at(50)).tolist() != first.tolist()
    assert tracker.update(340, boxes_at(10)).tolist() == first.tolist()
    with pytest.raises(ValueError, match="time 300 is before 340"):
        tracker.update(300, boxes_at(10))


def test_identities_of_recordings_differ():
    samples = [sample(0, [LEFT], [0], [1]), sample(1, [LEFT], [0], [1]), sample(0, [LEFT], [0], [1], recording="S")]
    identities = follow(found([(0, LEFT, 0.9, 0), (1, LEFT, 0.9, 0), (2, LEFT, 0.9, 0)]), samples)
    assert identities[0] == identities[1] != identities[2]


def tubes(persons: list[int], identities: list[int]) -> dict[str, float]:
    """One box a keyframe, found each time."""
    keyframes, boxes = np.arange(len(persons)), np.tile(LEFT, (len(persons), 1))
    return score_tubes(Identified(keyframes, boxes, np.array(persons)), Identified(keyframes, boxes, np.array(identities)), 0.5)


def test_a_change_of_identity_is_a_switch_and_splits_the_tube():
    assert tubes([1, 1, 1, 1], [5, 5, 5, 5]) == {"idf1": 1.0, "switches": 0}
    assert tubes([1, 1, 1, 1], [5, 5, 5, 6]) == {"idf1": 0.75, "switches": 1}
    assert tubes([1, 1, 1, 1], [5, 6, 5, 6]) == {"idf1": 0.5, "switches": 3}
    # two persons under one identity: only one of them can own it
    assert tubes([1, 1, 2, 2], [5, 5, 5, 5]) == {"idf1": 0.5, "switches": 0}


def test_boxes_that_are_missed_or_too_much_lower_idf1():
    keyframes, boxes = np.arange(4), np.tile(LEFT, (4, 1))
    persons = Identified(keyframes, boxes, np.ones(4, int))
    assert score_tubes(persons, Identified(keyframes[:2], boxes[:2], np.ones(2, int)), 0.5)["idf1"] == pytest.approx(4 / 6)
    away = np.tile(RIGHT, (4, 1))
    assert score_tubes(persons, Identified(keyframes, away, np.ones(4, int)), 0.5) == {"idf1": 0.0, "switches": 0}


# the classical reference

def room_with(*warm: tuple[int, int, int, int], above_c: float = 6.0) -> np.ndarray:
    frames = np.full((16, 40, 60), 18.0, np.float32) + np.random.default_rng(0).normal(0, 0.1, (16, 40, 60)).astype(np.float32)
    for x1, y1, x2, y2 in warm:
        frames[:, y1:y2, x1:x2] += above_c
    return frames


def test_components_are_the_warm_things_largest_first():
    settings = Settings("room", 2.5, 0.0, 8, 0.0)
    picture = warmth(room_with((10, 10, 19, 19), (40, 20, 44, 24), (30, 30, 32, 32)), 8)["room"]
    boxes, scores = find_components(picture, settings.threshold_c, settings.smoothing_px).boxes(settings)
    assert (boxes * (60, 40, 60, 40)).round(3).tolist() == [[10, 10, 19, 19], [40, 20, 44, 24]]  # the third one is too small
    assert 1 > scores[0] > scores[1] > 0
    wider, _ = find_components(picture, 2.5, 0.0).boxes(Settings("room", 2.5, 0.0, 8, 0.5))
    assert (wider[0] * (60, 40, 60, 40)).round(3).tolist() == [9.5, 9.5, 19.5, 19.5]


def test_background_forgets_what_was_warm_all_the_while():
    frames = room_with((10, 10, 19, 19))
    frames[6:, 20:29, 40:49] += 6  # somebody who came
    picture = warmth(frames, 8)
    boxes, _ = find_components(picture["background"], 2.5, 0.0).boxes(Settings("background", 2.5, 0.0, 8, 0.0))
    assert (boxes * (60, 40, 60, 40)).round(3).tolist() == [[40, 20, 49, 29]]
    assert len(find_components(picture["room"], 2.5, 0.0).areas) == 2


def test_an_empty_room_has_no_component():
    picture = warmth(room_with(), 8)
    for settings in GRID:
        boxes, scores = find_components(picture[settings.of], settings.threshold_c, settings.smoothing_px).boxes(settings)
        assert boxes.shape == (0, 4) and scores.shape == (0,)
