"""pytest tests/test_training.py - a loss, a learning rate or a checkpoint that is not what its name says spoils every run."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from thermal_action import InputError
from thermal_action.models import build_model
from thermal_action.training import epoch as training
from thermal_action.training.checkpoints import load_model, save_model
from thermal_action.training.distributed import Team
from thermal_action.training.engine import predict, score
from thermal_action.training.epoch import Learner, average_weights
from thermal_action.training.losses import build_loss
from thermal_action.training.schedules import build_optimizer, build_schedule, lr_factor
from thermal_action.training.strategies import Strategy
from thermal_action.training.unfinished import Progress, UnfinishedRun

torch.set_num_threads(1)
CPU = torch.device("cpu")
COUNTS = torch.tensor([90, 9, 1])
ARCHITECTURE = {"name": "slowfast", "backbone": {"width": 4, "beta": 2}, "hidden": 8}
INFO = {"model": ARCHITECTURE, "classes": ["a", "b", "c"], "transform": {"temperature_range": (5.0, 45.0)},
        "window": {"length": 16}, "frame_size": [16, 16], "training": {"epoch": 1}}


class Corner(nn.Module):
    """Classifies a person by the mean of its window and its box's left side; no normalisation layers."""

    def __init__(self, classes=3):
        super().__init__()
        self.linear = nn.Linear(2, classes)

    def forward(self, frames, boxes):
        means = frames.mean(dim=(1, 2, 3, 4))
        rows = [torch.stack([mean.expand(len(box)), box[:, 0]], dim=1) for mean, box in zip(means, boxes, strict=True)]
        return self.linear(torch.cat(rows))

    def parts(self):
        return [self.linear]


def make_batches(sizes, seed=0, classes=3):
    """One batch per tuple of persons per window."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(len(batch), 1, 4, 8, 8, generator=generator).expand(-1, 3, -1, -1, -1),
             [torch.rand(size, 4, generator=generator) for size in batch],
             [torch.randint(classes, (size,), generator=generator) for size in batch],
             [{"recording": f"R{window}"} for window in range(len(batch))])
            for batch in sizes]


def make_learner(model=None, lr=0.1, ema=0.0, optimizer="sgd"):
    torch.manual_seed(0)
    model = model or Corner()
    optimizer = build_optimizer([(model.parameters(), 1.0)], optimizer, lr=lr, weight_decay=0.01)
    schedule = build_schedule(optimizer, lr_factor("constant", epochs=10), 3)
    learner = Learner(model, Strategy(model, "full", epochs=100), optimizer, schedule,
                      torch.amp.GradScaler("cpu", enabled=False), average_weights(model, ema) if ema else None)
    learner.strategy.start_epoch(1, optimizer, learner.average)
    return learner


def train_one_epoch(learner, batches, loss, epoch=1, **options):
    """One process, its random numbers those of (seed 0, epoch)."""
    generator = Team(CPU).seed_epoch(0, epoch)
    return training.train_one_epoch(learner, batches, loss, epoch=epoch, team=Team(CPU), generator=generator, **options)


# learning rates

def test_learning_rate_warms_up_and_falls():
    cosine = lr_factor("cosine", epochs=10, warmup_epochs=2, final=0.1)
    assert [cosine(0), cosine(1), cosine(2), cosine(6), cosine(10)] == pytest.approx([0, 0.5, 1, 0.55, 0.1])
    step = lr_factor("step", epochs=10, milestones=(0.5, 0.8), gamma=0.1)
    assert [step(4.9), step(5), step(8.1)] == pytest.approx([1, 0.1, 0.01])
    exponential = lr_factor("exponential", epochs=10, gamma=0.01)
    assert [exponential(0), exponential(5), exponential(10)] == pytest.approx([1, 0.1, 0.01])
    assert lr_factor("constant", epochs=10, warmup_epochs=1)(9) == 1
    assert all(lr_factor(name, epochs=1, warmup_epochs=3)(0.5) < 1 for name in ("cosine", "step", "exponential", "constant"))


def test_no_weight_decay_on_normalisation_and_biases():
    model = build_model(**ARCHITECTURE, num_classes=3)
    decayed, plain = build_optimizer([(model.parameters(), 1.0)], "adamw", lr=0.1, weight_decay=0.3).param_groups
    assert decayed["weight_decay"] == 0.3 and plain["weight_decay"] == 0
    assert min(p.ndim for p in decayed["params"]) == 2 and max(p.ndim for p in plain["params"]) == 1
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


# one epoch

@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulated_batches_equal_one_large_batch(optimizer):
    """Uneven numbers of persons: the mean goes over persons, not over batches."""
    loss = build_loss("cross_entropy", COUNTS)
    small = make_batches([(2, 1), (0, 3), (1, 1), (4, 0)])
    large = [(torch.cat([small[i][0], small[i + 1][0]]), small[i][1] + small[i + 1][1], small[i][2] + small[i + 1][2], [{}] * 4)
             for i in (0, 2)]
    one, two = make_learner(optimizer=optimizer), make_learner(optimizer=optimizer)
    first = train_one_epoch(one, small, loss, accumulate=2)
    second = train_one_epoch(two, large, loss)
    assert first == pytest.approx(second)
    assert torch.allclose(one.model.linear.weight, two.model.linear.weight, atol=1e-6)


def test_windows_without_persons_are_no_obstacle():
    learner = make_learner(ema=0.9)
    before = learner.model.linear.weight.detach().clone()
    with warnings.catch_warnings(action="error"):  # torch's, that the schedule came before the optimizer
        result = train_one_epoch(learner, make_batches([(0, 0)]), build_loss("cross_entropy", COUNTS))
    assert result["loss"] == 0 and torch.equal(before, learner.model.linear.weight)


def test_mixed_persons_count_as_far_as_they_are_seen():
    """Weights of a mixed window's persons add up to one person each; else mixup would also raise the learning rate."""
    batches = make_batches([(1, 1), (1, 1)])
    loss = build_loss("cross_entropy", COUNTS)
    plain, mixed = (train_one_epoch(make_learner(lr=1e-9), batches, loss, mixup=alpha) for alpha in (0.0, 0.4))
    assert 0 < mixed["loss"] < 2 * plain["loss"] and mixed["loss"] != plain["loss"]
    assert train_one_epoch(make_learner(lr=1e-9), batches, loss, mixup=0.4) == mixed


