"""From what a sensor sends to whole frames: decoded, in order, lost pixels repaired and counted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thermal_action import InputError
from thermal_action.raw import PayloadFormat, RawFrame, ordered_frames
from thermal_action.recordings import CHUNK_FRAMES, Frames

# no ceiling sensor sees less
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
        self._last: np.ndarray | None = None  # [H * W], whole

    @property
    def pixels(self) -> int:
        return self._shape[0] * self._shape[1]

    def repair(self, pixels: np.ndarray) -> Repaired:
        """`pixels`: float32 [n <= H * W] C as received. ValueError when nothing is known of any pixel."""
        frames = np.full((1, self.pixels), np.nan, np.float32)
        frames[0, : pixels.size] = pixels
        (lost,), (unseen,), (moved,) = (column.tolist() for column in self.repair_block(frames))
        return Repaired(frames.reshape(self._shape), lost, unseen, moved)

    def repair_block(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Repairs `frames`, float32 [n, H * W] C, in place: lost, unseen [n] int and moved [n] bool, as of Repaired.

        ValueError when the first frame ever has no valid pixel.
        """
        lost, unseen, moved = (np.zeros(len(frames), kind) for kind in (int, int, bool))
        whole = (frames.min(axis=1) >= LOST_BELOW_C) & (frames.max(axis=1) < np.inf)  # NaN compares false
        for index in np.flatnonzero(~whole).tolist():
            frame, before = frames[index], frames[index - 1] if index else self._last
            valid = (frame >= LOST_BELOW_C) & (frame < np.inf)
            count = np.count_nonzero(valid)
            lost[index] = frame.size - count
            if before is not None:
                closed_up = valid.argmin() == count
                moved[index] = closed_up and self._put_back(frame, count, before)
                if not moved[index]:
                    np.copyto(frame, before, where=~valid)
            elif count:
                unseen[index] = lost[index]
                frame[~valid] = np.median(frame[valid])
            else:
                raise ValueError("the first frame has no valid pixel")
        self._last = frames[-1].copy()
        return lost, unseen, moved

    def _put_back(self, frame: np.ndarray, count: int, before: np.ndarray) -> bool:
        """Moves the packets that arrived, the first `count` pixels, to where they belong; False if that is where they are."""
        size, packet = frame.size, self._packet
        if not packet or not count or count % packet not in (0, size % packet):
            return False
        arrived, likely, rest = frame[:count], before.copy(), count % packet  # the last packet is the only shorter one
        packets, slots = arrived[: count - rest].reshape(-1, packet), likely[: size // packet * packet].reshape(-1, packet)
        chosen = increasing(distances(packets[:, None], slots))
        if not rest and chosen[-1] == len(packets) - 1:
            return False
        there = np.concatenate([slots[chosen].ravel(), likely[size - rest :]])
        if distances(arrived, there) >= distances(arrived, before[:count]):
            return False
        slots[chosen] = packets
        likely[size - rest :] = arrived[count - rest :]
        frame[:] = likely
        return True


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference along the last axis; as .mean() gives it, in half the time for a few pixels."""
    differences = one - other
    np.abs(differences, out=differences)
    return np.add.reduce(differences, axis=-1) / differences.shape[-1]


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
                  counts: RepairCounts) -> Iterator[Frames]:
    """The repaired frames by time, each time once, CHUNK_FRAMES together."""
    repair = PixelRepair(*shape, packet_px)
    for block in chunked(each_time_once(folder, shape, counts), CHUNK_FRAMES):
        numbers = []
        try:
            for raw in block:
                numbers.append(payload.numbers(raw.frame_data, repair.pixels))
            raw = block[0]  # no other can be refused by repair
            frames = payload.celsius(np.concatenate(numbers)).reshape(-1, repair.pixels)
            lost, unseen, moved = repair.repair_block(frames)
        except ValueError as error:
            raise InputError(f"{folder}, frame of {raw.ts} cannot be decoded as {payload}: {error}; fetch it again or correct"
                             " `fetch`") from None
        counts.frames += len(block)
        counts.corrupted_frames += int((lost > 0).sum())
        counts.lost_pixels += int(lost.sum())
        counts.moved_frames += int(moved.sum())
        counts.unrepaired_pixels += int(unseen.sum())
        yield Frames(np.array([raw.ts for raw in block]), np.array([raw.frame_seq for raw in block]),
                     frames.reshape(-1, *shape), lost)


def each_time_once(folder: Path, shape: tuple[int, int], counts: RepairCounts) -> Iterator[RawFrame]:
    for raw, repeated in ordered_frames(folder):
        if (raw.height, raw.width) != shape:
            raise InputError(f"{folder}, frame of {raw.ts} is {raw.height}x{raw.width}, but the recording began with"
                             f" {shape[0]}x{shape[1]}")
        counts.duplicate_frames += repeated
        if not repeated:
            yield raw


def chunked(items: Iterable, size: int) -> Iterator[list]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
