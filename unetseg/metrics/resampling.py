"""How sure a mean is: bootstrap intervals, from drawing the cases again and again.

What is drawn are cases, or whole groups of them (patients, slides): cases of one group are no
independent witnesses. An interval is bias-corrected and accelerated (BCa), as scores near 1 are
skewed. It says how much the number would differ with other cases of the same kind. Where all cases
agree it has no width, which is no certainty. The same input gives the same digits.

Source: Efron 1987, doi:10.1080/01621459.1987.10478410; computed by scipy.stats.bootstrap.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

# Of fewer there are too few different draws for an interval to mean anything.
FEWEST = 5
_DIGITS = 12
# Numbers drawn at once: bounds memory.
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """The ends of a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    group_of : the group of each case by its name; cases that are not in it are alone
    draws : how often as many cases or groups as there are are drawn
    """

    group_of: Mapping[str, str] | None = None
    confidence: float = 0.95
    draws: int = 9999
    seed: int = 0

    @property
    def unit(self) -> str:
        """What is drawn."""
        return "group" if self.group_of else "case"

    def units(self, cases: Sequence[str]) -> NDArray[np.intp]:
        """(n,) which unit each of the cases belongs to, numbered from 0."""
        groups = self.group_of or {}
        # A case may be called like a group.
        names = [(case in groups, groups.get(case, case)) for case in cases]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return np.array([numbers[name] for name in names], np.intp)


def mean_intervals(
    values: Numbers, units: NDArray[np.intp], resampling: Resampling
) -> tuple[Interval | None, ...]:
    """The interval of the mean of each column, over its defined values.

    values : (n, m), NaN where undefined
    units : (n,), to which unit each row belongs

    None where fewer than FEWEST units have a value.
    """
    count = int(units.max(initial=-1)) + 1
    sums, sizes = (np.zeros((count, values.shape[1])) for _ in range(2))
    np.add.at(sums, units, np.nan_to_num(values))
    np.add.at(sizes, units, ~np.isnan(values))
    found: list[Interval | None] = [None] * values.shape[1]
    # Columns that are defined in the same places share their draws.
    patterns: dict[bytes, list[int]] = {}
    for column, size in enumerate(sizes.T):
        patterns.setdefault(size.tobytes(), []).append(column)
    for columns in patterns.values():
        size = sizes[:, columns[0]]
        has = size > 0
        amounts = np.column_stack([size, sums[:, columns]])[has]
        made = intervals(amounts, lambda total: total[..., 1:] / total[..., :1], resampling)
        for column, interval in zip(columns, made, strict=True):
            found[column] = interval
    return tuple(found)


def intervals(
    amounts: Numbers, estimate: Callable[[Numbers], Numbers], resampling: Resampling
) -> tuple[Interval | None, ...]:
    """The interval of each number that follows from sums over the units.

    amounts : (u, k), of each unit
    estimate : (..., k) sums -> (..., m) numbers, NaN where one is undefined

    None where there are fewer than FEWEST units, or where some draws leave a number undefined.
    """
    # Not above: who only wants a Dice should not wait for it.
    from scipy.stats import bootstrap

    units = len(amounts)
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = estimate(amounts.sum(axis=0))
    if units < FEWEST:
        return (None,) * len(whole)

    def drawn(places: NDArray[Any], axis: int = -1) -> Numbers:
        """(m, ...) numbers of the units in the draws (..., u), which scipy wants along `axis`."""
        rows = np.moveaxis(places, axis, -1)
        flat = rows.reshape(-1, rows.shape[-1])
        cells = flat + units * np.arange(len(flat))[:, None]
        times = np.bincount(cells.ravel(), minlength=units * len(flat)).reshape(-1, units)
        with np.errstate(invalid="ignore", divide="ignore"):
            numbers = estimate(times.astype(np.float64) @ amounts)
        # Draws that are the same in another order are ties, on every machine.
        return np.round(np.moveaxis(numbers, -1, 0), _DIGITS).reshape(-1, *rows.shape[:-1])

    with warnings.catch_warnings():
        # Where all units agree there is no BCa interval, which is dealt with below.
        warnings.simplefilter("ignore")
        made = bootstrap(
            (np.arange(units),),
            drawn,
            n_resamples=resampling.draws,
            batch=max(1, _AT_ONCE // units),
            vectorized=True,
            confidence_level=resampling.confidence,
            method="BCa",
            rng=np.random.default_rng(resampling.seed),
        )
    ends = np.stack([made.confidence_interval.low, made.confidence_interval.high], axis=-1)
    spreads = np.ptp(made.bootstrap_distribution, axis=-1)
    return tuple(
        _interval(float(number), *map(float, pair), spread=float(spread))
        for number, pair, spread in zip(whole, ends, spreads, strict=True)
    )


def _interval(number: float, low: float, high: float, *, spread: float) -> Interval | None:
    if spread <= 1e-12 * max(1.0, abs(number)):
        return Interval(number, number)
    return Interval(low, high) if np.isfinite([low, high]).all() else None
