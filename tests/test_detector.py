"""python -m pytest tests/test_detector.py

Without these, the detector could learn from boxes that are not where the persons are, or disturb what the classifier learns.
"""

import numpy as np
import pytest
import torch
from torch import nn

from thermal_action.boxes import intersection_over_union
from thermal_action.detections import Detections, read_persons
from thermal_action.models import build_model
from thermal_action.models.detector import FoundMaps, PersonDetector, cell_boxes
from thermal_action.training.distributed import Team
from thermal_action.training.epoch import Learner, train_one_epoch
from thermal_action.training.finding import choose_boxes, finding_loss, warm
from thermal_action.training.losses import build_loss
from thermal_action.training.schedules import build_optimizer, build_schedule, lr_factor
from thermal_action.training.strategies import Strategy

torch.set_num_threads(1)
SIZE = (40, 60)
SMALL = {"name": "thermal_tiny", "spatial_stride": 4, "head": "crop", "hidden": 8, "num_classes": 3, "backbone": {"width": 4}}
PICTURE = torch.tensor([60.0, 40.0, 60.0, 40.0])


def blank(count: int = 1) -> FoundMaps:
    return FoundMaps(torch.full((count, 20, 30), -6.0), torch.full((count, 4, 20, 30), 4.0), torch.full((count, 20, 30), -6.0))


def perfect(boxes: list[torch.Tensor], beds: list[torch.Tensor]) -> FoundMaps:
    """What a detector should say of these boxes, in pixels."""
    maps = blank(len(boxes))
    rows, columns = torch.meshgrid(2 * torch.arange(20) + 0.5, 2 * torch.arange(30) + 0.5, indexing="ij")
    for window, (persons, furniture) in enumerate(zip(boxes, beds, strict=True)):
        for box in persons:
            x, y = (box[:2] + box[2:]) / 2
            near = ((rows - y).abs() <= 5) & ((columns - x).abs() <= 5)
            middle = ((rows - y) ** 2 + (columns - x) ** 2).argmin()
            maps.heat[window].view(-1)[middle] = 8.0
            sides = torch.stack([columns - box[0], rows - box[1], box[2] - columns, box[3] - rows])
            maps.sides[window][:, near] = sides[:, near]
        for box in furniture:
            maps.beds[window][(columns > box[0]) & (columns < box[2]) & (rows > box[1]) & (rows < box[3])] = 8.0
    return maps


def read(maps: FoundMaps, least: float) -> list[Detections]:
    return [read_persons(*(each.numpy() for each in window), SIZE, least) for window in zip(*maps, strict=True)]


PERSONS = [torch.tensor([[10.0, 10, 19, 21], [40, 5, 49, 12]]), torch.empty(0, 4), torch.tensor([[50.0, 30, 60, 40]])]
BEDS = [torch.tensor([[5.0, 5, 30, 20]]), torch.empty(0, 4), torch.empty(0, 4)]


def test_what_the_maps_say_is_read_from_them():
    found = read(perfect(PERSONS, BEDS), 0.5)
    for window, persons in enumerate(PERSONS):
        assert len(found[window].boxes) == len(persons)
        boxes = found[window].boxes * PICTURE.numpy()
        for box in persons.numpy():
            assert abs(boxes - box).max(axis=1).min() < 1e-4
        assert (found[window].scores > 0.99).all()


def test_how_far_a_person_is_on_a_bed_is_read_too():
    maps = perfect(PERSONS, BEDS)
    assert maps.beds[0].max() > 5
    on_bed = {tuple(np.rint(box * PICTURE.numpy()).astype(int).tolist()): share
              for window in read(maps, 0.5) for box, share in zip(window.boxes, window.on_bed, strict=True)}
    assert on_bed[10, 10, 19, 21] == pytest.approx(5 / 6, abs=0.18) and on_bed[40, 5, 49, 12] < 0.01 > on_bed[50, 30, 60, 40]


def test_a_box_is_what_the_cells_around_agree_on():
    maps = blank()
    maps.heat[0, 10, 15], maps.heat[0, 10, 16], maps.heat[0, 10, 20] = 2.0, 1.0, 1.5
    maps.sides[0, :, 10, 15] = torch.tensor([4.0, 4, 6, 4])  # 26.5 to 36.5; its neighbour says 28.5 to 36.5
    maps.sides[0, :, 10, 20] = torch.tensor([0.5, 0.5, 0.5, 0.5])  # another, small person has no say
    first, second = (read(maps, 0.5)[0].boxes * PICTURE.numpy()).tolist()
    weights = torch.tensor([2.0, 1.0]).sigmoid().sqrt().numpy()
    assert first == pytest.approx([np.average([26.5, 28.5], weights=weights), 16.5, 36.5, 24.5], abs=1e-4)
    assert second == pytest.approx([40, 20, 41, 21], abs=1e-4)


