"""pytest tests/test_damaged_files.py - whatever a file holds, it is read as what it says, or refused in one sentence.

`HYPOTHESIS_PROFILE=local pytest --timeout 0 tests/test_damaged_files.py` tries 1,000 new files of each kind.
"""

import datetime
import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from coco import Coco, Given
from evaluate import Evaluate
from export import OPSET
from hdf5 import Hdf5
from spoilt import DEEP, JSON_VALUES, changed, sentence_of, torn
from thermal_action import InputError
from thermal_action.annotations import read_annotations, read_info
from thermal_action.conversion import Conversion
from thermal_action.files import read_json
from thermal_action.keyframes import MAC_ADDRESS, read_keyframes, write_keyframes
from thermal_action.onnx_file import KEY, OnnxModel, seal
from thermal_action.params import ActionNames, read_params
from thermal_action.raw import PayloadFormat, RawFrame, device_of, ordered_frames, read_page, read_query
from thermal_action.raw_store import RawRecording, RawStore
from thermal_action.records import read_record
from thermal_action.repair import PixelRepair
from thermal_action.runtime import Runtime
from thermal_action.scans import Entry
from thermal_action.scoring.card import Dataset
from thermal_action.sources.options import Fetch, Server
from thermal_action.streams import open_streams, parse_line
from thermal_action.training.options import Model
from thermal_action.training.recipe import Train
from thermal_action.windows import Windowing
from tiny import keyframe, write_numbered
from train import Report
from validate import Validate

ROOT = Path(__file__).resolve().parent.parent
# a file is written anew for each case
anew = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

# keyframe files

CLASSES = ["sitting", "standing"]
RECORD = keyframe("R1", "02:00:1A:62:51:67", 1_760_482_260_170, 0.5, 0.4, 0.2, 0.3, "sitting")
BED = {"bbox": [0.2, 0.3, 0.4, 0.4], "category": "furniture", "subcategory": "bed", "attribute_obscured": None,
       "attribute_heat_residual": "no", "object_id": 1}
RECORD["annotations"].append(BED)
SECOND = RECORD | {"data_time": RECORD["data_time"] + 500}


def check_keyframes(path: Path) -> None:
    """Refused, or as documented, and the same when written and read again."""
    try:
        keyframes = read_keyframes(path, CLASSES)
    except InputError as refused:
        return sentence_of(refused, path)
    assert [each.data_time for each in keyframes] == sorted({each.data_time for each in keyframes})
    for each in keyframes:
        assert each.mac_address == each.mac_address.lower()
        assert {person.subcategory for person in each.persons} <= set(CLASSES)
        assert all(0 < side <= 1.02 for box in each.annotations for side in box.bbox[2:])
        np.array([box.object_id for box in each.annotations], dtype=np.int64)
        json.dumps(asdict(each), ensure_ascii=False).encode()
    write_keyframes(path.with_name("again.jsonl"), keyframes)
    assert read_keyframes(path.with_name("again.jsonl"), CLASSES) == keyframes


@anew
@given(changed(RECORD), st.sampled_from(["", "\n", ",\n"]))
def test_a_changed_record_is_read_as_it_is_or_refused(tmp_path, change, between):
    record, place = change
    path = tmp_path / "R1.json"
    path.write_text(json.dumps(SECOND) + between + json.dumps(record))
    check_keyframes(path)


@anew
@given(st.sampled_from(sorted(RECORD)), st.sampled_from(sorted(BED)), DEEP)
def test_a_value_as_deep_as_json_goes_is_refused(tmp_path, key, box_key, deep):
    for record in (RECORD | {key: "deep"}, RECORD | {"annotations": [BED | {box_key: "deep"}]}):
        path = tmp_path / "R1.json"
        path.write_text(json.dumps(record).replace('"deep"', deep))
        with pytest.raises(InputError) as refused:
            read_keyframes(path, CLASSES)
        sentence_of(refused.value, path, "record 1")


@anew
@given(torn((json.dumps(RECORD) + json.dumps(SECOND)).encode()))
def test_torn_keyframe_files_are_refused_or_lose_nothing_else(tmp_path, content):
    path = tmp_path / "R1.json"
    path.write_bytes(content)
    check_keyframes(path)


