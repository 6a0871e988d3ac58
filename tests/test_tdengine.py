"""pytest tests/test_tdengine.py - frames from TDengine: complete, exact, resumable, and a clear sentence where they are not.

Every test talks HTTP to the stand-in of tdengine_server.py; "group N" is the N-th group of failures that it can do.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tdengine_server import COLUMNS, TDengineServer
from thermal_action import InputError
from thermal_action.raw import PayloadFormat, ordered_frames
from thermal_action.raw_store import RawStore
from thermal_action.sources.tdengine import TDengineSource
from tiny import keyframe

DIALECTS = ("3.x", "2.x")
MAC = "02:00:1a:62:51:67"
TABLE = "sensor_02_00_1a_62_51_67"
START = 1_760_000_000_000
WIDTH, HEIGHT = 6, 4
FLOAT = PayloadFormat("base64", "zlib", "float32")
PASSWORD = "se'cret\\word"
FRAMES = "`frame_data`"


def pictures(frames: int, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(15, 40, (frames, height, width))
    return np.round(values, 1).astype(np.float32)


def times_of(frames: int, start: int = START) -> list[int]:
    """Irregular, as the device's: 35 ms to half a second apart."""
    return (start + np.cumsum(np.random.default_rng(1).integers(35, 500, frames))).tolist()


def rows_of(frames: int, payload: PayloadFormat = FLOAT, start: int = START, ticks: int = 1, seed: int = 0) -> list[tuple]:
    return [(time * ticks + number * 37 % ticks, payload.encode(picture), WIDTH, HEIGHT, number)
            for number, (time, picture) in enumerate(zip(times_of(frames, start), pictures(frames, seed), strict=True))]


def changed(rows: list[tuple], number: int, **values) -> list[tuple]:
    """The rows with other values in row `number`."""
    fields = dict(zip(COLUMNS, rows[number], strict=True)) | values
    return [*rows[:number], tuple(fields.values()), *rows[number + 1 :]]


class Site:
    """A server, a folder of keyframe files, and fetches from the one by the other."""

    def __init__(self, folder: Path, server: TDengineServer):
        self.folder, self.server, self.pauses = folder, server, []
        self.keyframes = folder / "keyframes"
        self.keyframes.mkdir()

    def annotate(self, recording: str, times: list[int], mac: str = MAC) -> None:
        lines = "".join(json.dumps(keyframe(recording, mac, time, 0.5, 0.5, 0.2, 0.2, "sitting")) + "\n" for time in times)
        (self.keyframes / f"{recording}.json").write_text(lines)

    def load(self, rows: list[tuple], mac: str = MAC, **columns: str) -> None:
        self.server.add("sensor_" + mac.replace(":", "_"), COLUMNS | columns, rows)

    def source(self, **params) -> TDengineSource:
        defaults = {"url": self.server.url, "database": "thermal", "keyframes": self.keyframes, "classes": ["sitting"],
                    "buffer_frames": 20, "sleep": self.pauses.append, "retries": 3, "connections": 2}
        return TDengineSource(**(defaults | params))

    def fetch(self, name: str = "raw", page_frames: int = 10, **params) -> Path:
        """data/raw of a fetch; each `name` has its own store."""
        source = self.source(**params)
        store = RawStore(self.folder / name, {"source": source.query()}, page_frames, self.folder / f"scratch-{name}")
        try:
            source.fetch(store, lambda frames: None)
            store.publish()
            return self.folder / name
        except InputError as error:
            sentence = str(error)
        # another error, since the traceback of the first one keeps the store open, and with it its lock
        del store
        raise InputError(sentence)

    def refusal(self, **params) -> str:
        """The sentence of a fetch that fails; it never holds a credential."""
        with pytest.raises(InputError) as refused:
            self.fetch(**params)
        sentence = str(refused.value)
        assert "\n" not in sentence and PASSWORD not in sentence and "reader" not in sentence
        shutil.rmtree(self.folder / "scratch-raw", ignore_errors=True)
        return sentence


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("TDENGINE_USER", "reader")
    monkeypatch.setenv("TDENGINE_PASSWORD", PASSWORD)
    monkeypatch.delenv("TDENGINE_TOKEN", raising=False)


@pytest.fixture
def site(tmp_path):
    with TDengineServer() as server:
        yield Site(tmp_path, server)


@pytest.fixture(params=DIALECTS)
def each_site(request, tmp_path):
    with TDengineServer(request.param) as server:
        yield Site(tmp_path, server)


def loaded(site: Site, frames: int = 120, keyframes: tuple[int, ...] = (40, 60), **options) -> list[tuple]:
    rows = rows_of(frames, **options)
    site.load(rows)
    site.annotate("R1", [times_of(frames)[number] for number in keyframes])
    return rows


def read_raw(raw: Path, recording: str = "R1") -> list:
    return [frame for frame, _ in ordered_frames(raw / "frames" / recording)]


def received(raw: Path, recording: str = "R1") -> dict:
    return json.loads((raw / "query.json").read_text())["received"][recording]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# what a fetch brings


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("precision, ticks", [("ms", 1), ("us", 1_000), ("ns", 1_000_000)])
def test_windows_count_frames_and_times_are_ms_in_every_precision(tmp_path, dialect, precision, ticks):
    # group 11 among others: times a thousand or a million times larger
    with TDengineServer(dialect, precision) as server:
        site = Site(tmp_path, server)
        times = times_of(300)
        site.load(rows_of(300, ticks=ticks))
        # at a frame, between two frames, far away, at the end
        keyframes = [times[50], times[60] + 5, times[200], times[295]]
        site.annotate("R1", keyframes)
        raw = site.fetch()
    expected = sorted(set(range(30, 81)) | set(range(180, 221)) | set(range(275, 300)))
    frames = read_raw(raw)
    assert [frame.ts for frame in frames] == [times[number] for number in expected]
    assert [frame.frame_seq for frame in frames] == expected
    assert all(np.array_equal(FLOAT.decode(frame.frame_data), pictures(300)[frame.frame_seq].ravel()) for frame in frames)
    facts = received(raw)["facts"]
    assert facts["ranges"] == [[times[30], times[80], 51], [times[180], times[220], 41], [times[275], times[299], 25]]
    assert facts["sequence_gaps"] == facts["sequence_restarts"] == facts["same_millisecond"] == 0


