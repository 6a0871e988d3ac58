"""python -m pytest tests/test_simulator.py

Without these a user would train on recordings that differ from run to run, that look unlike the sensor's, or whose labels
do not say what is in the picture.
"""

import hashlib
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.keyframes import read_keyframes
from thermal_action.raw import PayloadFormat, ordered_frames
from thermal_action.raw_store import RawStore
from thermal_action.repair import PixelRepair
from thermal_action.sources.simulator import SimulatorSource
from thermal_action.sources.simulator.actions import (
    ACTIONS,
    CROUCHING,
    LYING_BED,
    LYING_RISK,
    OTHER,
    RISK_TRANSITION,
    STANDING,
    WALKING,
    Tally,
)
from thermal_action.sources.simulator.body import Figure, draw_person, joints, lying, propped, standing
from thermal_action.sources.simulator.camera import NOISE_RADIUS_PX, NOISE_STD_C, PACKET_PX, Camera
from thermal_action.sources.simulator.resident import Resident
from thermal_action.sources.simulator.room import BACKGROUND_MEDIAN_C, BACKGROUND_P1_C, BACKGROUND_P99_C, Room

SEVEN = ["sitting", "standing", "walking", "lying down-lying with risk", "lying down-lying on the bed/couch",
         "transition-normal transition", "transition-lying with risk transition"]
SMALL = dict(seed=3, rooms=1, sessions=1, recordings=2, seconds=20, rows=40, cols=60, fps=6.0, keyframe_interval_s=1.1, people=2,
             visits=0.3, nights=0.0, animals=0.0, packet_loss=0.1, payload="int16", class_weights={}, balance=0.0,
             classes=list(ACTIONS), buffer_frames=64)


def fetch(folder: Path, stop_after: int | None = None, page_frames: int = 50, **changes) -> Path:
    """Fetches into `folder`/raw; with `stop_after`, is killed after that many frames."""
    source = SimulatorSource(**{**SMALL, **changes})
    store = RawStore(folder / "raw", source.query(), page_frames, folder / "scratch")
    received = 0

    def progress(frames):
        nonlocal received
        received += frames
        if stop_after is not None and received > stop_after:
            raise KeyboardInterrupt

    try:
        source.fetch(store, progress)
    except KeyboardInterrupt:
        store._lock.close()
        return folder / "scratch"
    store.publish()
    return folder / "raw"


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def recordings(raw: Path) -> list[str]:
    return sorted(path.name for path in (raw / "frames").iterdir())


def read_frames(raw: Path, recording: str) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures [n, rows, cols] C and stamps [n] ms."""
    payload = PayloadFormat(**json.loads((raw / "frames" / recording / "complete.json").read_text())["payload"])
    frames = [frame for frame, _ in ordered_frames(raw / "frames" / recording)]
    pixels = [payload.decode(frame.frame_data).reshape(frame.height, frame.width) for frame in frames]
    return np.stack(pixels), np.array([frame.ts for frame in frames])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return fetch(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Eight sessions of four rooms, on which statistics are taken."""
    folder = tmp_path_factory.mktemp("sample")
    return fetch(folder, rooms=4, sessions=2, recordings=1, seconds=90, buffer_frames=20, page_frames=500)


def test_one_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    again = fetch(tmp_path / "again")
    assert digests(small) == digests(again)
    other = fetch(tmp_path / "other", seed=4)
    assert not set(digests(small).values()) & set(digests(other).values())


def test_a_recording_does_not_depend_on_how_many_are_asked(small, tmp_path):
    more = fetch(tmp_path, sessions=2, recordings=3)
    asked, got = digests(small), digests(more)
    mismatched = [name for name in asked if name != "query.json" and got[name] != asked[name]]
    assert not mismatched


def test_a_room_more_renders_that_room_only_and_gives_the_same_bytes(small, tmp_path):
    fetch(tmp_path)
    with RawStore(tmp_path / "raw", {}, 50, tmp_path / "scratch") as store:
        SimulatorSource(**{**SMALL, "rooms": 2}).fetch(store, lambda frames: None)
        store.publish()
        assert store.taken == {"room01_S1_R1", "room01_S1_R2"} < set(recordings(tmp_path / "raw"))
    more, anew = digests(tmp_path / "raw"), digests(fetch(tmp_path / "anew", rooms=2))
    assert {name for name in more if more[name] != anew[name]} == {"query.json"}  # of which {} was asked here


