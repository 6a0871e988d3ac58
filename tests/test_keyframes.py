"""pytest tests/test_keyframes.py - a damaged keyframe file is refused by name and record, not read as wrong labels."""

import json
from dataclasses import asdict

import pytest

from thermal_action import InputError
from thermal_action.keyframes import read_keyframe_files, read_keyframe_folder, read_keyframes, write_keyframes
from tiny import keyframe

CLASSES = ["sitting", "standing"]
MAC = "02:00:1a:62:51:67"
TIME = 1_760_482_260_170


def record(time: int = TIME, **changes) -> dict:
    """A good record; `changes` replace its fields, or with the value ... remove them."""
    fields = keyframe("R1", MAC, time, 0.5, 0.4, 0.2, 0.3, "sitting") | changes
    return {key: value for key, value in fields.items() if value is not ...}


def boxed(**changes) -> dict:
    """A good record but for its second box."""
    good = record()["annotations"][0]
    fields = {key: value for key, value in (good | changes).items() if value is not ...}
    return record(annotations=[good, fields])


@pytest.fixture
def refusal(tmp_path):
    """The sentence with which a file of these records, or this text, is refused; the second record is the bad one."""
    path = tmp_path / "R1_annotation.json"

    def read(*records: dict | list, text: str | bytes | None = None) -> str:
        if text is None:
            text = "".join(json.dumps(each) + "\n" for each in records)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError) as refused:
            read_keyframes(path, CLASSES)
        sentence = str(refused.value)
        assert str(path) in sentence and "\n" not in sentence
        return sentence

    return read


@pytest.mark.parametrize("between", ["\n", "", " ", "\r\n\r\n", ",\n"])
def test_records_come_back_by_time_however_they_are_joined(tmp_path, between):
    path = tmp_path / "R1.json"
    path.write_text(between.join(json.dumps(record(TIME + offset)) for offset in (500, 0, 250)))
    keyframes = read_keyframes(path, CLASSES)
    assert [each.data_time - TIME for each in keyframes] == [0, 250, 500]
    (person,) = keyframes[0].persons
    assert (person.bbox, person.subcategory, person.object_id) == ((0.5, 0.4, 0.2, 0.3), "sitting", 0)


def test_indented_records_and_unknown_fields_are_read(tmp_path):
    path = tmp_path / "R1.json"
    path.write_text(json.dumps(record(note="lunch"), indent=2) + json.dumps(record(TIME + 1), indent=2))
    assert len(read_keyframes(path, CLASSES)) == 2


def test_a_device_is_one_however_its_address_is_written(tmp_path):
    # as two devices its recordings would share frames across the split, and nobody would see it
    path = tmp_path / "R1.json"
    path.write_text(json.dumps(record(mac_address=MAC.upper())) + json.dumps(record(TIME + 1)))
    assert [each.mac_address for each in read_keyframes(path, CLASSES)] == [MAC, MAC]


def test_written_keyframes_are_read_back_the_same_and_give_the_same_bytes(tmp_path):
    path = tmp_path / "R1.json"
    path.write_text(json.dumps(record()) + json.dumps(record(TIME + 1, annotations=[])))
    keyframes = read_keyframes(path, CLASSES)
    for name in ("a.jsonl", "b.jsonl"):
        write_keyframes(tmp_path / name, keyframes)
    assert read_keyframes(tmp_path / "a.jsonl", CLASSES) == keyframes
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_furniture_keeps_its_own_words(tmp_path):
    path = tmp_path / "R1.json"
    path.write_text(json.dumps(boxed(category="furniture", subcategory="bed", attribute_heat_residual="no")))
    assert [each.subcategory for each in read_keyframes(path, CLASSES)[0].annotations] == ["sitting", "bed"]


@pytest.mark.parametrize("text", ["", " \n\n", b"\n"])
def test_an_empty_file_holds_no_keyframe(refusal, text):
    assert "holds no keyframe" in refusal(text=text)


@pytest.mark.parametrize("cut", [1, 20, -2, -1])
def test_a_truncated_file_names_the_record_where_it_ends(refusal, cut):
    last = json.dumps(record(TIME + 1))
    assert "record 2: cut off" in refusal(text=json.dumps(record()) + "\n" + last[:cut])
    assert "record 2: cut off" in refusal(text=json.dumps(record()) + last[:cut])


@pytest.mark.parametrize("text", [b"\xff\xfe", b"{\"data_id\": \"\xe9\"}", "\ufeff" + json.dumps({}), "not json", "[" * 100_000,
                                  '{"data_time": ' + "9" * 5000 + "}"], ids=range(6))
def test_what_is_not_json_is_refused(refusal, text):
    refusal(text=text)


