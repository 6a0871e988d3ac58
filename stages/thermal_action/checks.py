"""What can be wrong with a data set, found by reading every frame once.

A *problem* stops the pipeline; a *warning* is counted and shown. Nothing is corrected here.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermal_action.annotations import Sample
from thermal_action.boxes import intersection_over_union, pixels, sizes
from thermal_action.recordings import CHUNK_FRAMES, Recording
from thermal_action.windows import Windowing

# annotators draw boxes by eye: two boxes of one person in one frame overlap at least this much (IoU)
SAME_PERSON_IOU = 0.5
TEMPERATURES = ("min_c", "max_c", "mean_c")


@dataclass
class RecordingScan:
    """What one pass over a recording finds."""

    recording: str
    mac_address: str
    timestamps: np.ndarray
    checksums: np.ndarray  # int64 (frames,): of the undamaged frames' pixels, -1 for a damaged frame
    lost_pixels: np.ndarray
    stuck: list[int] = field(default_factory=list)  # frames equal to the one before, pixel by pixel
    dead_pixels: list[tuple[int, int, float]] = field(default_factory=list)  # row, column, deviation in C
    contrasts: dict[str, np.ndarray] = field(default_factory=dict)  # image id -> C per person
    temperature: dict[str, float] = field(default_factory=dict)
    windows: dict[str, np.ndarray] = field(default_factory=dict)  # image id -> frames (T, H, W) C, of those asked for

    def save(self, path: Path) -> None:
        """All but the windows, as .npz."""
        with open(path, "wb") as file:
            np.savez(file, recording=self.recording, mac_address=self.mac_address, timestamps=self.timestamps,
                     checksums=self.checksums, lost_pixels=self.lost_pixels, stuck=np.array(self.stuck, np.int64),
                     dead_pixels=np.array(self.dead_pixels, np.float64).reshape(-1, 3),
                     images=np.array(list(self.contrasts), str),
                     persons=np.array([len(values) for values in self.contrasts.values()], np.int64),
                     contrasts=np.concatenate([np.empty(0), *self.contrasts.values()]),
                     temperature=np.array([self.temperature[name] for name in TEMPERATURES]))

    @classmethod
    def load(cls, path: Path) -> "RecordingScan":
        """What `save` wrote, number for number."""
        with np.load(path, allow_pickle=False) as saved:
            contrasts = np.split(saved["contrasts"], np.cumsum(saved["persons"])[:-1]) if len(saved["images"]) else []
            return cls(str(saved["recording"]), str(saved["mac_address"]), saved["timestamps"], saved["checksums"],
                       saved["lost_pixels"], saved["stuck"].tolist(),
                       [(int(row), int(column), deviation) for row, column, deviation in saved["dead_pixels"].tolist()],
                       dict(zip(saved["images"].tolist(), contrasts, strict=True)),
                       dict(zip(TEMPERATURES, saved["temperature"].tolist(), strict=True)))


def scan_recording(recording: Recording, samples: Sequence[Sample], dead_pixel_c: float,
                   progress: Callable[[int], object] = lambda frames: None, *,
                   wanted: Mapping[str, np.ndarray] | None = None) -> RecordingScan:
    """Reads a recording once, a chunk at a time. `samples` are its keyframes, `wanted` frame indices (T,) of windows to keep."""
    timestamps, lost = recording.timestamps, recording.lost_pixels
    scan = RecordingScan(recording.id, recording.mac_address, timestamps, np.full(len(timestamps), -1, np.int64), lost)
    keyframes = defaultdict(list)
    for sample in samples:
        keyframes[sample.frame_idx].append(sample)
    wanted = wanted or {}
    scan.windows = {image: np.empty((len(indices), recording.height, recording.width), np.float32)
                    for image, indices in wanted.items()}
    total = np.zeros((recording.height, recording.width))
    squares, previous = np.zeros_like(total), None
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(timestamps), CHUNK_FRAMES):
        frames = recording.read(slice(start, start + CHUNK_FRAMES))
        total += frames.sum(0, dtype=np.float64)
        squares += np.square(frames, dtype=np.float64).sum(0)
        for image, indices in wanted.items():
            here = indices // CHUNK_FRAMES == start // CHUNK_FRAMES
            scan.windows[image][here] = frames[indices[here] - start]
        lowest, highest = min(lowest, float(frames.min())), max(highest, float(frames.max()))
        for offset, frame in enumerate(frames):
            index = start + offset
            if not lost[index]:
                scan.checksums[index] = zlib.crc32(frame.tobytes())
            if previous is not None and np.array_equal(frame, previous):
                scan.stuck.append(index)
            previous = frame
            for sample in keyframes.get(index, ()):
                scan.contrasts[sample.image_id] = np.array([box_contrast(frame, box) for box in sample.boxes])
        progress(len(frames))
    mean = total / len(timestamps)
    spread = np.sqrt(np.maximum(squares / len(timestamps) - mean**2, 0))
    scan.dead_pixels = find_dead_pixels(mean, spread, dead_pixel_c)
    scan.temperature = dict(zip(TEMPERATURES, (lowest, highest, float(mean.mean())), strict=True))
    return scan


def box_contrast(frame: np.ndarray, box: np.ndarray) -> float:
    """How much warmer than its surroundings a person is, C: 90th percentile in the box less the median of a ring around it.

    `frame` (H, W) C; `box` x1, y1, x2, y2 in [0, 1]. NaN for a box without a pixel or a ring.
    """
    inside, outer = pixels(box, *frame.shape), pixels(box, *frame.shape, margin=3)
    ring = np.ones(frame.shape, dtype=bool)
    ring[inside] = False
    surroundings = frame[outer][ring[outer]]
    if not frame[inside].size or not surroundings.size:
        return float("nan")
    return float(np.percentile(frame[inside], 90) - np.median(surroundings))


def find_dead_pixels(mean: np.ndarray, spread: np.ndarray, deviation_c: float) -> list[tuple[int, int, float]]:
    """Pixels that never change, or stand alone off their neighbours' mean by `deviation_c` over the whole recording.

    `mean`, `spread` (H, W): temporal mean and standard deviation, C. A pixel is compared with the averages of its four pairs
    of opposite neighbours, in which a gradient (the warm rim) cancels; they must agree, else the edge of a heater would count.
    """
    padded = np.pad(mean, 1, mode="reflect", reflect_type="odd")
    height, width = mean.shape
    pairs = [((0, 0), (2, 2)), ((0, 1), (2, 1)), ((0, 2), (2, 0)), ((1, 0), (1, 2))]
    averages = np.stack([sum(padded[dy : dy + height, dx : dx + width] for dy, dx in pair) / 2 for pair in pairs])
    off = mean - np.median(averages, axis=0)
    agree = np.ptp(averages, axis=0) < deviation_c / 2
    dead = (spread < 1e-3) | ((np.abs(off) > deviation_c) & agree)
    if (spread < 1e-3).mean() > 0.5:  # a frozen recording is reported as stuck frames, not pixel by pixel
        dead &= spread >= 1e-3
    return [(int(row), int(column), round(float(off[row, column]), 1)) for row, column in np.argwhere(dead)]


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