def test_one_person_is_one_detection_and_close_ones_are_two():
    close = torch.tensor([[10.0, 10, 17, 20], [17, 10, 24, 20]])
    assert len(read(perfect([close], [torch.empty(0, 4)]), 0.5)[0].boxes) == 2
    doubled = perfect([close[:1]], [torch.empty(0, 4)])
    doubled.heat[0, 9, 6] = 7.0  # a second peak two cells further down that gives nearly the same box
    assert len(read(doubled, 0.5)[0].boxes) == 1


def test_the_loss_is_least_for_what_the_boxes_say():
    boxes, beds = [each / PICTURE for each in PERSONS], [each / PICTURE for each in BEDS]
    weights = [torch.ones(len(each)) for each in boxes]
    right = perfect(PERSONS, BEDS)
    least = finding_loss(right, boxes, weights, beds, SIZE)
    shifted, smaller, blind, extra = (FoundMaps(*(each.clone() for each in right)) for _ in range(4))
    shifted.sides[:, 0] += 2
    shifted.sides[:, 2] -= 2
    smaller.sides[:] = right.sides * 0.7
    blind.heat[0].fill_(-6.0)
    extra.heat[1, 5, 5] = 6.0
    no_bed = right._replace(beds=torch.full_like(right.beds, -6.0))
    for wrong in (shifted, smaller, blind, extra, no_bed):
        assert finding_loss(wrong, boxes, weights, beds, SIZE) > least + 0.05


def test_a_persons_warmth_is_one_in_the_middle_and_reaches_as_far_as_the_box_is_wide():
    middles = torch.stack(torch.meshgrid(2 * torch.arange(30) + 0.5, 2 * torch.arange(20) + 0.5, indexing="xy"), dim=-1)
    heat = warm(torch.tensor([[10.0, 10, 40, 20]]), middles)[0]
    assert heat.max() == 1 and (heat == 1).sum() == 1
    row, column = divmod(int(heat.argmax()), 30)
    assert abs(2 * column + 0.5 - 25) <= 1 and abs(2 * row + 0.5 - 15) <= 1
    assert heat[row, column + 2] > heat[row + 2, column]  # the box is wider than high


def make_windows(count: int, seed: int) -> list[tuple]:
    """Windows of 16 x 24 pixels in which one warm person moves; a kettle, as warm, never does."""
    generator = np.random.default_rng(seed)
    items = []
    rows, columns = np.mgrid[:16, :24] + 0.5
    for _ in range(count):
        x, y, kettle_x, kettle_y = generator.uniform((4, 4, 2, 2), (20, 12, 22, 14))
        path = x + np.sin(np.arange(16) / 2 + generator.uniform(0, 6))
        person = (abs(columns - path[:, None, None]) < 3) & (abs(rows - y) < 2.5)
        kettle = (abs(columns - kettle_x) < 1.5) & (abs(rows - kettle_y) < 1.5)
        frames = torch.from_numpy(np.where(person | kettle, 0.6, 0.3) + generator.normal(0, 0.01, person.shape)).float()
        box = torch.tensor([[path[8] - 3, y - 2.5, path[8] + 3, y + 2.5]], dtype=torch.float32) / torch.tensor([24.0, 16, 24, 16])
        items.append((frames.expand(1, 3, -1, -1, -1), [box.clamp(0, 1)], [torch.tensor([0])],
                      [{"recording": "R", "beds": torch.empty(0, 4)}]))
    return items


def join(items: list[tuple]) -> tuple:
    frames = torch.cat([item[0][:, :1] for item in items]).expand(-1, 3, -1, -1, -1)
    return frames, *([each for item in items for each in item[column]] for column in (1, 2, 3))