@pytest.mark.parametrize("changes, says", [
    ({"data_id": ...}, "data_id is missing"), ({"data_id": 7}, "data_id is 7"), ({"data_id": "../R1"}, "no recording name"),
    ({"data_id": ""}, "no recording name"), ({"data_id": "R1\n"}, "no recording name"),
    ({"mac_address": ...}, "mac_address is missing"),
    ({"mac_address": "02-00-1a-62-51-67"}, "six hex pairs"), ({"mac_address": MAC + "\n"}, "six hex pairs"),
    ({"data_time": ...}, "data_time is missing"), ({"data_time": str(TIME)}, "expected int"),
    ({"data_time": TIME / 1000}, "expected int"), ({"data_time": float("nan")}, "data_time is nan"),
    ({"data_time": True}, "data_time is True"), ({"data_time": -1}, "no time in ms"),
    ({"data_time": 0}, "no time in ms"), ({"data_time": 1 << 60}, "no time in ms"), ({"data_time": None}, "data_time is None"),
    ({"annotations": ...}, "annotations is missing"), ({"annotations": {}}, "expected list"),
    ({"annotations": None}, "annotations is None"),
    ({"annotations": ["box"]}, "annotation 1: a str"), ({"annotation_time": "yesterday"}, "annotation_time is 'yesterday'"),
    ({"data_id": "R2"}, "one file holds one recording"), ({"mac_address": "02:00:1a:62:51:68"}, "one file holds one recording"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_field_names_file_record_and_value(refusal, changes, says):
    sentence = refusal(record(), record(TIME + 1) | changes if ... not in changes.values() else record(TIME + 1, **changes))
    assert says in sentence and "record 2" in sentence


@pytest.mark.parametrize("changes, says", [
    ({"subcategory": "dancing"}, "subcategory 'dancing'"), ({"subcategory": "Sitting"}, "subcategory 'Sitting'"),
    ({"subcategory": None}, "subcategory is None"), ({"subcategory": ...}, "subcategory is missing"),
    ({"category": "animal"}, "category 'animal'"), ({"category": ...}, "category is missing"), ({"bbox": ...}, "bbox is missing"),
    ({"bbox": [0.95, 0.5, 0.2, 0.2]}, "leaves the frame"), ({"bbox": [0.5, 0.05, 0.2, 0.2]}, "leaves the frame"),
    ({"bbox": [30, 20, 10, 10]}, "leaves the frame"), ({"bbox": [-0.5, 0.5, 0.2, 0.2]}, "leaves the frame"),
    ({"bbox": [0.5, 0.5, 0, 0.2]}, "is empty"), ({"bbox": [0.5, 0.5, 0.2, -0.2]}, "is empty"),
    ({"bbox": [0.5, 0.5, 0.2]}, "four finite numbers"), ({"bbox": [0.5, 0.5, 0.2, 0.2, 0.2]}, "four finite numbers"),
    *(({"bbox": [0.5, value, 0.2, 0.2]}, "four finite numbers")
      for value in ("0.5", True, float("nan"), float("inf"), 10**400)),
    ({"bbox": "0.5,0.5,0.2,0.2"}, "expected list"), ({"bbox": None}, "bbox is None"),
    ({"object_id": ...}, "object_id is missing"), ({"object_id": "1"}, "object_id is '1'"),
    ({"object_id": 1.5}, "object_id is 1.5"),
    ({"attribute_obscured": "30%"}, "'30%'"), ({"attribute_obscured": []}, "attribute_obscured"),
    ({"attribute_heat_residual": "maybe"}, "'maybe'"), ({"attribute_heat_residual": True}, "attribute_heat_residual"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_box_names_file_record_annotation_and_value(refusal, changes, says):
    sentence = refusal(record(TIME - 1), boxed(**changes))
    assert says in sentence and "record 2, annotation 2" in sentence


def test_a_box_may_stick_out_by_a_fraction_of_a_pixel(tmp_path):
    path = tmp_path / "R1.json"
    path.write_text(json.dumps(boxed(bbox=[0.905, 0.5, 0.2, 0.2])))
    assert read_keyframes(path, CLASSES)[0].annotations[1].bbox == (0.905, 0.5, 0.2, 0.2)


def test_a_time_annotated_twice_names_both_records(refusal):
    sentence = refusal(record(), record(TIME + 1), record())
    assert "record 3" in sentence and "record 1" in sentence and str(TIME) in sentence


@pytest.mark.parametrize("other", [[record()], "text", 7, None])
def test_a_record_that_is_no_object_is_refused(refusal, other):
    assert f"record 2: a {type(other).__name__}" in refusal(record(), other)


def test_a_folder_holds_one_file_a_recording(tmp_path):
    with pytest.raises(InputError, match="holds no keyframe file"):
        read_keyframe_files(tmp_path, CLASSES)
    for name in ("a.json", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(record(data_id=name[0])))
    (tmp_path / "notes.txt").write_text("no keyframes")
    assert [path.name for path in read_keyframe_files(tmp_path, CLASSES)] == ["a.json", "b.jsonl"]
    assert list(read_keyframe_folder(tmp_path, CLASSES)) == ["a", "b"]
    (tmp_path / "c.json").write_text(json.dumps(record(data_id="a")))
    with pytest.raises(InputError, match="c.json and .*a.json both annotate a"):
        read_keyframe_folder(tmp_path, CLASSES)
    with pytest.raises(InputError, match="does not exist"):
        read_keyframes(tmp_path / "d.json", CLASSES)


def test_the_real_keyframe_files_are_read_whole(thermal_v1):
    categories = json.loads((thermal_v1 / "annotations" / "train.json").read_text())["categories"]
    recordings = read_keyframe_folder(thermal_v1 / "keyframes", [category["name"] for category in categories])
    assert len(recordings) == 8
    for name, keyframes in recordings.items():
        lines = (thermal_v1 / "keyframes" / f"{name}_annotation.json").read_text().splitlines()
        raw = [json.loads(line) for line in lines if line]
        assert len(keyframes) == len(raw)
        assert {each.data_time: len(each.annotations) for each in keyframes} == \
               {each["data_time"]: len(each["annotations"]) for each in raw}
    assert json.loads(json.dumps(asdict(recordings["SL14_R1"][0])))["mac_address"] == MAC
