"""Two sets of predicted masks of the same cases, compared case by case."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.evaluation.direction import badness
from unetseg.evaluation.pooling import share_names, shares, sums
from unetseg.evaluation.results import Evaluation
from unetseg.evaluation.summaries import values_of
from unetseg.metrics.objects import ERRORS, Matches
from unetseg.metrics.pairing import holm, signed_rank
from unetseg.metrics.resampling import Interval, Resampling, intervals, mean_intervals
from unetseg.records import CaseScore, Label

# By which the cases that changed most are found: classes, objects.
LEADING = "dice", "pq"
# Numbers of objects that are neither good nor bad, and what is the same as F1.
_NOT_COMPARED = ("true", "predicted", "tp", "fp", "fn", "rq")
# Scores are quotients of counts: what differs by less differs by rounding.
_SAME = 1e-12


@dataclass(frozen=True)
class PooledPair:
    """A share of objects in two sets, all cases as one image; the interval is of the difference."""

    value: float
    other: float
    interval: Interval | None

    @property
    def difference(self) -> float:
        """First less second."""
        return self.value - self.other


@dataclass(frozen=True)
class PairedStatistic:
    """A metric of one class in two sets, over the cases where it is defined in both.

    mean, other_mean : of the first and the second set; of an error, of its size
    difference : first less second, with its interval
    p : of Wilcoxon's signed-rank test, over cases, or over the means of groups
    adjusted_p : after Holm, for all rows of the comparison
    wins, ties, losses : cases in which the first set is better, equal, worse
    pairs, cases : how many are defined in both, and how many there are
    pooled : of objects, the values of all cases as one image
    """

    label: Label
    metric: str
    mean: float
    other_mean: float
    difference: float
    interval: Interval | None
    p: float
    adjusted_p: float
    wins: int
    ties: int
    losses: int
    pairs: int
    cases: int
    pooled: PooledPair | None = None


@dataclass(frozen=True)
class Change:
    """The leading score of a case in both sets; `gain` is above 0 where the first is better."""

    case: str
    label: Label
    metric: str
    value: float
    other: float
    gain: float


@dataclass(frozen=True)
class Comparison:
    """What two evaluations of the same truths say of one another.

    rows : of each class, all metrics that have a better and a worse
    changes : of the leading metric, one per case and class where both are defined, the greatest
        gain of the first set first
    missing : cases that are scored in one of the sets only
    """

    rows: tuple[PairedStatistic, ...]
    changes: tuple[Change, ...]
    missing: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes, each once."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    def changed_most(self, label: Label, count: int) -> tuple[tuple[Change, ...], ...]:
        """The greatest gains, and the greatest losses, of a class; at most `count` of each."""
        of_class = [change for change in self.changes if change.label == label]
        gains = [change for change in of_class if change.gain > _SAME]
        losses = [change for change in reversed(of_class) if change.gain < -_SAME]
        return tuple(gains[:count]), tuple(losses[:count])


@dataclass(frozen=True, eq=False)
class _Both:
    """The scores of a class for the cases that both sets have, and what objects they come from."""

    label: Label
    scores: tuple[tuple[CaseScore, CaseScore], ...]
    matches: tuple[tuple[Matches, Matches], ...]


def compare(first: Evaluation, second: Evaluation, resampling: Resampling) -> Comparison:
    """Compare two sets case by case; differences are those of the first less the second.

    A score counts where it is defined in both sets. Intervals come from drawing cases, or groups,
    each with its scores in both sets.

    Raises DataError if one holds objects and the other classes, or no case is scored in both.
    """
    if first.are_objects != second.are_objects:
        raise DataError("objects and classes cannot be compared", hint="score both in one way")
    names = [{name for name, _, _ in each.pairs} for each in (first, second)]
    if not names[0] & names[1]:
        raise DataError("no case is scored in both sets", hint="see why the cases failed")
    metrics = tuple(metric for metric in first.metrics if metric not in _NOT_COMPARED)
    leading = LEADING[first.are_objects]
    labels: dict[int | str, Label] = {}
    for label in (*first.labels, *second.labels):
        labels.setdefault(_key(label, first), label)
    each = [_both(label, first, second) for label in labels.values()]
    rows = [row for both in each for row in _rows(both, metrics, first, resampling)]
    corrected = holm([row.p for row in rows])
    changes = [change for both in each for change in _changes(both, leading)]
    return Comparison(
        tuple(replace(row, adjusted_p=p) for row, p in zip(rows, corrected, strict=True)),
        tuple(sorted(changes, key=lambda change: -change.gain)),
        tuple(sorted(names[0] ^ names[1])),
    )


def _key(label: Label, found: Evaluation) -> int | str:
    """What a class is known by: files may name values differently, and objects number classes."""
    return label.name if found.are_objects else label.value


def _both(label: Label, first: Evaluation, second: Evaluation) -> _Both:
    found = []
    for each in (first, second):
        matches = each.matches or (None,) * len(each.scores)
        of_class = zip(each.scores, matches, strict=True)
        key = _key(label, first)
        found.append({s.case: (s, match) for s, match in of_class if _key(s.label, first) == key})
    pairs = [(found[0][case], found[1][case]) for case in found[0] if case in found[1]]
    known = [(a, b) for (_, a), (_, b) in pairs if a is not None and b is not None]
    # Either all cases have tables of classes, or none is pooled: sets must not differ in them.
    whole = tuple(known) if len(known) == len(pairs) else ()
    return _Both(label, tuple((a, b) for (a, _), (b, _) in pairs), whole)


def _rows(
    both: _Both, metrics: Sequence[str], first: Evaluation, resampling: Resampling
) -> Iterator[PairedStatistic]:
    if not both.scores:
        return
    one_unit = first.are_objects or bool(first.unit)
    sides = zip(*both.scores, strict=True)
    scored = np.stack([values_of(side, metrics, one_unit=one_unit) for side in sides], axis=1)
    is_error = [metric in ERRORS for metric in metrics]
    scored[:, :, is_error] = np.abs(scored[:, :, is_error])
    # Undefined in one set, undefined in both.
    scored[np.isnan(scored).any(axis=1, keepdims=True).repeat(2, axis=1)] = math.nan
    differences = scored[:, 0] - scored[:, 1]
    differences[np.abs(differences) < _SAME] = 0.0
    units = resampling.units([pair[0].case for pair in both.scores])
    made = mean_intervals(differences, units, resampling)
    pooled = _pooled(both, first.thresholds, units, resampling) if both.matches else {}
    for place, metric in enumerate(metrics):
        known = ~np.isnan(differences[:, place])
        gains = differences[known, place] * -badness(metric, 1.0)
        mean, other_mean = _means(scored[known, :, place])
        yield PairedStatistic(
            both.label,
            metric,
            mean,
            other_mean,
            difference=float(differences[known, place].mean()) if known.any() else math.nan,
            interval=made[place],
            p=signed_rank(_group_means(differences[known, place], units[known])),
            adjusted_p=math.nan,
            wins=int((gains > 0).sum()),
            ties=int((gains == 0).sum()),
            losses=int((gains < 0).sum()),
            pairs=int(known.sum()),
            cases=len(both.scores),
            pooled=pooled.get(metric),
        )


def _means(values: NDArray[np.float64]) -> tuple[float, float]:
    """The means of both sets, (n, 2); NaN where there are none."""
    first, second = values.mean(axis=0) if len(values) else (math.nan, math.nan)
    return float(first), float(second)


def _group_means(values: NDArray[np.float64], units: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean of each unit: cases of one patient are one witness."""
    numbers = np.unique(units, return_inverse=True)[1]
    found: NDArray[np.float64] = np.bincount(numbers, values) / np.bincount(numbers)
    return found


