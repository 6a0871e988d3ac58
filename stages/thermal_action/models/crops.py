"""Persons cut out of the frames before the network sees them, all turned the same way."""

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from thermal_action.boxes import centres, sizes

# Nearer to the middle of the picture than this, in pixels, no direction leads away from it.
BELOW_CAMERA_PX = 1e-3


class PersonCrops(nn.Module):
    """Windows and boxes -> a square piece of every frame around each box's centre, at the sensor's own scale.

    A ceiling camera sees who stands as a rod that points away from the middle of its picture, on every side of it; who lies
    points anywhere. So each piece is turned until its rows lead away from that middle, and a network need not learn the same
    action again for every place. The piece stays where the keyframe's box is, for motion through it is part of the action.
    Beyond the picture its edge repeats. A mask tells whose piece it is: 1 inside the box, 0 outside.

    side: pixels of a piece.
    """

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, frames: Tensor, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """frames [B, 3, T, H, W] whose channels repeat one, boxes: B tensors [N_i, 4] in [0, 1] ->
        pieces [sum N_i, 3, T, side, side] and masks [sum N_i, 1, 1, side, side]."""
        picture = frames.new_tensor([frames.shape[4], frames.shape[3]])
        owner = torch.cat([box.new_full((len(box),), index, dtype=torch.long) for index, box in enumerate(boxes)])
        places, masks = self.places(torch.cat(boxes).to(frames.dtype), picture)
        # all frames of a window are cut alike, so they are the channels of one picture
        pieces = grid_sample(frames[owner, 0], 2 * places / picture - 1, padding_mode="border", align_corners=False)
        return pieces[:, None].expand(-1, frames.shape[1], -1, -1, -1), masks[:, None, None]

    def places(self, boxes: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [N, 4], (W, H) -> where each pixel of the pieces lies, [N, side, side, 2] x, y in pixels, and the masks."""
        middle, half = centres(boxes) * picture, sizes(boxes) * picture / 2
        away = middle - picture / 2
        distance = away.norm(dim=1, keepdim=True)
        away = torch.where(distance > BELOW_CAMERA_PX, away / distance.clamp(min=BELOW_CAMERA_PX), away.new_tensor([0.0, 1.0]))
        beside = torch.stack([away[:, 1], -away[:, 0]], dim=1)
        steps = torch.arange(self.side, device=boxes.device, dtype=boxes.dtype) + (1 - self.side) / 2
        offsets = steps[:, None, None] * away[:, None, None] + steps[:, None] * beside[:, None, None]
        return middle[:, None, None] + offsets, (offsets.abs() <= half[:, None, None]).all(dim=-1).to(boxes.dtype)
