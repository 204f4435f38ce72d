"""Scores of classes: every value of a mask, or every region, is one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.listing import some
from unetseg.evaluation.pairs import Pair, read_pair, score_each
from unetseg.evaluation.results import Evaluation
from unetseg.metrics import METRICS, around, class_boxes, score
from unetseg.records import CaseScore, Label, Listener, Note
from unetseg.regions import Region, written_values

FOREGROUND = Label(1, "foreground")

_UNDEFINED = tuple((metric, math.nan) for metric in METRICS)


@dataclass(frozen=True)
class _Class:
    """What has a score, and the values in a mask that count as it."""

    label: Label
    values: tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """What `evaluate` was asked for; `classes` is empty if they follow from the masks."""

    classes: tuple[_Class, ...]
    ignore_value: int | None
    tolerance: float | None
    geometry_tolerance: float
    merge_labels: bool


@dataclass(frozen=True)
class _PairScores:
    """Scores by the values of a class, for those that are in at least one of the two masks.

    sizes : the true and the predicted volume or area of each of them
    found : the values in the masks with their names, those that nobody asked for included
    """

    unit: str
    tolerance: float
    values: Mapping[tuple[int, ...], tuple[tuple[str, float], ...]]
    sizes: Mapping[tuple[int, ...], tuple[float, float]]
    size_unit: str
    found: tuple[Label, ...]


def score_classes(pairs: Sequence[Pair], rules: Rules, listener: Listener) -> Evaluation:
    """Score every pair; one that fails is recorded."""
    scored, failures = score_each(pairs, lambda t, p: _scored(t, p, rules), listener)
    found = {label.value: label for case in reversed(scored.values()) for label in case.found}
    classes = rules.classes or tuple(_one_value(found[value]) for value in sorted(found))
    _note_classes(classes, found, listener)
    size_units = {case.size_unit for case in scored.values()}
    return Evaluation(
        tuple(
            CaseScore(name, each.label, case.unit, case.values.get(each.values, _UNDEFINED))
            for name, case in scored.items()
            for each in classes
        ),
        tuple(case.tolerance for case in scored.values() for _ in classes),
        tuple(each.label for each in classes),
        tuple(failures),
        pairs=tuple(each for each in pairs if each[0] in scored),
        sizes=tuple(
            case.sizes.get(each.values, (0.0, 0.0)) for case in scored.values() for each in classes
        ),
        size_unit=size_units.pop() if len(size_units) == 1 else "",
        class_values=tuple(() if rules.merge_labels else each.values for each in classes),
        ignore_value=rules.ignore_value,
    )


def wanted(
    labels: Sequence[Label],
    regions: Sequence[Region],
    ignore_value: int | None,
    *,
    merged: bool,
) -> tuple[_Class, ...]:
    """The classes that labels or regions ask for; none if nothing is asked for."""
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


def _scored(truth_path: Path, predicted_path: Path, rules: Rules) -> _PairScores:
    truth, predicted = read_pair(truth_path, predicted_path, rules.geometry_tolerance)
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
    values, sizes = {}, {}
    for each in rules.classes or map(_one_value, found):
        if there := [boxes[value] for value in each.values if value in boxes]:
            box = around(there)
            masks = [_is_in(array[box], each.values) for array in (of_truth, of_predicted)]
            values[each.values] = score(masks[0], masks[1], spacing, tolerance=tolerance)
            voxels = (int(np.count_nonzero(mask)) for mask in masks)
            of_both = tuple(math.prod(spacing) * count for count in voxels)
            sizes[each.values] = of_both[0], of_both[1]
    unit = truth.geometry.unit
    return _PairScores(unit, tolerance, values, sizes, f"{unit}^{of_truth.ndim}", found)


def _is_in(array: NDArray[Any], values: Sequence[int]) -> NDArray[np.bool_]:
    """Where the array has one of the values; of a single one several times faster than isin."""
    return array == values[0] if len(values) == 1 else np.isin(array, values)
