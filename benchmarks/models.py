"""What each network costs: parameters, multiplications, time on one core, memory; as a table in Markdown.

run  PYTHONPATH=stages python benchmarks/models.py [name ...] [--head roi] [--enlarged] [--json models.json]
     PYTHONPATH=stages python benchmarks/models.py --convolutions

Every network that models/__init__.py names, sized as params.yaml says and with its head, on windows of 64 frames of 40 x 60
pixels with two persons; --enlarged adds slowfast_r50 at 256 x 384 with head roi, in its published stride (minutes). Each runs in
a process of its own on one thread. Time is processor time, the best of several rounds, so that other programs matter little;
multiplications are half of what torch.utils.flop_counter counts; memory is the most that the process held in training,
torch and its libraries among it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from thermal_action.files import write_json
from thermal_action.models import BACKBONES, build_model
from thermal_action.models.convolutions import DepthwiseConv3d, TemporalConv3d
from thermal_action.params import read_params
from thermal_action.training.engine import Precision, autocast
from thermal_action.training.options import Model, architecture

FRAMES, ROWS, COLS, BATCH = 64, 40, 60, 4
SECONDS = 5  # of rounds, at least two
BOXES = torch.tensor([[0.1, 0.1, 0.3, 0.4], [0.5, 0.3, 0.7, 0.6]])
STRIDES = {"thermal_tiny": 4}  # pixels a cell; 8 for all others
ENLARGED = ("slowfast_r50", "roi", "256x384", 32)
HEADINGS = ("network", "pixels a cell", "parameters", "GMAC", "ms a window", "training windows/s", "MB")
# input and output channels, groups, kernel, and size of the map (T, H, W)
CONVOLUTIONS = (
    (TemporalConv3d, 16, 8, 1, (3, 1, 1), (32, 10, 15)),
    (TemporalConv3d, 256, 64, 1, (3, 1, 1), (8, 5, 8)),
    (DepthwiseConv3d, 108, 108, 108, (3, 3, 3), (13, 10, 15)),
    (DepthwiseConv3d, 256, 256, 256, (3, 3, 3), (32, 5, 8)),
)


def measure(work: Callable[[], object]) -> float:
    """Seconds of processor time, the best of some rounds."""
    spent = []
    while len(spent) < 2 or sum(spent) < SECONDS:
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return min(spent)


def count_gmac(model: nn.Module, frames: Tensor) -> float:
    """10^9 multiplications of one window. Without oneDNN, whose LSTM is one operation that the counter does not know."""
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        model(frames, [BOXES])
    return counter.get_total_flops() / 2e9


def count_parameters(model: nn.Module) -> int:
    """Without those of the person detector, which is the same beside all."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if not name.startswith("detector."))


def build(name: str, head: str, size: str, stride: int) -> nn.Module:
    params = read_params("model", Model)
    params = replace(params, name=name, spatial_stride=stride, head=head, input=replace(params.input, size=size))
    return build_model(**architecture(params), num_classes=14)


def make_windows() -> Tensor:
    return torch.rand(BATCH, 1, FRAMES, ROWS, COLS).expand(-1, 3, -1, -1, -1)


def training_step(model: nn.Module, frames: Tensor, precision: Precision = "fp32") -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        with autocast(frames.device, precision):
            logits = model(frames, [BOXES] * len(frames))
        logits.float().logsumexp(dim=1).mean().backward()
        optimizer.step()

    return step


def measure_model(name: str, head: str, size: str, stride: int) -> dict[str, float]:
    model, frames = build(name, head, size, stride), make_windows()
    step = training_step(model, frames)
    model.eval()
    with torch.inference_mode():
        inference = measure(lambda: model(frames[:1], [BOXES]))
    gmac = count_gmac(model, frames[:1])
    model.train()
    return {"spatial_stride": stride, "parameters": count_parameters(model), "gmac": gmac,
            "ms": 1000 * inference, "clips_per_s": BATCH / measure(step),
            "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure_apart(name: str, head: str, size: str, stride: int) -> dict[str, float]:
    """As measure_model, in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", name, head, size, str(stride)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def format_row(key: str, cost: dict[str, float]) -> str:
    return (f"| {key} | {cost['spatial_stride']} | {cost['parameters'] / 1e6:.2f} M | {cost['gmac']:.2f} | {cost['ms']:.0f} |"
            f" {cost['clips_per_s']:.2f} | {cost['mb']:.0f} |")


def compare_models(names: list[str], head: str, enlarged: bool, file: Path | None) -> None:
    runs = {f"{name} {head}": (name, head, "native", STRIDES.get(name, 8)) for name in names}
    if enlarged:
        runs[" ".join(ENLARGED[:3])] = ENLARGED
    print(f"| {' | '.join(HEADINGS)} |\n|---{'|---:' * (len(HEADINGS) - 1)}|")
    costs = {}
    for key, run in runs.items():
        costs[key] = measure_apart(*run)
        print(format_row(key, costs[key]), flush=True)
    if file:
        write_json(file, {"models": costs})


def measure_convolution(convolution: nn.Module, x: Tensor) -> str:
    """Milliseconds of forward alone, and of forward and backward."""
    with torch.no_grad():
        forward = measure(lambda: convolution(x))
    both = measure(lambda: convolution(x).sum().backward())
    return f"{1000 * forward:9.2f} {1000 * both:9.2f}"


def compare_convolutions() -> None:
    """Of torch and of ours, on a batch of four."""
    print(f"{'milliseconds forward, and with backward':60} {'torch':>19} {'ours':>19}")
    for kind, inner, outer, groups, kernel, size in CONVOLUTIONS:
        options = {"kernel_size": kernel, "padding": tuple(side // 2 for side in kernel), "groups": groups, "bias": False}
        x = torch.rand(BATCH, inner, *size, requires_grad=True)
        shown = f"{inner} -> {outer}, {groups} groups, kernel {kernel}, map {size}"
        print(f"{shown:60}", *(measure_convolution(each(inner, outer, **options), x) for each in (nn.Conv3d, kind)))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", default=list(BACKBONES), help="only these networks")
    parser.add_argument("--head", choices=["roi", "crop"], default=read_params("model", Model).head)
    parser.add_argument("--enlarged", action="store_true", help="slowfast_r50 at 256x384 as well")
    parser.add_argument("--json", type=Path, help="file for the table's numbers")
    parser.add_argument("--convolutions", action="store_true", help="torch's and our convolutions side by side")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, head, size, stride = options.one
        print(json.dumps(measure_model(name, head, size, int(stride))))
    elif options.convolutions:
        compare_convolutions()
    else:
        compare_models(options.name, options.head, options.enlarged, options.json)


if __name__ == "__main__":
    main()