def test_gradient_is_clipped():
    batches = make_batches([(5, 5)])
    free, clipped = make_learner(), make_learner()
    start = free.model.linear.weight.detach().clone()
    loss = build_loss("cross_entropy", COUNTS)
    train_one_epoch(free, batches, loss)
    train_one_epoch(clipped, batches, loss, clip_norm=1e-6)
    assert (clipped.model.linear.weight - start).norm() < (free.model.linear.weight - start).norm() / 10


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_training_stops_on_a_loss_that_is_no_number(value):
    """Instead of finishing the night with a model of NaN."""
    batches = make_batches([(1, 1), (1, 1), (1, 1)])
    batches[1][0][:] = value
    with pytest.raises(InputError, match=r"(loss|gradient) became (nan|inf) in epoch 7, step 2"):
        train_one_epoch(make_learner(), batches, build_loss("cross_entropy", COUNTS), epoch=7)


def test_average_follows_the_weights_with_a_ramped_decay():
    model = nn.BatchNorm1d(1)
    average = average_weights(model, 0.5)
    values = []
    for step in range(6):
        nn.init.constant_(model.weight, float(step))
        model.num_batches_tracked += 1
        average.update_parameters(model)
        values.append(average.module.weight.item())
    expected = [0.0]
    for step in range(1, 6):
        kept = min(0.5, (1 + step) / (10 + step))
        expected.append(kept * expected[-1] + (1 - kept) * step)
    assert values == pytest.approx(expected) and int(average.module.num_batches_tracked) == 6


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns_a_rule(precision):
    """Persons left and right of the middle are told apart after some epochs, in every precision."""
    batches = make_batches([(4, 4)] * 8, classes=2)
    batches = [(frames, boxes, [(box[:, 0] > 0.5).long() for box in boxes], extras) for frames, boxes, _, extras in batches]
    learner = make_learner(Corner(2), lr=0.1, optimizer="adamw")
    learner.scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=128.0)
    for epoch in range(30):
        result = train_one_epoch(learner, batches, build_loss("cross_entropy", torch.tensor([5, 5])), epoch, precision=precision)
    assert result["top1"] > 0.9 and score(learner.model, batches, device=CPU, precision=precision)["top1"] > 0.9


