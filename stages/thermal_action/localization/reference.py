"""What ActionFormer must beat: the classifier that its features come from, window by window, thresholded and merged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from thermal_action.localization.segments import Segment, suppress, to_results

THRESHOLDS = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True)
class Merging:
    """How probabilities become runs: means over `smooth` steps (odd), and gaps of up to `gap` steps closed."""

    smooth: int
    gap: int


# what is tried on the training side
MERGINGS = [Merging(smooth, gap) for smooth in (1, 3, 5, 9) for gap in (0, 1, 3)]


def find_runs(probabilities: np.ndarray, merging: Merging) -> Iterator[Segment]:
    """Runs of steps above each of THRESHOLDS in float [T, K], as in temporal actionness grouping (Zhao et al., ICCV 2017).

    A run is as certain as its mean probability; of those of one label that are nearly the same the most certain stays.
    """
    smoothed = smooth(probabilities, merging.smooth)
    for label in range(smoothed.shape[1]):
        runs = {run for threshold in THRESHOLDS for run in runs_of(smoothed[:, label] >= threshold, merging.gap)}
        scored = (Segment(*run, label, float(smoothed[slice(*run), label].mean())) for run in runs)
        yield from suppress(sorted(scored, key=lambda segment: (-segment.score, segment.start, segment.end)))


def smooth(probabilities: np.ndarray, steps: int) -> np.ndarray:
    """Mean of each of [T, K] and its neighbours, `steps` together (odd); the ends repeat."""
    padded = np.pad(probabilities, ((steps // 2, steps // 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, steps, axis=0).mean(axis=2)


def runs_of(inside: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """First step of each run of bool [T] and the one after its last, gaps of up to `gap` steps closed."""
    edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    if not len(edges):
        return []
    apart = edges[1:, 0] - edges[:-1, 1] > gap
    return list(zip(edges[:, 0][np.r_[True, apart]].tolist(), edges[:, 1][np.r_[apart, True]].tolist(), strict=True))


def find_all(recordings: Mapping[str, np.ndarray], merging: Merging, step_s: float) -> dict[str, np.ndarray | list[str]]:
    """What the scorer takes of the probabilities [T, K] of recordings."""
    return to_results({name: (run._replace(start=run.start * step_s, end=run.end * step_s)
                              for run in find_runs(probabilities, merging)) for name, probabilities in recordings.items()})
