"""pytest tests/test_mixup.py - a person that is mixed in but counted wrongly is a wrong label."""

import numpy as np
import pytest
import torch

from thermal_action.training.mixup import mix

torch.set_num_threads(1)
RECORDINGS = ["a", "a", "b", "c"]
PERSONS = [2, 0, 1, 3]


def make_batch(recordings=RECORDINGS, persons=PERSONS, one_channel=True):
    """Window i is as bright as (i + 1) / 10 everywhere; its k-th person is labelled 10 i + k, its box says so."""
    frames = torch.stack([torch.full((1, 4, 3, 5), (index + 1) / 10) for index in range(len(recordings))])
    frames = frames.expand(-1, 3, -1, -1, -1) if one_channel else frames.repeat(1, 3, 1, 1, 1)
    labels = [torch.tensor([10 * index + person for person in range(size)], dtype=torch.int64)
              for index, size in enumerate(persons)]
    boxes = [label[:, None].expand(-1, 4) / 100 for label in labels]
    return frames, boxes, labels, [{"recording": name} for name in recordings]


def mixed(seed=0, alpha=0.4, **batch):
    return mix(*make_batch(**batch), alpha=alpha, generator=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_persons_count_as_much_as_they_are_seen(seed):
    """The picture is lam of the one window and 1 - lam of the other, and so are the weights of their persons."""
    frames, boxes, labels, weights = mixed(seed)
    assert frames.shape == (4, 3, 4, 3, 5)
    for own in range(4):
        assert torch.equal(boxes[own], labels[own][:, None].expand(-1, 4) / 100) and weights[own].shape == labels[own].shape
        size = PERSONS[own]
        assert labels[own][:size].tolist() == [10 * own + person for person in range(size)]
        others = {int(label) // 10 for label in labels[own][size:]}
        assert len(others) <= 1
        for other in others:
            share = 1 - float(weights[own][-1])
            assert 0.5 <= share <= 0.99 and len(labels[own]) == size + PERSONS[other]
            assert weights[own][:size].tolist() == pytest.approx([share] * size)
            assert weights[own][size:].tolist() == pytest.approx([1 - share] * PERSONS[other])
            brightness = (share * (own + 1) + (1 - share) * (other + 1)) / 10
            assert torch.allclose(frames[own], torch.tensor(brightness), atol=1e-6)


def test_windows_of_one_recording_are_never_mixed():
    """Neighbouring windows share five sixths of their frames: the other person would be the same one, labelled twice."""
    partners = {own: set() for own in range(4)}
    for seed in range(60):
        _, _, labels, _ = mixed(seed)
        for own in range(4):
            partners[own] |= {RECORDINGS[int(label) // 10] for label in labels[own][PERSONS[own]:]}
    assert partners == {0: {"b", "c"}, 1: {"b", "c"}, 2: {"a", "c"}, 3: {"a", "b"}}


def test_a_batch_of_one_recording_stays_as_it_is():
    batch = make_batch(recordings=["a"] * 4)
    frames, boxes, labels, weights = mixed(recordings=["a"] * 4)
    assert torch.equal(frames, batch[0]) and all(map(torch.equal, boxes, batch[1])) and all(map(torch.equal, labels, batch[2]))
    assert torch.cat(weights).tolist() == [1.0] * sum(PERSONS)


def test_alpha_0_mixes_nothing():
    frames, _, labels, weights = mixed(alpha=0.0)
    assert torch.equal(frames, make_batch()[0]) and [len(label) for label in labels] == PERSONS
    assert all(weight.eq(1).all() for weight in weights)


def test_the_generator_decides():
    """A resumed epoch mixes as the whole run did, whatever global random numbers are at."""
    torch.manual_seed(1)
    one = mixed(seed=7)
    torch.manual_seed(2)
    two, other = mixed(seed=7), mixed(seed=8)
    assert torch.equal(one[0], two[0]) and all(map(torch.equal, one[3], two[3]))
    assert not torch.equal(one[0], other[0])


def test_one_picture_in_three_channels_stays_one():
    """Three times the memory, and three times the way to the GPU, for nothing."""
    assert mixed()[0].stride(1) == 0
    assert torch.equal(mixed()[0], mixed(one_channel=False)[0])


def test_the_batch_itself_is_left_alone():
    batch = make_batch()
    before = batch[0].clone()
    mix(*batch, alpha=0.4, generator=np.random.default_rng(0))
    assert torch.equal(batch[0], before) and [len(label) for label in batch[2]] == PERSONS


@pytest.mark.parametrize("alpha", [1e-4, 0.2, 1.0, 100.0])
def test_every_alpha_gives_weights_above_0(alpha):
    """Weights of 0 alone would divide the loss of a batch by 0; Beta(0.0001, 0.0001) rounds to exactly 0 and 1."""
    shares = [float(weight) for seed in range(50) for window in mixed(seed, alpha)[3] for weight in window]
    assert min(shares) >= 0.01 - 1e-6 and max(shares) <= 1
    if alpha == 100.0:
        assert max(shares) < 0.7  # all windows are mixed about half and half
