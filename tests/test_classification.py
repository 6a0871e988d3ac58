"""python -m pytest tests/test_classification.py

Without these, the scores that people compare models by could silently be other scores than their names say.
"""

import numpy as np
import pytest

from thermal_action.scoring.classification import (
    answer_clips,
    precision_recall,
    reliability,
    score_classification,
    score_clips,
)
from thermal_action.scoring.intervals import bootstrap_scores, percentile_interval, resample_groups, wilson


def sure(predicted: list[int], num_classes: int, confidence: float = 0.8) -> np.ndarray:
    """Probabilities with `confidence` for the predicted class and the rest shared out."""
    rest = (1 - confidence) / (num_classes - 1)
    return np.where(np.eye(num_classes)[predicted] > 0, confidence, rest)


def test_scores_of_a_confusion_computed_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    scores = score_classification(sure([0, 0, 0, 1, 1, 2, 2], 4), labels)
    assert scores.confusion.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert scores.top1 == pytest.approx(5 / 7)
    assert scores.recall[:3].tolist() == [3 / 4, 1 / 2, 1]
    assert scores.precision[:3].tolist() == [1, 1 / 2, 1 / 2]
    assert np.isnan(scores.recall[3]) and np.isnan(scores.precision[3])
    assert scores.support.tolist() == [4, 2, 1, 0]
    assert scores.mean_class == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert scores.macro_f1 == pytest.approx((6 / 7 + 1 / 2 + 2 / 3) / 3)


def test_a_class_that_is_only_predicted_lowers_macro_f1_but_not_mean_class():
    scores = score_classification(sure([0, 0, 1], 3), np.array([0, 0, 0]))
    assert scores.mean_class == pytest.approx(2 / 3)
    assert scores.macro_f1 == pytest.approx((4 / 5 + 0) / 2)


def test_a_majority_guesser_gains_nothing_in_mean_class():
    labels = np.array([0] * 97 + [1, 2, 3])
    scores = score_classification(sure([0] * 100, 4), labels)
    assert scores.top1 == 0.97
    assert scores.mean_class == 0.25


def test_top5_needs_the_label_among_five_and_breaks_ties_by_class_id():
    probabilities = np.array([[0.3, 0.25, 0.2, 0.1, 0.08, 0.07]] * 2)
    assert score_classification(probabilities, np.array([4, 5])).top5 == 0.5
    even = np.full((2, 6), 1 / 6)
    assert score_classification(even, np.array([0, 5])).top5 == 0.5
    assert score_classification(even, np.array([0, 5])).top1 == 0.5
    assert score_classification(np.full((1, 3), 1 / 3), np.array([2])).top5 == 1.0


def test_calibration_error_is_the_distance_of_confidence_and_accuracy():
    probabilities = np.concatenate([sure([0, 0, 0, 0], 2, 0.75), sure([0, 0], 2, 0.95)])
    labels = np.array([0, 0, 0, 1, 0, 1])
    gathered = reliability(probabilities, labels, bins=10)
    assert gathered.count.tolist() == [0, 0, 0, 0, 0, 0, 0, 4, 0, 2]
    assert gathered.accuracy[[7, 9]].tolist() == [0.75, 0.5]
    assert gathered.confidence[[7, 9]] == pytest.approx([0.75, 0.95])
    assert np.isnan(gathered.accuracy[0])
    assert score_classification(probabilities, labels, bins=10).calibration_error == pytest.approx(2 / 6 * 0.45)


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin():
    gathered = reliability(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), bins=10)
    assert np.flatnonzero(gathered.count).tolist() == [4, 9]


def test_likelihood_in_nats_and_finite_when_wrong_and_certain():
    scores = score_classification(np.array([[0.25, 0.75], [1.0, 0.0]]), np.array([0, 0]))
    assert scores.negative_log_likelihood == pytest.approx(np.log(4) / 2)
    assert score_classification(np.array([[1.0, 0.0]]), np.array([1])).negative_log_likelihood == pytest.approx(27.631, abs=1e-3)


def test_a_clip_takes_the_most_frequent_label_and_is_answered_by_the_most_frequent_answer():
    clips = np.array([7, 7, 7, 3, 3])
    labels = np.array([2, 1, 2, 2, 1])
    probabilities = np.array([[0.1, 0.0, 0.9], [0.6, 0.4, 0.0], [0.5, 0.3, 0.2], [0.0, 0.4, 0.6], [0.0, 0.1, 0.9]])
    ids, answers = answer_clips(probabilities, clips)
    assert ids.tolist() == [3, 7]
    assert answers == pytest.approx(np.array([[0.0, 0.25, 0.75], [0.55, 0.35, 0.1]]))
    # clip 3 is a tie of 1 and 2: the lowest id is its label, and both persons say 2; clip 7 is 2, and two of three say 0
    scores = score_clips(probabilities, labels, clips)
    assert scores.confusion.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_persons_who_are_all_named_rightly_make_a_clip_that_is_named_rightly():
    """However sure each is: of two actions the lower id is the clip's, in the truth and in the answer."""
    probabilities = np.array([[0.4, 0.35, 0.25], [0.05, 0.05, 0.9]])
    for order in ([0, 1], [1, 0]):
        scores = score_clips(probabilities[order], np.array([0, 2])[order], np.zeros(2, int))
        assert scores.confusion[0, 0] == 1


