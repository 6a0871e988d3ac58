"""pytest tests/test_strategies.py - a backbone thought frozen that moves, or one thought learning that does not."""

import copy

import pytest
import torch
from torch import nn

from thermal_action import InputError
from thermal_action.models import ActionModel, build_model
from thermal_action.models.heads import RoIHead
from thermal_action.models.inputs import Inputs
from thermal_action.training.epoch import average_weights
from thermal_action.training.schedules import build_optimizer, build_schedule, lr_factor
from thermal_action.training.stopping import EarlyStopping
from thermal_action.training.strategies import Strategy, check_strategy

torch.set_num_threads(1)
PROGRESSIVE = {"unfreeze_epochs": (3, 5)}


class TinyBackbone(nn.Module):
    """A stem and two stages, each with what must not learn while frozen: kernels, normalisation, dropout."""

    out_channels = 4

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv3d(channels, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(),
                                                  nn.Dropout(0.1)) for channels in (1, 4, 4))

    def forward(self, frames):
        for stage in self.stages:
            frames = stage(frames)
        return [frames]


def make_model(seed=0):
    torch.manual_seed(seed)
    head = RoIHead(4, 3, classifier="linear", hidden=4, roi_size=2, context=2.0, scene=True, dropout=0.1)
    return ActionModel(Inputs(("temperature",), None, 0.0, 1.0, 1.0), TinyBackbone(), head)


class Run:
    """A training run as the stage has it: one step an epoch, every epoch the same batch."""

    def __init__(self, name, optimizer="adamw", ema=0.0, epochs=6, model=None, **options):
        self.model = model or make_model()
        self.strategy = Strategy(self.model, name, epochs=epochs, **options)
        self.optimizer = build_optimizer(self.strategy.groups(), optimizer, lr=0.01, weight_decay=0.1)
        self.average = average_weights(self.model, ema) if ema else None
        torch.manual_seed(5)
        self.frames = torch.rand(2, 1, 8, 16, 16).expand(-1, 3, -1, -1, -1)
        self.boxes = [torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.4, 0.4, 0.9, 0.9]]), torch.tensor([[0.3, 0.2, 0.7, 0.8]])]

    def start(self, epoch):
        self.strategy.start_epoch(epoch, self.optimizer, self.average)
        self.strategy.train_mode()

    def step(self, epoch):
        torch.manual_seed(epoch)
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.frames, self.boxes), torch.tensor([0, 1, 2])).backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)

    def train(self, epoch):
        self.start(epoch)
        self.step(epoch)

    def moved(self, epoch):
        """Which parts' weights, and which parts' statistics, an epoch of training changes."""
        before = [copy.deepcopy(part.state_dict()) for part in self.model.parts()]
        self.train(epoch)
        weights, statistics = [], []
        for index, (old, part) in enumerate(zip(before, self.model.parts(), strict=True)):
            changed = [name for name, value in part.state_dict().items() if not torch.equal(value, old[name])]
            buffers = {name for name, _ in part.named_buffers()}
            weights += [index] if set(changed) - buffers else []
            statistics += [index] if set(changed) & buffers else []
        return weights, statistics


def state(run):
    return copy.deepcopy({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict(),
                          "average": run.average.state_dict() if run.average else None})


def restore(run, saved):
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
    if run.average:
        run.average.load_state_dict(saved["average"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("name", "options", "learning"), [
    ("full", {}, {epoch: [0, 1, 2, 3] for epoch in range(1, 7)}),
    ("frozen", {}, {epoch: [3] for epoch in range(1, 7)}),
    ("differential", {}, {epoch: [0, 1, 2, 3] for epoch in range(1, 7)}),
    ("progressive", PROGRESSIVE, {1: [3], 2: [3], 3: [2, 3], 4: [2, 3], 5: [1, 2, 3], 6: [1, 2, 3]}),
])
def test_what_learns_moves_and_nothing_else(name, options, learning, optimizer):
    """Weight decay, momentum and running statistics included: frozen Kinetics features stay the features that were loaded."""
    run = Run(name, optimizer, **options)
    for epoch, parts in learning.items():
        assert run.moved(epoch) == (parts, parts), epoch


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("name", "options"), [("full", {}), ("frozen", {}), ("progressive", PROGRESSIVE)])
def test_in_re_training_the_classifier_alone_moves(name, options, optimizer):
    """Also where the rest of the head has learned and still has momentum."""
    run = Run(name, optimizer, classifier_epochs=2, **options)
    for epoch in range(1, 5):
        run.train(epoch)
    for epoch in (5, 6):
        before = {key: value.clone() for key, value in run.model.state_dict().items()}
        run.train(epoch)
        changed = {key for key, value in run.model.state_dict().items() if not torch.equal(value, before[key])}
        assert changed == {"head.classify.weight", "head.classify.bias"}


