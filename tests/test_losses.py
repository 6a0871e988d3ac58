"""pytest tests/test_losses.py - a loss that is not what its name says spoils every run."""

import pytest
import torch

from thermal_action.training.losses import build_loss, weigh_classes

torch.set_num_threads(1)
COUNTS = torch.tensor([90, 9, 1])
LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]], dtype=torch.float32)
LABELS = torch.tensor([0, 1])


def test_losses_are_what_their_papers_say():
    probabilities = LOGITS.softmax(dim=1)[torch.arange(2), LABELS]
    plain = build_loss("cross_entropy", COUNTS)(LOGITS, LABELS)
    assert torch.allclose(plain, -probabilities.log())
    focal = build_loss("focal", COUNTS, focal_alpha=0.25, focal_gamma=2.0)(LOGITS, LABELS)
    assert torch.allclose(focal, -0.25 * (1 - probabilities) ** 2 * probabilities.log())
    prior = COUNTS / 100
    weighted = prior * LOGITS.exp()
    balanced = build_loss("balanced_softmax", COUNTS)(LOGITS, LABELS)
    assert torch.allclose(balanced, -(weighted[torch.arange(2), LABELS] / weighted.sum(dim=1)).log())
    assert torch.allclose(build_loss("balanced_softmax", COUNTS, balance_tau=0.0)(LOGITS, LABELS), plain)
    smooth = build_loss("cross_entropy", COUNTS, label_smoothing=0.1)(LOGITS, LABELS)
    assert torch.allclose(smooth, 0.9 * plain - 0.1 * LOGITS.log_softmax(dim=1).mean(dim=1))


@pytest.mark.parametrize("kind", ["none", "inverse", "effective"])
def test_class_weights_keep_the_size_of_the_loss(kind):
    weights = weigh_classes(COUNTS, kind)
    assert float((weights * COUNTS).sum() / COUNTS.sum()) == pytest.approx(1.0)
    assert torch.all(weights[1:] >= weights[:-1])
    if kind == "inverse":
        assert torch.allclose(weights * COUNTS, (weights * COUNTS)[0])


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "balanced_softmax"])
@pytest.mark.parametrize("kind", ["none", "inverse", "effective"])
def test_losses_learn_with_a_class_that_nobody_has(name, kind):
    """Some of 14 classes have no training person; their logit must be finite, and be pushed down, not up."""
    loss = build_loss(name, torch.tensor([90, 10, 0]), class_weights=kind)
    logits = torch.zeros(2, 3, requires_grad=True)
    loss(logits, torch.tensor([0, 1])).mean().backward()
    assert logits.grad.isfinite().all() and (logits.grad[:, 2] > 0).all()
    assert loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0,)
