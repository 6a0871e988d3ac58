"""pytest tests/test_distributed.py - two processes that learn something else than one make every comparison void."""

import copy
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from torch import distributed, nn
from torch.multiprocessing import start_processes

import test_train
import train
from test_train import assert_same, kill_after, outcome
from thermal_action.params import read_params
from thermal_action.runtime import Runtime
from thermal_action.training.distributed import Team, synchronise
from thermal_action.training.options import Model
from thermal_action.training.recipe import Train

torch.set_num_threads(1)
CPU = torch.device("cpu")
validated, ready = test_train.validated, test_train.ready  # fixtures


def join(rank, rendezvous, work, arguments):
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    work(Team(CPU, rank, 2), *arguments)
    distributed.destroy_process_group()


def run_as_two(work, folder, *arguments):
    """`work(team, *arguments)` in two processes."""
    rendezvous = folder / "rendezvous"
    start_processes(join, (rendezvous, work, arguments), nprocs=2, start_method="fork")
    rendezvous.unlink(missing_ok=True)


def learn(team):
    train.learn(read_params("model", Model), read_params("train", Train), read_params("runtime", Runtime), team)


def learn_as_two(folder):
    run_as_two(learn, folder)


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.Sequential(nn.BatchNorm3d(4), nn.ReLU()),
                         nn.Conv3d(4, 2, 3, padding=1), nn.BatchNorm3d(2))


def compare_norms(team):
    """Ranks with four and with two windows against one process with all six; in doubles, where rounding hides nothing."""
    one = make_network().double()
    two = synchronise(copy.deepcopy(one), CPU)
    frames, wanted = torch.randn(6, 1, 4, 8, 8).double() * 3 + 20, torch.randn(6, 2, 4, 8, 8).double()
    own = slice(0, 4) if team.first else slice(4, 6)
    (one(frames) * wanted).sum().backward()
    replica = team.replicate(two)
    (replica(frames[own]) * wanted[own]).sum().mul(team.size).backward()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-9)
    assert one.state_dict().keys() == two.state_dict().keys()
    for a, b in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
    assert torch.allclose(one.eval()(frames), two.eval()(frames), rtol=1e-9)


def test_normalisation_sees_the_whole_batch(tmp_path):
    """Statistics of half a batch would make two processes another, worse model than one."""
    run_as_two(compare_norms, tmp_path)


@pytest.mark.parametrize("changes", [
    {},
    {"strategy": "progressive", "unfreeze_epochs": [2], "classifier_epochs": 1, "sampler": "square_root", "accumulate": 2,
     "loss": "cross_entropy", "class_weights": "none"},
], ids=["full", "phases"])
def test_two_processes_learn_as_one(ready, changes):
    """The same windows in the same batches, one mean over all persons: the same curves, each point once, and the same weights."""
    ready.set({"model": {"dropout": 0.0}, "train": {"epochs": 3, "select": "inner"} | changes})  # an even number of windows
    train.main()
    content, curves = outcome(ready)
    learn_as_two(ready.folder)
    other, other_curves = outcome(ready)
    points, other_points = ({name: [line.split() for line in text.decode().splitlines()[1:]] for name, text in each.items()
                             if name.endswith(".tsv")} for each in (curves, other_curves))
    assert points.keys() == other_points.keys() and len(points) == 10
    for name, steps in points.items():
        # where the classifier alone learns, the detector does not
        learned = 3 - (changes.get("classifier_epochs", 0) if "finding" in name else 0)
        assert [step for step, _ in steps] == [step for step, _ in other_points[name]] == ["1", "2", "3"][:learned]
        values, others = ([float(value) for _, value in each] for each in (steps, other_points[name]))
        assert values == pytest.approx(others, abs=1e-4 if "loss" in name or name == "lr" else 0.05), name
    for name, weights in content["state_dict"].items():
        assert torch.allclose(weights.float(), other["state_dict"][name].float(), atol=2e-3), name


@pytest.mark.slow
def test_killed_processes_go_on_as_if_nothing_had_happened(ready):
    """Started by runtime.ranks; killed with the launcher, which must not leave anybody behind; dropout and mixup are on."""
    ready.set({"train": {"epochs": 3, "mixup": 0.4, "precision": "bf16"}, "runtime": {"ranks": 2}})
    learn_as_two(ready.folder)
    expected = outcome(ready)
    kill_after(ready, "epoch 1/3")
    unfinished, = (ready.folder / ".scratch").glob("train-*/unfinished.pt")
    assert torch.load(unfinished, weights_only=True)["progress"]["epoch"] in (1, 2)
    assert "goes on after epoch" in ready.run("train", apart=True).stdout
    assert_same(outcome(ready), expected)


@pytest.mark.slow
def test_two_machines_learn_as_two_processes_of_one(ready, tmp_path):
    """As README has it, each from a folder of its own, as if on a disk of its own; the first writes."""
    ready.set({"train": {"epochs": 2}})
    learn_as_two(ready.folder)
    expected = outcome(ready)
    other = shutil.copytree(ready.folder, tmp_path / "other", symlinks=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1",
                f"--master-port={port}"]
    machines = [subprocess.Popen([*torchrun, f"--node-rank={rank}", "stages/train.py"], cwd=folder, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True) for rank, folder in enumerate([ready.folder, other])]
    for machine in machines:
        out, said = machine.communicate(timeout=200)
        assert machine.returncode == 0, said
    assert_same(outcome(ready), expected)
    assert not (other / "models/best.pt").exists()


@pytest.mark.slow
def test_one_failing_process_ends_all_with_one_sentence(ready):
    """Instead of waiting for it for hours, or burying its sentence under those of all others."""
    ready.set({"runtime": {"ranks": 2}, "train": {"init": {"source": "checkpoint", "location": "gone.pt"}}})
    process = subprocess.run([sys.executable, "stages/train.py"], cwd=ready.folder, capture_output=True, text=True, timeout=200)
    assert process.returncode == 2, process.stderr
    assert process.stderr.count("gone.pt") == 1 and process.stderr.count("train.py: ") == 1, process.stderr
    assert "Traceback" not in process.stderr and "elastic" not in process.stderr and not process.stdout


def test_processes_draw_different_dropout_and_the_same_again_when_resumed():
    draws = {}
    for rank, epoch in ((0, 1), (1, 1), (0, 2), (1, 2), (0, 1)):
        generator = Team(CPU, rank, 2).seed_epoch(7, epoch)
        drawn = (torch.rand(2).tolist(), generator.random())
        assert draws.setdefault((rank, epoch), drawn) == drawn
    assert len({str(drawn) for drawn in draws.values()}) == 4
