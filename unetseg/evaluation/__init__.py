"""Scores of predicted masks against the truth: metrics per case and class, summaries."""

import csv
import math
import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetseg import geometry
from unetseg.config import DataPlan
from unetseg.dataset.listing import some
from unetseg.errors import DataError, DeviceError, UnetsegError, UsageError
from unetseg.evaluation.pairs import pair as pair
from unetseg.files import replacing
from unetseg.formats import read_mask
from unetseg.metrics import DISTANCES, METRICS, around, checked_tolerance, class_boxes, score
from unetseg.records import Advance, CaseScore, Label, Listener, Note, Stage, ignore_event
from unetseg.regions import Region, fault, written_values

FOREGROUND = Label(1, "foreground")
COLUMNS = ("case", "label", "name", "unit", "tolerance", *METRICS)

_UNDEFINED = tuple((metric, math.nan) for metric in METRICS)


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set of cases, and the cases that have none.

    scores : one per case and class, cases in the order of their pairs, classes in that of `labels`
    tolerances : of the surface Dice, one for each score and in its unit
    labels : the classes that were scored
    failures : name of a case, and what kept it from being scored
    """

    scores: tuple[CaseScore, ...]
    tolerances: tuple[float, ...]
    labels: tuple[Label, ...]
    failures: tuple[tuple[str, UnetsegError], ...] = ()

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


@dataclass(frozen=True)
class Summary:
    """All metrics of one class over the cases, or of all classes together.

    label : None for all classes together, where every class of every case counts once
    """

    label: Label | None
    statistics: tuple[Statistic, ...]

    def __getitem__(self, metric: str) -> Statistic:
        return {statistic.metric: statistic for statistic in self.statistics}[metric]


def evaluate(
    truth: Path,
    predicted: Path,
    *,
    labels: Sequence[Label] = (),
    regions: Sequence[Region] = (),
    data: DataPlan | None = None,
    ignore_value: int | None = None,
    tolerance: float | None = None,
    geometry_tolerance: float = geometry.TOLERANCE_VOXELS,
    merge_labels: bool = False,
    listener: Listener = ignore_event,
) -> Evaluation:
    """Score predicted masks against the truth, each case in the unit of its truth.

    truth, predicted : two files, or two folders, see `pair`
    labels : the classes to score; by default every value other than 0 found in any of the masks
    regions : classes of several values to score instead, in both masks: a voxel is in a region if
        it has one of its values
    data : of the plan of a model: what it calls classes, regions, merged and ignored is scored so
    ignore_value : voxels where the truth has it belong to no class, neither in the truth nor in
        the predicted mask, so the edge of such a region is a surface of what it cuts through;
        elsewhere it counts as background
    tolerance : of the surface Dice, in the unit of each case; by default the shortest edge of a
        voxel of the truth
    geometry_tolerance : how far voxels may lie apart, as a share of a voxel's edge
    merge_labels : all values other than 0 are one class, for instance where they number objects

    A class or region that is missing from both masks of a case has a score there too, with all
    metrics NaN. A case that fails is recorded, and the others are scored.

    Raises what `pair` raises, and UsageError for a tolerance that is negative or not finite, for
    regions that do not fit one another, or for two of labels, regions, data and `merge_labels`.
    """
    _check_asked(labels, regions, data, merged=merge_labels)
    if data is not None:
        regions, merge_labels = data.regions, data.merge_labels
        ignore_value = data.ignore_value if ignore_value is None else ignore_value
        if not regions and not merge_labels:
            labels = tuple(map(Label, data.class_values, data.class_names))
    if tolerance is not None:
        checked_tolerance(tolerance)
    wanted = _wanted(labels, regions, ignore_value, merged=merge_labels)
    rules = _Rules(wanted, ignore_value, tolerance, geometry_tolerance, merge_labels)
    pairs = pair(truth, predicted, listener=listener)
    listener(Stage("evaluating", len(pairs)))
    scored: list[tuple[str, _PairScores]] = []
    failures: list[tuple[str, UnetsegError]] = []
    # Closed at once if the listener raises, so that the waiting pairs are not read any more.
    with closing(_outcomes(pairs, rules)) as outcomes:
        for (name, _, _), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, UnetsegError):
                failures.append((name, outcome))
            else:
                scored.append((name, outcome))
            listener(Advance(name))
    found = {label.value: label for _, case in reversed(scored) for label in case.found}
    classes = wanted or tuple(_one_value(found[value]) for value in sorted(found))
    _note_classes(classes, found, listener)
    return Evaluation(
        tuple(
            CaseScore(name, each.label, case.unit, case.values.get(each.values, _UNDEFINED))
            for name, case in scored
            for each in classes
        ),
        tuple(case.tolerance for _, case in scored for _ in classes),
        tuple(each.label for each in classes),
        tuple(failures),
    )


def summarise(evaluation: Evaluation) -> tuple[Summary, ...]:
    """One summary per class, and a last one over all classes.

    Distances in different units have no mean: they count as undefined.
    """
    every = evaluation.scores
    by_class = [(label, [s for s in every if s.label == label]) for label in evaluation.labels]
    return tuple(
        Summary(
            label,
            tuple(_statistic(metric, scores, one_unit=bool(evaluation.unit)) for metric in METRICS),
        )
        for label, scores in [*by_class, (None, list(every))]
    )


def to_json(evaluation: Evaluation) -> list[dict[str, str | int | float | None]]:
    """One row per case and class with the keys of COLUMNS; None where a metric is undefined."""
    return [
        {
            "case": found.case,
            "label": found.label.value,
            "name": found.label.name,
            "unit": found.unit,
            "tolerance": tolerance,
            **{metric: None if math.isnan(value) else value for metric, value in found.values},
        }
        for found, tolerance in zip(evaluation.scores, evaluation.tolerances, strict=True)
    ]


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write one row per case and class, atomically; an empty cell where a metric is undefined.

    Raises DataError if the file cannot be written.
    """
    with (
        replacing(path) as temporary,
        # A file name on Linux may be no valid text; its case must not cost the others their rows.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(to_json(evaluation))


@dataclass(frozen=True)
class _Class:
    """What has a score, and the values in a mask that count as it."""

    label: Label
    values: tuple[int, ...]


@dataclass(frozen=True)
class _Rules:
    """What `evaluate` was asked for; `classes` is empty if they follow from the masks."""

    classes: tuple[_Class, ...]
    ignore_value: int | None
    tolerance: float | None
    geometry_tolerance: float
    merge_labels: bool


@dataclass(frozen=True)
class _PairScores:
    """Scores by the values of a class, for those that are in at least one of the two masks.

    found : the values in the masks with their names, those that nobody asked for included
    """

    unit: str
    tolerance: float
    values: Mapping[tuple[int, ...], tuple[tuple[str, float], ...]]
    found: tuple[Label, ...]


def _check_asked(
    labels: Sequence[Label], regions: Sequence[Region], data: DataPlan | None, *, merged: bool
) -> None:
    if merged and (labels or regions or data is not None):
        raise UsageError(
            "merged labels have no classes of their own", hint="give labels or merge them"
        )
    if bool(labels) + bool(regions) + (data is not None) > 1:
        raise UsageError(
            "labels, regions and a model each say what is scored", hint="give one of them"
        )
    if sentence := fault(regions):
        raise UsageError(sentence, where="regions")


def _wanted(
    labels: Sequence[Label],
    regions: Sequence[Region],
    ignore_value: int | None,
    *,
    merged: bool,
) -> tuple[_Class, ...]:
    if merged:
        return (_one_value(FOREGROUND),)
    if regions:
        numbers = written_values(regions)
        return tuple(
            _Class(Label(number, region.name), region.values)
            for number, region in zip(numbers, regions, strict=True)
        )
    return tuple(_one_value(label) for label in labels if label.value not in (0, ignore_value))


def _one_value(label: Label) -> _Class:
    return _Class(label, (label.value,))


def _note_classes(
    classes: Sequence[_Class], found: Mapping[int, Label], listener: Listener
) -> None:
    unasked = sorted(set(found) - {value for each in classes for value in each.values})
    if unasked:
        text = f"values that are not among the labels are not scored: {some(map(str, unasked))}"
        listener(Note(text, "warning"))
    if not classes:
        listener(Note("no mask holds a value other than 0: nothing to score", "warning"))


def _outcomes(
    pairs: Sequence[tuple[str, Path, Path]], rules: _Rules
) -> Generator[_PairScores | UnetsegError, None, None]:
    """Scores or failure of each pair, in order, computed on all cores."""
    # Threads suffice: reading and the distance transform release the interpreter lock.
    with ThreadPoolExecutor(min(_cores(), len(pairs))) as executor:
        yield from executor.map(lambda files: _outcome(files[1], files[2], rules), pairs)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _outcome(truth: Path, predicted: Path, rules: _Rules) -> _PairScores | UnetsegError:
    try:
        return _scored(truth, predicted, rules)
    except UnetsegError as error:
        return error
    except MemoryError:
        return DeviceError("too large to be scored in the free memory", where=predicted)


def _scored(truth_path: Path, predicted_path: Path, rules: _Rules) -> _PairScores:
    truth, predicted = read_mask(truth_path), read_mask(predicted_path, is_drawn=False)
    differences = truth.geometry.differences(predicted.geometry, tolerance=rules.geometry_tolerance)
    if differences:
        raise DataError(
            f"does not lie on its truth: {'; '.join(differences)}",
            where=predicted_path,
            hint=f"compare masks of the same grid as {truth_path.name}",
        )
    of_truth, of_predicted = truth.array, predicted.array
    if rules.ignore_value is not None:
        ignored = of_truth == rules.ignore_value
        of_truth = np.where(ignored, 0, of_truth)
        of_predicted = np.where(ignored | (of_predicted == rules.ignore_value), 0, of_predicted)
    if rules.merge_labels:
        of_truth, of_predicted = ((array != 0).view(np.uint8) for array in (of_truth, of_predicted))
    spacing = truth.geometry.spacing
    tolerance = min(spacing) if rules.tolerance is None else rules.tolerance
    boxes = class_boxes(of_truth, of_predicted)
    names = {label.value: label for label in (*predicted.labels, *truth.labels)}
    found = tuple(names.get(value, Label(value, str(value))) for value in boxes)
    values = {}
    for each in rules.classes or map(_one_value, found):
        if there := [boxes[value] for value in each.values if value in boxes]:
            box = around(there)
            values[each.values] = score(
                np.isin(of_truth[box], each.values),
                np.isin(of_predicted[box], each.values),
                spacing,
                tolerance=tolerance,
            )
    return _PairScores(truth.geometry.unit, tolerance, values, found)


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
