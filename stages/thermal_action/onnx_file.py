"""An ONNX file of stages/export.py as the recogniser runs it, without torch."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

from thermal_action import InputError
from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.detections import Detections, read_persons
from thermal_action.look import look_at

# what the file says of the model, as JSON, under this key of its metadata
KEY = "thermal-action"
INFO_KEYS = ("classes", "transform", "window", "frame_size")
# ONNX is protobuf, to which further metadata may be appended: this begins an entry `sha256`, whose digits follow
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
DIGITS = 64


def seal(content: bytes) -> bytes:
    """An ONNX file with the checksum of all that stands before it in its metadata."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode()


def read_sealed(path: str | Path) -> bytes:
    """The file; InputError if it is not as `seal` made it, be it by a bit."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: make it with stages/export.py, or `dvc pull`") from None
    if content != seal(content[: -len(SEAL) - DIGITS]):
        raise InputError(f"{path} is no whole ONNX file of stages/export.py (its sha256 is missing, or another): make it again")
    return content


class OnnxModel:
    """`info` says how the model was trained. threads: of onnxruntime."""

    def __init__(self, path: str | Path, threads: int = 1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(read_sealed(path), options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
            raise InputError(f"{path} is of another version than this onnxruntime ({' '.join(str(error).split())[:80]}): make it"
                             " again with stages/export.py") from None
        self.info = json.loads(self.session.get_modelmeta().custom_metadata_map.get(KEY, "{}"))
        missing = sorted(set(INFO_KEYS) - self.info.keys())
        if missing:
            raise InputError(f"{path} lacks {missing[0]!r}: make it again with stages/export.py")
        self.finds = "heat" in {output.name for output in self.session.get_outputs()}
        # of what is not asked for nothing is computed
        self.partly = onnxruntime.RunOptions()
        self.partly.only_execute_path_to_fetches = True

    def look(self, windows: np.ndarray, least: float) -> list[tuple[np.ndarray, ...]]:
        """Boxes [N, 4], scores [N], shares on a bed [N], probabilities [N, C] of the persons of each window [B, T, H, W] C."""
        frames = np.stack([look_at(window, **self.info["transform"]) for window in windows])
        everywhere = np.array([WHOLE_PICTURE], np.float32)
        nowhere = {"boxes": everywhere, "owner": np.zeros(1, np.int64)}
        if self.finds:
            maps = self.session.run(["heat", "sides", "beds"], {"frames": frames, **nowhere}, self.partly)
            found = [read_persons(*window, frames.shape[2:], least) for window in zip(*maps, strict=True)]
        else:
            found = [Detections(everywhere, np.ones(1, np.float32), np.zeros(1, np.float32))] * len(frames)
        counts = [len(persons.boxes) for persons in found]
        if not sum(counts):
            return [(*persons, np.empty((0, len(self.info["classes"])), np.float32)) for persons in found]
        boxes, owner = np.concatenate([persons.boxes for persons in found]), np.repeat(np.arange(len(frames)), counts)
        (logits,) = self.session.run(["logits"], {"frames": frames, "boxes": boxes, "owner": owner}, self.partly)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        rows = np.split(odds / odds.sum(axis=1, keepdims=True), np.cumsum(counts)[:-1])
        return [(*persons, row) for persons, row in zip(found, rows, strict=True)]
