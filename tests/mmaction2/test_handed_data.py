"""make mmaction2 - without these, MMAction2 would learn from other windows, labels or boxes than ours."""

import subprocess
import sys
from logging.handlers import BufferingHandler

import numpy as np
import pytest
import torch
from handed import EMPTY, LOOK, build_runner, configure, data  # noqa: F401
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import ClassBalancedDataset
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader

from conftest import ROOT
from test_ava import write_annotations
from thermal_action import InputError
from thermal_action.annotations import clip_label, read_annotations
from thermal_action.ava import key_of, write_detections
from thermal_action.dataset import ThermalActionDataset
from thermal_action.files import read_json, write_json
from thermal_action.mmaction2.dataset import ThermalWindows
from thermal_action.mmaction2.hooks import find_windows
from thermal_action.scoring.detection import LabelledBoxes
from thermal_action.transforms import ThermalActionTransform

SIZE = torch.tensor([60.0, 40.0, 60.0, 40.0])


def theirs(kind, data, tmp_path, side="val", **changes):  # noqa: F811
    """MMAction2's side: the data set of the configuration, as its registry builds it."""
    settings = configure(kind, data, tmp_path)[f"{side}_dataloader"].dataset
    return DATASETS.build(settings | changes)


def ours(data, side="val", augment=None, **options):  # noqa: F811
    look = ThermalActionTransform(augment is not None, **LOOK, **(augment or {}))
    return ThermalActionDataset(data / "frames", data / f"annotations/{side}.json", look, 64, **options)


def others_than_empty(dataset):
    return [index for index, sample in enumerate(dataset.samples) if len(sample.boxes)]


def assert_same(packed, item, sample, collapsed):
    """One packed sample of MMAction2 and one item of ours say the same, tensor for tensor."""
    frames, boxes, labels, extras = item
    inputs, info = packed["inputs"], packed["data_samples"]
    assert inputs.dtype == torch.float32 and torch.equal(inputs, frames if collapsed else frames[None])
    assert torch.equal(info.gt_instances.bboxes, boxes * SIZE) and torch.equal(info.proposals.bboxes, boxes * SIZE)
    assert torch.equal(info.gt_instances.labels, torch.nn.functional.one_hot(labels, 14).float())
    assert info.gt_label.tolist() == [clip_label(labels.tolist())]
    assert (info.video_id, info.timestamp) == key_of(sample) and info.img_shape == (40, 60)
    assert info.img_key == f"{extras['recording']},{extras['timestamp']}"


@pytest.mark.parametrize("kind", ["recognition", "detection"])
@pytest.mark.parametrize("side", ["train", "val"])
def test_windows_labels_and_boxes_are_ours_tensor_for_tensor(data, tmp_path, kind, side):  # noqa: F811
    own, handed = ours(data, side), theirs(kind, data, tmp_path, side, augment=None)
    shown = others_than_empty(own)
    assert len(handed) == len(shown) > 10 and max(len(own.labels(index)) for index in shown) == 2
    for place, index in enumerate(shown):
        assert_same(handed[place], own[index], own.samples[index], collapsed=kind == "detection")
        assert np.array_equal(handed.get_data_info(place)["entity_ids"], own.samples[index].object_ids)
        assert handed.get_cat_ids(place) == sorted(set(own.labels(index).tolist()))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_reaches_the_network_is_ours_whoever_loads_it(data, tmp_path, workers):  # noqa: F811
    """Collated by the Runner's own loader and normalised by MMAction2's preprocessor, shuffled or not."""
    config = configure("detection", data, tmp_path)
    loader = build_runner(config).build_dataloader(config.val_dataloader | {"num_workers": workers, "batch_size": 4})
    preprocess = MODELS.build(config.model.data_preprocessor)
    own = ours(data)
    index = {key_of(sample): place for place, sample in enumerate(own.samples)}
    seen = 0
    for batch in loader:
        batch = preprocess(batch)
        for inputs, info in zip(batch["inputs"], batch["data_samples"], strict=True):
            frames, boxes, *_ = own[index[info.video_id, info.timestamp]]
            assert torch.equal(inputs, (frames - preprocess.mean) / preprocess.std)
            assert torch.equal(info.gt_instances.bboxes, boxes * SIZE)
            seen += 1
    assert seen == len(others_than_empty(own))


AUGMENT = {"copy_paste": 1.0, "flip_horizontal": 0.5, "shift_px": 4, "noise_c": 0.2, "box_jitter": 0.1}


def test_augmented_windows_are_ours_and_change_with_the_epoch(data, tmp_path):  # noqa: F811
    """Pictures, boxes and labels move together, somebody who was pasted in included."""
    own = ours(data, "train", AUGMENT, seed=5)
    handed = theirs("detection", data, tmp_path, "train", augment=AUGMENT, seed=5)
    first, pasted = {}, 0
    for epoch in (0, 3):
        own.set_epoch(epoch), handed.set_epoch(epoch)
        for place, index in enumerate(others_than_empty(own)[:8]):
            item = own[index]
            assert_same(handed[place], item, own.samples[index], collapsed=True)
            pasted += len(item[2]) - len(own.labels(index))
            assert not torch.equal(first.setdefault(place, item[0]), item[0]) or epoch == 0
    assert pasted > 0


