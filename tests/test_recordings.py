"""pytest tests/test_recordings.py - frames come back from disk as they were, in the same bytes wherever they were written."""

import pickle
import random

import h5py
import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.recordings import CHUNK_FRAMES, Frames, Recording, write_recording


def write(path, blocks, **changes):
    settings = {"sensor_id": "R1", "mac_address": "02:00:00:00:00:01", "compression": "gzip", "level": 2}
    write_recording(path, blocks, **(settings | changes))
    return path


def some_frames(count):
    numbers = np.arange(count)
    pictures = np.random.default_rng(3).normal(20, 2, (count, 4, 5)).astype(np.float32)
    return Frames(1000 + 170 * numbers, numbers, pictures, (numbers == 2).astype(int))


def in_blocks(frames):
    for start in range(0, len(frames.times), CHUNK_FRAMES):
        yield Frames(*(column[start : start + CHUNK_FRAMES] for column in frames))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 150])
@pytest.mark.parametrize(("compression", "level"), [("gzip", 1), ("gzip", 3), ("gzip", 4), ("gzip", 9), ("lzf", 1), ("none", 1)])
def test_frames_come_back_bit_by_bit(tmp_path, compression, level, count):
    # by HDF5's own filters, though gzip is not compressed by them: any reader must understand the file
    frames = some_frames(count)
    with Recording(write(tmp_path / "R1.h5", in_blocks(frames), compression=compression, level=level)) as recording:
        assert np.array_equal(recording.read(slice(None)), frames.pictures)
        assert recording.timestamps.tolist() == frames.times.tolist()
        assert recording.corrupted.tolist() == [index == 2 for index in range(count)]
        dataset = recording.file["frames"]
        assert dataset.compression == (None if compression == "none" else compression)
        assert dataset.shuffle == (compression != "none") and dataset.fletcher32
        assert dataset.compression_opts == (level if compression == "gzip" else None)
        assert dict(recording.file.attrs) == {"sensor_id": "R1", "mac_address": "02:00:00:00:00:01", "total_frames": count,
                                              "corrupted_count": int(count > 2), "min_timestamp": 1000,
                                              "max_timestamp": 1000 + 170 * (count - 1)}


def test_somebody_who_still_holds_what_was_written_changes_no_byte(tmp_path, monkeypatch):
    # a profiler that looks at a thread's frames does: now and then a recording that a Dask worker wrote had another layout
    expected = write(tmp_path / "alone.h5", in_blocks(some_frames(150))).read_bytes()
    held, create = [], h5py.Group.create_dataset
    monkeypatch.setattr(h5py.Group, "create_dataset", lambda *each, **more: held.append(create(*each, **more)) or held[-1])
    assert write(tmp_path / "held.h5", in_blocks(some_frames(150))).read_bytes() == expected and len(held) == 5


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_the_same_frames_give_the_same_bytes(tmp_path, compression):
    # in however many blocks they come
    first = write(tmp_path / "R1.h5", in_blocks(some_frames(200)), compression=compression).read_bytes()
    (tmp_path / "other").mkdir()
    assert first == write(tmp_path / "other" / "R1.h5", [some_frames(200)], compression=compression).read_bytes()
    with pytest.raises(ValueError, match="ends within a chunk"):
        write(tmp_path / "R2.h5", [some_frames(3), some_frames(3)])


@pytest.mark.parametrize("pattern", [0.0, 20.0, np.nan])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (40, 60)])
def test_the_checksum_is_that_of_hdf5(tmp_path, pattern, shape):
    # a chunk of one value deflates to a few bytes, one of noise to more than it was, of even and odd length
    noise = np.random.default_rng(0).integers(0, 256, (64, *shape, 4), np.uint8).view("<f4")[..., 0]
    for name, pictures in {"flat": np.full((64, *shape), pattern, "<f4"), "noise": noise}.items():
        numbers = np.arange(64)
        path = write(tmp_path / f"{name}.h5", [Frames(numbers, numbers, pictures, 0 * numbers)])
        with h5py.File(path) as file:
            assert file["frames"][:].tobytes() == pictures.tobytes()
            _, stored = file["frames"].id.read_direct_chunk((0, 0, 0))
        with h5py.File(tmp_path / "alike.h5", "w") as file:  # the deflated bytes under HDF5's own checksum
            deflated = np.frombuffer(stored[:-4], np.uint8)
            dataset = file.create_dataset("bytes", data=deflated, chunks=deflated.shape, fletcher32=True)
            assert dataset.id.read_direct_chunk((0,))[1] == stored


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_a_bit_that_flipped_is_noticed_when_it_is_read(tmp_path, compression):
    # a model would learn from it, or be scored on it: DVC trusts what is in its cache
    frames = some_frames(150)
    whole, places = write(tmp_path / "R1.h5", [frames], compression=compression).read_bytes(), random.Random(compression)
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
            assert all(map(np.array_equal, read, (frames.pictures, frames.times, frames.sequences, frames.lost)))
    assert noticed > 200


