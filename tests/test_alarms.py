"""python -m pytest tests/test_alarms.py

Without these, an alarm could come late, twice, for somebody in bed or not at all, and the scores would not tell.
"""

import json

import numpy as np
import pytest

from conftest import ROOT, Project
from thermal_action import InputError
from thermal_action.alarms.events import Event, Night, find_events, read_night
from thermal_action.alarms.furniture import Furniture, find_furniture
from thermal_action.alarms.rules import LONGEST_S, Accumulator, Alarm, Rules, evidence_of, raise_alarms, within
from thermal_action.alarms.scores import at_rate, by_cause, by_scenario, curve, intervals, judge, summarise
from thermal_action.keyframes import Annotation, Keyframe, write_keyframes
from thermal_action.moments import Moment, MomentWriter
from thermal_action.params import read_params
from thermal_action.recogniser import Person
from thermal_action.recordings import Frames, write_recording

CLASSES = ["standing", "lying", "in bed"]
LYING = 1
FLOOR, BED, BESIDE = (0.1, 0.1, 0.3, 0.4), (0.6, 0.5, 0.9, 0.9), (0.3, 0.1, 0.45, 0.4)
BEDS = np.array([[0.55, 0.45, 0.95, 0.95]])
ONE_BED = Furniture(BEDS)
SIZE = (40, 60)


def rules(**changes) -> Rules:
    settings = {"action": "lying", "onset": None, "even": 0.4, "most": 10.0, "raise_at": 0.5, "clear_at": 0.3, "hold_s": 0.0,
                "quiet_s": 0.0, "beds": "drawn", "bed_share": 0.7, "off_bed": None, "least_px": 0.0, "carer_px": 0.0}
    return Rules(**settings | changes)


def person(lying: float, box: tuple = FLOOR, score: float = 1.0, on_bed: float = 0.0) -> Person:
    return Person(box, score, on_bed, np.array([(1 - lying) * 0.9, lying, (1 - lying) * 0.1]))


def moments(*evidence: float | None, step_s: float = 1.0, ahead_ms: int = 0) -> list[Moment]:
    """One person a moment; None: nothing is said."""
    said = []
    for number, value in enumerate(evidence):
        time, persons = round(1000 * step_s * number), () if value is None else (person(value),)
        said.append(Moment("R", time, time + ahead_ms, persons, (1,) * len(persons), "damaged" if value is None else None))
    return said


def totals(said: list[Moment], **changes) -> list[float]:
    accumulator = Accumulator(rules(**changes), CLASSES, ONE_BED, SIZE)
    return [accumulator.take(moment) for moment in said]


def alarms(*sums: float, ahead_ms: int = 0, **changes) -> list[Alarm]:
    """Of a sum of evidence each second."""
    return raise_alarms(moments(*sums, ahead_ms=ahead_ms), sums, rules(**changes))


def evidence(*persons: Person, furniture: Furniture = ONE_BED, beds_of: str = "drawn", **changes) -> float:
    moment = Moment("R", 0, 0, persons, tuple(range(len(persons))))
    return evidence_of(moment, CLASSES, rules(**changes, beds=beds_of), furniture, SIZE)


# rules

def test_an_alarm_is_raised_once_for_what_goes_on():
    raised = alarms(0, 0, 0.9, 0.9, 0.4, 0.9, 0.9, 0.1, 0, 0.9, 0.9)
    assert [(alarm.time, alarm.since) for alarm in raised] == [(2000, 2000), (9000, 9000)]  # 0.4 is not below clear_at


def test_it_comes_when_the_last_frame_came_that_it_needs():
    (alarm,) = alarms(0, 0.9, ahead_ms=5300)
    assert (alarm.time, alarm.since) == (6300, 1000)


def test_it_must_last():
    assert alarms(0, 0.9, 0.9, 0.9, 0, hold_s=3) == []
    (alarm,) = alarms(0, 0.9, 0.9, 0.9, 0.9, 0, hold_s=3)
    assert (alarm.time, alarm.since) == (4000, 1000)
    # what counts is the time above clear_at, once it rose above raise_at
    assert alarms(0, 0.4, 0.4, 0.4, 0.9, hold_s=3)[0].time == 4000
    assert alarms(0, 0.4, 0.4, 0.4, 0.4, hold_s=3) == []


