"""The scores of a set of cases, and the files made of them."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from unetseg.errors import UnetsegError
from unetseg.evaluation.pairs import Pair
from unetseg.files import replacing
from unetseg.metrics import METRICS
from unetseg.metrics.objects import COUNTS, Matches
from unetseg.records import CaseScore, Label

COLUMNS = ("case", "label", "name", "unit", "tolerance", *METRICS)
# Of objects: their classes have no values in the masks.
OBJECT_COLUMNS = ("case", "class")


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
    pairs : name, truth and predicted mask of the cases that have scores
    sizes : of classes, the true and the predicted volume or area, one pair for each score
    size_unit : of all sizes, mm^3 or um^2 and so on; empty if the cases have different ones
    class_values : of classes, the values of a mask that count as each of the labels; none where
        all but 0 do
    ignore_value : voxels where the truth has it were left out
    matches : of objects, what each score was made of; None where the classes are not known
    thresholds : of objects, of the average precisions
    """

    scores: tuple[CaseScore, ...]
    tolerances: tuple[float, ...]
    labels: tuple[Label, ...]
    failures: tuple[tuple[str, UnetsegError], ...] = ()
    pooled: tuple[CaseScore, ...] = ()
    metrics: tuple[str, ...] = METRICS
    are_objects: bool = False
    pairs: tuple[Pair, ...] = ()
    sizes: tuple[tuple[float, float], ...] = ()
    size_unit: str = ""
    class_values: tuple[tuple[int, ...], ...] = ()
    ignore_value: int | None = None
    matches: tuple[Matches | None, ...] = ()
    thresholds: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """The unit of all distances; empty if there are none or the cases have different ones."""
        units = {case_score.unit for case_score in self.scores}
        return units.pop() if len(units) == 1 else ""

    @property
    def tolerance(self) -> float | None:
        """The tolerance that all cases share, None if there is no such number."""
        return self.tolerances[0] if len(set(self.tolerances)) == 1 else None


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
