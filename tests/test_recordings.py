"""pytest tests/test_recordings.py - frames come back from disk as they were, in the same bytes wherever they were written."""

import pickle
import random

import h5py
import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.recordings import Recording, write_recording


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


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_a_bit_that_flipped_is_noticed_when_it_is_read(tmp_path, compression):
    # a model would learn from it, or be scored on it: DVC trusts what is in its cache
    frames = some_frames(150)
    whole, places = write(tmp_path / "R1.h5", iter(frames), compression=compression).read_bytes(), random.Random(compression)
    noticed = 0
    for _ in range(300):
        place, bit = places.randrange(len(whole)), places.randrange(8)
        (tmp_path / "R1.h5").write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        try:
            with Recording(tmp_path / "R1.h5") as recording:
                read = recording.read(slice(None)), recording.timestamps, recording.frame_seqs, recording.lost_pixels
        except InputError as error:
            assert str(tmp_path / "R1.h5") in str(error) and "dvc" in str(error)
            noticed += 1
        else:  # a part of the file that holds nothing
            for number, column in enumerate([read[1], read[2], read[0], read[3]]):
                assert np.array_equal(column, [frame[number] for frame in frames])
    assert noticed > 200


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
