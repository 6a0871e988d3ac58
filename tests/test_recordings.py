"""pytest tests/test_recordings.py - pixels lost on the way are repaired and counted, and windows hold the right frames."""

import pickle
from itertools import combinations

import h5py
import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.recordings import (
    PixelRepair,
    Recording,
    increasing,
    write_recording,
)


def write(path, frames, **changes):
    settings = {"sensor_id": "R1", "mac_address": "02:00:00:00:00:01", "height": 4, "width": 5, "compression": "gzip", "level": 4}
    write_recording(path, frames, **(settings | changes))
    return path


def some_frames(count, shape=(4, 5)):
    generator = np.random.default_rng(3)
    return [(1000 + 170 * index, index, generator.normal(20, 2, shape).astype(np.float32), int(index == 2))
            for index in range(count)]


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_frames_come_back_bit_by_bit(tmp_path, compression):
    frames = some_frames(150)
    with Recording(write(tmp_path / "R1.h5", iter(frames), compression=compression)) as recording:
        assert np.array_equal(recording.read(slice(None)), np.stack([frame for _, _, frame, _ in frames]))
        assert recording.timestamps.tolist() == [ts for ts, *_ in frames]
        assert recording.corrupted.tolist() == [index == 2 for index in range(150)]
        dataset = recording.file["frames"]
        assert dataset.compression == (None if compression == "none" else compression)
        assert dataset.shuffle == (compression != "none")
        assert dict(recording.file.attrs) == {"sensor_id": "R1", "mac_address": "02:00:00:00:00:01", "total_frames": 150,
                                              "corrupted_count": 1, "min_timestamp": 1000, "max_timestamp": 1000 + 149 * 170}


def test_the_same_frames_give_the_same_bytes(tmp_path):
    first = write(tmp_path / "R1.h5", iter(some_frames(100))).read_bytes()
    (tmp_path / "other").mkdir()
    assert first == write(tmp_path / "other" / "R1.h5", iter(some_frames(100))).read_bytes()


def test_an_interrupted_conversion_leaves_no_file(tmp_path):
    def broken():
        yield from some_frames(70)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write(tmp_path / "R1.h5", broken())
    assert not list(tmp_path.iterdir())


def test_times_must_increase(tmp_path):
    frames = some_frames(5)
    frames[3] = (frames[2][0], *frames[3][1:])
    with pytest.raises(ValueError, match="strictly increase"):
        write(tmp_path / "R1.h5", iter(frames))


@pytest.mark.parametrize("marker", [-273.2, -273.15, float("nan"), float("inf"), -50.1])
def test_lost_pixels_take_the_last_valid_value_of_the_same_pixel(marker):
    repair = PixelRepair(2, 3)
    first = np.arange(6, dtype=np.float32) + 20
    second = first + 1
    second[4:] = marker
    third = first + 2
    third[3:] = marker
    repair.repair(first)
    frame, *counts = repair.repair(second)
    assert frame.ravel().tolist() == [21, 22, 23, 24, 24, 25] and counts == [2, 0, False]
    frame, *counts = repair.repair(third)
    assert frame.ravel().tolist() == [22, 23, 24, 24, 24, 25] and counts == [3, 0, False]


def test_a_short_payload_is_a_lost_tail():
    repair = PixelRepair(2, 3)
    repair.repair(np.full(6, 20, np.float32))
    repaired = repair.repair(np.full(2, 30, np.float32))
    assert repaired.frame.ravel().tolist() == [30, 30, 20, 20, 20, 20] and repaired.lost == 4


def test_a_pixel_never_seen_before_takes_the_frames_median_and_is_counted():
    frame, *counts = PixelRepair(2, 3).repair(np.array([20, 22, 24], np.float32))
    assert frame.ravel().tolist() == [20, 22, 24, 22, 22, 22] and counts == [3, 3, False]
    with pytest.raises(ValueError, match="no valid pixel"):
        PixelRepair(2, 3).repair(np.full(6, -273.2, np.float32))


def test_cold_but_possible_temperatures_are_no_loss():
    assert PixelRepair(1, 2).repair(np.array([-49.9, 300], np.float32)).lost == 0


@pytest.mark.parametrize("came", [list(c) for n in range(6) for c in combinations(range(5), n)])
@pytest.mark.parametrize("fill", [True, False])
def test_packets_that_arrived_go_back_where_they_belong(came, fill):
    rng = np.random.default_rng(len(came))
    before = rng.normal(18, 3, 2400).astype(np.float32)
    after = before + rng.normal(0, 0.3, 2400).astype(np.float32)
    packets = [slice(start, min(start + 576, 2400)) for start in range(0, 2400, 576)]
    received = np.concatenate([after[packets[index]] for index in came] or [after[:0]])
    if fill:
        received = np.concatenate([received, np.full(2400 - received.size, -273.2, np.float32)])
    repair = PixelRepair(40, 60, packet_px=576)
    repair.repair(before)
    repaired = repair.repair(received)
    for index, packet in enumerate(packets):
        assert np.array_equal(repaired.frame.ravel()[packet], (after if index in came else before)[packet])
    assert repaired.lost == sum(packet.stop - packet.start for index, packet in enumerate(packets) if index not in came)
    assert repaired.moved == (came != list(range(len(came)))) and not repaired.unseen


def test_a_frame_whose_end_is_missing_or_that_begins_a_recording_is_not_moved():
    before = np.random.default_rng(0).normal(18, 3, 2400).astype(np.float32)
    for received in (before[:1824], before[:1000], np.where(np.arange(2400) % 7 == 0, np.nan, before)):
        repair = PixelRepair(40, 60, packet_px=576)
        repair.repair(before + 0.1)
        repaired = repair.repair(received)
        valid = np.flatnonzero(~np.isnan(received))
        assert not repaired.moved and np.array_equal(repaired.frame.ravel()[valid], received[valid])
        assert not PixelRepair(40, 60, packet_px=576).repair(received).moved
    repair = PixelRepair(16, 16, packet_px=576)
    repair.repair(before[:256])
    assert not repair.repair(before[:100]).moved


def test_the_cheapest_increasing_choice_is_found():
    for seed in range(20):
        costs = np.random.default_rng(seed).random((3, 6))
        best = min(combinations(range(6), 3), key=lambda columns: sum(costs[range(3), columns]))
        assert increasing(costs) == list(best)
    assert increasing(np.zeros((0, 4))) == [] and increasing(np.zeros((2, 3))) == [0, 1]


def test_a_recording_travels_to_a_worker_process(tmp_path):
    recording = Recording(write(tmp_path / "R1.h5", iter(some_frames(20))))
    before = recording.read(np.array([3, 3, 7]))
    copy = pickle.loads(pickle.dumps(recording))
    assert np.array_equal(copy.read(np.array([3, 3, 7])), before)
    recording.close()
    assert np.array_equal(recording.read(np.array([7, 3]))[::-1], before[1:])  # opens again after close


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="R9.h5 does not exist"):
        Recording(tmp_path / "R9.h5").timestamps  # noqa: B018
    path = write(tmp_path / "R1.h5", iter(some_frames(20)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="R1.h5 is no whole HDF5 file"):
        Recording(path).timestamps  # noqa: B018
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = [1]
    with pytest.raises(InputError, match="other.h5 has no dataset"):
        Recording(tmp_path / "other.h5").timestamps  # noqa: B018
