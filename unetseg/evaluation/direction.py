"""Which of two values of a metric is the worse one."""

from unetseg.metrics import DISTANCES
from unetseg.metrics.objects import ERRORS

# The more the worse; of all other metrics the less the worse.
_LARGER_IS_WORSE = (*DISTANCES, "fp", "fn", "merges", "splits")


def badness(metric: str, value: float) -> float:
    """The larger the worse; NaN for NaN. An error is as bad as it is far from 0."""
    if metric in ERRORS:
        return abs(value)
    return value if metric in _LARGER_IS_WORSE else -value
