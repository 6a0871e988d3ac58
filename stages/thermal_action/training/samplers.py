"""Which training windows an epoch shows, and in which order."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

SamplerKind = Literal["shuffle", "class_balanced", "square_root"]


class EpochSampler(Sampler[tuple[int, int]]):
    """One epoch: as many draws as there are windows, each an (index, copy).

    labels_per_window: class ids of the persons of each training window, in the order of the dataset.
    shuffle: each window once. class_balanced, square_root: with replacement, a window as often as the rarest class in it asks
    for, 1 / n or 1 / sqrt(n) (Mahajan et al., ECCV 2018). The rarest, not the mean: whoever lies at risk often has carers
    beside them, and a mean would draw such a window less often the more of them stand there (LVIS takes the rarest too, Gupta
    et al., CVPR 2019). Empty windows are drawn as seldom as the most ordinary one.
    copy: how often the window was drawn before in this epoch, so that each draw can be augmented differently.

    The order depends on (seed, epoch, kind) alone. Of `replicas` processes, `rank` takes every replicas-th draw, so that
    their batches of b together are one process's batches of replicas * b. All have the same length: the order goes on from
    its start until it divides.
    """

    def __init__(self, labels_per_window: Sequence[Sequence[int]], *, kind: SamplerKind = "shuffle", seed: int = 0, rank: int = 0,
                 replicas: int = 1):
        self.labels = [np.asarray(labels, dtype=np.int64) for labels in labels_per_window]
        self.chances = None if kind == "shuffle" else weigh_windows(self.labels, 1.0 if kind == "class_balanced" else 0.5)
        self.seed = seed
        self.rank = rank
        self.replicas = replicas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.replicas)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # no copy is that high: other random numbers than those of any window's augmentation, [seed, epoch, index, copy]
        generator = np.random.default_rng([self.seed, self.epoch, 0, 1 << 31])
        order = generator.permutation(len(self.labels))
        if self.chances is not None:
            order = generator.choice(len(self.labels), len(self.labels), p=self.chances)
        seen: dict[int, int] = {}
        for draw, index in enumerate(np.resize(order, len(self) * self.replicas).tolist()):
            copy = seen[index] = seen.get(index, -1) + 1
            if draw % self.replicas == self.rank:
                yield index, copy

    def drawn(self, num_classes: int) -> Tensor:
        """float64 [num_classes]: persons of each class that an epoch shows (expected number)."""
        persons = np.array([np.bincount(labels, minlength=num_classes) for labels in self.labels], dtype=np.float64)
        times = np.ones(len(persons)) if self.chances is None else self.chances * len(persons)
        return torch.from_numpy(times @ persons)


def weigh_windows(labels: Sequence[np.ndarray], power: float) -> np.ndarray:
    """float64 [windows], sum 1: n^-power of the rarest class in each window, in an empty one of the most frequent class."""
    counts = np.bincount(np.concatenate(labels)).astype(np.float64)
    weights = np.array([counts[own].min() if len(own) else counts.max() for own in labels]) ** -power
    return weights / weights.sum()