@anew
@given(st.lists(st.integers(1, 1 << 50), min_size=1, max_size=6, unique=True),
       st.lists(st.sampled_from(["", "\n", " \r\n", ","])))
def test_records_read_alike_however_they_are_joined(tmp_path, times, between):
    path, lines = tmp_path / "R1.json", [json.dumps(RECORD | {"data_time": time}) for time in times]
    path.write_text("\n".join(lines))
    expected = read_keyframes(path, CLASSES)
    assert [each.data_time for each in expected] == sorted(times)
    path.write_text("".join(line + gap for line, gap in zip(lines, [*between, *[""] * len(lines)], strict=False)))
    assert read_keyframes(path, CLASSES) == expected


# params.yaml

PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
SECTIONS = {"classes": ActionNames, "fetch": Fetch, "hdf5": Hdf5, "window": Windowing, "coco": Coco, "validate": Validate,
            "model": Model, "train": Train, "evaluate": Evaluate, "server": Server, "runtime": Runtime}
YAML_VALUES = st.one_of(JSON_VALUES.filter(lambda value: "\\ud800" not in json.dumps(value)),
                        st.dates(datetime.date(1900, 1, 1)), st.datetimes(datetime.datetime(1900, 1, 1)), st.binary(max_size=3))


def test_every_section_is_tried():
    assert SECTIONS.keys() == PARAMS.keys()


@anew
@given(st.sampled_from(sorted(SECTIONS)), st.data())
def test_a_changed_parameter_is_taken_or_refused_by_its_name(tmp_path, name, data):
    document, (_, *keys) = data.draw(changed({name: PARAMS[name]}, YAML_VALUES), label="change")
    path = tmp_path / "params.yaml"
    with open(path, "w") as file:
        YAML(typ="safe").dump({name: None} | document, file)
    try:
        read_params(name, SECTIONS[name], path)
    except InputError as refused:
        # of what JSON cannot hold the value is named, not the key
        named = "holds a value" not in str(refused) and keys and isinstance(keys[0], str)
        sentence_of(refused, path, f"{name}.{keys[0]}" if named else name)


TOKENS = ["a: ", "- ", "&x ", "*x", "<<: ", "? ", "{", "}", "[", "]", "\n  ", "x", "2001-99-99", "0x", "0o9", ".inf", "1:60",
          "-_", '"\\ud800"', "!!int ", "!!float ", "!!bool ", "!!set ", "!!binary ", "!!timestamp ",
          "!<tag:yaml.org,2002:python/object/apply:os.system> x"]


@anew
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.ReusedAnchorWarning")
@given(st.one_of(st.text("ab:-[]{}&*!|>'\"\\\n #%@,?~0.e_<=", max_size=40), st.lists(st.sampled_from(TOKENS)).map("".join)))
@example("&x {a: *x}")
@example("&x [*x]")
@example("[" * 300)
@example("9" * 5000)
@example("2001-99-99")
@example("{[1]: 2}")
@example("{1: 2, '1': 3}")
def test_any_text_in_params_is_a_section_or_refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(f"window: {text}", encoding="utf-8", errors="surrogatepass")
    for kind in (Windowing, dict):
        try:
            read_params("window", kind, path)
        except InputError as refused:
            sentence_of(refused, path)


# pages of raw frames

FRAME = RawFrame(1_760_482_260_170, 7, 6, 4, "AAAA")
LINE = json.dumps(asdict(FRAME), separators=(",", ":")) + "\n"


def check_page(folder: Path) -> None:
    for read in (lambda: list(read_page(folder / "000000.jsonl")), lambda: [frame for frame, _ in ordered_frames(folder)]):
        try:
            frames = read()
        except InputError as refused:
            sentence_of(refused, folder / "000000.jsonl", "dvc repro")
        else:
            assert all(type(frame.frame_data) is str and frame.width > 0 and frame.height > 0 for frame in frames)
            np.array([(frame.ts, frame.frame_seq) for frame in frames], dtype=np.int64)


