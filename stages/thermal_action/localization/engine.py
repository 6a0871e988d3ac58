"""Trains ActionFormer, in the package's own steps: what its command line would do, on any device, and resumable."""

import io
import os
import random
from collections import defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from actionformer import make_dataset, make_meta_arch
from actionformer.datasets.data_utils import trivial_batch_collator, worker_init_reset_seed
from actionformer.utils import ModelEma, fix_random_seed, make_optimizer, make_scheduler, train_one_epoch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from thermal_action import InputError
from thermal_action.localization import samples  # noqa: F401  registers the dataset class of our own recordings
from thermal_action.localization.checkpoints import different, load_weights, read_checkpoint, save


class Average(ModelEma):
    """Moving average of the weights: the package's, or for our own recordings one whose memory grows with the run.

    With the package's constant decay of 0.999 the random weights of the beginning are 78 % of the average after 245 steps. Here
    after n steps the decay is min(0.999, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage with num_updates.
    """

    def __init__(self, model: nn.Module, growing: bool):
        super().__init__(model)
        self.growing, self.updates = growing, 0

    def update(self, model: nn.Module) -> None:
        self.updates += 1
        if self.growing:
            self.decay = min(0.999, (1 + self.updates) / (10 + self.updates))
        super().update(model)


@dataclass
class Learner:
    """Everything that a step changes, but for random numbers."""

    model: nn.Module
    average: Average
    optimizer: Optimizer
    scheduler: LRScheduler
    history: list[dict[str, float]] = field(default_factory=list)  # losses of each finished epoch, mAP of some

    def state(self, config: dict) -> dict:
        """What a checkpoint holds: under the names of the published ones, and what they lack for a run to go on."""
        kind, numbers, *rest = np.random.get_state()
        return {
            "epoch": len(self.history), "history": self.history, "config": config, "updates": self.average.updates,
            "state_dict": self.model.state_dict(), "state_dict_ema": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
            "loss_normalizer": self.model.loss_normalizer,
            "random": {"torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "python": random.getstate(),
                       "numpy": (kind, numbers.tolist(), *rest)},
        }

    def averaged(self, config: dict) -> dict:
        """What it takes to find segments, but not to go on."""
        return {"epoch": len(self.history), "config": config, "state_dict_ema": self.average.module.state_dict()}

    def keep_best(self, path: Path, mean: float, config: dict) -> None:
        """A checkpoint to find segments with, where no earlier epoch has a mAP as high as `mean`."""
        if mean > max((each["mAP"] for each in self.history if "mAP" in each), default=-1):
            save(path, self.averaged(config))

    def resume(self, path: Path, config: dict) -> None:
        """Goes on where the run of `path` was. InputError for a checkpoint of other settings, or one that cannot go on."""
        content = read_checkpoint(path)
        if lacking := self.state(config).keys() - content.keys():
            raise InputError(f"{path} lacks {min(lacking)!r}, with which training would go on: give the last.pt of a run")
        if differing := different(content["config"], config):
            raise InputError(f"{path} was trained with other settings ({differing}): repeat the command that it began with")
        load_weights(self.model, content["state_dict"], path)
        load_weights(self.average.module, content["state_dict_ema"], path)
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        self.model.loss_normalizer, self.average.updates = content["loss_normalizer"], content["updates"]
        self.history = content["history"]
        drawn = content["random"]
        torch.set_rng_state(drawn["torch"])
        torch.cuda.set_rng_state_all(drawn["cuda"][:torch.cuda.device_count()])
        random.setstate(drawn["python"])
        np.random.set_state(drawn["numpy"])


def choose_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no CUDA device; give auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def set_threads(count: int) -> None:
    """Of torch on the CPU; 0: one per core."""
    if count:
        torch.set_num_threads(count)


def describe_environment(device: torch.device) -> dict[str, str | int]:
    """What decides the last bits of a result, beside the settings."""
    return {"device": device.type, "torch": torch.__version__, "actionformer": version("actionformer"),
            "threads": torch.get_num_threads(), "PYTORCH_JIT": os.environ["PYTORCH_JIT"]}


def start(config: dict, device: torch.device, *, growing: bool) -> tuple[Learner, DataLoader]:
    """The learner before its first step, and the training samples, in the order in which the package draws random numbers."""
    generator = fix_random_seed(config["init_rand_seed"])
    data = make_dataset(config["dataset_name"], True, config["train_split"], **config["dataset"])
    config["train_cfg"]["head_empty_cls"] = data.get_attributes()["empty_label_ids"]
    # no persistent workers: each epoch seeds new ones, from numbers that a checkpoint keeps
    batches = DataLoader(data, min(config["loader"]["batch_size"], len(data)), shuffle=True, drop_last=True,
                         collate_fn=trivial_batch_collator, num_workers=config["loader"]["num_workers"],
                         worker_init_fn=worker_init_reset_seed, generator=generator)
    model = make_meta_arch(config["model_name"], **config["model"]).to(device)
    optimizer = make_optimizer(model, config["opt"])
    return Learner(model, Average(model, growing), optimizer, make_scheduler(optimizer, config["opt"], len(batches))), batches


def train_epoch(learner: Learner, batches: DataLoader, clip_norm: float) -> dict[str, float]:
    """One epoch of the package; returns its mean losses and the last learning rate."""
    seen = defaultdict(list)

    def keep(_: nn.Module, __: tuple, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            seen[name].append(value.detach())

    hook = learner.model.register_forward_hook(keep)
    epoch = len(learner.history)
    bar = tqdm(batches, desc=f"epoch {epoch + 1}", unit="batch", leave=False, disable=None)
    with redirect_stdout(io.StringIO()):
        # it never comes to print losses, before which it would wait for a GPU, be there one or not
        train_one_epoch(bar, learner.model, learner.optimizer, learner.scheduler, epoch, model_ema=learner.average,
                        clip_grad_l2norm=clip_norm, print_freq=len(batches) + 1)
    hook.remove()
    losses = {name: torch.stack(values).mean().item() for name, values in seen.items()}
    if not np.isfinite(losses["final_loss"]):
        raise InputError(f"the loss of epoch {epoch + 1} is not finite: lower --learning_rate, or look for huge features")
    return losses | {"learning_rate": learner.scheduler.get_last_lr()[0]}
