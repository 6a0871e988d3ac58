"""Several processes that train one model, each on its share of every batch: DistributedDataParallel under torchrun."""

import ctypes
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from thermal_action import InputError

# Rank 0 scores and writes alone, and the others wait for it this long.
PATIENCE = timedelta(hours=6)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A rank that failed as a consequence of another, or like it, leaves that one this long to end all.
GRACE_S = 10.0


@dataclass(frozen=True)
class Team:
    """This process among those that train together. Alone, nothing is communicated."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, scores and writes."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the ranks, in double precision."""
        if self.size == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(totals)
        return totals.tolist()

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def seed_epoch(self, seed: int, epoch: int) -> np.random.Generator:
        """Makes an epoch's random numbers a function of (seed, epoch, rank): torch's own (dropout), and those returned (mixup).

        So a resumed run needs no memory of them, and no two ranks drop the same.
        """
        sequence = np.random.SeedSequence([seed, epoch, self.rank], spawn_key=(1,))  # none of any window's augmentation
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        return np.random.default_rng(sequence)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            distributed.barrier()

    def align(self, model: nn.Module) -> nn.Module:
        """`model` with rank 0's weights on every rank, its batch normalisation made one over all ranks."""
        if self.size == 1:
            return model
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, 0)
        return synchronise(model, self.device)

    def replicate(self, model: nn.Module) -> nn.Module:
        """`model`, or a wrapper around it that averages gradients over the ranks; good until another set of parameters learns."""
        if self.size == 1:
            return model
        # normalisation is synchronised or at rest, so that buffers are equal without being sent around
        return DistributedDataParallel(model, forward_sync_buffers=False)

    def accumulating(self, replica: nn.Module, last: bool) -> AbstractContextManager:
        """Around a forward and backward pass: only the `last` one of an optimizer step exchanges gradients."""
        return nullcontext() if last or self.size == 1 else replica.no_sync()


def count_ranks(wanted: int, device: torch.device, batch_size: int) -> int:
    """How many processes train: `wanted`, or as many as torchrun has started. InputError when batch or GPUs do not allow it."""
    ranks = int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else wanted
    if batch_size % ranks:
        raise InputError(f"params.yaml: train.batch_size {batch_size} cannot be shared evenly by {ranks} processes: make it a"
                         " multiple of runtime.ranks")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))  # torchrun may have started others on other machines
    if device.type == "cuda" and here > torch.cuda.device_count():
        raise InputError(f"params.yaml: runtime.ranks {here} needs as many GPUs, and torch sees {torch.cuda.device_count()}:"
                         " lower it, or set runtime.device to cpu")
    return ranks


def launch(ranks: int) -> None:
    """Runs this command in `ranks` processes, as `torchrun --standalone --nproc-per-node` would, and ends with their exit code.

    The first one to fail ends all; it has then said why, and torchrun's own account of it is left out. Does nothing for one
    process, and in those that torchrun has started.
    """
    if ranks == 1 or distributed.is_torchelastic_launched():
        return
    logging.disable(logging.ERROR)
    with TemporaryDirectory() as logs:
        config = LaunchConfig(1, 1, ranks, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                              local_addr="localhost", max_restarts=0, logs_specs=DefaultLogsSpecs(log_dir=logs))
        try:
            elastic_launch(config, sys.executable)(*sys.argv)
        except ChildFailedError as error:
            sys.exit(error.get_first_failure()[1].exitcode)
        except SignalException as received:
            if received.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + received.sigval)
    sys.exit(0)


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """This process's place in the team that torchrun has started; a team of one without torchrun."""
    if not distributed.is_torchelastic_launched():
        yield Team(device)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the launcher as well, which speaks for all
    if sys.platform == "linux":  # a launcher that is killed takes its ranks along, instead of leaving them to a second run's way
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    team = Team(device, distributed.get_rank(), distributed.get_world_size())
    try:
        yield team
    except (InputError, RuntimeError) as error:
        # mostly every rank meets the same bad input, and says so as one; and whoever waited for a rank that failed is told that
        # a connection broke, which is nobody's concern
        if not team.first or isinstance(error, RuntimeError):
            time.sleep(GRACE_S)
        raise
    distributed.destroy_process_group()


class SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over the ranks; a loss on any of them sends its gradient to all."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return SumOverRanks.forward(context, gradient)


class SynchronisedNorm(_BatchNorm):
    """Batch normalisation by mean and variance over all ranks, for the CPU, which torch's SyncBatchNorm refuses.

    Output, running statistics and gradients are those of one process with the whole batch (Ioffe and Szegedy, ICML 2015), but for
    rounding; the state has the keys of the layer that it replaces.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any [N, C, ...]."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        variance, mean = (each.double() for each in torch.var_mean(input.to(self.weight.dtype), axes, correction=0))
        count = torch.full_like(mean, input.numel() // input.shape[1])
        count, total, squares = SumOverRanks.apply(torch.stack([count, count * mean, count * (variance + mean**2)]))
        mean = total / count
        variance = squares / count - mean**2
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        return torch.addcmul(shift.to(self.weight.dtype).view(shape), input, scale.to(self.weight.dtype).view(shape))


def synchronise(module: nn.Module, device: torch.device) -> nn.Module:
    """Replaces the batch normalisation in `module` by one over all ranks that shares its weights and statistics."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            synchronised = SynchronisedNorm(child.num_features, child.eps, child.momentum)
            for own in ("_parameters", "_buffers"):
                getattr(synchronised, own).update(getattr(child, own))
            setattr(module, name, synchronised.train(child.training))
        else:
            synchronise(child, device)
    return module
