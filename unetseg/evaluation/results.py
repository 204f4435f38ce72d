"""The scores of a set of cases: what they say together, and the files made of them."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetseg.errors import UnetsegError
from unetseg.files import replacing
from unetseg.metrics import DISTANCES, METRICS
from unetseg.metrics.objects import COUNTS, ERRORS
from unetseg.records import CaseScore, Label

COLUMNS = ("case", "label", "name", "unit", "tolerance", *METRICS)
# Of objects: their classes have no values in the masks.
OBJECT_COLUMNS = ("case", "class")

# The more the worse; of all other metrics the less the worse.
_LARGER_IS_WORSE = (*DISTANCES, "fp", "fn", "merges", "splits")


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set of cases, and the cases that have none.

    scores : one per case and class, cases in the order of their pairs, classes in that of `labels`
    tolerances : of the surface Dice, one for each score and in its unit
    labels : the classes that were scored
    failures : name of a case, and what kept it from being scored
    pooled : of objects, the scores of all cases as one large image; one per class
    metrics : what every score holds, in this order
    are_objects : the scores are of objects matched one to one, and have no tolerances
    """

    scores: tuple[CaseScore, ...]
    tolerances: tuple[float, ...]
    labels: tuple[Label, ...]
    failures: tuple[tuple[str, UnetsegError], ...] = ()
    pooled: tuple[CaseScore, ...] = ()
    metrics: tuple[str, ...] = METRICS
    are_objects: bool = False

    @property
    def unit(self) -> str:
        """The unit of all distances; empty if there are none or the cases have different ones."""
        units = {case_score.unit for case_score in self.scores}
        return units.pop() if len(units) == 1 else ""

    @property
    def tolerance(self) -> float | None:
        """The tolerance that all cases share, None if there is no such number."""
        return self.tolerances[0] if len(set(self.tolerances)) == 1 else None


@dataclass(frozen=True)
class Statistic:
    """A metric over a number of case scores, of which only the defined ones count.

    sd : with n - 1 in the denominator; NaN for fewer than two defined scores
    defined : how many scores are not NaN
    cases : how many scores there are
    """

    metric: str
    mean: float
    sd: float
    median: float
    minimum: float
    maximum: float
    defined: int
    cases: int

    @property
    def worst(self) -> float:
        """The worst of the scores; of an error, the one that is farthest from 0."""
        if self.metric in ERRORS:
            return max(self.minimum, self.maximum, key=abs)
        return self.maximum if self.metric in _LARGER_IS_WORSE else self.minimum


@dataclass(frozen=True)
class Summary:
    """All metrics of one class over the cases, or of all classes together.

    label : None for all classes together, where every class of every case counts once
    """

    label: Label | None
    statistics: tuple[Statistic, ...]

    def __getitem__(self, metric: str) -> Statistic:
        return {statistic.metric: statistic for statistic in self.statistics}[metric]


def summarise(evaluation: Evaluation) -> tuple[Summary, ...]:
    """One summary per class, and a last one over all classes, of objects without the last.

    Distances in different units have no mean: they count as undefined.
    """
    every = evaluation.scores
    parts: list[tuple[Label | None, list[CaseScore]]] = [
        (label, [s for s in every if s.label == label]) for label in evaluation.labels
    ]
    if not evaluation.are_objects:
        parts.append((None, list(every)))
    one_unit = bool(evaluation.unit)
    return tuple(
        Summary(
            label,
            tuple(_statistic(metric, scores, one_unit=one_unit) for metric in evaluation.metrics),
        )
        for label, scores in parts
    )


def to_json(evaluation: Evaluation) -> list[dict[str, str | int | float | None]]:
    """One row per case and class with the keys of `columns`; None where a metric is undefined."""
    if evaluation.are_objects:
        return [
            {"case": found.case, "class": found.label.name, **_cells(found)}
            for found in evaluation.scores
        ]
    return [
        {
            "case": found.case,
            "label": found.label.value,
            "name": found.label.name,
            "unit": found.unit,
            "tolerance": tolerance,
            **_cells(found),
        }
        for found, tolerance in zip(evaluation.scores, evaluation.tolerances, strict=True)
    ]


def columns(evaluation: Evaluation) -> tuple[str, ...]:
    """The header of the table: COLUMNS, or those of objects."""
    return (*OBJECT_COLUMNS, *evaluation.metrics) if evaluation.are_objects else COLUMNS


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write one row per case and class, atomically; an empty cell where a metric is undefined.

    Raises DataError if the file cannot be written.
    """
    with (
        replacing(path) as temporary,
        # A file name on Linux may be no valid text; its case must not cost the others their rows.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, columns(evaluation))
        writer.writeheader()
        writer.writerows(to_json(evaluation))


def _cells(found: CaseScore) -> dict[str, int | float | None]:
    return {
        metric: None if math.isnan(value) else round(value) if metric in COUNTS else value
        for metric, value in found.values
    }


def _statistic(metric: str, scores: Sequence[CaseScore], *, one_unit: bool) -> Statistic:
    values = np.array([found[metric] for found in scores], dtype=np.float64)
    if metric in DISTANCES and not one_unit:
        values[:] = math.nan
    defined = values[~np.isnan(values)]
    whole = defined if defined.size else np.array([math.nan])
    return Statistic(
        metric,
        mean=float(whole.mean()),
        sd=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        median=float(np.median(whole)),
        minimum=float(whole.min()),
        maximum=float(whole.max()),
        defined=int(defined.size),
        cases=len(scores),
    )
