"""python -m pytest tests/test_frame_map.py

Without these, frame-mAP would drift from the official AVA evaluation as it did in three well-known code bases, and numbers
could not be set beside published ones. Every rule has a case small enough to compute by hand.
"""

import heapq

import numpy as np
import pytest

from thermal_action.scoring.detection import LabelledBoxes, detect_in_boxes, frame_map

LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)


def rows(*entries) -> LabelledBoxes:
    """(image, box, label) or (image, box, label, score) each."""
    images, boxes, labels, *scores = zip(*entries, strict=True)
    return LabelledBoxes(images, np.array(boxes), np.array(labels), np.array(scores[0]) if scores else None)


def nothing() -> LabelledBoxes:
    return LabelledBoxes([], np.empty((0, 4)), np.empty(0, int), np.empty(0))


def ap(truth: LabelledBoxes, detections: LabelledBoxes, label: int = 0, num_classes: int = 2, **options) -> float:
    return frame_map(truth, detections, num_classes, **options).average_precision[label]


def test_area_under_the_monotone_envelope_of_all_points():
    truth = rows(("a", LEFT, 0), ("b", LEFT, 0), ("c", LEFT, 0))
    detections = rows(("a", LEFT, 0, 0.9), ("a", RIGHT, 0, 0.8), ("b", LEFT, 0, 0.7), ("c", LEFT, 0, 0.6))
    # true, false, true, true: precision 1, 1/2, 2/3, 3/4, of which the envelope is 1, 3/4, 3/4, 3/4
    assert ap(truth, detections) == pytest.approx(1 / 3 * 1 + 2 / 3 * 3 / 4)


def test_a_missed_person_counts_in_the_denominator():
    truth = rows(("a", LEFT, 0), ("b", LEFT, 0))
    assert ap(truth, rows(("a", LEFT, 0, 0.9))) == pytest.approx(0.5)


def test_a_second_hit_of_one_box_is_false():
    truth = rows(("a", LEFT, 0), ("a", RIGHT, 0))
    detections = rows(("a", LEFT, 0, 0.9), ("a", LEFT, 0, 0.8), ("a", RIGHT, 0, 0.7))
    assert ap(truth, detections) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_a_detection_goes_to_the_largest_overlap_even_if_that_box_is_taken():
    near, far = (0.0, 0.0, 1.0, 1.0), (0.2, 0.0, 1.2, 1.0)
    detections = rows(("a", near, 0, 0.9), ("a", (0.05, 0.0, 1.05, 1.0), 0, 0.8))
    # the second overlaps `far` by 0.85 / 1.15 = 0.74, but `near` by more: it is a duplicate, and `far` stays missed
    assert ap(rows(("a", near, 0), ("a", far, 0)), detections) == pytest.approx(0.5)


def test_the_more_certain_detection_takes_the_box_though_it_fits_worse():
    truth = rows(("a", (0.0, 0.0, 1.0, 1.0), 0))
    worse, exact = ("a", (0.0, 0.0, 0.6, 1.0), 0, 0.9), ("a", (0.0, 0.0, 1.0, 1.0), 0, 0.8)
    for detections in (rows(worse, exact), rows(exact, worse)):
        assert ap(truth, detections) == pytest.approx(1.0)  # true, false; the other way round it would be 1/2


def test_an_overlap_of_just_the_threshold_is_true():
    truth = rows(("a", (0.0, 0.0, 1.0, 1.0), 0))
    half = rows(("a", (0.0, 0.0, 0.5, 1.0), 0, 0.9))
    assert ap(truth, half, iou=0.5) == 1.0
    third = rows(("a", (0.0, 0.0, 0.375, 1.0), 0, 0.9))
    assert ap(truth, third, iou=0.5) == 0.0
    assert ap(truth, third, iou=0.3) == 1.0


