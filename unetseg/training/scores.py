"""What a validation is judged by: the Dice of classes, or the average precision of objects."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED, DataPlan, Plan
from unetseg.dataset.loading import load_truth
from unetseg.dataset.object_classes import object_classes
from unetseg.geometry import Geometry
from unetseg.metrics import dice_per_class
from unetseg.metrics.objects import THRESHOLDS, matches
from unetseg.pipeline import class_indices
from unetseg.records import Case, Mask
from unetseg.tasks import ScoreName, make_task

Indices = NDArray[np.integer[Any]]
Row = tuple[float, ...]
_NOTHING: Row = (0.0,) * (3 * len(THRESHOLDS))


@dataclass(frozen=True)
class Score(ABC):
    """What a case gives, a row of numbers, and what is made of the rows of all cases.

    columns : what there is a value for: the foreground classes or regions, or the IoUs from which
        on an object is found
    """

    columns: tuple[str, ...]

    # As people read it, and what its columns are.
    name: ScoreName
    kind: str

    @property
    def key(self) -> str:
        """Its name in tables and in model.json."""
        return self.name.lower()

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return len(self.columns)

    def heads(self) -> list[str]:
        """The heads of a table's columns."""
        return [f"{self.key} {column}" for column in self.columns]

    @abstractmethod
    def row(self, case: Case, mask: Mask, data: DataPlan) -> Row:
        """What the mask of a case gives. Raises DataError if the truth cannot be read."""

    @abstractmethod
    def values(self, rows: Sequence[Row]) -> tuple[float, ...]:
        """Of each column over all cases, NaN where nothing is defined."""

    @abstractmethod
    def of_case(self, row: Row) -> tuple[float, ...]:
        """Of each column in one case, NaN where it is not defined."""


@dataclass(frozen=True)
class Dice(Score):
    """The mean over the cases in which a class is defined."""

    name: ScoreName = "Dice"
    kind: str = "class"

    def row(self, case: Case, mask: Mask, data: DataPlan) -> Row:
        return case_dice(true_indices(case, mask.geometry, data), mask, data)

    def values(self, rows: Sequence[Row]) -> tuple[float, ...]:
        table = np.array(rows)
        defined = ~np.isnan(table)
        sums = np.where(defined, table, 0).sum(0)
        counts = defined.sum(0)
        return tuple(float(s / n) if n else float("nan") for s, n in zip(sums, counts, strict=True))

    def of_case(self, row: Row) -> tuple[float, ...]:
        return row


@dataclass(frozen=True)
class AveragePrecision(Score):
    """TP / (TP + FP + FN) of all cases together, at each IoU; a match is of the same class.

    A row holds the true positives, false positives and false negatives at each.
    """

    columns: tuple[str, ...] = tuple(map(str, THRESHOLDS))
    name: ScoreName = "AP"
    kind: str = "IoU"

    @property
    def width(self) -> int:
        return 3 * len(self.columns)

    def row(self, case: Case, mask: Mask, data: DataPlan) -> Row:
        return found_objects(true_objects(case, mask.geometry, data), mask)

    def values(self, rows: Sequence[Row]) -> tuple[float, ...]:
        return self.of_case(tuple(np.sum(rows, axis=0, dtype=float).tolist()))

    def of_case(self, row: Row) -> tuple[float, ...]:
        found = zip(row[::3], row[1::3], row[2::3], strict=True)
        return tuple(tp / sum((tp, fp, fn)) if tp + fp + fn else math.nan for tp, fp, fn in found)


def score_of(plan: Plan) -> Score:
    """What the plan's task is judged by."""
    return AveragePrecision() if make_task(plan).score == "AP" else Dice(plan.data.class_names[1:])


def true_indices(case: Case, geometry: Geometry, data: DataPlan) -> Indices:
    """(*S) class indices of a case's truth, IGNORED where it is not known."""
    indices: Indices = class_indices(load_truth(case, geometry).array, data).numpy()
    return indices


def case_dice(truth: Indices, mask: Mask, data: DataPlan) -> Row:
    """Dice per foreground class over the voxels whose truth is known.

    truth : (*S) class indices
    """
    predicted = class_indices(mask.array, data).numpy()
    known = truth != IGNORED
    return dice_per_class(truth[known], predicted[known], data.members[1:])


@dataclass(frozen=True, eq=False)
class TrueObjects:
    """The objects of a case.

    ids : (*S)
    ignored : (*S) where nothing is known, None for nowhere
    classes : the class of each id, from 1; empty if all are of one
    """

    ids: Indices
    ignored: NDArray[np.bool_] | None
    classes: Mapping[int, int]


def true_objects(case: Case, geometry: Geometry, data: DataPlan) -> TrueObjects:
    """The objects of a case's truth. Raises DataError if they cannot be read."""
    ids: Indices = load_truth(case, geometry).array
    names = data.class_names
    table = object_classes(case.truth) if case.truth and len(names) > 2 else None
    classes = {number: names.index(name) for number, name in (table or {}).items()}
    if data.ignore_value is None:
        return TrueObjects(ids, None, classes)
    ignored = ids == data.ignore_value
    return TrueObjects(np.where(ignored, 0, ids), ignored, classes)


def found_objects(truth: TrueObjects, predicted: Mask) -> Row:
    """True positives, false positives and false negatives at each of THRESHOLDS."""
    found = matches(truth.ids, predicted.array, ignored=truth.ignored)
    parts = [found]
    if truth.classes:
        true = np.array([truth.classes.get(number, 0) for number in found.true_ids.tolist()])
        own = np.array([0, *predicted.classes])[found.predicted_ids]
        parts = [found.among(true == k, own == k) for k in np.union1d(true, own)]
    counts = [[each.counts(threshold) for threshold in THRESHOLDS] for each in parts]
    return tuple(np.sum(counts, axis=0, dtype=float).ravel().tolist()) if counts else _NOTHING