def test_frozen_parts_are_as_in_prediction():
    """Dropout and batch statistics in a frozen backbone would make its features noisy, and different from those at test time."""
    run = Run("progressive", epochs=8, classifier_epochs=2, **PROGRESSIVE)
    expected = {1: 1, 3: 2, 5: 3, 7: 0}
    for epoch, learning in expected.items():
        run.start(epoch)
        parts = run.model.parts()
        for part in parts[: len(parts) - learning]:
            frozen = [module for module in part.modules() if module is not run.model.classifier]
            assert not any(module.training for module in frozen)
        for part in parts[len(parts) - learning:]:
            assert all(module.training for module in part.modules())
    assert run.model.classifier.training


def test_differential_backbone_has_its_share_of_every_rate():
    """The schedule must keep the ratio: 0.1 of the rate in warm-up, at the peak and at the end."""
    run = Run("differential", backbone_lr=0.1)
    schedule = build_schedule(run.optimizer, lr_factor("cosine", epochs=4, warmup_epochs=1), 3)
    head = {id(parameter) for parameter in run.model.head.parameters()}
    for _ in range(10):
        rates = {id(parameter) in head: group["lr"] for group in run.optimizer.param_groups for parameter in group["params"]}
        assert rates[False] == pytest.approx(0.1 * rates[True]) and rates[True] == schedule.get_last_lr()[0] > 0
        run.train(1)
        schedule.step()
    decays = {group["weight_decay"] for group in run.optimizer.param_groups for each in group["params"] if each.ndim == 1}
    assert decays == {0.0} and {group["weight_decay"] for group in run.optimizer.param_groups} == {0.0, 0.1}


def test_full_and_frozen_know_no_share():
    for name in ("full", "frozen"):
        assert [share for _, share in Run(name, backbone_lr=0.1).strategy.groups()] == [1.0, 1.0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_momentum_of_what_is_frozen_begins_when_it_learns(optimizer):
    """A stage that is unfrozen in epoch 3 must not start with the momentum, or the step count, of epochs it was not part of."""
    run = Run("progressive", optimizer, **PROGRESSIVE)
    run.train(1)
    frozen = [parameter for part in run.model.parts()[:3] for parameter in part.parameters()]
    assert not any(parameter in run.optimizer.state for parameter in frozen)
    run.train(3)
    assert all(parameter in run.optimizer.state for parameter in run.model.parts()[2].parameters())
    if optimizer == "adamw":
        steps = [int(run.optimizer.state[next(part.parameters())]["step"]) for part in run.model.parts()[2:]]
        assert steps == [1, 2]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_re_training_starts_from_a_new_classifier_on_the_features_that_are_kept(ema):
    """With an average of the weights it is the average that is saved: its features are the ones to classify."""
    run = Run("full", ema=ema, classifier_epochs=2)
    for epoch in range(1, 5):
        run.train(epoch)
    kept = {key: value.clone() for key, value in (run.average.module if ema else run.model).state_dict().items()}
    run.start(5)
    classifier = {"head.classify.weight", "head.classify.bias"}
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, kept[key]) == (key not in classifier), key
    assert not any(parameter in run.optimizer.state for parameter in run.model.classifier.parameters())
    run.step(5)
    if ema:
        final = run.average.module.state_dict()
        for key, value in final.items():
            # of the new classifier from its first step on: nothing of the old one is mixed in
            assert torch.equal(value, run.model.state_dict()[key] if key in classifier else kept[key]), key


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize(("name", "options"), [("full", {}), ("frozen", {}), ("differential", {}), ("progressive", PROGRESSIVE)])
def test_resumed_after_any_epoch_it_ends_in_the_same_weights(name, options, ema):
    """Killed after any epoch, also between the phases: nothing re-initialised twice, nothing thawed too late."""
    whole, saved = Run(name, ema=ema, epochs=6, classifier_epochs=2, **options), {}
    for epoch in range(1, 7):
        whole.train(epoch)
        saved[epoch] = state(whole)
    for last in range(1, 6):
        torch.manual_seed(1000 + last)
        resumed = Run(name, ema=ema, epochs=6, classifier_epochs=2, model=make_model(seed=9), **options)
        restore(resumed, saved[last])
        for epoch in range(last + 1, 7):
            resumed.train(epoch)
        for one, two in ((whole.model, resumed.model), (whole.average, resumed.average)):
            if one is not None:
                assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values())), last


def test_starting_anew_leaves_the_random_numbers_alone():
    """Dropout of the epochs after it must be that of a run without re-training's seed."""
    run = Run("full", classifier_epochs=2)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    run.start(5)
    assert torch.equal(torch.rand(3), expected)


def test_phases_change_when_what_learns_changes():
    """Several processes build their exchange of gradients anew at each change: a missed one waits for ever for a gradient."""
    for name, options in (("full", {}), ("frozen", {}), ("progressive", PROGRESSIVE)):
        run, seen = Run(name, epochs=8, classifier_epochs=2, **options), {}
        for epoch in range(1, 9):
            run.start(epoch)
            learning = frozenset(key for key, parameter in run.model.named_parameters() if parameter.requires_grad)
            assert seen.setdefault(run.strategy.phase(epoch), learning) == learning
        assert len(set(seen.values())) == len(seen) == {"full": 2, "frozen": 2, "progressive": 4}[name]
        assert run.strategy.phase(8) == 0 and run.strategy.phase(6) > 0