def test_the_runner_tells_every_data_set_its_epoch(data, tmp_path):  # noqa: F811
    config = configure("recognition", data, tmp_path)
    inner = config.train_dataloader.dataset
    balanced = {"type": "ClassBalancedDataset", "oversample_thr": 0.1, "dataset": inner}
    repeated = {"type": "RepeatDataset", "times": 2, "dataset": inner}
    config.train_dataloader.dataset = {"type": "ConcatDataset", "datasets": [balanced, repeated]}
    runner = build_runner(config)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner._train_loop._epoch = 7
    runner.call_hook("before_train_epoch")
    found = list(find_windows(runner.train_dataloader.dataset))
    assert len(found) == 2 and [int(each.windows._epoch) for each in found] == [7, 7]


def test_class_balanced_dataset_shows_rare_actions_more_often(data, tmp_path):  # noqa: F811
    handed = theirs("detection", data, tmp_path, "train", augment=None)
    balanced = ClassBalancedDataset(handed, oversample_thr=0.3)
    shares = {}
    for place in range(len(handed)):
        for label in handed.get_cat_ids(place):
            shares[label] = shares.get(label, 0) + 1 / len(handed)
    times = [max(max(1, np.sqrt(0.3 / shares[label])) for label in handed.get_cat_ids(place)) for place in range(len(handed))]
    expected = [place for place, repeats in enumerate(times) for _ in range(int(np.ceil(repeats - 1e-9)))]
    assert len(expected) > len(handed) and balanced.repeat_indices == expected
    last = len(balanced) - 1
    assert torch.equal(balanced[last]["inputs"], handed[expected[last]]["inputs"])


def test_a_keyframe_without_persons_is_left_out_and_counted(data, tmp_path):  # noqa: F811
    log = BufferingHandler(100)
    MMLogger.get_current_instance().addHandler(log)
    own, handed = ours(data), theirs("detection", data, tmp_path)
    assert [handed.get_data_info(place)["index"] for place in range(len(handed))] == others_than_empty(own)
    assert len(handed) == len(own) - 1 and not len(own.labels(EMPTY))
    said = [record.getMessage() for record in log.buffer]
    assert f"{data}/annotations/val.json: {len(handed)} windows, 1 left out that have no person" in said


def write_proposals(path, samples, chosen):
    """Two boxes for each chosen keyframe, each with two actions; the larger score of a box counts."""
    boxes = np.array([[0.1, 0.1, 0.3, 0.5], [0.1, 0.1, 0.3, 0.5], [0.6, 0.2, 0.8, 0.9], [0.6, 0.2, 0.8, 0.9]], np.float32)
    scores = np.array([0.3, 0.2, 0.1, 0.9])
    write_detections(path, LabelledBoxes([key_of(samples[place]) for place in chosen for _ in boxes],
                                         np.tile(boxes, (len(chosen), 1)), np.tile([0, 1], 2 * len(chosen)),
                                         np.tile(scores, len(chosen))))
    return str(path)


def test_proposals_come_from_a_csv_of_ava_the_most_certain_first(data, tmp_path):  # noqa: F811
    samples, _ = read_annotations(data / "annotations/val.json")
    path = write_proposals(tmp_path / "found.csv", samples, chosen=[0, EMPTY])
    handed = theirs("detection", data, tmp_path, proposals=path)
    # only where something is proposed, somebody there or not
    assert [handed.get_data_info(place)["index"] for place in range(len(handed))] == [0, EMPTY]
    for packed in (handed[0], handed[1]):
        expected = torch.tensor([[0.6, 0.2, 0.8, 0.9], [0.1, 0.1, 0.3, 0.5]]) * SIZE
        assert torch.equal(packed["data_samples"].proposals.bboxes, expected)
        assert packed["data_samples"].proposal_scores.tolist() == [0.9, 0.3]
    assert len(handed[1]["data_samples"].gt_instances) == 0
    fewer = theirs("detection", data, tmp_path, proposals=path, num_proposals=1)
    assert fewer[0]["data_samples"].proposals.bboxes.shape == (1, 4)
    # in training all persons are shown, with themselves as proposals where there is no other
    training = theirs("detection", data, tmp_path, proposals=path, test_mode=False)
    assert len(training) == len(others_than_empty(ours(data)))
    assert torch.equal(training[1]["data_samples"].proposals.bboxes, training[1]["data_samples"].gt_instances.bboxes)


