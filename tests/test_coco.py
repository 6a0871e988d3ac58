"""pytest tests/test_coco.py - boxes and labels reach the trainer as the annotator drew them."""

import json

import numpy as np
import pytest

from thermal_action import InputError
from thermal_action.annotations import clip_label, read_annotations
from thermal_action.keyframes import Annotation, Keyframe
from thermal_action.segments import find_segments
from tiny import SEVEN_ACTIONS


def person(action, object_id=0):
    return Annotation((0.5, 0.5, 0.2, 0.2), "person", action, "0%", None, object_id)


def keyframes(*times_and_actions, object_id=0):
    return [Keyframe("R1", "02:00:00:00:00:01", "a", 0, time, (person(action, object_id),)) for time, action in times_and_actions]


def annotations(project, name):
    return json.loads((project.folder / "data/annotations" / name).read_text())


def test_images_boxes_and_classes_follow_the_keyframe_files(prepared, prepared_data):
    train, val = annotations(prepared, "train.json"), annotations(prepared, "val.json")
    drawn = {}
    for path in (prepared_data.parent / "archive/keyframes").iterdir():
        for line in path.read_text().splitlines():
            record = json.loads(line)
            drawn[f"{record['data_id']}_{record['data_time']}"] = record
    images = train["images"] + val["images"]
    assert {image["id"] for image in images} == set(drawn)
    for image in images:
        assert (image["width"], image["height"], image["frame_distance_ms"]) == (16, 16, 0)
        assert image["frame_idx"] % 8 == 4
    for annotation in train["annotations"] + val["annotations"]:
        record = drawn[annotation["image_id"]]["annotations"][0]
        assert annotation["bbox"] == record["bbox"] and annotation["category_name"] == record["subcategory"]
        assert SEVEN_ACTIONS[annotation["category_id"]] == annotation["category_name"]
    ids = [annotation["id"] for annotation in train["annotations"] + val["annotations"]]
    assert len(set(ids)) == len(ids) == 60
    assert annotations(prepared, "class_mapping.json")["class_to_id"]["walking"] == 2
    info = annotations(prepared, "dataset_info.json")
    assert info["train"]["images"] + info["val"]["images"] == 60 and info["purged"]["images"] == 0
    segments = annotations(prepared, "segments.json")["database"]
    assert set(segments) == {"D0_S0", "D0_S1", "D1_S0", "D1_S1"}
    assert [segment["label"] for segment in segments["D0_S0"]["annotations"]] == ["sitting", "standing", "walking"]


def test_samples_have_corner_boxes_inside_the_frame(prepared):
    path = prepared.folder / "data/annotations/train.json"
    samples, classes = read_annotations(path)
    raw = json.loads(path.read_text())
    assert classes == SEVEN_ACTIONS
    boxes = np.concatenate([sample.boxes for sample in samples])
    cx, cy, w, h = np.array([annotation["bbox"] for annotation in raw["annotations"]]).T
    assert np.allclose(boxes, np.clip(np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1), 0, 1), atol=1e-6)
    assert boxes.dtype == np.float32 and samples[0].labels.dtype == np.int64


@pytest.mark.parametrize(("change", "words"), [
    (lambda coco: coco.pop("categories"), "categories is missing"),
    (lambda coco: coco["categories"].pop(1), "without holes"),
    (lambda coco: coco["annotations"][0].update(category_id=7), "category_id 7"),
    (lambda coco: coco["annotations"][0].update(image_id="nobody"), "belongs to no image"),
    (lambda coco: coco["images"].append(coco["images"][0]), "twice"),
])
def test_annotation_files_that_contradict_themselves_are_refused(prepared, change, words):
    path = prepared.folder / "data/annotations/train.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))
    with pytest.raises(InputError, match=words):
        read_annotations(path)


def test_the_clip_label_is_the_most_frequent_and_ties_go_to_the_lowest_id():
    assert clip_label([3, 1, 3]) == 3
    assert clip_label([3, 1]) == 1
    assert clip_label([5]) == 5


def test_segments_change_halfway_between_two_keyframes():
    found = find_segments(keyframes((10_000, "walking"), (11_000, "walking"), (12_000, "lying"), (13_000, "lying")),
                          9_000, 20_000, max_gap_s=5)
    assert [(segment["segment"], segment["label"]) for segment in found] == [([1.0, 2.5], "walking"), ([2.5, 4.0], "lying")]


def test_a_long_gap_ends_a_segment_and_persons_are_kept_apart():
    walker = keyframes((10_000, "walking"), (30_000, "walking"))
    sleeper = keyframes((10_500, "lying"), (11_500, "lying"), object_id=7)
    found = find_segments(sorted(walker + sleeper, key=lambda keyframe: keyframe.data_time), 10_000, 40_000, max_gap_s=5)
    spans = [(segment["segment"], segment["object_id"]) for segment in found]
    assert spans == [([0.0, 0.0], 0), ([0.5, 1.5], 7), ([20.0, 20.0], 0)]


def test_given_and_keyframe_reproduce_the_published_split(project, thermal_v1):
    project.set({"fetch": {"source": "archive", "archive": {"location": str(thermal_v1), "sha256": None}}})
    project.run("fetch", "hdf5")
    published = {side: json.loads((thermal_v1 / f"annotations/{side}.json").read_text()) for side in ("train", "val")}
    for by in ("given", "keyframe"):
        project.set({"coco": {"split_by": by}})
        project.run("coco")
        for side, images, boxes in (("train", 314, 405), ("val", 73, 95)):
            own = annotations(project, f"{side}.json")
            assert (len(own["images"]), len(own["annotations"])) == (images, boxes)
            assert {image["id"] for image in own["images"]} == {image["id"] for image in published[side]["images"]}


def test_the_real_recordings_in_folds(project, thermal_v1):
    project.set({"fetch": {"source": "archive", "archive": {"location": str(thermal_v1), "sha256": None}}})
    project.run("fetch", "hdf5")
    for by, sizes, purged in (("session", [216, 171], [0, 0]),  # two days
                              ("recording", [100, 96, 91, 100], [25, 26, 18, 34])):  # neighbours share up to 24 s
        validated, infos = [], []
        for fold in range(len(sizes)):
            project.set({"coco": {"split_by": by, "folds": len(sizes), "fold": fold}})
            assert f"fold {fold} of {len(sizes)}" in project.run("coco").stdout
            validated += [image["id"] for image in annotations(project, "val.json")["images"]]
            infos.append(annotations(project, "dataset_info.json"))
        assert len(validated) == len(set(validated)) == 387
        assert [info["val"]["images"] for info in infos] == sizes and [info["purged"]["images"] for info in infos] == purged
        assert all(info["val"]["classes"]["lying down-lying with risk"] > 60 for info in infos)
    project.set({"coco": {"split_by": "session", "folds": 3, "fold": 0}})
    assert "finds only 2 groups in 387 keyframes: choose at most 2 folds" in project.refusal("coco")
