"""pytest tests/test_raw.py - what fetch keeps when it is killed, and that half a fetch never passes for a whole one."""

import json
import os
import shutil

import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.kept import files_below, link_or_copy
from thermal_action.raw import (
    PayloadFormat,
    RawFrame,
    VideoFormat,
    asked,
    detect_format,
    ordered_frames,
    pages,
    read_format,
    read_query,
)
from thermal_action.raw_store import RawStore

FETCH = {"source": "archive", "buffer_frames": 128, "page_frames": 4, "archive": {"location": "here"}, "tdengine": {"url": "x"}}
FORMATS = [PayloadFormat(encoding, compression, dtype) for encoding in ("base64", "hex") for compression in ("zlib", "none")
           for dtype in ("float32", "int16")] + [PayloadFormat("json", "none", "float32"), PayloadFormat("json", "none", "int16")]


def frames(count, start=1000, shape=(4, 6)):
    generator = np.random.default_rng(start)
    payload = PayloadFormat()
    for index in range(count):
        picture = np.round(generator.normal(20, 3, shape), 1)
        yield RawFrame(start + index * 170, index, shape[1], shape[0], payload.encode(picture))


def query():
    return {"fetch": asked(FETCH)}


def fill(store, name, raw_frames, question=None):
    recording = store.recording(name, question)
    for frame in raw_frames:
        recording.append(frame)
    recording.finish(PayloadFormat())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("payload", FORMATS, ids=str)
def test_every_payload_comes_back_and_is_recognised(payload):
    picture = np.round(np.random.default_rng(1).normal(20, 5, (40, 60)), 1).astype(np.float32)
    text = payload.encode(picture)
    tolerance = 0 if payload.dtype == "float32" else 0.051
    assert np.abs(payload.decode(text).reshape(40, 60) - picture).max() <= tolerance
    detected = detect_format(RawFrame(0, 0, 60, 40, text), compression="auto" if payload.encoding != "json" else "none")
    assert detected.decode(text).tolist() == payload.decode(text).tolist()


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "{}", "[1,2]", PayloadFormat().encode(np.zeros((40, 61)))])
def test_a_payload_of_another_size_is_refused(text):
    with pytest.raises(InputError, match="60x40"):
        detect_format(RawFrame(7, 0, 60, 40, text))


def test_a_zlib_bomb_does_not_fill_the_memory():
    import base64
    import zlib
    bomb = base64.b64encode(zlib.compress(bytes(1 << 26), 9)).decode()
    with pytest.raises(ValueError, match="cut off"):
        PayloadFormat().decode(bomb)


def test_an_interrupted_fetch_goes_on_behind_its_last_page(tmp_path):
    whole = RawStore(tmp_path / "whole", query(), 4, tmp_path / "another")
    fill(whole, "R1", frames(10))
    whole.publish()
    broken = RawStore(tmp_path / "resumed", query(), 4, tmp_path / "scratch")
    recording = broken.recording("R1")
    for frame in list(frames(10))[:6]:
        recording.append(frame)  # page 0 is on disk, two frames are lost with the process
    (recording.folder / ".000001.jsonl.77.part").write_text("half a page")
    broken.__exit__()
    again = RawStore(tmp_path / "resumed", query(), 4, tmp_path / "scratch")
    recording = again.recording("R1")
    assert (recording.frames, recording.last_ts, recording.complete) == (4, 1000 + 3 * 170, False)
    fill(again, "R1", list(frames(10))[4:])
    again.publish()
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["fetch"]


def test_a_short_last_page_without_its_completion_record_is_fetched_again(tmp_path):
    store = RawStore(tmp_path / "raw", query(), 4, tmp_path)
    fill(store, "R1", frames(6))
    (store.folder / "frames/R1/complete.json").unlink()  # killed between page and record
    assert store.recording("R1").frames == 4


def brought(place, names, asked="all"):
    """Fetches recordings into place/raw; of those that were not taken over from place/scratch, the names."""
    with RawStore(place / "raw", {"asked": [asked, *names]}, 4, place / "scratch") as store:
        new = []
        for name in names:
            if not store.recording(name, {"asked": asked}).complete:
                store.put_json(f"timeline/{name}.json", {"made": "with the frames"})
                fill(store, name, frames(10), {"asked": asked})
                new.append(name)
        store.publish()
    return new


def test_what_an_earlier_fetch_brought_is_taken_over_whole_or_not_at_all(tmp_path):
    assert brought(tmp_path / "whole", ["R1", "R2", "R3"]) == ["R1", "R2", "R3"]
    assert brought(tmp_path, ["R0", "R1", "R2"]) == ["R0", "R1", "R2"]
    shutil.rmtree(tmp_path / "raw")  # as DVC does before it runs a stage
    assert brought(tmp_path, ["R1", "R2", "R3"]) == ["R3"]
    assert contents(tmp_path / "raw") == contents(tmp_path / "whole/raw")
    kept = tmp_path / "scratch/fetch"
    assert len(list(kept.iterdir())) == 2 * 3, "R0 is asked for no more, and not kept"
    # an edit of data/raw reaches what is kept, too: it is the same file
    for number, file in enumerate(("frames/R1/000001.jsonl", "frames/R2/complete.json", "timeline/R3.json")):
        with open(tmp_path / "raw" / file, "r+") as opened:
            opened.write(" ")
        assert brought(tmp_path, ["R1", "R2", "R3"]) == [f"R{number + 1}"]
        assert contents(tmp_path / "raw") == contents(tmp_path / "whole/raw")
    next(kept.rglob("timeline")).joinpath("R9.json").write_text("{}")
    assert len(brought(tmp_path, ["R1", "R2", "R3"])) == 1
    assert brought(tmp_path, ["R1", "R2", "R3"], asked="otherwise") == ["R1", "R2", "R3"]


