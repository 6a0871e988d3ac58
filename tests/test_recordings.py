"""pytest tests/test_recordings.py - pixels lost on the way are repaired and counted, and windows hold the right frames."""

import pickle

import h5py
import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.recordings import (
    PixelRepair,
    Recording,
    nearest_frames,
    window_indices,
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
    frame, lost, unseen = repair.repair(second)
    assert frame.ravel().tolist() == [21, 22, 23, 24, 24, 25] and (lost, unseen) == (2, 0)
    frame, lost, unseen = repair.repair(third)
    assert frame.ravel().tolist() == [22, 23, 24, 24, 24, 25] and (lost, unseen) == (3, 0)


def test_a_short_payload_is_a_lost_tail():
    repair = PixelRepair(2, 3)
    repair.repair(np.full(6, 20, np.float32))
    frame, lost, _ = repair.repair(np.full(2, 30, np.float32))
    assert frame.ravel().tolist() == [30, 30, 20, 20, 20, 20] and lost == 4


def test_a_pixel_never_seen_before_takes_the_frames_median_and_is_counted():
    frame, lost, unseen = PixelRepair(2, 3).repair(np.array([20, 22, 24], np.float32))
    assert frame.ravel().tolist() == [20, 22, 24, 22, 22, 22] and (lost, unseen) == (3, 3)
    with pytest.raises(ValueError, match="no valid pixel"):
        PixelRepair(2, 3).repair(np.full(6, -273.2, np.float32))


def test_cold_but_possible_temperatures_are_no_loss():
    assert PixelRepair(1, 2).repair(np.array([-49.9, 300], np.float32))[1] == 0


def test_a_window_is_32_before_the_keyframe_and_31_after():
    window = window_indices(np.arange(1000) * 170, 500)
    assert window.tolist() == list(range(468, 532)) and window[32] == 500


def test_edges_repeat():
    assert window_indices(np.arange(10) * 170, 1, 6).tolist() == [0, 0, 0, 1, 2, 3]
    assert window_indices(np.arange(10) * 170, 9, 6).tolist() == [6, 7, 8, 9, 9, 9]
    assert window_indices(np.array([5]), 0, 4, "uniform_time", 100).tolist() == [0, 0, 0, 0]


def test_uniform_time_takes_the_frame_nearest_to_each_tick():
    times = np.array([0, 100, 130, 160, 400, 500, 600])
    assert window_indices(times, 4, 6, "uniform_time", 100).tolist() == [1, 3, 4, 4, 5, 6]


def test_the_earlier_of_two_equally_near_frames_is_taken():
    assert nearest_frames(np.array([0, 100, 200]), np.array([50, 51, -9, 999])).tolist() == [0, 1, 0, 2]


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
