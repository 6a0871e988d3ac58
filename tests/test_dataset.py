"""pytest tests/test_dataset.py - a box that does not follow its person, or a draw that depends on the worker, trains noise."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from thermal_action import InputError
from thermal_action.augmentation.window import Window
from thermal_action.dataset import People, ThermalActionDataset, collate_fn
from thermal_action.files import read_json, write_json
from thermal_action.look import ROOM_C
from thermal_action.recordings import Frames, write_recording
from thermal_action.training.augmentation_examples import OFF
from thermal_action.transforms import ThermalActionTransform
from thermal_action.windows import Windowing

torch.set_num_threads(1)
HEIGHT, WIDTH, FRAMES = 12, 20, 150
PLAIN = ThermalActionTransform(False)


def write_frames(path, pictures):
    numbers = np.arange(FRAMES)
    write_recording(path, [Frames(1000 + 170 * numbers, numbers, pictures, 0 * numbers)], sensor_id=path.stem,
                    mac_address="02:00:00:00:00:01", compression="gzip", level=1)


def write_data(folder, keyframes=((3, 1), (75, 2), (149, 0)), height=HEIGHT, name="R1"):
    """A recording whose frame i is i / 10 C everywhere; `keyframes`: (frame, number of persons)."""
    write_frames(folder / f"{name}.h5", np.broadcast_to(np.arange(FRAMES)[:, None, None] / 10, (FRAMES, height, WIDTH)))
    images = [{"id": f"{name}_{i}", "sensor_id": name, "mac_address": "02:00:00:00:00:01", "timestamp": 1000 + 170 * i,
               "width": WIDTH, "height": height, "frame_idx": i} for i, _ in keyframes]
    persons = [{"id": 0, "image_id": f"{name}_{i}", "bbox": [0.3 + 0.2 * person, 0.5, 0.2, 0.4], "category_id": person,
                "category_name": "ab"[person], "object_id": person} for i, number in keyframes for person in range(number)]
    coco = {"images": images, "annotations": persons, "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}
    write_json(folder / f"{name}.json", coco)
    return folder / f"{name}.json"


@pytest.fixture
def annotations(tmp_path):
    return write_data(tmp_path)


def test_sample_is_the_window_around_its_keyframe(tmp_path, annotations):
    data = ThermalActionDataset(tmp_path, annotations, ThermalActionTransform(False, temperature_range=(0, 20)), 64)
    frames, boxes, labels, extras = data[1]
    assert frames.shape == (3, 64, HEIGHT, WIDTH) and frames.dtype == torch.float32
    assert torch.allclose(frames[0, :, 0, 0] * 200, torch.arange(75 - 32, 75 + 32, dtype=torch.float32), atol=1e-3)
    assert torch.allclose(boxes, torch.tensor([[0.2, 0.3, 0.4, 0.7], [0.4, 0.3, 0.6, 0.7]]), atol=1e-6)
    assert labels.tolist() == [0, 1] and labels.dtype == torch.int64
    assert extras["image_id"] == "R1_75" and extras["recording"] == "R1" and extras["timestamp"] == 1000 + 170 * 75
    assert extras["object_ids"].tolist() == [0, 1] and extras["frame_indices"][32] == 75
    assert data.label_counts().tolist() == [2, 1] and data.label_counts([0]).tolist() == [1, 0]
    assert data.frame_size == (HEIGHT, WIDTH) and data.window_times(0) == (1000, 1000 + 170 * 34)


def test_keyframe_without_persons_is_a_sample(tmp_path, annotations):
    data = ThermalActionDataset(tmp_path, annotations, ThermalActionTransform(True), 16)
    _, boxes, labels, _ = data[2]
    assert boxes.shape == (0, 4) and labels.shape == (0,)


@pytest.mark.parametrize("workers", [0, 2])
def test_channels_stay_a_view(tmp_path, annotations, workers):
    """Three copies of one picture would take three times the memory, and of the way to the GPU."""
    data = ThermalActionDataset(tmp_path, annotations, PLAIN, 16)
    frames, boxes, labels, extras = next(iter(DataLoader(data, 3, collate_fn=collate_fn, num_workers=workers)))
    assert frames.shape == (3, 3, 16, HEIGHT, WIDTH) and frames.stride(1) == 0
    assert frames.untyped_storage().nbytes() == 3 * 16 * HEIGHT * WIDTH * 4
    assert [len(box) for box in boxes] == [1, 2, 0] == [len(label) for label in labels] and len(extras) == 3


def test_different_channels_survive_collation(tmp_path, annotations):
    items = [(torch.rand(3, 4, HEIGHT, WIDTH), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), {}) for _ in range(2)]
    assert torch.equal(collate_fn(items)[0], torch.stack([item[0] for item in items]))


def collect(data, workers, epochs=2):
    """Every tensor of some epochs, as the training loop reads them."""
    loader = DataLoader(data, 2, collate_fn=collate_fn, num_workers=workers, persistent_workers=workers > 0)
    batches = []
    for epoch in range(epochs):
        data.set_epoch(epoch)
        batches += [(frames.clone(), torch.cat(boxes)) for frames, boxes, _, _ in loader]
    return batches


def test_augmentation_depends_on_seed_epoch_and_sample_alone(tmp_path, annotations):
    """Otherwise another number of workers, or a resumed run, would be another experiment."""
    def data(seed):
        return ThermalActionDataset(tmp_path, annotations, ThermalActionTransform(True, temperature_range=(0, 20)), 16, seed=seed)

    alone = collect(data(1), 0)
    for other in (collect(data(1), 2), collect(pickle.loads(pickle.dumps(data(1))), 0)):
        assert all(torch.equal(a, b) for one, two in zip(alone, other, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(alone[0][0], alone[2][0])  # the next epoch
    assert not torch.equal(alone[0][0], collect(data(2), 0)[0][0])


@pytest.mark.parametrize("cache_mb", [0, 1, 512])
def test_cache_never_changes_what_is_read(tmp_path, annotations, cache_mb):
    clock = Windowing(length=100, sampling="uniform_time", period_ms=250.0, keyframe=0.5)
    data = ThermalActionDataset(tmp_path, annotations, ThermalActionTransform(False, temperature_range=(0, 20)), clock,
                                cache_mb=cache_mb)
    for index in (1, 0, 2, 1):
        frames = data[index][0]
        expected = torch.from_numpy(data.window(index)).float()
        assert torch.allclose(frames[0, :, 3, 3] * 200, expected, atol=1e-3)


def test_cache_keeps_to_its_budget(tmp_path):
    annotations = write_data(tmp_path, keyframes=[(i, 1) for i in range(0, FRAMES, 10)], height=200)
    data = ThermalActionDataset(tmp_path, annotations, PLAIN, 16, cache_mb=2)
    for index in range(len(data)):
        data[index]
        assert sum(chunk.nbytes for chunk in data.frames._chunks.values()) == data.frames._bytes <= 2_000_000
    data.close()
    assert len(data[0][0]) == 3  # and opens again when needed


def test_annotations_of_other_frames_are_refused(tmp_path):
    annotations = write_data(tmp_path, keyframes=[(3, 1), (FRAMES, 1)])
    data = ThermalActionDataset(tmp_path, annotations, PLAIN, 16)
    data[0]
    with pytest.raises(InputError, match="R1_150 is at frame 150 of R1.h5, which has 150 frames"):
        data[1]


def test_sensors_of_two_sizes_are_refused(tmp_path, annotations):
    images = [{"id": "a", "timestamp": 1, "width": 20, "height": 12}, {"id": "b", "timestamp": 2, "width": 16, "height": 16}]
    coco = {"images": [image | {"sensor_id": "R1", "mac_address": "m", "frame_idx": 1} for image in images],
            "annotations": [], "categories": [{"id": 0, "name": "a"}]}
    write_json(tmp_path / "mixed.json", coco)
    with pytest.raises(InputError, match="a has 12 x 20 pixels and b 16 x 16"):
        ThermalActionDataset(tmp_path, tmp_path / "mixed.json", PLAIN)


def write_rooms(folder, keyframes=(4, 2, 1)):
    """Recordings R0, R1, ... with one person at each of so many keyframes; the class is the recording's number."""
    parts = []
    for room, number in enumerate(keyframes):
        x = 0.1 + 0.25 * room
        write_data(folder, [(10 * i + 5, 0) for i in range(number)], name=f"R{room}")
        frames = np.full((FRAMES, HEIGHT, WIDTH), 18, np.float32)
        frames[:, 2:5, int(x * WIDTH) : int((x + 0.2) * WIDTH)] = 26 + room
        write_frames(folder / f"R{room}.h5", frames)
        coco = read_json(folder / f"R{room}.json")
        person = {"bbox": [x + 0.1, 3.5 / HEIGHT, 0.2, 3 / HEIGHT], "object_id": 0, "category_id": room}
        coco["annotations"] = [person | {"id": i, "image_id": image["id"]} for i, image in enumerate(coco["images"])]
        parts.append(coco)
    together = {key: [entry for part in parts for entry in part[key]] for key in ("images", "annotations")}
    together["categories"] = [{"id": room, "name": f"room {room}"} for room in range(len(keyframes))]
    write_json(folder / "rooms.json", together)
    return folder / "rooms.json"


