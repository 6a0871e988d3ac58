"""What can be wrong with a data set, judged by what scans.py found in its frames and by its annotations.

A *problem* stops the pipeline; a *warning* is counted and shown. Nothing is corrected here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from thermal_action.annotations import Sample
from thermal_action.boxes import intersection_over_union, sizes
from thermal_action.scans import RecordingScan
from thermal_action.windows import Windowing

# annotators draw boxes by eye: two boxes of one person in one frame overlap at least this much (IoU)
SAME_PERSON_IOU = 0.5


def window_frames(sample: Sample, timestamps: np.ndarray, windowing: Windowing) -> np.ndarray:
    """Times of every frame from the first to the last of a sample's window."""
    indices = windowing.frames(timestamps, sample.frame_idx)
    return timestamps[indices.min() : indices.max() + 1]


def shared_windows(train: Iterable[Sample], val: Sequence[Sample], frames_of: Callable[[Sample], np.ndarray]) -> dict:
    """Compares device and time of every frame in every window across the sides.

    Returns frames that stand on both sides and the validation windows that contain one.
    """
    seen: dict[str, set[int]] = defaultdict(set)
    for sample in train:
        seen[sample.mac_address].update(frames_of(sample).tolist())
    shared, touched = set(), 0
    for sample in val:
        both = seen[sample.mac_address].intersection(frames_of(sample).tolist())
        shared.update((sample.mac_address, time) for time in both)
        touched += bool(both)
    return {"frames": len(shared), "val_windows": touched, "val_windows_share": touched / max(len(val), 1)}


def shared_subjects(train: Iterable[Sample], val: Iterable[Sample]) -> list[str]:
    """Who is recorded on both sides, as far as that is known."""
    return sorted({sample.subject for sample in train} & {sample.subject for sample in val} - {None})


def shared_between_recordings(scans: Sequence[RecordingScan]) -> tuple[list[dict], list[str]]:
    """Pairs of recordings of one device with frames of the same time, and the recordings whose pixels then differ."""
    pairs, conflicts = [], []
    by_device = defaultdict(list)
    for scan in scans:
        by_device[scan.mac_address].append(scan)
    for device_scans in by_device.values():
        device_scans.sort(key=lambda scan: (scan.timestamps[0], scan.recording))
        for number, first in enumerate(device_scans):
            for second in device_scans[number + 1 :]:
                if second.timestamps[0] > first.timestamps[-1]:
                    break
                times, in_first, in_second = np.intersect1d(first.timestamps, second.timestamps, return_indices=True)
                if not times.size:
                    continue
                sums = first.checksums[in_first], second.checksums[in_second]
                undamaged = (sums[0] >= 0) & (sums[1] >= 0)
                different = int((undamaged & (sums[0] != sums[1])).sum())
                pairs.append({"recordings": [first.recording, second.recording], "frames": int(times.size),
                              "seconds": round(float(times[-1] - times[0]) / 1000, 1)})
                if different:
                    conflicts.append(f"{first.recording} and {second.recording} are of one device and share {times.size} times, "
                                     f"but {different} of these frames have other pixels: fetch both again")
    return pairs, conflicts


def find_conflicts(samples: Sequence[Sample], classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sentences on identities (one object_id twice in a frame) and on labels (one person, one time, two actions)."""
    identity, label = [], []
    by_frame = defaultdict(list)
    for sample in samples:
        for object_id, count in Counter(sample.object_ids.tolist()).items():
            if count > 1:
                identity.append(f"{sample.image_id}: {count} persons of one frame have the object_id {object_id}")
        for box, name, object_id in zip(sample.boxes, sample.labels, sample.object_ids, strict=True):
            by_frame[sample.mac_address, sample.timestamp].append((sample.image_id, box, int(name), int(object_id)))
    for persons in by_frame.values():
        for number, (image, box, name, object_id) in enumerate(persons):
            for other_image, other_box, other_name, other_id in persons[number + 1 :]:
                one_person = (intersection_over_union(box, other_box) > SAME_PERSON_IOU
                              and (image != other_image or object_id == other_id))
                if one_person and name != other_name:
                    label.append(f"{image} calls a person {classes[name]!r}, {other_image} at the same time "
                                 f"{classes[other_name]!r}")
    return identity, label


def box_problems(samples: Sequence[Sample]) -> list[str]:
    """Boxes with no area inside the frame."""
    problems = []
    for sample in samples:
        sides = sizes(sample.boxes) * (sample.width, sample.height)
        for person in np.flatnonzero((sides < 0.5).any(1)):
            width, height = sides[person]
            problems.append(f"{sample.image_id}: person {person} has a box of {width:.1f}x{height:.1f} pixels inside the frame")
    return problems
