"""What of a data set's findings stops the pipeline (problems), and what is only worth knowing (warnings)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from thermal_action import checks
from thermal_action.annotations import Info, Sample
from thermal_action.params import Field, section
from thermal_action.scans import RecordingScan

Share = Annotated[float, Field(ge=0, le=1)]
# splits that share frames on purpose or by somebody else's choice: measured, not refused
LEAKY_SPLITS = ("keyframe", "given")


@section
class Limits:
    """Those of a sensor's pixels and links may be left out of a params.yaml for videos, which have none."""

    max_keyframe_distance_ms: Annotated[int, Field(ge=0)]
    max_gap_ms: Annotated[int, Field(gt=0)]
    max_stuck_share: Share
    dead_pixel_c: Annotated[float, Field(gt=0)] = 3.0
    min_contrast_c: float = 1.0
    max_damaged_share: Share = 0.5
    max_cold_share: Share = 0.1


@dataclass
class Verdict:
    """Sentences and counts; verdicts add up."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: dict = field(default_factory=dict)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.problems + other.problems, self.warnings + other.warnings, self.counts | other.counts)


def judge_frames(scans: Sequence[RecordingScan], limits: Limits) -> Verdict:
    """The recordings themselves."""
    verdict = Verdict()
    for scan in scans:
        judge_recording(scan, limits, verdict)
    pairs, conflicts = checks.shared_between_recordings(scans)
    verdict.problems += conflicts
    if pairs:
        shared = sum(pair["frames"] for pair in pairs)
        verdict.warnings.append(f"{len(pairs)} pairs of recordings share {shared} frames of one device and time")
    dead = [scan for scan in scans if scan.dead_pixels]
    if dead:
        row, column, deviation = dead[0].dead_pixels[0]
        verdict.warnings.append(f"{len(dead)} recordings have dead pixels, {dead[0].recording} at row {row}, column {column} "
                                f"({deviation:+.1f} C)")
    steps = [np.diff(scan.timestamps) for scan in scans]
    verdict.counts = {
        "recordings": len(scans),
        "devices": len({scan.mac_address for scan in scans}),
        "frames": sum(len(scan.timestamps) for scan in scans),
        "damaged_frames": sum(int((scan.lost_pixels > 0).sum()) for scan in scans),
        "lost_pixels": sum(int(scan.lost_pixels.sum()) for scan in scans),
        "stuck_frames": sum(len(scan.stuck) for scan in scans),
        "dead_pixels": {scan.recording: scan.dead_pixels for scan in scans if scan.dead_pixels},
        "gaps": sum(int((step > limits.max_gap_ms).sum()) for step in steps),
        "longest_gap_ms": max(int(step.max(initial=0)) for step in steps),
        "shared_between_recordings": pairs,
        "frames_shared_between_recordings": sum(pair["frames"] for pair in pairs),
    }
    return verdict


def judge_recording(scan: RecordingScan, limits: Limits, verdict: Verdict) -> None:
    frames, steps = len(scan.timestamps), np.diff(scan.timestamps)
    damaged, stuck = int((scan.lost_pixels > 0).sum()) / frames, len(scan.stuck) / frames
    if steps.size and steps.min() <= 0:
        verdict.problems.append(f"{scan.recording}: times do not strictly increase behind frame {int(np.argmin(steps > 0))}: "
                                "run hdf5 again")
    if damaged > limits.max_damaged_share:
        verdict.problems.append(f"{scan.recording}: {damaged:.1%} of the frames had lost pixels, above max_damaged_share")
    if stuck > limits.max_stuck_share:
        verdict.problems.append(f"{scan.recording}: {stuck:.1%} of the frames repeat the one before, above max_stuck_share")


def judge_annotations(sides: Mapping[str, Sequence[Sample]], classes: Sequence[str], scans: Sequence[RecordingScan],
                      limits: Limits) -> Verdict:
    """Keyframes, boxes and labels."""
    samples = [sample for side in sides.values() for sample in side]
    times = {scan.recording: scan.timestamps for scan in scans}
    far = [sample.image_id for sample in samples
           if abs(int(times[sample.recording][sample.frame_idx]) - sample.timestamp) > limits.max_keyframe_distance_ms]
    identity, labels = checks.find_conflicts(samples, classes)
    verdict = Verdict(problems=[*checks.box_problems(samples), *identity], warnings=labels)
    verdict.problems += [f"{image}: no frame within {limits.max_keyframe_distance_ms} ms of the keyframe: fetch its frames, or "
                         "remove it" for image in far]
    contrasts = np.concatenate([contrast for scan in scans for contrast in scan.contrasts.values()] or [np.zeros(0)])
    cold = int((~(contrasts >= limits.min_contrast_c)).sum())
    if cold > limits.max_cold_share * len(contrasts):
        verdict.problems.append(f"{cold} of {len(contrasts)} person boxes are not {limits.min_contrast_c} C warmer than their "
                                "surroundings, above max_cold_share: boxes and frames do not belong together")
    for side in ("train", "val"):
        own = sides[side]
        counts = Counter(int(label) for sample in own for label in sample.labels)
        missing = [name for number, name in enumerate(classes) if not counts[number]]
        if not counts:
            verdict.problems.append(f"{side} has no person: change coco.split_by or coco.val_fraction")
        elif missing:
            verdict.warnings.append(f"{side} lacks {len(missing)} of the {len(classes)} classes: {', '.join(missing)}")
    verdict.counts = {"keyframes_without_frame": len(far), "cold_boxes": cold, "identity_conflicts": len(identity),
                      "label_conflicts": len(labels)}
    return verdict


def judge_split(sides: Mapping[str, Sequence[Sample]], scans: Sequence[RecordingScan], info: Info) -> Verdict:
    """The proof that no frame stands on both sides. `info` is that of the annotation files."""
    times = {scan.recording: scan.timestamps for scan in scans}
    shared = checks.shared_windows(sides["train"], sides["val"],
                                   lambda sample: checks.window_frames(sample, times[sample.recording], info.window))
    sentence = (f"{shared['frames']} frames stand in windows of both sides and touch {shared['val_windows']} of "
                f"{len(sides['val'])} validation windows ({shared['val_windows_share']:.1%})")
    verdict = Verdict(counts={"shared_between_sides": shared})
    if shared["frames"] and info.split_by in LEAKY_SPLITS:
        verdict.warnings.append(f"leaky split {info.split_by}: {sentence}")
    elif shared["frames"]:
        verdict.problems.append(f"the split by {info.split_by} leaks: {sentence}")
    subjects = checks.shared_subjects(sides["train"], sides["val"])
    if subjects:
        sentence = f"{len(subjects)} subjects stand on both sides, {subjects[0]} for one"
        if info.split_by == "subject":
            verdict.problems.append(f"the split by subject leaks: {sentence}")
        else:
            verdict.warnings.append(f"{sentence}: scores say how well people are recognised that training has seen")
    judge_test(sides, times, info, verdict)
    return verdict


def judge_test(sides: Mapping[str, Sequence[Sample]], times: Mapping[str, np.ndarray], info: Info, verdict: Verdict) -> None:
    """Whether the recordings for testing are none that training or validation has."""
    known = [*sides["train"], *sides["val"]]
    shared = checks.shared_windows(known, sides.get("test", []),
                                   lambda sample: checks.window_frames(sample, times[sample.recording], info.window))
    if shared["frames"]:
        verdict.warnings.append(f"{shared['val_windows']} of {len(sides['test'])} windows for testing share frames with those of"
                                " training and validation: their predictions are no test")
