"""How sure the numbers of a study are: ranges over seeds, intervals over cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

_RESAMPLINGS = 10_000


@dataclass(frozen=True)
class Range:
    """Several values of one thing: their mean, the lowest and the highest; NaN where undefined."""

    mean: float
    low: float
    high: float
    defined: int

    def is_above(self, other: "Range") -> bool:
        """Whether every value is above every value of the other."""
        return self.low > other.high

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def spread(values: Sequence[float]) -> Range:
    """The range of the values that are defined."""
    known = [value for value in values if not isnan(value)]
    if not known:
        return Range(float("nan"), float("nan"), float("nan"), 0)
    return Range(float(np.mean(known)), min(known), max(known), len(known))


def paired_difference(values: Sequence[float], others: Sequence[float], *, seed: int = 0) -> Range:
    """The mean of values - others, case by case, with the 95 % interval of a bootstrap over cases.

    values, others : of the same cases in the same order; a pair with NaN does not count

    Source: the percentile bootstrap, Efron 1979, doi:10.1214/aos/1176344552.
    """
    pairs = np.array(values, dtype=float) - np.array(others, dtype=float)
    known = pairs[~np.isnan(pairs)]
    if not len(known):
        return Range(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    drawn = known[rng.integers(len(known), size=(_RESAMPLINGS, len(known)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Range(float(known.mean()), float(low), float(high), len(known))
