"""python -m pytest tests/test_live.py

Without these, a sensor could be followed with frames lost, twice or torn, or no longer at all after its server was away.
"""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from conftest import ROOT, call
from tdengine_server import TDengineServer
from test_predict import INFO, put_model
from test_streams import write_text
from thermal_action import InputError
from thermal_action.alarms.furniture import Furniture
from thermal_action.alarms.rules import Accumulator, Rules
from thermal_action.live.feeds import TableFeed, TextFeed
from thermal_action.live.follow import Follower
from thermal_action.moments import Abstention, Observer, observe_all, read_moments, to_record
from thermal_action.params import read_params
from thermal_action.raw import PayloadFormat
from thermal_action.recogniser import ThermalActionRecognizer
from thermal_action.sources.options import Fetch, Server
from thermal_action.sources.tdengine.rest import Unreachable
from thermal_action.streams import Frame
from tiny import SEVEN_ACTIONS

torch.set_num_threads(1)
MAC, SIZE, START = "02:00:1a:62:51:67", (16, 16), 1_760_000_000_000
COLUMNS = {"ts": "TIMESTAMP", "frame_data": "VARCHAR(8192)", "width": "INT", "height": "INT", "frame_seq": "BIGINT"}
PAYLOAD = PayloadFormat("base64", "zlib", "int16")
RULES = {"action": "lying", "onset": None, "even": 0.0, "most": 10.0, "raise_at": 0.0, "clear_at": 0.0, "hold_s": 0.0,
         "quiet_s": 0.0, "beds": "none", "bed_share": 0.7, "off_bed": None, "least_px": 0.0, "carer_px": 0.0}


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(180, 260, (count, *SIZE)).astype(np.float32) / 10


def stamps(count: int) -> np.ndarray:
    return START + np.cumsum(np.random.default_rng(1).integers(35, 400, count))


def rows(count: int) -> list[tuple]:
    return [(int(stamp), PAYLOAD.encode(picture), SIZE[1], SIZE[0], number)
            for number, (stamp, picture) in enumerate(zip(stamps(count), pictures(count), strict=True))]


def load(server: TDengineServer, wanted: list[tuple]) -> None:
    server.add("sensor_" + MAC.replace(":", "_"), COLUMNS, wanted)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("TDENGINE_USER", "reader")
    monkeypatch.setenv("TDENGINE_PASSWORD", "se'cret\\word")
    monkeypatch.delenv("TDENGINE_TOKEN", raising=False)


def table_feed(server: TDengineServer, begin: int = 32, size: tuple[int, int] = SIZE) -> TableFeed:
    source, settings = read_params("fetch", Fetch, ROOT / "params.yaml"), read_params("server", Server, ROOT / "params.yaml")
    settings = replace(settings, url=server.url, connect_timeout_s=0.5, read_timeout_s=2.0)
    return TableFeed(MAC, source.tdengine, settings, size, 0, begin=begin)


# feeds

def test_lines_of_an_export_are_frames_once_they_are_whole(tmp_path):
    whole = write_text(tmp_path / "whole.txt", pictures(4), stamps(4), "ARRAYTYPE=16x16\n").read_text()
    growing, found = tmp_path / "S1.txt", []
    feed = TextFeed(growing, SIZE, 0)
    with pytest.raises(Unreachable, match="S1.txt cannot be read"):
        feed.read()
    for end in (5, 40, 700, 2000, len(whole) - 1, len(whole)):
        growing.write_text(whole[:end])
        found += feed.read()
    assert [frame.time for frame in found] == stamps(4).tolist() and feed.read() == []
    assert np.allclose([frame.picture for frame in found], pictures(4), atol=0.051)


def test_an_export_that_is_begun_anew_is_read_anew_and_torn_lines_are_counted(tmp_path):
    path = write_text(tmp_path / "S1.txt", pictures(5), stamps(5), "ARRAYTYPE=16x16\n")
    feed = TextFeed(path, SIZE, 0)
    assert len(feed.read()) == 5
    path.write_text("ARRAYTYPE=16x16\n29 29 29\n" + "2950 " * 255 + "2960 t: 5.000\n")
    (frame,) = feed.read()
    assert frame.time == 5000 and feed.damaged == 1
    other = write_text(tmp_path / "S2.txt", pictures(1), stamps(1), "something else\n")
    with pytest.raises(InputError, match="begins with 'something else'"):
        TextFeed(other, SIZE, 0).read()


