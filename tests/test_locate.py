"""pytest tests/test_locate.py - without these, segments could be those of other features than the localizer has learned from, or
what is said while a recording goes on could know what is yet to come.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

pytest.importorskip("actionformer", reason="ActionFormer is not installed: `make localize`")

import features  # noqa: E402
import localize  # noqa: E402
import locate  # noqa: E402
from conftest import ROOT  # noqa: E402
from test_features import START, times, write  # noqa: E402
from test_localization import SMALL  # noqa: E402
from test_predict import INFO, put_model  # noqa: E402
from thermal_action import InputError  # noqa: E402
from thermal_action.features import Growing, describe, look_again, open_model  # noqa: E402
from thermal_action.files import read_json, write_json  # noqa: E402
from thermal_action.localization import templates  # noqa: E402
from thermal_action.localization.causal import Speaker, say  # noqa: E402
from thermal_action.localization.checkpoints import read_localizer, save  # noqa: E402
from thermal_action.localization.film import Spell, draw_spells  # noqa: E402
from thermal_action.localization.segments import Segment  # noqa: E402
from thermal_action.streams import Frame, open_streams  # noqa: E402

torch.set_num_threads(1)
CPU, SIZE = torch.device("cpu"), (16, 16)
ACTIONS = ["warm", "hot"]


def pictures(stamps: np.ndarray, seed: int) -> tuple[np.ndarray, list[dict]]:
    """A blob that is warm and hot for three to eight seconds in turn, with pauses of three to six, and when it was."""
    numbers = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    frames = 18 + numbers.normal(0, 0.2, (len(stamps), 16, 16))
    seconds, begin, actions = (stamps - stamps[0]) / 1000, 2.0, []
    while (end := begin + numbers.uniform(3, 8)) < seconds[-1]:
        label = len(actions) % 2
        inside = (seconds >= begin) & (seconds < end)
        frames[inside] += (6, 14)[label] * np.exp(-((rows - 8) ** 2 + (columns - 5 - 6 * label) ** 2) / 8)
        actions.append({"segment": [round(begin, 3), round(end, 3)], "label": ACTIONS[label], "label_id": label})
        begin = end + numbers.uniform(3, 6)
    return frames.astype(np.float32), actions


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with recordings, a model that has learned nothing, and a small localizer that has learned from what it sees."""
    folder = tmp_path_factory.mktemp("place")
    put_model(folder / "best.pt", classes=ACTIONS)
    database = {}
    for number in range(8):
        stamps = times(500, number)
        frames, actions = pictures(stamps, number)
        subset = "training" if number < 6 else "validation"
        write(folder / subset / f"R{number}.h5", stamps, frames)
        (folder / "frames").mkdir(exist_ok=True)
        (folder / f"frames/R{number}.h5").symlink_to(folder / subset / f"R{number}.h5")
        database[f"R{number}"] = {"subset": subset, "fps": 6.0, "annotations": actions, "duration": (stamps[-1] - START) / 1000}
    write_json(folder / "data/segments.json", {"database": database, "taxonomy": [{"nodeName": name} for name in ACTIONS]})
    params = YAML().load(ROOT / "pipelines/localization/params.yaml")
    params["features"]["score"] = 0.4
    params["localize"] |= {"epochs": 20, "lr": 4e-3, "max_seq_len": 128, "pictures": 0}
    params["runtime"] |= {"threads": 1, "device": "cpu"}
    YAML().dump(params, folder / "params.yaml")
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        thermal = templates.TEMPLATES["thermal"]
        patch.setitem(templates.TEMPLATES, "thermal", replace(thermal, changes=templates.over(thermal.changes, SMALL)))
        patch.setattr("sys.argv", ["features.py", "best.pt", "frames"])
        features.main()
        localize.main()
    torch.use_deterministic_algorithms(False)  # the package turns them on for the whole process
    return folder


