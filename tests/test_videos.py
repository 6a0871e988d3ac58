"""pytest tests/test_videos.py - every clip arrives whole, under its own name and label, or is named; none is lost in silence."""

import json
import os
import re
import struct
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from spoilt import sentence_of, torn
from test_fetch import contents, tarred, zipped
from thermal_action import InputError, videos
from thermal_action.conversion import Conversion
from thermal_action.files import file_md5, file_sha256
from thermal_action.raw import VideoFormat
from thermal_action.raw_store import RawStore
from thermal_action.sources import videos as source
from thermal_action.sources.videos import VideosSource
from thermal_action.sources.videos.lookalike import ACTS, LookalikeSource
from thermal_action.videos import DamagedVideo, inspect_video, read_pictures
from thermal_action.windows import spread_evenly
from tiny import SEVEN_ACTIONS, numbers_of, write_clip, write_numbered, write_pictures

BOTH = pytest.mark.parametrize("suffix", [".avi", ".mp4"])


# --- one video ---


@BOTH
def test_the_frames_that_were_asked_for_come_back_in_their_colours(tmp_path, suffix):
    path = write_numbered(tmp_path / f"a{suffix}")
    assert inspect_video(path) == (VideoFormat("mpeg4", "10", 24, 16), 12)
    for wanted in ([0], [11], [0, 3, 4, 11], list(range(12))):
        pictures = read_pictures(path, np.array(wanted), None)
        assert (pictures.dtype, pictures.shape) == (np.uint8, (len(wanted), 16, 24, 3)) and numbers_of(pictures) == wanted
    assert numbers_of(read_pictures(path, np.array([2, 5]), (7, 10))) == [2, 5]


@BOTH
def test_a_smaller_picture_is_the_mean_of_what_it_covers(tmp_path, suffix):
    # a network would learn from every fourth pixel, and see none of a thin tool
    grey = np.kron(np.random.default_rng(0).uniform(40, 200, (8, 12)), np.ones((2, 2)))
    path = write_pictures(tmp_path / f"a{suffix}", [np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)] * 3)
    (native,) = read_pictures(path, np.array([2]), None)
    (half,) = read_pictures(path, np.array([2]), (8, 12))
    assert np.abs(half - native.reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))).max() < 6
    assert half.shape == (8, 12, 3)


@BOTH
def test_the_same_pictures_are_the_same_bytes(tmp_path, suffix):
    one, other = (write_clip(tmp_path / place / f"a{suffix}").read_bytes() for place in ("here", "there"))
    assert b"Lav" not in one  # nor is FFmpeg's version in them
    assert one == other != write_clip(tmp_path / f"b{suffix}", seed=1).read_bytes()


def test_frames_are_counted_in_time_from_the_end_of_the_first():
    assert VideoFormat("h264", "30000/1001", 720, 480).times_ms(np.array([0, 1, 29, 299])).tolist() == [33, 67, 1001, 10010]


def header(clip: bytes, *, scale: int, rate: int) -> bytes:
    """An AVI file whose stream has rate / scale frames a second."""
    place = clip.index(b"strh") + 28
    return clip[:place] + struct.pack("<II", scale, rate) + clip[place + 8 :]


@pytest.mark.parametrize(("scale", "rate", "expected"), [
    (1, 1000, "1000"), (1001, 30000, "30000/1001"), (1, 1001, "25"), (1, 100_000, "25"), (10**9, 1, "25"), (1, 2**31 - 1, "25"),
    (999_999_999, 1_000_000_007, "1"),
])
def test_a_rate_that_no_camera_has_is_not_believed(tmp_path, scale, rate, expected):
    # all frames would be at one millisecond, and hdf5 would end in a traceback
    path = write_clip(tmp_path / "a.avi")
    path.write_bytes(header(path.read_bytes(), scale=scale, rate=rate))
    form, frames = inspect_video(path)
    assert (form.rate, frames) == (expected, 12)
    assert (np.diff(form.times_ms(np.arange(12))) > 0).all()


