"""pytest tests/test_boxes.py - every score per box, every blanked person and every warning about boxes rests on these."""

import numpy as np
import pytest

from thermal_action.boxes import centres, intersection_over_union, pixels, sizes

UNIT = np.array([0.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(("other", "expected"), [
    ((0.0, 0.0, 1.0, 1.0), 1),
    ((0.0, 0.0, 0.5, 1.0), 1 / 2),
    ((0.5, 0.5, 1.5, 1.5), 0.25 / 1.75),
    ((1.0, 0.0, 2.0, 1.0), 0),  # side by side
    ((2.0, 2.0, 3.0, 3.0), 0),
    ((0.5, 0.5, 0.5, 0.5), 0),  # empty
])
def test_overlap_of_two_boxes_is_shared_area_by_common_area(other, expected):
    assert intersection_over_union(UNIT, np.array(other)) == pytest.approx(expected)
    assert intersection_over_union(np.array(other), UNIT) == pytest.approx(expected)


def test_one_box_or_many_the_shapes_broadcast_and_empty_boxes_do_not_divide_by_zero():
    others = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [3, 3, 3, 3]], float)
    assert intersection_over_union(UNIT, others).tolist() == [1, 0.5, 0]
    assert intersection_over_union(others[:, None], others[None]).shape == (3, 3)
    assert intersection_over_union(others[2], others[2]) == 0
    assert intersection_over_union(UNIT, np.empty((0, 4))).shape == (0,)
    assert centres(others).tolist() == [[0.5, 0.5], [0.25, 0.5], [3, 3]] and sizes(others).tolist() == [[1, 1], [0.5, 1], [0, 0]]


def test_a_box_touches_every_pixel_that_it_covers_a_part_of():
    picture = np.arange(12 * 20).reshape(12, 20)
    assert picture[pixels((0.3, 0.25, 0.6, 0.75), 12, 20)].shape == (6, 6)
    assert picture[pixels((0.31, 0.26, 0.59, 0.74), 12, 20)].shape == (6, 6)
    assert pixels((0.3, 0.25, 0.6, 0.75), 12, 20, margin=1) == (slice(2, 10), slice(5, 13))
    assert picture[pixels((0.0, 0.0, 1.0, 1.0), 12, 20, margin=3)].shape == (12, 20)  # cut at the edges
    # as annotations hold them: in float64, 0.35 of 60 columns would begin one pixel too early
    assert pixels(np.array([0.35, 0.35, 0.7, 0.7], np.float32), 40, 60)[1] == slice(21, 42)