@anew
@given(changed(asdict(FRAME)))
def test_a_changed_frame_is_read_or_refused_by_its_page(tmp_path, change):
    (tmp_path / "000000.jsonl").write_text(LINE + json.dumps(change[0], separators=(",", ":")) + "\n")
    check_page(tmp_path)


@anew
@given(torn((LINE * 2).encode()))
@example(LINE.encode()[:-12] + b'\xff\xfe"}\n')
@example(b'{"ts":abc,}\n')
@example(b'{"ts":1,"a":' + b"[" * 5000 + b"}\n")
def test_a_torn_page_is_refused_by_name(tmp_path, content):
    (tmp_path / "000000.jsonl").write_bytes(content)
    check_page(tmp_path)


# what fetch writes of itself: complete.json and query.json, and the facts beside what it keeps

FETCH = {"source": "simulator", "page_frames": 2, "simulator": {"seed": 1}}
FRAMES = [RawFrame(1000 * number, number, 6, 4, "AAAA") for number in range(3)]


def brought(folder: Path) -> tuple[RawStore, RawRecording]:
    """A fetch that has brought one recording, and waits for its end."""
    store = RawStore(folder / "raw", {"fetch": FETCH}, 2, folder / "scratch")
    recording = store.recording("R1")
    for frame in FRAMES[recording.frames :]:
        recording.append(frame)
    if not recording.complete:
        recording.finish(PayloadFormat(), table="sensor")
    return store, recording


def published(folder: Path) -> Path:
    with brought(folder)[0] as store:
        store.publish()
    return folder / "raw/query.json"


with tempfile.TemporaryDirectory() as somewhere:
    QUERY = json.loads(published(Path(somewhere)).read_text())
COMPLETE = QUERY["received"]["R1"]


@anew
@given(st.one_of(changed(COMPLETE).map(lambda change: json.dumps(change[0]).encode()), torn(json.dumps(COMPLETE).encode())))
@example(b"[]")
@example(b'{"facts":{}}')
@example(json.dumps(COMPLETE | {"frames": 3.0}).encode())
def test_a_damaged_record_of_a_recording_is_written_anew(tmp_path, content):
    store, recording = brought(tmp_path)
    (recording.folder / "complete.json").write_bytes(content)
    store.__exit__()
    again = json.loads(published(tmp_path).read_text())["received"]["R1"]
    # facts may be any
    assert again == COMPLETE or again == json.loads(content)
    shutil.rmtree(tmp_path / "scratch")


def check_query(path: Path) -> None:
    try:
        query = read_query(path.parent, FETCH)
    except InputError as refused:
        return sentence_of(refused, path, "" if "not JSON" in str(refused) else "dvc repro --force --single-item fetch")
    assert query["asked"]["fetch"] | {"no_such_key": None} == FETCH | {"no_such_key": None} and type(query["frames"]) is int
    for name, received in query["received"].items():
        assert "/" not in name and type(received["frames"]) is int
        PayloadFormat(**received["payload"]).decode(PayloadFormat(**received["payload"]).encode(np.zeros(4)))


@anew
@given(changed(QUERY))
def test_a_changed_record_of_a_fetch_is_read_as_it_is_or_refused(tmp_path, change):
    (tmp_path / "query.json").write_text(json.dumps(change[0]))
    check_query(tmp_path / "query.json")


# a clip of a video, which hdf5 samples as its record says
with tempfile.TemporaryDirectory() as somewhere:
    CLIP = write_numbered(Path(somewhere) / "video.avi", frames=4).read_bytes()
CLIP_RECORD = {"frames": 4, "first_ts": 100, "last_ts": 400, "facts": {"sha256": hashlib.sha256(CLIP).hexdigest()},
               "payload": {"codec": "mpeg4", "rate": "10", "width": 24, "height": 16}}