def test_the_next_one_waits():
    sums = 0.9, 0, 0.9, 0, 0, 0, 0.9
    assert [alarm.time for alarm in alarms(*sums)] == [0, 2000, 6000]
    assert [alarm.time for alarm in alarms(*sums, quiet_s=5)] == [0, 6000]
    # for what goes on when the waiting ends there is one
    assert [alarm.time for alarm in alarms(0.9, 0, 0.9, 0.9, 0.9, 0.9, 0.9, quiet_s=5)] == [0, 5000]


def test_evidence_adds_up_and_what_speaks_against_it_takes_away():
    assert totals(moments(1.0, 1.0, 0.6, 0.4, 0.0, 0.9)) == pytest.approx([0.0, 0.6, 0.8, 0.8, 0.4, 0.9])
    assert totals(moments(0.0, 0.0, 0.0, 0.9)) == pytest.approx([0, 0, 0, 0.5]), "nothing is owed"
    assert totals(moments(*[1.0] * 9, 0.0, 0.0), most=3.0)[-4:] == pytest.approx([3.0, 3.0, 2.6, 2.2]), "nor remembered for ever"


def test_evidence_adds_up_by_time_and_not_by_moments():
    for step in (0.2, 1.0, 2.0):
        sums = totals(moments(0.0, *[0.9] * 60, step_s=step))
        reached = step * next(number for number, total in enumerate(sums) if total >= 3)
        assert reached == pytest.approx(6, abs=step)
    # but one moment does not speak for all that nobody saw
    assert totals(moments(0.9, 0.9, step_s=30.0)) == pytest.approx([0, LONGEST_S * 0.5])


def test_where_nothing_is_said_all_stays_as_it_was():
    assert totals(moments(0.9, 0.9, None, None, 0.9)) == pytest.approx([0, 0.5, 0.5, 0.5, 1.0])
    nobody = Moment("R", 2000, 2000, (), ())  # is something that is said
    assert totals([*moments(0.9, 0.9), nobody]) == pytest.approx([0, 0.5, 0.1])


def test_who_lies_on_a_known_bed_is_no_concern():
    in_bed = person(0.9, BED)
    assert evidence(in_bed) == 0 and evidence(in_bed, furniture=Furniture()) == pytest.approx(0.9)
    half = (0.4, 0.5, 0.7, 0.9)
    assert within(np.array([BED, FLOOR, half]), BEDS) == pytest.approx([1, 0, 0.5])


def test_which_beds_count_is_a_rule():
    seen = person(0.9, on_bed=0.8)
    assert evidence(seen) == pytest.approx(0.9) == evidence(seen, beds_of="none") and evidence(seen, beds_of="seen") == 0
    assert evidence(seen, beds_of="seen", bed_share=0.9) == pytest.approx(0.9)
    assert evidence(person(0.9, BED), beds_of="none") == pytest.approx(0.9)


def test_what_is_called_lying_on_a_bed_counts_where_no_bed_is():
    def lies(on_bed: float = 0.0, box: tuple = FLOOR) -> Person:
        return Person(box, 1.0, on_bed, np.array([0.1, 0.3, 0.6]))

    assert evidence(lies()) == pytest.approx(0.3) and evidence(lies(), off_bed="in bed") == pytest.approx(0.9)
    assert evidence(lies(0.6), off_bed="in bed", beds_of="seen") == pytest.approx(0.3 + 0.4 * 0.6)
    assert evidence(lies(box=BED), off_bed="in bed") == 0
    # where nobody knows of beds, nobody can be off one
    assert evidence(lies(), off_bed="in bed", beds_of="none") == pytest.approx(0.3)
    assert evidence(lies(), furniture=Furniture(), off_bed="in bed") == pytest.approx(0.3)


