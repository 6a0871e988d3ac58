"""Turns a model into an ONNX file that predict.py, or any other onnxruntime, runs without torch.

in   models/best.pt, or another model of the train stage
out  an .onnx file: frames [B, T, H, W] as thermal_action/look.py scales them, boxes [N, 4] x1, y1, x2, y2 in [0, 1] and the
     window of each, owner [N] -> logits [N, classes]; heat [B, h, w], sides [B, 4, h, w] and beds [B, h, w] of the detector;
     classes, window, frame size, scaling and the checksum of the file in its metadata
run  python stages/export.py models/best.pt models/best.onnx
"""

import argparse
import json
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision  # noqa: F401 - torch.onnx knows its roi_align only where it is there before
from torch import Tensor, nn
from torch.export import Dim

from thermal_action import InputError
from thermal_action.files import replacing
from thermal_action.look import COLOURS
from thermal_action.models import ActionModel
from thermal_action.models.convolutions import absorb_normalisation, compute_by_frames
from thermal_action.onnx_file import INFO_KEYS, KEY, seal
from thermal_action.script import run
from thermal_action.training.checkpoints import load_model

OPSET = 20
TOLERANCE = 1e-4  # of any output, against torch


class Flat(nn.Module):
    """A model with tensors in place of lists."""

    def __init__(self, model: ActionModel):
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, boxes: Tensor, owner: Tensor) -> tuple[Tensor, ...]:
        seen = frames[:, None]  # one channel tells what three that repeat it do
        logits = self.model.classifier(self.model.features_of(seen, boxes, owner))
        return (logits,) if self.model.detector is None else (logits, *self.model.detector(seen))


def example(windows: int, persons: int, shape: tuple[int, int, int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(persons, 2, generator=generator) * 0.6
    return {"frames": torch.rand(windows, *shape, generator=generator),
            "boxes": torch.cat([corners, corners + 0.1 + 0.2 * torch.rand(persons, 2, generator=generator)], dim=1),
            "owner": torch.randint(windows, (persons,), generator=generator)}


def export(model: ActionModel, info: dict, path: Path) -> float:
    """Writes `path`; returns how far its answers are from torch's."""
    if not {*COLOURS}.isdisjoint(model.inputs.channels):
        raise InputError("the model sees a video in colours, and an ONNX file of this script takes temperatures: use the model as"
                         " it is")
    flat, shape = Flat(model).eval(), (info["window"]["length"], *info["frame_size"])
    faster = compute_by_frames(absorb_normalisation(deepcopy(flat)))
    names = ["logits", *([] if model.detector is None else ["heat", "sides", "beds"])]
    inputs = example(2, 3, shape)
    moving = {"frames": {0: Dim("windows", min=1, max=4096)}, "boxes": {0: Dim("persons", min=1, max=65_536)},
              "owner": {0: Dim("persons", min=1, max=65_536)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own, about itself
        program = torch.onnx.export(faster, (), kwargs=inputs, dynamo=True, opset_version=OPSET, dynamic_shapes=moving,
                                    input_names=list(inputs), output_names=names, verbose=False)
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps({key: info[key] for key in INFO_KEYS}, sort_keys=True)})
    content = seal(proto.SerializeToString())
    largest = compare(flat, content, names, shape)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return largest


@torch.inference_mode()
def compare(flat: Flat, content: bytes, names: list[str], shape: tuple[int, int, int]) -> float:
    """The largest difference to torch on random windows, of other numbers than were exported with; InputError above TOLERANCE."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for seed, (windows, persons) in enumerate(((1, 1), (5, 2), (3, 7)), start=1):
        inputs = example(windows, persons, shape, seed)
        theirs = session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
        for name, ours, other in zip(names, flat(**inputs), theirs, strict=True):
            largest = max(largest, float(np.abs(ours.numpy() - other).max()))
            if ours.shape != other.shape or not largest <= TOLERANCE:
                raise InputError(f"{name} of the ONNX file differs by {largest:.2g} from what torch computes: export with another"
                                 " version of torch, onnx or onnxruntime")
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("onnx", type=Path)
    options = parser.parse_args()
    if options.onnx.suffix != ".onnx":
        parser.error(f"{options.onnx}: give a name that ends in .onnx")
    model, info = load_model(options.model)
    largest = export(model, info, options.onnx)
    print(f"export: {options.onnx} says what {options.model} says, to within {largest:.1g}")


if __name__ == "__main__":
    run(main)
