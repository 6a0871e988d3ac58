"""Trains the model that tells what each person in a keyframe is doing.

in   data/frames, data/annotations/{train,val}.json, metrics/validation_report.json (must say "ok": true)
out  models/best.pt      weights, and how to feed them (thermal_action/training/checkpoints.py)
     metrics/training/   learning curves: train/{loss,top1}, lr, val/{loss,top1,mean_class}; inner/... with select: inner
run  python stages/train.py   killed at any moment and run again, it goes on after the last finished epoch
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from dvclive import Live
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.files import file_sha256, fingerprint, read_json
from thermal_action.models import build_model
from thermal_action.models.options import Model, architecture, check_model
from thermal_action.params import Field, read_params, run, section
from thermal_action.runtime import Runtime
from thermal_action.training.checkpoints import Progress, UnfinishedRun, save_model
from thermal_action.training.engine import (
    Learner,
    average_weights,
    choose_device,
    score,
    train_one_epoch,
)
from thermal_action.training.loaders import Loaders, open_loaders
from thermal_action.training.losses import build_loss
from thermal_action.training.schedules import build_optimizer, build_schedule, lr_factor

FRAMES, ANNOTATIONS, REPORT = Path("data/frames"), Path("data/annotations"), Path("metrics/validation_report.json")
BEST, CURVES = Path("models/best.pt"), Path("metrics/training")
Share = Annotated[float, Field(ge=0, le=1)]


@section
class Augment:
    flip_horizontal: Share
    flip_vertical: Share
    shift_px: Annotated[int, Field(ge=0, le=64)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    offset_c: Annotated[float, Field(ge=0, le=20)]
    noise_c: Annotated[float, Field(ge=0, le=5)]
    box_jitter: Annotated[float, Field(ge=0, le=0.4)]


@section
class Train:
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]  # windows
    accumulate: Annotated[int, Field(ge=1, le=1024)]  # batches
    optimizer: Literal["sgd", "adamw"]
    lr: Annotated[float, Field(gt=0, le=10)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["cosine", "step", "exponential", "constant"]
    warmup_epochs: Annotated[float, Field(ge=0, le=1000)]
    final_lr: Share  # of the peak
    milestones: list[Share]  # of all epochs
    gamma: Annotated[float, Field(gt=0, le=1)]
    loss: Literal["cross_entropy", "focal", "balanced_softmax"]
    balance_tau: Annotated[float, Field(ge=0, le=2)]
    focal_alpha: Annotated[float, Field(gt=0, le=1)]
    focal_gamma: Annotated[float, Field(ge=0, le=10)]
    class_weights: Literal["none", "inverse", "effective"]
    effective_beta: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Annotated[float, Field(ge=0, le=1000)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["fp32", "bf16", "fp16"]
    select: Literal["last", "inner"]
    inner_val_fraction: Annotated[float, Field(gt=0, lt=1)]
    val_every: Annotated[int, Field(ge=0, le=10_000)]  # epochs
    augment: Augment


def check_choices(model: Model, params: Train) -> None:
    """What no single field can know."""
    check_model(model)
    if params.optimizer == "sgd" and params.nesterov and params.momentum == 0:
        raise InputError("params.yaml: train.nesterov needs a train.momentum above 0")


def require_valid_data() -> None:
    if read_json(REPORT).get("ok") is not True:
        raise InputError(f"{REPORT} does not say ok: correct what it lists under `problems` and run `dvc repro validate`")


def build_learner(model: Model, params: Train, loaders: Loaders, device: torch.device) -> Learner:
    torch.manual_seed(params.seed)
    network = build_model(**architecture(model), num_classes=len(loaders.info["classes"])).to(device)
    optimizer = build_optimizer([(network.parameters(), 1.0)], params.optimizer, lr=params.lr, weight_decay=params.weight_decay,
                                momentum=params.momentum, nesterov=params.nesterov)
    factor = lr_factor(params.schedule, epochs=params.epochs, warmup_epochs=params.warmup_epochs, final=params.final_lr,
                       milestones=tuple(params.milestones), gamma=params.gamma)
    schedule = build_schedule(optimizer, factor, -(-len(loaders.train) // params.accumulate))
    scaler = torch.amp.GradScaler(device.type, enabled=params.precision == "fp16")
    return Learner(network, optimizer, schedule, scaler, average_weights(network, params.ema) if params.ema else None)


def fingerprint_run(model: Model, params: Train) -> str:
    """Stands for everything that decides the result: parameters, data, code, torch."""
    stages = Path(__file__).parent
    inputs = [ANNOTATIONS / "train.json", ANNOTATIONS / "val.json", *sorted(FRAMES.glob("*.h5"))]
    modules = [Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)]
    code = sorted(file.relative_to(stages) for file in modules if file.is_relative_to(stages))
    return fingerprint({"model": asdict(model), "train": asdict(params), "torch": torch.__version__,
                        "inputs": {path.name: file_sha256(path) for path in inputs},
                        "code": {str(path): file_sha256(stages / path) for path in code}})


def run_epoch(epoch: int, learner: Learner, loaders: Loaders, loss: torch.nn.Module, params: Train,
              device: torch.device) -> dict[str, float]:
    """Trains epoch `epoch` (from 1) and returns its scalars, by their names in the learning curves."""
    loaders.train.sampler.set_epoch(epoch)
    loaders.train.dataset.dataset.set_epoch(epoch)
    bar = tqdm(loaders.train, desc=f"epoch {epoch}/{params.epochs}", unit="batch", leave=False, disable=None)
    result = train_one_epoch(learner, bar, loss, epoch=epoch, device=device, precision=params.precision,
                             accumulate=params.accumulate, clip_norm=params.clip_norm)
    scalars = {"train/loss": result["loss"], "train/top1": result["top1"], "lr": result["lr"]}
    # the validation side is watched, never used: neither the weights nor the choice of an epoch depend on it
    watch_val = epoch == params.epochs or params.val_every and epoch % params.val_every == 0
    for side, batches in (("inner", loaders.inner), ("val", loaders.val if watch_val else None)):
        if batches is not None:
            scores = score(learner.final_model, batches, device=device, precision=params.precision)
            scalars |= {f"{side}/{name}": value for name, value in scores.items()}
    return scalars


def log_epoch(live: Live, epoch: int, scalars: dict[str, float]) -> None:
    live.step = epoch
    for name, value in scalars.items():
        live.log_metric(name, value)
    live.next_step()


def keep_if_best(progress: Progress, learner: Learner, scalars: dict[str, float]) -> None:
    """select: inner. The mean of top-1 and mean-class accuracy decides; the first of equals stays."""
    inner = (scalars["inner/top1"] + scalars["inner/mean_class"]) / 2
    if inner > progress.best_score:
        progress.best_score, progress.best_epoch = inner, progress.epoch
        progress.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in learner.final_model.state_dict().items()}


def main() -> None:
    model, params, runtime = read_params("model", Model), read_params("train", Train), read_params("runtime", Runtime)
    check_choices(model, params)
    require_valid_data()
    device = choose_device(runtime.device)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    look = {"temperature_range": (model.input.min_c, model.input.max_c), "background": model.input.background}
    loaders = open_loaders(FRAMES, ANNOTATIONS, look=look, augment=asdict(params.augment), batch_size=params.batch_size,
                           seed=params.seed, inner_val_fraction=params.inner_val_fraction if params.select == "inner" else None,
                           workers=runtime.workers, pin_memory=device.type == "cuda")
    learner = build_learner(model, params, loaders, device)
    loss = build_loss(params.loss, torch.from_numpy(loaders.label_counts), class_weights=params.class_weights,
                      effective_beta=params.effective_beta, label_smoothing=params.label_smoothing,
                      focal_alpha=params.focal_alpha, focal_gamma=params.focal_gamma, balance_tau=params.balance_tau).to(device)

    unfinished = UnfinishedRun(os.environ.get("THERMAL_SCRATCH", ".scratch"), fingerprint_run(model, params))
    parts = {"model": learner.model, "optimizer": learner.optimizer, "schedule": learner.schedule, "scaler": learner.scaler,
             "average": learner.average}
    progress = unfinished.resume(device, **parts)
    if progress.epoch:
        print(f"train: goes on after epoch {progress.epoch} of {params.epochs} ({unfinished.path})")
    with Live(str(CURVES), dvcyaml=None, save_dvc_exp=False) as live:
        for epoch, scalars in enumerate(progress.history, start=1):
            log_epoch(live, epoch, scalars)
        while progress.epoch < params.epochs:
            scalars = run_epoch(progress.epoch + 1, learner, loaders, loss, params, device)
            progress.epoch += 1
            progress.history.append(scalars)
            if params.select == "inner":
                keep_if_best(progress, learner, scalars)
            unfinished.save(progress, **parts)
            log_epoch(live, progress.epoch, scalars)
            listed = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
            print(f"epoch {progress.epoch}/{params.epochs}  {listed}", flush=True)

    best = learner.final_model
    if params.select == "inner":
        best.load_state_dict(progress.best_weights)
    chosen = progress.best_epoch if params.select == "inner" else params.epochs
    training = {"epochs": params.epochs, "epoch": chosen, "select": params.select, "seed": params.seed}
    save_model(BEST, best, {**loaders.info, "model": architecture(model), "training": training})
    unfinished.discard()
    windows, persons = len(loaders.train.dataset), int(loaders.label_counts.sum())
    print(f"train: {windows} windows with {persons} persons of {np.count_nonzero(loaders.label_counts)} classes, {params.epochs}"
          f" epochs; {BEST} holds epoch {chosen}")


if __name__ == "__main__":
    run(main)
