"""What a training step costs and where a window's time goes, in milliseconds of processor time per window, on one core.

run  PYTHONPATH=stages OMP_NUM_THREADS=1 python benchmarks/learning.py [frames-folder annotations.json]

Processor time, so that other programs on the machine matter little; the best of several rounds. With a data set, loading
is measured too: without and with decoded chunks kept, and with augmentation.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from thermal_action.dataset import ThermalActionDataset, collate_fn
from thermal_action.models import build_model
from thermal_action.models.slowfast import TemporalConv3d
from thermal_action.transforms import ThermalActionTransform

WINDOWS, ROUNDS = 8, 4
CONFIGURATIONS = (
    {"width": 8, "beta": 2, "spatial_stride": 8},
    {"width": 8, "beta": 2, "spatial_stride": 4},
    {"width": 16, "beta": 4, "spatial_stride": 8},
    {"width": 16, "beta": 4, "spatial_stride": 16},
    {"width": 32, "beta": 8, "spatial_stride": 8},
)
# input channels, output channels, kernel over time, stride over time, and size of the map (T, H, W)
CONVOLUTIONS = ((16, 8, 3, 1, (32, 10, 15)), (64, 32, 3, 1, (32, 5, 8)), (256, 64, 3, 1, (8, 5, 8)))


def measure(work: Callable[[], object], windows: int = WINDOWS) -> float:
    """Milliseconds of processor time per window, best of some rounds after one to warm up."""
    work()
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return 1000 * min(spent) / windows


def measure_convolution(kind: type[nn.Conv3d], inner: int, outer: int, kernel: int, stride: int, size: tuple) -> float:
    convolution = kind(inner, outer, (kernel, 1, 1), (stride, 1, 1), (kernel // 2, 0, 0), bias=False)
    x = torch.rand(WINDOWS, inner, *size, requires_grad=True)
    return measure(lambda: convolution(x).sum().backward())


def measure_model(precision: torch.dtype = torch.float32, **config) -> tuple[float, float, int]:
    """(training step, inference, parameters) of a model on random windows with two persons each."""
    model = build_model("slowfast", num_classes=14, **config)
    optimizer = torch.optim.AdamW(model.parameters())
    frames = torch.rand(WINDOWS, 1, 64, 40, 60).expand(-1, 3, -1, -1, -1)
    boxes = [torch.tensor([[0.1, 0.1, 0.3, 0.4], [0.5, 0.3, 0.7, 0.6]])] * WINDOWS

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            return model(frames, boxes).float()

    def step() -> None:
        optimizer.zero_grad()
        forward().logsumexp(dim=1).mean().backward()
        optimizer.step()

    training = measure(step)
    model.eval()
    with torch.no_grad():
        return training, measure(forward), sum(parameter.numel() for parameter in model.parameters())


def measure_loading(frames: str, annotations: str) -> None:
    for name, cache_mb, is_train in (("from HDF5", 0, False), ("decoded frames kept", 512, False), ("and augmented", 512, True)):
        data = ThermalActionDataset(frames, annotations, ThermalActionTransform(is_train), cache_mb=cache_mb)
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:100].tolist()
        spent = measure(lambda data=data, order=order: collate_fn([data[index] for index in order]), len(order))
        print(f"loading, {name:20} {spent:6.1f}")


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"convolution over time          {'Conv3d':>8} {'folded':>8}")
    for case in CONVOLUTIONS:
        plain, folded = (measure_convolution(kind, *case) for kind in (nn.Conv3d, TemporalConv3d))
        print(f"{case[0]:4} -> {case[1]:3}, kernel {case[2]}, {case[4]!s:14} {plain:8.2f} {folded:8.2f}")
    print(f"model                                              {'train':>8} {'infer':>8}  parameters")
    for config in CONFIGURATIONS:
        training, inference, parameters = measure_model(**config)
        listed = ", ".join(f"{name} {value}" for name, value in config.items())
        print(f"{listed:50} {training:8.1f} {inference:8.1f}  {parameters:,}")
    training, inference, _ = measure_model(torch.bfloat16, **CONFIGURATIONS[0])
    print(f"{'the first, bf16 autocast':50} {training:8.1f} {inference:8.1f}")
    if len(sys.argv) == 3:
        measure_loading(*sys.argv[1:])


if __name__ == "__main__":
    main()
