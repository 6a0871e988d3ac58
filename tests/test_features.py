"""python -m pytest tests/test_features.py

Without these, features could be those of other moments than they are taken for, or of other windows than the model was trained
on, and actions could be missing, or elsewhere, in what a model of whole recordings learns and is scored on.
"""

import hashlib
import json
import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

import features
from conftest import ROOT, Project, call
from test_predict import INFO, SHAPE, put_model
from thermal_action import InputError
from thermal_action.augmentation.window import Window
from thermal_action.features import count_columns, cut_chunks, describe, nearest_windows, open_model, write_rows
from thermal_action.recordings import Frames, write_recording
from thermal_action.spans import Span, cut_spans, merge_spans, read_timeline
from thermal_action.streams import Frame, slide
from thermal_action.torch_file import TorchModel
from thermal_action.transforms import ThermalActionTransform
from thermal_action.windows import Windowing
from tiny import SEVEN_ACTIONS

torch.set_num_threads(1)
START, SIZE, STEP_MS = 1_760_639_220_000, (16, 16), 4000 / 6
HEADS = {"crop": SHAPE, "roi": SHAPE | {"head": "roi"}, "clip": SHAPE | {"head": "clip"}}
LEAST = 0.4


def times(count: int, seed: int = 0) -> np.ndarray:
    """Frames 35 to 300 ms apart, and a gap of five seconds in the middle."""
    gaps = np.random.default_rng(seed).integers(35, 300, count)
    gaps[0], gaps[count // 2] = 0, 5000
    return START + np.cumsum(gaps)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """A warm blob that wanders through a room."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    places = 8 + np.cumsum(rng.normal(0, 0.3, (count, 2)), axis=0).clip(-6, 6)
    blobs = 8 * np.exp(-((rows - places[:, 0, None, None]) ** 2 + (columns - places[:, 1, None, None]) ** 2) / 6)
    return (18 + blobs + rng.normal(0, 0.2, blobs.shape)).astype(np.float32)


def stream(frames: np.ndarray, stamps: np.ndarray) -> list[Frame]:
    return [Frame(int(stamp), frame, 0) for stamp, frame in zip(stamps, frames, strict=True)]


def windowing(**changes) -> Windowing:
    return Windowing(**INFO["window"] | changes)


def rows_of(model: TorchModel, frames: list[Frame], batch: int = 8) -> np.ndarray:
    return np.stack(list(describe(model, frames, STEP_MS, least=LEAST, batch=batch)))


# the clock

@pytest.mark.parametrize("step_ms", [170.0, STEP_MS, 2000.0])
@pytest.mark.parametrize("keyframe", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sampling", ["consecutive", "uniform_time"])
def test_every_step_has_the_window_around_the_frame_nearest_to_its_middle(step_ms, keyframe, sampling):
    frames, stamps = pictures(120), times(120)
    trained = windowing(keyframe=keyframe, sampling=sampling)
    found = list(nearest_windows(slide(stream(frames, stamps), trained, 1), step_ms))
    middles = stamps[0] + (np.arange(1000) + 0.5) * step_ms
    middles = middles[middles <= stamps[-1]]
    assert len(found) == len(middles) == int((stamps[-1] - stamps[0]) / step_ms + 0.5)
    for window, middle in zip(found, middles, strict=True):
        nearest = int(np.abs(stamps - middle).argmin())
        assert window.number == nearest and np.array_equal(window.frames, frames[trained.frames(stamps, nearest)])
    in_the_gap = [window.number for window in found if abs(window.number - 60) <= 1]
    assert len(in_the_gap) >= 5000 // step_ms, "time goes on where no frame came"


def test_what_is_bright_for_a_while_is_so_in_the_rows_of_those_times(tmp_path):
    # a window of two frames shows the moment alone; ActionFormer has feature i at (i * stride + num_frames / 2) / fps
    path = put_model(tmp_path / "best.pt", model=HEADS["clip"], window=INFO["window"] | {"length": 2, "keyframe": 1.0})
    model = TorchModel(path, "cpu")
    frames, stamps = pictures(200), times(200)
    usual = rows_of(model, stream(frames, stamps))
    for first, last in ((20, 50), (120, 160)):
        bright = frames.copy()
        bright[first : last + 1] += 20 * (np.arange(16) % 2)
        change = np.abs(rows_of(model, stream(bright, stamps)) - usual).max(axis=1)
        told = (np.flatnonzero(change > change.max() / 10) * 4 + 0.5 * 4) / 6
        begin, end = (stamps[[first, last]] - stamps[0]) / 1000  # frames are 0.3 s apart at most, and the last one is seen twice
        assert begin - 0.15 <= told[0] < begin + STEP_MS / 1000 and end - STEP_MS / 1000 < told[-1] <= end + 0.45


def test_memory_does_not_grow_with_the_recording(tmp_path):
    model = TorchModel(put_model(tmp_path / "best.pt"), "cpu")

    def frames(count):
        shown = pictures(50)
        return (Frame(START + 170 * number, shown[number % 50].copy(), 0) for number in range(count))

    peaks = []
    for count in (300, 1500):
        tracemalloc.start()
        with open(tmp_path / "rows.npy", "wb") as file:
            rows = describe(model, frames(count), 2 * STEP_MS, least=0.99, batch=8)
            write_rows(file, rows, sum(count_columns(model).values()))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# the rows

@pytest.mark.parametrize("head", HEADS)
def test_a_row_is_the_largest_of_what_the_classifier_reads_of_the_persons(head, tmp_path):
    model = TorchModel(put_model(tmp_path / "best.pt", model=HEADS[head]), "cpu")
    untouched = TorchModel(put_model(tmp_path / "same.pt", model=HEADS[head]), "cpu").model
    frames, stamps = pictures(60), times(60)
    rows = rows_of(model, stream(frames, stamps))
    parts = list(count_columns(model).items())
    assert [name for name, _ in parts] == ["description", "persons", "probabilities"] and parts[-1][1] == 7
    assert rows.dtype == np.float32 and rows.shape[1] == sum(count for _, count in parts)
    nobody = np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
    step = len(rows) // 3
    nearest = int(np.abs(stamps - stamps[0] - (step + 0.5) * STEP_MS).argmin())
    cut = frames[windowing().frames(stamps, nearest)]
    tensor = ThermalActionTransform(False, **INFO["transform"])(Window(cut, *nobody))[0][None]
    with torch.no_grad():
        boxes = untouched.find(tensor, LEAST)[0][0] if head != "clip" else torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        descriptions, logits = untouched.features(tensor, [boxes]), untouched(tensor, [boxes])
    expected = torch.cat([descriptions.amax(dim=0), torch.tensor([float(len(boxes))]), logits.softmax(dim=1).amax(dim=0)])
    assert len(boxes) >= 1 and rows[step] == pytest.approx(expected.numpy(), abs=1e-4)


def test_several_persons_make_one_row_and_nobody_a_row_of_zeros(tmp_path):
    model = TorchModel(put_model(tmp_path / "best.pt"), "cpu")
    frames = stream(pictures(60), times(60))
    persons = rows_of(model, frames)[:, count_columns(model)["description"]]
    assert persons.max() > 1, "the detector of the test finds too few"
    (empty, *_) = describe(model, frames, STEP_MS, least=0.9999, batch=8)
    assert not empty.any()


def test_rows_do_not_depend_on_what_is_looked_at_together(tmp_path):
    model = TorchModel(put_model(tmp_path / "best.pt"), "cpu")
    frames = stream(pictures(60), times(60))
    assert rows_of(model, frames, batch=1) == pytest.approx(rows_of(model, frames, batch=5), abs=1e-5)


def test_random_weights_describe_the_same_persons_otherwise(tmp_path):
    path = put_model(tmp_path / "best.pt")
    trained, first, again, other = (open_model(path, "cpu", weights, seed)
                                    for weights, seed in (("trained", 7), ("random", 7), ("random", 7), ("random", 8)))
    frames = stream(pictures(60), times(60))
    rows = [rows_of(model, frames) for model in (trained, first, again, other)]
    place = count_columns(trained)["description"]
    assert np.array_equal(rows[1], rows[2]) and not np.allclose(rows[1], rows[3]) and not np.allclose(rows[1], rows[0])
    assert all(np.array_equal(each[:, place], rows[0][:, place]) for each in rows)


def test_rows_are_a_file_that_numpy_reads(tmp_path):
    rows = np.random.default_rng(0).normal(size=(1234, 5)).astype(np.float32)
    with open(tmp_path / "streamed.npy", "wb") as file:
        assert write_rows(file, iter(rows), 5) == 1234
    np.save(tmp_path / "saved.npy", rows)
    assert (tmp_path / "streamed.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    with open(tmp_path / "empty.npy", "wb") as file:
        assert write_rows(file, iter(()), 5) == 0
    assert np.load(tmp_path / "empty.npy").shape == (0, 5)


@pytest.mark.parametrize(("steps", "longest", "shared"), [(10, 10, 3), (11, 10, 0), (100, 10, 5), (1, 1, 0), (7, 3, 1)])
def test_chunks_cover_a_recording_and_overlap(steps, longest, shared):
    chunks = list(cut_chunks(steps, longest, shared))
    assert chunks[0][0] == 0 and chunks[-1][1] == steps and all(0 < end - start <= longest for start, end in chunks)
    assert all(before[1] - after[0] == shared and after[1] > before[1] for before, after in pairwise(chunks))


# the stage

@pytest.fixture
def place(project: Project, monkeypatch) -> Project:
    """A project with a model and two recordings, and the parameters of pipelines/localization."""
    own = YAML(typ="safe").load(ROOT / "pipelines/localization/params.yaml")
    project.set({"features": own["features"] | {"score": LEAST}, "segments": own["segments"], "classes": SEVEN_ACTIONS})
    put_model(project.folder / "best.pt")
    for seed, name in enumerate(("R1", "R2")):
        write(project.folder / f"frames/{name}.h5", times(120, seed), pictures(120, seed))
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("sys.argv", ["features.py", "best.pt", "frames"])
    return project


def write(path: Path, stamps: np.ndarray, frames: np.ndarray) -> None:
    block = Frames(stamps, np.arange(len(stamps)), frames, np.zeros(len(stamps), int))
    write_recording(path, [block], sensor_id=path.stem, mac_address="02:00:00:00:00:01", compression="gzip", level=1)


def manifest() -> dict:
    return json.loads(Path("data/features/manifest.json").read_text())


def test_the_manifest_says_what_the_files_are(place, capsys):
    features.main()
    said = manifest()
    assert (said["fps"], said["stride"], said["num_frames"]) == (6.0, 4, 4) and said["classes"] == SEVEN_ACTIONS
    assert said["model"] == {"sha256": hashlib.sha256(Path("best.pt").read_bytes()).hexdigest(), "name": "thermal_tiny",
                             "head": "crop", "weights": "trained", "seed": 42, "score": LEAST}
    model = TorchModel("best.pt", "cpu")
    for seed, name in enumerate(("R1", "R2")):
        stored, stamps = np.load(f"data/features/{name}.npy"), times(120, seed)
        assert stored.dtype == np.float32 and np.array_equal(stored, rows_of(model, stream(pictures(120, seed), stamps)))
        assert stored.shape == (said["files"][name]["steps"], sum(part["count"] for part in said["columns"]))
        assert said["files"][name] == {"recording": name, "first_ms": START, "start_s": 0.0, "steps": len(stored),
                                       "duration": (stamps[-1] - START) / 1000}
    assert "in 2 files" in capsys.readouterr().out


def test_the_same_bytes_on_every_run(place):
    contents = []
    for _ in range(2):
        features.main()
        contents.append({path.name: path.read_bytes() for path in Path("data/features").iterdir()})
    assert contents[0] == contents[1] and len(contents[0]) == 3


def test_a_long_recording_is_cut_into_chunks_of_the_same_rows(place):
    features.main()
    whole = np.load("data/features/R1.npy")
    place.set({"features": {"chunk_s": 10.0, "overlap_s": 4.0}})
    features.main()
    files, duration = manifest()["files"], (times(120)[-1] - START) / 1000
    own = {name: file for name, file in files.items() if file["recording"] == "R1"}
    assert len(own) == 4 and {path.stem for path in Path("data/features").glob("*.npy")} == files.keys()
    for name, file in own.items():
        start = round(file["start_s"] * 6 / 4)
        assert name == f"R1@{file['start_s']:.0f}" and file["duration"] <= 10.0 and file["steps"] <= 15
        assert np.array_equal(np.load(f"data/features/{name}.npy"), whole[start : start + file["steps"]])
    last = max(own.values(), key=lambda file: file["start_s"])
    assert last["start_s"] + last["duration"] == pytest.approx(duration)


def make_short() -> None:
    write(Path("frames/R3.h5"), START + np.array([0, 170]), pictures(2))


def make_small() -> None:
    write(Path("frames/R3.h5"), times(20), pictures(20)[:, :8])


@pytest.mark.parametrize(("spoil", "changes", "told"), [
    (lambda: Path("best.pt").unlink(), {}, "best.pt does not exist: run `dvc repro train` or `dvc pull`"),
    (lambda: Path("best.pt").write_bytes(b"none"), {}, "best.pt is no whole checkpoint"),
    (lambda: shutil.rmtree("frames"), {}, "frames does not exist: give the path of a recording"),
    (make_small, {}, "frames of R3 have 8 x 16 pixels, the model sees 16 x 16"),
    (make_short, {}, "R3 is shorter than half a step of 0.667 s: leave it out"),
    (lambda: None, {"overlap_s": 301.0}, "features.overlap_s 301 is more than half of features.chunk_s 600"),
    (lambda: None, {"stride": 9}, "features.stride = 9: input should be less than or equal to 8"),
    (lambda: None, {"weights": "good"}, "features.weights = \"good\": input should be 'trained' or 'random'"),
])
def test_bad_input_is_one_sentence_and_leaves_nothing(place, spoil, changes, told):
    spoil()
    place.set({"features": changes})
    with pytest.raises(InputError) as refused:
        features.main()
    assert told in str(refused.value) and not Path("data/features").exists()


def test_the_script_ends_with_that_sentence(place):
    Path("best.pt").unlink()
    process = call("features", "best.pt", "frames", apart=True)
    assert process.returncode == 2 and process.stderr.splitlines()[-1].startswith("features.py: best.pt does not exist")


# what really happened

def spans(*rows: tuple) -> list[Span]:
    return [Span(*row) for row in rows]


def test_who_does_the_same_at_once_does_it_once():
    found = merge_spans(spans((0, 4, "walking"), (3, 6, "walking"), (6, 7, "walking"), (8, 9, "walking"), (1, 2, "sitting")))
    assert found == spans((0, 7, "walking"), (1, 2, "sitting"), (8, 9, "walking"))
    within = merge_spans(spans((0, 9, "walking"), (3, 4, "walking")))
    assert within == spans((0, 9, "walking")) and merge_spans([]) == []


def test_a_chunk_has_what_happens_in_it_from_its_own_start_on():
    happened = spans((0, 8, "walking"), (9, 13, "sitting"), (14, 30, "lying"), (18, 22, "falling"), (19.5, 22, "kneeling"))
    found = list(cut_spans(happened, 10, 10, 0.5))
    # three quarters, more than half of the chunk, half of it; a fifth is too little
    assert found == spans((0, 3, "sitting"), (4, 10, "lying"), (8, 10, "falling"))
    assert list(cut_spans(spans((0, 100, "lying")), 40, 10, 0.5)) == spans((0, 10, "lying"))
    assert list(cut_spans(happened, 0, 30, 0.5)) == happened


def test_a_time_line_counts_from_the_first_frame_to_the_last(tmp_path):
    path = put_timeline(tmp_path / "R1.json", [(500, 2000, "walking"), (2000, 90_000, "sitting")], [(90_000, 95_000, "walking")])
    assert read_timeline(path, START + 1000, 60.0) == spans((0, 1, "walking"), (1, 60, "sitting"))
    path.write_text('{"persons": [{"segments": [{"start_ms": 1, "label": "walking"}]}]}')
    with pytest.raises(InputError, match=r"R1.json: persons.0.segments.0.end_ms is missing; the fetch stage did not write that"):
        read_timeline(path, 0, 60.0)


def put_timeline(path: Path, *persons: list[tuple[int, int, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"recording": path.stem, "persons": [
        {"object_id": number, "segments": [{"start_ms": START + start, "end_ms": START + end, "label": label}
                                           for start, end, label in did]} for number, did in enumerate(persons)]}))
    return path


def put_inputs(**recordings: dict) -> None:
    """A manifest and the segments of coco; recordings: name -> changes of what coco says of it."""
    about = {"duration": 60.0, "subset": "training", "annotations": []}
    for path, document in (("features/manifest.json", {"fps": 6.0, "stride": 4, "files": {
            name: {"recording": name, "first_ms": START, "start_s": 0.0, "duration": 60.0} for name in recordings}}),
            ("annotations/segments.json", {"taxonomy": SEVEN_ACTIONS, "database": {
                name: about | changes for name, changes in recordings.items()}})):
        Path("data", path).parent.mkdir(parents=True, exist_ok=True)
        Path("data", path).write_text(json.dumps(document))


def test_segments_are_those_of_the_time_line_or_else_of_the_keyframes(place):
    run = {"segment": [3.0, 9.5], "label": "lying", "object_id": 0}
    alone = {"segment": [20.0, 20.0], "label": "other", "object_id": 0}
    put_inputs(R1={"annotations": [run]}, R2={"annotations": [run, run | {"object_id": 1}, alone], "subset": "validation"}, R3={})
    put_timeline(Path("data/raw/timeline/R1.json"), [(0, 2500, "walking"), (2500, 3000, "falling")], [(1000, 4000, "walking")],
                 [(1000, 9000, "flying")])
    told = place.run("segments", apart=True).stdout
    written = json.loads(Path("data/segments.json").read_text())
    assert written["taxonomy"] == [{"nodeId": number, "nodeName": name} for number, name in enumerate(SEVEN_ACTIONS)]
    assert written["database"]["R1"] == {"subset": "training", "fps": 6.0, "duration": 60.0, "annotations": [
        {"segment": [0.0, 4.0], "label": "walking", "label_id": 2}, {"segment": [2.5, 3.0], "label": "falling", "label_id": 4}]}
    assert written["database"]["R2"]["subset"] == "validation"
    assert written["database"]["R2"]["annotations"] == [{"segment": [3.0, 9.5], "label": "lying", "label_id": 3}]
    assert written["database"]["R3"]["annotations"] == []
    assert "3 in 3 files; 1 are shorter than a step of 0.667 s" in told and "1 more are of actions that are not in" in told


def test_a_recording_on_both_sides_or_without_features_stops_it(place):
    put_inputs(R1={"subset": "mixed"})
    assert "R1 is on both sides of the split: set coco.split_by" in place.refusal("segments")
    put_inputs(R1={}, R2={})
    both = Path("data/annotations/segments.json").read_text()
    put_inputs(R1={})
    Path("data/annotations/segments.json").write_text(both)
    assert "manifest.json has no recording R2: run `dvc repro features`" in place.refusal("segments")
    put_inputs()
    shutil.rmtree("data/features")
    assert "manifest.json does not exist: run `dvc repro features`" in place.refusal("segments")


def test_features_and_segments_of_a_prepared_project(prepared, monkeypatch):
    # the stages together: what hdf5 and coco write is what these two read
    own = YAML(typ="safe").load(ROOT / "pipelines/localization/params.yaml")
    prepared.set({"features": own["features"], "segments": own["segments"]})
    monkeypatch.chdir(prepared.folder)
    put_model(prepared.folder / "best.pt")
    monkeypatch.setattr("sys.argv", ["features.py", "best.pt", "data/frames"])
    features.main()
    prepared.run("segments")
    database = json.loads(Path("data/segments.json").read_text())["database"]
    assert database.keys() == manifest()["files"].keys() == {"D0_S0", "D0_S1", "D1_S0", "D1_S1"}
    assert {entry["subset"] for entry in database.values()} == {"training", "validation"}
    for entry in database.values():
        ends = [segment["segment"][1] for segment in entry["annotations"]]
        assert len(ends) == 3 and 0 < max(ends) <= entry["duration"]
