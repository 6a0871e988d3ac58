"""The actions of the simulated people: names, shares and durations, and which of them comes next."""

from collections.abc import Sequence

import numpy as np

SITTING = "sitting"
STANDING = "standing"
WALKING = "walking"
LYING_RISK = "lying down-lying with risk"
LYING_BED = "lying down-lying on the bed/couch"
LEANING = "leaning"
NORMAL_TRANSITION = "transition-normal transition"
RISK_TRANSITION = "transition-lying with risk transition"
BED_TRANSITION = "transition-lying on the bed transition"
LOWER_OTHER = "lower position-other"
KNEELING = "lower position-kneeling"
BENDING = "lower position-bending"
CROUCHING = "lower position-crouching"
OTHER = "other"

# each action's share of the person boxes by default (as skewed as the real ones, in which two of the tail never
# occur), and for how many seconds it lasts, from and to
ACTIONS: dict[str, tuple[float, tuple[float, float]]] = {
    SITTING: (0.060, (6, 18)),
    STANDING: (0.150, (4, 25)),
    WALKING: (0.030, (3, 7)),
    LYING_RISK: (0.600, (20, 70)),
    LYING_BED: (0.070, (10, 28)),
    LEANING: (0.014, (4, 8)),
    NORMAL_TRANSITION: (0.035, (1.2, 2.4)),
    RISK_TRANSITION: (0.024, (1.3, 3.0)),
    BED_TRANSITION: (0.018, (1.6, 3.0)),
    LOWER_OTHER: (0.012, (3, 7)),
    KNEELING: (0.030, (4, 10)),
    BENDING: (0.018, (1.5, 4)),
    CROUCHING: (0.009, (3, 6)),
    OTHER: (0.012, (4, 8)),
}

# the same of a night: in bed for most of it, up now and then, and sometimes on the floor
NIGHT_SHARES: dict[str, float] = {
    SITTING: 0.03, STANDING: 0.02, WALKING: 0.01, LYING_RISK: 0.04, LYING_BED: 0.88, LEANING: 0.002, NORMAL_TRANSITION: 0.005,
    RISK_TRANSITION: 0.0005, BED_TRANSITION: 0.003, LOWER_OTHER: 0.001, KNEELING: 0.002, BENDING: 0.003, CROUCHING: 0.001,
    OTHER: 0.002,
}


class Tally:
    """Decides what comes next: every action earns its share of the time and pays for the time it was seen.

    weights: action -> wanted share on any scale; luck: any number, of which the fraction decides who begins with credit.
    """

    def __init__(self, weights: dict[str, float], luck: float):
        total = sum(weights.values())
        self.shares = {name: weight / total for name, weight in weights.items() if weight > 0}
        # an uneven start, so that a rare action shows in some sessions and not in others, as often as its share asks
        self.credit = {name: -(1 - share) * ((luck + 0.2887 * k) % 1) * mean_duration(name)
                       for k, (name, share) in enumerate(self.shares.items())}

    def spend(self, name: str, seconds: float) -> None:
        for other, share in self.shares.items():
            self.credit[other] += share * seconds
        if name in self.credit:
            self.credit[name] -= seconds

    def urge(self, name: str) -> float:
        """Seconds that an action is behind; -inf when it is not wanted at all."""
        return self.credit.get(name, -np.inf)

    def choose(self, names: Sequence[str]) -> str | None:
        """The action most behind among `names`; None when none of them is wanted."""
        wanted = [name for name in names if name in self.credit]
        return max(wanted, key=self.urge) if wanted else None


def mean_duration(name: str) -> float:
    return sum(ACTIONS[name][1]) / 2
