"""python -m pytest tests/test_export.py

Without these, an exported model could say something else than the one it was made from.
"""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

import export
from conftest import ROOT, call
from test_predict import INFO, SHAPE, put_model, recordings, run_predict, windows  # noqa: F401
from thermal_action import InputError
from thermal_action.models import build_model
from thermal_action.onnx_file import DIGITS, SEAL, seal
from thermal_action.recogniser import ThermalActionRecognizer
from thermal_action.training.checkpoints import load_model

torch.set_num_threads(1)


def exported(path, **changes):
    model, info = load_model(put_model(path.with_suffix(".pt"), **changes))
    export.export(model, info, path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model and what was exported of it; who changes a file takes a copy."""
    return exported(tmp_path_factory.mktemp("exported") / "model.onnx")


SLOWFAST = {"name": "slowfast", "head": "roi", "hidden": 8, "backbone": {"width": 8, "beta": 2, "tau": 4, "alpha": 2}}


@pytest.mark.parametrize("shape", [SHAPE, SHAPE | {"head": "roi", "size": (32, 32)}, SHAPE | {"head": "clip"}, SLOWFAST])
def test_an_exported_model_says_what_the_model_says(recordings, tmp_path, shape):  # noqa: F811
    path = exported(tmp_path / "model.onnx", model=shape | {"channels": ("temperature", "difference")})
    ours, theirs = (ThermalActionRecognizer(file, score=0.4).detect_all(windows(recordings))
                    for file in (path.with_suffix(".pt"), path))
    assert sum(map(len, ours)) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other)
        for person, same in zip(one, other, strict=True):
            assert person.box == pytest.approx(same.box, abs=1e-4) and person.score == pytest.approx(same.score, abs=1e-4)
            assert person.probabilities == pytest.approx(same.probabilities, abs=1e-4)


def test_the_default_network_in_full_size_is_exported_to_a_ten_thousandth(tmp_path):
    """The script itself compares with torch, on other numbers of windows and persons than it exported with."""
    info = INFO | {"frame_size": [40, 60], "window": INFO["window"] | {"length": 64},
                   "model": {"name": "thermal_tiny", "spatial_stride": 4, "head": "crop", "mean": 0.3, "std": 0.1,
                             "channels": ("temperature", "difference"), "difference_std": 0.025}}
    model, info = load_model(put_model(tmp_path / "best.pt", **info))
    assert export.export(model, info, tmp_path / "best.onnx") < 1e-4


def test_the_same_model_is_exported_to_the_same_bytes(whole, tmp_path):
    first, path = whole.read_bytes(), tmp_path / "again.onnx"
    model, info = load_model(whole.with_suffix(".pt"))
    export.export(model, info, path)
    assert path.read_bytes() == first
    assert onnx.load(path).metadata_props[-1].value == hashlib.sha256(first[: -len(SEAL) - DIGITS]).hexdigest()


def test_what_differs_too_much_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(InputError, match="of the ONNX file differs by"):
        exported(tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_predict_runs_without_torch(recordings, whole, tmp_path):  # noqa: F811
    code = ("import sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv.pop(0));"
            "import predict; predict.main()")
    arguments = [str(ROOT / "stages"), "predict.py", str(whole), str(recordings / "D0_S0.h5"), "--out", str(tmp_path / "onnx")]
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    run_predict(whole.with_suffix(".pt"), recordings / "D0_S0.h5", "--out", tmp_path / "torch")
    one, two = (np.genfromtxt(tmp_path / kind / "D0_S0.csv", delimiter=",", skip_header=1, usecols=(*range(1, 9), 10))
                for kind in ("onnx", "torch"))
    assert one.shape == two.shape and np.allclose(one, two, atol=2e-4)


def without_metadata(path):
    proto = onnx.load(path)
    del proto.metadata_props[:]
    path.write_bytes(seal(proto.SerializeToString()))


def with_a_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    onnx.checker.check_model(onnx.load_from_string(bytes(content)))  # nothing else would notice
    path.write_bytes(content)


@pytest.mark.parametrize(("spoil", "told"), [
    (without_metadata, "lacks 'classes'"),
    (with_a_flipped_bit, "is no whole ONNX file"),
    (lambda path: path.write_bytes(path.read_bytes()[:500]), "is no whole ONNX file"),
    (lambda path: path.write_text("model"), "is no whole ONNX file"),
    (lambda path: path.unlink(), "model.onnx does not exist"),
])
def test_files_that_are_no_exported_model_are_refused(recordings, whole, tmp_path, spoil, told):  # noqa: F811
    path = shutil.copy(whole, tmp_path / "model.onnx")
    spoil(path)
    process = run_predict(path, recordings / "D0_S0.h5", "--out", tmp_path / "out", check=False)
    assert process.returncode == 2 and told in process.stderr and "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_project_is_not_exported(tmp_path):
    torch.save({"state_dict": build_model(**SHAPE, num_classes=3).state_dict()}, tmp_path / "other.pt")
    process = call("export", tmp_path / "other.pt", tmp_path / "other.onnx", apart=True)
    assert process.returncode == 2 and "is no model of this project" in process.stderr
    assert not (tmp_path / "other.onnx").exists()
