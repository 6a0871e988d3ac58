"""pytest tests/test_properties.py - what holds for every window, box, split and packet, not only for those somebody thought of.

`HYPOTHESIS_PROFILE=local pytest --timeout 0 tests/test_properties.py` tries 1,000 new cases of each.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thermal_action import InputError
from thermal_action.annotations import corners
from thermal_action.augmentation.lens import Move, Resample
from thermal_action.augmentation.window import Window as Shown
from thermal_action.boxes import centres, intersection_over_union, pixels, sizes
from thermal_action.files import write_json, write_json_lists
from thermal_action.keyframes import OVERSHOOT, parse_box
from thermal_action.raw import PayloadFormat, RawFrame
from thermal_action.raw_store import RawRecording
from thermal_action.repair import PixelRepair, RepairCounts, decode_frames
from thermal_action.splits import Window, split_windows
from thermal_action.windows import Windowing, nearest_frames

START = 1_760_000_000_000
SHARES = st.floats(0, 1)
TIMES = st.lists(st.integers(1, 6000), max_size=80).map(lambda gaps: START + np.cumsum([0, *gaps]))


# files

TEXTS = st.dictionaries(st.text(max_size=3), st.lists(st.recursive(st.text(), st.lists), max_size=3))


@given(TEXTS.filter(bool))
def test_lists_that_are_written_as_they_come_are_the_same_bytes(document):
    with tempfile.TemporaryDirectory() as folder:
        write_json(f"{folder}/whole.json", document)
        write_json_lists(f"{folder}/lists.json", {key: iter(items) for key, items in document.items()})
        assert Path(folder, "lists.json").read_bytes() == Path(folder, "whole.json").read_bytes()


# windows


@given(TIMES, st.data(), st.integers(2, 40), st.floats(0.1, 60_000), SHARES)
def test_a_window_has_its_length_its_keyframe_and_no_frame_that_is_not_there(times, data, length, period_ms, keyframe):
    centre = data.draw(st.integers(0, len(times) - 1))
    for sampling in ("consecutive", "uniform_time"):
        windowing = Windowing(length=length, sampling=sampling, period_ms=period_ms, keyframe=keyframe)
        window = windowing.frames(times, centre)
        assert len(window) == length and window[windowing.position] == centre
        assert window.min() >= 0 and window.max() < len(times) and (np.diff(window) >= 0).all()
        if sampling == "consecutive":
            first = centre - windowing.position
            assert window.tolist() == [min(max(first + step, 0), len(times) - 1) for step in range(length)]


@given(TIMES, st.lists(st.floats(START - 1e4, START + 5e5), min_size=1, max_size=20))
def test_no_frame_is_nearer_to_a_tick_than_the_one_taken(times, ticks):
    distances = np.abs(times[:, None] - np.array(ticks))
    assert nearest_frames(times, np.array(ticks)).tolist() == distances.argmin(axis=0).tolist()


# boxes


@st.composite
def boxes(draw, least: float = 0.01) -> np.ndarray:
    """x1, y1, x2, y2 in [0, 1], each side at least `least`."""
    w, h = (draw(st.floats(least, 1)) for _ in "wh")
    x, y = draw(st.floats(0, 1 - w)), draw(st.floats(0, 1 - h))
    return np.array([x, y, x + w, y + h])


@given(boxes(), boxes())
def test_overlap_is_symmetric_a_share_and_whole_with_itself(one, other):
    shared = intersection_over_union(one, other)
    assert shared == intersection_over_union(other, one) and 0 <= shared <= 1 + 1e-9
    assert intersection_over_union(one, one) == pytest.approx(1)


@given(boxes())
def test_centre_and_size_give_the_corners_back(box):
    assert corners([*centres(box), *sizes(box)]) == pytest.approx(box, abs=1e-6)


# a little less than a box may stick out, since centre and size round
LOWEST, HIGHEST = -0.999 * OVERSHOOT, 1 + 0.999 * OVERSHOOT
EDGES = st.tuples(st.floats(LOWEST, HIGHEST), st.one_of(st.floats(0, 1), st.floats(0, 1e-5))).map(
    lambda edge: (edge[0], min(sum(edge), HIGHEST)))


@given(EDGES, EDGES)
def test_an_accepted_box_has_pixels_of_the_picture(x, y):
    try:
        box = corners(parse_box([sum(x) / 2, sum(y) / 2, x[1] - x[0], y[1] - y[0]], "record 1"))
    except InputError:
        assert min(min(side[1], 1) - max(side[0], 0) for side in (x, y)) < 2e-6  # only one that is empty
        return
    assert (box >= 0).all() and (box <= 1).all() and (sizes(box) > 0).all()
    assert np.zeros((40, 60))[pixels(box, 40, 60)].size


def shown(persons: list[np.ndarray], seed: int, shape: tuple[int, int] = (12, 18)) -> Shown:
    frames = np.random.default_rng(seed).normal(20, 3, (4, *shape)).astype(np.float32)
    count = len(persons)
    return Shown(frames, np.array(persons, np.float32).reshape(-1, 4), np.arange(count), np.arange(count))


SEEDS = st.integers(0, 2**31)
PERSONS = st.lists(boxes(0.05), max_size=4)


@given(PERSONS, SEEDS, st.sampled_from([Move(1, 0, 0, 0), Move(0, 1, 0, 0), Move(0, 0, 1, 0)]))
def test_what_is_flipped_twice_is_as_it_was(persons, seed, flip):
    window = shown(persons, seed)
    once = flip(window, np.random.default_rng(seed))
    twice = flip(once, np.random.default_rng(seed))
    assert np.array_equal(twice.frames, window.frames) and not np.array_equal(once.frames, window.frames)
    assert twice.boxes == pytest.approx(window.boxes, abs=1e-6)


@given(PERSONS, SEEDS, st.sampled_from([Move(0.5, 0.5, 0.5, 9), Resample(45, 1, 0.9), Resample(10, 0.15, 0.3)]))
def test_a_moved_picture_keeps_its_size_and_everybody_in_it(persons, seed, move):
    window = shown(persons, seed)
    moved = move(window, np.random.default_rng(seed))
    assert moved.frames.shape == window.frames.shape and np.isfinite(moved.frames).all()
    assert moved.boxes.shape == window.boxes.shape and (sizes(moved.boxes) > 0).all()
    assert (moved.boxes >= 0).all() and (moved.boxes <= 1).all()


# packets


SHAPE = (3, 5)
PIXELS = SHAPE[0] * SHAPE[1]
LOST = st.sampled_from([-273.2, -50.1, np.nan, np.inf, -np.inf])
# what came of a frame: any beginning of it, any of its pixels lost
RECEIVED = st.integers(0, PIXELS).flatmap(lambda n: arrays.arrays(
    np.float32, n, elements=st.one_of(st.floats(-49.5, 300, width=32), LOST.map(np.float32)), fill=st.nothing()))


def intact(pixels: np.ndarray) -> np.ndarray:
    return np.isfinite(pixels) & (pixels >= -50)


@given(st.lists(RECEIVED, min_size=1, max_size=6))
def test_repair_changes_no_intact_pixel_and_counts_the_others(sent):
    repair, last = PixelRepair(*SHAPE), np.full(PIXELS, np.nan, np.float32)
    assume(intact(sent[0]).any())
    for pixels_received in sent:
        repaired = repair.repair(pixels_received)
        frame, there = repaired.frame.ravel(), intact(pixels_received)
        kept = np.flatnonzero(there)
        assert np.array_equal(frame[kept], pixels_received[kept])
        assert repaired.lost == PIXELS - len(kept) and not repaired.moved
        lost = np.setdiff1d(np.arange(PIXELS), kept)
        known = lost[~np.isnan(last[lost])]
        assert np.array_equal(frame[known], last[known]) and repaired.unseen == len(lost) - len(known)
        assert np.isfinite(frame).all()
        last = frame.copy()


@given(st.lists(RECEIVED, min_size=2, max_size=6), st.integers(1, PIXELS + 2))
def test_packets_put_back_lose_no_pixel_that_came_and_invent_none(sent, packet_px):
    repair = PixelRepair(*SHAPE, packet_px)
    assume(intact(sent[0]).any())
    last = repair.repair(sent[0]).frame.ravel()
    for pixels_received in sent[1:]:
        repaired = repair.repair(pixels_received)
        frame, came = repaired.frame.ravel(), pixels_received[intact(pixels_received)]
        assert repaired.lost == PIXELS - len(came) and repaired.unseen == 0
        # in their order, and what is not of them is of the frame before
        places = np.flatnonzero(frame != last)
        assert is_subsequence(frame[places].tolist(), came.tolist()) and is_subsequence(came.tolist(), frame.tolist())
        if len(came) == PIXELS:
            assert np.array_equal(frame, came)
        last = frame.copy()


def is_subsequence(few: list[float], many: list[float]) -> bool:
    rest = iter(many)
    return all(value in rest for value in few)


NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400), st.sampled_from(["12", "nan", "x"]))
JSON = st.recursive(NUMBERS, lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.just("a"), inner)))
FORMATS = [PayloadFormat(encoding, compression, dtype) for encoding in ("base64", "hex") for compression in ("zlib", "none")
           for dtype in ("float32", "int16")] + [PayloadFormat("json", "none", "float32"), PayloadFormat("json", "none", "int16")]


@given(st.sampled_from(FORMATS), arrays.arrays(np.float32, st.integers(0, 12), elements=st.floats(-273, 2000, width=32)),
       st.integers(0, 80))
def test_a_payload_comes_back_exactly_and_a_cut_one_is_refused_or_the_beginning_of_it(payload, celsius, cut):
    text = payload.encode(celsius)
    decoded = payload.decode(text)
    assert decoded.dtype == np.float32 and np.abs(decoded - celsius).max(initial=0) <= (0.051 if payload.dtype == "int16" else 0)
    try:
        part = payload.decode(text[:cut])
    except ValueError:
        assert cut < len(text)
    else:
        assert np.array_equal(part, decoded[: len(part)])


@given(st.sampled_from(FORMATS), st.one_of(st.text("AQgw/+=\né\ud800"), st.text("0fF"), st.text("[]{}0,"), JSON.map(json.dumps),
                                           st.integers(0, 5000).map("[".__mul__)))
@example(FORMATS[-1], "[" * 5000)
@example(FORMATS[-1], f"[{10**400}]")
@example(FORMATS[-1], '["12", "13"]')
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_any_other_text_is_pixels_or_a_value_error(payload, text):
    try:
        decoded = payload.decode(text)
    except ValueError:
        return
    assert decoded.dtype == np.float32 and decoded.ndim == 1 and '"' not in text and "true" not in text


@given(st.lists(st.integers(0, 15), min_size=1, max_size=20), st.integers(1, 7), st.integers(0, 6))
def test_frames_out_of_order_and_twice_become_each_moment_once_in_order(moments, page_frames, packet_px):
    payload = PayloadFormat()
    pictures = np.random.default_rng(len(moments)).normal(20, 3, (len(moments), *SHAPE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        recording = RawRecording(Path(folder), page_frames)
        for number, moment in enumerate(moments):
            recording.append(RawFrame(START + moment, number, SHAPE[1], SHAPE[0], payload.encode(pictures[number])))
        recording.finish(payload)
        counts = RepairCounts()
        (found,) = decode_frames(Path(folder), payload, SHAPE, packet_px, counts)
    assert (found.times - START).tolist() == sorted(set(moments)) and not found.lost.any()
    assert found.sequences.tolist() == [moments.index(moment) for moment in sorted(set(moments))]
    assert np.array_equal(found.pictures, pictures[found.sequences])
    assert counts.frames == len(found.times) and counts.duplicate_frames == len(moments) - len(found.times)


# splits


@st.composite
def recorded(draw) -> tuple[list[Window], dict[str, tuple[int, int]]]:
    """Keyframes of a few recordings of a few devices, which overlap or not, with windows of any length within them."""
    windows, spans = [], {}
    for number in range(draw(st.integers(2, 6))):
        name, device = f"r{number}", f"m{draw(st.integers(0, 2))}"
        start = START + 1000 * draw(st.integers(0, 2000))
        times = start + 1000 * np.cumsum(draw(st.lists(st.integers(1, 60), min_size=1, max_size=8)))
        before, after = draw(st.integers(0, 20_000)), draw(st.integers(0, 20_000))
        spans[name] = start, int(times[-1])
        windows += [Window(f"{name}_{time}", name, device, time, max(time - before, start), min(time + after, spans[name][1]),
                           tuple(draw(st.lists(st.integers(0, 3), max_size=2)))) for time in times.tolist()]
    return windows, spans


def frames_shared(windows: list[Window], result) -> bool:
    by_id = {window.image_id: window for window in windows}
    return any(a.mac_address == b.mac_address and a.first_ms <= b.last_ms and b.first_ms <= a.last_ms
               for a in map(by_id.get, result.train) for b in map(by_id.get, result.val))


def sides(result) -> tuple[set[str], ...]:
    return set(result.train), set(result.val), set(result.purged)


# 2000 candidates are weighed for a split: a fifth of the cases takes as long as all of another property
@settings(max_examples=max(settings().max_examples // 5, 20))
@given(recorded(), st.sampled_from(["session", "recording", "time", "keyframe"]), st.floats(0.01, 0.99), st.integers(0, 2**32),
       st.floats(0, 1000), st.floats(1, 1000), st.randoms(use_true_random=False))
def test_no_split_shares_a_frame_or_loses_a_keyframe_or_depends_on_the_order(recorded, by, val_fraction, seed, gap_s, block_s,
                                                                             shuffler):
    windows, spans = recorded
    chosen = {"by": by, "val_fraction": val_fraction, "seed": seed, "recording_spans": spans, "session_gap_s": gap_s,
              "block_s": block_s}
    try:
        result = split_windows(windows, **chosen)
    except InputError:
        assume(False)
    assert sorted(result.train + result.val + result.purged) == sorted(window.image_id for window in windows)
    assert by == "keyframe" or result.train and result.val and not frames_shared(windows, result)
    assert result == split_windows(windows, **chosen)
    other = shuffler.sample(windows, len(windows))
    assert sides(result) == sides(split_windows(other, **chosen))
    given_split = {"train": result.train + result.purged, "val": result.val}
    assert sides(split_windows(other, **chosen | {"by": "given"}, given=given_split)) == (*map(set, given_split.values()), set())


@settings(max_examples=max(settings().max_examples // 5, 20))
@given(recorded(), st.sampled_from(["session", "recording", "time", "keyframe"]), st.integers(2, 5), st.integers(0, 2**32))
def test_folds_let_every_keyframe_validate_once_and_share_no_frame(recorded, by, folds, seed):
    windows, spans = recorded
    try:
        results = [split_windows(windows, by=by, val_fraction=0.2, seed=seed, recording_spans=spans, session_gap_s=60, block_s=60,
                                 folds=folds, fold=fold) for fold in range(folds)]
    except InputError:
        assume(False)
    ids = sorted(window.image_id for window in windows)
    assert sorted(name for result in results for name in result.val) == ids
    for result in results:
        assert sorted(result.train + result.val + result.purged) == ids
        assert by == "keyframe" or not frames_shared(windows, result)
