"""What a network sees of a window: channels made of the temperature, or colours, their scale, and the size of the picture."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermal_action.look import COLOURS

Channel = Literal["temperature", "foreground", "difference", "red", "green", "blue"]
MASK = "mask"  # the channel that PersonCrops adds


class Inputs(nn.Module):
    """frames [B, 3, T, H, W] in [0, 1], whose channels repeat one or are colours -> [B, len(channels), T, rows, cols].

    temperature: the frame itself, (x - mean) / std.
    foreground: the frame without what stays, its pixel's median over the window, / std. Who lies still all the while vanishes
        from it, so it goes beside the temperature, not in its place.
    difference: the frame without the one before (0 at the first), / difference_std: motion. It is several times smaller than
        what people stand out by, so it has a scale of its own.
    size: (rows, cols) of the picture after bilinear resampling; None leaves it as the sensor gave it.
    """

    def __init__(self, channels: Sequence[Channel], size: tuple[int, int] | None, mean: float, std: float,
                 difference_std: float):
        super().__init__()
        self.channels = tuple(channels)
        self.size = size
        self.mean = mean
        self.std = std
        self.difference_std = difference_std

    def forward(self, frames: Tensor) -> Tensor:
        made = torch.stack([self.normalised(frames[:, COLOURS.index(channel)]) if channel in COLOURS
                            else getattr(self, channel)(frames[:, 0]) for channel in self.channels], dim=1)
        if self.size is None:
            return made
        resized = functional.interpolate(made.flatten(0, 1), self.size, mode="bilinear", antialias=False)
        return resized.unflatten(0, made.shape[:2])

    def normalised(self, frames: Tensor) -> Tensor:
        """[B, T, H, W], as all that follow."""
        return (frames - self.mean) / self.std

    temperature = normalised

    def foreground(self, frames: Tensor) -> Tensor:
        usual = frames[:, ::4].median(dim=1, keepdim=True).values  # every fourth frame tells it as well
        return (frames - usual) / self.std

    def difference(self, frames: Tensor) -> Tensor:
        return functional.pad(frames[:, 1:] - frames[:, :-1], (0, 0, 0, 0, 1, 0)) / self.difference_std
