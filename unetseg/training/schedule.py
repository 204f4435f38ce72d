"""How far a training is, and the learning rate that follows from it."""

from dataclasses import dataclass
from math import cos, pi
from time import time

from unetseg.config import TrainingPlan

# Before anything was measured, this share of the budget is kept for the last validation.
_FIRST_GUESS = 0.05


@dataclass
class Clock:
    """The position in the schedule, by time or by steps.

    started : when the command started, seconds since the epoch
    before : seconds that earlier sittings of this run took
    reserve : seconds kept for the last validation and writing; None until it was measured
    """

    training: TrainingPlan
    started: float
    before: float = 0.0
    reserve: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds that this run has taken in all."""
        return self.before + time() - self.started

    @property
    def total_steps(self) -> int:
        return self.training.epochs * self.training.steps_per_epoch

    def position(self, step: int) -> float:
        """Share of the training that is over, 0 to 1; 1 ends it."""
        if self.training.minutes is None:
            return min(1.0, step / self.total_steps)
        budget = 60 * self.training.minutes
        kept = _FIRST_GUESS * budget if self.reserve is None else self.reserve
        return min(1.0, self.elapsed / max(1e-9, budget - min(kept, budget / 2)))

    def seconds_left(self, step: int, steps_per_second: float) -> float:
        if self.training.minutes is not None:
            return max(0.0, 60 * self.training.minutes - self.elapsed)
        return (self.total_steps - step) / max(steps_per_second, 1e-9)


def learning_rate(training: TrainingPlan, position: float, step: int) -> float:
    """Linear warm-up, then half a cosine to exactly zero at position 1."""
    warm = min(1.0, (step + 1) / (training.warmup_steps + 1))
    return training.learning_rate * warm * 0.5 * (1 + cos(pi * min(1.0, position)))
