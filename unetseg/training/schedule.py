"""How far a training is, and the learning rate that follows from it."""

from dataclasses import dataclass, field
from math import ceil, cos, pi
from time import time

from unetseg.config import TrainingPlan

# Before anything was measured, this share of the budget is kept for the last validation.
_FIRST_GUESS = 0.05
# A score has risen if it is higher by this much; less is the noise of a few cases.
_RISE = 0.001
# A training without a budget waits at least so many epochs, and so many validations, for a rise.
_LEAST_EPOCHS = 6
_LEAST_VALIDATIONS = 3
# Without a budget a training goes on at most so many epochs at a steady rate.
_MOST_EPOCHS = 1000


@dataclass
class Plateau:
    """Whether the validation score of a training without a budget still rises.

    best : the highest mean score so far
    risen_at : the step at which it last rose
    anneal_from : the step from which the learning rate falls, None while it is steady
    """

    best: float = 0.0
    risen_at: int = 0
    anneal_from: int | None = None

    def look(self, training: TrainingPlan, score: float, step: int) -> None:
        """Take in a validation: a new best, or the end of the steady rate if it lies far back."""
        if score > self.best + _RISE:
            self.best, self.risen_at = score, step
        elif self.anneal_from is None and step >= self.end(training):
            self.anneal_from = step

    def end(self, training: TrainingPlan) -> int:
        """The step at which the steady rate ends if the score does not rise any more."""
        validations = _LEAST_VALIDATIONS * training.validation_every
        least = max(_LEAST_EPOCHS, validations) * training.steps_per_epoch
        far = round(self.risen_at / (1 - training.patience))
        return min(max(self.risen_at + least, far), _MOST_EPOCHS * training.steps_per_epoch)


@dataclass
class Clock:
    """The position in the schedule: by time, by steps, or by whether the score still rises.

    started : when the command started, seconds since the epoch
    before : seconds that earlier commands took for this run
    plateau : what ends a training that has neither minutes nor epochs
    reserve : seconds kept for the last validation and writing; None until it was measured
    after : seconds kept for what follows the training
    """

    training: TrainingPlan
    started: float
    before: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    reserve: float | None = None
    after: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that this run has taken in all."""
        return self.before + time() - self.started

    @property
    def is_open(self) -> bool:
        """Without a budget: it ends when the score no longer rises."""
        return self.training.minutes is None and self.training.epochs is None

    def position(self, step: int) -> float:
        """Share of the training that is over, 0 to 1; 1 ends it.

        Without a budget it may fall back when the score has risen: the end is further away then.
        """
        training = self.training
        if training.minutes is not None:
            budget = 60 * training.minutes
            kept = _FIRST_GUESS * budget if self.reserve is None else self.reserve
            kept += self.after
            return min(1.0, self.elapsed / max(1e-9, budget - min(kept, budget / 2)))
        if training.epochs is not None:
            return min(1.0, step / (training.epochs * training.steps_per_epoch))
        steady = 1 - training.anneal_share
        begun = self.plateau.anneal_from
        if begun is None:
            return steady * step / max(step + 1, self.plateau.end(training))
        # Whole epochs, so that the last of them is validated and told of like any other.
        epoch = training.steps_per_epoch
        length = epoch * max(1, ceil(begun * training.anneal_share / max(steady, 1e-3) / epoch))
        return min(1.0, steady + training.anneal_share * (step - begun) / length)

    def seconds_left(self, step: int, steps_per_second: float) -> float:
        """What is left of the budget; without one, if the score does not rise any more."""
        if self.training.minutes is not None:
            return max(0.0, 60 * self.training.minutes - self.elapsed)
        if step == 0:
            return 0.0
        left = step / max(self.position(step), 1e-9) - step
        return left / max(steps_per_second, 1e-9)


def learning_rate(training: TrainingPlan, position: float, step: int) -> float:
    """Linear warm-up, a steady rate, then half a cosine to exactly zero at position 1.

    The last `anneal_share` of the training is the half cosine; 1 leaves no steady rate.
    """
    warm = min(1.0, (step + 1) / (training.warmup_steps + 1))
    share = training.anneal_share
    fallen = max(0.0, min(1.0, position) - (1 - share)) / share
    return training.learning_rate * warm * 0.5 * (1 + cos(pi * min(1.0, fallen)))
