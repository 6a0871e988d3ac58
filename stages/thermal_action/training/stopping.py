"""When to stop before the last epoch."""

import math


class EarlyStopping:
    """Stops after `patience` epochs in a row without a score better than the best by more than `min_delta`.

    patience: epochs; 0 never stops. monitor: the score's name; of a loss less is better, of all else more.
    Its state travels with the checkpoint, so that a resumed run stops where the whole one would have.
    """

    def __init__(self, patience: int, min_delta: float, monitor: str):
        self.patience = patience
        self.min_delta = min_delta
        self.sign = -1.0 if monitor.endswith("loss") else 1.0
        self.best = -math.inf
        self.waited = 0

    def should_stop(self, score: float) -> bool:
        """Once an epoch, with its score; NaN is no improvement."""
        if self.sign * score > self.best + self.min_delta:
            self.best, self.waited = self.sign * score, 0
        else:
            self.waited += 1
        return 0 < self.patience <= self.waited

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.best, self.waited = state["best"], state["waited"]