@pytest.mark.parametrize("dialect", ["3.x", "2.x"])
def test_a_table_gives_its_last_frames_and_then_each_new_one_once(dialect):
    everything = rows(60)
    with TDengineServer(dialect) as server:
        load(server, everything[:50])
        feed = table_feed(server)
        found = feed.read()
        assert [frame.time for frame in found] == stamps(60)[18:50].tolist() and feed.read() == []
        for end in (51, 51, 55, 60):
            load(server, everything[:end])
            found += feed.read()
        assert [frame.time for frame in found] == stamps(60)[18:].tolist()
        assert np.allclose([frame.picture for frame in found], pictures(60)[18:], atol=0.051)


def test_nothing_is_lost_while_the_server_is_away():
    everything = rows(40)
    with TDengineServer() as server:
        load(server, everything[:35])
        feed = table_feed(server)
        found = feed.read()
        server.stop()
        for _ in range(3):
            with pytest.raises(Unreachable, match="refused or broke off"):
                feed.read()
        load(server, everything)
        server.start()
        found += feed.read()
        assert [frame.time for frame in found] == stamps(40)[3:].tolist()
        server.stop()
        early = table_feed(server)
        with pytest.raises(Unreachable):
            early.read()
        server.start()
        assert len(early.read()) == 32


def test_frames_that_are_none_are_counted_and_those_of_another_sensor_refused():
    everything = rows(20)
    everything[7] = (everything[7][0], "bm9uZQ==", *everything[7][2:])
    everything[12] = (everything[12][0], None, *everything[12][2:])
    with TDengineServer() as server:
        load(server, everything)
        feed = table_feed(server)
        assert len(feed.read()) == 18 and feed.damaged == 2
        with pytest.raises(InputError, match="has 16 x 16 pixels, the model sees 40 x 60"):
            table_feed(server, size=(40, 60)).read()
        load(server, [(time, None, *rest) for time, _, *rest in rows(5)])
        with pytest.raises(InputError, match="frame_data is null"):
            table_feed(server).read()


@pytest.mark.parametrize("since", [None, 20])
def test_predict_reads_a_table_from_a_time_to_now(tmp_path, since):
    model, out = put_model(tmp_path / "best.pt"), tmp_path / "out"
    params = YAML().load(ROOT / "params.yaml")
    with TDengineServer() as server:
        params["server"] |= {"url": server.url, "page_rows": 7}
        with open(tmp_path / "params.yaml", "w") as file:
            YAML().dump(params, file)
        everything = rows(40)
        everything[39] = (everything[39][0], None, *everything[39][2:])
        load(server, everything)
        command = ["predict", model, f"tdengine:{MAC}", "--every", 4]
        if since:
            command += ["--since", datetime.fromtimestamp(int(stamps(40)[since]) / 1000, UTC).isoformat()]
        process = call(*command, "--out", out, folder=tmp_path)
        assert process.returncode == 0, process.stderr
        moments = read_moments(out / "02_00_1a_62_51_67.jsonl")
        assert [moment.time for moment in moments] == stamps(40)[since or 0 :: 4].tolist()
        assert "sensor_02_00_1a_62_51_67: rows that hold no frame were left out: 1" in process.stderr
        server.stop()
        params["server"] |= {"retries": 0}
        with open(tmp_path / "params.yaml", "w") as file:
            YAML().dump(params, file)
        process = call(*command, "--out", tmp_path / "none", folder=tmp_path)
        assert process.returncode == 2 and "refused or broke off" in process.stderr and "Traceback" not in process.stderr
        assert not list((tmp_path / "none").glob("*"))


# following

class Script:
    """A feed that gives what a test says: frames, or an exception."""

    def __init__(self, *readings):
        self.readings, self.damaged = list(readings), 0

    def read(self) -> list[Frame]:
        reading = self.readings.pop(0)
        if isinstance(reading, Exception):
            raise reading
        return reading


def frames(count: int, first: int = 0, lost: int = 0) -> list[Frame]:
    return [Frame(START + 170 * (first + number), picture, lost) for number, picture in enumerate(pictures(count))]


def follow(tmp_path: Path, *readings, keyframe: float = 1.0, every: int = 1, **options) -> list[dict]:
    """The events of a causal model that finds somebody somewhere; a second passes with each pause."""
    window = INFO["window"] | {"keyframe": keyframe}
    recognizer = ThermalActionRecognizer(put_model(tmp_path / "best.pt", window=window), score=0.3)
    feed, now = Script(*readings), [0.0]
    observer = Observer(recognizer, "S1", Abstention(0.5, 6.0))
    accumulator = Accumulator(Rules(**RULES | options.pop("rules", {})), SEVEN_ACTIONS, Furniture(), SIZE)
    follower = Follower(feed, observer, accumulator, every=every, tell_moments=options.get("moments", False), silent_s=3.0)
    return list(follower.events(lambda: not feed.readings, lambda: now.__setitem__(0, now[0] + 1), lambda: now[0]))