def test_a_fetch_killed_while_it_takes_over_is_not_complete_before_all_is_there(tmp_path):
    brought(tmp_path / "whole", ["R1"])
    brought(tmp_path, ["R1"])
    (key,) = [path for path in (tmp_path / "scratch/fetch").iterdir() if path.is_dir()]
    restored = list(reversed(files_below(key)))
    for number in range(len(restored)):
        with RawStore(tmp_path / "raw", {"asked": ["all", "R1"]}, 4, tmp_path / "scratch") as store:
            for file in restored[:number]:
                link_or_copy(file, store.folder / file.relative_to(key))
        assert brought(tmp_path, ["R1"]) == []
        assert contents(tmp_path / "raw") == contents(tmp_path / "whole/raw")


@pytest.mark.parametrize("damage", ["", "no frame\n", None])
def test_pages_behind_a_damaged_or_missing_one_are_fetched_again(tmp_path, damage):
    with RawStore(tmp_path / "raw", query(), 4, tmp_path) as store:
        fill(store, "R1", frames(14))
        page = pages(store.folder / "frames/R1")[1]
        page.unlink() if damage is None else page.write_text(damage)
        recording = store.recording("R1")
        assert (recording.frames, recording.last_ts, recording.complete) == (4, 1000 + 3 * 170, False)
        assert len(list(recording.folder.iterdir())) == 1


def test_a_video_is_complete_when_it_is_there_as_it_was_received(tmp_path):
    (tmp_path / "a.AVI").write_bytes(b"a video")
    form = VideoFormat("mpeg4", "30000/1001", 720, 480)
    with RawStore(tmp_path / "raw", query(), 4, tmp_path) as store:
        assert not store.video("R1").complete
        store.video("R1").put(tmp_path / "a.AVI", form, 90)
        kept = store.video("R1")
        assert kept.complete and (kept.facts["frames"], kept.facts["first_ts"], kept.facts["last_ts"]) == (90, 33, 3003)
        video, record = kept.folder / "video.avi", kept.folder / "complete.json"
        assert video.read_bytes() == b"a video" and read_format(kept.facts["payload"]) == form
        facts = json.loads(record.read_text())
        for spoil in (lambda: video.write_bytes(b"a videO"), video.unlink, lambda: record.write_text("{"), record.unlink,
                      lambda: record.write_text(json.dumps(facts | {"payload": {"codec": "mpeg4", "rate": "0", "width": 1}})),
                      lambda: record.write_text(json.dumps(facts | {"facts": {}}))):
            spoil()
            assert not store.video("R1").complete
            store.video("R1").put(tmp_path / "a.AVI", form, 90)
            assert store.video("R1").complete and json.loads(record.read_text()) == facts
        store.publish()
    assert read_query(tmp_path / "raw", FETCH)["received"]["R1"] == facts


def test_an_incomplete_recording_is_not_published(tmp_path):
    store = RawStore(tmp_path / "raw", query(), 4, tmp_path)
    fill(store, "R1", frames(3))
    store.recording("R2").append(next(frames(1)))
    with pytest.raises(InputError, match="R2 is not complete"):
        store.publish()
    assert not (tmp_path / "raw").exists()


def test_two_fetches_of_one_query_do_not_mix(tmp_path):
    store = RawStore(tmp_path / "raw", query(), 4, tmp_path)
    with pytest.raises(InputError, match="running"):
        RawStore(tmp_path / "raw", query(), 4, tmp_path)
    del store


def test_the_next_stage_refuses_a_partial_or_another_fetch(tmp_path):
    raw = tmp_path / "raw"
    with pytest.raises(InputError, match="dvc repro fetch"):
        read_query(raw, FETCH)
    store = RawStore(raw, query(), 4, tmp_path / "scratch")
    fill(store, "R1", frames(3))
    store.publish()
    assert read_query(raw, FETCH)["frames"] == 3
    read_query(raw, FETCH | {"tdengine": {"url": "another"}})  # a source not chosen does not matter
    with pytest.raises(InputError, match="different: buffer_frames.*dvc repro"):
        read_query(raw, FETCH | {"buffer_frames": 64})


def test_frames_come_in_order_of_time_and_repeats_are_marked(tmp_path):
    store = RawStore(tmp_path / "raw", query(), 4, tmp_path)
    sent = list(frames(9))
    fill(store, "R1", [sent[index] for index in (0, 2, 1, 3, 8, 4, 5, 5, 6, 7)])
    folder = store.folder / "frames/R1"
    received = list(ordered_frames(folder))
    assert [frame.ts for frame, _ in received] == sorted(frame.ts for frame in [*sent, sent[5]])
    assert [repeated for _, repeated in received] == [False] * 6 + [True] + [False] * 3


def test_a_damaged_page_is_named(tmp_path):
    store = RawStore(tmp_path / "raw", query(), 4, tmp_path)
    fill(store, "R1", frames(6))
    page = pages(store.folder / "frames/R1")[1]
    page.write_bytes(page.read_bytes()[:-40])
    with pytest.raises(InputError, match="000001.jsonl"):
        list(ordered_frames(page.parent))


def test_pages_hold_no_path_or_clock(tmp_path):
    for place in ("a", "b"):
        store = RawStore(tmp_path / place / "raw", query(), 4, tmp_path / place)
        fill(store, "R1", frames(6))
        store.publish()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert str(os.getpid()) not in json.dumps([path.name for path in tmp_path.rglob("*")])
