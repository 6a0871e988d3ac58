"""pytest tests/test_params.py - a wrong parameter costs one sentence, not a night of training with the wrong value."""

from typing import Annotated, Literal

import pytest

from thermal_action import InputError
from thermal_action.params import ActionNames, Field, read_params, section


@section
class Inner:
    gap: float


@section
class Train:
    lr: Annotated[float, Field(gt=0, le=10)]
    epochs: Annotated[int, Field(ge=1)]
    loss: Literal["cross_entropy", "focal"]
    steps: list[int]
    inner: Inner


GOOD = "train:\n  lr: 1e-05\n  epochs: 3\n  loss: focal\n  steps:\n  - 1\n  - 2\n  inner:\n    gap: 2\n"


def read(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    return read_params("train", Train, tmp_path / "params.yaml")


def test_numbers_that_dvc_writes_are_numbers(tmp_path):
    # `dvc exp run -S train.lr=1e-05` writes 1e-05, which YAML 1.1 reads as text
    params = read(tmp_path, GOOD)
    assert params == Train(lr=1e-05, epochs=3, loss="focal", steps=[1, 2], inner=Inner(gap=2.0))


@pytest.mark.parametrize(("old", "new", "words"), [
    ("1e-05", "true", ["train.lr = true", "number"]),
    ("1e-05", "'0.1'", ["train.lr", "number"]),
    ("1e-05", "0", ["train.lr = 0", "greater than 0"]),
    ("1e-05", "11", ["train.lr = 11", "10"]),
    ("1e-05", ".nan", ["nan"]),
    ("1e-05", "null", ["train.lr = null"]),
    ("epochs: 3", "epochs: 3.5", ["train.epochs = 3.5"]),
    ("focal", "hinge", ["train.loss", "hinge", "cross_entropy"]),
    ("  lr", "  rl: 1\n  lr", ["train.rl", "no parameter"]),
    ("  epochs: 3\n", "", ["train.epochs is missing"]),
    ("    gap: 2", "    gap: wide", ["train.inner.gap"]),
    ("  - 2", "  - x", ["train.steps.1"]),
    ("train:", "trian:", ["no section `train`"]),
    ("train:", "train: {", ["not YAML"]),
])
def test_wrong_values_are_refused_in_a_sentence(tmp_path, old, new, words):
    assert old in GOOD
    with pytest.raises(InputError) as refusal:
        read(tmp_path, GOOD.replace(old, new))
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(InputError, match="run the stage from the repository's root"):
        read_params("train", Train, tmp_path / "params.yaml")


def test_repeated_class_names_are_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("classes:\n- sitting\n- sitting\n")
    with pytest.raises(InputError, match="sitting"):
        read_params("classes", ActionNames, tmp_path / "params.yaml")


@pytest.mark.parametrize(("section_name", "key", "value", "stage"), [
    ("fetch", "buffer_frames", -1, "fetch"),
    ("hdf5", "compression", "zip", "hdf5"),
    ("coco", "val_fraction", 1.5, "coco"),
    ("validate", "num_samples", "many", "validate"),
    ("train", "lr", True, "train"),
    ("evaluate", "no_such_key", 1, "evaluate"),
])
def test_every_stage_checks_its_section_before_any_work(project, section_name, key, value, stage):
    project.set({section_name: {key: value}})
    assert f"{section_name}.{key}" in project.refusal(stage)
    assert not (project.folder / "data").exists()
