"""A training step of SlowFast R50 in MMAction2 1.2.0 and here, on the same windows, side by side; as a table in Markdown.

run  PYTHONPATH=stages .venv-mmaction2/bin/python -W ignore benchmarks/mmaction2_step.py [--data data] [--sizes native 256x384]

Theirs is thermal_action/mmaction2/configs/slowfast_r50_recognition.py, fed by ThermalWindows, and a step is what its Runner makes
of a batch: normalisation, loss, backward, SGD. Here it is slowfast_r50 with spatial stride 32 and head clip, with lateral
convolutions as MMAction2's (plain) and pytorchvideo's (norm_relu), fed by ThermalActionDataset. Both see frames 0, 8, ... (slow)
and 0, 2, ... (fast) of a window of 64 in three channels, and learn 14 classes with dropout 0.5, by cross entropy and SGD, on one
thread: four windows of 40 x 60 pixels (native), or one enlarged to 256 x 384 (minutes, 7 GB).

Before that it is seen that both sides' windows are equal, the backbone here takes MMAction2's weights, and the logits of both are
compared. Then the networks take turns; time is processor time, the best of some rounds, so that other programs matter little.
"load" is what it takes to hand over a window whose frames are decoded already.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.flop_counter import FlopCounterMode

from thermal_action.boxes import WHOLE_PICTURE
from thermal_action.dataset import collate_fn
from thermal_action.models import ActionModel, build_model
from thermal_action.training.public_weights import rename

SIZES = {"native": (4, None, 12), "256x384": (1, (256, 384), 2)}  # windows, rows and columns, rounds
CONFIG = Path(__file__).resolve().parent.parent / "stages/thermal_action/mmaction2/configs/slowfast_r50_recognition.py"
HEADINGS = ("network", "size", "parameters", "of the backbone", "GMAC", "ms of a step per window", "windows/s", "load, ms")
Packed = dict  # of MMAction2: inputs, data_samples


def build_theirs(data: Path) -> tuple[nn.Module, object]:
    """The network and the validation windows of the configuration."""
    os.environ["THERMAL_DATA"] = str(data)
    from mmaction.registry import DATASETS, MODELS
    from mmengine import Config
    from mmengine.registry import init_default_scope

    config = Config.fromfile(CONFIG)  # imports thermal_action.mmaction2, which comes before mmaction.models
    init_default_scope("mmaction")
    return MODELS.build(config.model), DATASETS.build(config.val_dataloader.dataset)


def build_ours(lateral: str) -> ActionModel:
    return build_model("slowfast_r50", num_classes=14, head="clip", spatial_stride=32, channels=["temperature"] * 3, mean=0.3,
                       std=0.1, backbone={"lateral": lateral})


def load_theirs(windows: object, count: int) -> Packed:
    from mmengine.dataset import pseudo_collate
    return pseudo_collate([windows[index] for index in range(count)])


def load_ours(windows: object, count: int) -> Tensor:
    """[count, 3, T, H, W]: of the samples that MMAction2 is shown, through our own data set."""
    shown = [windows.get_data_info(index)["index"] for index in range(count)]
    return collate_fn([windows.windows[index] for index in shown])[0]


def predict(model: nn.Module, frames: Tensor) -> Tensor:
    """frames [B, 3, T, H, W] in [0, 1] -> logits [B, classes]."""
    if isinstance(model, ActionModel):
        return model(frames, [frames.new_tensor([WHOLE_PICTURE])] * len(frames))
    preprocess = model.data_preprocessor
    return model(((frames - preprocess.mean) / preprocess.std)[:, None], stage="head")


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


def processor_seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def step_theirs(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Packed) -> None:
    """What mmengine's BaseModel.train_step does on one process, without its log."""
    optimizer.zero_grad()
    loss, _ = model.parse_losses(model(**model.data_preprocessor(dict(batch), True), mode="loss"))
    loss.backward()
    optimizer.step()


def step_ours(model: nn.Module, optimizer: torch.optim.Optimizer, frames: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(predict(model, frames), labels).backward()
    optimizer.step()


def compare_steps(name: str, data: Path) -> None:
    count, size, rounds = SIZES[name]
    torch.manual_seed(0)
    theirs, windows = build_theirs(data)
    batch, frames = load_theirs(windows, count), load_ours(windows, count)
    assert torch.equal(torch.stack(batch["inputs"])[:, 0], frames), "MMAction2 was handed other windows"
    if size is not None:
        frames = torch.stack([interpolate(window, size, mode="bilinear") for window in frames])
        batch["inputs"] = [window[None] for window in frames]
    labels = torch.cat([sample.gt_label for sample in batch["data_samples"]])

    models = {"MMAction2": theirs, "here, plain": build_ours("plain"), "here, norm_relu": build_ours("norm_relu")}
    print(f"{name}: {count} equal windows; {compare_logits(theirs, models['here, plain'], frames)}\n")
    print(f"| {' | '.join(HEADINGS)} |\n|---|---{'|---:' * (len(HEADINGS) - 2)}|", flush=True)
    steps = {}
    for network, model in models.items():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        steps[network] = (lambda model=model, optimizer=optimizer: step_theirs(model, optimizer, batch)) if model is theirs else (
            lambda model=model, optimizer=optimizer: step_ours(model, optimizer, frames, labels))
    spent = {network: [] for network in models}
    for _ in range(rounds):
        for network, step in steps.items():
            spent[network].append(processor_seconds(step))
    for network, model in models.items():
        best = min(spent[network]) / count
        load = min(processor_seconds(lambda model=model: (load_theirs if model is theirs else load_ours)(windows, count))
                   for _ in range(20)) / count
        print(f"| {network} | {name} | {count_parameters(model):,} | {count_parameters(model.backbone):,} |"
              f" {count_gmac(model, frames):.3f} | {1000 * best:.0f} | {1 / best:.3f} | {1000 * load:.2f} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of frames/ and annotations/")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["native"], help="of the pictures")
    options = parser.parse_args()
    if not (options.data / "annotations/val.json").exists():
        sys.exit(f"{options.data}/annotations/val.json does not exist: run `dvc repro coco`, or give --data")
    torch.set_num_threads(1)
    for size in options.sizes:
        compare_steps(size, options.data)


if __name__ == "__main__":
    main()
