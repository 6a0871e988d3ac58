"""Tiny recordings in the archive layout: warm blobs that move as their action says, a dozen keyframes each."""

import json
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
