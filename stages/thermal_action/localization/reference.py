"""What ActionFormer must beat: what is said of single steps, thresholded and merged.

That is said by the classifier which the features come from, and by a forest that learned from the same recordings as ActionFormer
which actions are there in the middle of a step, by the features of that step and those around it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from thermal_action.localization.scores import Scorer
from thermal_action.localization.segments import Segment, suppress, to_results

THRESHOLDS = np.linspace(0.1, 0.9, 9)
# steps on each side of a step that the forest sees; parts of its recordings, each asked of a forest that learned from the others
REACH, FOLDS = 4, 4


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


def mark_steps(annotations: Sequence[Mapping], steps: int, step_s: float, classes: int) -> np.ndarray:
    """bool [T, K]: which actions there are in the middle of each step. annotations: {"segment": [start, end] s, "label_id"}."""
    middles = (np.arange(steps) + 0.5) * step_s
    marked = np.zeros((steps, classes), dtype=bool)
    for each in annotations:
        start, end = each["segment"]
        marked[(start <= middles) & (middles < end), each["label_id"]] = True
    return marked


def look_around(features: np.ndarray) -> np.ndarray:
    """Of each step of [T, C] the rows of those up to REACH away: [T, (2 REACH + 1) C]; the ends repeat."""
    padded = np.pad(features, ((REACH, REACH), (0, 0)), mode="edge")
    return np.hstack([padded[start:start + len(features)] for start in range(2 * REACH + 1)])


def grow_forest(features: Sequence[np.ndarray], marked: Sequence[np.ndarray], seed: int, jobs: int) -> ExtraTreesClassifier:
    """What recordings [T, C] say of the actions in their steps, bool [T, K]; `jobs` threads.

    Extremely randomised trees (Geurts, Ernst and Wehenkel, Machine Learning 63, 2006), all actions at once.
    """
    forest = ExtraTreesClassifier(200, min_samples_leaf=3, random_state=seed, n_jobs=jobs)
    return forest.fit(np.concatenate([look_around(rows) for rows in features]), np.concatenate(marked))


def ask_forest(forest: ExtraTreesClassifier, features: np.ndarray) -> np.ndarray:
    """Probabilities [T, K]; threads add up the trees in any order, so rounded."""
    answers = forest.predict_proba(look_around(features))
    # of an action that is never or always there it knows one class only
    return np.round(np.column_stack([answer[:, known.tolist().index(True)] if True in known else np.zeros(len(answer))
                                     for answer, known in zip(answers, forest.classes_, strict=True)]), 12)


def learn_steps(learned: Mapping[str, tuple[np.ndarray, np.ndarray]], asked: Mapping[str, np.ndarray], seed: int, jobs: int,
                progress: Callable[[int], object] = int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Probabilities [T, K] of the recordings that were learned from (features [T, C], marked [T, K]), each by a forest that has
    not seen it, and of those asked (features). progress(n): n more of FOLDS + 1 forests.
    """
    names, own = list(learned), {}
    for fold in range(min(FOLDS, len(names))):
        left_out = names[fold::FOLDS]
        forest = grow_forest(*zip(*(learned[name] for name in names if name not in left_out), strict=True), seed, jobs)
        own |= {name: ask_forest(forest, learned[name][0]) for name in left_out}
        progress(1)
    forest = grow_forest(*zip(*learned.values(), strict=True), seed, jobs)
    progress(1)
    return own, {name: ask_forest(forest, features) for name, features in asked.items()}


def find_all(recordings: Mapping[str, np.ndarray], merging: Merging, step_s: float) -> dict[str, np.ndarray | list[str]]:
    """What the scorer takes of the probabilities [T, K] of recordings."""
    return to_results({name: (run._replace(start=run.start * step_s, end=run.end * step_s)
                              for run in find_runs(probabilities, merging)) for name, probabilities in recordings.items()})


def choose_merging(scorer: Scorer, probabilities: Mapping[str, np.ndarray], step_s: float,
                   progress: Callable[[int], object] = int) -> Merging:
    """That of MERGINGS with which the probabilities [T, K] of the scorer's recordings have the highest mAP."""
    means = {}
    for merging in MERGINGS:
        means[merging] = scorer.mean_precision(find_all(probabilities, merging, step_s))
        progress(1)
    return max(means, key=means.get)