@anew
@given(changed(CLIP_RECORD))
@example((CLIP_RECORD, ()))
@example((CLIP_RECORD | {"frames": 1 << 61}, ()))
@example((CLIP_RECORD | {"frames": 0}, ()))
@example((CLIP_RECORD | {"frames": 10**30}, ()))
@example((CLIP_RECORD | {"payload": {}}, ()))
@example((CLIP_RECORD | {"payload": {**CLIP_RECORD["payload"], "rate": "1/999999999"}, "frames": 1 << 30}, ()))
def test_a_changed_record_of_a_video_gives_its_frames_or_is_refused(tmp_path, change):
    folder = tmp_path / "frames/R1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "video.avi").write_bytes(CLIP)
    (tmp_path / "query.json").write_text(json.dumps(QUERY | {"received": {"R1": change[0]}}))
    (tmp_path / "keyframes").mkdir(exist_ok=True)
    (tmp_path / "keyframes/R1.jsonl").write_text(json.dumps(RECORD) + "\n")
    conversion = Conversion(tmp_path, "none", 1, 0, 2, None)
    try:
        received = read_query(tmp_path, FETCH)["received"]["R1"]
        entry = conversion.convert("R1", received, tmp_path / "R1.h5")
    except InputError as refused:
        return sentence_of(refused, tmp_path, "dvc repro --force --single-item fetch")
    assert entry["total_frames"] in (1, 2) and entry["min_timestamp"] > 0


@anew
@given(torn(json.dumps(QUERY).encode()))
def test_a_torn_record_of_a_fetch_is_refused(tmp_path, content):
    (tmp_path / "query.json").write_bytes(content)
    check_query(tmp_path / "query.json")


@anew
@given(st.one_of(changed(RECORD).map(lambda change: json.dumps(change[0]).encode()), torn(json.dumps(RECORD).encode())))
def test_a_damaged_keyframe_file_of_a_fetch_names_a_device_or_is_refused(tmp_path, content):
    path = tmp_path / "keyframes/R1.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        assert MAC_ADDRESS.fullmatch(device_of(tmp_path, "R1"))
    except InputError as refused:
        sentence_of(refused, path, "dvc repro --force --single-item fetch")


KEPT = {"sha256": {f"frames/R1/{name}": "0" * 64 for name in ("000000.jsonl", "000001.jsonl", "complete.json")}}


@anew
@given(st.one_of(changed(KEPT).map(lambda change: json.dumps(change[0]).encode()), torn(json.dumps(KEPT).encode()),
                 st.sampled_from([b"[]", b"7", b"{}", b'{"sha256": {}}'])))
def test_what_is_kept_with_damaged_facts_is_fetched_again(tmp_path, content):
    whole = published(tmp_path).read_bytes()
    (facts,) = (tmp_path / "scratch/fetch").glob("*.json")
    facts.write_bytes(content)
    store, _ = brought(tmp_path)
    store.publish()
    assert not store.taken and (tmp_path / "raw/query.json").read_bytes() == whole


# text exports and JSON

EXPORTED = "2931 2930 2935 2940 2950 2960 t: 1760482260.170\n"


@given(st.one_of(st.lists(st.sampled_from(["2931", "nan", "inf", "-1e999", "1e300", "x", "t:", " ", "1760482260.17", "\n", "-5"]),
                          max_size=12).map(" ".join),
                 torn(EXPORTED.encode()).map(lambda line: line.decode("ascii", "replace"))))
@example("2931 t: inf\n")
@example("2931 t: 1e300\n")
def test_any_line_of_an_export_is_a_frame_or_refused(line):
    try:
        frame = parse_line(line, PixelRepair(2, 3), "R1.txt, line 2")
    except InputError as refused:
        return sentence_of(refused, "R1.txt, line 2")
    assert np.isfinite(frame.picture).all() and np.int64(frame.time) > 0 and 0 <= frame.lost < 6


@anew
@given(st.sampled_from(["6x4", "4x6", "99999x99999", "9" * 5000 + "x4", "0x0", "x"]))
def test_a_header_that_claims_a_giant_picture_takes_no_memory(tmp_path, size):
    path = tmp_path / "R1.txt"
    path.write_text(f"ARRAYTYPE={size}\n")
    try:
        open_streams(path, (4, 6))
    except InputError as refused:
        sentence_of(refused, path)


@anew
@given(st.one_of(torn(b'{"images": [1, 2.5, null, true]}'), st.integers(0, 2000).map(lambda depth: b"[" * depth + b"]" * depth)))
@example(b"9" * 5000)
@example(b"[" * 100_000)
def test_json_is_read_or_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        read_json(path)
    except InputError as refused:
        sentence_of(refused, path)