def test_what_is_said_live_is_what_is_said_of_the_recording(tmp_path):
    live = [event for event in follow(tmp_path, frames(7), [], frames(20, 7), [], frames(3, 27), moments=True)
            if event["event"] == "moment"]
    recognizer = ThermalActionRecognizer(tmp_path / "best.pt", score=0.3)
    whole = [*frames(7), *frames(20, 7), *frames(3, 27)]
    offline = [to_record(moment, SEVEN_ACTIONS)
               for moment in observe_all(recognizer, "S1", whole, every=1, batch=1, abstention=Abstention(0.5, 6.0))]
    assert len(live) == 30 and [{key: event[key] for key in offline[0]} for event in live] == offline
    assert any(record["persons"] for record in offline)


def test_an_alarm_comes_with_the_frame_that_raises_it(tmp_path):
    events = follow(tmp_path, frames(3), frames(5, 3))
    assert [event["event"] for event in events] == ["alarm"]
    assert events[0] | {"evidence": 0} == {"event": "alarm", "sensor": "S1", "time_ms": START, "since_ms": START, "evidence": 0}
    centred = follow(tmp_path, frames(3), frames(17, 3), keyframe=0.5)
    assert centred[0]["time_ms"] == START + 7 * 170 and centred[0]["since_ms"] == START


def test_a_source_that_goes_and_comes_is_told_once_each_way(tmp_path):
    away = Unreachable("the server is away")
    events = follow(tmp_path, frames(2), away, away, [], frames(2, 2), away, frames(1, 4), rules={"raise_at": 10.0})
    assert [event["event"] for event in events] == ["away", "back", "away", "back"]
    assert events[0]["reason"] == "the server is away" and events[0]["time_ms"] == START + 170


def test_silence_damage_and_late_frames_are_told(tmp_path):
    events = follow(tmp_path, frames(2), *[[]] * 6, frames(1, 2), frames(1, 1), frames(1, 3), rules={"raise_at": 10.0})
    assert [event["event"] for event in events] == ["silent", "damaged"]
    assert events[0]["seconds"] == 3 and events[1]["frames"] == 1


def test_it_abstains_while_too_much_is_lost_and_says_so(tmp_path):
    events = follow(tmp_path, frames(16), frames(16, 16, lost=9), frames(20, 32), frames(5, 100), rules={"raise_at": 10.0})
    assert [event["event"] for event in events] == ["abstains", "speaks", "abstains"]
    assert events[0]["reason"] == "56% of its frames lost pixels" and "s without a frame" in events[2]["reason"]


# the script

def test_the_script_follows_a_growing_export_until_it_is_interrupted(tmp_path):
    whole = write_text(tmp_path / "whole.txt", pictures(40), stamps(40), "ARRAYTYPE=16x16\n").read_text()
    whole = whole.splitlines(keepends=True)
    growing, rules = tmp_path / "S1.txt", tmp_path / "rules.yaml"
    growing.write_text("".join(whole[:20]))
    with open(rules, "w") as file:
        YAML().dump({"rules": RULES}, file)
    model = put_model(tmp_path / "best.pt", window=INFO["window"] | {"keyframe": 1.0})
    command = [sys.executable, str(ROOT / "stages/watch.py"), str(model), str(growing), "--rules", str(rules), "--moments",
               "--poll", "0.05"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first = json.loads(process.stdout.readline())
        assert first["event"] == "moment" and first["time_ms"] == int(stamps(40)[0])
        with open(growing, "a") as file:
            file.write("".join(whole[20:]))
        events = [first]
        while events[-1].get("time_ms") != int(stamps(40)[36]):
            events.append(json.loads(process.stdout.readline()))
        assert [event["time_ms"] for event in events if event["event"] == "moment"] == stamps(40)[::6].tolist()
        assert sum(event["event"] == "alarm" for event in events) == 1
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130 and "Traceback" not in process.stderr.read()
    finally:
        process.kill()


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda folder: (folder / "S1.txt").write_text("1 2 3\n"), "begins with '1 2 3'"),
    (lambda folder: (folder / "rules.yaml").write_text("rules: {action: flying}\n"), "rules.onset is missing"),
    (lambda folder: (folder / "best.pt").write_text("nothing"), "is no whole checkpoint"),
])
def test_bad_input_of_the_script_is_one_sentence(tmp_path, spoil, told):
    (tmp_path / "S1.txt").write_text("ARRAYTYPE=16x16\n")
    (tmp_path / "rules.yaml").write_text(json.dumps({"rules": RULES}))
    put_model(tmp_path / "best.pt")
    spoil(tmp_path)
    process = call("watch", tmp_path / "best.pt", tmp_path / "S1.txt", "--rules", tmp_path / "rules.yaml")
    assert process.returncode == 2 and told in process.stderr and "Traceback" not in process.stderr
