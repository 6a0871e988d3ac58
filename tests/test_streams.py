"""python -m pytest tests/test_streams.py

Without these, a model could be shown other windows of a new recording than those that it was trained on.
"""

from pathlib import Path

import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.keyframes import Keyframe
from thermal_action.raw import PayloadFormat, RawFrame
from thermal_action.raw_store import RawStore
from thermal_action.recordings import Frames, write_recording
from thermal_action.streams import Frame, Slider, open_streams, slide
from thermal_action.windows import Windowing

SIZE = (4, 6)
START = 1_760_639_220_000


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """In tenths of a degree, as the sensor gives them."""
    return np.random.default_rng(seed).integers(150, 300, (count, *SIZE)).astype(np.float32) / 10


def times(count: int, seed: int = 0) -> np.ndarray:
    return START + np.cumsum(np.random.default_rng(seed).integers(35, 400, count))


def write_hdf5(path: Path, frames: np.ndarray, stamps: np.ndarray, lost: int = 0) -> Path:
    block = Frames(stamps, np.arange(len(stamps)), frames, np.full(len(stamps), lost))
    write_recording(path, [block], sensor_id=path.stem, mac_address="02:00:00:00:00:01", compression="gzip", level=1)
    return path


def write_text(path: Path, frames: np.ndarray, stamps: np.ndarray, header: str = "ARRAYTYPE=HTPA6x4d\n") -> Path:
    lines = (" ".join(str(round(10 * value + 2731.5)) for value in frame.ravel().tolist()) + f" t: {stamp / 1000:.3f}\n"
             for frame, stamp in zip(frames, stamps, strict=True))
    path.write_text(header + "".join(lines))
    return path


def write_raw(folder: Path, name: str, frames: np.ndarray, stamps: np.ndarray) -> Path:
    payload = PayloadFormat("base64", "zlib", "int16")
    with RawStore(folder, {"fetch": {}}, 7, folder.parent / "scratch") as store:
        raw = store.recording(name)
        for number, (stamp, frame) in enumerate(zip(stamps, frames, strict=True)):
            raw.append(RawFrame(int(stamp), number, SIZE[1], SIZE[0], payload.encode(frame)))
        raw.finish(payload)
        store.put_keyframes(name, [Keyframe(name, "02:00:00:00:00:01", "a", 0, int(stamps[0]), ())])
        store.publish()
    return folder


def read(path: Path, **options) -> list[Frame]:
    (stream,) = open_streams(path, SIZE, **options)
    return list(stream.frames)


def test_all_kinds_of_recordings_give_the_same_frames(tmp_path):
    frames, stamps = pictures(150), times(150)
    hdf5 = write_hdf5(tmp_path / "R1.h5", frames, stamps)
    raw = write_raw(tmp_path / "raw", "R1", frames, stamps)
    for path in (hdf5, raw, raw / "frames" / "R1", write_text(tmp_path / "R1.txt", frames, stamps)):
        (stream,) = open_streams(path, SIZE)
        assert stream.name == "R1" and stream.total in (150, None)
        found = list(stream.frames)
        assert [frame.time for frame in found] == stamps.tolist() and not any(frame.lost for frame in found)
        assert np.allclose([frame.picture for frame in found], frames, atol=0.051)


def test_a_folder_is_all_of_its_recordings(tmp_path):
    for name in ("B", "A"):
        write_hdf5(tmp_path / f"{name}.h5", pictures(3), times(3))
    assert [stream.name for stream in open_streams(tmp_path, SIZE)] == ["A", "B"]


def test_lost_pixels_of_an_export_are_repaired_and_counted(tmp_path):
    frames = pictures(3)
    frames[1, 2:] = -273.15
    found = read(write_text(tmp_path / "R1.txt", frames, times(3)))
    assert [frame.lost for frame in found] == [0, 12, 0]
    assert np.array_equal(found[1].picture[2:], found[0].picture[2:]) and (found[1].picture > 0).all()


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda frames, stamps: frames.__setitem__((5, 1, 1), np.nan), r"R1.h5: frame 5 \(time \d+\) holds NaN or infinity"),
    (lambda frames, stamps: frames.__setitem__(7, 0), r"R1.h5: frame 7 \(time \d+\) is 0 C everywhere and no picture"),
])
def test_what_is_no_picture_is_refused_by_name(tmp_path, spoil, told):
    frames, stamps = pictures(10), times(10)
    spoil(frames, stamps)
    with pytest.raises(InputError, match=told):
        read(write_hdf5(tmp_path / "R1.h5", frames, stamps))


