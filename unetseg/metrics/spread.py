"""How sure numbers are: ranges over seeds, intervals over cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from unetseg.metrics.resampling import Resampling, mean_intervals


@dataclass(frozen=True)
class Range:
    """The mean of values, and the lowest and highest or an interval; NaN where undefined."""

    mean: float
    low: float
    high: float
    defined: int

    def is_above(self, other: "Range") -> bool:
        """Whether every value is above every value of the other."""
        return self.low > other.high

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    def signed(self, digits: int = 3) -> str:
        """A difference with its ends, where it has any."""
        ends = f" ({self.low:+.{digits}f} to {self.high:+.{digits}f})"
        return f"{self.mean:+.{digits}f}{'' if isnan(self.low) else ends}"


def spread(values: Sequence[float]) -> Range:
    """The range of the values that are defined."""
    known = [value for value in values if not isnan(value)]
    if not known:
        return Range(float("nan"), float("nan"), float("nan"), 0)
    return Range(float(np.mean(known)), min(known), max(known), len(known))


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Range:
    """The mean of values - others, case by case, with its 95 % interval.

    values, others : of the same cases in the same order; a pair with NaN does not count

    The interval is that of `resampling.mean_intervals`: NaN for fewer than five pairs.
    """
    pairs = np.array(values, dtype=float) - np.array(others, dtype=float)
    known = pairs[~np.isnan(pairs)]
    if not len(known):
        return Range(float("nan"), float("nan"), float("nan"), 0)
    (found,) = mean_intervals(known[:, None], np.arange(len(known)), Resampling())
    low, high = (found.low, found.high) if found else (float("nan"), float("nan"))
    return Range(float(known.mean()), low, high, len(known))
