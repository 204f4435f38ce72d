"""What the scores of a set of cases say together, and how sure that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unetseg.evaluation.direction import badness
from unetseg.evaluation.pooling import pooled_intervals
from unetseg.evaluation.results import Evaluation
from unetseg.metrics import DISTANCES
from unetseg.metrics.resampling import Interval, Resampling, mean_intervals
from unetseg.records import CaseScore, Label


@dataclass(frozen=True)
class Statistic:
    """A metric over a number of case scores, of which only the defined ones count.

    sd : with n - 1 in the denominator; NaN for fewer than two defined scores
    defined : how many scores are not NaN
    cases : how many scores there are
    interval : of the mean; None if it was not asked for, or of too few cases
    worst_case : the first of the cases with the worst score
    pooled, pooled_interval : of objects, the value of all cases as one large image; no interval
        for what is counted, which grows with the cases
    """

    metric: str
    mean: float
    sd: float
    median: float
    minimum: float
    maximum: float
    defined: int
    cases: int
    interval: Interval | None = None
    worst_case: str = ""
    pooled: float = math.nan
    pooled_interval: Interval | None = None

    @property
    def worst(self) -> float:
        """The worst of the scores; of an error, the one that is farthest from 0."""
        return max(self.minimum, self.maximum, key=lambda value: badness(self.metric, value))


@dataclass(frozen=True)
class Summary:
    """All metrics of one class over the cases, or of all classes together.

    label : None for all classes together, where every class of every case counts once
    """

    label: Label | None
    statistics: tuple[Statistic, ...]

    @cached_property
    def _by_metric(self) -> dict[str, Statistic]:
        return {statistic.metric: statistic for statistic in self.statistics}

    def __getitem__(self, metric: str) -> Statistic:
        return self._by_metric[metric]


def summarise(evaluation: Evaluation, resampling: Resampling | None = None) -> tuple[Summary, ...]:
    """One summary per class, and a last one over all classes, of objects without the last.

    resampling : how intervals are made; None: without any

    Distances in different units have no mean: they count as undefined. Over all classes too it is
    the cases that are drawn, each with all its classes.
    """
    every = range(len(evaluation.scores))
    parts: list[tuple[Label | None, Sequence[int]]] = [
        (label, [place for place in every if evaluation.scores[place].label == label])
        for label in evaluation.labels
    ]
    if not evaluation.are_objects:
        parts.append((None, every))
    return tuple(
        Summary(label, _statistics(evaluation, places, resampling)) for label, places in parts
    )


def values_of(
    scores: Sequence[CaseScore], metrics: Sequence[str], *, one_unit: bool
) -> NDArray[np.float64]:
    """(scores, metrics), NaN where undefined: all distances, where there is not `one_unit`."""
    found = np.empty((len(scores), len(metrics)))
    for row, score in zip(found, scores, strict=True):
        known = dict(score.values)
        row[:] = [known[metric] for metric in metrics]
    if not one_unit:
        found[:, [metric in DISTANCES for metric in metrics]] = math.nan
    return found


def _statistics(
    evaluation: Evaluation, places: Sequence[int], resampling: Resampling | None
) -> tuple[Statistic, ...]:
    scores, metrics = [evaluation.scores[place] for place in places], evaluation.metrics
    values = values_of(scores, metrics, one_unit=bool(evaluation.unit) or evaluation.are_objects)
    made: Sequence[Interval | None] = [None] * len(metrics)
    pooled_made: Mapping[str, Interval | None] = {}
    pooled: Mapping[str, float] = {}
    if evaluation.are_objects:
        label = scores[0].label if scores else None
        pooled = next((dict(s.values) for s in evaluation.pooled if s.label == label), {})
    if resampling is not None and scores:
        units = resampling.units([score.case for score in scores])
        made = mean_intervals(values, units, resampling)
        if evaluation.matches:
            pooled_made = _pooled_intervals(evaluation, places, units, resampling)
    return tuple(
        _statistic(
            metric,
            column,
            scores,
            interval=interval,
            pooled=(pooled.get(metric, math.nan), pooled_made.get(metric)),
        )
        for metric, column, interval in zip(metrics, values.T, made, strict=True)
    )


def _pooled_intervals(
    evaluation: Evaluation,
    places: Sequence[int],
    units: NDArray[np.intp],
    resampling: Resampling,
) -> Mapping[str, Interval | None]:
    found = [evaluation.matches[place] for place in places]
    known = [match for match in found if match is not None]
    has = np.array([match is not None for match in found])
    return pooled_intervals(known, units[has], evaluation.thresholds, resampling)


def _statistic(
    metric: str,
    values: NDArray[np.float64],
    scores: Sequence[CaseScore],
    *,
    interval: Interval | None,
    pooled: tuple[float, Interval | None],
) -> Statistic:
    is_defined = ~np.isnan(values)
    defined = values[is_defined]
    whole = defined if defined.size else np.array([math.nan])
    worst_case = ""
    if defined.size:
        bad = [
            badness(metric, value) if has else -math.inf
            for value, has in zip(values, is_defined, strict=True)
        ]
        worst_case = scores[int(np.argmax(bad))].case
    return Statistic(
        metric,
        mean=float(whole.mean()),
        sd=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        median=float(np.median(whole)),
        minimum=float(whole.min()),
        maximum=float(whole.max()),
        defined=int(defined.size),
        cases=len(scores),
        interval=interval,
        worst_case=worst_case,
        pooled=pooled[0],
        pooled_interval=pooled[1],
    )