@pytest.mark.parametrize("stop_after", [70, 260])
def test_an_interrupted_fetch_goes_on_to_the_same_bytes(small, tmp_path, stop_after):
    fetch(tmp_path, stop_after=stop_after)
    assert not (tmp_path / "raw").exists()
    assert digests(fetch(tmp_path)) == digests(small)


def test_complete_recordings_are_not_rendered_again(small, tmp_path):
    fetch(tmp_path, stop_after=420)
    first = next((tmp_path / "scratch").glob("fetch-*/frames/room01_S1_R1"))
    assert (first / "complete.json").exists()
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    raw = fetch(tmp_path)
    assert {path.name: at for path, at in before.items()} == {
        path.name: path.stat().st_mtime_ns for path in (raw / "frames" / "room01_S1_R1").iterdir()}


def test_neighbouring_recordings_share_identical_frames(small):
    (frames_a, times_a), (frames_b, times_b) = (read_frames(small, name) for name in recordings(small))
    shared, in_a, in_b = np.intersect1d(times_a, times_b, return_indices=True)
    assert len(shared) > SMALL["buffer_frames"]
    assert np.array_equal(frames_a[in_a], frames_b[in_b])
    assert times_a[-1] < times_b[-1]


def test_buffers_are_counted_in_frames_and_keyframes_lie_on_whole_frames(small):
    for name in recordings(small):
        frames, times = read_frames(small, name)
        keyframes = read_keyframes(small / "keyframes" / f"{name}.jsonl", list(ACTIONS))
        at = np.searchsorted(times, [keyframe.data_time for keyframe in keyframes])
        assert list(times[at]) == [keyframe.data_time for keyframe in keyframes]
        assert at[0] == SMALL["buffer_frames"]
        assert len(times) - 1 - at[-1] >= SMALL["buffer_frames"]
        assert (np.diff(times) > 0).all()
        assert (frames[at] > -50).all()
        assert all(keyframe.persons for keyframe in keyframes)


def timelines_agree(raw: Path, classes: list[str]) -> int:
    compared = 0
    for name in recordings(raw):
        timeline = json.loads((raw / "timeline" / f"{name}.json").read_text())
        segments = {person["object_id"]: person["segments"] for person in timeline["persons"]}
        for person in segments.values():
            assert all(segment["start_ms"] < segment["end_ms"] for segment in person)
            assert all(a["end_ms"] <= b["start_ms"] for a, b in pairwise(person))
        for keyframe in read_keyframes(raw / "keyframes" / f"{name}.jsonl", classes):
            for person in keyframe.persons:
                labels = [segment["label"] for segment in segments[person.object_id]
                          if segment["start_ms"] <= keyframe.data_time < segment["end_ms"]]
                assert labels == [person.subcategory]
                compared += 1
    return compared


def test_the_timeline_says_what_the_keyframes_say(sample):
    assert timelines_agree(sample, list(ACTIONS)) > 300


