"""pytest tests/test_splits.py - a split that leaks makes every later number worthless."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.splits import Window, overlapping, split_windows

SETTINGS = {"val_fraction": 0.25, "seed": 42, "session_gap_s": 600.0, "block_s": 60.0}


def make_windows(devices=3, sessions=2, recordings=3, keyframes=40, classes=4):
    """Recordings of a minute that overlap the next by 12 s; sessions an hour apart; labels that lean on the recording."""
    generator = np.random.default_rng(0)
    windows, spans = [], {}
    for device in range(devices):
        for session in range(sessions):
            for number in range(recordings):
                name = f"d{device}s{session}r{number}"
                start = 1_760_000_000_000 + session * 3_600_000 + number * 60_000
                spans[name] = (start - 12_000, start + 72_000)
                for keyframe in range(keyframes):
                    time = start + keyframe * 1_500
                    label = int(generator.choice(classes, p=np.roll([0.7, 0.2, 0.08, 0.02], number)))
                    windows.append(Window(f"{name}_{time}", name, f"m{device}", time, time - 5_400, time + 5_300, (label,)))
    return windows, spans


def split(by, windows, spans, **changes):
    return split_windows(windows, by=by, recording_spans=spans, **(SETTINGS | changes))


def share_a_frame(windows, split):
    """Whether any train window overlaps a val window of the same device: the slow way."""
    by_id = {window.image_id: window for window in windows}
    return any(a.mac_address == b.mac_address and a.first_ms <= b.last_ms and b.first_ms <= a.last_ms
               for a in map(by_id.get, split.train) for b in map(by_id.get, split.val))


@pytest.mark.parametrize("by", ["session", "recording", "time"])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_no_training_window_shares_a_frame_with_validation(by, seed):
    windows, spans = make_windows()
    result = split(by, windows, spans, seed=seed)
    assert not share_a_frame(windows, result)
    assert sorted(result.train + result.val + result.purged) == sorted(window.image_id for window in windows)
    assert 0.15 < len(result.val) / len(windows) < 0.35
    assert result == split(by, windows, spans, seed=seed)


def test_neighbouring_recordings_force_a_purge_and_sessions_do_not():
    windows, spans = make_windows()
    assert split("recording", windows, spans).purged
    assert not split("session", windows, spans).purged


def test_a_session_stays_on_one_side():
    windows, spans = make_windows()
    val = set(split("session", windows, spans).val)
    sides = {}
    for window in windows:
        sides.setdefault(window.image_id.split("r")[0], set()).add(window.image_id in val)
    assert all(len(side) == 1 for side in sides.values())


def test_recordings_closer_than_the_gap_are_one_session():
    windows, spans = make_windows(devices=1)
    with pytest.raises(InputError, match="only one session"):
        split("session", windows, spans, session_gap_s=7200.0)


def test_classes_are_balanced_as_well_as_groups_allow():
    windows, spans = make_windows(devices=6, sessions=3)
    val = set(split("recording", windows, spans).val)
    labels = np.array([window.labels[0] for window in windows])
    in_val = np.array([window.image_id in val for window in windows])
    shares = [in_val[labels == label].mean() for label in range(4)]
    assert max(abs(share - 0.25) for share in shares) < 0.08, shares


def test_the_random_split_of_keyframes_leaks_as_its_name_says():
    windows, spans = make_windows()
    result = split("keyframe", windows, spans)
    assert share_a_frame(windows, result) and not result.purged
    assert len(result.val) == 18 * int(40 * 0.25)


def test_a_given_split_is_taken_as_it_is_or_refused():
    windows, spans = make_windows(devices=1, sessions=1, recordings=1, keyframes=4)
    ids = [window.image_id for window in windows]
    assert split("given", windows, spans, given={"train": ids[:3], "val": ids[3:]}).val == ids[3:]
    with pytest.raises(InputError, match="no split"):
        split("given", windows, spans, given=None)
    with pytest.raises(InputError, match="leaves out"):
        split("given", windows, spans, given={"train": ids[:2], "val": ids[3:]})
    with pytest.raises(InputError, match=f"{ids[2]} on both sides"):
        split("given", windows, spans, given={"train": ids[:3], "val": ids[2:]})
    with pytest.raises(InputError, match="nobody_1"):
        split("given", windows, spans, given={"train": ids, "val": ["nobody_1"]})


def test_windows_of_another_device_do_not_touch():
    a = Window("a", "r", "m0", 10, 0, 20, ())
    assert overlapping([a], [Window("b", "r", "m1", 10, 0, 20, ())]) == set()
    assert overlapping([a], [Window("b", "r", "m0", 30, 20, 40, ())]) == {"a"}
    assert overlapping([a], [Window("b", "r", "m0", 30, 21, 40, ())]) == set()


def make_clips(classes=6, subjects=5, videos=2, seed=0, alike=0):
    """A recording of one keyframe for each class, subject and video, but for some that are missing; each a device of its own, and
    `alike` ones of the same device and time as the first."""
    generator, windows = np.random.default_rng(seed), []
    for subject in range(subjects):
        for label in range(classes):
            for video in range(videos):
                if generator.random() < 0.15 and label + subject:
                    continue
                name = f"c{label}s{subject}v{video}"
                device = "m" if len(windows) <= alike else name
                windows.append(Window(f"{name}_1000", name, device, 1000, 60, 2000, (label,), f"SID{subject:02d}"))
    return windows


def sides_of(windows, result):
    by_id = {window.image_id: window for window in windows}
    return [[by_id[image] for image in own] for own in (result.train, result.val)]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(8))
def test_no_subject_stands_on_both_sides(seed, fraction):
    """Nor in a fold: the score would say how well people are recognised whom training has seen, and not say so."""
    windows = make_clips(seed=seed, alike=3)
    for result in (split("subject", windows, {}, seed=seed, val_fraction=fraction),
                   *all_folds("subject", windows, {}, 3, seed=seed)):
        train, val = sides_of(windows, result)
        assert train and val and not {window.subject for window in train} & {window.subject for window in val}
        assert not share_a_frame(windows, result)
        assert sorted(result.train + result.val + result.purged) == sorted(window.image_id for window in windows)


def test_who_is_recorded_must_be_known_to_split_by_it():
    windows = make_clips()
    windows[7] = replace(windows[7], subject=None)
    with pytest.raises(InputError, match=f"split_by subject, but the keyframes of {windows[7].recording} do not say who"):
        split("subject", windows, {})
    with pytest.raises(InputError, match="finds only one subject in"):
        split("subject", [window for window in windows if window.subject == "SID01"], {})


@pytest.mark.parametrize(("fraction", "validating"), [(0.1, 1), (0.25, 2), (0.5, 5), (0.9, 9), (0.99, 9)])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_stratified_split_takes_the_same_share_of_each_class(fraction, validating, seed):
    windows = [Window(f"c{label}n{number}_1", f"c{label}n{number}", f"m{label}{number}", 1, 0, 2, (label,), f"SID{number % 3}")
               for label in range(4) for number in range(10)]
    result = split("stratified", windows, {}, val_fraction=fraction, seed=seed)
    train, val = sides_of(windows, result)
    assert Counter(window.labels[0] for window in val) == dict.fromkeys(range(4), validating) and len(train) + len(val) == 40
    assert {*split("stratified", windows[::-1], {}, val_fraction=fraction, seed=seed).val} == {*result.val}  # in whatever order
    assert {*split("stratified", windows, {}, val_fraction=fraction, seed=seed + 1).val} != {*result.val}


def test_of_every_class_somebody_trains_and_recordings_stay_whole():
    windows, _ = make_windows()
    result = split("stratified", windows, {})
    train, val = sides_of(windows, result)
    assert train and val and not {window.recording for window in train} & {window.recording for window in val}
    assert not share_a_frame(windows, result)
    single = [Window(f"c{label}_1", f"c{label}", f"m{label}", 1, 0, 2, (label,)) for label in range(3)]
    assert split("stratified", single, {}).val == []  # of one recording a class it trains
    pair = [*single, Window("d_1", "d", "md", 1, 0, 2, (1,)), Window("e_1", "e", "me", 1, 0, 2, ())]
    assert split("stratified", pair, {}).val in (["c1_1"], ["d_1"])


def test_stratified_folds_hold_every_clip_once_and_classes_alike():
    windows = make_clips(seed=3)
    counts = Counter(window.labels[0] for window in windows)
    splits = all_folds("stratified", windows, {}, 4)
    assert sorted(image for result in splits for image in result.val) == sorted(window.image_id for window in windows)
    for result in splits:
        own = Counter(window.labels[0] for window in sides_of(windows, result)[1])
        assert all(own[label] in (count // 4, -(-count // 4)) for label, count in counts.items())
    assert max(len(result.val) for result in splits) - min(len(result.val) for result in splits) <= 1


def test_where_nobody_is_left_to_train_a_split_says_so():
    """One video under many names is one device at one time."""
    windows = [replace(window, mac_address="m") for window in make_clips()]
    for by in ("subject", "stratified"):
        with pytest.raises(InputError, match=f"split_by {by} leaves no training window that shares no frame with validation"):
            split(by, windows, {})


def all_folds(by, windows, spans, folds, **changes):
    return [split(by, windows, spans, folds=folds, fold=fold, **changes) for fold in range(folds)]


@pytest.mark.parametrize(("by", "folds"), [("session", 3), ("session", 6), ("recording", 5), ("recording", 18), ("time", 4),
                                           ("keyframe", 7)])
def test_over_all_folds_every_keyframe_validates_exactly_once(by, folds):
    windows, spans = make_windows()
    splits = all_folds(by, windows, spans, folds)
    assert sorted(image for result in splits for image in result.val) == sorted(window.image_id for window in windows)
    for result in splits:
        assert result.val and sorted(result.train + result.val + result.purged) == sorted(window.image_id for window in windows)
        assert by == "keyframe" or not share_a_frame(windows, result)
    assert splits == all_folds(by, windows, spans, folds)


def test_a_session_validates_as_a_whole_and_a_recording_too():
    windows, spans = make_windows()
    for by, end in (("session", "r"), ("recording", "_")):
        for result in all_folds(by, windows, spans, 3):
            assert not {image.split(end)[0] for image in result.val} & {image.split(end)[0] for image in result.train}


def test_folds_are_alike_in_size_and_classes():
    windows, spans = make_windows(devices=6, sessions=3)
    splits = all_folds("recording", windows, spans, 6)
    assert {len(result.val) for result in splits} == {len(windows) // 6}
    label_of = {window.image_id: window.labels[0] for window in windows}
    counts = np.array([np.bincount([label_of[image] for image in result.val], minlength=4) for result in splits])
    assert (np.abs(counts / counts.sum(0) - 1 / 6) < 0.05).all(), counts
    sizes = [len(result.val) for result in all_folds("keyframe", windows[:-3], spans, 7)]
    assert max(sizes) - min(sizes) <= 1


def test_another_seed_deals_another_way():
    windows, spans = make_windows()
    assert all_folds("recording", windows, spans, 4) != all_folds("recording", windows, spans, 4, seed=7)


@pytest.mark.parametrize(("by", "folds", "fold", "words"), [
    ("session", 3, 3, "coco.fold 3 of coco.folds 3"),
    ("session", 0, 1, "coco.fold 1 of coco.folds 0"),  # somebody forgot the folds
    ("session", 1, 0, "choose 2 to 50 folds"),
    ("session", 7, 0, "split_by session finds only 6 groups in 720 keyframes: choose at most 6 folds"),
    ("given", 5, 0, "given is one split"),
])
def test_folds_that_cannot_be_are_refused(by, folds, fold, words):
    windows, spans = make_windows()
    with pytest.raises(InputError, match=words):
        split(by, windows, spans, folds=folds, fold=fold, given={"train": [], "val": []})