def _pooled(
    both: _Both,
    thresholds: Sequence[float],
    units: NDArray[np.intp],
    resampling: Resampling,
) -> dict[str, PooledPair]:
    """The pooled values of both sets by metric, and the interval of their difference."""
    each = np.array([[sums(one, thresholds) for one in pair] for pair in both.matches])
    amounts = np.zeros((int(units.max()) + 1, *each.shape[1:]))
    np.add.at(amounts, units, each)
    names = share_names(thresholds)
    is_error = [name in ERRORS for name in names]

    def of_both(total: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2 sums) -> (..., 2, m)"""
        values = shares(total.reshape(*total.shape[:-1], *each.shape[1:]))
        values[..., is_error] = np.abs(values[..., is_error])
        return values

    def difference(total: NDArray[np.float64]) -> NDArray[np.float64]:
        values = of_both(total)
        found: NDArray[np.float64] = values[..., 0, :] - values[..., 1, :]
        return found

    flat = amounts.reshape(len(amounts), -1)
    made = intervals(flat[flat.any(axis=1)], difference, resampling)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = of_both(flat.sum(axis=0))
    return {
        name: PooledPair(float(first), float(second), interval)
        for name, first, second, interval in zip(names, *values, made, strict=True)
    }


def _changes(both: _Both, metric: str) -> Iterator[Change]:
    for one, other in both.scores:
        value, before = one[metric], other[metric]
        if not (math.isnan(value) or math.isnan(before)):
            gain = badness(metric, before) - badness(metric, value)
            yield Change(one.case, both.label, metric, value, before, gain)