def paste_always(folder):
    return ThermalActionDataset(folder, write_rooms(folder), ThermalActionTransform(True, **(OFF | {"copy_paste": 1.0})), 16)


def test_who_is_pasted_comes_from_another_recording_of_the_same_side(tmp_path):
    """A person of the inner validation side in a training window would make its score worthless."""
    whole = paste_always(tmp_path)

    def guests(data):
        found = set()
        for epoch in range(12):
            data.set_epoch(epoch)
            for index in range(len(data)):
                _, boxes, labels, extras = data[index]
                assert len(boxes) == len(labels) == len(extras["object_ids"]) and labels[0] == int(extras["recording"][1])
                found |= {(extras["recording"], int(label)) for label in labels[1:]}
                assert all(extras["object_ids"][1:] == -1)
        return found

    assert guests(whole) == {(f"R{host}", guest) for host in range(3) for guest in range(3) if host != guest}
    part = whole.subset([0, 1, 4, 5])
    assert [sample.recording for sample in part.samples] == ["R0", "R0", "R1", "R1"] and part.label_counts().tolist() == [2, 2, 0]
    assert guests(part) == guests(pickle.loads(pickle.dumps(part))) == {("R0", 1), ("R1", 0)}
    assert guests(whole.subset(range(4))) == set()  # one recording alone has nobody to give
    assert len(whole) == 7 and whole.label_counts().tolist() == [4, 2, 1]


