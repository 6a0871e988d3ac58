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

    def forward(self, frames: Tensor, boxes: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """frames [B, 3, T, H, W] whose channels repeat one, boxes [N, 4] in [0, 1] and the window of each, [N] ->
        pieces [N, 3, T, side, side], masks [N, 1, 1, side, side] and where each is (see `describe`)."""
        picture = frames.new_tensor([frames.shape[4], frames.shape[3]])
        boxes = boxes.to(frames.dtype)
        places, masks = self.places(boxes, picture)
        # all frames of a window are cut alike, so they are the channels of one picture
        pieces = grid_sample(frames[owner, 0], 2 * places / picture - 1, padding_mode="border", align_corners=False)
        pieces = pieces[:, None].expand(-1, frames.shape[1], -1, -1, -1)
        return pieces, masks[:, None, None], self.describe(boxes, picture)

    def describe(self, boxes: Tensor, picture: Tensor) -> Tensor:
        """Boxes [N, 4], (W, H) -> [N, 3]: the distance from the picture's middle (1 at its corners), for who stands is seen from
        above in it and from the side at the rim; logarithm of the box's extent away from the middle and across (1 is a quarter
        of the piece)."""
        away, distance = self.directions(boxes, picture)
        size = sizes(boxes) * picture
        extents = torch.stack([(away.abs() * size).sum(dim=1), (away.abs().flip(1) * size).sum(dim=1)], dim=1)
        return torch.cat([2 * distance / picture.norm(), (4 * extents / self.side).clamp(min=0.1).log()], dim=1)

    def directions(self, boxes: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [N, 2] from the picture's middle to those of the boxes, and how far these are, [N, 1] pixels."""
        away = (centres(boxes) - 0.5) * picture
        distance = away.norm(dim=1, keepdim=True)
        below = away.new_tensor([0.0, 1.0])
        return torch.where(distance > BELOW_CAMERA_PX, away / distance.clamp(min=BELOW_CAMERA_PX), below), distance

    def places(self, boxes: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [N, 4], (W, H) -> where each pixel of the pieces lies, [N, side, side, 2] x, y in pixels, and the masks."""
        middle, half = centres(boxes) * picture, sizes(boxes) * picture / 2
        away, _ = self.directions(boxes, picture)
        beside = torch.stack([away[:, 1], -away[:, 0]], dim=1)
        steps = torch.arange(self.side, device=boxes.device, dtype=boxes.dtype) + (1 - self.side) / 2
        offsets = steps[:, None, None] * away[:, None, None] + steps[:, None] * beside[:, None, None]
        return middle[:, None, None] + offsets, (offsets.abs() <= half[:, None, None]).all(dim=-1).to(boxes.dtype)
