"""make mmaction2 - without these, nobody would know which of two frame-mAPs of one network to set beside a published one.

The cases are those of the table in benchmarks/README.md (benchmarks/frame_map.py); these tests say which way each goes, and by
how much where it can be counted by hand.
"""

import re
import sys

import numpy as np
import pytest

from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import frame_map  # noqa: E402

from thermal_action.scoring.detection import frame_map as score  # noqa: E402


@pytest.fixture(scope="module")
def scores():
    """Of seed 0, by case and side."""
    return {name: frame_map.evaluate(change(frame_map.draw(0, persons)))
            for name, (persons, change, _) in frame_map.CASES.items()}


@pytest.mark.parametrize("name", ["plain", "a class without persons"])
def test_the_same_rows_score_the_same_on_both_sides(scores, name):
    assert 0.3 < scores[name]["here"] < 0.9
    assert scores[name]["ava_eval"] == pytest.approx(scores[name]["here"], abs=1e-9)
    # four decimals make some scores equal
    assert scores[name]["AVAMetric"] == pytest.approx(scores[name]["here"], abs=0.01)


def test_a_class_without_detections_counts_here_and_leaves_the_mean_there(scores):
    """13 of 14 classes have an AP above 0: here their sum is divided by 14, there by 13."""
    said = scores["a class without detections"]
    assert said["ava_eval"] == pytest.approx(said["here"] * 14 / 13, abs=1e-9)


def test_detections_where_nobody_is_are_false_here_and_passed_over_there(scores):
    said, plain = scores["sure detections where nobody is"], scores["plain"]
    assert said["here"] < plain["here"] - 0.05 and said["ava_eval"] == pytest.approx(plain["ava_eval"], abs=1e-9)


def test_persons_of_excluded_keyframes_leave_the_recall_here_and_stay_there(scores):
    """A perfect answer about the other keyframes: 100 % here, and there what share of each class was not excluded."""
    case = frame_map.excluding(frame_map.draw(0))
    perfect = frame_map.replace(case, boxes=case.truth.boxes,
                                scores=np.where(np.eye(frame_map.CLASSES)[case.truth.labels], 0.9, 0.1))
    left = np.array([image not in case.excluded for image in case.truth.images])
    counts = [np.bincount(case.truth.labels[which], minlength=frame_map.CLASSES) for which in (left, slice(None))]
    assert counts[0].min() > 0
    said = frame_map.evaluate(perfect)
    assert said["here"] == 1.0 and said["ava_eval"] == pytest.approx(np.mean(counts[0] / counts[1]), abs=1e-9)
    assert scores["6 of 30 keyframes excluded"]["ava_eval"] < scores["6 of 30 keyframes excluded"]["here"] - 0.05


def test_only_here_no_more_than_fifty_rows_of_a_keyframe_count(scores):
    """Without the limit ours would say what theirs says."""
    said = scores["8 persons a keyframe"]
    assert said["here"] != pytest.approx(said["ava_eval"], abs=1e-3)
    case = frame_map.draw(0, persons=8)
    from thermal_action.scoring import detection
    limit, detection.ROWS_PER_IMAGE = detection.ROWS_PER_IMAGE, 0
    try:
        assert score(case.truth, case.detections, frame_map.CLASSES).mean == pytest.approx(said["ava_eval"], abs=1e-6)
    finally:
        detection.ROWS_PER_IMAGE = limit


def test_mmaction2s_metric_drops_small_scores_and_rounds_the_others(scores):
    small, alike = scores["scores mostly below 0.002"], scores["scores that differ in the fifth decimal"]
    assert small["ava_eval"] == pytest.approx(small["here"], abs=1e-4) and small["AVAMetric"] < small["here"] - 0.01
    assert alike["ava_eval"] == pytest.approx(alike["here"], abs=0.01) and alike["AVAMetric"] < alike["here"] - 0.2


def test_the_table_in_the_docs_is_what_the_command_prints(scores):
    """Its first figure of three, the one of seed 0, to the tenth of a percent."""
    docs = (ROOT / "benchmarks/README.md").read_text()
    for name, (_, _, why) in frame_map.CASES.items():
        first = r"\| ([\d.]+) /[^|]+" * len(frame_map.SIDES)
        row = re.search(rf"^\| {re.escape(name)} {first}\| {re.escape(why)} \|$", docs, re.MULTILINE)
        assert row and list(row.groups()) == [f"{100 * scores[name][side]:.1f}" for side in frame_map.SIDES], name