def test_furniture_is_where_annotators_drew_it_most_often(tmp_path):
    def drawn(number: int, *pieces: tuple[str, int, list[float]]) -> str:
        furniture = [{"bbox": box, "category": "furniture", "subcategory": kind, "object_id": key} for kind, key, box in pieces]
        return json.dumps({"data_id": "R", "mac_address": "02:00:00:00:00:01", "annotator_id": "a", "annotation_time": number,
                           "data_time": 1000 * number, "annotations": furniture})

    lines = [drawn(1, ("bed", 1, [0.3, 0.3, 0.2, 0.4]), ("chair", 2, [0.8, 0.8, 0.1, 0.1]), ("rug", 3, [0.5, 0.5, 0.1, 0.1])),
             drawn(2, ("bed", 1, [0.3, 0.3, 0.2, 0.4]), ("couch", 4, [0.8, 0.1, 0.4, 0.2])),
             drawn(3, ("bed", 1, [0.9, 0.9, 0.2, 0.2]))]
    (tmp_path / "R.jsonl").write_text("\n".join(lines) + "\n")
    furniture = find_furniture(tmp_path / "R.jsonl", CLASSES)
    assert furniture.beds == pytest.approx(np.array([[0.2, 0.1, 0.4, 0.5], [0.6, 0.0, 1.0, 0.2]]))
    assert furniture.seats == pytest.approx(np.array([[0.75, 0.75, 0.85, 0.85]]))


def test_who_is_called_lying_on_a_chair_sits_there():
    def lies(risk: float) -> Person:
        return Person(FLOOR, 1.0, 0.0, np.array([0.1, risk, 0.9 - risk]))

    half = Furniture(BEDS, np.array([[0.0, 0.1, 0.2, 0.5]]))  # of FLOOR
    assert evidence(lies(0.1), furniture=half, off_bed="in bed") == pytest.approx(0.1 + 0.5 * 0.8)
    assert evidence(lies(0.9), furniture=half, off_bed="in bed") == pytest.approx(0.9), "a chair excuses nobody who lies at risk"
    assert evidence(lies(0.1), furniture=half, off_bed="in bed", beds_of="seen") == pytest.approx(0.9), "which is not drawn"


def test_the_onset_counts_as_well():
    falls = Person(FLOOR, 0.5, 0.0, np.array([0.1, 0.3, 0.6]))
    assert evidence(falls, onset="in bed") == pytest.approx(0.45) and evidence(falls) == pytest.approx(0.15)


def test_who_is_too_small_to_be_somebody_who_lies_is_no_concern():
    cat = person(0.9, (0.1, 0.1, 0.2, 0.3))  # 6 x 8 pixels
    assert evidence(cat) == evidence(cat, least_px=10) == pytest.approx(0.9) and evidence(cat, least_px=10.1) == 0


def test_a_carer_beside_takes_the_alarm_away():
    both = person(0.9), person(0.1, BESIDE)  # their middles are 10.5 pixels apart
    assert evidence(*both) == pytest.approx(0.9) == evidence(*both, carer_px=10) and evidence(*both, carer_px=11) < 0.2
    assert evidence(person(0.9), person(0.8, BESIDE), carer_px=11) == pytest.approx(0.9), "both lie"


def test_evidence_is_of_the_person_for_whom_it_is_largest_and_less_where_the_detector_is_unsure():
    assert evidence() == 0 and evidence(person(0.2), person(0.9, score=0.5), person(0.3)) == pytest.approx(0.45)


# what happened

def timeline(*segments: tuple[str | None, int, int], other: tuple = ()) -> dict:
    persons = [[{"label": label, "start_ms": 1000 * start, "end_ms": 1000 * end} for label, start, end in each]
               for each in (segments, other)]
    return {"recording": "R", "persons": [{"object_id": number, "segments": each} for number, each in enumerate(persons)]}