def test_all_parameters_are_in_the_optimizer_once():
    for name, options in (("full", {}), ("frozen", {}), ("progressive", PROGRESSIVE)):
        run = Run(name, **options)
        held = [id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]]
        assert sorted(held) == sorted(id(parameter) for parameter in run.model.parameters())


@pytest.mark.parametrize("classifier", ["linear", "cosine"])
def test_strategies_fit_the_models_of_the_stage(classifier):
    """The same on a real network: each stage thaws in its turn, and the classifier is made anew whatever its kind."""
    torch.manual_seed(0)
    model = build_model("slowfast", num_classes=3, hidden=8, classifier=classifier, backbone={"width": 4, "beta": 2})
    stages = len(model.parts()) - 1
    run = Run("progressive", model=model, epochs=stages + 2, unfreeze_epochs=tuple(range(2, stages + 2)), classifier_epochs=1)
    run.frames = torch.rand(2, 1, 16, 16, 16).expand(-1, 3, -1, -1, -1)
    for epoch in range(1, stages + 2):
        learning = list(range(stages - epoch + 1, stages + 1))
        assert run.moved(epoch) == (learning, learning)
    old = model.classifier.weight.detach().clone()
    run.start(stages + 2)
    # nothing of the old classifier is left: a new random one is no neighbour of it
    assert abs(float(nn.functional.cosine_similarity(old.flatten(), model.classifier.weight.detach().flatten(), dim=0))) < 0.5


@pytest.mark.parametrize(("change", "words"), [
    ({"name": "progressive", "unfreeze_epochs": []}, "needs train.unfreeze_epochs"),
    ({"name": "progressive", "unfreeze_epochs": [5, 3]}, r"\[5, 3\] must rise"),
    ({"classifier_epochs": 10}, "classifier_epochs 10 must be below train.epochs 10"),
    ({"classifier_epochs": 2, "patience": 5}, "train.patience would stop before"),
])
def test_impossible_epochs_are_refused_before_any_work(change, words):
    good = {"name": "full", "epochs": 10, "unfreeze_epochs": [], "classifier_epochs": 0, "patience": 0}
    check_strategy(**good)
    check_strategy(**good | {"name": "progressive", "unfreeze_epochs": [2, 2, 4], "classifier_epochs": 3})
    with pytest.raises(InputError, match=words):
        check_strategy(**good | change)


def test_more_stages_to_thaw_than_there_are_is_refused():
    with pytest.raises(InputError, match="unfreeze_epochs names 4 stages, and the model has 3"):
        Run("progressive", unfreeze_epochs=(1, 2, 3, 4))


# learning rate of re-training, and stopping early

@pytest.mark.parametrize("name", ["cosine", "step", "exponential", "constant"])
def test_re_training_gets_the_schedule_anew(name):
    """At the end of a cosine the rate is 0: a classifier that starts there from random weights would stay random."""
    options = {"final": 0.1, "milestones": (0.5, 0.8), "gamma": 0.1}
    whole = lr_factor(name, epochs=14, warmup_epochs=2, restart_epochs=4, **options)
    first, again = lr_factor(name, epochs=10, warmup_epochs=2, **options), lr_factor(name, epochs=4, **options)
    assert [whole(time) for time in (0.5, 2, 6, 9.9)] == pytest.approx([first(time) for time in (0.5, 2, 6, 9.9)])
    assert [whole(10 + time) for time in (0, 1, 2.5, 4)] == pytest.approx([again(time) for time in (0, 1, 2.5, 4)])
    assert whole(10) == 1


def stops_after(scores, **options):
    stopping = EarlyStopping(**{"patience": 2, "min_delta": 0.0, "monitor": "inner/mean_class"} | options)
    return next((epoch for epoch, score in enumerate(scores, start=1) if stopping.should_stop(score)), None)


def test_stops_when_nothing_gets_better():
    """Hours of training that cannot change the result; but not while it still learns."""
    scores = [0.1, 0.3, 0.2, 0.31, 0.31, 0.2]
    assert stops_after(scores) == 6
    assert stops_after(scores, min_delta=0.05) == 4
    assert stops_after(scores, patience=0) is None
    assert stops_after([-score for score in scores], monitor="inner/loss") == 6
    assert stops_after([1.0, 0.5, float("nan"), float("nan")]) == 3
    assert stops_after([float("nan")] * 3) == 2


def test_a_resumed_run_stops_where_the_whole_one_would():
    options = {"patience": 3, "min_delta": 0.0, "monitor": "inner/loss"}
    stopping = EarlyStopping(**options)
    assert [stopping.should_stop(loss) for loss in (1.0, 0.5, 0.6, 0.7)] == [False] * 4
    resumed = EarlyStopping(**options)
    resumed.load_state_dict(stopping.state_dict())
    assert resumed.should_stop(0.5)
