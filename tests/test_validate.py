"""pytest tests/test_validate.py - a broken data set stops here and not after a night of training."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

import validate
from thermal_action import scans
from thermal_action.annotations import Sample
from thermal_action.checks import find_conflicts, shared_windows
from thermal_action.recordings import CHUNK_FRAMES, Recording
from thermal_action.scans import box_contrast, find_dead_pixels
from thermal_action.windows import Windowing


def report(project):
    return json.loads((project.folder / "metrics/validation_report.json").read_text())


def change_annotations(project, side, change):
    path = project.folder / f"data/annotations/{side}.json"
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))


def change_frames(project, name, change):
    with h5py.File(project.folder / f"data/frames/{name}.h5", "r+") as file:
        change(file)


def test_a_sound_data_set_passes_and_is_described(prepared):
    prepared.run("validate", apart=True)
    found = report(prepared)
    assert found["ok"] and not found["problems"] and found["counts"]["frames"] == 480
    assert found["counts"]["shared_between_sides"]["frames"] == 0
    stats = json.loads((prepared.folder / "metrics/dataset_stats.json").read_text())
    assert stats["train"]["persons"] + stats["val"]["persons"] == 60 and 5 < stats["contrast_median_c"]["walking"] < 9
    pictures = sorted((prepared.folder / "metrics/validation").glob("*.png"))
    assert len(pictures) == 2 and all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    before = (prepared.folder / "metrics/validation_report.json").read_bytes(), pictures[0].read_bytes()
    prepared.run("validate")
    assert before == ((prepared.folder / "metrics/validation_report.json").read_bytes(), pictures[0].read_bytes())


def test_what_was_scanned_is_not_read_again_unless_it_changed(prepared, monkeypatch):
    # a hundred recordings would be read again for the sake of one; or an altered one would pass for the one that was scanned
    monkeypatch.chdir(prepared.folder)
    prepared.set({"validate": {"num_samples": 0}})
    read = []
    scan = scans.scan_recording
    monkeypatch.setattr(scans, "scan_recording", lambda recording, *rest, **options: (
        read.append(recording.path.stem), scan(recording, *rest, **options))[1])

    def run_validate():
        read.clear()
        validate.main()
        return list(read), [(prepared.folder / f"metrics/{name}.json").read_bytes()
                            for name in ("validation_report", "dataset_stats")]

    validate.main()  # the code that has been loaded counts, and a first run loads some as it goes
    shutil.rmtree(prepared.folder / ".scratch")
    names, fresh = run_validate()
    assert names == ["D0_S0", "D0_S1", "D1_S0", "D1_S1"]
    assert run_validate() == ([], fresh)
    change_frames(prepared, "D1_S0", lambda file: file["frames"].__setitem__((slice(9), 3, 3), 30))
    names, altered = run_validate()
    assert names == ["D1_S0"] and altered != fresh
    shutil.rmtree(prepared.folder / ".scratch")
    assert run_validate()[1] == altered
    assert run_validate() == (["D1_S0"], altered)  # it is not what the hdf5 stage wrote
    prepared.set({"validate": {"limits": {"dead_pixel_c": 4.0}}})
    assert len(run_validate()[0]) == 4


def test_a_frame_on_both_sides_stops_the_pipeline(prepared):
    train = json.loads((prepared.folder / "data/annotations/train.json").read_text())
    moved = train["images"][0]
    change_annotations(prepared, "val", lambda coco: coco["images"].append(moved | {"id": "moved"}))
    assert prepared.run("validate", check=False).returncode == 1
    found = report(prepared)
    assert not found["ok"] and any("leaks" in problem for problem in found["problems"])
    assert found["counts"]["shared_between_sides"]["val_windows"] == 1


def test_the_keyframe_split_leaks_and_only_its_share_is_reported(prepared):
    prepared.set({"coco": {"split_by": "keyframe"}})
    prepared.run("coco", "validate")
    found = report(prepared)
    assert found["ok"] and found["counts"]["shared_between_sides"]["val_windows_share"] == 1.0
    assert any("leaky split keyframe" in warning for warning in found["warnings"])


@pytest.mark.parametrize(("change", "words"), [
    (lambda file: file["timestamps"].__setitem__(50, int(file["timestamps"][49])), "do not strictly increase"),
    (lambda file: file["lost_pixels"].__setitem__(slice(0, 70), 9), "had lost pixels"),
    (lambda file: file["frames"].__setitem__(slice(20, 40), file["frames"][20]), "repeat the one before"),
    (lambda file: file["timestamps"].__setitem__(slice(60, None), file["timestamps"][60:] + 900_000), "no frame within"),
])
def test_broken_recordings_are_problems(prepared, change, words):
    change_frames(prepared, "D0_S0", change)
    assert prepared.run("validate", check=False).returncode == 1
    assert any(words in problem for problem in report(prepared)["problems"]), report(prepared)


@pytest.mark.parametrize(("change", "words"), [
    (lambda coco: [person.update(bbox=[0.05, 0.05, 0.09, 0.09]) for person in coco["annotations"]], "warmer than their"),
    (lambda coco: coco["annotations"][0].update(bbox=[1.2, 0.5, 0.1, 0.1]), "pixels inside the frame"),
    (lambda coco: coco["annotations"].append(coco["annotations"][0] | {"id": 999}), "have the object_id"),
    (lambda coco: coco["annotations"].clear(), "has no person"),
])
def test_broken_annotations_are_problems(prepared, change, words):
    change_annotations(prepared, "train", change)
    assert prepared.run("validate", check=False).returncode == 1
    assert any(words in problem for problem in report(prepared)["problems"]), report(prepared)


def test_dead_pixels_and_damage_are_counted(prepared):
    def damage(file):
        file["frames"][:, 3, 4] = 9.0
        file["lost_pixels"][7] = 31

    change_frames(prepared, "D1_S0", damage)
    prepared.run("validate")
    counts = report(prepared)["counts"]
    assert counts["dead_pixels"]["D1_S0"][0][:2] == [3, 4]
    assert (counts["damaged_frames"], counts["lost_pixels"]) == (1, 31)


def test_a_recording_that_is_missing_is_named(prepared):
    info = json.loads((prepared.folder / "data/frames/sensor_info.json").read_text())
    (prepared.folder / "data/frames/sensor_info.json").write_text(json.dumps({k: v for k, v in info.items() if k != "D0_S0"}))
    assert "has no recording D0_S0" in prepared.refusal("validate")


def test_the_windows_that_a_scan_keeps_are_those_that_a_reader_gets(prepared):
    # else the pictures would show other frames than the model is trained on
    windowing = Windowing(length=200, sampling="consecutive", period_ms=170.0, keyframe=0.5)
    with Recording(prepared.folder / "data/frames/D0_S0.h5") as recording:
        times = recording.timestamps
        wanted = {f"{length}_{centre}": replace(windowing, length=length).frames(times, centre)
                  for length in (2, 64, 200) for centre in (0, CHUNK_FRAMES - 1, CHUNK_FRAMES, len(times) - 1)}
        wanted["backwards"] = np.array([len(times) - 1, CHUNK_FRAMES, CHUNK_FRAMES - 1, 0, 0])
        scan = scans.scan_recording(recording, [], 3.0, wanted=wanted)
        assert len(times) > CHUNK_FRAMES and scan.windows.keys() == wanted.keys()
        for name, indices in wanted.items():
            assert np.array_equal(scan.windows[name], recording.read(indices)), name


def test_contrast_is_person_less_ring():
    frame = np.full((20, 30), 18.0)
    frame[8:12, 10:16] = 26.0
    assert box_contrast(frame, np.array([10 / 30, 8 / 20, 16 / 30, 12 / 20])) == pytest.approx(8)
    assert box_contrast(frame, np.array([0.7, 0.1, 0.8, 0.2])) == pytest.approx(0)


def test_a_gradient_and_an_edge_are_no_dead_pixels():
    rows, columns = np.mgrid[:20, :30]
    mean = 18 + 0.5 * rows + 0.8 * columns
    mean[:, 20:] += 10  # a heater begins
    spread = np.full(mean.shape, 0.2)
    assert find_dead_pixels(mean, spread, 3) == []
    mean[10, 7] -= 5
    spread[15, 3] = 0
    assert [pixel[:2] for pixel in find_dead_pixels(mean, spread, 3)] == [(10, 7), (15, 3)]


def sample(name, time, labels, object_ids, boxes, mac="m"):
    return Sample(name, "R", mac, time, 0, 60, 40, np.array(boxes, np.float32), np.array(labels), np.array(object_ids))


def test_one_person_with_two_labels_is_a_conflict_and_two_persons_are_not():
    box, elsewhere = [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]
    _, labels = find_conflicts([sample("a", 5, [0], [1], [box]), sample("b", 5, [1], [1], [box])], ["sit", "stand"])
    assert len(labels) == 1 and "'sit'" in labels[0] and "'stand'" in labels[0]
    for other in (sample("b", 5, [1], [2], [elsewhere]), sample("b", 6, [1], [1], [box]), sample("b", 5, [1], [1], [box], "n")):
        assert find_conflicts([sample("a", 5, [0], [1], [box]), other], ["sit", "stand"]) == ([], [])
    identity, _ = find_conflicts([sample("a", 5, [0, 1], [1, 1], [box, elsewhere])], ["sit", "stand"])
    assert len(identity) == 1


def test_shared_windows_are_compared_by_device_and_time():
    train = [sample("a", 1, [0], [0], [[0, 0, 1, 1]])]
    val = [sample("b", 2, [0], [0], [[0, 0, 1, 1]]), sample("c", 2, [0], [0], [[0, 0, 1, 1]], mac="n")]
    assert shared_windows(train, val, lambda sample: np.array([10, 20, 30])) == {
        "frames": 3, "val_windows": 1, "val_windows_share": 0.5}


def test_the_real_recordings_show_their_208_damaged_and_their_shared_frames(project, thermal_v1):
    project.set({"fetch": {"source": "archive", "archive": {"location": str(thermal_v1), "sha256": None}},
                 "validate": {"num_samples": 0}})
    project.run("fetch", "hdf5", "coco", "validate")
    counts = report(project)["counts"]
    assert (counts["damaged_frames"], counts["frames"]) == (208, 3976)
    shared = {tuple(pair["recordings"]): pair["frames"] for pair in counts["shared_between_recordings"]}
    assert shared == {("SL14_R1", "SL14_R2"): 141, ("SL14_R2", "SL14_R3"): 142, ("SL14_R3", "SL14_R4"): 140,
                      ("SL18_R1", "SL18_R2"): 144, ("SL18_R2", "SL18_R3"): 147, ("SL18_R3", "SL18_R4"): 151}
    assert all([29, 7] in [pixel[:2] for pixel in pixels] for pixels in counts["dead_pixels"].values())
    assert len(counts["dead_pixels"]) == 8