def test_a_model_that_answers_once_for_all_persons_of_a_clip_keeps_its_answer():
    once = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    _, answers = answer_clips(np.repeat(once, 3, axis=0), np.repeat([0, 1], 3))
    assert answers == pytest.approx(once)


def test_precision_and_recall_start_with_the_most_certain():
    precision, recall = precision_recall(np.array([0.2, 0.9, 0.5]), np.array([True, True, False]))
    assert precision.tolist() == [1, 1 / 2, 2 / 3]
    assert recall.tolist() == [1 / 2, 1 / 2, 1]


@pytest.mark.parametrize(("probabilities", "labels"), [
    (np.full((2, 3), 1 / 3), np.array([0])),
    (np.empty((0, 3)), np.empty(0, int)),
    (np.full((1, 3), 1 / 3), np.array([3])),
    (np.full((1, 3), 1 / 3), np.array([-1])),
    (np.array([[2.0, -1.0]]), np.array([0])),
    (np.array([[0.5, 0.1]]), np.array([0])),
    (np.array([[np.nan, 1.0]]), np.array([0])),
])
def test_refuses_what_is_no_set_of_probabilities(probabilities, labels):
    with pytest.raises(ValueError):
        score_classification(probabilities, labels)


def test_wilson_interval_as_in_textbooks():
    low, high = wilson(np.array([8, 0, 10, 0]), np.array([10, 10, 10, 0]))
    assert low[:3] == pytest.approx([0.4902, 0.0, 0.7225], abs=1e-4)
    assert high[:3] == pytest.approx([0.9433, 0.2775, 1.0], abs=1e-4)
    assert np.isnan(low[3]) and np.isnan(high[3])


def test_wilson_covers_the_truth_as_often_as_it_says():
    hits = np.random.default_rng(0).binomial(30, 0.9, 20_000)
    low, high = wilson(hits, np.full(20_000, 30))
    assert 0.93 < np.mean((low <= 0.9) & (high >= 0.9)) < 0.98


def test_bootstrap_redraws_whole_recordings():
    """Ten recordings that are all right or all wrong tell less than their hundred persons seem to."""
    groups = np.repeat(np.arange(10), 10)
    labels = np.zeros(100, int)
    together = np.where(groups < 5, 0, 1)
    spread = np.where(np.arange(100) % 2 == 0, 0, 1)
    draws = resample_groups(groups, 4000, seed=1)
    assert draws.shape == (4000, 10) and set(draws.sum(axis=1)) == {10}
    wide = percentile_interval(bootstrap_scores(together, labels, groups, 2, draws)["top1"])
    narrow = percentile_interval(bootstrap_scores(spread, labels, groups, 2, draws)["top1"])
    assert wide == pytest.approx((0.2, 0.8))  # of a binomial of ten
    assert narrow == (0.5, 0.5)


def test_bootstrap_equals_scoring_each_sample_and_its_seed():
    generator = np.random.default_rng(3)
    groups, labels = generator.integers(0, 4, 60), np.tile([0, 1, 2], 20)
    predicted = np.where(generator.random(60) < 0.6, labels, 0)
    draws = resample_groups(groups, 50, seed=5)
    scores = bootstrap_scores(predicted, labels, groups, 3, draws)
    for sample in range(50):
        rows = np.concatenate([np.tile(np.flatnonzero(groups == group), times) for group, times in enumerate(draws[sample])])
        expected = score_classification(sure(predicted[rows].tolist(), 3), labels[rows])
        assert scores["top1"][sample] == pytest.approx(expected.top1)
        assert scores["mean_class"][sample] == pytest.approx(expected.mean_class)
    assert np.array_equal(draws, resample_groups(groups, 50, seed=5))
    assert not np.array_equal(draws, resample_groups(groups, 50, seed=6))


def test_a_rare_class_never_recognised_does_not_vanish_from_the_bootstrap():
    groups = np.array([0, 0, 0, 1, 1, 1])
    labels, predicted = np.array([0, 0, 0, 0, 0, 1]), np.zeros(6, int)
    drawn = bootstrap_scores(predicted, labels, groups, 2, np.array([[2, 0]]))
    assert drawn["mean_class"].tolist() == [0.5]