def test_with_a_background_class_actions_count_from_1(data, tmp_path):  # noqa: F811
    own, handed = ours(data), theirs("detection", data, tmp_path, background_class=True)
    labels = handed[0]["data_samples"].gt_instances.labels
    assert labels.shape[1] == 15 and labels.argmax(1).tolist() == (own.labels(0) + 1).tolist() and labels.sum(1).eq(1).all()


def test_mmaction2s_own_transforms_work_on_it(data, tmp_path):  # noqa: F811
    pipeline = [{"type": "LoadThermalWindow"}, {"type": "Resize", "scale": (120, 80), "keep_ratio": False},
                {"type": "Flip", "flip_ratio": 1.0}, {"type": "FormatShape", "input_format": "NCTHW", "collapse": True},
                {"type": "PackActionInputs"}]
    packed, (frames, boxes, *_) = theirs("detection", data, tmp_path, pipeline=pipeline)[0], ours(data)[0]
    enlarged = torch.nn.functional.interpolate(frames[0][None], (80, 120), mode="bilinear")[0].flip(-1)
    assert packed["inputs"].shape == (3, 64, 80, 120) and torch.allclose(packed["inputs"][0], enlarged, atol=1e-5)
    mirrored = torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], dim=1)
    assert torch.allclose(packed["data_samples"].gt_instances.bboxes, mirrored * 2 * SIZE, atol=1.01)  # theirs counts from w - 1


def test_what_contradicts_itself_is_refused_in_a_sentence(data, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="val.json has 14 classes, not 80: set num_classes"):
        theirs("detection", data, tmp_path, num_classes=80)
    with pytest.raises(InputError, match=r"augment moves persons, and proposals of a file \(x.csv\) stay"):
        theirs("detection", data, tmp_path, "train", proposals="x.csv")
    path = write_annotations(tmp_path / "twice.json", times=[5, 6, 5, 7])
    write_json(path, read_json(path) | {"info": read_json(data / "annotations/val.json")["info"]})
    with pytest.raises(InputError, match="of one recording and one millisecond"):
        theirs("detection", data, tmp_path, ann_file=str(path), num_classes=None)


def test_the_window_is_what_the_annotations_were_made_for_or_what_is_asked(data, tmp_path):  # noqa: F811
    path = tmp_path / "causal.json"
    coco = read_json(data / "annotations/val.json")
    coco["info"]["window"] |= {"length": 16, "keyframe": 1.0}
    write_json(path, coco)
    made_for = theirs("recognition", data, tmp_path, ann_file=str(path))
    asked = theirs("recognition", data, tmp_path, window=coco["info"]["window"])
    whole = ours(data)[0][0]
    for handed in (made_for, asked):
        assert torch.equal(handed[0]["inputs"][0], ThermalActionDataset(
            data / "frames", path, ThermalActionTransform(False, **LOOK), handed.windows.windowing)[0][0])
        assert handed[0]["inputs"].shape[2] == 16 < whole.shape[1]


def test_workers_open_their_own_files(data, tmp_path):  # noqa: F811
    """An HDF5 handle of the parent would give a child broken frames."""
    handed = theirs("recognition", data, tmp_path)
    before = handed[0]["inputs"]
    assert isinstance(handed, ThermalWindows)
    loaded = [packed["inputs"] for packed in DataLoader(handed, None, num_workers=2)]
    assert torch.equal(loaded[0], before) and len(loaded) == len(handed)


@pytest.mark.parametrize(("code", "lacking"), [
    ("import mmaction.models", "No module named 'mmaction.models.localizers.drn'"),
    ("import mmcv.ops", "No module named 'mmcv._ext'"),
    ("import numpy; numpy.NAN, numpy.Inf", "module 'numpy' has no attribute 'NAN'"),
])
def test_each_shim_is_still_needed_and_enough(code, lacking):
    """When upstream mends one, this fails: take the shim out."""
    said = {}
    for shims in ("", "import thermal_action.mmaction2; "):
        process = subprocess.run([sys.executable, "-W", "ignore", "-c", shims + code], cwd=ROOT / "stages", capture_output=True,
                                 text=True)
        said[shims] = process.returncode, process.stderr
    assert said[""][0] == 1 and lacking in said[""][1]
    assert said["import thermal_action.mmaction2; "][0] == 0, said


def test_operators_are_torchvisions_or_refuse():
    from mmcv.ops import RoIAlign, nms
    from torchvision.ops import roi_align
    generator = torch.Generator().manual_seed(0)
    picture, boxes = torch.rand(2, 3, 5, 8, generator=generator), torch.tensor([[0, 3.0, 2.0, 50.0, 33.0], [1, 0, 0, 10, 10]])
    assert torch.equal(RoIAlign(4, 1 / 8, 0, "avg", True)(picture, boxes), roi_align(picture, boxes, 4, 1 / 8, 0, True))
    assert "mmcv._ext" not in sys.modules
    with pytest.raises(NotImplementedError, match="mmcv-lite has no compiled nms"):
        nms(torch.rand(3, 4), torch.rand(3), 0.5)
