"""Who is who from one moment to the next: a Kalman filter for each person and the cheapest assignment of boxes to them.

Simple online tracking (Bewley et al., SORT, ICIP 2016), but for times that are uneven and seconds apart: what a person may do
in between is reckoned in pixels a second, and distance, not overlap, decides.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from thermal_action.boxes import centres, sizes

# how far a box's middle is off a person's (pixels), how quickly people speed up (pixels a second squared: a metre is about nine),
# and how fast they are when first seen (pixels a second)
SEEN_PX, ACCELERATION_PX, SPEED_PX = 1.5, 9.0, 8.0
# a box further away than so many standard deviations is somebody else's, and one further than so many pixels in any case
GATE, FARTHEST_PX = 3.5, 20.0
# weight of a new box in the size that a person is remembered by
FORGETTING = 0.3


@dataclass
class Track:
    """One person."""

    identity: int
    state: np.ndarray  # (2, 2): place and speed, x and y, pixels
    covariance: np.ndarray  # (2, 2): of place and speed, the same for x and y
    size: np.ndarray  # (2,): width and height, pixels
    time: int  # ms, of the state
    seen: int  # ms, of the last box

    def predict(self, time: int) -> None:
        seconds = (time - self.time) / 1000
        move = np.array([[1, seconds], [0, 1]])
        jolt = np.array([seconds**2 / 2, seconds])
        self.state = move @ self.state
        self.covariance = move @ self.covariance @ move.T + ACCELERATION_PX**2 * np.outer(jolt, jolt)
        self.time = time

    def correct(self, middle: np.ndarray, size: np.ndarray) -> None:
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + SEEN_PX**2)
        self.state = self.state + np.outer(gain, middle - self.state[0])
        self.covariance = self.covariance - np.outer(gain, self.covariance[0])
        self.size = (1 - FORGETTING) * self.size + FORGETTING * size
        self.seen = self.time


@dataclass
class Tracker:
    """Gives the boxes of successive moments identities, counted from 1.

    size: (H, W) of the picture in pixels. patience_s: a person not seen for longer is gone; who comes then is somebody new.
    begun: identities given so far.
    """

    size: tuple[int, int]
    patience_s: float = 4.0
    tracks: list[Track] = field(default_factory=list)
    begun: int = 0

    def update(self, time: int, boxes: np.ndarray) -> np.ndarray:
        """Identities int [N] of boxes [N, 4] in [0, 1] at `time` (ms). ValueError when time goes backwards."""
        if any(time < track.time for track in self.tracks):
            raise ValueError(f"time {time} is before {max(track.time for track in self.tracks)}")
        self.tracks = [track for track in self.tracks if time - track.seen <= 1000 * self.patience_s]
        for track in self.tracks:
            track.predict(time)
        picture = np.array([self.size[1], self.size[0]], dtype=float)
        middles, extents = centres(boxes) * picture, sizes(boxes) * picture
        identities = np.zeros(len(boxes), dtype=np.int64)
        for row, column in self.assign(middles, extents):
            self.tracks[row].correct(middles[column], extents[column])
            identities[column] = self.tracks[row].identity
        for column in np.flatnonzero(identities == 0):
            self.begun += 1
            identities[column] = self.begun
            covariance = np.diag([SEEN_PX**2, SPEED_PX**2])
            state = np.stack([middles[column], np.zeros(2)])
            self.tracks.append(Track(self.begun, state, covariance, extents[column], time, time))
        return identities

    def assign(self, middles: np.ndarray, extents: np.ndarray) -> list[tuple[int, int]]:
        """Pairs (track, box) with the least sum of squared distances, in standard deviations; sizes decide between neighbours."""
        if not self.tracks or not len(middles):
            return []
        away = np.stack([middles - track.state[0] for track in self.tracks])  # (tracks, boxes, 2)
        variance = np.array([track.covariance[0, 0] for track in self.tracks])[:, None] + SEEN_PX**2
        distance = (away**2).sum(axis=2)
        other = np.stack([np.log(np.maximum(extents, 1) / np.maximum(track.size, 1)) for track in self.tracks])
        cost = distance / variance + (other**2).sum(axis=2)
        allowed = (distance <= GATE**2 * variance) & (distance <= FARTHEST_PX**2)
        # an assignment must be complete: what is not allowed costs more than everything else together
        forbidden = 1 + cost[allowed].sum()
        rows, columns = linear_sum_assignment(np.where(allowed, cost, forbidden))
        return [(row, column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True) if allowed[row, column]]