# what stages write for one another

IMAGE = {"id": "D0_S0_1000", "sensor_id": "D0_S0", "mac_address": "02:00:1a:62:51:67", "timestamp": 1000, "width": 60,
         "height": 40, "frame_idx": 5, "frame_distance_ms": 3}
ENTRY = {"image_id": IMAGE["id"], "bbox": [0.5, 0.4, 0.2, 0.3], "object_id": 1, "attribute_obscured": "25%"}
COCO = {"info": {"window": PARAMS["window"], "split_by": "session"}, "images": [IMAGE, IMAGE | {"id": "D0_S0_2000"}],
        "annotations": [ENTRY | {"id": 0, "category_id": 1, "category_name": "standing"}],
        "context": [ENTRY | {"category": "furniture", "subcategory": "bed"}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)]}
SIDE = {"images": 2, "boxes": 3, "classes": {}, "recordings": ["D0_S0"]}
RECORDS = {
    "sensor_info.json": (dict[str, Entry], "hdf5", {"D0_S0": {"total_frames": 120, "duplicate_frames": 0, "sha256": "0" * 64}}),
    "dataset_info.json": (Dataset, "coco", {"split_by": "session", "seed": 0, "folds": 0, "fold": 0, "train": SIDE, "val": SIDE}),
    "split.json": (Given, "fetch", {"train": ["D0_S0_1000"], "val": ["D0_S0_2000"]}),
    "validation_report.json": (Report, "validate", {"ok": True}),
}


def check_annotations(path: Path) -> None:
    for read in (read_info, read_annotations):
        try:
            found = read(path)
        except InputError as refused:
            sentence_of(refused, path)
            continue
        if read is read_info:
            found.window.frames(np.arange(200) * 170, 5)
            continue
        samples, classes = found
        assert samples and len({sample.image_id for sample in samples}) == len(samples)
        for sample in samples:
            assert np.isfinite(sample.boxes).all() and (sample.boxes >= 0).all() and (sample.boxes <= 1).all()
            assert len(sample.boxes) == len(sample.labels) == len(sample.object_ids) == len(sample.obscured)
            assert (sample.labels >= 0).all() and (sample.labels < len(classes)).all()
            np.array([sample.timestamp, sample.frame_idx, sample.width * sample.height], dtype=np.int64)
            assert "/" not in sample.image_id + sample.recording


@anew
@given(changed(COCO))
def test_changed_annotations_are_read_as_they_are_or_refused(tmp_path, change):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(change[0]))
    check_annotations(path)


@anew
@given(torn(json.dumps(COCO, indent=2).encode()))
@example(b"9" * 5000)
@example(b"[" * 100_000)
@example(b"\xff")
def test_torn_annotations_are_refused_or_say_something_else(tmp_path, content):
    path = tmp_path / "train.json"
    path.write_bytes(content)
    check_annotations(path)


@anew
@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_a_damaged_record_is_refused_with_the_stage_to_run_again(tmp_path, name, data):
    kind, stage, document = RECORDS[name]
    content = data.draw(st.one_of(changed(document).map(lambda change: json.dumps(change[0]).encode()),
                                  torn(json.dumps(document).encode())))
    path = tmp_path / name
    path.write_bytes(content)
    try:
        read_record(path, kind, stage)
    except InputError as refused:
        sentence_of(refused, path, f"dvc repro {stage}")


def tiny_onnx() -> bytes:
    frames, heat = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("frames", "logits"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["frames"], ["logits"])], "tiny", [frames], [heat])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    info = {"classes": CLASSES, "transform": {}, "window": PARAMS["window"], "frame_size": [40, 60]}
    onnx.helper.set_model_props(model, {KEY: json.dumps(info)})
    return seal(model.SerializeToString())


ONNX = tiny_onnx()


@anew
@given(torn(ONNX))
@example(ONNX)
@example(ONNX[:-1])
@example(ONNX + b"\n")
def test_a_damaged_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    if content == ONNX:
        assert OnnxModel(path).info["classes"] == CLASSES
        return
    with pytest.raises(InputError) as refused:
        OnnxModel(path)
    sentence_of(refused.value, path, "make it again")