def test_a_title_in_another_alphabet_is_no_obstacle(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "zzzz"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 24, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"zzzz", "Kü\xdf".encode("latin-1") + b" "))
    assert inspect_video(path)[1] == 1


def sound_alone(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def part(clip: bytes, share: float) -> bytes:
    """An AVI file with this share of its pictures."""
    begin, end = clip.index(b"movi") + 4, clip.index(b"idx1")
    return clip[: begin + round(share * (end - begin))]


def starts(clip: bytes) -> list[int]:
    """Where the packet of each frame of an AVI file begins."""
    return [place.start() for place in re.finditer(b"00dc", clip) if clip.index(b"movi") < place.start() < clip.index(b"idx1")]


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("no video\n" * 40), "cannot be decoded"),
    "cut": (lambda path: path.write_bytes(part(path.read_bytes(), 0.5)), "is damaged at its frame 4"),
    "cut between": (lambda path: path.write_bytes(path.read_bytes()[: starts(path.read_bytes())[6]]),
                    "holds 6 frames that can be decoded, of 12 that it counts"),
    "header": (lambda path: path.write_bytes(part(path.read_bytes(), 0)), "holds 0 frames that can be decoded, of 12 "),
    "sound": (sound_alone, "holds no video"),
    # FFmpeg would read the other files, whose checksum nobody compared
    "list": (lambda path: path.write_text("ffconcat version 1.0\nfile whole.avi\n"), "cannot be decoded"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:10,\nwhole.avi\n#EXT-X-ENDLIST\n"), "cannot be decoded"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_video_is_found_out(tmp_path, damage):
    spoil, words = DAMAGES[damage]
    write_clip(tmp_path / "whole.avi")
    spoil(write_clip(tmp_path / "a.avi"))
    with pytest.raises(DamagedVideo, match=words) as damaged:
        inspect_video(tmp_path / "a.avi")
    assert "\n" not in str(damaged.value) and str(tmp_path) not in str(damaged.value)


def test_a_cut_mp4_is_found_out_wherever_its_index_stands(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    whole = path.read_bytes()
    with av.open(str(path)) as container, av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as other:
        stream = other.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                other.mux(packet)
    assert inspect_video(tmp_path / "b.mp4")[1] == 12
    for name, content in (("a.mp4", whole), ("b.mp4", (tmp_path / "b.mp4").read_bytes())):
        (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
        with pytest.raises(DamagedVideo):
            inspect_video(tmp_path / name)


def test_a_video_that_changed_after_it_was_looked_through_is_named(tmp_path):
    path = write_numbered(tmp_path / "a.avi")
    with pytest.raises(InputError) as refused:
        read_pictures(path, np.array([3, 12]), None)
    sentence_of(refused.value, path, "ends before its frame 12", "dvc repro")
    path.write_bytes(b"")
    with pytest.raises(InputError) as refused:
        read_pictures(path, np.array([3]), None)
    sentence_of(refused.value, path, "is empty", "dvc repro")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return {suffix: write_clip(tmp_path_factory.mktemp("whole") / f"a{suffix}", frames=4).read_bytes()
            for suffix in (".avi", ".mp4")}


@BOTH
def test_a_torn_video_is_understood_or_found_out(tmp_path, whole, suffix):
    path = tmp_path / f"a{suffix}"

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(torn(whole[suffix]))
    def tried(content):
        path.write_bytes(content)
        try:
            form, frames = inspect_video(path)
        except DamagedVideo as damaged:
            return sentence_of(damaged)
        assert frames >= 1 and (np.diff(form.times_ms(np.arange(frames))) > 0).all()

    tried()


# --- fetch ---


def query(project):
    return json.loads((project.folder / "data/raw/query.json").read_text())


def keyframe(project, name):
    return json.loads((project.folder / f"data/raw/keyframes/{name}.jsonl").read_text())


@pytest.fixture
def few(clip_project, tmp_path):
    """A project, and the folders of its videos: two of one class each to train with, and one to name."""
    for path in (tmp_path / "videos").rglob("*"):
        if path.is_file() and path.name not in ("CID01_SID01_VID01.avi", "CID02_SID02_VID01.avi", "clip 0.mp4"):
            path.unlink()
    return clip_project, tmp_path / "videos/train", tmp_path / "videos/test"


def test_a_folder_of_videos_becomes_recordings_of_one_person_each(clip_project, tmp_path):
    assert "31 recordings (0 as they were), 372 frames" in clip_project.run("fetch", apart=True).stdout
    files = tmp_path / "videos"
    for path in (files / "train").iterdir():
        assert (clip_project.folder / f"data/raw/frames/{path.stem}/video.avi").read_bytes() == path.read_bytes()
        record = keyframe(clip_project, path.stem)
        assert (record["subject"], record["file_name"]) == (path.stem[6:11], path.name)
        (person,) = record["annotations"]
        assert person["bbox"] == [0.5, 0.5, 1.0, 1.0] and SEVEN_ACTIONS.index(person["subcategory"]) == int(path.stem[3:5]) - 1
        assert 0 < record["data_time"] < 1200
    for number in range(3):
        name = f"test_clip_{number}"
        assert (clip_project.folder / f"data/raw/frames/{name}/video.mp4").read_bytes() == (
            files / f"test/clip {number}.mp4").read_bytes()
        record = keyframe(clip_project, name)
        assert record["annotations"] == [] and record["file_name"] == f"clip {number}.mp4" and "subject" not in record
    assert json.loads((clip_project.folder / "data/raw/split.json").read_text()) == {
        "test": ["test_clip_0", "test_clip_1", "test_clip_2"]}
    assert "left_out" not in query(clip_project) and str(tmp_path) not in json.dumps(query(clip_project)["received"])


def test_damaged_videos_are_all_named_and_nothing_is_fetched(few):
    project, train, test = few
    whole = (train / "CID01_SID01_VID01.avi").read_bytes()
    for number, (spoil, _) in enumerate(list(DAMAGES.values())[:2], start=3):
        path = train / f"CID0{number}_SID03_VID01.avi"
        path.write_bytes(whole)
        spoil(path)
    (test / "clip 0.mp4").write_bytes(b"")
    said = project.refusal("fetch")
    assert "CID03_SID03_VID01.avi is empty; CID04_SID03_VID01.avi cannot be decoded" in said and "clip 0.mp4 is empty" in said
    assert said.endswith("get them again, or set fetch.videos.damaged to skip")
    assert not (project.folder / "data/raw").exists()
    (train / "CID05_SID03_VID01.avi").write_bytes(b"")
    (train / "CID06_SID03_VID01.avi").write_bytes(b"")
    assert "(and 2 more): get them again" in project.refusal("fetch")


@pytest.mark.parametrize("damage", ["empty", "cut between"])
def test_a_damaged_video_that_is_skipped_is_named_wherever_somebody_looks(few, damage):
    project, train, _ = few
    project.set({"fetch": {"videos": {"damaged": "skip"}}})
    spoil, words = DAMAGES[damage]
    path = write_clip(train / "CID03_SID03_VID01.avi", seed=9)
    spoil(path)
    printed = project.run("fetch").stdout
    assert "fetch: left out: CID03_SID03_VID01.avi " in printed and re.search(words, printed) and "3 recordings (0 as" in printed
    record = query(project)
    assert record["left_out"].keys() == {"CID03_SID03_VID01"} and re.search(words, record["left_out"]["CID03_SID03_VID01"])
    assert record["received"].keys() == {"CID01_SID01_VID01", "CID02_SID02_VID01", "test_clip_0"}
    assert not list((project.folder / "data/raw").rglob("CID03*"))
    project.run("hdf5", "coco")


def test_a_damaged_test_video_that_is_skipped_is_no_test_clip(few):
    project, _, test = few
    project.set({"fetch": {"videos": {"damaged": "skip"}}})
    write_clip(test / "b.avi")
    (test / "clip 0.mp4").write_bytes(b"")
    project.run("fetch")
    assert json.loads((project.folder / "data/raw/split.json").read_text()) == {"test": ["test_b"]}


def test_where_all_are_damaged_nothing_passes_for_a_data_set(few):
    project, train, test = few
    for path in (*train.iterdir(), *test.iterdir()):
        path.write_bytes(b"")
    project.set({"fetch": {"videos": {"damaged": "skip"}}})
    assert "gave no recording" in project.refusal("fetch")


@pytest.mark.parametrize(("name", "words"), [
    ("CID08_SID01_VID01.avi", "is of class 8, but `classes` in params.yaml has 7"),
    ("CID00_SID01_VID01.avi", "is of class 0"),
    ("CID01_SID01.avi", "is not called CIDxx_SIDyy_VIDzz"),
    ("CID01_SID01_VID01_copy.avi", "is not called CIDxx_SIDyy_VIDzz"),
    ("holiday.mp4", "holiday.mp4 is not called"),
    ("CID01_SID01_VID01.mp4", "'CID01_SID01_VID01.mp4' and 'CID01_SID01_VID01.avi' would both be the recording"),
    ("again/CID01_SID01_VID01.avi", "would both be the recording CID01_SID01_VID01"),
])
def test_a_training_video_whose_name_says_no_class_is_refused(few, name, words):
    project, train, _ = few
    write_clip(train / name, seed=5)
    assert words in project.refusal("fetch")
    assert not (project.folder / "data/raw").exists()


def test_names_are_read_as_people_write_them(few):
    project, train, test = few
    write_clip(train / "deep/er/cid3_sid3_vid1.AVI", seed=5)
    write_clip(train / "CID004_SID003_VID0001.mp4", seed=6)
    write_clip(test / "CID01_SID01_VID01.avi", seed=7)  # says nothing: the class is not taken from it
    write_clip(test / "Übung (1).avi", seed=8)
    (train / "README.txt").write_text("no video")
    (train / "._CID01_SID01_VID01.avi").write_bytes(b"\0\5\x16\7")  # what macOS puts into archives
    project.run("fetch")
    subjects = {name: keyframe(project, name)["subject"] for name in query(project)["received"] if not name.startswith("test_")}
    # one person however the number is written: the split by subject must not take them for two
    assert subjects == {"CID01_SID01_VID01": "SID01", "CID02_SID02_VID01": "SID02", "cid3_sid3_vid1": "SID03",
                        "CID004_SID003_VID0001": "SID03"}
    assert keyframe(project, "cid3_sid3_vid1")["annotations"][0]["subcategory"] == SEVEN_ACTIONS[2]
    assert keyframe(project, "test_CID01_SID01_VID01")["annotations"] == []
    assert keyframe(project, "test__bung_1_")["file_name"] == "Übung (1).avi"


def test_a_name_in_another_alphabet_is_refused_before_any_work(few):
    # JSON could not hold it, which would come out when all the others had been fetched
    project, _, test = few
    os.rename(test / "clip 0.mp4", os.fsencode(test) + b"/caf\xe9.avi")
    assert r"holds 'caf\udce9.avi', a name that is no UTF-8: rename it" in project.refusal("fetch")
    assert [path.name for path in (project.folder / ".scratch").iterdir()] == ["fetch.py.lock"]


def test_two_test_videos_that_would_be_one_recording_are_named(few):
    project, _, test = few
    write_clip(test / "a b.avi")
    write_clip(test / "a_b.avi", seed=1)
    assert "'a_b.avi' and 'a b.avi' would both be the recording test_a_b" in project.refusal("fetch")


@pytest.mark.parametrize(("changes", "words"), [
    ({"train": {"location": None}}, "fetch.videos.train.location is null"),
    ({"train": {"location": "nowhere"}}, "fetch.videos.train.location nowhere does not exist"),
    ({"test": {"location": "stages"}}, "fetch.videos.test.location stages holds no .avi or .mp4 file"),
    ({"test": {"checksum": "md5:12"}}, "fetch.videos.test.checksum"),
    ({"damaged": "ignore"}, "fetch.videos.damaged"),
])
def test_places_without_videos_are_refused_by_parameter(few, changes, words):
    few[0].set({"fetch": {"videos": changes}})
    assert words in few[0].refusal("fetch")


def test_a_source_without_its_section_is_named(project):
    project.set({"fetch": {"source": "videos"}})
    assert "fetch.source is videos, but there is no section fetch.videos" in project.refusal("fetch")


def test_without_test_videos_there_is_no_test_side(few):
    project, *_ = few
    project.set({"fetch": {"videos": {"test": {"location": None}}}})
    project.run("fetch", "hdf5", "coco")
    assert json.loads((project.folder / "data/raw/split.json").read_text()) == {"test": []}
    assert json.loads((project.folder / "data/annotations/test.json").read_text())["images"] == []


# --- archives and addresses ---


@contextmanager
def serving(folder: Path, requests: list[str]):
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def place(project, side, location, checksum):
    project.set({"fetch": {"videos": {side: {"location": str(location), "checksum": checksum}}}})


def test_archives_behind_addresses_are_the_same_as_their_folders(few, tmp_path):
    project, train, test = few
    project.run("fetch")
    frames, requests = contents(project.folder / "data/raw/frames"), []
    (tmp_path / "www").mkdir()
    files = {"train": zipped(train, tmp_path / "www/train.zip"), "test": tarred(test, tmp_path / "www/test.tar.gz")}
    with serving(tmp_path / "www", requests) as url:
        for side, path in files.items():
            place(project, side, f"{url}/{path.name}", None)
            said = project.refusal("fetch")
            assert f"give its checksum in fetch.videos.{side}.checksum" in said and not requests
            for wrong, actual in (("0" * 64, file_sha256(path)), ("md5:" + "0" * 32, file_md5(path)),
                                  ("sha256:" + "0" * 64, file_sha256(path))):
                place(project, side, f"{url}/{path.name}", wrong)
                said = project.refusal("fetch")
                assert actual in said and f"fetch.videos.{side}.checksum says" in said and f"{url}/{path.name}" in said
            assert not [kept for kept in (project.folder / ".scratch").rglob(f"*{path.name}")]
            md5 = f"md5:{file_md5(path)}"
            # as Zenodo lists it, or the other, with its name and without
            place(project, side, f"{url}/{path.name}", md5 if side == "train" else f"sha256:{file_sha256(path)}")
            requests.clear()
            project.run("fetch")
            project.run("fetch")
            assert requests == [f"/{path.name}"] and contents(project.folder / "data/raw/frames") == frames
            place(project, side, f"{url}/{path.name}", file_sha256(path))
            project.run("fetch")
            assert contents(project.folder / "data/raw/frames") == frames
            requests.clear()
        place(project, "test", f"{url}/gone.zip", "0" * 64)
        assert "gone.zip cannot be downloaded (HTTP 404)" in project.refusal("fetch")


def test_a_local_archive_is_checked_where_a_checksum_is_given(few, tmp_path):
    project, train, _ = few
    packed = zipped(train, tmp_path / "train.zip")
    for checksum in (None, file_sha256(packed), f"md5:{file_md5(packed)}"):
        place(project, "train", packed, checksum)
        project.run("fetch")
    place(project, "train", packed, f"md5:{'0' * 32}")
    assert f"has the md5 {file_md5(packed)}, fetch.videos.train.checksum says {'0' * 32}" in project.refusal("fetch")


def test_a_member_that_points_outside_is_refused(few, tmp_path):
    project, *_ = few
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../outside.avi", b"x")
    place(project, "test", tmp_path / "evil.zip", None)
    assert "fetch.py: " in (said := project.refusal("fetch")) and "points outside" in said
    assert not list(tmp_path.rglob("outside.avi"))


# --- fetched again ---


@pytest.fixture
def looked_through(monkeypatch):
    """The names of the videos that are decoded while they are fetched."""
    names = []
    monkeypatch.setattr(source, "inspect_video", lambda path: (names.append(path.name), inspect_video(path))[1])
    return names


def fetch(folder, *, skip=False, until=None, test=True):
    """Brings folder/videos to folder/raw, or stops after `until` clips; how many were taken over."""
    sides = {"train": {"location": str(folder / "videos/train"), "checksum": None},
             "test": {"location": str(folder / "videos/test") if test else None, "checksum": None}}
    videos_source, done = VideosSource(**sides, damaged="skip" if skip else "refuse", classes=SEVEN_ACTIONS), []

    def progress(frames):
        done.append(frames)
        if len(done) == until:
            raise KeyboardInterrupt

    with RawStore(folder / "raw", {"source": videos_source.query()}, 4, folder / "scratch") as store:
        videos_source.fetch(store, progress)
        store.publish()
        return len(store.taken)


def few_clips(folder):
    for number in (1, 2, 3):
        write_clip(folder / f"videos/train/CID0{number}_SID01_VID01.avi", action=number)
    write_clip(folder / "videos/test/a.avi", seed=3)


def test_an_interrupted_fetch_goes_on_behind_the_last_whole_video(tmp_path, looked_through):
    few_clips(tmp_path / "whole")
    fetch(tmp_path / "whole")
    few_clips(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, until=2)
    (unfinished,) = [path for path in (tmp_path / "scratch").iterdir() if path.is_dir()]
    (unfinished / "frames/CID03_SID01_VID01").mkdir()
    (unfinished / "frames/CID03_SID01_VID01/.video.avi.77.part").write_text("half a video")
    torn = unfinished / "frames/CID02_SID01_VID01/video.avi"
    torn.write_bytes(torn.read_bytes()[:-9])  # the power went before it was all on disk
    looked_through.clear()
    fetch(tmp_path)
    assert looked_through == ["CID02_SID01_VID01.avi", "CID03_SID01_VID01.avi", "a.avi"]
    assert contents(tmp_path / "raw") == contents(tmp_path / "whole/raw")


def test_one_video_more_is_one_video_read_and_the_same_bytes(tmp_path, looked_through, monkeypatch):
    few_clips(tmp_path)
    fetch(tmp_path)
    assert len(looked_through) == 4
    looked_through.clear()
    assert fetch(tmp_path) == 4 and not looked_through
    write_clip(tmp_path / "videos/train/CID04_SID02_VID01.avi", action=3)
    assert fetch(tmp_path) == 4 and looked_through == ["CID04_SID02_VID01.avi"]
    incremental = contents(tmp_path / "raw")
    few_clips(tmp_path / "whole")
    write_clip(tmp_path / "whole/videos/train/CID04_SID02_VID01.avi", action=3)
    assert fetch(tmp_path / "whole") == 0 and contents(tmp_path / "whole/raw") == incremental
    looked_through.clear()
    write_clip(tmp_path / "videos/test/a.avi", seed=4)  # another video under the old name
    assert fetch(tmp_path) == 4 and looked_through == ["a.avi"]
    looked_through.clear()
    monkeypatch.setattr(source, "decoder", lambda: {"videos": "another version, which may count otherwise"})
    assert fetch(tmp_path) == 0 and len(looked_through) == 5


def test_a_skipped_video_that_was_got_again_joins_the_others(tmp_path, looked_through):
    few_clips(tmp_path)
    path = tmp_path / "videos/train/CID02_SID01_VID01.avi"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    fetch(tmp_path, skip=True)
    path.write_bytes(whole)
    looked_through.clear()
    assert fetch(tmp_path, skip=True) == 3 and looked_through == [path.name]
    assert "left_out" not in json.loads((tmp_path / "raw/query.json").read_text())


def test_after_a_refusal_only_what_was_got_again_is_looked_through(tmp_path, looked_through):
    few_clips(tmp_path)
    path = tmp_path / "videos/train/CID02_SID01_VID01.avi"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(InputError, match="CID02_SID01_VID01.avi"):
        fetch(tmp_path)
    path.write_bytes(whole)
    looked_through.clear()
    assert fetch(tmp_path) == 3 and looked_through == [path.name]


# --- hdf5 ---


def frames_of(project):
    return {path.name: path.read_bytes() for path in sorted((project.folder / "data/frames").iterdir())}


def numbered_project(few, lengths):
    project, train, _ = few
    for path in train.iterdir():
        path.unlink()
    for number, frames in enumerate(lengths, start=1):
        write_numbered(train / f"CID01_SID01_VID{number:02d}.avi", frames=frames)
    project.run("fetch")
    return project


def test_clips_hold_evenly_spread_frames_and_their_times(few):
    lengths = (1, 2, 7, 8, 9, 16, 19)
    project = numbered_project(few, lengths)
    project.run("hdf5", apart=True)
    info = json.loads((project.folder / "data/frames/sensor_info.json").read_text())
    for number, frames in enumerate(lengths, start=1):
        chosen = np.unique(spread_evenly(frames, 8)).tolist()
        assert len(chosen) == min(frames, 8)
        with h5py.File(project.folder / f"data/frames/CID01_SID01_VID{number:02d}.h5") as file:
            assert file["frames"].dtype == np.uint8 and file["frames"].shape == (len(chosen), 16, 24, 3)
            assert file["frames"].fletcher32 and file["frames"].compression == "gzip"
            assert numbers_of(file["frames"][:]) == chosen == file["frame_seqs"][:].tolist()
            assert file["timestamps"][:].tolist() == [100 * (index + 1) for index in chosen]
            assert not file["lost_pixels"][:].any()
        entry = info[f"CID01_SID01_VID{number:02d}"]
        assert (entry["total_frames"], entry["height"], entry["width"], entry["corrupted_frames"]) == (len(chosen), 16, 24, 0)


def test_pictures_are_made_smaller_by_a_parameter(few):
    project = numbered_project(few, [9])
    project.set({"hdf5": {"clip": {"frames": 3, "size": "10x14"}}})
    project.run("hdf5")
    with h5py.File(project.folder / "data/frames/CID01_SID01_VID01.h5") as file:
        assert file["frames"].shape == (3, 10, 14, 3) and numbers_of(file["frames"][:]) == [1, 4, 7]
    project.set({"hdf5": {"clip": {"size": "10"}}})
    assert "hdf5.clip.size" in project.refusal("hdf5")


def test_a_video_that_was_altered_after_the_fetch_is_noticed(few):
    # its label belongs to what was fetched, and DVC may hand out what somebody edited in place
    project, *_ = few
    project.run("fetch")
    path = project.folder / "data/raw/frames/CID02_SID02_VID01/video.avi"
    received = query(project)["received"]["CID02_SID02_VID01"]
    whole, conversion = path.read_bytes(), Conversion(project.folder / "data/raw", "gzip", 2, 0, 8, None)
    for change in (lambda: path.unlink(), lambda: path.write_bytes(b""), lambda: write_clip(path, seed=77),
                   lambda: path.write_bytes(whole[:-1] + b"?")):
        change()
        with pytest.raises(InputError) as refused:
            conversion.convert("CID02_SID02_VID01", received, project.folder / "a.h5")
        sentence_of(refused.value, path.parent, "does not hold the video that was fetched", "dvc repro --force")
    assert "CID02_SID02_VID01 does not hold the video that was fetched" in project.refusal("hdf5")
    assert not (project.folder / "data/frames").exists() and not (project.folder / "a.h5").exists()


def test_one_clip_more_is_one_conversion_more_and_the_same_bytes(few):
    project, train, _ = few
    project.run("fetch", "hdf5")  # the code that has been loaded counts, and a first run loads some as it goes
    once = frames_of(project)
    project.run("hdf5")
    assert frames_of(project) == once
    assert "3 recordings (3 as they were)" in project.run("hdf5").stdout and frames_of(project) == once
    write_clip(train / "CID03_SID03_VID01.avi", action=2)
    assert "4 recordings (3 as they were)" in project.run("fetch").stdout
    assert "4 recordings (3 as they were)" in project.run("hdf5").stdout
    incremental = frames_of(project)
    project.set({"runtime": {"processes": 2}})
    (project.folder / ".scratch/hdf5").rename(project.folder / "aside")
    assert "4 recordings (0 as they were)" in project.run("hdf5").stdout and frames_of(project) == incremental


def test_clips_that_another_decoder_read_are_not_taken_over(few, monkeypatch):
    project, *_ = few
    project.run("fetch")
    conversion = Conversion(project.folder / "data/raw", "gzip", 2, 0, 8, None)
    name, received = "CID01_SID01_VID01", query(project)["received"]["CID01_SID01_VID01"]
    assert conversion.fingerprint(name, received, {}) == (before := conversion.fingerprint(name, received, {}))
    for change in ({"clip_frames": 9}, {"clip_size": (8, 12)}):
        assert replace(conversion, **change).fingerprint(name, received, {}) != before
    monkeypatch.setattr(videos, "decoder", lambda: {"videos": "another version, which may read otherwise"})
    assert conversion.fingerprint(name, received, {}) != before


# --- the look-alike ---


DRAWN = {"seed": 1, "subjects": 2, "test_subjects": 1, "videos": 1, "rows": 16, "cols": 16}
NAMES = [f"action {number}" for number in range(len(ACTS))]


def draw(place, number=0, **changes):
    """The bytes of one clip."""
    look = LookalikeSource(**(DRAWN | changes), classes=NAMES, scratch=place)
    with list(look.clips())[number].file() as path:
        return path.read_bytes()


def test_drawn_clips_are_the_same_everywhere_and_named_as_the_real_ones(tmp_path):
    look = LookalikeSource(**DRAWN, classes=NAMES, scratch=tmp_path / "scratch")
    with RawStore(tmp_path / "raw", {"source": look.query()}, 4, tmp_path / "scratch") as store:
        look.fetch(store, lambda frames: None)
        store.publish()
    one = contents(tmp_path / "raw")
    assert not list((tmp_path / "scratch").glob("lookalike-*"))
    for number in range(0, 60, 7):
        clip = list(look.clips())[number]
        assert draw(tmp_path / "elsewhere", number) == one[f"frames/{clip.recording}/video.avi"]
    recordings = sorted({name.split("/")[1] for name in one if name.startswith("frames/")})
    train = [name for name in recordings if not name.startswith("test_")]
    assert train == [f"CID{label:02d}_SID01_VID01" for label in range(1, 31)] and len(recordings) == 60
    assert len({content for name, content in one.items() if name.endswith("video.avi")}) == 60
    for recording in recordings:
        record = json.loads(one[f"keyframes/{recording}.jsonl"])
        assert record["file_name"].endswith(".avi") and ("subject" in record) == (recording in train)
        if recording in train:
            assert record["annotations"][0]["subcategory"] == NAMES[int(recording[3:5]) - 1]
    assert set(json.loads(one["split.json"])["test"]) == {*recordings} - {*train}
    assert inspect_video(tmp_path / f"raw/frames/{train[0]}/video.avi")[0] == VideoFormat("mpeg4", "15", 16, 16)
    first = one["frames/CID01_SID01_VID01/video.avi"]
    assert draw(tmp_path, subjects=9, videos=3) == first != draw(tmp_path, seed=2)


def test_a_look_alike_that_cannot_be_drawn_is_refused(project):
    project.set({"fetch": {"source": "lookalike", "lookalike": DRAWN}, "classes": SEVEN_ACTIONS})
    assert "fetch.source lookalike draws 30 classes, but `classes` in params.yaml has 7" in project.refusal("fetch")
    project.set({"classes": NAMES, "fetch": {"lookalike": {"test_subjects": 2}}})
    assert "fetch.lookalike.test_subjects 2 must be below subjects 2" in project.refusal("fetch")
    project.set({"fetch": {"lookalike": {"rows": 17}}})
    assert "fetch.lookalike.rows = 17" in project.refusal("fetch")