def test_a_subset_has_an_epoch_of_its_own(tmp_path):
    whole = paste_always(tmp_path)
    part = whole.subset([2, 3])
    part.set_epoch(5)
    assert (int(whole._epoch), int(part._epoch)) == (0, 5)
    assert part[0][3]["image_id"] == whole[2][3]["image_id"]


def test_pasted_persons_do_not_depend_on_workers(tmp_path):
    data = paste_always(tmp_path)
    for one, two in zip(collect(data, 0), collect(data, 2), strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert max(len(boxes) for _, boxes in collect(data, 0)) == 4  # two windows, two guests


@pytest.mark.parametrize(("balance", "share"), [(0.0, 4 / 6), (1.0, 0.5)])
def test_balance_gives_rare_classes_their_turn(tmp_path, balance, share):
    people, rng = People(paste_always(tmp_path).samples), np.random.default_rng(0)
    labels = [people.labels[people.places.index(people.draw(rng, balance, not_of="R2"))] for _ in range(600)]
    assert np.mean(np.array(labels) == 0) == pytest.approx(share, abs=0.06) and 2 not in labels


def test_whom_others_touch_is_never_cut_out(tmp_path):
    coco = read_json(write_rooms(tmp_path))
    coco["annotations"].append(coco["annotations"][0] | {"id": 99, "category_id": 2})
    write_json(tmp_path / "rooms.json", coco)
    data = ThermalActionDataset(tmp_path, tmp_path / "rooms.json", PLAIN)
    assert (0, 0) not in People(data.samples).places and len(People(data.samples).places) == 6


def test_a_clip_has_one_label(tmp_path, annotations):
    data = ThermalActionDataset(tmp_path, annotations, ThermalActionTransform(True), 16, label_per="clip")
    assert [data[index][1].tolist() for index in range(3)] == [[[0, 0, 1, 1]], [[0, 0, 1, 1]], []]
    assert [data[index][2].tolist() for index in range(3)] == [[0], [0], []] == [data.labels(i).tolist() for i in range(3)]
    assert data[2][1].shape == (0, 4) and data.label_counts().tolist() == [2, 0]
    assert [len(data[index][3]["object_ids"]) for index in range(3)] == [1, 1, 0]


def warm_person(left, top, right, bottom):
    """A window with one warm rectangle, and its box."""
    frames = np.full((4, 40, 60), 18, np.float32)
    frames[:, top:bottom, left:right] = 26
    boxes = np.array([[left / 60, top / 40, right / 60, bottom / 40]], np.float32)
    return Window(frames, boxes, np.array([3]), np.array([0]))


def test_evaluation_transform_changes_nothing_but_the_scale():
    window = warm_person(5, 4, 15, 14)
    frames, boxes, labels, object_ids, _ = PLAIN(window)
    assert np.allclose(frames[0].numpy() * 40 + 5, window.frames, atol=1e-5) and np.array_equal(boxes.numpy(), window.boxes)
    assert frames.min() >= 0 and frames.max() <= 1 and labels.tolist() == [3] and object_ids.tolist() == [0]


def test_window_median_forgets_the_level_of_the_sensor():
    window, level = warm_person(5, 4, 15, 14), ThermalActionTransform(False, background="window_median")
    warmer = Window(window.frames + np.float32(6.3), window.boxes, window.labels, window.object_ids)
    assert torch.allclose(level(window)[0], level(warmer)[0], atol=1e-5)
    assert level(window)[0].median() * 40 + 5 == pytest.approx(ROOM_C, abs=1e-4)
