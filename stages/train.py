"""Trains the model that tells what each person in a keyframe is doing.

in   data/frames, data/annotations/{train,val}.json, metrics/validation_report.json (must say "ok": true)
out  models/best.pt          weights, and how to feed them (thermal_action/training/checkpoints.py)
     metrics/training/       learning curves: train/{loss,top1,finding}, lr, val/{loss,top1,mean_class}, with select: inner also
                             inner/..., curves.png of them; init.json: which of the starting weights were used, which not, and why
     metrics/augmentation/   pictures of what augmentation does to a window
run  python stages/train.py  killed at any moment and run again, it goes on after the last finished epoch; with runtime.ranks
                             above 1 it starts itself that many times (`torchrun stages/train.py` does the same by hand)
"""

import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from dvclive import Live
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.files import code_sha256, file_sha256, fingerprint, replacing_folder, write_json
from thermal_action.models import ActionModel, build_model
from thermal_action.params import read_params
from thermal_action.pictures import draw_augmentations, draw_curves
from thermal_action.records import read_record, record
from thermal_action.runtime import Runtime
from thermal_action.script import run
from thermal_action.training.augmentation_examples import examples
from thermal_action.training.checkpoints import save_model
from thermal_action.training.distributed import Team, count_ranks, joined, launch
from thermal_action.training.engine import choose_device, score
from thermal_action.training.epoch import Learner, train_one_epoch
from thermal_action.training.finding import BoxSource
from thermal_action.training.initial import blend, check_init, initialise, summary
from thermal_action.training.loaders import Loaders, open_loaders
from thermal_action.training.options import Model, architecture, check_model
from thermal_action.training.recipe import Train, build_epoch_loss, build_learner, check_recipe
from thermal_action.training.stopping import EarlyStopping
from thermal_action.training.unfinished import Progress, UnfinishedRun

FRAMES, ANNOTATIONS, REPORT = Path("data/frames"), Path("data/annotations"), Path("metrics/validation_report.json")
BEST, CURVES, AUGMENTATION = Path("models/best.pt"), Path("metrics/training"), Path("metrics/augmentation")
SCRATCH = Path(os.environ.get("THERMAL_SCRATCH", ".scratch"))


@record
class Report:
    ok: bool = False


def require_valid_data() -> None:
    if not read_record(REPORT, Report, "validate").ok:
        raise InputError(f"{REPORT} does not say ok: correct what it lists under `problems` and run `dvc repro validate`")


def open_data(model: Model, params: Train, runtime: Runtime, team: Team) -> Loaders:
    look = {"temperature_range": (model.input.min_c, model.input.max_c), "background": model.input.background}
    return open_loaders(FRAMES, ANNOTATIONS, look=look, augment=asdict(params.augment),
                        label_per="clip" if model.head == "clip" else "person", batch_size=params.batch_size,
                        sampler=params.sampler, seed=params.seed,
                        inner_val_fraction=params.inner_val_fraction if params.select == "inner" else None,
                        inner_split_by=params.inner_split_by,
                        team=team, workers=runtime.workers, cache_mb=runtime.cache_mb)


def start_network(shape: dict, params: Train, classes: list[str], team: Team) -> tuple[ActionModel, dict]:
    """The network of arguments `shape`, and the report on the weights that it starts from."""
    torch.manual_seed(params.seed)
    network = build_model(**shape, num_classes=len(classes)).to(team.device)
    # rank 0 alone downloads and reads; the others take its weights
    report = initialise(network, params.init, classes=classes, scratch=SCRATCH) if team.first else None
    return team.align(network), team.share(report)


def fingerprint_run(model: Model, params: Train, origin: dict, team: Team) -> str:
    """Stands for everything that decides the result: parameters, starting weights, data, code, torch, what rounds differently."""
    inputs = [ANNOTATIONS / "train.json", ANNOTATIONS / "val.json", *sorted(FRAMES.glob("*.h5"))]
    return fingerprint({"model": asdict(model), "train": asdict(params), "origin": origin,
                        "torch": torch.__version__, "threads": torch.get_num_threads(), "ranks": team.size,
                        "device": team.device.type,
                        "inputs": {path.name: file_sha256(path) for path in inputs},
                        "code": code_sha256(__file__)})


def run_epoch(epoch: int, learner: Learner, loaders: Loaders, params: Train, boxes_from: BoxSource, team: Team,
              ) -> dict[str, float]:
    """Trains epoch `epoch` (from 1) and returns its scalars, by their names in the learning curves."""
    learner.strategy.start_epoch(epoch, learner.optimizer, learner.average)
    batches = loaders.train if learner.strategy.phase(epoch) else loaders.balanced  # the classifier alone, on balanced classes
    counts = torch.from_numpy(loaders.label_counts)
    loss = build_epoch_loss(params, epoch, learner, counts, batches.sampler.drawn(len(counts))).to(team.device)
    batches.sampler.set_epoch(epoch)
    batches.dataset.set_epoch(epoch)
    bar = tqdm(batches, desc=f"epoch {epoch}/{params.epochs}", unit="batch", leave=False, disable=None if team.first else True)
    result = train_one_epoch(learner, bar, loss, epoch=epoch, team=team, generator=team.seed_epoch(params.seed, epoch),
                             precision=params.precision, accumulate=params.accumulate, clip_norm=params.clip_norm,
                             mixup=params.mixup, finding=params.finding, boxes_from=boxes_from)
    lr = result.pop("lr")
    scalars = {f"train/{name}": value for name, value in result.items()} | {"lr": lr}
    return team.share(scalars | score_sides(epoch, learner, loaders, params, team.device) if team.first else None)