def a_clip(count, height=5, width=7):
    numbers, rng = np.arange(count), np.random.default_rng(count)
    pictures = np.kron(rng.integers(0, 256, (count, 1, 1, 3), np.uint8), np.ones((1, height, width, 1), np.uint8))
    return Frames(40 * (numbers + 1), 3 * numbers, pictures ^ rng.integers(0, 4, pictures.shape, np.uint8), 0 * numbers)


@pytest.mark.parametrize("count", [1, 8, 63, 64, 65, 150])
@pytest.mark.parametrize(("compression", "level"), [("gzip", 2), ("gzip", 9), ("lzf", 1), ("none", 1)])
def test_colours_come_back_as_they_were_in_the_same_bytes(tmp_path, compression, level, count):
    clip = a_clip(count)
    whole = write(tmp_path / "R1.h5", [clip], compression=compression, level=level).read_bytes()
    with Recording(tmp_path / "R1.h5") as recording:
        read = recording.read(slice(None))
        assert read.dtype == np.uint8 and np.array_equal(read, clip.pictures) and recording.shape == (count, 5, 7, 3)
        assert np.array_equal(recording.read(np.array([count - 1, 0, 0])), clip.pictures[[count - 1, 0, 0]])
        assert (recording.height, recording.width, len(recording)) == (5, 7, count)
        dataset = recording.file["frames"]
        assert dataset.chunks == (min(count, CHUNK_FRAMES), 5, 7, 3) and dataset.fletcher32
        assert dataset.compression == (None if compression == "none" else compression)
    assert write(tmp_path / "R2.h5", [clip], compression=compression, level=level, sensor_id="R1").read_bytes() == whole


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_a_bit_that_flipped_in_a_clip_is_noticed_when_it_is_read(tmp_path, compression):
    clip, places, noticed = a_clip(70), random.Random(compression), 0
    whole = write(tmp_path / "R1.h5", [clip], compression=compression).read_bytes()
    for _ in range(150):
        place, bit = places.randrange(len(whole)), places.randrange(8)
        (tmp_path / "R1.h5").write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        try:
            with Recording(tmp_path / "R1.h5") as recording:
                read = recording.read(slice(None)), recording.timestamps
        except InputError as error:
            assert str(tmp_path / "R1.h5") in str(error) and "dvc" in str(error)
            noticed += 1
        else:
            assert all(map(np.array_equal, read, (clip.pictures, clip.times)))
    assert noticed > 75


def test_an_interrupted_conversion_leaves_no_file(tmp_path):
    def broken():
        yield some_frames(64)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write(tmp_path / "R1.h5", broken())
    assert not list(tmp_path.iterdir())


def test_times_must_increase(tmp_path):
    frames = some_frames(5)
    frames.times[3] = frames.times[2]
    with pytest.raises(ValueError, match="strictly increase"):
        write(tmp_path / "R1.h5", [frames])


def test_a_recording_travels_to_a_worker_process(tmp_path):
    recording = Recording(write(tmp_path / "R1.h5", [some_frames(20)]))
    before = recording.read(np.array([3, 3, 7]))
    copy = pickle.loads(pickle.dumps(recording))
    assert np.array_equal(copy.read(np.array([3, 3, 7])), before)
    recording.close()
    assert np.array_equal(recording.read(np.array([7, 3]))[::-1], before[1:])  # opens again after close


def test_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match="R9.h5 does not exist"):
        Recording(tmp_path / "R9.h5").timestamps  # noqa: B018
    path = write(tmp_path / "R1.h5", [some_frames(20)])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="R1.h5 is no whole HDF5 file"):
        Recording(path).timestamps  # noqa: B018
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = [1]
    with pytest.raises(InputError, match="other.h5 has no dataset"):
        Recording(tmp_path / "other.h5").timestamps  # noqa: B018