def run_locate(place: Path, *arguments: object) -> str:
    command = [sys.executable, ROOT / "stages/locate.py", "best.pt", "models/localizer.pt", *map(str, arguments)]
    process = subprocess.run(command, cwd=place, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.returncode == 0, process.stderr
    return process.stdout


def main(place: Path, patch: pytest.MonkeyPatch, *arguments: object) -> None:
    patch.chdir(place)
    patch.setattr("sys.argv", ["locate.py", *map(str, arguments)])
    locate.main()


# when all is known

def test_segments_are_those_that_the_pipeline_predicted(place, tmp_path):
    told = run_locate(place, "validation", "--least", 0, "--out", tmp_path)
    predicted = read_json(place / "metrics/localization/predictions.json")
    scores = read_json(place / "metrics/localize.json")["actionformer"]
    assert scores["mAP@0.50"] > 0.5, "the test's localizer has learned nothing"
    documents = {path.stem: read_json(path) for path in tmp_path.glob("*.json")}
    assert documents.keys() == predicted.keys() == {"R6", "R7"}
    for name, found in predicted.items():
        assert [{key: each[key] for key in ("label", "score", "segment")} for each in documents[name]["segments"]] == found
    for name, document in documents.items():
        assert document["first_ms"] == START and document["duration"] == (times(500, int(name[1]))[-1] - START) / 1000
        for each in document["segments"]:
            assert each["segment_ms"] == [START + round(1000 * second) for second in each["segment"]]
            assert "said_ms" not in each
    with open(tmp_path / "segments.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    listed = [(name, each) for name, document in sorted(documents.items()) for each in document["segments"]]
    assert f"locate: {len(rows)} segments of 2 actions in 2 recordings" in told
    for row, (name, each) in zip(rows, listed, strict=True):
        assert (row["recording"], row["label"], row["said_ms"]) == (name, each["label"], "")
        assert [float(row["start_s"]), float(row["end_s"])] == each["segment"] and float(row["score"]) == each["score"]
        assert [int(row["start_ms"]), int(row["end_ms"])] == each["segment_ms"]


# while a recording goes on

@pytest.fixture(scope="module")
def models(place):
    localizer = read_localizer(place / "models/localizer.pt", CPU)
    return open_model(place / "best.pt", CPU, "trained", 0), localizer


def read(place: Path, until: int | None = None) -> Iterator[Frame]:
    """The frames of a validation recording, or those that had come at a time (ms)."""
    (stream,) = open_streams(place / "frames/R6.h5", SIZE)
    return (frame for frame in stream.frames if until is None or frame.time <= until)


@pytest.fixture(scope="module")
def looks(place, models) -> list[tuple[float, list[Segment]]]:
    return list(locate.find_as_it_comes(*models, read(place), 2))


@pytest.mark.parametrize("second", [25.0, 40.0])
def test_what_is_said_knows_nothing_of_what_is_yet_to_come(place, models, looks, second):
    """The recording ends there, and what was said until then is the same to the last bit."""
    cut = list(locate.find_as_it_comes(*models, read(place, START + round(1000 * second)), 2))
    end = cut[-1][0]
    assert len(cut) > 10 and [now for now, _ in looks if now < end] == [now for now, _ in cut if now < end]
    for delay in (1.0, 4.0, 9.0):
        whole, short = ([each for each in say(those, delay, 0.05) if each.time < end] for those in (looks, cut))
        assert short == whole and len(whole) >= 2


@pytest.mark.parametrize("delay", [1.0, 4.0, 9.0])
def test_each_segment_is_said_once_and_so_long_after_its_end(looks, delay):
    said, end = list(say(looks, delay, 0.05)), looks[-1][0]
    assert [each.time for each in said] == sorted(each.time for each in said)
    for number, (segment, time) in enumerate(said):
        assert time == end or time > segment.end + delay
        counted = [now for now, found in looks if segment in found]
        assert counted and min(counted) <= min(segment.end + delay, end)
        for other, _ in said[:number]:
            inside = min(segment.end, other.end) - max(segment.start, other.start)
            assert segment.label != other.label or inside <= 0.5 * (max(segment.end, other.end) - min(segment.start, other.start))


def test_the_longer_the_delay_the_more_is_found(place, looks):
    actions = read_json(place / "data/segments.json")["database"]["R6"]["annotations"]

    def met(delay: float) -> int:
        said = [each.segment for each in say(looks, delay, 0.2)]
        return sum(any(segment.label == action["label_id"] and abs(segment.start - action["segment"][0]) < 2
                       and abs(segment.end - action["segment"][1]) < 2 for segment in said) for action in actions)

    assert met(9.0) >= met(1.0) and met(9.0) > 0.6 * len(actions)


def spoken(delay: float, *looks: tuple[float, list[Segment]], least: float = 0.2) -> list[tuple[float, float, float]]:
    return [(segment.start, segment.end, time) for segment, time in say(looks, delay, least)]


def test_an_action_that_goes_on_is_not_yet_said():
    going = [(float(now), [Segment(5.0, now - 2.5, 0, 0.8)]) for now in range(10, 31)]
    assert spoken(3.0, *going) == [(5.0, 27.5, 30.0)]


def test_what_counts_is_what_was_found_in_time():
    first, moved, last = Segment(5.0, 10.0, 0, 0.8), Segment(5.0, 10.4, 0, 0.9), Segment(5.0, 10.2, 0, 0.99)
    assert spoken(4.0, (13.0, [first]), (14.0, [moved]), (15.0, [last]), (20.0, [])) == [(5.0, 10.4, 15.0)]
    # an end that moves back out of reach: what was found before it did
    assert spoken(4.0, (14.2, [moved]), (14.3, [last]), (15.0, [last]), (20.0, [])) == [(5.0, 10.4, 15.0)]
    # found too late, and no longer found
    assert spoken(4.0, (13.0, []), (15.0, [last]), (20.0, [])) == []
    assert spoken(4.0, (13.0, [first]), (13.5, []), (20.0, [])) == []


def test_the_surest_of_nearly_the_same_is_said_and_no_other_later():
    sure, alike, other = Segment(5.0, 10.0, 0, 0.8), Segment(5.0, 9.0, 0, 0.7), Segment(5.0, 9.0, 1, 0.3)
    found = [alike, sure, other, Segment(5.0, 9.5, 2, 0.1), Segment(7.0, 7.0, 1, 0.9)]
    assert spoken(4.0, (12.0, found), (15.0, [Segment(5.0, 11.5, 0, 0.9)]), (20.0, [])) == [(5.0, 9.0, 15.0), (5.0, 11.5, 20.0)]
    speaker = Speaker(4.0, 0.2)
    speaker.take(12.0, [sure])
    assert speaker.take(15.0, []) == [sure]
    speaker.take(15.5, [Segment(5.0, 12.0, 0, 0.9)])
    assert speaker.finish() == []


@pytest.mark.parametrize("keyframe", [0.5, 1.0])
def test_a_look_is_what_would_be_described_if_the_recording_ended_there(tmp_path, keyframe):
    model = open_model(put_model(tmp_path / "best.pt", window=INFO["window"] | {"keyframe": keyframe}), CPU, "trained", 0)
    stamps = times(120)
    frames = [Frame(int(stamp), picture, 0) for stamp, picture in zip(stamps, pictures(stamps, 0)[0], strict=True)]
    how = {"least": 0.4, "batch": 8}
    looks = list(look_again(Growing(model, 500.0, longest=20, **how), frames, 3))
    assert len(looks) > 10 and looks[-1].now == (stamps[-1] - START) / 1000
    for now, first, rows in looks[::4] + looks[-1:]:
        until = [frame for frame in frames if frame.time <= START + round(1000 * now)]
        expected = np.array(list(describe(model, until, 500.0, **how)))
        assert first == max(len(expected) - 20, 0) and rows == pytest.approx(expected[first:], abs=1e-5)
    in_the_gap = [later.now - now for (now, *_), later in zip(looks, looks[1:], strict=False)]
    assert max(in_the_gap) > 4, "where no frame comes, nothing is looked at"


# films

def test_a_film_has_a_picture_for_every_frame_and_the_time_line_beneath(place, tmp_path, monkeypatch):
    stamps = times(80, 6)
    write(tmp_path / "R9.h5", stamps, pictures(stamps, 6)[0])
    command = "best.pt", "models/localizer.pt", tmp_path / "R9.h5", "--out", tmp_path
    main(place, monkeypatch, *command, "--film", "mp4", "--delay", 3)
    document = read_json(tmp_path / "R9.json")
    assert document["segments"] and all(each["said_ms"] <= stamps[-1] for each in document["segments"])
    with av.open(str(tmp_path / "R9.mp4")) as film:
        (stream,) = film.streams.video
        assert sum(1 for _ in film.decode(stream)) == 80 == document["frames"]
        rows = len({each["label"] for each in document["segments"]})
        assert (stream.width, stream.height) == (720, 720 + 16 * (rows + 1) + 8)
        assert abs(stream.average_rate - 79 / document["duration"]) < 1


def test_a_segment_is_on_the_time_line_from_when_it_was_said():
    frame = Frame(100_000, np.random.default_rng(0).normal(20, 1, SIZE).astype(np.float32), 0)

    def bars(known: int | None) -> np.ndarray:
        """Whether a segment of 95 to 98 s is seen in each column of its row."""
        (picture,) = draw_spells([frame], [Spell(95_000, 98_000, 1, 1.0, known)], ACTIONS)
        return np.asarray(picture)[732, 208:].astype(int).max(axis=1) > 200

    at_once, later, said = bars(None), bars(101_000), bars(97_000)
    assert at_once.sum() == pytest.approx(3 / 60 * 512, abs=3) and said.sum() == pytest.approx(3 / 60 * 512, abs=3)
    assert np.flatnonzero(at_once)[0] == pytest.approx(25 / 60 * 512, abs=2) and later.sum() <= 1


# refusals

def other_model(place: Path) -> None:
    put_model(place / "best.pt", classes=ACTIONS, training={"seed": 1})


def spoil_bit(place: Path) -> None:
    path = place / "models/localizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_localizer(change) -> None:
    def apply(place: Path) -> None:
        path = place / "models/localizer.pt"
        content = torch.load(path, weights_only=True)
        change(content)
        save(path, content)
    return apply


REFUSALS = {
    "other model": (other_model, "localizer.pt has learned from features of a model with the sha256 .*, best.pt has .*: give"),
    "no model": (lambda place: (place / "best.pt").unlink(), "best.pt does not exist: run `dvc repro train` or `dvc pull`"),
    "no localizer": (lambda place: (place / "models/localizer.pt").unlink(),
                     "localizer.pt does not exist: run `dvc repro localize`"),
    "the model twice": (lambda place: (place / "models/localizer.pt").write_bytes((place / "best.pt").read_bytes()),
                        "localizer.pt is no checkpoint of ActionFormer, it has no `state_dict_ema`: run `dvc repro localize`"),
    "the wrapper's": (change_localizer(lambda content: content.pop("features")),
                      "localizer.pt does not say how its features are made .*: run `dvc repro localize`"),
    "an old one": (change_localizer(lambda content: content["features"].pop("model")),
                   r"localizer.pt does not say how its features are made \(features.model is missing.*\): run `dvc repro"),
    "torn": (lambda place: os.truncate(place / "models/localizer.pt", 5000), "localizer.pt is no whole checkpoint, but torn"),
    "a flipped bit": (spoil_bit, "localizer.pt is damaged in .*: delete it and run `dvc repro localize`"),
    "other frames": (lambda place: write(place / "R.h5", times(20), np.zeros((20, 8, 8), np.float32)),
                     "frames of R have 8 x 8 pixels, the model sees 16 x 16"),
    "short": (lambda place: write(place / "R.h5", times(20)[:2], pictures(times(20)[:2], 0)[0]),
              "R is shorter than half a step of 0.667 s: leave it out"),
}


@pytest.mark.parametrize("case, delay", [*((case, []) for case in REFUSALS), ("short", ["--delay", 3])])
def test_what_does_not_fit_is_refused_with_a_sentence(place, tmp_path, monkeypatch, case, delay):
    (tmp_path / "models").mkdir()
    for name in ("best.pt", "models/localizer.pt"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    stamps = times(20)
    write(tmp_path / "R.h5", stamps, pictures(stamps, 0)[0])
    spoil, sentence = REFUSALS[case]
    spoil(tmp_path)
    with pytest.raises(InputError, match=sentence) as refusal:
        main(tmp_path, monkeypatch, "best.pt", "models/localizer.pt", "R.h5", *delay)
    assert "\n" not in str(refusal.value) and not (tmp_path / "segments").exists()


@pytest.mark.parametrize("wrong", [["--delay", "-1"], ["--delay", "nan"], ["--least", "1"], ["--every", "0"]])
def test_options_that_mean_nothing_are_refused(tmp_path, monkeypatch, capsys, wrong):
    with pytest.raises(SystemExit):
        main(tmp_path, monkeypatch, "best.pt", "localizer.pt", "R.h5", *wrong)
    assert wrong[0] in capsys.readouterr().err
