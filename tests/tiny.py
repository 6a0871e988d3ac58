"""Tiny recordings in the archive layout: warm blobs that move as their action says, a dozen keyframes each. And tiny clips of
videos, in which a coloured square does.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

SEVEN_ACTIONS = ["sitting", "standing", "walking", "lying", "falling", "kneeling", "other"]
MAC = "02:00:00:00:00:{:02x}"
START_MS = 1_760_000_000_000
PERIOD_MS = 170


def write_archive(folder: Path, *, height: int = 16, width: int = 16, classes: list[str] = SEVEN_ACTIONS, devices: int = 2,
                  sessions: int = 2, frames: int = 120, every: int = 8, seed: int = 0) -> Path:
    """One recording per device and session, `sessions` an hour apart; one person each keyframe, labels in turn."""
    generator = np.random.default_rng(seed)
    for device in range(devices):
        for session in range(sessions):
            name = f"D{device}_S{session}"
            start = START_MS + (device * 7 + session * 3600) * 1000
            label = (device + session) % len(classes)
            write_recording(folder, name, MAC.format(device), start, height, width, frames, every, classes, label, generator)
    return folder


def write_recording(folder: Path, name: str, mac: str, start: int, height: int, width: int, frames: int, every: int,
                    classes: list[str], label: int, generator: np.random.Generator) -> None:
    times = start + np.arange(frames) * PERIOD_MS + generator.integers(0, 40, frames)
    rows, columns = np.mgrid[:height, :width]
    pictures = np.empty((frames, height, width), np.float32)
    keyframes = []
    for index in range(frames):
        action = (label + index // (frames // 3)) % len(classes)
        row = height / 2 + action % 3 - 1
        column = width / 2 + (width / 4) * np.sin(index / (4 + action))
        blob = 8 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 6)
        pictures[index] = np.round(18 + blob + generator.normal(0, 0.2, blob.shape), 1)
        if index % every == every // 2:
            keyframes.append(keyframe(name, mac, int(times[index]), (column + 0.5) / width, (row + 0.5) / height,
                                      6 / width, 6 / height, classes[action]))
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    (folder / "keyframes").mkdir(exist_ok=True)
    with h5py.File(folder / "frames" / f"{name}.h5", "w") as file:
        file["frames"], file["timestamps"], file["frame_seqs"] = pictures, times, np.arange(frames)
        file.attrs["mac_address"] = mac
    lines = "".join(json.dumps(record) + "\n" for record in keyframes)
    (folder / "keyframes" / f"{name}_annotation.json").write_text(lines)


def keyframe(name: str, mac: str, time: int, cx: float, cy: float, w: float, h: float, action: str, **changes) -> dict:
    person = {"bbox": [cx, cy, w, h], "category": "person", "subcategory": action, "attribute_obscured": "0%",
              "attribute_heat_residual": None, "object_id": 0}
    return {"data_id": name, "mac_address": mac, "annotator_id": "annotator-1", "annotation_time": time, "data_time": time,
            "annotations": [person | changes]}


def write_clips(folder: Path, *, actions: int = len(SEVEN_ACTIONS), subjects: int = 4, videos: int = 1, tests: int = 3) -> Path:
    """Videos in folder/train, of each action and subject, and folder/test, whose names say nothing."""
    for subject in range(1, subjects + 1):
        for action in range(actions):
            for video in range(1, videos + 1):
                write_clip(folder / f"train/CID{action + 1:02d}_SID{subject:02d}_VID{video:02d}.avi", action=action,
                           seed=100 * subject + video)
    for number in range(tests):
        write_clip(folder / f"test/clip {number}.mp4", action=number, seed=number)
    return folder


def write_clip(path: Path, *, action: int = 0, seed: int = 0, frames: int = 12, height: int = 16, width: int = 24) -> Path:
    generator = np.random.default_rng([seed, action])
    room, colour = generator.uniform(20, 90, 3), generator.uniform(120, 240, 3)
    pictures = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        pictures[index] = room + generator.normal(0, 3, (height, width, 1))
        row = round(height / 2 - 3 + (index - frames / 2) * (action % 3 - 1) / 2)
        column = round(width / 2 - 3 + (index - frames / 2) * (action // 3 - 1) / 2)
        pictures[index, max(row, 0) : row + 6, max(column, 0) : column + 6] = colour
    return write_pictures(path, pictures)


def write_pictures(path: Path, pictures: Iterable[np.ndarray]) -> Path:
    from thermal_action.videos import write_video  # most tests need no FFmpeg

    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, pictures, 10, bit_rate=400_000)
    return path


def write_numbered(path: Path, frames: int = 12, height: int = 16, width: int = 24) -> Path:
    """A video that says in its colours which frame is which, see `numbers_of`."""
    colours = ((30 + 10 * index, 220 - 10 * index, 90) for index in range(frames))
    return write_pictures(path, (np.full((height, width, 3), colour, np.uint8) for colour in colours))


def numbers_of(pictures: np.ndarray) -> list[int]:
    red, green, blue = np.moveaxis(pictures.reshape(len(pictures), -1, 3).mean(axis=1), 1, 0)
    assert np.abs(blue - 90).max() < 8 and np.abs(red + green - 250).max() < 8
    return np.rint((red - 30) / 10).astype(int).tolist()
