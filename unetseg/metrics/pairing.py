"""Whether two sets of scores of the same cases differ: the signed-rank test, and Holm's correction.

Sources: Wilcoxon 1945, doi:10.2307/3001968; Holm 1979, Scandinavian Journal of Statistics 6:65.
"""

from collections.abc import Sequence
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

# Scores are quotients of counts: differences that are equal, or none, may not look so in floating
# point. No two different ones of masks that exist are as close as this.
_DIGITS = 12
# Up to here the p-value is exact, beyond it of the normal approximation.
_EXACT, _EXACT_TIES = 50, 13


def signed_rank(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test.

    differences : one for each pair, all defined

    Pairs that do not differ are left out, as Wilcoxon did; equal differences share their mean
    rank. Exact for up to 50 differing pairs without ties and up to 13 with ties; of more, the
    normal approximation with the correction for ties, without one for continuity.

    Returns a float in (0, 1]; NaN if no pair differs.
    """
    # Not above: it takes long to load.
    from scipy.stats import PermutationMethod, wilcoxon

    rounded = np.round(np.asarray(differences, np.float64), _DIGITS)
    differing = rounded[rounded != 0]
    if not differing.size:
        return nan
    has_ties = len(np.unique(np.abs(differing))) < len(differing)
    method: object = "exact" if differing.size <= _EXACT else "asymptotic"
    if has_ties:
        is_few = differing.size <= _EXACT_TIES
        # All 2^n signs, which are fewer than so many.
        method = PermutationMethod(n_resamples=2**_EXACT_TIES) if is_few else "asymptotic"
    return float(wilcoxon(differing, method=method).pvalue)


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """The p-values as Holm corrects them for their number; NaN stays NaN and is not counted."""
    order = sorted((p, place) for place, p in enumerate(values) if not isnan(p))
    found, worst = [nan] * len(values), 0.0
    for rank, (p, place) in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p))
        found[place] = worst
    return tuple(found)
