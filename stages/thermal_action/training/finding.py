"""How the detector learns: what it should have said, how wrong it was, and which of its boxes the classifier learns from."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from thermal_action.boxes import centres, sizes
from thermal_action.models import ActionModel
from thermal_action.models.detector import FoundMaps, cell_boxes, cell_middles

BoxSource = Literal["annotated", "detected", "both"]
# a person's heat falls with this part of the box's side as its deviation, of at least so many pixels
SPREAD, NARROWEST_PX = 1 / 6, 1.0
# cells that warm by a person learn the box
BOX_FROM = 0.3
# exponents of the focal loss for heat maps (Law and Deng, CornerNet, ECCV 2018)
FOCUS, RELIEF = 2, 4
# the classifier learns from detections that overlap a person so much; those scored less are not looked at
MATCHING_IOU, LEAST_SCORE = 0.5, 0.2


def finding_loss(maps: FoundMaps, boxes: list[Tensor], weights: list[Tensor], beds: list[Tensor], size: tuple[int, int],
                 ) -> Tensor:
    """Sum over the windows of a batch: heat, and boxes (GIoU, Rezatofighi et al., CVPR 2019), both a number a person, and beds.

    boxes: B tensors [N_i, 4] in [0, 1] with how far each person is seen, weights [N_i]; beds: B tensors [M_i, 4]; size: (H, W).
    """
    from torchvision.ops import generalized_box_iou_loss
    picture = maps.sides.new_tensor([size[1], size[0]])
    middles, found = cell_middles(maps), cell_boxes(maps)
    heats, wanted_beds, box_loss = [], [], maps.sides.new_zeros(())
    for window, (persons, weight, furniture) in enumerate(zip(boxes, weights, beds, strict=True)):
        warmth = warm(persons * picture.repeat(2), middles) * weight[:, None, None]  # (N, h, w)
        heat, owner = warmth.max(dim=0) if len(persons) else (torch.zeros_like(maps.heat[window]), None)
        heats.append(heat)
        inside = middles[None] / picture
        wanted_beds.append(((inside > furniture[:, None, None, :2]) & (inside < furniture[:, None, None, 2:])).all(-1).any(0))
        learns = heat > BOX_FROM
        if learns.any():
            target = (persons * picture.repeat(2))[owner[learns]]
            share = heat[learns] / heat[learns].sum() * weight.sum()
            box_loss = box_loss + (share * generalized_box_iou_loss(found[window][learns], target)).sum()
    bed_loss = functional.binary_cross_entropy_with_logits(maps.beds, torch.stack(wanted_beds).float(), reduction="none")
    return heat_loss(maps.heat, torch.stack(heats)) + box_loss + bed_loss.mean(dim=(1, 2)).sum()


def warm(boxes: Tensor, middles: Tensor) -> Tensor:
    """Boxes [N, 4], middles of cells [h, w, 2], in pixels -> [N, h, w]: 1 in the cell nearest to a person's middle, falling."""
    spread = (sizes(boxes) * SPREAD).clamp(min=NARROWEST_PX)[:, None, None]
    away = middles[None] - centres(boxes)[:, None, None]
    heat = (-((away / spread) ** 2).sum(dim=-1) / 2).exp()
    nearest = (away**2).sum(dim=-1).flatten(1).argmin(dim=1, keepdim=True)
    return heat.flatten(1).scatter(1, nearest, 1.0).view_as(heat)


def heat_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Summed over all cells [B, h, w]: those of a middle must be hot, the others cold, the less so the nearer they are to one."""
    heat = logits.sigmoid()
    hot = wanted * (1 - heat) ** FOCUS * functional.logsigmoid(logits) * (wanted == peaks(wanted)) * (wanted > 0)
    cold = (1 - wanted) ** RELIEF * heat**FOCUS * functional.logsigmoid(-logits)
    return -(hot + cold).sum()


def peaks(heat: Tensor) -> Tensor:
    return functional.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]


@torch.no_grad()
def choose_boxes(model: ActionModel, frames: Tensor, boxes: list[Tensor], labels: list[Tensor], weights: list[Tensor],
                 source: BoxSource) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The boxes in which the classifier is shown the persons of a batch, with their labels and weights.

    detected: as `model` finds them; who is not found keeps the annotated box. both: annotated, and who is found once more, each
    half as heavy.
    """
    if source == "annotated":
        return boxes, labels, weights
    from torchvision.ops import box_iou
    learning = model.detector.training
    model.detector.eval()  # its statistics are not to change
    detections = model.find(frames, LEAST_SCORE)
    model.detector.train(learning)
    shown = []
    for own, label, weight, (found, *_) in zip(boxes, labels, weights, detections, strict=True):
        overlap = box_iou(own, found) if len(found) else own.new_zeros(len(own), 1)
        best, which = overlap.max(dim=1)
        hit = best >= MATCHING_IOU
        if source == "detected":
            replaced = own.clone()
            replaced[hit] = found[which[hit]]
            shown.append((replaced, label, weight))
        else:
            share = torch.where(hit, 0.5, 1.0) * weight
            again = found[which[hit]], label[hit], share[hit]
            shown.append([torch.cat(pair) for pair in zip((own, label, share), again, strict=True)])
    return tuple(list(column) for column in zip(*shown, strict=True))