def test_boxes_enclose_pixels_warmer_than_their_surroundings(sample):
    contrasts, filled, outside = [], [], []
    for name in recordings(sample):
        frames, times = read_frames(sample, name)
        for keyframe in read_keyframes(sample / "keyframes" / f"{name}.jsonl", list(ACTIONS)):
            frame = frames[np.searchsorted(times, keyframe.data_time)]
            for person in keyframe.persons:
                cx, cy, w, h = np.array(person.bbox) * (60, 40, 60, 40)
                left, right, top, bottom = (int(round(edge)) for edge in (cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2))
                ring = np.zeros(frame.shape, bool)
                ring[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = True
                ring[top:bottom, left:right] = False
                around = np.median(frame[ring])
                contrasts.append(np.percentile(frame[top:bottom, left:right], 90) - around)
                filled.append(np.mean(frame[top:bottom, left:right] > around + 1.5))
                outside.append(np.mean(frame[ring] > around + 4))
    # measured: medians 4.3 to 6.7 by action, 5th and 95th percentile 3.3 and 7.9; share of warm pixels 0.55 to 0.8
    assert 4.3 <= np.median(contrasts) <= 6.7
    assert np.percentile(contrasts, 5) > 2.5 and np.percentile(contrasts, 95) < 9.5
    assert 0.5 < np.median(filled) < 0.8
    assert np.mean(outside) < 0.1


def test_background_and_noise_lie_in_the_measured_ranges(sample):
    radius = Camera(40, 60, 2.9).radius_px()
    medians, noises = [], []
    for name in recordings(sample):
        frames, _ = read_frames(sample, name)
        frames = np.where(frames < -50, np.nan, frames)
        low, middle, high = np.nanpercentile(frames, [1, 50, 99])
        # one room was measured, these are several: 1 C around its ranges
        for value, (lowest, highest) in ((low, BACKGROUND_P1_C), (middle, BACKGROUND_MEDIAN_C), (high, BACKGROUND_P99_C)):
            assert lowest - 1 <= value <= highest + 1, name
        quiet = np.nanmedian(frames, axis=0)
        medians.append(np.median(quiet[(radius > 24) & (radius < 30)]) - np.median(quiet))
        # half of what neighbouring frames differ by, robust against people who pass
        noises.append(np.nanmedian(abs(np.diff(frames, axis=0)), axis=0) / 0.6745 / np.sqrt(2))
        tenths = (frames[np.isfinite(frames)][:5000] + 273.15) * 10
        assert np.allclose(tenths, np.rint(tenths), atol=2e-3)
    # the rim is up to 2.6 C warmer
    assert min(medians) > -0.3 and max(medians) < 2.9
    noise = np.mean(noises, axis=0)
    for inner, outer in pairwise([0, 9, 15, 21, 24, 27, 30, 33, 36]):
        ring = noise[(radius >= inner) & (radius < outer)]
        assert np.median(ring) == pytest.approx(np.interp((inner + outer) / 2, NOISE_RADIUS_PX, NOISE_STD_C), rel=0.3)


def test_arrival_times_and_losses_lie_in_the_measured_ranges(sample):
    clean, bad, losses = [], [], []
    for name in recordings(sample):
        frames, times = read_frames(sample, name)
        lost = (frames < -50).sum(axis=(1, 2))
        # what is received of 2400 pixels: whole packets
        assert set(2400 - lost) <= {96, 672, 1248, 1824, 2400}
        assert ((frames > -50).reshape(len(frames), -1).argmin(axis=1)[lost > 0] == 2400 - lost[lost > 0]).all()
        assert 150 <= np.diff(times).mean() <= 195
        losses.append(np.mean(lost > 0))
        (bad if losses[-1] else clean).append((np.diff(times).std(), np.diff(times).max()))
        assert np.diff(times).min() <= 40
    stds, gaps = np.array(clean).T
    assert stds.min() > 100 and stds.max() < 150 and gaps.max() < 670
    stds, gaps = np.array(bad).T
    assert stds.mean() > 300 and 1500 < gaps.max() < 5000
    assert 0.04 < np.mean(losses) < 0.2 and max(losses) < 0.4


def test_packets_that_were_lost_are_missing_where_they_belong(sample):
    moved, steps = [], []
    for name in recordings(sample):
        frames, _ = read_frames(sample, name)
        repair = PixelRepair(40, 60, packet_px=PACKET_PX)
        repaired = [repair.repair(frame.ravel()) for frame in frames]
        moved += [each.moved for each in repaired[1:] if each.lost]
        steps.append(np.abs(np.diff([each.frame for each in repaired], axis=0)).mean(axis=(1, 2)))
    # the last packet always arrives, so something must move in every cut frame; out of place it would differ by more than 1 C
    assert all(moved) and len(moved) > 20
    assert np.concatenate(steps).max() < 0.8


def count_labels(raw: Path, classes: list[str]) -> dict[str, int]:
    labels = [person.subcategory for name in recordings(raw)
              for keyframe in read_keyframes(raw / "keyframes" / f"{name}.jsonl", classes) for person in keyframe.persons]
    return {name: labels.count(name) for name in classes}


def test_classes_are_as_skewed_as_the_real_ones_by_default(sample):
    counts = count_labels(sample, list(ACTIONS))
    total = sum(counts.values())
    assert 0.35 < counts[LYING_RISK] / total < 0.65
    assert 0.12 < counts[STANDING] / total < 0.40
    assert 0 < counts[LYING_BED] + counts[WALKING] < 0.3 * total


def test_all_actions_can_be_asked_for(tmp_path):
    raw = fetch(tmp_path, class_weights=dict.fromkeys(ACTIONS, 1.0), rooms=2, seconds=110, buffer_frames=4)
    counts = count_labels(raw, list(ACTIONS))
    assert all(counts.values()), counts
    alike = fetch(tmp_path / "alike", balance=1.0, rooms=2, seconds=110, buffer_frames=4)
    assert count_labels(alike, list(ACTIONS)) == counts


def test_balance_takes_back_the_skew_but_not_what_was_taken_out():
    options = SMALL | {"class_weights": {OTHER: 0.0}}
    skewed, halved, alike = (SimulatorSource(**options | {"balance": balance}).weights for balance in (0.0, 0.5, 1.0))
    assert skewed == {name: share for name, (share, _) in ACTIONS.items()} | {OTHER: 0.0}
    assert halved[LYING_RISK] / halved[CROUCHING] == pytest.approx((0.6 / 0.009) ** 0.5)
    assert alike == dict.fromkeys(ACTIONS, 1.0) | {OTHER: 0.0}


def test_a_small_sensor_with_seven_actions(tmp_path):
    raw = fetch(tmp_path, rows=16, cols=16, classes=SEVEN, payload="float32", rooms=2, class_weights={LYING_BED: 0.2})
    counts = count_labels(raw, SEVEN)
    assert sum(counts.values()) > 40 and sum(count > 0 for count in counts.values()) >= 4
    frames, _ = read_frames(raw, recordings(raw)[0])
    assert frames.shape[1:] == (16, 16)
    timelines_agree(raw, SEVEN)


def test_an_action_of_weight_zero_is_not_a_goal(tmp_path):
    raw = fetch(tmp_path, class_weights={LYING_RISK: 0.0, RISK_TRANSITION: 0.0}, people=1)
    counts = count_labels(raw, list(ACTIONS))
    assert counts[LYING_RISK] == counts[RISK_TRANSITION] == 0 and sum(counts.values()) > 20


def test_a_long_take_streams(tmp_path):
    fetch(tmp_path / "warm", recordings=1, seconds=5)
    peaks = []
    for seconds in (30, 230):
        tracemalloc.start()
        fetch(tmp_path / str(seconds), recordings=1, seconds=seconds)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # the longer take has 1200 frames more: 6 MB of pixels and as much of text
    assert peaks[1] < peaks[0] + 3e6, peaks


def test_a_bed_slept_in_for_hours_grows_no_warmer_than_a_night_makes_it():
    take = SimulatorSource(**{**SMALL, "nights": 1.0}).open_take(0, 0)
    quiet, warmest = take.room.scene_at(np.zeros(1), []), 0.0
    for block in take.blocks():
        if block.number % 20 == 0:
            warmed = take.room.scene_at(block.arrivals.captured_s[:1], block.residues)
            warmest = max(warmest, float((warmed - quiet).max()))
        if block.arrivals.captured_s[-1] > 3 * 3600:
            break
    assert 4 < warmest < 7  # who lies for good warms a bed by 5.8 C; other warmth fades meanwhile


def test_animals_are_warm_move_and_are_nobody(small, tmp_path):
    inhabited = fetch(tmp_path, animals=1.0)
    for name in recordings(small):
        before, keyframes = (read_keyframes(raw / "keyframes" / f"{name}.jsonl", list(ACTIONS)) for raw in (small, inhabited))
        animals = [(one, thing) for one in keyframes for thing in one.annotations if thing.subcategory in ("cat", "dog")]
        assert len(animals) > 5 and {thing.category for _, thing in animals} == {"object"}
        assert not any(thing.subcategory in ("cat", "dog") for one in before for thing in one.annotations)
        (without, stamps), (frames, _) = read_frames(small, name), read_frames(inhabited, name)
        warmer = (frames - without) > 1.0
        for keyframe, animal in animals:
            cx, cy, w, h = animal.bbox * np.array([60, 40, 60, 40])
            rows, cols = np.nonzero(warmer[np.searchsorted(stamps, keyframe.data_time)])
            assert (abs(rows + 0.5 - cy) < h / 2 + 3).all() and (abs(cols + 0.5 - cx) < w / 2 + 3).all()
        assert warmer.any(axis=(1, 2)).mean() > 0.5


def test_every_device_has_its_own_room_and_address(sample):
    quiet, addresses = {}, {}
    for name in recordings(sample):
        frames, _ = read_frames(sample, name)
        room = name.split("_")[0]
        quiet.setdefault(room, np.nanmedian(np.where(frames < -50, np.nan, frames), axis=0)[10:30, 15:45])
        keyframes = read_keyframes(sample / "keyframes" / f"{name}.jsonl", list(ACTIONS))
        addresses.setdefault(room, set()).add(keyframes[0].mac_address)
    assert len({address for of_room in addresses.values() for address in of_room}) == len(addresses) == 4
    assert all(len(of_room) == 1 for of_room in addresses.values())
    assert all(np.std(a - b) > 0.3 for a, b in pairwise(quiet.values()))


def test_a_lying_person_is_longer_than_a_standing_one_is_wide():
    rng, camera = np.random.default_rng(0), Camera(40, 60, 2.9)
    figure = Figure.draw(rng)

    def longest(pose):
        person = draw_person(camera, figure, joints(pose[None], figure.stature), np.zeros(1))
        rows, cols = np.nonzero(person.alpha[0] > 0.4)
        return max(np.ptp(rows), np.ptp(cols)) + 1

    assert np.mean([longest(lying(rng)) for _ in range(10)]) > 1.25 * np.mean([longest(standing(rng)) for _ in range(10)])


def test_a_fallen_person_lies_flat_or_props_up_on_both_hands():
    rng = np.random.default_rng(0)
    for _ in range(20):
        flat, half_up = (joints(pose[None], 1.0)[0, :, 2] for pose in (lying(rng), propped(rng)))
        assert max(flat[:3]) < 0.35 and 0.25 < half_up[2] < 0.9  # head
        assert half_up[0] < 0.2 and max(half_up[[5, 8]]) < half_up[1]  # the seat on the floor, both hands below the neck


def test_who_stands_steps_aside_but_not_far():
    room = Room(Camera(40, 60, 2.9), np.random.default_rng(1), np.random.default_rng(2))
    labels = list(ACTIONS)
    person = Resident(np.random.default_rng(3), room, Tally(dict.fromkeys(labels, 1.0), 0.5), labels)
    person.begin()
    person.rise()
    begun, start = person.time, np.array([person.x, person.y])
    person.stay_standing(30.0)
    assert person.time == pytest.approx(begun + 30, abs=0.2) and person.label_at(begun + 15) == STANDING
    times = np.arange(begun, begun + 30, 0.25)
    away = np.linalg.norm([person.track(time, time).place[0] - start for time in times], axis=1)
    assert 0.1 < away.max() < 2.0 and abs(person.x) < room.reach[0] and abs(person.y) < room.reach[1]


@pytest.mark.parametrize("changes, word", [({"classes": ["standing", "flying"]}, "flying"),
                                           ({"class_weights": {"standing": -1.0}}, "weights"),
                                           ({"class_weights": dict.fromkeys(ACTIONS, 0.0)}, "weights")])
def test_wrong_actions_and_weights_are_refused_in_a_sentence(changes, word):
    with pytest.raises(InputError, match=word):
        SimulatorSource(**{**SMALL, **changes})
