"""pytest tests/test_tdengine_answers.py - whatever a server answers, a fetch brings the frames that are there, or one sentence.

`HYPOTHESIS_PROFILE=local pytest --timeout 0 tests/test_tdengine_answers.py` tries 1,000 new answers of each kind.
"""

import copy
import json
import shutil

import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from spoilt import JSON_VALUES, places, sentence_of
from tdengine_server import TDengineServer
from test_tdengine import DIALECTS, FLOAT, HEIGHT, PASSWORD, WIDTH, Site, loaded, pictures, read_raw, times_of
from test_tdengine import FRAMES as FRAMES_OF
from thermal_action import InputError
from thermal_action.raw import parse_frame
from thermal_action.sources.tdengine.frames import FrameCheck, read_frame
from thermal_action.sources.tdengine.rest import Again, Client, Credentials, Transport
from thermal_action.sources.tdengine.table import Columns

FRAMES, KEYFRAME, BUFFER = 14, 7, 4


@pytest.fixture(scope="module", params=DIALECTS)
def site(request, tmp_path_factory):
    """A table of a few frames, and a keyframe in the middle of them."""
    with pytest.MonkeyPatch.context() as patch, TDengineServer(request.param) as server:
        patch.setenv("TDENGINE_USER", "reader")
        patch.setenv("TDENGINE_PASSWORD", PASSWORD)
        site = Site(tmp_path_factory.mktemp("site"), server)
        site.rows = loaded(site, FRAMES, keyframes=(KEYFRAME,))
        yield site


class Spoil:
    """Makes another answer of a perfect one: other bytes, an end too early, other rows, another value or none somewhere in it."""

    def __init__(self, how: str, where: int, value: object):
        self.how, self.where, self.value = how, where, value

    def __repr__(self) -> str:
        return f"Spoil({self.how!r}, {self.where}, {self.value!r})"

    def __call__(self, body: bytes) -> bytes:
        place = self.where % len(body)
        if self.how == "cut":
            return body[:place]
        if self.how == "bytes":
            return body[:place] + self.value + body[place + len(self.value) :]
        answer = json.loads(body)
        rows = answer["data"]
        if self.how == "row" and rows:
            rows.insert(self.where % (len(rows) + 1), copy.deepcopy(self.value))
        elif self.how == "drop" and rows:
            del rows[self.where % len(rows)]
        elif self.how == "turn":
            rows.reverse()
        elif self.how == "value":
            found = places(answer)
            *way, key = found[self.where % len(found)]
            parent = answer
            for step in way:
                parent = parent[step]
            parent[key] = self.value
        elif self.how == "short" and rows:
            del rows[self.where % len(rows)][-1:]
        return json.dumps(answer).encode("utf-8", "surrogatepass")


WHERE = st.integers(0, 5000)
SPOILS = st.one_of(
    st.builds(Spoil, st.sampled_from(["cut", "drop", "turn", "short"]), WHERE, st.none()),
    st.builds(Spoil, st.just("bytes"), WHERE, st.binary(min_size=1, max_size=3)),
    st.builds(Spoil, st.just("value"), WHERE, JSON_VALUES),
    st.builds(Spoil, st.just("row"), WHERE, st.lists(JSON_VALUES, max_size=6)))


