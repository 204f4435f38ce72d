"""Scores of objects: true and predicted ones are matched one to one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.listing import some
from unetseg.dataset.object_classes import class_table, object_classes
from unetseg.errors import DataError
from unetseg.evaluation.pairs import Pair, read_pair, score_each
from unetseg.evaluation.results import Evaluation
from unetseg.metrics.objects import Matches, matches, metric_names, pooled, score
from unetseg.records import CaseScore, Label, Listener, Note

Texts = NDArray[np.str_]

# All objects, whatever their class; no class is written as the background's value.
EVERY = Label(0, "all")

# One predicted object where there are so many true ones is none.
_MANY = 5


@dataclass(frozen=True)
class ObjectRules:
    """What objects are scored by.

    ignore_value : voxels where the truth has it are known to nobody; the predicted mask may use it
        as an id
    names : of the classes, where their tables give numbers
    """

    ignore_value: int | None
    geometry_tolerance: float
    thresholds: tuple[float, ...]
    names: tuple[Label, ...] = ()


def score_objects(pairs: Sequence[Pair], rules: ObjectRules, listener: Listener) -> Evaluation:
    """Score every pair, and all of them pooled; one that fails is recorded.

    Where tables beside both masks tell the classes of the objects, those of each class are matched
    among themselves as well.
    """
    scored, failures = score_each(pairs, lambda t, p: _compared(t, p, rules), listener)
    _note(scored, listener)
    classes = _classes(scored.values(), rules.names)
    labels = (EVERY, *classes.values())
    parts = []
    for name, case in scored.items():
        for label, found in zip(labels, [case.matches, *map(case.of, classes)], strict=True):
            parts.append((CaseScore(name, label, "", _values(found, rules)), found))
    return Evaluation(
        tuple(case_score for case_score, _ in parts),
        (),
        labels,
        tuple(failures),
        tuple(
            CaseScore("", label, "", score(pooled(there), rules.thresholds))
            for label in labels
            if (there := [m for one, m in parts if one.label == label and m is not None])
        ),
        metric_names(rules.thresholds),
        are_objects=True,
        pairs=tuple(each for each in pairs if each[0] in scored),
        ignore_value=rules.ignore_value,
        matches=tuple(found for _, found in parts),
        thresholds=rules.thresholds,
    )


@dataclass(frozen=True, eq=False)
class _Compared:
    """The objects of a case.

    classes : of each true and of each predicted object, as the tables have it; None if a table is
        missing
    """

    matches: Matches
    classes: tuple[Texts, Texts] | None
    has_one_table: bool

    def of(self, name: str) -> Matches | None:
        """The objects of one class; None where the classes are not known."""
        if self.classes is None:
            return None
        true, predicted = self.classes
        return self.matches.among(true == name, predicted == name)


def _compared(truth_path: Path, predicted_path: Path, rules: ObjectRules) -> _Compared:
    truth, predicted = read_pair(truth_path, predicted_path, rules.geometry_tolerance)
    ignored = None if rules.ignore_value is None else truth.array == rules.ignore_value
    found = matches(truth.array, predicted.array, ignored=ignored)
    true = _classes_of(found.true_ids.tolist(), truth_path)
    other = _classes_of(found.predicted_ids.tolist(), predicted_path)
    if true is None or other is None:
        has_table = [class_table(path) is not None for path in (truth_path, predicted_path)]
        return _Compared(found, None, any(has_table) and not all(has_table))
    return _Compared(found, (true, other), has_one_table=False)


def _classes_of(ids: Sequence[int], mask: Path) -> Texts | None:
    known = object_classes(mask)
    if known is None:
        # What holds no object needs no table.
        return None if ids else np.zeros(0, np.str_)
    if missing := [str(number) for number in ids if number not in known]:
        raise DataError(
            f"{len(missing)} of {len(ids)} objects have no class in the table beside it:"
            f" {some(missing)}",
            where=mask,
            hint="give every id a row",
        )
    return np.array([known[number] for number in ids], np.str_)


def _classes(cases: Iterable[_Compared], names: Sequence[Label]) -> dict[str, Label]:
    """The classes in the tables, in their order if they are numbers; none if no case has any."""
    sides = [side for case in cases if case.classes is not None for side in case.classes]
    texts = {text for side in sides for text in side.tolist()}
    if not all(text.isdecimal() for text in texts):
        return {text: Label(place, text) for place, text in enumerate(sorted(texts), start=1)}
    name_of = {label.value: label.name for label in names}
    return {text: Label(int(text), name_of.get(int(text), text)) for text in sorted(texts, key=int)}


def _values(found: Matches | None, rules: ObjectRules) -> tuple[tuple[str, float], ...]:
    if found is None:
        return tuple((metric, math.nan) for metric in metric_names(rules.thresholds))
    return score(found, rules.thresholds)


def _note(cases: Mapping[str, _Compared], listener: Listener) -> None:
    half = [name for name, case in cases.items() if case.has_one_table]
    if half:
        text = f"only one of the masks has a table of classes, which is left out: {some(half)}"
        listener(Note(text, "warning"))
    counts = [(len(c.matches.true_ids), len(c.matches.predicted_ids)) for c in cases.values()]
    if counts and not any(map(any, counts)):
        listener(Note("no mask holds an object: nothing to score", "warning"))
    elif counts and all(predicted <= 1 for _, predicted in counts) and max(counts)[0] > _MANY:
        text = "no predicted mask holds more than one value: if it is the foreground of all"
        listener(Note(f"{text} objects, give --merge-labels", "warning"))
