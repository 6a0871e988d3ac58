"""What reading every frame of a recording once finds; one that was scanned before is not read again."""

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from thermal_action import InputError
from thermal_action.annotations import Sample
from thermal_action.boxes import pixels
from thermal_action.files import file_sha256, fingerprint
from thermal_action.kept import Kept
from thermal_action.recordings import CHUNK_FRAMES, Recording
from thermal_action.records import Count, record
from thermal_action.windows import Windowing

TEMPERATURES = ("min_c", "max_c", "mean_c")
Progress = Callable[[int], object]


@record
class Entry:
    """What sensor_info.json says of a recording."""

    total_frames: Count
    duplicate_frames: Count
    sha256: str


@dataclass
class RecordingScan:
    """What one pass over a recording finds; of a video, which has no temperatures, neither dead pixels nor contrasts."""

    recording: str
    mac_address: str
    timestamps: np.ndarray
    checksums: np.ndarray  # int64 (frames,): of the undamaged frames' pixels, -1 for a damaged frame
    lost_pixels: np.ndarray
    stuck: list[int] = field(default_factory=list)  # frames equal to the one before, pixel by pixel
    dead_pixels: list[tuple[int, int, float]] = field(default_factory=list)  # row, column, deviation in C
    contrasts: dict[str, np.ndarray] = field(default_factory=dict)  # image id -> C per person
    temperature: dict[str, float] = field(default_factory=dict)  # C
    windows: dict[str, np.ndarray] = field(default_factory=dict)  # image id -> frames (T, H, W) C or (T, H, W, 3), if asked

    def save(self, path: Path) -> None:
        """All but the windows, as .npz."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            np.savez(file, recording=self.recording, mac_address=self.mac_address, timestamps=self.timestamps,
                     checksums=self.checksums, lost_pixels=self.lost_pixels, stuck=np.array(self.stuck, np.int64),
                     dead_pixels=np.array(self.dead_pixels, np.float64).reshape(-1, 3),
                     images=np.array(list(self.contrasts), str),
                     persons=np.array([len(values) for values in self.contrasts.values()], np.int64),
                     contrasts=np.concatenate([np.empty(0), *self.contrasts.values()]),
                     temperature=np.array([*self.temperature.values()]))

    @classmethod
    def load(cls, path: Path) -> "RecordingScan":
        """What `save` wrote, number for number."""
        with np.load(path, allow_pickle=False) as saved:
            contrasts = np.split(saved["contrasts"], np.cumsum(saved["persons"])[:-1]) if len(saved["images"]) else []
            return cls(str(saved["recording"]), str(saved["mac_address"]), saved["timestamps"], saved["checksums"],
                       saved["lost_pixels"], saved["stuck"].tolist(),
                       [(int(row), int(column), deviation) for row, column, deviation in saved["dead_pixels"].tolist()],
                       dict(zip(saved["images"].tolist(), contrasts, strict=True)),
                       dict(zip(TEMPERATURES, saved["temperature"].tolist(), strict=False)))


@dataclass(frozen=True)
class Scanning:
    """What all recordings are scanned with. `frames` is the folder of the hdf5 stage; windows of the images `shown` are kept."""

    frames: Path
    dead_pixel_c: float
    windowing: Windowing
    shown: Set[str]

    def scan(self, path: Path, samples: Sequence[Sample], progress: Progress) -> RecordingScan:
        """Reads a recording, whose keyframes are `samples`."""
        with Recording(path) as recording:
            times = recording.timestamps
            for sample in samples:
                if sample.frame_idx >= len(times):
                    raise InputError(f"{sample.image_id} is at frame {sample.frame_idx} of {path}, which has {len(times)} frames:"
                                     " run `dvc repro coco`, the annotations belong to other frames")
            wanted = {sample.image_id: self.windowing.frames(times, sample.frame_idx) for sample in samples
                      if sample.image_id in self.shown}
            return scan_recording(recording, samples, self.dead_pixel_c, progress, wanted=wanted)

    def fingerprint(self, name: str, entry: Entry, samples: Sequence[Sample], code: dict[str, str]) -> str:
        """Stands for everything that decides a scan but for its windows: `entry` is what sensor_info.json says."""
        asked = sorted((sample.image_id, sample.frame_idx, sample.boxes.tolist()) for sample in samples)
        return fingerprint({"recording": name, "entry": asdict(entry), "samples": asked, "dead_pixel_c": self.dead_pixel_c,
                            "code": code})

    def provide(self, name: str, entry: Entry, samples: Sequence[Sample], kept: Kept, code: dict[str, str],
                progress: Progress) -> tuple[str, RecordingScan]:
        """Scans a recording, or takes over the scan of an earlier run: (its key in `kept`, the scan)."""
        path, key = self.frames / f"{name}.h5", self.fingerprint(name, entry, samples, code)
        drawn = not self.shown.isdisjoint(sample.image_id for sample in samples)
        if not drawn and (found := kept.find(key)) and is_unchanged(path, found[1], entry):
            scan = RecordingScan.load(found[0])
            progress(len(scan.timestamps))
            return key, scan
        scan, written = self.scan(path, samples, progress), kept.folder / "scan"
        scan.save(written)
        kept.keep(key, written, {"sha256": file_sha256(written), "file": identity(path)})
        written.unlink()  # it is the kept file's other name
        return key, scan


def identity(path: Path) -> list[int]:
    """What tells a file that was written since from the one that was scanned, without reading it."""
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def is_unchanged(path: Path, facts: Mapping, entry: Entry) -> bool:
    """Whether a recording is the file that was scanned, and still what the hdf5 stage wrote, byte for byte."""
    return path.exists() and facts["file"] == identity(path) and entry.sha256 == file_sha256(path)


def scan_recording(recording: Recording, samples: Sequence[Sample], dead_pixel_c: float,
                   progress: Progress = lambda frames: None, *,
                   wanted: Mapping[str, np.ndarray] | None = None) -> RecordingScan:
    """Reads a recording once, a chunk at a time. `samples` are its keyframes, `wanted` frame indices (T,) of windows to keep."""
    timestamps, lost = recording.timestamps, recording.lost_pixels
    scan = RecordingScan(recording.id, recording.mac_address, timestamps, np.full(len(timestamps), -1, np.int64), lost)
    keyframes = defaultdict(list)
    for sample in samples:
        keyframes[sample.frame_idx].append(sample)
    wanted = wanted or {}
    thermal, previous = len(recording.shape) == 3, None
    scan.windows = {image: np.empty((len(indices), *recording.shape[1:]), np.float32 if thermal else np.uint8)
                    for image, indices in wanted.items()}
    measured = Measured(recording.shape[1:])
    for start in range(0, len(timestamps), CHUNK_FRAMES):
        frames = recording.read(slice(start, start + CHUNK_FRAMES))
        if thermal:
            measured.add(frames)
        for image, indices in wanted.items():
            here = indices // CHUNK_FRAMES == start // CHUNK_FRAMES
            scan.windows[image][here] = frames[indices[here] - start]
        for offset, frame in enumerate(frames):
            index = start + offset
            if not lost[index]:
                scan.checksums[index] = zlib.crc32(frame.tobytes())
            if previous is not None and np.array_equal(frame, previous):
                scan.stuck.append(index)
            previous = frame
            for sample in keyframes.get(index, ()) if thermal else ():
                scan.contrasts[sample.image_id] = np.array([box_contrast(frame, box) for box in sample.boxes])
        progress(len(frames))
    if thermal:
        scan.dead_pixels = find_dead_pixels(measured.mean, measured.spread, dead_pixel_c)
        scan.temperature = dict(zip(TEMPERATURES, (measured.lowest, measured.highest, float(measured.mean.mean())), strict=True))
    return scan


class Measured:
    """What the temperatures of a recording come to, [H, W] C a block of frames [n, H, W] at a time."""

    def __init__(self, shape: tuple[int, ...]):
        self.frames, self.total, self.squares = 0, np.zeros(shape), np.zeros(shape)
        self.lowest, self.highest = np.inf, -np.inf

    def add(self, frames: np.ndarray) -> None:
        self.frames += len(frames)
        self.total += frames.sum(0, dtype=np.float64)
        self.squares += np.square(frames, dtype=np.float64).sum(0)
        self.lowest, self.highest = min(self.lowest, float(frames.min())), max(self.highest, float(frames.max()))

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.frames

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation over time."""
        return np.sqrt(np.maximum(self.squares / self.frames - self.mean**2, 0))


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