# a fetch takes eight requests
@settings(max_examples=max(settings().max_examples // 4, 20))
@given(spoil=SPOILS, skip=st.integers(0, 9), times=st.sampled_from([1, 1, 99]))
@example(Spoil("value", 0, 1e300), 3, 1)
def test_a_fetch_with_spoilt_answers_brings_what_is_there_or_stops_in_a_sentence(site, spoil, skip, times):
    site.server.faults.clear()
    site.server.fail("change", change=spoil, skip=skip, times=times)
    name = f"raw-{len(site.pauses)}-{skip}"
    try:
        frames = read_raw(site.fetch(name, page_frames=4, page_rows=5, buffer_frames=BUFFER))
    except InputError as refused:
        event("refused")
        sentence_of(refused)
        assert PASSWORD not in str(refused) and "reader" not in str(refused)
    else:
        event("fetched")
        # never another frame, a hole, or less than was asked for; sequence numbers stand in the answers only once
        first = [row[0] for row in site.rows].index(frames[0].ts)
        there = [(*row[:2], WIDTH, HEIGHT) for row in site.rows[first : first + len(frames)]]
        assert [(frame.ts, frame.frame_data, frame.width, frame.height) for frame in frames] == there
        assert first <= KEYFRAME - BUFFER and first + len(frames) > KEYFRAME + BUFFER
    finally:
        for folder in site.folder.glob("*raw-*"):
            shutil.rmtree(folder)


TIMES = times_of(FRAMES)
PAYLOAD = FLOAT.encode(pictures(1)[0])


@pytest.mark.parametrize("dialect, match, answer, says", [
    ("3.x", "ins_databases", {"data": [[[], "ms"]]}, "no database"),
    ("3.x", "ins_databases", {"data": [["thermal", {}]]}, "no database"),
    ("2.x", "show databases", {"head": 5, "data": []}, "too old"),
    ("2.x", "show databases", {"head": [None, "name"], "data": []}, "too old"),
    ("2.x", "show databases", {"head": ["name", "precision"], "data": [["thermal"], ["log", "us"]]}, "no database"),
    # a proxy gives the answer to another request
    ("3.x", "desc", {"data": [[time, 0] for time in TIMES[::-1]]}, "other frames"),
    ("3.x", f">{TIMES[KEYFRAME]} order", {"data": [[time, 0] for time in TIMES]}, "other frames"),
    ("3.x", "desc", {"data": [[1 << 70, 0]]}, "no whole number"), ("3.x", "desc", {"data": [[TIMES[0], 1 << 70]]}, "64 bits"),
    ("3.x", FRAMES_OF, {"data": [["x", PAYLOAD, 6, 4, 0], [TIMES[0], PAYLOAD, 6, 4, 0]]}, "no whole number"),
    ("3.x", FRAMES_OF, {"data": [[float(TIMES[KEYFRAME - BUFFER]), PAYLOAD, 6, 4, 0]]}, "no whole number"),
    ("3.x", "count", {"data": [[{"a": "x" * 5000}]]}, "COUNT"),
], ids=range(12))
def test_an_answer_of_other_types_or_to_another_request_is_refused(tmp_path, monkeypatch, dialect, match, answer, says):
    monkeypatch.setenv("TDENGINE_USER", "reader")
    monkeypatch.setenv("TDENGINE_PASSWORD", PASSWORD)
    with TDengineServer(dialect) as server:
        site = Site(tmp_path, server)
        loaded(site, FRAMES, keyframes=(KEYFRAME,))
        server.fail("status", status=200, body=json.dumps(answer).encode(), match=match, times=99)
        sentence = site.refusal(buffer_frames=BUFFER)
    assert says in sentence and len(sentence) < 1000


@pytest.fixture(scope="module")
def client():
    return Client(Transport(), Credentials(user="reader", password=PASSWORD))


STATUS = st.sampled_from([200, 200, 200, 204, 301, 400, 401, 403, 404, 500, 502, 503])
KEYS = st.sampled_from(["code", "status", "desc", "data", "rows", "head", "column_meta"])
ANSWERS = st.one_of(
    st.binary(max_size=30), JSON_VALUES.map(json.dumps).map(str.encode),
    st.dictionaries(KEYS, st.one_of(JSON_VALUES, st.lists(st.lists(JSON_VALUES)), st.just(0))).map(json.dumps).map(str.encode),
    st.integers(0, 3000).map(lambda depth: b'{"data":' + b"[" * depth + b"]" * depth + b"}"))


@given(STATUS, ANSWERS)
@example(200, b'{"code":0,"data":' + b"[" * 100_000)
@example(200, b'{"code":0,"data":[[' + b"9" * 5000 + b"]]}")
@example(200, b'{"code":1,"desc":' + b"[" * 900 + b"]" * 900 + b"}")
def test_any_answer_is_rows_or_refused_or_asked_again(client, status, body):
    try:
        answer = client.parse(status, body)
    except (InputError, Again) as refused:
        sentence_of(refused)
    else:
        assert status == 200 and answer.get("code", 0) == 0 and answer.get("status") != "error"
        assert all(type(row) is list for row in answer["data"])


SECRETS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=8, max_size=20)


@given(SECRETS, SECRETS, STATUS, st.sampled_from(["text", "json", "ascii", "latin", "header"]))
def test_an_answer_that_repeats_the_credentials_does_not_bring_them_into_the_sentence(user, password, status, how):
    assume(password not in user)
    client = Client(Transport(), Credentials(user=user, password=password))
    said = {"text": f"for {user} {password}", "json": json.dumps({"desc": password, "code": 7}, ensure_ascii=False),
            "ascii": json.dumps([password, user]), "latin": f"{password} \udcff", "header": client.credentials.header()}[how]
    with pytest.raises((InputError, Again)) as refused:
        client.parse(status, said.encode("utf-8", "surrogateescape"))
    secrets = (user, password, json.dumps(password)[1:-1], client.credentials.header().partition(" ")[2])
    # none of them is a word of the sentence by itself
    assert not any(secret in str(refused.value) for secret in secrets)


PLACED = st.one_of(JSON_VALUES, st.sampled_from([FLOAT.encode(pictures(1)[0]), 6, 4]), st.binary(max_size=40).map(bytes.hex))


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.lists(PLACED, min_size=4, max_size=4))
@example(0, [FLOAT.encode(pictures(1)[0]), 6, 4, 1 << 64])
@example(0, [FLOAT.encode(pictures(1)[0]), 6, 4, 1e300])
@example(0, ["[" * 5000, 6, 4, 0])
def test_any_row_is_a_frame_that_the_next_stage_reads_or_refused(time, values):
    check = FrameCheck("sensor", FLOAT, WIDTH, HEIGHT)
    try:
        frame = read_frame([time, *values], "sensor", Columns(), (None, None), 1)
        check.check(frame)
    except InputError as refused:
        return sentence_of(refused, "table sensor")
    assert parse_frame(frame.to_line().encode(), "page") == frame and 0 < FLOAT.decode(frame.frame_data).size <= 24