def test_times_that_go_backwards_are_refused(tmp_path):
    stamps = times(10)
    stamps[6] = stamps[4]
    with pytest.raises(InputError, match=r"R1.txt: frame 6 \(time \d+\) is not later than the one before"):
        read(write_text(tmp_path / "R1.txt", pictures(10), stamps))


def test_a_torn_recording_is_refused_where_it_ends(tmp_path):
    path = write_hdf5(tmp_path / "R1.h5", pictures(500), times(500))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"R1.h5 (is no whole HDF5 file|cannot be read in its frames)"):
        read(path)
    text = write_text(tmp_path / "R2.txt", pictures(9), times(9))
    text.write_text(text.read_text()[:-8])
    with pytest.raises(InputError, match=r"R2.txt, line 10 is no frame: it is cut off"):
        read(text)


@pytest.mark.parametrize(("name", "content", "told"), [
    ("R.txt", "1 2 3\n", "begins with '1 2 3"), ("R.txt", "ARRAYTYPE=HTPA60x40d\n", r"have 40 x 60 pixels, the model sees 4 x 6"),
    ("R.txt", "ARRAYTYPE=6x4\n" + "2900 " * 25 + "t: 1.0\n", "it has 25 pixels, the array 24"),
    ("R.txt", "ARRAYTYPE=6x4\n" + "2900 " * 23 + "warm t: 1.0\n", "line 2 is no frame: could not convert"),
    ("R.avi", "", "is no recording: give a .h5 file"),
])
def test_other_files_are_refused_in_a_sentence(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told):
        read(tmp_path / name)


def test_missing_and_empty_places_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        open_streams(tmp_path / "nowhere", SIZE)
    with pytest.raises(InputError, match="holds no recording"):
        open_streams(tmp_path, SIZE)


# windows

@pytest.mark.parametrize("keyframe", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sampling", ["consecutive", "uniform_time"])
@pytest.mark.parametrize("every", [1, 5, 100])
def test_windows_that_slide_are_those_that_training_cuts_out(keyframe, sampling, every):
    windowing = Windowing(length=16, sampling=sampling, period_ms=170.0, keyframe=keyframe)
    frames, stamps = pictures(120), times(120)
    found = list(slide(map(Frame, stamps.tolist(), frames, [0] * 120), windowing, every))
    assert [window.number for window in found] == list(range(0, 120, every))
    for window in found:
        indices = windowing.frames(stamps, window.number)
        assert np.array_equal(window.frames, frames[indices]) and window.time == stamps[window.number]
        assert window.gap == np.diff(stamps[indices]).max() and window.known >= stamps[indices].max()


def test_a_window_comes_with_the_frame_that_completes_it():
    """A causal one with its keyframe, a centred one as soon as what follows has come; nobody waits longer."""
    for keyframe, ahead in ((1.0, 0), (0.5, 7)):
        slider = Slider(Windowing(length=16, sampling="consecutive", period_ms=170.0, keyframe=keyframe), 1)
        for number, frame in enumerate(map(Frame, times(40).tolist(), pictures(40), [0] * 40)):
            windows = list(slider.push(frame))
            assert [window.number for window in windows] == ([number - ahead] if number >= ahead else [])
            assert all(window.known == frame.time for window in windows)


def test_a_long_recording_needs_no_more_memory_than_a_short_one():
    for sampling, every in (("consecutive", 1), ("consecutive", 200), ("uniform_time", 7)):
        slider = Slider(Windowing(length=16, sampling=sampling, period_ms=170.0, keyframe=0.5), every)
        held = []
        for stamp in times(3000).tolist():
            list(slider.push(Frame(stamp, np.zeros(SIZE, np.float32), 0)))
            held.append(len(slider.held))
        assert max(held) < 120 + every


def test_damage_and_gaps_of_a_window_are_told():
    stamps = 170 * np.arange(40)
    stamps[20:] += 5000
    frames = [Frame(int(stamp), np.zeros(SIZE, np.float32), int(number in (8, 9))) for number, stamp in enumerate(stamps)]
    windows = list(slide(frames, Windowing(length=8, sampling="consecutive", period_ms=170.0, keyframe=1.0), 1))
    assert [window.damaged for window in windows[7:12]] == [0, 1 / 8, 1 / 4, 1 / 4, 1 / 4] and windows[17].damaged == 0
    assert windows[19].gap == 170 and windows[20].gap == windows[26].gap == 5170 and windows[27].gap == 170
