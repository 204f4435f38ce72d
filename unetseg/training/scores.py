"""What a validation is judged by: the Dice of classes, or the average precision of objects."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED, DataPlan, Plan
from unetseg.dataset.loading import load_truth
from unetseg.dataset.object_classes import object_classes
from unetseg.geometry import Geometry
from unetseg.metrics.objects import THRESHOLDS, Matches, matches
from unetseg.pipeline import class_indices
from unetseg.records import Case, Mask
from unetseg.tasks import ScoreName, make_task

Indices = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]
Row = tuple[float, ...]
_NOTHING: Row = (0.0,) * (3 * len(THRESHOLDS))
# As many voxels are tabled at once, whatever the size of the scan.
_PART = 1 << 22


@dataclass(frozen=True, eq=False)
class Compared:
    """What a case's mask and its truth have in common.

    row : what that gives to the score
    table : (L, L) voxels whose truth is known, by true and predicted class index
    matches : of the objects, where there are any
    """

    row: Row
    table: Counts
    matches: Matches | None = None


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

    def row(self, case: Case, mask: Mask, data: DataPlan) -> Row:
        """What the mask of a case gives. Raises DataError if the truth cannot be read."""
        return self.compared(self.truth(case, mask.geometry, data), mask, data).row

    @abstractmethod
    def truth(self, case: Case, geometry: Geometry, data: DataPlan) -> Any:
        """The truth of a case as it is compared. Raises DataError if it cannot be read."""

    @abstractmethod
    def compared(self, truth: Any, mask: Mask, data: DataPlan) -> Compared:
        """The mask of a case beside its truth, as `truth` gives it."""

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

    def truth(self, case: Case, geometry: Geometry, data: DataPlan) -> Indices:
        """(*S) class indices, IGNORED where nothing is known."""
        return true_indices(case, geometry, data)

    def compared(self, truth: Indices, mask: Mask, data: DataPlan) -> Compared:
        table = class_table(truth, mask, data)
        return Compared(dice_of(table, data.members[1:]), table)

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

    def truth(self, case: Case, geometry: Geometry, data: DataPlan) -> "TrueObjects":
        return true_objects(case, geometry, data)

    def compared(self, truth: "TrueObjects", mask: Mask, data: DataPlan) -> Compared:
        found = matches(truth.ids, mask.array, ignored=truth.ignored)
        table = object_table(truth, mask, len(data.class_values))
        return Compared(_counted(found, truth, mask), table, found)

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
    # They wait while the case is segmented.
    return indices.astype(np.int16)


def class_table(truth: Indices, mask: Mask, data: DataPlan) -> Counts:
    """(L, L) voxels whose truth is known, by true and predicted class index.

    truth : (*S) class indices
    """

    def classes(part: slice) -> tuple[Indices, Indices]:
        return true[part], class_indices(values[part], data).numpy()

    true, values = truth.reshape(-1), mask.array.reshape(-1)
    return _table(len(true), classes, len(data.label_values))


def _table(size: int, classes: Callable[[slice], tuple[Indices, Indices]], kinds: int) -> Counts:
    """(kinds, kinds) voxels of true and predicted classes, part by part."""
    table = np.zeros(kinds * kinds, np.int64)
    for start in range(0, size, _PART):
        true, own = classes(slice(start, start + _PART))
        if (true == IGNORED).any():
            known = true != IGNORED
            true, own = true[known], own[known]
        pairs = true.astype(np.intp) * kinds + np.maximum(own, 0)
        table += np.bincount(pairs, minlength=kinds * kinds)
    return table.reshape(kinds, kinds)


def dice_of(table: Counts, members: Sequence[Sequence[int]]) -> Row:
    """The Dice of each class; NaN where neither mask has it.

    table : as of `class_table`
    members : the class indices that count as each class
    """
    row = []
    for indices in map(list, members):
        voxels = int(table[indices].sum() + table[:, indices].sum())
        both = int(table[np.ix_(indices, indices)].sum())
        row.append(2 * both / voxels if voxels else math.nan)
    return tuple(row)


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
    return _counted(matches(truth.ids, predicted.array, ignored=truth.ignored), truth, predicted)


def _counted(found: Matches, truth: TrueObjects, predicted: Mask) -> Row:
    parts = [found]
    if truth.classes:
        true = np.array([truth.classes.get(number, 0) for number in found.true_ids.tolist()])
        own = np.array([0, *predicted.classes])[found.predicted_ids]
        parts = [found.among(true == k, own == k) for k in np.union1d(true, own)]
    counts = [[each.counts(threshold) for threshold in THRESHOLDS] for each in parts]
    return tuple(np.sum(counts, axis=0, dtype=float).ravel().tolist()) if counts else _NOTHING


def object_table(truth: TrueObjects, mask: Mask, kinds: int) -> Counts:
    """(kinds, kinds) voxels whose truth is known, by the true and the predicted object's class."""
    ids, own = truth.ids.reshape(-1), mask.array.reshape(-1)
    ignored = None if truth.ignored is None else truth.ignored.reshape(-1)
    # Of several classes an object without one is of none; of one class every object is.
    table = np.array([0, *mask.classes])

    def classes(part: slice) -> tuple[Indices, Indices]:
        if kinds > 2:
            numbers, places = np.unique(ids[part], return_inverse=True)
            known = [truth.classes.get(number, 0) for number in numbers.tolist()]
            true, predicted = np.array(known, np.int16)[places], table[own[part]]
        else:
            true, predicted = (ids[part] != 0).astype(np.int16), (own[part] != 0).astype(np.int16)
        if ignored is not None:
            true = np.where(ignored[part], IGNORED, true)
        return true, predicted

    return _table(len(ids), classes, kinds)