def events(whole: dict) -> list[tuple]:
    found = find_events("R", whole["persons"][0], "lying", whole)
    return [(event.start // 1000, event.end // 1000, event.scenario) for event in found]


def test_events_are_stretches_of_the_action_and_what_came_before():
    assert events(timeline(("standing", 0, 10), ("transition", 10, 12), ("lying", 12, 40), ("standing", 40, 60))) == \
        [(12, 40, "after standing")]
    assert events(timeline(("lying", 0, 10), ("transition", 10, 13), ("lying", 13, 30))) == [(0, 30, "after the beginning")]
    assert events(timeline(("in bed", 0, 10), ("lying", 10, 12))) == []  # too short
    assert events(timeline(("standing", 0, 10), ("lying", 10, 30), ("standing", 30, 50), ("lying", 50, 70)))[1][0] == 50
    assert events(timeline(("lying", 5, 30), other=(("standing", 0, 20),))) == [(5, 30, "a carer is in the room")]


def night(*spans: tuple[int, int], hours: float = 24.0) -> Night:
    happened = tuple(Event("R", 1000 * start, 1000 * end, "after standing") for start, end in spans)
    persons = timeline(("in bed", 0, 50_000), ("lying", 50_000, 90_000))["persons"]
    return Night("R", 0, round(3_600_000 * hours), happened, persons)


def raised(*seconds: float) -> list[Alarm]:
    return [Alarm("R", round(1000 * second), round(1000 * second), 0.9) for second in seconds]


def test_alarms_are_for_events_or_for_nothing():
    outcome = judge(night((100, 160), (500, 560)), raised(90, 108, 130, 170, 400))
    assert list(outcome.delays.values()) == [8.0] and [alarm.time for alarm in outcome.false] == [90_000, 400_000]
    summary = summarise([outcome])
    assert summary["events"] == 2 and summary["sensitivity"] == 0.5 and summary["false_alarms_per_day"] == 2
    assert summary["delay_median_s"] == 8.0
    assert by_scenario([outcome]) == [{"scenario": "after standing", "events": 2, "alarms": 1, "delay_median_s": 8.0}]
    assert by_cause([outcome]) == [{"truth": "in bed", "false_alarms": 2}]


def test_rates_are_of_days_and_nights_without_events_count():
    summary = summarise([judge(night(hours=6), raised(10, 3000)), judge(night((100, 160), hours=18), raised(110))])
    assert summary["days"] == 1 and summary["false_alarms_per_day"] == 2 and summary["sensitivity"] == 1
    empty = summarise([judge(night(hours=12), [])])
    assert np.isnan(empty["sensitivity"]) and empty["false_alarms_per_day"] == 0


def test_the_wanted_rate_picks_the_most_sensitive_point_below_it():
    two = night((100, 160), (500, 560))
    outcomes = {0.2: [judge(two, raised(110, 510, 900))], 0.5: [judge(two, raised(120))], 0.9: [judge(two, [])]}
    points = curve(list(outcomes), outcomes.__getitem__)
    assert [point["sensitivity"] for point in points] == [1, 0.5, 0]
    assert at_rate(points, 0.5)["raise_at"] == 0.5 and at_rate(points, 1.0)["raise_at"] == 0.2
    assert at_rate(points[:1], 0.5) is None


def test_intervals_are_of_recordings():
    good, bad = judge(night((100, 160)), raised(110)), judge(night((100, 160)), raised(900))
    found = intervals([good, bad] * 4, 200, 0.95, 0)
    low, high = found["sensitivity"]
    assert 0 < low < 0.5 < high < 1 and intervals([good] * 8, 200, 0.95, 0)["sensitivity"] == (1, 1)


# the stage

@pytest.fixture
def nights(project: Project) -> Project:
    """Two recordings of ten minutes with known events, predicted rightly but for one event and one false alarm."""
    folder = project.folder
    for name in ("N1", "N2"):
        times = 1_760_000_000_000 + 1000 * np.arange(600)
        frames = np.random.default_rng(0).normal(20, 1, (600, 8, 12)).astype(np.float32)
        (folder / "data/frames").mkdir(parents=True, exist_ok=True)
        block = Frames(times, np.arange(600), frames, np.zeros(600, int))
        write_recording(folder / f"data/frames/{name}.h5", [block], sensor_id=name,
                        mac_address="02:00:00:00:00:01", compression="lzf", level=1)
        segments = [("standing", 0, 100), ("lying", 100, 200), ("in bed", 200, 400), ("lying", 400, 500), ("standing", 500, 600)]
        written = {"recording": name, "persons": [{"object_id": 0, "segments": [
            {"label": label, "start_ms": int(times[start]), "end_ms": int(times[end - 1])} for label, start, end in segments]}]}
        (folder / "data/raw/timeline").mkdir(parents=True, exist_ok=True)
        (folder / f"data/raw/timeline/{name}.json").write_text(json.dumps(written))
        bed = Annotation((0.75, 0.7, 0.4, 0.5), "furniture", "bed", "0%", "no", 3)
        (folder / "data/raw/keyframes").mkdir(exist_ok=True)
        keyframe = Keyframe(name, "02:00:00:00:00:01", "a", 0, int(times[0]), (bed,))
        write_keyframes(folder / f"data/raw/keyframes/{name}.jsonl", [keyframe])
        (folder / "predictions").mkdir(exist_ok=True)
        with MomentWriter(folder / "predictions" / name, CLASSES) as writer:
            for number, time in enumerate(times.tolist()):
                label = next(label for label, start, end in segments if start <= number < end)
                lying = 0.9 if label == "lying" else 0.05
                if name == "N2":
                    lying = 0.05 if 400 <= number < 500 else 0.9 if 550 <= number < 560 else lying
                writer.write(Moment(name, time, time + 5000, (person(lying, BED if label == "in bed" else FLOOR),), (1,)))
    project.set({"classes": CLASSES})
    document = {name: read_params(name, dict, ROOT / "pipelines/alarms/params.yaml") for name in ("rules", "alarms")}
    document["rules"] |= {"action": "lying", "onset": None, "off_bed": "in bed", "even": 0.4, "most": 5.0, "raise_at": 0.5,
                          "clear_at": 0.3, "hold_s": 3.0, "least_px": 0.0}
    document["alarms"] |= {"bootstrap_samples": 100, "rate_per_day": 100.0}
    project.set(document)
    return project


def test_the_stage_scores_nights_and_shows_what_failed(nights):
    told = nights.run("alarms", apart=True).stdout
    written = json.loads((nights.folder / "metrics/alarms.json").read_text())
    assert written["as_set"]["events"] == 4 and written["as_set"]["sensitivity"] == 0.75
    assert written["as_set"]["false_alarms_per_day"] == pytest.approx(1 / (2 * 604 / 86400), rel=0.01)
    assert 7 < written["as_set"]["delay_median_s"] < 11  # five seconds that the window looks ahead, and the rules
    assert written["at_rate"]["sensitivity"] >= 0.75 and "75.0 % of 4 events" in told
    folder = nights.folder / "metrics/alarms"
    assert (folder / "causes.csv").read_text().splitlines() == ["truth,false_alarms", "standing,1"]
    names = [path.name for path in sorted((folder / "pictures").iterdir())]
    assert len(names) == 3 and names[-1] == "curve.png" and all("N2" in name for name in names[:2])


@pytest.mark.parametrize(("changes", "told"), [
    ({"rules": {"action": "flying"}}, "rules.action 'flying' is none of the classes"),
    ({"rules": {"clear_at": 0.8}}, "rules.clear_at 0.8 must not be above rules.raise_at 0.5"),
    ({"rules": {"raise_at": 6.0}}, "rules.raise_at 6.0 must not be above rules.most 5.0"),
    ({"rules": {"hold_s": -1.0}}, "rules.hold_s = -1.0"),
    ({"rules": {"hold_s": 3.0, "off_bed": "asleep"}}, "rules.off_bed 'asleep' is none of the classes"),
    ({"rules": {"off_bed": "lying"}}, "rules.off_bed is rules.action, 'lying', which counts anyway"),
    ({"rules": {"onset": "in bed"}}, "rules.off_bed is rules.onset, 'in bed', which counts anyway"),
])
def test_rules_that_cannot_be_are_refused(nights, changes, told):
    nights.set(changes)
    assert told in nights.refusal("alarms")
    assert not (nights.folder / "metrics/alarms.json").exists()


def test_missing_predictions_are_named(nights):
    for path in (nights.folder / "predictions").iterdir():
        path.unlink()
    assert "predictions holds no predictions" in nights.refusal("alarms")


def test_a_night_is_what_was_watched_of_it(tmp_path):
    path = tmp_path / "R.json"
    path.write_text(json.dumps(timeline(("lying", 0, 50), ("standing", 50, 100), ("lying", 100, 200))))
    assert [event.start for event in read_night(path, "lying", 60_000, 400_000).events] == [100_000]
    with pytest.raises(InputError, match="does not exist"):
        read_night(tmp_path / "none.json", "lying", 0, 1)