def test_predictions_come_in_order_and_scores_are_theirs():
    batches = make_batches([(2, 0), (1, 3)])
    learner = make_learner()
    rows = list(predict(learner.model, batches, device=CPU))
    logits, labels = torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])
    assert torch.equal(labels, torch.cat([label for batch in batches for label in batch[2]]))
    scores = score(learner.model, batches, device=CPU)
    hits = (logits.argmax(dim=1) == labels).float()
    assert scores["top1"] == pytest.approx(hits.mean().item())
    assert scores["mean_class"] == pytest.approx(np.mean([hits[labels == label].mean().item() for label in labels.unique()]))
    assert scores["loss"] == pytest.approx(functional.cross_entropy(logits, labels).item())


# checkpoints

def test_model_file_holds_all_that_prediction_needs(tmp_path):
    model = build_model(**ARCHITECTURE, num_classes=3).eval()
    save_model(tmp_path / "models" / "best.pt", model, INFO)
    loaded, info = load_model(tmp_path / "models" / "best.pt", "cpu")
    frames, boxes = torch.rand(1, 3, 16, 16, 16), [torch.tensor([[0.1, 0.2, 0.5, 0.6]])]
    with torch.no_grad():
        assert torch.equal(loaded(frames, boxes), model(frames, boxes))
    assert info == INFO and not loaded.training


def test_foreign_files_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "best.pt"
    with pytest.raises(InputError, match="does not exist: run `dvc repro train`"):
        load_model(path)
    path.write_bytes(pickle.dumps({"model": print}))
    with pytest.raises(InputError, match="is no whole checkpoint"):
        load_model(path)
    torch.save({"model": nn.Linear(2, 2)}, path)
    with pytest.raises(InputError, match="could run code and was not loaded"):
        load_model(path)
    for foreign in ({"state_dict": {}, "epoch": 3}, [1, 2], torch.zeros(3)):
        torch.save(foreign, path)
        with pytest.raises(InputError, match="is no model of this project"):
            load_model(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="best.pt is no whole checkpoint"):
        load_model(path)


def test_torn_altered_and_outdated_model_files_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "best.pt"
    save_model(path, build_model(**ARCHITECTURE, num_classes=3), INFO)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is no whole checkpoint"):
        load_model(path)
    middle = len(whole) // 2  # among the weights, where torch itself notices nothing
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(InputError, match="best.pt is damaged in .*: delete it and run"):
        load_model(path)
    path.write_bytes(whole)
    content = torch.load(path, weights_only=True)
    for change in ({"classes": ["a"]}, {"model": {"name": "gone"}}, {"model": ARCHITECTURE | {"hidden": 9}}):
        torch.save(content | change, path)
        with pytest.raises(InputError, match="weights of another version"):
            load_model(path)
    del content["window"]
    torch.save(content, path)
    with pytest.raises(InputError, match="lacks 'window'"):
        load_model(path)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resumed_learner_goes_on_as_if_nothing_had_happened(tmp_path, optimizer):
    batches = make_batches([(2, 1), (1, 3), (1, 1)])
    loss = build_loss("cross_entropy", COUNTS)

    one = make_learner(ema=0.9, optimizer=optimizer)
    train_one_epoch(one, batches, loss)
    run = UnfinishedRun(tmp_path, "abc")
    weights = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    run.save(Progress(epoch=1, history=[{"train/loss": 0.5}], best_epoch=1, best_score=0.25, best_weights=weights), **one.states)
    train_one_epoch(one, batches, loss, epoch=2, mixup=0.4)

    two = make_learner(ema=0.9, optimizer=optimizer)
    assert UnfinishedRun(tmp_path, "other").resume(CPU, **two.states) == Progress()
    progress = UnfinishedRun(tmp_path, "abc").resume(CPU, **two.states)
    assert (progress.epoch, progress.history, progress.best_score) == (1, [{"train/loss": 0.5}], 0.25)
    train_one_epoch(two, batches, loss, epoch=2, mixup=0.4)
    for a, b in ((one.model, two.model), (one.average, two.average)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    run.discard()
    assert not list(tmp_path.iterdir())