def score_sides(epoch: int, learner: Learner, loaders: Loaders, params: Train, device: torch.device) -> dict[str, float]:
    # the validation side is watched, never used: neither the weights nor the choice of an epoch depend on it
    watch_val = epoch == params.epochs or params.val_every and epoch % params.val_every == 0
    scalars = {}
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


def learn(model: Model, params: Train, runtime: Runtime, team: Team) -> None:
    torch.set_num_threads(runtime.threads or max(1, torch.get_num_threads() // team.size))
    loaders = open_data(model, params, runtime, team)
    shape = architecture(model, loaders.info["window"]["keyframe"])
    network, origin = start_network(shape, params, loaders.info["classes"], team)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()} if params.init.keep else {}
    learner = build_learner(params, network, -(-len(loaders.train) // params.accumulate), team.device)
    stopping = EarlyStopping(params.patience, params.min_delta, params.monitor)

    unfinished = UnfinishedRun(SCRATCH, team.share(fingerprint_run(model, params, origin, team) if team.first else None))
    states = learner.states | {"stopping": stopping}
    progress = unfinished.resume(team.device, **states)
    team.wait()  # until all have read what rank 0 will overwrite
    if team.first:
        describe_start(loaders, params, origin)
        if progress.epoch:
            print(f"train: goes on after epoch {progress.epoch} of {params.epochs} ({unfinished.path})")
    with Live(str(CURVES), dvcyaml=None, save_dvc_exp=False) if team.first else nullcontext() as live:
        for epoch, scalars in enumerate(progress.history if team.first else [], start=1):
            log_epoch(live, epoch, scalars)
        while progress.epoch < params.epochs and not progress.stopped:
            scalars = run_epoch(progress.epoch + 1, learner, loaders, params, model.boxes, team)
            progress.epoch += 1
            progress.history.append(scalars)
            if params.select == "inner":
                watched = float(np.mean([scalars[f"inner/{name}"] for name in params.watched]))
                progress.judge(learner.final_model, watched, stopping)
            if team.first:
                unfinished.save(progress, **states)
                log_epoch(live, progress.epoch, scalars)
                listed = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
                print(f"epoch {progress.epoch}/{params.epochs}  {listed}", flush=True)
    if team.first:
        draw_curves(CURVES / "curves.png", progress.history)
        keep_model(shape, params, loaders, learner, progress, origin, start)
        unfinished.discard()


def describe_start(loaders: Loaders, params: Train, origin: dict) -> None:
    """What is known before the first epoch: pictures of the augmentation, where the weights come from, what is held back."""
    data = loaders.train.dataset
    crowded = max(range(len(data)), key=lambda index: len(data.samples[index].boxes))
    with replacing_folder(AUGMENTATION) as folder:
        draw_augmentations(folder / "augmentation.png",
                           examples(data, crowded, seed=params.seed, **asdict(params.augment)))
    write_json(CURVES / "init.json", origin)
    if told := summary(origin):
        print(told)
    if loaders.inner is not None:
        kept = len(loaders.inner.dataset)
        print(f"train: the best epoch is chosen on {kept} of the {len(data) + loaders.purged + kept} training windows;"
              f" {loaders.purged} that share frames with them are left out")


def keep_model(shape: dict, params: Train, loaders: Loaders, learner: Learner, progress: Progress, origin: dict,
               start: dict[str, torch.Tensor]) -> None:
    best, chosen = learner.final_model, progress.epoch
    if params.select == "inner":
        best.load_state_dict(progress.best_weights)
        chosen = progress.best_epoch
    if params.init.keep:
        blend(best, start, params.init.keep)
    training = {"epochs": progress.epoch, "epoch": chosen, "select": params.select, "seed": params.seed, "init": origin}
    save_model(BEST, best, {**loaders.info, "model": shape, "training": training})
    windows, persons = len(loaders.train.dataset), int(loaders.label_counts.sum())
    print(f"train: {windows} windows with {persons} persons of {np.count_nonzero(loaders.label_counts)} classes,"
          f" {progress.epoch} epochs; {BEST} holds epoch {chosen}")


def main() -> None:
    model, params, runtime = read_params("model", Model), read_params("train", Train), read_params("runtime", Runtime)
    check_model(model)
    check_recipe(params, model.classifier)
    check_init(params.init)
    require_valid_data()
    device = choose_device(runtime.device)
    launch(count_ranks(runtime.ranks, device, params.batch_size))
    with joined(device) as team:
        learn(model, params, runtime, team)


if __name__ == "__main__":
    run(main, alone=True)