def make_learner(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    model = build_model(**SMALL)
    optimizer = build_optimizer([(model.parameters(), 1.0)], "adamw", lr=0.003, weight_decay=0.01)
    schedule = build_schedule(optimizer, lr_factor("constant", epochs=10), 3)
    learner = Learner(model, Strategy(model, "full", epochs=100), optimizer, schedule,
                      torch.amp.GradScaler("cpu", enabled=False), None)
    learner.strategy.start_epoch(1, optimizer)
    return learner


def train(learner: Learner, batches: list[tuple], **options) -> dict[str, float]:
    team = Team(torch.device("cpu"))
    return train_one_epoch(learner, batches, build_loss("cross_entropy", torch.tensor([5, 5, 5])), epoch=1, team=team,
                           generator=team.seed_epoch(0, 1), **options)


def test_it_learns_to_find_who_moves_and_not_what_is_only_warm():
    learner, batches = make_learner(), [join(make_windows(16, seed)) for seed in range(12)]
    for _ in range(8):
        result = train(learner, batches, finding=1.0)
    learner.model.eval()
    frames, boxes, *_ = join(make_windows(40, 99))
    hits = alarms = 0
    with torch.no_grad():
        for (found, *_), box in zip(learner.model.find(frames, 0.3), boxes, strict=True):
            overlaps = intersection_over_union(box.numpy(), found.numpy()) if len(found) else np.zeros(1)
            hits += overlaps.max() > 0.5
            alarms += len(found) - (overlaps.max() > 0.5)
    assert result["finding"] < 2 and hits >= 34 and alarms <= 8


def test_the_classifier_learns_the_same_with_and_without_a_detector_beside_it():
    """The networks' published scores would otherwise not be those of the networks."""
    batches = [join(make_windows(8, seed)) for seed in range(3)]
    alone, beside = make_learner(), make_learner()
    first, second = train(alone, batches, clip_norm=0.01), train(beside, batches, clip_norm=0.01, finding=1.0)
    assert second.pop("finding") > 0 and first == second
    for (name, one), two in zip(alone.model.state_dict().items(), beside.model.state_dict().values(), strict=True):
        if not name.startswith("detector."):
            assert torch.equal(one, two), name
    assert not torch.equal(alone.model.detector.out.weight, beside.model.detector.out.weight)


@pytest.mark.parametrize(("source", "shares"), [("annotated", [1.0, 1.0]), ("detected", [1.0, 1.0]), ("both", [0.5, 1.0, 0.5])])
def test_the_classifier_is_shown_the_boxes_that_are_wanted(source, shares, monkeypatch):
    model = build_model(**SMALL)
    boxes = [PERSONS[0] / PICTURE]
    maps = perfect([PERSONS[0][:1] + 1.0], [torch.empty(0, 4)])  # the first one is found, a pixel further right and down
    monkeypatch.setattr(model, "detector", Fixed(maps))
    shown, labels, weights = choose_boxes(model, torch.zeros(1, 3, 16, 40, 60), boxes, [torch.tensor([0, 1])], [torch.ones(2)],
                                          source)
    assert weights[0].tolist() == shares and labels[0].tolist() == [0, 1, 0][:len(shares)]
    moved = (shown[0] * PICTURE - torch.cat([PERSONS[0], PERSONS[0][:1]])[:len(shares)]).abs().amax(dim=1) > 0.5
    assert moved.tolist() == {"annotated": [False, False], "detected": [True, False], "both": [False, False, True]}[source]


class Fixed(nn.Module):
    def __init__(self, maps: FoundMaps):
        super().__init__()
        self.maps = maps

    def forward(self, frames: torch.Tensor) -> FoundMaps:
        return self.maps


@pytest.mark.parametrize("keyframe", [0.5, 1.0])
def test_where_somebody_is_is_told_of_the_keyframe(keyframe):
    detector = PersonDetector(mean=0.3, std=0.1, difference_std=0.025, keyframe=keyframe)
    frames = torch.full((1, 64, 40, 60), 0.3)
    frames[:, 32 if keyframe == 0.5 else 63, 10:20, 10:20] = 0.6
    assert detector.statistics(frames)[0, 0, 15, 15] > 0.9  # a third of three deviations, or half
    assert detector.statistics(frames)[0, 1].abs().max() < 1e-5


def test_every_parameter_learns_and_the_boxes_begin_as_persons_are():
    detector = PersonDetector(mean=0.3, std=0.1, difference_std=0.025)
    maps = detector(torch.rand(2, 3, 64, 40, 60)[:, :1].expand(-1, 3, -1, -1, -1))
    assert maps.heat.shape == maps.beds.shape == (2, 20, 30) and maps.sides.shape == (2, 4, 20, 30)
    sides = cell_boxes(maps)[..., 2:] - cell_boxes(maps)[..., :2]
    assert 6 < sides.mean() < 13 and maps.heat.sigmoid().mean() < 0.2
    finding_loss(maps, [PERSONS[0] / PICTURE, PERSONS[1]], [torch.ones(2), torch.ones(0)], BEDS[:2], SIZE).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in detector.parameters())


def test_a_model_of_clips_has_no_detector():
    assert build_model(**SMALL | {"head": "clip"}).detector is None
