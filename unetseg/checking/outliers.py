"""Cases that stand apart from all others in size or spacing."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from unetseg.checking.looks import CaseLook
from unetseg.records import Finding

# With fewer cases none stands apart.
_LEAST_CASES = 8
# How many times larger or smaller than the nearest other cases. Pictures are cut at will.
_SIZE_FACTORS, _SPACING_FACTOR = {2: 2.5, 3: 1.75}, 2.0
# If more of the cases stand apart, that is how the set is.
_MOST_SHARE = 0.05


def isolated(logs: NDArray[np.float64], factor: float) -> list[tuple[int, float]]:
    """Those that, alone or with one or two like them, stand apart from all the rest.

    logs : natural logarithms of what is compared
    factor : how many times larger or smaller than the nearest of the rest

    Returns the index of each and the factor, below 1 if it is smaller; none if many stand apart:
    such a set is diverse.
    """
    count = len(logs)
    if count < _LEAST_CASES:
        return []
    most = 1 if count < 20 else 2 if count < 100 else 3
    order = np.argsort(logs, kind="stable")
    ranked = logs[order]
    starts = [0, *(np.flatnonzero(np.diff(ranked) > log(factor)) + 1).tolist(), count]
    found = []
    for start, stop in pairwise(starts):
        if stop - start > most:
            continue
        edges = [ranked[start - 1]] if start else []
        edges += [ranked[stop]] if stop < count else []
        for place in range(start, stop):
            nearest = min(edges, key=lambda edge: abs(edge - ranked[place]))
            found.append((int(order[place]), exp(float(ranked[place] - nearest))))
    return sorted(found) if len(found) <= max(most, _MOST_SHARE * count) else []


def times(factor: float) -> str:
    """`12 times`, or `1/12 of`."""
    return f"{factor:.3g} times" if factor > 1 else f"1/{1 / factor:.3g} of"


def on_outliers(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """Cases of a size or spacing that no other is near to."""
    for axes in (2, 3):
        alike = [look for look in looks if len(look.shape) == axes]
        if len(alike) < _LEAST_CASES:
            continue
        yield from _apart(alike, "spacing")
        yield from _apart(alike, "size")


def _apart(looks: Sequence[CaseLook], what: str) -> Iterator[Finding]:
    is_size = what == "size"
    rows = np.array([look.shape if is_size else look.spacing for look in looks], dtype=float)
    told = set()
    for axis in range(rows.shape[1]):
        factor = _SIZE_FACTORS[rows.shape[1]] if is_size else _SPACING_FACTOR
        for index, found in isolated(np.log(rows[:, axis]), factor):
            look = looks[index]
            if look.name in told:
                continue
            told.add(look.name)
            shown = look.shape if is_size else look.spacing
            unit = "voxels" if is_size else look.unit
            yield Finding(
                "warning",
                look.image_file,
                f"{what} {' x '.join(f'{edge:.4g}' for edge in shown)} {unit}: along axis {axis} "
                f"{times(found)} the nearest other cases",
                "look whether the header is right, and whether it belongs to this set",
                what,
                (look.name,),
            )
