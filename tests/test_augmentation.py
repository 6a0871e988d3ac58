"""pytest tests/test_augmentation.py - losing a person, or showing what no sensor could see, trains noise."""

import inspect
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torchvision.transforms.functional import adjust_brightness

from conftest import ROOT
from thermal_action import InputError
from thermal_action.augmentation import Augment, augmentations
from thermal_action.augmentation.lens import resample, rotation
from thermal_action.augmentation.people import PASTED, CopyPaste, follow
from thermal_action.augmentation.window import Donor, Window
from thermal_action.boxes import overlap
from thermal_action.pictures import draw_augmentations
from thermal_action.training.augmentation_examples import OFF, THERMAL, TYPICAL, examples

torch.set_num_threads(1)
ROOM, BODY, MIDDLE = 18.0, 26.0, 16
CENTRE_BOX = np.array([0.4, 0.35, 0.6, 0.65], np.float32)


def alone(**strengths):
    """The one augmentation that these strengths turn on."""
    (chosen,) = augmentations(**(OFF | strengths))
    return chosen


def draws(step, window, number=100):
    return (step(window, np.random.default_rng(seed)) for seed in range(number))


def window_of(*boxes, frames=32, height=40, width=60, labels=None):
    """A room at ROOM C with warm ellipses that fill their boxes."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    picture = np.full((height, width), ROOM, np.float32)
    for box in boxes:
        picture[ellipse(box, height, width)] = BODY
    people = np.arange(len(boxes))
    return Window(np.repeat(picture[None], frames, axis=0), boxes, people if labels is None else np.array(labels), people)


def ellipse(box, height, width):
    rows, columns = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    x, y = columns - box[[0, 2]].mean(), rows - box[[1, 3]].mean()
    return (x / (box[2] - box[0])) ** 2 + (y / (box[3] - box[1])) ** 2 <= 0.25


def random_window(rng):
    """0 to 3 persons anywhere, also at the edges, in noise; any size and length of window."""
    height, width = rng.integers(12, 50, 2)
    low = rng.uniform(-0.2, 0.8, (rng.integers(4), 2))
    boxes = np.clip(np.concatenate([low, low + rng.uniform(0.25, 0.5, low.shape)], axis=1), 0, 1)
    window = window_of(*boxes, frames=int(rng.integers(2, 24)), height=int(height), width=int(width))
    return replace(window, frames=window.frames + rng.normal(0, 0.2, window.frames.shape).astype(np.float32))


def counting(frames=32):
    """A window whose frame t is t C everywhere, and no noise to hide it."""
    ticks = np.arange(frames, dtype=np.float32)
    return Window(np.tile(ticks[:, None, None], (1, 6, 8)), CENTRE_BOX[None], np.array([1]), np.array([0]))


def donor_of(box, label=7, furniture=(), **size):
    return lambda rng, balance: Donor(np.array(box, np.float32), label, furniture, lambda: window_of(box, **size).frames)


# --- all of them ---


def test_the_section_and_the_list_name_the_same():
    arguments = set(inspect.signature(augmentations).parameters) - {"dark_c"}
    assert arguments == set(Augment.__annotations__) == set(TYPICAL) | {"copy_paste_balance"}
    assert augmentations(**OFF) == []
    given = YAML(typ="safe").load(ROOT / "params.yaml")["train"]["augment"]
    assert asdict(Augment(**given)) == given


@pytest.mark.parametrize("name", TYPICAL)
def test_each_is_seeded_keeps_everybody_and_leaves_its_input_alone(name):
    step, rng = alone(**{name: TYPICAL[name]}), np.random.default_rng(0)
    for seed in range(40):
        window = random_window(rng)
        frames, height, width = window.frames.shape
        window.donors = donor_of(CENTRE_BOX, frames=frames, height=height, width=width)
        frames, boxes = window.frames.copy(), window.boxes.copy()
        one, two = (step(window, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one.frames, two.frames) and np.array_equal(one.boxes, two.boxes)
        assert np.array_equal(window.frames, frames) and np.array_equal(window.boxes, boxes)
        assert one.frames.shape == frames.shape and one.frames.dtype == np.float32 and np.isfinite(one.frames).all()
        assert one.labels[: len(boxes)].tolist() == list(range(len(boxes))) == one.object_ids[: len(boxes)].tolist()
        assert len(one.boxes) == len(one.labels) == len(one.object_ids) and one.boxes.dtype == np.float32
        assert ((one.boxes >= 0) & (one.boxes <= 1)).all() and (one.boxes[:, 2:] > one.boxes[:, :2]).all()


def test_all_of_them_together():
    rng = np.random.default_rng(1)
    chain = augmentations(**TYPICAL, copy_paste_balance=0.5)
    assert len(chain) == 14
    for seed in range(30):
        window, generator = random_window(rng), np.random.default_rng(seed)
        for step in chain:
            window = step(window, generator)
        assert window.frames.dtype == np.float32 and np.isfinite(window.frames).all()
        assert len(window.boxes) == len(window.labels) == len(window.object_ids)


def coloured(window):
    """As a clip of a video: three different pictures in one."""
    colours = np.stack([window.frames, 250 - 3 * window.frames, 2 * window.frames], axis=-1)
    return replace(window, frames=colours.astype(np.float32), room_c=None)


@pytest.mark.parametrize("name", sorted({*TYPICAL} - THERMAL))
def test_colours_are_varied_together(name):
    """One draw for all three: else a tool would be moved off the hand that holds it, or change its colour."""
    step, rng, changed = alone(**{name: TYPICAL[name]}), np.random.default_rng(0), 0
    for seed in range(20):
        window = coloured(random_window(rng))
        kept, room = window.frames.copy(), window.room_c
        varied = step(window, np.random.default_rng(seed))
        assert varied.frames.shape == kept.shape and varied.frames.dtype == np.float32
        assert np.array_equal(window.frames, kept) and varied.labels.tolist() == window.labels.tolist()
        for colour in range(3):
            alike = step(replace(window, frames=kept[..., colour].copy(), room_c=room), np.random.default_rng(seed))
            assert np.allclose(varied.frames[..., colour], alike.frames, atol=1e-3)
            assert np.array_equal(varied.boxes, alike.boxes)
        changed += not np.array_equal(varied.frames, kept)
    assert changed > 5


@pytest.mark.parametrize("name", TYPICAL)
def test_colours_are_varied_or_the_parameter_is_refused(name):
    window = coloured(window_of((0, 0, 1, 1), frames=8, height=20, width=30))
    for seed in range(10):
        if name in ("copy_paste", "person_contrast"):
            with pytest.raises(InputError, match=f"train.augment.{name} tells persons by their warmth, and a video has none"):
                alone(**{name: TYPICAL[name]})(window, np.random.default_rng(seed))
        else:
            varied = alone(**{name: TYPICAL[name]})(window, np.random.default_rng(seed))
            assert varied.frames.shape == (8, 20, 30, 3) and np.isfinite(varied.frames).all()


# --- moves ---


def extent(frame, warm=(ROOM + BODY) / 2):
    """x1, y1, x2, y2 of the warm pixels, in pixels."""
    rows, columns = np.nonzero(frame > warm)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("corner", [(5, 4), (0, 0), (51, 33), (30, 2)])
def test_flips_turns_and_shifts_move_whole_pixels_and_boxes_with_them(corner):
    left, top = corner
    window = window_of()
    window.frames[:, top : top + 7, left : left + 9] = BODY
    window.boxes, window.labels = np.array([[left / 60, top / 40, (left + 9) / 60, (top + 7) / 40]]), np.array([3])
    for moved in draws(alone(flip_horizontal=0.5, flip_vertical=0.5, half_turn=0.5, shift_px=12), window):
        assert np.array_equal(extent(moved.frames[0]), (moved.boxes[0] * [60, 40, 60, 40]).round(3))


def test_a_half_turn_is_both_flips_and_keeps_left_from_right():
    frames = np.random.default_rng(0).normal(18, 1, (4, 6, 8)).astype(np.float32)
    turned = alone(half_turn=1.0)(replace(counting(), frames=frames), np.random.default_rng(0))
    assert np.array_equal(turned.frames, frames[:, ::-1, ::-1])
    back = alone(half_turn=1.0, flip_horizontal=1.0, flip_vertical=1.0)(turned, np.random.default_rng(0))
    assert np.array_equal(back.frames, turned.frames)


@pytest.mark.parametrize("strengths", [{"rotation_deg": 30.0}, {"scale": 0.4}, {"crop": 0.5},
                                       {"rotation_deg": 20.0, "scale": 0.2, "crop": 0.3}], ids=lambda chosen: "+".join(chosen))
def test_resampled_persons_fill_their_boxes(strengths):
    rng = np.random.default_rng(0)
    changed = 0
    for seed in range(80):
        centre, size = rng.uniform(0.35, 0.65, 2), rng.uniform(0.15, 0.4, 2)
        window = window_of(np.concatenate([centre - size / 2, centre + size / 2]), height=80, width=120, frames=2)
        moved = alone(**strengths)(window, np.random.default_rng(seed))
        changed += moved is not window
        assert np.abs(extent(moved.frames[0]) - moved.boxes[0] * [120, 80, 120, 80]).max() < 2, (size, moved.boxes)
    assert changed > 75


def test_a_turned_box_stays_tight():
    """The bounding rectangle of a rectangle turned by 45 degrees would hold twice the person."""
    long = np.array([0.3, 0.45, 0.7, 0.55], np.float32)
    turned = resample(window_of(long), rotation(np.pi / 4), np.zeros(2))
    width, height = (turned.boxes[0, 2:] - turned.boxes[0, :2]) * (60, 40)
    assert width == pytest.approx(height) == pytest.approx(np.hypot(24, 4) / np.sqrt(2), abs=1e-4)
    quarter = resample(window_of(long), rotation(np.pi / 2), np.zeros(2))
    assert (quarter.boxes[0, 2:] - quarter.boxes[0, :2]) * (60, 40) == pytest.approx([4, 24], abs=1e-4)


@pytest.mark.parametrize("box", [(0, 0.3, 0.15, 0.6), (0.8, 0.75, 1, 1), (0.4, 0, 0.6, 0.1), (0.7, 0.1, 0.97, 0.3)])
def test_resampling_neither_loses_nor_smears_a_person_at_the_edge(box):
    resample = alone(rotation_deg=20.0, scale=0.3, crop=0.3)
    for moved in draws(resample, window_of(box, frames=2)):
        x1, y1, x2, y2 = (moved.boxes[0] * [60, 40, 60, 40] + [-2, -2, 2, 2]).round().astype(int).clip(0)
        warm = moved.frames[0] > ROOM + 4
        assert warm.any()
        warm[y1:y2, x1:x2] = False
        assert not warm.any()


def test_jittered_boxes_stay_boxes():
    boxes = np.array([[0, 0, 1, 1], [0.5, 0.5, 0.504, 0.51], [0.9, 0.1, 1, 0.2]], np.float32)
    for moved in draws(alone(box_jitter=0.4), window_of(*boxes), 200):
        assert moved.boxes.min() >= 0 and moved.boxes.max() <= 1 and (moved.boxes[:, 2:] > moved.boxes[:, :2]).all()
        assert (np.abs(moved.boxes - boxes) <= 0.4 * np.tile(boxes[:, 2:] - boxes[:, :2], 2) + 1e-6).all()


# --- temperature ---


def test_contrast_leaves_the_room_and_offset_moves_everything():
    window = window_of(CENTRE_BOX)
    gains = [(moved.frames.max() - ROOM) / (BODY - ROOM) for moved in draws(alone(contrast=0.3), window)]
    assert 0.7 <= min(gains) < 0.75 and 1.25 < max(gains) <= 1.3
    assert all(moved.frames.min() == pytest.approx(ROOM) for moved in draws(alone(contrast=0.3), window, 20))
    moves = [moved.frames - window.frames for moved in draws(alone(offset_c=2.0), window, 200)]
    assert all(np.ptp(move) < 1e-4 for move in moves) and 1.6 < np.std([move.mean() for move in moves]) < 2.4


def test_brightness_is_that_of_the_published_recipe():
    window = window_of(CENTRE_BOX)
    for moved in draws(alone(brightness=0.3), window, 20):
        before, after = (torch.from_numpy((frames[None, 0] - 5) / 40) for frames in (window.frames, moved.frames))
        factor = float(after.mean() / before.mean())
        assert 0.7 <= factor <= 1.3
        assert torch.allclose(adjust_brightness(before.expand(3, -1, -1), factor), after, atol=1e-5)


def test_noise_flickers_and_a_fixed_pattern_does_not():
    window = window_of(frames=16)
    for moved in draws(alone(fixed_pattern_c=0.6), window, 10):
        assert np.ptp(moved.frames - window.frames, axis=0).max() == 0 and 0 < moved.frames[0].std() < 0.65
    for moved in draws(alone(noise_c=0.6), window, 10):
        assert moved.frames.std(axis=0).mean() == pytest.approx(moved.frames.std(), rel=0.1) and moved.frames.std() < 0.65


def walker(frames=32, height=40, width=60):
    """Somebody who crosses the picture, in its middle at the keyframe, and somebody who lies below."""
    window = window_of((0.35, 0.75, 0.65, 0.95), frames=frames)
    columns = np.rint(np.linspace(-20, 20, frames) - np.linspace(-20, 20, frames)[frames // 2]).astype(int)
    person = window_of(CENTRE_BOX, frames=1).frames[0] - ROOM
    for index, column in enumerate(columns):
        window.frames[index] += np.roll(person, column, axis=1)
    boxes = np.stack([CENTRE_BOX, window.boxes[0]])
    return replace(window, boxes=boxes, labels=np.array([0, 1]), object_ids=np.arange(2)), columns


def test_a_person_keeps_his_clothes_while_he_walks():
    window, _ = walker()
    for moved in draws(alone(person_contrast=0.4), window, 20):
        peaks = moved.frames[:, 15:25].max(axis=(1, 2)) - ROOM  # C above the room, where he walks
        assert np.ptp(peaks) < 0.02 * (BODY - ROOM) and 0.6 <= peaks[0] / (BODY - ROOM) <= 1.4
    gains = np.array([moved.frames[MIDDLE, (20, 34), 30] - ROOM for moved in draws(alone(person_contrast=0.4), window, 60)])
    assert abs(np.corrcoef(gains.T)[0, 1]) < 0.3  # each has clothes of his own


def test_two_who_hug_are_changed_once():
    window = window_of(CENTRE_BOX, CENTRE_BOX, frames=4)
    gains = [(moved.frames.max() - ROOM) / (BODY - ROOM) for moved in draws(alone(person_contrast=0.4), window)]
    assert 0.6 <= min(gains) < max(gains) <= 1.4


def test_other_clothes_leave_no_edge():
    """A warm floor all around must not show where the box ended."""
    window = window_of(CENTRE_BOX)
    window.frames[:, 8:32, 12:48] = np.maximum(window.frames[:, 8:32, 12:48], ROOM + 2)
    for moved in draws(alone(person_contrast=0.4), window, 20):
        change = (moved.frames - window.frames)[MIDDLE][window.frames[MIDDLE] == ROOM + 2]
        steps = np.diff((moved.frames - window.frames)[MIDDLE, 20, 13:47][window.frames[MIDDLE, 20, 13:47] == ROOM + 2])
        assert np.abs(change).max() <= 0.4 * 2 and np.abs(steps).max() <= 0.6 * np.abs(change).max() + 1e-6
        assert np.array_equal(moved.frames[MIDDLE, :8], window.frames[MIDDLE, :8])


def test_erasing_fills_with_the_room_and_hides_nobody():
    window = window_of((0.1, 0.1, 0.3, 0.4), (0.6, 0.5, 0.9, 0.9))
    window.frames += np.linspace(-3, 3, 60, dtype=np.float32)
    erased = 0
    for moved in draws(alone(erasing=1.0), window):
        gone = (moved.frames != window.frames).any(axis=0)
        assert (moved.frames[:, gone] == window.room_c).all()
        erased += gone.any()
        for box in window.boxes:
            x1, y1, x2, y2 = (box * [60, 40, 60, 40]).round().astype(int)
            assert gone[y1:y2, x1:x2].mean() <= 0.5 + 1e-6
    assert erased > 75
    assert 0.15 < np.mean([moved is not window for moved in draws(alone(erasing=0.25), window, 300)]) < 0.35


# --- time and link ---


@pytest.mark.parametrize("total", [2, 7, 32, 64])
@pytest.mark.parametrize("strengths", [{"time_warp": 0.5}, {"dropped_frames": 0.5}], ids=lambda chosen: "+".join(chosen))
def test_time_keeps_its_order_and_the_keyframe_its_place(strengths, total):
    changed = 0
    for moved in draws(alone(**strengths), counting(total)):
        ticks = moved.frames[:, 0, 0]
        assert ticks[total // 2] == total // 2 and (np.diff(ticks) >= 0).all()
        assert np.array_equal(ticks, moved.frames[:, 5, 7])
        changed += not np.array_equal(ticks, np.arange(total))
    assert changed > 40 or total == 2


def test_time_warp_keeps_its_speed():
    for moved in draws(alone(time_warp=0.5), counting(64)):
        ticks = moved.frames[:, 0, 0] - 32
        inner = np.abs(ticks) < 31
        speed = np.polyfit(np.arange(64)[inner] - 32, ticks[inner], 1)[0]
        assert 1 / 1.52 < speed < 1.52


def test_dropped_frames_are_the_share_asked_for():
    skipped = [np.mean(np.diff(moved.frames[20:44, 0, 0]) > 1) for moved in draws(alone(dropped_frames=0.4), counting(64), 300)]
    assert 0.1 < np.mean(skipped) < 0.25


@pytest.mark.parametrize("size", [(40, 60), (16, 16), (31, 17)])
def test_lost_packets_repeat_the_frame_before(size):
    frames = np.random.default_rng(0).normal(18, 1, (32, *size)).astype(np.float32)
    window, cut = Window(frames, CENTRE_BOX[None], np.array([0]), np.array([0])), 0
    ends = [round(part / 2400 * size[0] * size[1]) for part in (0, 576, 1152, 1728, 2304, 2400)]
    packets = [slice(*pair) for pair in pairwise(ends)]
    for moved in draws(alone(lost_packets=0.6), window, 40):
        flat, original = moved.frames.reshape(32, -1), frames.reshape(32, -1)
        assert np.array_equal(flat[0], original[0])
        for index in range(1, 32):
            lost = [not np.array_equal(flat[index, packet], original[index, packet]) for packet in packets]
            assert all(np.array_equal(flat[index, packet], flat[index - 1 if gone else index, packet])
                       for packet, gone in zip(packets, lost, strict=True)) and not lost[-1]
            cut += any(lost)
    assert 0.2 < cut / (40 * 31) < 0.4


# --- copy-paste ---


def test_a_pasted_person_stands_in_the_box_with_the_label():
    window = window_of((0.1, 0.1, 0.3, 0.4), labels=[2])
    box = (0.15, 0.6, 0.3, 0.9)
    places = set()
    for pasted in draws(CopyPaste(1.0, 0.0), replace(window, donors=donor_of(box)), 40):
        assert pasted.labels.tolist() == [2, 7] and pasted.object_ids.tolist() == [0, PASTED]
        new = (pasted.frames - window.frames)[MIDDLE]
        assert np.abs(extent(new, 4) - pasted.boxes[1] * [60, 40, 60, 40]).max() <= 1
        places.add(tuple(pasted.boxes[1].round(3).tolist()))
        # at the donor's distance from the lens, which sees a person at the rim from the side
        assert np.abs(pasted.boxes[1][:2] + pasted.boxes[1][2:] - 1) == pytest.approx(abs(np.add(box[:2], box[2:]) - 1), abs=1e-5)
    assert len(places) == 3  # the fourth mirror image is taken


def test_a_guest_from_a_warm_room_is_as_warm_against_a_cold_one():
    def donors(rng, balance):
        return Donor(CENTRE_BOX, 7, (), lambda: window_of(CENTRE_BOX).frames + 7)

    window = window_of()
    window.frames[:, 8:32, 18:42] = ROOM - 6  # a cold floor, right there
    (pasted,) = draws(CopyPaste(1.0, 0.0), replace(window, donors=donors), 1)
    assert pasted.frames.max() == pytest.approx(BODY) and pasted.frames.min() == pytest.approx(ROOM - 6)


@pytest.mark.parametrize("strengths", [{"flip_horizontal": 0.5, "flip_vertical": 0.5, "half_turn": 0.5, "shift_px": 6},
                                       {"rotation_deg": 20.0, "scale": 0.3, "crop": 0.3}])
def test_furniture_moves_with_the_picture(strengths):
    """A bed that stayed behind would teach the detector to see beds where none are."""
    window = window_of(CENTRE_BOX, (0.1, 0.2, 0.25, 0.45))
    window = replace(window, furniture=[("bed", window.boxes[0]), ("chair", window.boxes[1])])
    for moved in draws(alone(**strengths), window, 30):
        assert [name for name, _ in moved.furniture] == ["bed", "chair"]
        assert np.allclose([box for _, box in moved.furniture], moved.boxes, atol=1e-6)
    beyond = replace(window_of(), furniture=[("bed", np.array([0.8, 0.0, 1.0, 0.4], np.float32))])
    for moved in draws(alone(**strengths), beyond, 30):
        (_, box), = moved.furniture
        assert (box >= 0).all() and (box <= 1).all() and (box[2:] >= box[:2]).all()


def test_a_box_follows_its_person_wherever_in_the_box_he_is():
    frames = window_of((0.4, 0.35, 0.5, 0.5)).frames
    assert follow(frames, CENTRE_BOX, 16) == pytest.approx(np.tile([30, 20], (32, 1)), abs=1e-4)


def test_nobody_is_pasted_onto_somebody_and_crowds_take_nobody_in():
    rng = np.random.default_rng(0)
    crowd = window_of((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1))
    assert all(len(pasted.boxes) == 4 for pasted in draws(CopyPaste(1.0, 0), replace(crowd, donors=donor_of(CENTRE_BOX)), 10))
    added = 0
    for seed in range(100):
        low = rng.uniform(0, 0.75, (3, 2))
        window = window_of(*np.concatenate([low, low + 0.2], axis=1)[:2])
        donor = np.concatenate([low[2], low[2] + 0.2]).astype(np.float32)
        pasted = CopyPaste(1.0, 0.0)(replace(window, donors=donor_of(donor)), np.random.default_rng(seed))
        added += len(pasted.boxes) == 3
        assert not overlap(pasted.boxes[-1], window.boxes).any() or len(pasted.boxes) == 2
    assert added > 50


def test_who_lies_on_a_bed_is_pasted_onto_beds_alone():
    """Moved off the bed, `lying on the bed` would look like `lying with risk`."""
    on, window = (0.1, 0.1, 0.4, 0.3), window_of()
    bed, chair = ("bed", np.array([0.05, 0.05, 0.45, 0.35])), ("chair", np.array([0.55, 0.05, 0.95, 0.35]))

    def added(donor_furniture, furniture):
        scene = replace(window, donors=donor_of(on, furniture=donor_furniture), furniture=furniture)
        return sum(len(pasted.boxes) for pasted in draws(CopyPaste(1.0, 0.0), scene, 10))

    assert added([], []) == added([bed], [bed]) == added([bed], [bed, chair]) == 10
    assert added([bed], []) == added([bed], [chair]) == 0
    pasted = CopyPaste(1.0, 0.0)(replace(window, donors=donor_of(on), furniture=[bed, chair]), np.random.default_rng(0))
    assert pasted.boxes[0, 1] > 0.5  # the floor is free on the other side


def test_a_pasted_walker_walks():
    window, columns = walker()
    donors = lambda rng, balance: Donor(CENTRE_BOX, 0, (), lambda: window.frames)  # noqa: E731
    for pasted in draws(CopyPaste(1.0, 0.0), replace(window_of(), donors=donors), 8):
        warm = pasted.frames > ROOM + 4
        places = np.array([np.nonzero(frame.any(axis=0))[0].mean() - 29.5 for frame in warm])
        assert min(np.abs(places - columns).max(), np.abs(places + columns).max()) <= 1.5
        assert not warm[:, 30:].any() and not warm[:, :10].any()  # who lies below stays at home


def test_without_donors_nothing_happens():
    window = window_of(CENTRE_BOX)
    nobody = replace(window, donors=lambda rng, balance: None)
    assert CopyPaste(1.0, 0.0)(window, np.random.default_rng(0)) is window
    assert CopyPaste(1.0, 0.0)(nobody, np.random.default_rng(0)) is nobody


# --- to look at ---


@pytest.mark.parametrize("boxes", [(), ((0.1, 0.1, 0.3, 0.4), (0.6, 0.5, 0.9, 0.9))])
def test_the_sheet_shows_every_augmentation(tmp_path, boxes):
    class OneWindow:
        def read(self, index):
            return replace(window_of(*boxes, height=20, width=30), donors=donor_of((0.4, 0.1, 0.55, 0.4), height=20, width=30))

    shown = examples(OneWindow(), 0, seed=1, **(OFF | {"shift_px": 3, "flip_vertical": 0.5}))
    assert [example.title.split()[0] for example in shown] == list(TYPICAL)
    titles = [example.title for example in shown]
    assert "shift_px 3" in titles and "flip_vertical 0.5" in titles and "noise_c 0.5 (off)" in titles
    draw_augmentations(tmp_path / "sheet.png", shown)
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_the_sheet_of_a_clip_shows_what_a_video_can_show(tmp_path):
    class OneClip:
        def read(self, index):
            return coloured(window_of((0, 0, 1, 1), height=20, width=30))

    shown = examples(OneClip(), 0, seed=1, **(OFF | {"shift_px": 3, "noise_c": 2.0}))
    names = [example.title.split()[0] for example in shown]
    assert {*names} == {*TYPICAL} - THERMAL | {"noise_c"}
    draw_augmentations(tmp_path / "sheet.png", shown)
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
