"""How far a score may be from what more recordings would show."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from thermal_action.scoring.classification import divide


def wilson(successes: np.ndarray, trials: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927): (low, high), NaN where trials is 0.

    Unlike the usual +- 2 standard errors it stays in [0, 1] and has a width for 0 or n hits out of n. It takes the trials
    as independent; keyframes of one recording are not quite, so read it as the narrowest honest interval.
    """
    successes, trials = np.atleast_1d(successes).astype(float), np.atleast_1d(trials).astype(float)
    z = ndtri(0.5 + level / 2)
    share = divide(successes, trials)
    shrink = 1 + divide(np.full_like(trials, z**2), trials)
    centre = (share + divide(np.full_like(trials, z**2 / 2), trials)) / shrink
    half = z / shrink * np.sqrt(divide(share * (1 - share), trials) + divide(np.full_like(trials, z**2 / 4), trials**2))
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def resample_groups(groups: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """How often each of G groups is drawn in each of `samples` bootstrap samples of G groups: int [samples, G]."""
    count = len(np.unique(groups))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)


def bootstrap_scores(predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int, draws: np.ndarray,
                     ) -> dict[str, np.ndarray]:
    """top1 and mean_class, float [samples], of predictions int [N] when whole groups (recordings) are redrawn.

    Recordings, not persons, are redrawn because the keyframes of one recording show the same people doing the same.
    `draws` of resample_groups: give the same ones to two predictors, and the difference is a paired comparison. A class that
    none of the drawn recordings shows keeps its recall over all of them; left out of the mean, a rare class that is never
    recognised would raise it.
    """
    members = np.unique(groups, return_inverse=True)[1]
    shape = (draws.shape[1], num_classes)
    hits, support = np.zeros(shape), np.zeros(shape)
    np.add.at(support, (members, labels), 1)
    np.add.at(hits, (members, labels), predicted == labels)
    drawn_hits, drawn_support = draws @ hits, draws @ support  # (samples, C)
    recall = np.tile(divide(hits.sum(axis=0), support.sum(axis=0)), (len(draws), 1))
    np.divide(drawn_hits, drawn_support, out=recall, where=drawn_support > 0)
    return {"top1": drawn_hits.sum(axis=1) / drawn_support.sum(axis=1), "mean_class": np.nanmean(recall, axis=1)}


def percentile_interval(values: np.ndarray | Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of bootstrapped values: (low, high). Too narrow with fewer than about ten groups."""
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
