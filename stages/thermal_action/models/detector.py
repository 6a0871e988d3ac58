"""Where persons are in a window's keyframe, and where beds stand: an anchor-free detector of few weights."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermal_action.detections import STRIDE
from thermal_action.models.heads import coordinate_maps
from thermal_action.windows import CENTRED, keyframe_position

WIDTH, COARSE_WIDTH = 32, 48  # channels of the cells, and of those twice as large that see what is around a person
# a box's side before anything is learned, pixels; and the share of cells that are somebody's middle
TYPICAL_SIDE_PX, PRIOR = 9.0, 0.01
# frames on each side of the keyframe whose changes are motion at that moment
NEAR = 4


class FoundMaps(NamedTuple):
    """What the detector says of B windows, per cell."""

    heat: Tensor  # (B, h, w) logits: somebody's middle is here
    sides: Tensor  # (B, 4, h, w) pixels from the cell's middle to the left, upper, right and lower side of the person's box
    beds: Tensor  # (B, h, w) logits: a bed or couch is here


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(x + self.second_norm(self.second(y)))


class PersonDetector(nn.Module):
    """Middle and sides of every person (CenterNet, Zhou et al., 2019; FCOS, Tian et al., ICCV 2019), and a map of the beds.

    It does not read all frames of the window but six statistics of each pixel over them, for where a person is shows in the
    keyframe, and that it is a person and no kettle, no warm floor and no bed in what changes: the keyframe's moment, the usual
    and the lowest temperature, motion then, motion ever, and the moment's difference to the usual. Beds are told from the
    furniture boxes of the keyframe files.

    mean, std, difference_std: of the model's Inputs. keyframe: its place in the window.
    """

    def __init__(self, *, mean: float, std: float, difference_std: float, keyframe: float = CENTRED):
        super().__init__()
        self.mean, self.std, self.difference_std, self.keyframe = mean, std, difference_std, keyframe
        self.fine = nn.Sequential(nn.Conv2d(6 + 3, WIDTH, 5, STRIDE, 2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(),
                                  Residual(WIDTH))
        self.coarse = nn.Sequential(nn.Conv2d(WIDTH, COARSE_WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(COARSE_WIDTH), nn.ReLU(),
                                    Residual(COARSE_WIDTH), Residual(COARSE_WIDTH), nn.Conv2d(COARSE_WIDTH, WIDTH, 1))
        self.both = Residual(WIDTH)
        self.out = nn.Conv2d(WIDTH, 6, 1)
        with torch.no_grad():
            self.out.bias[:4] = torch.tensor(TYPICAL_SIDE_PX / 2).expm1().log()  # softplus of it is half a side
            self.out.bias[4] = torch.tensor(PRIOR).logit()

    def statistics(self, frames: Tensor) -> Tensor:
        """frames [B, T, H, W] in [0, 1] -> [B, 6, H, W]."""
        place = keyframe_position(frames.shape[1], self.keyframe)
        moment = frames[:, max(place - 1, 0) : place + 2].mean(dim=1)
        some = frames[:, ::8]  # tell it as well
        usual = some.sort(dim=1).values[:, (some.shape[1] - 1) // 2]  # the median; sorting is faster, and ONNX knows it
        steps = (frames[:, 1:] - frames[:, :-1]).abs()
        near = steps[:, max(place - NEAR, 0) : place + NEAR]
        levels = torch.stack([moment, usual, some.amin(dim=1)], dim=1)
        return torch.cat([(levels - self.mean) / self.std, torch.stack([near.mean(dim=1), steps.mean(dim=1)], dim=1)
                          / self.difference_std, ((moment - usual) / self.std)[:, None]], dim=1)

    def forward(self, frames: Tensor) -> FoundMaps:
        """frames [B, 3, T, H, W] in [0, 1], whose channels repeat one."""
        seen = self.statistics(frames[:, 0])
        fine = self.fine(torch.cat([seen, coordinate_maps(seen)], dim=1))
        coarse = functional.interpolate(self.coarse(fine), fine.shape[2:], mode="bilinear")
        out = self.out(self.both(fine + coarse)).float()
        return FoundMaps(out[:, 4], functional.softplus(out[:, :4]), out[:, 5])


def cell_middles(maps: FoundMaps) -> Tensor:
    """[h, w, 2] x, y of each cell in pixels: that of the pixel on which the stem's kernel is centred."""
    rows, columns = maps.heat.shape[1:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return STRIDE * torch.stack([x, y], dim=-1).to(maps.sides) + 0.5


def cell_boxes(maps: FoundMaps) -> Tensor:
    """[B, h, w, 4] x1, y1, x2, y2 in pixels: the box that each cell would give the person whose middle it is."""
    middles, sides = cell_middles(maps), maps.sides.permute(0, 2, 3, 1)
    return torch.cat([middles - sides[..., :2], middles + sides[..., 2:]], dim=-1)
