"""From what a sensor sends to whole frames: decoded, in order, lost pixels repaired and counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermal_action import InputError
from thermal_action.raw import PayloadFormat, ordered_frames

# no ceiling sensor sees less; the device marks lost pixels with -273.2 C, or 0 dK
LOST_BELOW_C = -50.0


@dataclass
class RepairCounts:
    """What happened to one recording on its way to disk."""

    frames: int = 0
    corrupted_frames: int = 0
    lost_pixels: int = 0
    moved_frames: int = 0
    unrepaired_pixels: int = 0
    duplicate_frames: int = 0


class Repaired(NamedTuple):
    """A whole frame [H, W] C; how many pixels it had lost, and of these never seen before; whether packets were moved."""

    frame: np.ndarray
    lost: int
    unseen: int
    moved: bool


class PixelRepair:
    """Replaces lost pixels by the last valid value of the same pixel (before the first one: by the frame's median).

    A frame travels in packets of `packet_px` pixels, the last one shorter. The device closes up those that arrived, so that
    what follows a lost one stands too early and the end of the frame seems lost. Packets are put back to where they resemble
    the frame before most, in their order. packet_px 0: the end is what was lost.
    """

    def __init__(self, height: int, width: int, packet_px: int = 0):
        self._shape = height, width
        self._packet = packet_px
        self._last = np.full(height * width, np.nan, dtype=np.float32)

    @property
    def pixels(self) -> int:
        return self._last.size

    def repair(self, pixels: np.ndarray) -> Repaired:
        """`pixels`: float32 [n <= H * W] C as received. ValueError when nothing is known of any pixel."""
        if pixels.size == self._last.size and pixels.min() >= LOST_BELOW_C and pixels.max() < np.inf:  # NaN compares false
            self._last = pixels.astype(np.float32)
            return Repaired(self._last.reshape(self._shape), 0, 0, False)
        frame = np.full(self._last.size, np.nan, dtype=np.float32)
        valid = (pixels >= LOST_BELOW_C) & ~np.isinf(pixels)  # NaN compares false
        count = frame.size - int(valid.sum())
        there = np.arange(pixels.size)
        if count and self._packet:
            received = valid.size if valid.all() else int(valid.argmin())
            if not valid[received:].any():
                there[:received] = self._places(pixels[:received])
        moved = bool((there[valid] != np.flatnonzero(valid)).any())
        frame[there[valid]] = pixels[valid]
        lost = np.isnan(frame)
        frame[lost] = self._last[lost]
        unseen = np.isnan(frame)
        if unseen.any():
            if unseen.all():
                raise ValueError("the first frame has no valid pixel")
            frame[unseen] = np.median(frame[~unseen])
        self._last = frame
        return Repaired(frame.reshape(self._shape), count, int(unseen.sum()), moved)

    def _places(self, received: np.ndarray) -> np.ndarray:
        """Where the pixels that arrived belong in the frame: int [n], increasing."""
        start, size, packet = np.arange(received.size), self._last.size, self._packet
        whole, rest = divmod(received.size, packet)
        if not received.size or rest not in (0, size % packet) or np.isnan(self._last).all():
            return start
        slots = self._last[: size // packet * packet].reshape(-1, packet)
        costs = np.abs(received[: whole * packet].reshape(-1, 1, packet) - slots).mean(axis=2)
        places = (np.array(increasing(costs), dtype=int)[:, None] * packet + np.arange(packet)).ravel()
        places = np.concatenate([places, np.arange(size - rest, size)])  # the last packet is the only shorter one

        def distance(where: np.ndarray) -> float:
            return float(np.abs(received - self._last[where]).mean())

        return places if distance(places) < distance(start) else start


def increasing(costs: np.ndarray) -> list[int]:
    """A column for each row of `costs` [rows <= columns], each further right than the one before, with the least sum."""
    columns = costs.shape[1]
    least = [[0.0] * (columns + 1)]  # of the first rows in the first columns
    for row, prices in enumerate(costs.tolist()):  # of a few numbers lists are faster than arrays
        above, sums = least[-1], [np.inf] * (columns + 1)
        for column in range(row, columns):
            sums[column + 1] = min(sums[column], above[column] + prices[column])
        least.append(sums)
    chosen, column = [], columns
    for row in range(len(costs), 0, -1):
        while least[row][column - 1] == least[row][column]:
            column -= 1
        column -= 1
        chosen.append(column)
    return chosen[::-1]


def decode_frames(folder: Path, payload: PayloadFormat, shape: tuple[int, int], packet_px: int,
                  counts: RepairCounts) -> Iterator[tuple[int, int, np.ndarray, int]]:
    """(ts, frame_seq, repaired frame [H, W] C, lost pixels) by time, each time once."""
    repair = PixelRepair(*shape, packet_px)
    for raw, repeated in ordered_frames(folder):
        place = f"{folder}, frame of {raw.ts}"
        if (raw.height, raw.width) != shape:
            raise InputError(f"{place} is {raw.height}x{raw.width}, but the recording began with {shape[0]}x{shape[1]}")
        if repeated:
            counts.duplicate_frames += 1
            continue
        try:
            pixels = payload.decode(raw.frame_data)
            if pixels.size > shape[0] * shape[1]:
                raise ValueError(f"{pixels.size} pixels")
            repaired = repair.repair(pixels)
        except ValueError as error:
            raise InputError(f"{place} cannot be decoded as {payload}: {error}; fetch it again or correct `fetch`") from None
        counts.frames += 1
        counts.corrupted_frames += repaired.lost > 0
        counts.lost_pixels += repaired.lost
        counts.moved_frames += repaired.moved
        counts.unrepaired_pixels += repaired.unseen
        yield raw.ts, raw.frame_seq, repaired.frame, repaired.lost
