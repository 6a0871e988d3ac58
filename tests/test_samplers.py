"""pytest tests/test_samplers.py - an order that changes on resume, or a balance that is none, makes runs that do not compare."""

import numpy as np
import pytest
import torch

from thermal_action.training.samplers import EpochSampler

torch.set_num_threads(1)
KINDS = ["shuffle", "class_balanced", "square_root"]
# 100 windows: class 0 in 90 of them, class 1 in 9, class 2 in one
SKEWED = [[0]] * 90 + [[1]] * 9 + [[2]]


def indices(sampler, epoch=1):
    sampler.set_epoch(epoch)
    return [index for index, _ in sampler]


def class_shares(kind, labels=SKEWED, epochs=200):
    sampler = EpochSampler(labels, kind=kind, seed=1)
    shown = np.concatenate([labels[index] for epoch in range(epochs) for index in indices(sampler, epoch)]).astype(int)
    return np.bincount(shown, minlength=3) / len(shown)


def test_shuffle_shows_each_window_once_in_another_order_each_epoch():
    sampler = EpochSampler(SKEWED, seed=3)
    first, second = indices(sampler, 1), indices(sampler, 2)
    assert sorted(first) == sorted(second) == list(range(100)) and first != second and first != sorted(first)
    assert all(copy == 0 for _, copy in sampler)


@pytest.mark.parametrize("kind", KINDS)
def test_order_depends_on_seed_and_epoch_alone(kind):
    """A run resumed in epoch 7 reads what the whole run read in epoch 7, whatever was drawn before."""
    whole, resumed = EpochSampler(SKEWED, kind=kind, seed=3), EpochSampler(SKEWED, kind=kind, seed=3)
    for epoch in range(1, 7):
        indices(whole, epoch)
    torch.manual_seed(99)
    np.random.seed(99)
    whole.set_epoch(7)
    resumed.set_epoch(7)
    assert list(whole) == list(resumed) == list(resumed)
    assert indices(whole, 7) != indices(EpochSampler(SKEWED, kind=kind, seed=4), 7)


def test_class_balanced_shows_all_classes_alike_and_square_root_stands_between():
    """The reason to choose it: one window in a hundred becomes a third of the epoch (or a sixth of the way there)."""
    assert class_shares("shuffle") == pytest.approx([0.9, 0.09, 0.01])
    assert class_shares("class_balanced") == pytest.approx([1 / 3] * 3, abs=0.02)
    roots = np.sqrt([90, 9, 1])
    assert class_shares("square_root") == pytest.approx(roots / roots.sum(), abs=0.02)


def test_a_window_counts_as_its_rarest_person():
    """Carers stand beside whoever lies at risk: with a mean over persons, the more of them the less often it would be seen."""
    labels = [[0]] * 60 + [[0, 0, 0, 2]] * 2
    sampler = EpochSampler(labels, kind="class_balanced", seed=0)
    crowd = np.mean([index >= 60 for epoch in range(300) for index in indices(sampler, epoch)])
    alone = EpochSampler([[0]] * 66 + [[2]] * 2, kind="class_balanced")
    assert crowd == pytest.approx(1 / (1 + 60 / 66), abs=0.02)
    assert sampler.chances[60] / sampler.chances[0] == pytest.approx(alone.chances[66] / alone.chances[0])


@pytest.mark.parametrize("kind", ["class_balanced", "square_root"])
def test_empty_windows_are_drawn_as_seldom_as_the_most_ordinary_ones(kind):
    """They teach no label; but a network that never sees an empty room is surprised by one."""
    sampler = EpochSampler([*SKEWED, [], []], kind=kind)
    assert sampler.chances[-1] == sampler.chances.min() == sampler.chances[0]


@pytest.mark.parametrize("kind", KINDS)
def test_expected_persons_are_those_that_epochs_show(kind):
    """Balanced softmax takes its prior from here: a wrong one biases every prediction."""
    labels = [[0, 0], [0, 1], [1, 2], [], [0]] * 4
    sampler = EpochSampler(labels, kind=kind, seed=2)
    shown = np.mean([np.bincount(np.concatenate([labels[index] for index in indices(sampler, epoch)]).astype(int), minlength=4)
                     for epoch in range(400)], axis=0)
    assert sampler.drawn(4).numpy() == pytest.approx(shown, rel=0.05)
    assert EpochSampler(labels).drawn(4).tolist() == [16, 8, 4, 0]


def test_copies_of_a_window_are_counted():
    """Each draw of a rare window is augmented in its own way; else ten draws are ten times the same picture."""
    draws = list(EpochSampler([[0]] * 20 + [[1]], kind="class_balanced", seed=5))
    rare = [copy for index, copy in draws if index == 20]
    assert len(rare) > 4 and rare == list(range(len(rare))) and len(set(draws)) == len(draws) == 21


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
def test_processes_share_the_batches_of_one(kind, replicas):
    """Two processes with batches of 6 are one with batches of 12: same windows, same copies, same number of steps."""
    total = 12
    whole = EpochSampler(SKEWED[4:], kind=kind, seed=3)
    ranks = [EpochSampler(SKEWED[4:], kind=kind, seed=3, rank=rank, replicas=replicas) for rank in range(replicas)]
    for sampler in (whole, *ranks):
        sampler.set_epoch(2)
    orders = [list(sampler) for sampler in ranks]
    assert [len(order) for order in orders] == [len(sampler) for sampler in ranks] == [96 // replicas] * replicas
    share, order = total // replicas, list(whole)
    for step in range(96 // total):
        together = [draw for part in orders for draw in part[step * share : (step + 1) * share]]
        assert sorted(together) == sorted(order[step * total : (step + 1) * total])


@pytest.mark.parametrize(("windows", "replicas"), [(10, 4), (1, 3), (7, 2)])
def test_all_processes_have_equally_many_windows(windows, replicas):
    """One step too few on one process, and the others wait for its gradients for ever."""
    ranks = [EpochSampler([[0]] * windows, rank=rank, replicas=replicas) for rank in range(replicas)]
    orders = [list(sampler) for sampler in ranks]
    assert len({len(order) for order in orders}) == 1 and len(orders[0]) == len(ranks[0]) == -(-windows // replicas)
    assert {index for order in orders for index, _ in order} == set(range(windows))
    assert len({draw for order in orders for draw in order}) == replicas * len(orders[0])
