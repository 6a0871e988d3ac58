"""A training step of SlowFast R50 in MMAction2 1.2.0 and here, on the same windows, side by side; as a table in Markdown.

run  PYTHONPATH=stages /tmp/mma/bin/python -W ignore benchmarks/mmaction2_step.py [--sizes native 256x384]

Both are the 8x8 network of Kinetics with 14 classes and dropout 0.5, on three channels, and see frames 0, 8, ... (slow) and 0, 2,
... (fast) of a window of 64: MMAction2's own configuration, but for resample_rate, 8 in place of 4, since it expects every second
frame already; here spatial stride 32 and head clip, with lateral convolutions as MMAction2's (plain) and pytorchvideo's
(norm_relu). A step is forward, cross entropy, backward and SGD with momentum on one thread, of four windows of 40 x 60 pixels
(native) or one of 256 x 384 (minutes, 7 GB). The networks take turns; time is processor time, the best of some rounds, so that
other programs matter little. Before that the backbone here takes MMAction2's weights, and the logits of both are compared.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.models import ActionModel, build_model
from thermal_action.training.public_weights import rename

FRAMES, CLASSES = 64, 14
SIZES = {"native": (4, 40, 60, 12), "256x384": (1, 256, 384, 2)}  # windows, rows, columns, rounds
CONFIG = ".mim/configs/recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb.py"
MISSING = ("MMAction2 is not installed; make an environment that has it: python -m venv /tmp/mma && /tmp/mma/bin/pip install"
           " -r requirements.txt mmengine==0.10.7 mmcv-lite==2.1.0 mmaction2==1.2.0 importlib_metadata==10.2.0")
HEADINGS = ("network", "size", "parameters", "of the backbone", "GMAC", "ms of a step per window", "windows/s")


def build_theirs() -> nn.Module:
    # a localizer that nothing here uses, which the wheel lacks and mmaction.models imports (mmaction2#2714)
    for name in ("mmaction.models.localizers.drn", "mmaction.models.localizers.drn.drn"):
        sys.modules[name] = ModuleType(name)
    sys.modules["mmaction.models.localizers.drn.drn"].DRN = type("DRN", (), {})
    import mmaction
    from mmaction.registry import MODELS
    from mmaction.utils import register_all_modules
    from mmengine import Config

    register_all_modules()
    config = Config.fromfile(Path(mmaction.__file__).parent / CONFIG).model
    config.backbone.resample_rate = 8
    config.cls_head.num_classes = CLASSES
    return MODELS.build(config)


def build_ours(lateral: str) -> ActionModel:
    return build_model("slowfast_r50", num_classes=CLASSES, head="clip", spatial_stride=32, channels=["temperature"] * 3,
                       backbone={"lateral": lateral})


def predict(model: nn.Module, frames: Tensor) -> Tensor:
    """frames [B, 3, T, H, W] -> logits [B, classes]."""
    if isinstance(model, ActionModel):
        return model(frames, [frames.new_tensor([WHOLE_PICTURE])] * len(frames))
    return model(frames[:, None], stage="head")


@torch.no_grad()
def compare_logits(theirs: nn.Module, ours: ActionModel, frames: Tensor) -> str:
    """Of both backbones with the same weights, normalised by the batch as in training, under MMAction2's head without dropout."""
    weights = theirs.state_dict()
    names = rename("mmaction2", weights)  # None for those of the head
    ours.backbone.load_state_dict({new.removeprefix("backbone."): weights[name] for name, new in names.items() if new})
    theirs.cls_head.eval()
    logits, same = predict(theirs, frames), theirs.cls_head(ours.backbone(ours.inputs(frames)))
    theirs.cls_head.train()
    return f"logits of the same weights up to {logits.abs().max():.3f}, largest difference {(logits - same).abs().max():.1e}"


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_gmac(model: nn.Module, frames: Tensor) -> float:
    """10^9 multiplications of one window, forward."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        predict(model, frames[:1])
    return counter.get_total_flops() / 2e9


def measure_step(model: nn.Module, optimizer: torch.optim.Optimizer, frames: Tensor, labels: Tensor) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    optimizer.zero_grad()
    cross_entropy(predict(model, frames), labels).backward()
    optimizer.step()
    return time.process_time() - begun


def compare_steps(size: str) -> None:
    batch, rows, columns, rounds = SIZES[size]
    torch.manual_seed(0)
    frames = torch.rand(batch, 1, FRAMES, rows, columns).repeat(1, 3, 1, 1, 1)
    labels = torch.randint(CLASSES, (batch,))
    models = {"MMAction2": build_theirs(), "here, plain": build_ours("plain"), "here, norm_relu": build_ours("norm_relu")}
    print(f"{size}: {compare_logits(models['MMAction2'], models['here, plain'], frames)}\n")
    print(f"| {' | '.join(HEADINGS)} |\n|---|---{'|---:' * (len(HEADINGS) - 2)}|", flush=True)
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9) for name, model in models.items()}
    spent = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            spent[name].append(measure_step(model, optimizers[name], frames, labels))
    for name, model in models.items():
        best = min(spent[name]) / batch
        print(f"| {name} | {size} | {count_parameters(model):,} | {count_parameters(model.backbone):,} |"
              f" {count_gmac(model, frames):.3f} | {1000 * best:.0f} | {1 / best:.3f} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["native"], help="of the pictures")
    options = parser.parse_args()
    if importlib.util.find_spec("mmaction") is None:
        sys.exit(MISSING)
    torch.set_num_threads(1)
    for size in options.sizes:
        compare_steps(size)


if __name__ == "__main__":
    main()
