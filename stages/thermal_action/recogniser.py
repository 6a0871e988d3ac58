"""A trained model at work on windows that nobody annotated: who is there, where, and what they are doing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thermal_action import InputError
from thermal_action.params import check_section
from thermal_action.windows import Windowing


class Person(NamedTuple):
    """Somebody in a keyframe."""

    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in [0, 1]
    score: float  # how sure the detector is, from 0 to 1
    on_bed: float  # share of the box that the detector takes for a bed
    probabilities: np.ndarray  # (C,) of the actions

    @property
    def action(self) -> int:
        """The likeliest one; the first of equals."""
        return int(self.probabilities.argmax())


class Prediction(NamedTuple):
    """What a window shows: an action, its probability, and the three likeliest ones. No label where nobody is found."""

    label: str | None
    confidence: float
    top3: list[tuple[str, float]]


class ThermalActionRecognizer:
    """Finds and labels the persons in windows of frames.

    checkpoint: a models/best.pt of this project, or an ONNX file that stages/export.py made of one, which needs no torch.
    device: cpu or cuda (of a checkpoint). score: persons whom the detector is less sure of are nobody.
    classes, windowing, frame_size (H, W): how the model was trained, and so what it must be shown.

    InputError for a file that is neither, and, from each call, for frames of another shape, or that are no picture.
    """

    def __init__(self, checkpoint: str | Path, device: str = "cpu", score: float = 0.3):
        if Path(checkpoint).suffix == ".onnx":
            from thermal_action.onnx_file import OnnxModel  # without torch
            self.model = OnnxModel(checkpoint)
        else:
            from thermal_action.torch_file import TorchModel
            self.model = TorchModel(checkpoint, device)
        info: Mapping[str, Any] = self.model.info
        self.score = score
        self.classes: list[str] = list(info["classes"])
        self.windowing = check_section(dict(info["window"]), Windowing, f"{checkpoint}: window")
        self.frame_size: tuple[int, int] = tuple(info["frame_size"])

    def detect(self, frames: np.ndarray) -> list[Person]:
        """The persons in the keyframe of frames [T, H, W] C, the surest first.

        A model that labels whole clips finds nobody: its only person is the whole picture.
        """
        (persons,) = self.detect_all([frames])
        return persons

    def detect_all(self, windows: Sequence[np.ndarray]) -> list[list[Person]]:
        """As `detect`, for several windows at once."""
        found = self.model.look(np.stack([self.require_picture(frames) for frames in windows]), self.score)
        return [[Person(tuple(map(float, box)), float(score), float(on_bed), row)
                 for box, score, on_bed, row in zip(*window, strict=True)] for window in found]

    def predict(self, frames: np.ndarray) -> Prediction:
        """What the person whom the detector is surest of does in the keyframe of frames [T, H, W] C."""
        persons = self.detect(frames)
        if not persons:
            return Prediction(None, 0.0, [])
        order = np.argsort(-persons[0].probabilities, kind="stable")[:3]
        top = [(self.classes[label], float(persons[0].probabilities[label])) for label in order]
        return Prediction(*top[0], top)

    def require_picture(self, frames: np.ndarray) -> np.ndarray:
        expected = (self.windowing.length, *self.frame_size)
        frames = np.asarray(frames, dtype=np.float32)
        if frames.shape != expected:
            raise InputError(f"frames have the shape {frames.shape}, the model was trained on {expected} (frames, rows, columns):"
                             " give windows of that shape")
        if not np.isfinite(frames).all():
            raise InputError("frames hold NaN or infinity: repair lost pixels first (thermal_action.repair)")
        if frames.min() == frames.max():
            raise InputError(f"frames are {frames.flat[0]:g} C everywhere and no picture")
        return frames