def test_only_the_fifty_best_rows_of_an_image_count_over_all_classes():
    truth = rows(("a", LEFT, 0), ("b", LEFT, 0))
    crowd = [("a", RIGHT, 1, 0.5 + index / 1000) for index in range(50)]
    in_a, in_b = ("a", LEFT, 0, 0.4), ("b", LEFT, 0, 0.3)
    assert ap(truth, rows(*crowd, in_a, in_b)) == pytest.approx(0.5)
    assert ap(truth, rows(*crowd[1:], in_a, in_b)) == pytest.approx(1.0)
    assert ap(truth, rows(in_b, in_a, *crowd)) == pytest.approx(0.5)  # wherever in the file it stands


def test_a_row_that_ties_with_the_fiftieth_stays_out_when_it_comes_later():
    truth = rows(("a", LEFT, 0))
    crowd = [("a", RIGHT, 1, 0.5)] * 50
    assert ap(truth, rows(*crowd, ("a", LEFT, 0, 0.5))) == 0.0
    assert ap(truth, rows(("a", LEFT, 0, 0.5), *crowd)) == 1.0


def test_of_equal_scores_the_last_image_comes_first():
    truth = rows(("a", LEFT, 0), ("b", LEFT, 0))
    true_first = rows(("a", LEFT, 0, 0.5), ("b", RIGHT, 0, 0.5))
    false_first = rows(("b", RIGHT, 0, 0.5), ("a", LEFT, 0, 0.5))
    assert ap(truth, true_first) == pytest.approx(1 / 2 * 1 / 2)
    assert ap(truth, false_first) == pytest.approx(1 / 2 * 1)


def test_detections_of_an_image_without_ground_truth_are_false():
    truth = rows(("a", LEFT, 0))
    detections = rows(("empty", LEFT, 0, 0.9), ("a", LEFT, 0, 0.8))
    assert ap(truth, detections) == pytest.approx(0.5)


def test_excluded_images_leave_both_sides():
    truth = rows(("a", LEFT, 0), ("bad", LEFT, 0))
    detections = rows(("bad", RIGHT, 0, 0.9), ("a", LEFT, 0, 0.8))
    assert ap(truth, detections) == pytest.approx(1 / 2 * 1 / 2)
    assert ap(truth, detections, excluded={"bad"}) == 1.0
    assert frame_map(truth, detections, 2, excluded={"bad"}).support.tolist() == [1, 0]


def test_a_class_without_ground_truth_leaves_the_mean_and_one_without_detections_does_not():
    truth = rows(("a", LEFT, 0), ("a", RIGHT, 1))
    result = frame_map(truth, rows(("a", LEFT, 0, 0.9), ("a", LEFT, 2, 0.9)), num_classes=3)
    assert result.average_precision[:2].tolist() == [1.0, 0.0]
    assert np.isnan(result.average_precision[2])
    assert result.mean == 0.5
    assert frame_map(truth, nothing(), 3).mean == 0.0
    assert np.isnan(frame_map(nothing(), rows(("a", LEFT, 0, 0.9)), 3).mean)


def test_classes_do_not_compete_and_one_box_may_carry_several():
    truth = rows(("a", LEFT, 0), ("a", LEFT, 1))
    assert frame_map(truth, rows(("a", LEFT, 0, 0.1), ("a", LEFT, 1, 0.9)), 2).mean == 1.0


def test_empty_boxes_are_dropped_but_take_a_place_among_the_fifty():
    truth = rows(("a", LEFT, 0))
    assert ap(truth, rows(("a", (0.2, 0.0, 0.2, 1.0), 0, 0.9), ("a", LEFT, 0, 0.8))) == 1.0
    empty = [("a", (0.5, 0.5, 0.5, 0.5), 1, 0.9)] * 50
    assert ap(truth, rows(*empty, ("a", LEFT, 0, 0.8))) == 0.0


def test_given_boxes_score_the_classification_alone():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    detections = detect_in_boxes(["a", "a"], np.array([LEFT, RIGHT]), probabilities)
    assert detections.labels.tolist() == [0, 1, 0, 1]
    result = frame_map(rows(("a", LEFT, 0), ("a", RIGHT, 1)), detections, 2)
    assert result.average_precision.tolist() == [1.0, 1.0]  # argmax would have called both class 0


