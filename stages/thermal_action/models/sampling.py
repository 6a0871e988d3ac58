"""What of a window a network computes on: which frames, and how many pixels a cell of its map."""

import torch
from torch import Tensor

from thermal_action.windows import CENTRED, keyframe_position

# Strides of a network's last three stages for each total stride; what lies before them halves the picture twice. The early
# stages give way last: their maps are the largest, so a stride there saves the most.
STAGE_STRIDES = {4: (1, 1, 1), 8: (2, 1, 1), 16: (2, 2, 1), 32: (2, 2, 2)}


def stage_strides(spatial_stride: int) -> tuple[int, int, int]:
    """Of the last three stages, for 4, 8, 16 or 32 pixels a cell; ValueError for another."""
    if spatial_stride not in STAGE_STRIDES:
        raise ValueError(f"there is no spatial stride {spatial_stride}, only {', '.join(map(str, STAGE_STRIDES))}")
    return STAGE_STRIDES[spatial_stride]


def pick_frames(frames: Tensor, count: int, keyframe: float = CENTRED) -> Tensor:
    """`count` of the T frames of [B, C, T, H, W], evenly spaced; the keyframe of T is that of `count` (keyframe_position).

    A window of `count` frames is seen as it is; a shorter one shows some of its frames more than once.
    """
    length = frames.shape[2]
    steps = torch.arange(count, device=frames.device) - keyframe_position(count, keyframe)
    return frames[:, :, keyframe_position(length, keyframe) + torch.div(steps * length, count, rounding_mode="trunc")]
