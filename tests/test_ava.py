"""python -m pytest tests/test_ava.py - without these, a tool that reads AVA files could get other boxes and actions than ours."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from conftest import ROOT, call
from thermal_action import InputError
from thermal_action.annotations import read_annotations
from thermal_action.ava import (
    index_keys,
    key_of,
    read_detections,
    read_label_map,
    read_predictions,
    read_truth,
    write_detections,
    write_label_map,
    write_truth,
)
from thermal_action.files import write_json
from thermal_action.scoring.detection import LabelledBoxes, frame_map

CLASSES = ["sitting", "lying down-lying on the bed/couch", "other"]
TIMES = [1_760_000_000_000, 1_760_000_000_400, 7, 1_760_000_001_000]  # two in one second, one of few digits


def write_annotations(path, times=TIMES, persons=(2, 1, 1, 0), classes=CLASSES, recordings=("R1",) * 4):
    """Keyframes with so many persons each, standing side by side, actions in turn."""
    images = [{"id": f"{recording}_{time}_{place}", "sensor_id": recording, "mac_address": "02:00:00:00:00:01",
               "timestamp": time, "width": 60, "height": 40, "frame_idx": place}
              for place, (recording, time) in enumerate(zip(recordings, times, strict=True))]
    shown = [(image["id"], person) for image, number in zip(images, persons, strict=True) for person in range(number)]
    annotations = [{"id": place, "image_id": image, "bbox": [0.2 + person / 3, 0.3, 0.1234567, 0.2], "object_id": 7 + person,
                    "category_id": place % len(classes), "category_name": classes[place % len(classes)]}
                   for place, (image, person) in enumerate(shown)]
    write_json(path, {"images": images, "annotations": annotations,
                      "categories": [{"id": place, "name": name} for place, name in enumerate(classes)]})
    return path


@pytest.fixture
def samples(tmp_path):
    return read_annotations(write_annotations(tmp_path / "val.json"))[0]


def test_annotations_come_back_as_they_were(tmp_path, samples):
    assert write_truth(tmp_path / "val.csv", samples) == 4
    rows, persons = read_truth(tmp_path / "val.csv", len(CLASSES))
    assert rows.images == [key for sample in samples for key in [key_of(sample)] * len(sample.boxes)]
    for back, attribute in ((rows.boxes, "boxes"), (rows.labels, "labels"), (persons, "object_ids")):
        ours = np.concatenate([getattr(sample, attribute) for sample in samples])
        assert back.dtype == ours.dtype and np.array_equal(back, ours)


def test_the_file_is_as_ava_describes_it(tmp_path, samples):
    """What the official script reads: no heading, `"%s,%04d" % (video, int(timestamp))`, eight columns, actions from 1."""
    write_truth(tmp_path / "val.csv", samples)
    read = list(csv.reader(open(tmp_path / "val.csv")))
    assert [row[:2] for row in read] == [["R1", "1760000000000"]] * 2 + [["R1", "1760000000400"], ["R1", "0007"]]
    assert [int(row[6]) for row in read] == [1, 2, 3, 1] and [row[7] for row in read] == ["7", "8", "7", "7"]
    assert [float(side) for side in read[0][2:6]] == pytest.approx([0.13827165, 0.2, 0.26172835, 0.4])


def test_a_name_of_its_own_for_every_keyframe_or_a_sentence(tmp_path, samples):
    assert index_keys(samples, "val.json") == {key_of(sample): number for number, sample in enumerate(samples)}
    twice, _ = read_annotations(write_annotations(tmp_path / "twice.json", times=[5, 6, 5, 7]))
    with pytest.raises(InputError, match="twice.json: R1_5_0 and R1_5_2 are of one recording and one millisecond"):
        index_keys(twice, tmp_path / "twice.json")
    others, _ = read_annotations(write_annotations(tmp_path / "others.json", times=[5, 6, 5, 7], recordings=["A", "A", "B", "B"]))
    assert len(index_keys(others, "others.json")) == 4


BOXES = arrays.arrays(np.float32, (3, 4), elements=some.floats(0, 1, width=32))
SCORES = arrays.arrays(np.float64, 3, elements=some.floats(-1e300, 1e300))


@given(boxes=BOXES, scores=SCORES)
def test_detections_come_back_to_the_last_bit(tmp_path_factory, boxes, scores):
    path = tmp_path_factory.mktemp("detections") / "found.csv"
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    given = LabelledBoxes([("R1", time) for time in TIMES[:3]], boxes, np.arange(3), scores)
    assert write_detections(path, given) == 3
    back = read_detections(path, 3)
    assert back.images == given.images and np.array_equal(back.labels, given.labels)
    assert np.array_equal(back.boxes, boxes) and np.array_equal(back.scores, scores)


def test_frame_map_is_the_same_on_both_sides_of_the_files(tmp_path, samples):
    generator = np.random.default_rng(0)
    write_truth(tmp_path / "val.csv", samples)
    truth, _ = read_truth(tmp_path / "val.csv", 3)
    boxes = (np.repeat(truth.boxes, 3, axis=0) + generator.normal(0, 0.015, (12, 4))).clip(0, 1).astype(np.float32)
    found = LabelledBoxes([image for image in truth.images for _ in range(3)], boxes, np.tile(np.arange(3), 4),
                          generator.random(12))
    write_detections(tmp_path / "found.csv", found)
    direct, through = (frame_map(truth, rows, 3) for rows in (found, read_detections(tmp_path / "found.csv", 3)))
    assert 0 < direct.mean < 1 and np.array_equal(direct.average_precision, through.average_precision)


def test_label_map_comes_back_and_reads_line_by_line(tmp_path):
    write_label_map(tmp_path / "actions.pbtxt", CLASSES)
    assert read_label_map(tmp_path / "actions.pbtxt") == CLASSES
    # as the official script and MMAction2 read it, without protocol buffers
    lines = (tmp_path / "actions.pbtxt").read_text().splitlines()
    assert [line.split('"')[1] for line in lines if line.startswith("  name:")] == CLASSES
    assert [int(line.strip().split(" ")[-1]) for line in lines if line.startswith("  id:")] == [1, 2, 3]


@pytest.mark.parametrize("name", ['say "ah"', "back\\slash", "two\nlines"])
def test_a_name_that_a_label_map_cannot_hold_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="label map cannot hold: rename it"):
        write_label_map(tmp_path / "actions.pbtxt", ["sitting", name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "sentence"), [
    ("", "no label map"), ("nonsense", "no label map"), ('item {\n  name: "a"\n  id: 2\n}\n', "count from 1 without holes"),
    ('item {\n  name: "a"\n  id: 1\n}\nitem {\n', "no label map"), (b"\xff", "no text"),
])
def test_a_broken_label_map_is_refused(tmp_path, text, sentence):
    path = tmp_path / "actions.pbtxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence):
        read_label_map(path)
    with pytest.raises(InputError, match="does not exist"):
        read_label_map(tmp_path / "none.pbtxt")


GOOD = ["R1", "0007", "0.1", "0.2", "0.3", "0.4", "1", "7"]


@pytest.mark.parametrize(("column", "value", "sentence"), [
    (1, "noon", "timestamp is 'noon', no whole number from 0"), (1, "902.5", "timestamp is '902.5'"),
    (2, "left", "x1 is 'left', no number"), (2, "nan", "x1 is 'nan', no number"), (4, "0.05", "must rise from x1 to x2"),
    (5, "30", "within 0 and 1"), (6, "0", "action is '0', no whole number from 1 to 3"), (6, "4", "action is '4'"),
    (7, "somebody", "is 'somebody', no"), (7, "inf", "is 'inf', no"), (None, None, "has 7 columns"),
])
@pytest.mark.parametrize("read", [read_truth, read_detections])
def test_a_broken_row_is_named_by_its_line(tmp_path, read, column, value, sentence):
    row = GOOD[:-1] if column is None else [*GOOD[:column], value, *GOOD[column + 1:]]
    (tmp_path / "rows.csv").write_text("".join(",".join(each) + "\n" for each in (GOOD, row)))
    with pytest.raises(InputError, match=r"rows.csv, line 2.*" + sentence):
        read(tmp_path / "rows.csv", 3)


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b'R1,"7\n'])
def test_what_is_no_csv_is_refused(tmp_path, content):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(InputError, match="is no CSV"):
        read_detections(tmp_path / "rows.csv", 3)
    with pytest.raises(InputError, match="does not exist"):
        read_detections(tmp_path / "none.csv", 3)


def write_predictions(path, samples, *, without=None, sample=None):
    """As the evaluate stage writes them, of every person; the true action has the most."""
    rows = []
    for each in samples:
        for box, label in zip(each.boxes, each.labels, strict=True):
            answer = np.full(len(CLASSES), 0.2)
            answer[label] = 0.6
            rows.append({"sample": sample or each.image_id, **dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True)),
                         "true": CLASSES[label], **{f"p({name})": value for name, value in zip(CLASSES, answer, strict=True)}})
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != without], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_predictions_become_a_row_for_each_box_and_action(tmp_path, samples):
    rows = read_predictions(write_predictions(tmp_path / "predictions.csv", samples), samples, CLASSES)
    assert rows.images[:3] == [key_of(samples[0])] * 3 and rows.labels.tolist() == [0, 1, 2] * 4
    assert np.allclose(rows.boxes[::3], np.concatenate([sample.boxes for sample in samples]))
    assert rows.scores.reshape(4, 3).tolist()[0] == [0.6, 0.2, 0.2]


def test_predictions_of_others_are_refused(tmp_path, samples):
    path = tmp_path / "predictions.csv"
    with pytest.raises(InputError, match=r"line 2 has no 'p\(other\)'"):
        read_predictions(write_predictions(path, samples, without="p(other)"), samples, CLASSES)
    with pytest.raises(InputError, match="the sample 'R9_1' is not in the annotations"):
        read_predictions(write_predictions(path, samples, sample="R9_1"), samples, CLASSES)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="is no CSV"):
        read_predictions(path, samples, CLASSES)


@pytest.fixture
def folder(tmp_path):
    """data/annotations as the coco stage leaves it, and predictions of the validation side."""
    write_annotations(tmp_path / "annotations/train.json", times=[11, 12, 13, 14])
    val, _ = read_annotations(write_annotations(tmp_path / "annotations/val.json"))
    write_predictions(tmp_path / "predictions.csv", val)
    return tmp_path


def test_the_script_writes_what_the_library_reads(folder, samples):
    process = call("export_ava", "annotations", "ava", "--predictions", "predictions.csv", folder=folder)
    assert process.returncode == 0, process.stderr
    assert {path.name for path in (folder / "ava").iterdir()} == {"actions.pbtxt", "predictions.csv", "train.csv", "val.csv"}
    assert read_label_map(folder / "ava/actions.pbtxt") == CLASSES
    truth, _ = read_truth(folder / "ava/val.csv", 3)
    assert truth.images[-1] == key_of(samples[2]) and len(truth.labels) == 4
    found = read_detections(folder / "ava/predictions.csv", 3)
    assert len(found.labels) == 12 and frame_map(truth, found, 3).mean == 1.0
    assert "val.csv 4 persons of 4 keyframes (1 without any" in process.stdout and "predictions.csv 12 rows" in process.stdout


def test_the_script_refuses_in_one_sentence_and_leaves_nothing(folder):
    for arguments, sentence in (
        (["nowhere", "ava"], "nowhere/train.json does not exist"),
        (["annotations", "ava", "--predictions", "nowhere.csv"], "nowhere.csv does not exist: run `dvc repro evaluate`"),
    ):
        process = call("export_ava", *arguments, folder=folder)
        assert process.returncode == 2 and sentence in process.stderr and len(process.stderr.strip().splitlines()) == 1
        assert not (folder / "ava").exists()
    write_annotations(folder / "annotations/train.json", classes=["sitting", "standing"])
    process = call("export_ava", "annotations", "ava", folder=folder)
    assert process.returncode == 2 and "differ in their classes" in process.stderr


def test_the_script_starts_without_torch_and_mmaction2(folder):
    """A tool of a second, for people who have neither."""
    code = "import sys, export_ava; print([m for m in ('torch', 'mmaction', 'sklearn') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "stages", capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
    assert call("export_ava", "annotations", "ava", folder=folder, apart=True).returncode == 0