@pytest.mark.parametrize("dialect, kind, payload", [
    *((dialect, "VARCHAR(16374)", PayloadFormat(encoding, compression, dtype)) for dialect in DIALECTS
      for encoding in ("base64", "hex") for compression in ("zlib", "none") for dtype in ("float32", "int16")),
    ("2.x", "NCHAR(4000)", PayloadFormat("json", "none", "float32")),
    ("3.x", "NCHAR(4000)", PayloadFormat("json", "none", "int16")),
    ("3.x", "VARBINARY(9600)", PayloadFormat("hex", "none", "int16")),
    ("3.x", "VARBINARY(9600)", PayloadFormat("hex", "zlib", "float32")),
])
def test_every_way_to_store_frames_is_found_and_held_to(tmp_path, dialect, kind, payload):
    with TDengineServer(dialect) as server:
        site = Site(tmp_path, server)
        rows = rows_of(60, payload)
        if kind.startswith("VARBINARY"):
            rows = [(time, bytes.fromhex(text), *rest) for time, text, *rest in rows]
        site.load(rows, frame_data=kind)
        site.annotate("R1", [rows[30][0]])
        found = site.fetch("found")
        told = site.fetch("told", encoding=payload.encoding, compression=payload.compression, dtype=payload.dtype)
    for raw in (found, told):
        record = received(raw)["payload"]
        assert (record["encoding"], record["dtype"]) == (payload.encoding, payload.dtype)
        decoded = np.array([PayloadFormat(**record).decode(frame.frame_data) for frame in read_raw(raw)])
        error = np.abs(decoded.reshape(-1, HEIGHT, WIDTH) - pictures(60)[10:51]).max()
        assert error <= (0.051 if payload.dtype == "int16" else 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_real_recordings_come_back_bit_by_bit(tmp_path, thermal_v1, dialect):
    categories = json.loads((thermal_v1 / "annotations" / "train.json").read_text())["categories"]
    with TDengineServer(dialect) as server:
        stored: dict[int, tuple] = {}
        for path in sorted((thermal_v1 / "frames").glob("*.h5")):
            with h5py.File(path) as file:
                for time, picture in zip(file["timestamps"][:].tolist(), file["frames"][:], strict=True):
                    stored[time] = (time, FLOAT.encode(picture), 60, 40, time)
        server.add(TABLE, COLUMNS, [stored[time] for time in sorted(stored)])
        source = TDengineSource(url=server.url, database="thermal", keyframes=thermal_v1 / "keyframes",
                                classes=[category["name"] for category in categories])
        store = RawStore(tmp_path / "raw", {"source": source.query()}, 500, tmp_path / "scratch")
        source.fetch(store, lambda frames: None)
        store.publish()
    for path in sorted((thermal_v1 / "frames").glob("*.h5")):
        with h5py.File(path) as file:
            times, values = file["timestamps"][:].tolist(), file["frames"][:]
        frames = {frame.ts: frame for frame in read_raw(tmp_path / "raw", path.stem)}
        for time, value in zip(times, values, strict=True):
            assert FLOAT.decode(frames[time].frame_data).tobytes() == value.tobytes()


def test_keys_come_first_and_no_frame_travels_twice(each_site):
    loaded(each_site, 400, keyframes=tuple(range(100, 200, 4)))
    raw = each_site.fetch(page_rows=25)
    statements = each_site.server.statements
    narrow = [sql for sql in statements if "`ts`" in sql and FRAMES not in sql and "count(*)" not in sql]
    assert len(read_raw(raw)) == 96 + 40 + 1
    # 1 for the probe, 2 for the first window, 1 for each that it overlaps
    assert len(narrow) == 1 + 2 + 24
    assert sum(FRAMES in sql for sql in statements) == 1 + 6
    assert sum("count(*)" in sql for sql in statements) == 1
    assert all(sql.count("`sensor_02") == 1 for sql in statements[2:])


def test_payloads_shortened_by_lost_packets_are_kept_as_they_came(site):
    rows = loaded(site)
    short = FLOAT.encode(pictures(1)[0].ravel()[:7])
    # also among a sensor's first frames, where the format is found
    for number in (20, 21, 25, 26, 45):
        rows = changed(rows, number, frame_data=short)
    site.load(rows)
    frames = {frame.frame_seq: frame.frame_data for frame in read_raw(site.fetch())}
    assert [frames[number] for number in (20, 21, 25, 26, 45)] == [short] * 5


def test_columns_may_be_absent_or_have_other_names(site):
    rows = [(time, text) for time, text, *_ in rows_of(60)]
    site.server.add(TABLE, {"time": "TIMESTAMP", "the data": "VARCHAR(9000)"}, rows)
    site.annotate("R1", [rows[30][0]])
    columns = {"ts": "time", "frame_data": "the data", "width": None, "height": None, "frame_seq": None}
    raw = site.fetch(columns=columns, width=WIDTH, height=HEIGHT)
    frame = read_raw(raw)[0]
    assert (frame.width, frame.height, frame.frame_seq) == (WIDTH, HEIGHT, frame.ts)
    assert received(raw)["facts"]["sequence_counts_frames"] is False
    assert "columns.width is None and width is None" in site.refusal(columns=columns)
    assert "columns.width is 'width' and width is 6" in site.refusal(width=6)
    assert "unknown key 'seq'" in site.refusal(columns={"seq": "x"})


def test_gaps_wraps_and_restarts_of_the_counter_are_reported_and_not_filled(site):
    rows = loaded(site, keyframes=(40,))
    numbers = [*range(30), *range(33, 40), *range(50, 55), *range(78)]
    site.load([(*row[:4], number) for row, number in zip(rows, numbers, strict=True)])
    raw = site.fetch()
    assert [frame.frame_seq for frame in read_raw(raw)] == numbers[20:61]
    facts = received(raw)["facts"]
    assert (facts["sequence_gaps"], facts["sequence_missing"], facts["sequence_restarts"]) == (2, 3 + 10, 1)
    assert facts["longest_pause_ms"] == max(np.diff(times_of(120)[20:61]))


def test_of_two_frames_in_one_millisecond_the_first_stays_and_is_counted(tmp_path):
    with TDengineServer("3.x", "us") as server:
        site = Site(tmp_path, server)
        rows = rows_of(60, ticks=1000)
        twin = (rows[25][0] + 20, *rows[26][1:])
        assert rows[25][0] // 1000 == twin[0] // 1000
        site.load([*rows[:26], twin, *rows[26:]])
        site.annotate("R1", [times_of(60)[30]])
        raw = site.fetch(page_frames=15)
        assert [frame.ts for frame in read_raw(raw)] == times_of(60)[11:51]
        assert received(raw)["facts"]["same_millisecond"] == 1
        # interrupted just between the two
        server.fail("reset", match=FRAMES, skip=2 + 2, times=99)
        with pytest.raises(InputError):
            site.fetch("later", page_frames=15, page_rows=15)
        assert len(list((tmp_path / "scratch-later").rglob("0*.jsonl"))) == 1
        server.faults.clear()
        assert files_of(site.fetch("later", page_frames=15, page_rows=15)) == files_of(raw)


def test_two_sensors_of_the_same_times_stay_apart_and_connections_work_side_by_side(each_site):
    # group 8: the same ts in two tables
    macs = [f"02:00:00:00:00:{number:02x}" for number in range(6)]
    for number, mac in enumerate(macs):
        rows = rows_of(200, seed=number)
        each_site.load(rows, mac)
        each_site.annotate(f"R{number}", [rows[100][0]], mac)
    counted = []
    source = each_site.source(connections=3, buffer_frames=60)
    store = RawStore(each_site.folder / "raw", {"source": source.query()}, 50, each_site.folder / "scratch")
    source.fetch(store, counted.append)
    store.publish()
    for number in range(6):
        frames = read_raw(each_site.folder / "raw", f"R{number}")
        decoded = [FLOAT.decode(frame.frame_data).reshape(HEIGHT, WIDTH) for frame in frames]
        assert np.array_equal(decoded, pictures(200, number)[40:161])
    assert sum(counted) == 6 * 121
    assert each_site.server.most_busy <= 3
    # keep-alive: a connection a thread, not one a request
    assert each_site.server.connections <= 3 * 3 < each_site.server.requests


def test_what_is_complete_is_not_asked_for_again_and_needs_no_credentials(site, monkeypatch):
    loaded(site)
    source = site.source()
    store = RawStore(site.folder / "raw", {"source": source.query()}, 10, site.folder / "scratch")
    source.fetch(store, lambda frames: None)
    requests, counted = site.server.requests, []
    monkeypatch.delenv("TDENGINE_USER")
    source.fetch(store, counted.append)
    assert site.server.requests == requests and sum(counted) == 61


def test_one_recording_more_asks_for_its_own_rows_only_and_gives_the_same_bytes(each_site, monkeypatch):
    # a keyframe file more would ask the database for everything again
    server, times = each_site.server, times_of(500)
    macs = [f"02:00:00:00:00:{number:02x}" for number in range(4)]
    for number, mac in enumerate(macs):
        each_site.load(rows_of(500, seed=number), mac)
        each_site.annotate(f"R{number}", [times[100], times[300]], mac)

    def requests_of(fetch, *params) -> int:
        begin, server.statements[:] = server.requests, []
        fetch(*params)
        return server.requests - begin

    whole = requests_of(each_site.fetch)
    each_site.annotate("R4", [times[200]], macs[0])
    more = requests_of(each_site.fetch)
    asked = "".join(server.statements)
    assert "`sensor_02_00_00_00_00_00`" in asked and "_00_01`" not in asked and f"`ts`>{times[280] - 1} " not in asked
    assert sum("count(*)" in sql for sql in server.statements) == 1
    assert files_of(each_site.fetch("anew")) == files_of(each_site.folder / "raw") and more < whole / 3

    each_site.annotate("R1", [times[101], times[300]], macs[1])
    requests_of(each_site.fetch)
    assert "_00_01`" in (asked := "".join(server.statements)) and "_00_02`" not in asked
    assert files_of(each_site.fetch("changed")) == files_of(each_site.folder / "raw")

    # what decides no frame asks for nothing, but comes along
    path = each_site.keyframes / "R2.json"
    path.write_text(path.read_text().replace("0.5", "0.4"))
    monkeypatch.delenv("TDENGINE_USER")
    assert requests_of(each_site.fetch) == 0
    assert "0.4" in (each_site.folder / "raw/keyframes/R2.jsonl").read_text()
    (each_site.keyframes / "R3.json").unlink()
    assert requests_of(each_site.fetch) == 0
    assert not list(each_site.folder.glob("raw/*/R3*"))
    monkeypatch.setenv("TDENGINE_USER", "reader")
    each_site.annotate("R3", [times[100], times[300]], macs[3])
    assert requests_of(each_site.fetch) > 0, "it is kept no more"
    assert requests_of(lambda: each_site.fetch(buffer_frames=21)) > whole


def test_a_sensor_that_has_changed_its_format_since_the_last_fetch_is_refused_as_in_one_go(site):
    before, after = rows_of(120), rows_of(120, PayloadFormat("hex", "none", "int16"), START + 10**9)
    site.load([*before, *after])
    site.annotate("R1", [before[60][0]])
    site.fetch()
    site.annotate("R0", [after[60][0]])
    with pytest.raises(InputError) as one_more:
        site.fetch()
    with pytest.raises(InputError) as in_one_go:
        site.fetch("another")
    assert str(one_more.value) == str(in_one_go.value)
    site.annotate("R0", [before[30][0]])
    site.load([(time - 10**9, *rest) for time, *rest in after])
    assert "base64" in site.refusal()


def test_the_query_tells_frames_but_neither_server_nor_credentials_nor_transport(site):
    loaded(site)
    raw = site.fetch()
    text = (raw / "query.json").read_text()
    assert "127.0.0.1" not in text and "secret" not in text and "reader" not in text and "retries" not in text
    assert site.source().query() == site.source(url="http://elsewhere:1", connections=1, retries=0).query()
    assert site.source().query() != site.source(buffer_frames=21).query()
    site.annotate("R1", [times_of(120)[41]])
    assert json.loads(text)["asked"]["source"]["recordings"] != site.source().query()["recordings"]


def test_gzip_is_only_used_when_wanted_and_changes_nothing(each_site):
    loaded(each_site)
    plain = each_site.fetch("plain")
    assert set(each_site.server.accepted_encodings) == {"identity"}
    small = each_site.fetch("small", accept_gzip=True)
    assert each_site.server.accepted_encodings[-1] == "gzip" and files_of(plain) == files_of(small)


# group 1: who may read


@pytest.mark.parametrize("dialect, error_status", [("3.x", False), ("3.x", True), ("2.x", False)])
@pytest.mark.parametrize("name, value", [("PASSWORD", "wrong-password"), ("USER", "wrong-user")])
def test_wrong_credentials_stop_at_once_whatever_the_status(tmp_path, monkeypatch, dialect, error_status, name, value):
    with TDengineServer(dialect, error_status=error_status) as server:
        site = Site(tmp_path, server)
        loaded(site)
        monkeypatch.setenv(f"TDENGINE_{name}", value)
        sentence = site.refusal()
        assert "does not accept the credentials" in sentence and "TDENGINE_PASSWORD" in sentence and value not in sentence
        assert server.requests == 1 and not site.pauses


def test_missing_credentials_are_named_before_any_request(site, monkeypatch):
    loaded(site)
    monkeypatch.delenv("TDENGINE_PASSWORD")
    assert "set TDENGINE_USER and TDENGINE_PASSWORD, or TDENGINE_TOKEN" in site.refusal()
    monkeypatch.setenv("TDENGINE_PASSWORD", "word\n")
    assert "control character" in site.refusal()
    assert site.server.requests == 0


@pytest.mark.parametrize("error", ["no header", "bad basic", "unknown scheme"])
def test_a_refused_authorization_header_stops(each_site, error):
    loaded(each_site)
    each_site.server.fail("error", name=error)
    assert "does not accept the credentials" in each_site.refusal()
    assert not each_site.pauses


@pytest.mark.parametrize("token_in_url", [False, True])
def test_a_token_works_as_header_or_in_the_cloud_way_and_is_never_logged(tmp_path, monkeypatch, caplog, token_in_url):
    token = "f00dfeed/+cafe"
    monkeypatch.setenv("TDENGINE_TOKEN", token)
    caplog.set_level(logging.DEBUG)
    with TDengineServer(token=token, token_in_url=token_in_url) as server:
        site = Site(tmp_path, server)
        loaded(site)
        site.fetch(token_in_url=token_in_url)
        server.fail("reset", times=99)
        sentence = site.refusal(name="again", token_in_url=token_in_url)
        server.faults.clear()
        server.fail("status", status=400, body=f'{{"code":77,"desc":"no {token} f00dfeed%2F%2Bcafe"}}'.encode(), times=99)
        sentence += site.refusal(name="more", token_in_url=token_in_url)
    assert "POST" in caplog.text and "f00dfeed" not in caplog.text + sentence


def test_redirects_and_urls_with_credentials_are_refused(site):
    loaded(site)
    for url in ("http://reader:hunter2@localhost:6041", "https://gw.cloud.example.com?token=hunter2"):
        with pytest.raises(InputError, match="TDENGINE_TOKEN") as refused:
            site.source(url=url)
        assert "hunter2" not in str(refused.value)
    for url in ("localhost:6041", "ftp://localhost", "http://", "http://localhost:port", "http://local host"):
        with pytest.raises(InputError, match="http://localhost:6041"):
            site.source(url=url)
    # group 10
    site.server.fail("redirect")
    sentence = site.refusal()
    assert "redirects (status 302)" in sentence and "abc" not in sentence and not site.pauses


def test_proxies_and_netrc_of_the_environment_do_not_take_over(site, monkeypatch, tmp_path):
    loaded(site)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len(read_raw(site.fetch(retries=0))) == 61


# group 2: what the server does not have or understand


@pytest.mark.parametrize("error, says", [("syntax", "columns"), ("column", "columns"), ("too long", "does not understand"),
                                         ("no database", "`database`"), ("whitelist", "65535"), ("other", "code 1234")])
@pytest.mark.parametrize("dialect, error_status", [("3.x", False), ("3.x", True), ("2.x", False)])
def test_errors_that_asking_again_repeats_stop_with_the_code(tmp_path, error, says, dialect, error_status):
    with TDengineServer(dialect, error_status=error_status) as server:
        site = Site(tmp_path, server)
        loaded(site)
        server.fail("error", name=error, match="`ts`")
        sentence = site.refusal()
        assert says in sentence and str(server.error(error)[1]) in sentence and not site.pauses


def test_a_misspelt_column_or_database_is_named(each_site):
    loaded(each_site)
    assert "`columns`" in each_site.refusal(columns={"frame_seq": "sequence"})
    assert "no database 'Thermal'" in each_site.refusal(database="Thermal")


@pytest.mark.parametrize("error", ["table", "table, other versions"])
@pytest.mark.parametrize("dialect, error_status", [("3.x", False), ("3.x", True), ("2.x", False)])
def test_a_missing_table_names_keyframe_file_and_record(tmp_path, error, dialect, error_status):
    with TDengineServer(dialect, error_status=error_status) as server:
        site = Site(tmp_path, server)
        site.annotate("R1", [START])
        server.fail("error", name=error, match="`ts`")
        sentence = site.refusal()
        assert str(site.keyframes / "R1.json") in sentence and f"data_time {START}" in sentence and TABLE in sentence
        # and without the fault, the same from the empty database
        assert TABLE in site.refusal() and not site.pauses


def test_a_keyframe_without_frames_names_file_record_and_distance(each_site):
    loaded(each_site)
    late = times_of(120)[-1] + 1001
    each_site.annotate("R1", [times_of(120)[50], late])
    sentence = each_site.refusal()
    assert "R1.json" in sentence and f"data_time {late}" in sentence and "1001 ms away" in sentence
    each_site.fetch(max_distance_ms=1001)
    each_site.load([])
    assert "holds no frame at all" in each_site.refusal()


# group 3: the silent short result


@pytest.mark.parametrize("rows", [0, 1, 20])
@pytest.mark.parametrize("match", [FRAMES, "cast(`ts`"])
def test_a_short_answer_that_looks_like_a_success_loses_no_frame(site, match, rows):
    loaded(site, keyframes=(40, 90))
    whole = files_of(site.fetch("whole", page_rows=15))
    for skip in range(5):
        short = site.server.fail("short", match=match, rows=rows, skip=skip)
        assert files_of(site.fetch(f"short-{skip}", page_rows=15)) == whole and short.times == 0


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_row_limit_of_the_server_loses_no_frame(tmp_path, limit):
    with TDengineServer(row_limit=limit) as server:
        site = Site(tmp_path, server)
        loaded(site)
        limited = site.fetch("limited")
        server.row_limit = None
        assert files_of(site.fetch("whole")) == files_of(limited)


def test_a_server_that_stays_silent_about_frames_is_given_up_and_an_unsound_count_is_not_believed(each_site):
    loaded(each_site)
    each_site.server.fail("short", match=FRAMES, rows=0, times=99, skip=2)
    assert "no row where COUNT(*) counts some" in each_site.refusal(page_rows=25)
    each_site.server.faults.clear()
    # COUNT(*) itself may come back empty
    each_site.server.fail("short", match="count(*)", rows=0)
    each_site.fetch()


def test_a_table_that_grows_during_the_fetch_is_noticed(site):
    rows = loaded(site)
    site.load(changed(rows, 50, ts=rows[50][0] - 1))
    site.server.fail("other", match=FRAMES, skip=1)
    assert "other frames came" in site.refusal()
    extra = (rows[55][0] + 1, *rows[55][1:])
    source = site.source(connections=1)
    count = type(site.server).query

    def grow(sql, path):
        if "count(*)" in sql:
            site.load([*rows[:56], extra, *rows[56:]])
        return count(site.server, sql, path)

    site.server.query = grow
    store = RawStore(site.folder / "raw", {"source": source.query()}, 10, site.folder / "scratch")
    with pytest.raises(InputError, match="COUNT.* says 62 frames .* but 61 were listed"):
        source.fetch(store, lambda frames: None)


# groups 4 to 7: connections that break, servers that are busy, slow or gone


BROKEN = [
    {"kind": "drop"}, {"kind": "drop", "length": True}, {"kind": "reset"},  # group 4
    {"kind": "cut"}, {"kind": "cut", "length": True},  # group 5
    {"kind": "error", "name": "pool"}, {"kind": "status", "body": b'"query memory exceeds threshold"'},  # group 6
    {"kind": "status", "status": 502, "body": b"<html>Bad gateway</html>"},
    {"kind": "error", "name": "unreachable", "delay_s": 0.1},
    {"kind": "error", "name": "reference"}, {"kind": "status", "status": 200},
    {"kind": "hang", "part": "header"}, {"kind": "hang"}, {"kind": "hang", "length": True},  # group 7
    {"kind": "drip", "delay_s": 0.05}, {"kind": "drip", "delay_s": 0.05, "length": True},
]
SHORT_TIMES = {"read_timeout_s": 0.2, "deadline_s": 0.4}


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: "-".join(str(value)[:12] for value in fault.values()))
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_may_pass_is_asked_again_until_it_does(tmp_path, dialect, fault):
    with TDengineServer(dialect) as server:
        site = Site(tmp_path, server)
        loaded(site)
        whole = site.fetch("whole")
        server.fail(**fault, match=FRAMES, skip=1, times=2)
        assert files_of(site.fetch("again", retries=8, **SHORT_TIMES)) == files_of(whole)
        assert len(site.pauses) >= 2


