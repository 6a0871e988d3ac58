"""pytest tests/test_losses.py - a loss that is not what its name says spoils every run."""

import pytest
import torch
from torch.nn import functional

from thermal_action import InputError
from thermal_action.models.heads import CosineClassifier
from thermal_action.training.losses import build_loss, check_loss, deferred, weigh_classes

torch.set_num_threads(1)
COUNTS = torch.tensor([90, 9, 1])
LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]], dtype=torch.float32)
LABELS = torch.tensor([0, 1])
LOSSES = ["cross_entropy", "focal", "balanced_softmax", "ldam"]
WEIGHTS = ["none", "inverse", "effective"]


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


def test_ldam_is_what_its_paper_says():
    """Margins ~ n^(-1/4), 0.5 for the rarest, subtracted from the own cosine before the scale: 16 = 2^4 persons, half of it."""
    counts, scale = torch.tensor([16, 1, 81]), 30.0
    cosines = torch.tensor([[0.9, -0.2, 0.3], [0.1, 0.4, 0.8], [0.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1, 2])
    margins = torch.tensor([0.5 / 2, 0.5, 0.5 / 3])
    shifted = cosines - torch.diag(margins)
    expected = functional.cross_entropy(scale * shifted, labels, reduction="none")
    loss = build_loss("ldam", counts, scale=scale)
    assert torch.allclose(loss(scale * cosines, labels), expected, atol=1e-5)


def test_ldam_of_equal_classes_is_one_margin_for_all():
    loss = build_loss("ldam", torch.tensor([7, 7, 7]), ldam_margin=0.5, scale=4.0)
    assert torch.allclose(loss.margins, torch.full((3,), 2.0))
    without = build_loss("ldam", torch.tensor([7, 7, 7]), ldam_margin=0.0, scale=4.0)
    assert torch.allclose(without(LOGITS, LABELS), build_loss("cross_entropy", COUNTS)(LOGITS, LABELS))


def test_ldam_keeps_the_margins_of_others_when_a_class_is_absent():
    """A class nobody has would else take the largest margin for itself, and the rare ones would lose theirs."""
    with_absent, without = build_loss("ldam", torch.tensor([90, 9, 0])), build_loss("ldam", torch.tensor([90, 9]))
    assert torch.allclose(with_absent.margins[:2], without.margins) and float(without.margins[1]) == pytest.approx(0.5)


def test_ldam_learns_through_the_cosine_classifier():
    """Description, classifier and loss together: the rare class ends with a wider margin than the frequent one."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    features = torch.cat([torch.randn(40, 4, generator=generator) + 2, torch.randn(4, 4, generator=generator) - 2])
    labels = torch.tensor([0] * 40 + [1] * 4)
    margins = {}
    for name in ("cross_entropy", "ldam"):
        classifier = CosineClassifier(4, 2)
        loss = build_loss(name, torch.tensor([40, 4]), scale=classifier.scale)
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            loss(classifier(features), labels).mean().backward()
            optimizer.step()
        rare = classifier(features[40:]).detach()
        margins[name] = float((rare[:, 1] - rare[:, 0]).min())
    assert margins["ldam"] > margins["cross_entropy"] > 0


def test_ldam_without_cosines_is_refused():
    check_loss("ldam", classifier="cosine", class_weights="effective", sampler="shuffle")
    with pytest.raises(InputError, match=r"train.loss ldam .* model.classifier is linear: set it to cosine"):
        check_loss("ldam", classifier="linear", class_weights="none", sampler="shuffle")


@pytest.mark.parametrize("sampler", ["class_balanced", "square_root"])
def test_a_skew_is_not_made_up_for_twice(sampler):
    """Else the rarest class is drawn as often as the others and weighs most on top: a model that cries wolf."""
    check_loss("cross_entropy", classifier="linear", class_weights="none", sampler=sampler)
    with pytest.raises(InputError, match="make up for the same skew twice"):
        check_loss("cross_entropy", classifier="linear", class_weights="inverse", sampler=sampler)


def test_balanced_softmax_knows_what_the_sampler_made_up_for():
    balanced = build_loss("balanced_softmax", COUNTS, drawn=torch.tensor([10.0, 10.0, 10.0]))
    assert torch.allclose(balanced(LOGITS, LABELS), build_loss("cross_entropy", COUNTS)(LOGITS, LABELS))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_class_weights_keep_the_size_of_the_loss(kind):
    weights = weigh_classes(COUNTS, kind)
    assert float((weights * COUNTS).sum() / COUNTS.sum()) == pytest.approx(1.0)
    assert torch.all(weights[1:] >= weights[:-1])
    if kind == "inverse":
        assert torch.allclose(weights * COUNTS, (weights * COUNTS)[0])


def test_effective_number_of_samples_lies_between_no_weights_and_inverse_ones():
    """The limits of Cui et al.: beta 0 weighs all alike, beta near 1 as 1 / n."""
    counts = torch.tensor([90, 9, 1])
    assert torch.allclose(weigh_classes(counts, "effective", 0.0), torch.ones(3))
    assert torch.allclose(weigh_classes(counts, "effective", 1 - 1e-9), weigh_classes(counts, "inverse"), rtol=1e-4)
    ratio = weigh_classes(counts, "effective", 0.9)
    assert float(ratio[1] / ratio[0]) == pytest.approx((1 - 0.9**90) / (1 - 0.9**9))


def test_weights_are_deferred_to_the_last_epochs():
    """A resumed run asks for its epoch and gets the weights of the whole one."""
    kinds = [deferred("inverse", epoch=epoch, epochs=10, share=0.8) for epoch in range(1, 11)]
    assert kinds == ["none"] * 8 + ["inverse"] * 2
    assert deferred("inverse", epoch=1, epochs=10, share=0.0) == "inverse"
    assert deferred("none", epoch=10, epochs=10, share=0.5) == "none"


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_losses_learn_with_a_class_that_nobody_has(name, kind):
    """Some of 14 classes have no training person; their logit must be finite, and be pushed down, not up."""
    loss = build_loss(name, torch.tensor([90, 10, 0]), class_weights=kind)
    logits = torch.zeros(2, 3, requires_grad=True)
    loss(logits, torch.tensor([0, 1])).mean().backward()
    assert logits.grad.isfinite().all() and (logits.grad[:, 2] > 0).all() and (logits.grad[[0, 1], [0, 1]] < 0).all()
    assert loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_of_one_person_each(name):
    """A person's loss must not depend on who else is in the batch, or accumulated batches are not one large batch."""
    loss = build_loss(name, COUNTS, class_weights="inverse", label_smoothing=0.1, scale=2.0)
    together = loss(LOGITS, LABELS)
    assert together.shape == (2,)
    assert torch.allclose(together, torch.cat([loss(LOGITS[:1], LABELS[:1]), loss(LOGITS[1:], LABELS[1:])]))
