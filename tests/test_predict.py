"""python -m pytest tests/test_predict.py

Without these, a user could get predictions of other windows, other persons or half a recording, or a traceback for bad input.
"""

import csv
import json
import pickle
import subprocess
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from conftest import call
from thermal_action import InputError
from thermal_action.augmentation.window import Window
from thermal_action.models import build_model
from thermal_action.moments import Abstention, observe_all, read_moments
from thermal_action.overlay import draw_frames
from thermal_action.recogniser import ThermalActionRecognizer
from thermal_action.recordings import Recording
from thermal_action.streams import Frame, open_streams
from thermal_action.training.checkpoints import save_model
from thermal_action.transforms import ThermalActionTransform
from tiny import SEVEN_ACTIONS, write_archive

torch.set_num_threads(1)
SHAPE = {"name": "thermal_tiny", "spatial_stride": 4, "head": "crop", "hidden": 8, "crop_px": 12, "backbone": {"width": 4}}
INFO = {"model": SHAPE, "classes": SEVEN_ACTIONS, "frame_size": [16, 16], "training": {},
        "window": {"length": 16, "sampling": "consecutive", "period_ms": 170.0, "keyframe": 0.5},
        "transform": {"temperature_range": (5.0, 45.0), "background": "window_median"}}


def put_model(path: Path, **changes) -> Path:
    """Random weights, with a detector that takes the warmest cells for persons."""
    info = INFO | changes
    torch.manual_seed(0)
    model = build_model(**info["model"], num_classes=len(info["classes"]))
    if model.detector is not None:
        with torch.no_grad():
            model.detector.out.bias[4] = 0.5
    save_model(path, model, info)
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Two recordings of the tiny archive."""
    folder = tmp_path_factory.mktemp("archive")
    return write_archive(folder, devices=1, frames=60) / "frames"


@pytest.fixture
def model(tmp_path) -> Path:
    return put_model(tmp_path / "best.pt")


def windows(recordings: Path, count: int = 3) -> np.ndarray:
    with Recording(recordings / "D0_S0.h5") as recording:
        return np.stack([recording.read(slice(4 * number, 4 * number + 16)) for number in range(count)])


def run_predict(*arguments: object, check: bool = True, apart: bool = False) -> subprocess.CompletedProcess:
    process = call("predict", *arguments, apart=apart)
    assert not check or process.returncode == 0, process.stderr
    return process


# the recogniser

def test_what_it_says_is_what_the_model_says_of_the_window_as_trained(recordings, model):
    recognizer = ThermalActionRecognizer(model, score=0.4)
    frames = windows(recordings)[1]
    persons = recognizer.detect(frames)
    network = recognizer.model.model
    nobody = np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
    tensor = ThermalActionTransform(False, **INFO["transform"])(Window(frames, *nobody))[0][None]
    with torch.no_grad():
        ((boxes, scores, on_bed),) = network.find(tensor, 0.4)
        expected = network(tensor, [boxes]).softmax(dim=1)
    assert len(persons) == len(boxes) > 0
    for person, box, score, share, row in zip(persons, boxes, scores, on_bed, expected, strict=True):
        assert person.box == pytest.approx(box.tolist(), abs=1e-6) and person.score == pytest.approx(float(score), abs=1e-6)
        assert person.on_bed == pytest.approx(float(share), abs=1e-6)
        assert person.probabilities == pytest.approx(row.numpy(), abs=1e-5)
    label, confidence, top = recognizer.predict(frames)
    assert label == top[0][0] == SEVEN_ACTIONS[persons[0].action] and confidence == top[0][1] and len(top) == 3
    assert [value for _, value in top] == sorted((value for _, value in top), reverse=True)


def test_windows_together_and_alone_are_told_the_same(recordings, model):
    recognizer = ThermalActionRecognizer(model)
    together = recognizer.detect_all(windows(recordings))
    for frames, persons in zip(windows(recordings), together, strict=True):
        alone = recognizer.detect(frames)
        assert np.allclose([person.box for person in alone], [person.box for person in persons], atol=1e-5)


def test_nobody_found_is_no_label(recordings, model):
    recognizer = ThermalActionRecognizer(model, score=0.9999)
    assert recognizer.detect(windows(recordings)[0]) == [] and recognizer.predict(windows(recordings)[0]) == (None, 0.0, [])


def test_a_model_of_clips_labels_the_whole_picture(recordings, tmp_path):
    recognizer = ThermalActionRecognizer(put_model(tmp_path / "clip.pt", model=SHAPE | {"head": "clip"}))
    (person,) = recognizer.detect(windows(recordings)[0])
    assert person.box == (0, 0, 1, 1) and person.score == 1 and len(person.probabilities) == 7


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda frames: frames[:8], r"have the shape \(8, 16, 16\), the model was trained on \(16, 16, 16\)"),
    (lambda frames: frames[:, :, :8], r"have the shape \(16, 16, 8\)"),
    (lambda frames: np.where(frames == frames.max(), np.nan, frames), "hold NaN or infinity"),
    (lambda frames: frames * 0, "are 0 C everywhere and no picture"),
])
def test_frames_that_are_none_are_refused(recordings, model, spoil, told):
    with pytest.raises(InputError, match=told):
        ThermalActionRecognizer(model).detect(spoil(windows(recordings)[0]))


def test_damaged_windows_are_passed_over_and_it_says_why(recordings, model):
    (stream,) = open_streams(recordings / "D0_S0.h5", (16, 16))
    frames = [Frame(frame.time + 9000 * (number >= 40), frame.picture, 5 * (number in (0, 1, 2, 3, 4)))
              for number, frame in enumerate(stream.frames)]
    moments = list(observe_all(ThermalActionRecognizer(model), "R", frames, every=1, batch=4, abstention=Abstention(0.3, 6.0)))
    assert len(moments) == 60
    silent = [number for number, moment in enumerate(moments) if moment.abstained]
    # at the beginning the first frame repeats: of window 0 nine frames and four more lost pixels
    assert silent[0] == 0 and moments[0].abstained == "81% of its frames lost pixels" and not moments[0].persons
    assert set(range(33, 48)) <= set(silent) and "9.2 s without a frame" in moments[35].abstained.replace("9.1", "9.2")
    assert not moments[20].abstained and not moments[55].abstained


# the script

def test_a_folder_of_recordings_is_predicted_and_written_down_twice(recordings, model, tmp_path):
    out = tmp_path / "out"
    told = run_predict(model, recordings, "--out", out, "--every", 6, "--score", 0.5, apart=True).stdout
    assert sorted(path.name for path in out.iterdir()) == ["D0_S0.csv", "D0_S0.jsonl", "D0_S1.csv", "D0_S1.jsonl"]
    records = [json.loads(line) for line in (out / "D0_S0.jsonl").read_text().splitlines()]
    with Recording(recordings / "D0_S0.h5") as recording:
        assert [record["time_ms"] for record in records] == recording.timestamps[::6].tolist()
    assert "predict: 20 moments with" in told and all(record["known_ms"] >= record["time_ms"] for record in records)
    with open(out / "D0_S0.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    persons = [person for record in records for person in record["persons"]]
    assert len(rows) == len(persons) > 0
    for row, person in zip(rows, persons, strict=True):
        assert row["label"] == person["label"] == max(person["probabilities"], key=person["probabilities"].get)
        assert float(row["x1"]) == person["box"][0] and int(row["id"]) == person["id"] >= 1
        assert sum(person["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    moments = read_moments(out / "D0_S0.jsonl")
    assert [len(moment.persons) for moment in moments] == [len(record["persons"]) for record in records]


def test_the_same_recording_gives_the_same_bytes(recordings, model, tmp_path):
    for name in ("one", "two"):
        run_predict(model, recordings / "D0_S0.h5", "--out", tmp_path / name)
    for suffix in ("jsonl", "csv"):
        one, two = ((tmp_path / name / f"D0_S0.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_film_has_a_picture_for_every_frame(recordings, model, tmp_path, kind):
    run_predict(model, recordings / "D0_S0.h5", "--out", tmp_path, "--film", kind)
    path = tmp_path / f"D0_S0.{kind}"
    if kind == "gif":
        with Image.open(path) as film:
            assert film.n_frames == 30 and film.size[0] == 720
    else:
        with av.open(str(path)) as film:
            (stream,) = film.streams.video
            assert sum(1 for _ in film.decode(stream)) == 60 and stream.width == 720 and 4 < stream.average_rate < 8


def test_boxes_stand_where_the_persons_are(recordings, model):
    """In the colour of their action, on the picture and on the time line."""
    (stream,) = open_streams(recordings / "D0_S0.h5", (16, 16))
    frames = list(stream.frames)
    recognizer = ThermalActionRecognizer(model, score=0.5)
    observed = observe_all(recognizer, "R", frames, every=1, batch=8, abstention=Abstention())
    moments = [moment for moment in observed if moment.persons]
    plain, drawn = (np.asarray(next(draw_frames([frames[20]], shown, SEVEN_ACTIONS))).astype(int) for shown in ([], moments))
    changed = np.abs(drawn - plain).sum(axis=2) > 60
    moment = min(moments, key=lambda each: abs(each.time - frames[20].time))
    for person in moment.persons:
        x1, y1, x2, y2 = (round(720 * side) for side in person.box)
        assert changed[min(max(y1, 0), 719) : y1 + 3, x1:x2].mean() > 0.3 or y1 < 24
    assert changed[722:790].any()


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda folder: (folder / "best.pt").write_bytes(pickle.dumps({"model": print})), "is no whole checkpoint"),
    (lambda folder: torch.save({"state_dict": {}}, folder / "best.pt"), "is no model of this project"),
    (lambda folder: (folder / "best.pt").unlink(), "best.pt does not exist"),
    (lambda folder: write_damaged(folder / "R1.h5", lambda frames, times: frames.__setitem__((9, 2, 2), np.nan)), "holds NaN"),
    (lambda folder: write_damaged(folder / "R1.h5", lambda frames, times: frames.__setitem__(9, 0)), "and no picture"),
    (lambda folder: write_damaged(folder / "R1.h5", lambda frames, times: times.__setitem__(9, times[3])), "is not later than"),
    (lambda folder: write_damaged(folder / "R1.h5", size=(8, 8)), "have 8 x 8 pixels, the model sees 16 x 16"),
    (lambda folder: (folder / "R1.h5").write_bytes((folder / "R1.h5").read_bytes()[:900]), "is no whole HDF5 file"),
])
def test_bad_input_is_one_sentence_and_leaves_no_file(recordings, model, tmp_path, spoil, told):
    write_damaged(tmp_path / "R1.h5")
    spoil(tmp_path)
    process = run_predict(model, tmp_path / "R1.h5", "--out", tmp_path / "out", "--film", "gif", check=False)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert told in process.stderr.strip().splitlines()[-1]
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def write_damaged(path: Path, damage=lambda frames, times: None, size: tuple[int, int] = (16, 16)) -> None:
    frames, times = np.random.default_rng(0).normal(20, 3, (40, *size)).astype(np.float32), 1000 + 170 * np.arange(40)
    damage(frames, times)
    with h5py.File(path, "w") as file:
        file["frames"], file["timestamps"], file["frame_seqs"] = frames, times, np.arange(40)


def test_two_recordings_of_one_name_are_not_mixed_up(recordings, model, tmp_path):
    write_damaged(tmp_path / "D0_S0.h5")
    process = run_predict(model, recordings, tmp_path / "D0_S0.h5", "--out", tmp_path / "out", check=False)
    assert process.returncode == 2 and "both hold a recording D0_S0" in process.stderr