@pytest.mark.parametrize("fault, says", [
    ({"kind": "reset"}, "refused or broke off"), ({"kind": "drop"}, "broke off after"), ({"kind": "cut"}, "is cut off"),
    ({"kind": "error", "name": "pool"}, "get connection timeout"), ({"kind": "error", "name": "unreachable"}, "code 11"),
    ({"kind": "hang"}, "nothing came for 0.2 s"), ({"kind": "drip", "delay_s": 0.05}, "took over 0.4 s"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_pass_is_given_up_in_one_sentence_and_goes_on_later(site, fault, says):
    loaded(site)
    whole = files_of(site.fetch("whole"))
    site.server.fail(**fault, match=FRAMES, skip=3, times=99)
    with pytest.raises(InputError) as refused:
        site.fetch("later", page_rows=15, retries=1, **SHORT_TIMES)
    for part in (says, "failed 2 times", "goes on where it stopped"):
        assert part in str(refused.value)
    (page,) = (site.folder / "scratch-later").rglob("0*.jsonl")
    stored = [json.loads(line)["ts"] for line in page.read_text().splitlines()]
    site.server.faults.clear()
    site.server.statements.clear()
    assert files_of(site.fetch("later", page_rows=15)) == whole
    # the stored page was not fetched again, but for the probe
    asked = [sql for sql in site.server.statements if FRAMES in sql][2:]
    assert len(asked) == -(-51 // 15) and f"`ts`>{times_of(120)[30] - 1} " in asked[0] and times_of(120)[29] == stored[-1]


def test_pauses_grow_to_a_cap_and_repeat_with_the_seed(site):
    loaded(site)
    pauses = []
    for _ in range(2):
        site.server.fail("reset", times=9)
        site.pauses.clear()
        assert "failed 9 times" in site.refusal(retries=8, backoff_s=0.5, backoff_cap_s=4.0, seed=3)
        pauses.append(list(site.pauses))
    assert pauses[0] == pauses[1]
    longest = [min(4.0, 0.5 * 2**attempt) for attempt in range(8)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses[0], longest, strict=True))


def test_nobody_there_and_unknown_hosts_are_told_apart_from_errors(site):
    loaded(site)
    site.server.stop()
    assert "failed 2 times" in site.refusal(retries=1)
    with pytest.raises(InputError, match="retries is -1"):
        site.source(retries=-1)


# group 8: rows that are not what they should be


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("values, says", [
    ({"frame_data": None}, "is null"), ({"frame_data": ""}, "is empty"), ({"frame_data": "AAAA"}, "is no base64 of zlib float32"),
    ({"frame_data": FLOAT.encode(np.zeros(25))}, "25 pixels where the frame has 24"),
    ({"frame_data": FLOAT.encode(np.zeros(0))}, "0 pixels where the frame has 24"),
    ({"frame_data": PayloadFormat("base64", "zlib", "int16").encode(pictures(1)[0])}, "is base64 of zlib int16"),
    ({"frame_data": PayloadFormat("hex", "none", "float32").encode(pictures(1)[0])}, "is hex of float32"),
    ({"frame_data": PayloadFormat("json").encode(pictures(1)[0])}, "is json of"),
    ({"width": None}, "width is None"), ({"width": 4, "height": 6}, "has 4x6 pixels"), ({"height": 0}, "height is 0"),
    ({"frame_seq": None}, "frame_seq is None"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_row_is_named_by_table_and_time(tmp_path, dialect, values, says):
    with TDengineServer(dialect) as server:
        site = Site(tmp_path, server)
        rows = loaded(site)
        # also among the frames where the format is still to be found
        for number in (50, 22):
            site.load(changed(rows, number, **values))
            sentence = site.refusal()
            assert says in sentence and TABLE in sentence and str(rows[number][0]) in sentence


def test_a_sensor_that_switches_its_format_half_way_is_refused(site):
    rows = loaded(site, payload=PayloadFormat("json", "none", "float32"))
    other = rows_of(120, PayloadFormat("json", "none", "int16"))
    site.load([*rows[:50], *other[50:]])
    assert f"ts {rows[50][0]}: this frame is json of" in site.refusal()
    # half as many values is no lost packet when they make a whole int16 frame
    rows, other = (rows_of(120, PayloadFormat("base64", "none", dtype)) for dtype in ("float32", "int16"))
    for switch in (50, 22):
        site.load([*rows[:switch], *other[switch:]])
        assert "is base64 of int16, the first ones are base64 of float32" in site.refusal()


def test_payloads_that_2x_cannot_send_are_not_taken_for_empty_frames(each_site):
    # 2.x sends texts of 16384 bytes and more as ""
    text = PayloadFormat("base64", "none", "float32").encode(pictures(1, 0, 80, 60)[0])
    rows = [(row[0], text, 80, 60, row[4]) for row in rows_of(60)]
    each_site.load(rows)
    each_site.annotate("R1", [rows[30][0]])
    if each_site.server.dialect == "2.x":
        assert "2.x sends texts of 16384 bytes" in each_site.refusal()
    else:
        assert len(read_raw(each_site.fetch())) == 41


@pytest.mark.parametrize("kind, says", [("swap", "came behind"), ("repeat", "came behind"), ("other", "came")])
@pytest.mark.parametrize("match", [FRAMES, "cast(`ts` as bigint),`frame_seq`"])
def test_times_that_do_not_strictly_increase_are_refused(site, kind, says, match):
    loaded(site)
    site.server.fail(kind, match=match, times=99)
    assert says in site.refusal()


@pytest.mark.parametrize("frames, buffer_frames, page_rows", [(1, 20, 10), (41, 20, 41), (40, 19, 39), (42, 21, 1), (41, 0, 5)])
def test_one_row_exactly_a_page_and_no_buffer(each_site, frames, buffer_frames, page_rows):
    rows = rows_of(frames)
    each_site.load(rows)
    each_site.annotate("R1", [rows[frames // 2][0]])
    raw = each_site.fetch(buffer_frames=buffer_frames, page_rows=page_rows)
    assert len(read_raw(raw)) == min(frames, 2 * buffer_frames + 1)


# groups 9 and 10: odd bytes, odd answers


def test_raw_bytes_are_refused_and_not_replaced(each_site):
    rows = loaded(each_site)
    each_site.load(changed(rows, 50, frame_data=b"\x01\x02\xff\xfe"))
    assert "raw bytes" in each_site.refusal()


def test_control_characters_in_an_answer_do_no_harm(each_site):
    rows = rows_of(60, PayloadFormat("json", "none", "float32"))
    each_site.load(changed(rows, 31, frame_data=rows[31][1].replace(",", ",\n\t")))
    each_site.annotate("R1", [rows[30][0]])
    frames = read_raw(each_site.fetch())
    assert "\n\t" in frames[21].frame_data


def test_sizes_in_a_float_column_are_whole_numbers_in_both_dialects(each_site):
    # 2.x writes 6.00000, 3.x writes 6; NaN becomes null in 3.x
    rows = loaded(each_site)
    each_site.load([(*row[:2], float(row[2]), float(row[3]), row[4]) for row in rows], width="FLOAT", height="DOUBLE")
    assert {(frame.width, frame.height) for frame in read_raw(each_site.fetch())} == {(WIDTH, HEIGHT)}
    each_site.load([(*row[:2], float("nan"), 2.5, row[4]) for row in rows], width="FLOAT", height="DOUBLE")
    assert "width is None" in each_site.refusal(name="null")


@pytest.mark.parametrize("fault, says", [
    ({"kind": "html"}, "something else than TDengine"), ({"kind": "no data"}, "without rows in `data`"),
    ({"kind": "status", "status": 200, "body": b"[1]"}, "something else"),
    ({"kind": "status", "status": 500, "body": b"oops"}, "status 500"),
    ({"kind": "status", "status": 404, "body": b""}, "status 404"),
    ({"kind": "status", "status": 401, "body": b""}, "credentials"),
    ({"kind": "status", "status": 200, "body": b'{"code":0,"data":[1]}'}, "without rows"),
    ({"kind": "status", "status": 200, "body": b'{"code":"x","desc":1}'}, "refused the request"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_answers_of_something_else_stop(each_site, fault, says):
    loaded(each_site)
    each_site.server.fail(**fault, match=FRAMES)
    assert says in each_site.refusal() and not each_site.pauses


def test_unknown_keys_in_an_answer_are_ignored(each_site):
    loaded(each_site)
    whole = files_of(each_site.fetch("whole"))
    each_site.server.fail("extra", times=99)
    assert files_of(each_site.fetch("extra")) == whole


def test_another_path_of_the_server_is_no_tdengine(each_site):
    loaded(each_site)
    sentence = each_site.refusal(url=each_site.server.url + "/grafana")
    assert "correct the url" in sentence or "4353" in sentence


# group 12: injection


@pytest.mark.parametrize("mac", ["x' or '1'='1", "02:00:1a:62:51:67` or 1=1", "02:00:1a:62:51", "02:00:1a:62:51:67\n", ""])
def test_a_mac_address_that_is_none_is_refused_before_any_request(site, mac):
    loaded(site)
    site.annotate("R2", [START], mac)
    assert "mac_address" in site.refusal()
    assert site.server.requests == 0


@pytest.mark.parametrize("params, says", [
    ({"table": "sensor_{mac}`; drop database thermal"}, "backticks"), ({"table": "sensor"}, "{mac}"),
    ({"table": "s\x00{mac}"}, "ASCII"), ({"table": "é{mac}"}, "ASCII"), ({"table": "x" * 180 + "{mac}"}, "192"),
    ({"database": "thermal`"}, "database"),
    ({"database": "thermal' or '1'='1"}, "database"), ({"database": ""}, "database"), ({"columns": {"ts": "t`s"}}, "columns.ts"),
    ({"columns": {"frame_data": "a\\"}}, "columns.frame_data"), ({"columns": {"width": "'"}}, "columns.width"),
    ({"columns": {"frame_seq": "a;b"}}, "columns.frame_seq"), ({"columns": {"ts": None}}, "columns.ts"),
])
def test_names_that_could_carry_sql_are_refused_before_any_request(site, params, says):
    loaded(site)
    assert says in site.refusal(**params)
    assert site.server.requests == 0


@pytest.mark.parametrize("params", [
    {"connections": 0}, {"connections": 9}, {"page_rows": 0}, {"page_rows": 10_001}, {"buffer_frames": -1},
    {"buffer_frames": True}, {"retries": 1.5}, {"read_timeout_s": 0},
    {"deadline_s": "60"}, {"connect_timeout_s": float("nan")}, {"max_distance_ms": None},
    {"encoding": "base32"}, {"compression": "gzip"}, {"dtype": "float64"},
], ids=str)
def test_parameters_out_of_range_are_named(site, params):
    with pytest.raises(InputError, match=next(iter(params))):
        site.source(**params)


# interruptions: whatever happens, nothing is lost, nothing twice, nothing half


SCRIPT = textwrap.dedent("""
    import json, sys
    from thermal_action.script import run
    from thermal_action.raw_store import RawStore
    from thermal_action.sources.tdengine import TDengineSource

    def main():
        params = json.loads(sys.argv[1])
        source = TDengineSource(**params)
        store = RawStore("raw", {"source": source.query()}, 10, "scratch")
        source.fetch(store, lambda frames: None)
        store.publish()

    run(main)
""")


class Interrupted:
    """Fetches of one query, each in a process of its own."""

    def __init__(self, site: Site, **params):
        self.site, self.folder = site, site.folder / "process"
        self.folder.mkdir()
        self.params = {"url": site.server.url, "database": "thermal", "keyframes": str(site.keyframes), "classes": ["sitting"],
                       "buffer_frames": 60, "connections": 2, "page_rows": 7, "backoff_s": 0.05, "retries": 2} | params

    def start(self) -> subprocess.Popen:
        root = Path(__file__).resolve().parent.parent
        environment = os.environ | {"PYTHONPATH": str(root / "stages"), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", SCRIPT, json.dumps(self.params)], cwd=self.folder, env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self) -> dict[str, bytes]:
        process = self.start()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return files_of(self.folder / "raw")

    def pages(self) -> list[Path]:
        return sorted(self.folder.rglob("0*.jsonl"))


def two_long_recordings(site: Site) -> dict[str, bytes]:
    """Loads two recordings of 121 and 242 frames; what an uninterrupted fetch of them leaves in data/raw."""
    rows = rows_of(500)
    site.load(rows)
    site.annotate("R1", [rows[100][0]])
    site.annotate("R2", [rows[150][0], rows[400][0]])
    return files_of(site.fetch("whole", buffer_frames=60))


def wait_for(condition, process: subprocess.Popen) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)


def test_killed_at_many_moments_it_goes_on_and_ends_with_the_same_bytes(each_site):
    whole = two_long_recordings(each_site)
    fetch, server = Interrupted(each_site), each_site.server
    pages = 0
    for requests in (3, 18, 28) if server.dialect == "3.x" else (12, 25, 33):
        process = fetch.start()
        begin = server.requests
        wait_for(lambda begin=begin, requests=requests: server.requests >= begin + requests, process)
        process.kill()
        process.communicate()
        assert not (fetch.folder / "raw").exists()
        pages, before = len(fetch.pages()), pages
        assert pages >= before
    assert pages > 0
    server.statements.clear()
    assert fetch.finish() == whole
    assert sum(FRAMES in sql for sql in server.statements) < 1 + 18 + 36


def test_ctrl_c_ends_a_waiting_fetch_soon_and_keeps_its_pages(each_site):
    whole = two_long_recordings(each_site)
    fetch = Interrupted(each_site)
    hangs = each_site.server.fail("hang", match=FRAMES, skip=15, times=2)
    process = fetch.start()
    wait_for(lambda: hangs.times == 0 and len(fetch.pages()) >= 2, process)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors and time.monotonic() - begin < 10
    assert fetch.pages() and not (fetch.folder / "raw").exists()
    each_site.server.faults.clear()
    assert fetch.finish() == whole


def test_a_server_that_goes_and_comes_back_costs_nothing_but_time(each_site):
    whole = two_long_recordings(each_site)
    fetch, server = Interrupted(each_site), each_site.server
    hangs = server.fail("hang", match=FRAMES, skip=15, times=2)
    process = fetch.start()
    wait_for(lambda: hangs.times == 0 and len(fetch.pages()) >= 2, process)
    server.stop()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and errors.count("\n") == 1 and "goes on where it stopped" in errors and PASSWORD not in errors
    kept = len(fetch.pages())
    server.start()
    server.statements.clear()
    assert kept >= 2 and fetch.finish() == whole
    assert f"`ts`>{times_of(500)[39]}" not in "".join(server.statements)


def test_a_table_that_changed_since_the_interruption_is_not_mixed_with_what_was_stored(site):
    two_long_recordings(site)
    site.server.fail("reset", match=FRAMES, skip=15, times=99)
    with pytest.raises(InputError):
        site.fetch("mixed", buffer_frames=60, page_rows=7)
    site.server.faults.clear()
    rows = rows_of(500)
    site.load([*rows[:45], *rows[46:]])
    with pytest.raises(InputError, match="an interrupted fetch stored"):
        site.fetch("mixed", buffer_frames=60, page_rows=7)


def test_the_stages_run_from_the_server_to_hdf5_and_refuse_in_one_sentence(site, project, monkeypatch):
    rows = loaded(site)
    project.set({"classes": ["sitting", "standing"],
                 "fetch": {"source": "tdengine", "buffer_frames": 20, "tdengine": {"keyframes": str(site.keyframes)}},
                 "server": {"url": site.server.url, "retries": 0}})
    project.run("fetch", "hdf5")
    with h5py.File(project.folder / "data" / "frames" / "R1.h5") as file:
        assert file["timestamps"][:].tolist() == [row[0] for row in rows[20:81]]
        assert np.array_equal(file["frames"][:], pictures(120)[20:81])
    monkeypatch.setenv("TDENGINE_PASSWORD", "wrong-password")
    project.set({"fetch": {"buffer_frames": 21}})
    sentence = project.refusal("fetch")
    assert sentence.startswith("fetch.py: ") and "does not accept the credentials" in sentence
    assert "wrong-password" not in sentence
