"""Mixup (Zhang et al., ICLR 2018) of windows in which persons have boxes."""

import numpy as np
import torch
from torch import Tensor

FAINTEST = 0.01  # with less of another window, its persons (some 10 K warmer than the room) drown in the sensor's noise


def mix(
    frames: Tensor, boxes: list[Tensor], labels: list[Tensor], extras: list[dict], *, alpha: float,
    generator: np.random.Generator,
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """Shows each window of a batch through one of another recording: (frames, boxes, labels, weights of the persons).

    frames [B, 3, T, H, W]; boxes, labels: B tensors [N_i, 4] and [N_i]; extras: B dicts with `recording`. The window keeps the
    larger share, lam = max(l, 1 - l) with l from Beta(alpha, alpha), an own one for each window, so that a small batch
    is not all mixed alike. A mixed window holds the persons of both; weights [N_i + N_j] float32 are lam for its own and
    1 - lam for the other's, whom the loss counts as much as they are seen. Never of the same recording: neighbouring
    windows share most of their frames, and a batch of one recording stays as it is. A share below a hundredth is not mixed in,
    and alpha 0 mixes nothing.
    """
    makeup = draw_makeup([extra["recording"] for extra in extras], alpha, generator)
    seen_once = frames[:, :1] if frames.stride(1) == 0 else frames  # three channels that are one picture stay one
    share = torch.tensor([parts[0][1] for parts in makeup], dtype=frames.dtype, device=frames.device).view(-1, 1, 1, 1, 1)
    mixed = torch.lerp(seen_once[[parts[-1][0] for parts in makeup]], seen_once, share).expand_as(frames)
    return (
        mixed,
        [torch.cat([boxes[index] for index, _ in parts]) for parts in makeup],
        [torch.cat([labels[index] for index, _ in parts]) for parts in makeup],
        [torch.cat([torch.full_like(labels[index], weight, dtype=torch.float32) for index, weight in parts]) for parts in makeup],
    )


def draw_makeup(recordings: list[str], alpha: float, generator: np.random.Generator) -> list[list[tuple[int, float]]]:
    """What each window is made of, (index, share): itself with at least half, and one of another recording if there is one."""
    makeup = []
    for own, recording in enumerate(recordings):
        others = [index for index, other in enumerate(recordings) if other != recording]
        parts = [(own, 1.0)]
        if alpha and others:
            own_share, other = float(generator.beta(alpha, alpha)), others[generator.integers(len(others))]
            least = min(own_share, 1 - own_share)
            if least >= FAINTEST:
                parts = [(own, 1 - least), (other, least)]
        makeup.append(parts)
    return makeup