def test_refuses_what_would_be_scored_wrongly():
    with pytest.raises(ValueError, match="finite"):
        rows(("a", LEFT, 0, float("nan")))
    with pytest.raises(ValueError, match="differ in length"):
        LabelledBoxes(["a"], np.array([LEFT, RIGHT]), np.array([0, 1]))
    with pytest.raises(ValueError, match="leave the 2 classes"):
        frame_map(rows(("a", LEFT, 2)), nothing(), 2)
    with pytest.raises(ValueError, match="need scores"):
        frame_map(rows(("a", LEFT, 0)), rows(("a", LEFT, 0)), 2)


def overlap(box, other) -> float:
    width = max(min(box[2], other[2]) - max(box[0], other[0]), 0)
    height = max(min(box[3], other[3]) - max(box[1], other[1]), 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return width * height / (areas[0] + areas[1] - width * height)


def slow_rows(rows: LabelledBoxes, capacity: int) -> dict:
    """Rows (score, action, y1, x1, y2, x2) of each image, read one after the other."""
    images: dict = {}
    scores = np.ones(len(rows.labels)) if rows.scores is None else rows.scores
    for image, (x1, y1, x2, y2), action, score in zip(rows.images, rows.boxes.tolist(), rows.labels.tolist(), scores.tolist(),
                                                     strict=True):
        heap = images.setdefault(image, [])
        if len(heap) < capacity:
            heapq.heappush(heap, (score, action, y1, x1, y2, x2))
        elif score > heap[0][0]:
            heapq.heapreplace(heap, (score, action, y1, x1, y2, x2))
    return {image: sorted(heap, key=lambda row: -row[0]) for image, heap in images.items()}


def slow_average_precision(truth: LabelledBoxes, detections: LabelledBoxes, label: int, iou: float) -> float:
    """The same rules one row at a time, as a reader of the official script would write them down."""
    people_of = slow_rows(truth, capacity=len(truth.labels))
    pooled = []
    for image, entries in slow_rows(detections, capacity=50).items():
        people = [(x1, y1, x2, y2) for _, action, y1, x1, y2, x2 in people_of.get(image, []) if action == label]
        taken = set()
        for score, action, y1, x1, y2, x2 in entries:
            if action != label:
                continue
            overlaps = [overlap((x1, y1, x2, y2), box) for box in people]
            best = overlaps.index(max(overlaps)) if overlaps else None
            true = best is not None and overlaps[best] >= iou and best not in taken
            taken |= {best} if true else set()
            pooled.append((score, len(pooled), true))
    pooled.sort(reverse=True)
    support, hits, points = int(np.sum(truth.labels == label)), 0, []
    for number, (_, _, true) in enumerate(pooled, start=1):
        hits += true
        points.append((hits / support, hits / number))
    area = 0.0
    for step in range(1, support + 1):
        reached = [precision for recall, precision in points if recall >= step / support - 1e-12]
        area += max(reached, default=0) / support
    return area


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_slow_implementation_on_random_crowds(seed):
    generator = np.random.default_rng(seed)

    def crowd(images: int, persons: int, decimals: int) -> LabelledBoxes:
        count = images * persons
        corner = generator.integers(0, 5, (count, 2)) / 10
        boxes = np.concatenate([corner, corner + generator.integers(2, 6, (count, 2)) / 10], axis=1)
        return LabelledBoxes(generator.integers(0, images, count).tolist(), boxes, generator.integers(0, 3, count),
                             np.round(generator.random(count), decimals))

    truth, detections = crowd(6, 4, 1), crowd(8, 70, 1 if seed % 2 else 6)  # coarse scores tie often
    for iou in (0.3, 0.5):
        result = frame_map(LabelledBoxes(truth.images, truth.boxes, truth.labels), detections, 3, iou=iou)
        expected = [slow_average_precision(truth, detections, label, iou) for label in range(3)]
        assert result.average_precision == pytest.approx(expected, abs=1e-12)

