"""Which cleaning of the masks raises the Dice out of fold, class by class."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED, Plan
from unetseg.errors import DataError
from unetseg.formats import read_mask
from unetseg.pipeline import class_indices
from unetseg.records import Advance, Case, Listener, Stage
from unetseg.tasks.cleaning import (
    Cleaning,
    boxes,
    clean,
    cleanings,
    components,
    holes,
    voxel_size,
)
from unetseg.training.scores import Indices, true_indices

# A rise of less than this is noise of the last digit that is printed.
_RISE = 1e-4
# Smallest sizes that are tried, as shares of the median true component of the class.
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

LARGEST, SMALLEST, HOLES = "largest component", "minimum size", "hole filling"

Row = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class Unseen:
    """A case, and the mask by the network that has not learned from it, not cleaned."""

    case: Case
    mask: Path


@dataclass(frozen=True)
class Decision:
    """Whether a class is cleaned in one way.

    size : of the smallest component that stays; None for other ways
    before, after : mean Dice over the cases in which it is defined
    defined : in how many that is, before and after
    held : mean Dice over the cases that truly have the class, before and after
    """

    class_name: str
    operation: str
    accepted: bool
    size: float | None
    before: float
    after: float
    defined: tuple[int, int]
    held: tuple[float, float]
    unit: str

    def sentence(self) -> str:
        """All of it in one line."""
        size = "" if self.size is None else f" {self.size:g} {self.unit}"
        text = (
            f"{self.class_name}, {self.operation}{size}:"
            f" {'accepted' if self.accepted else 'rejected'},"
            f" mean Dice {self.before:.4f} -> {self.after:.4f}"
        )
        if self.defined[0] != self.defined[1]:
            text += f" ({self.defined[0]} -> {self.defined[1]} cases defined)"
        if not self.accepted and self.held[1] < self.held[0] and self.after > self.before:
            text += f", but {self.held[0]:.4f} -> {self.held[1]:.4f} where the truth has the class"
        return text


@dataclass(frozen=True)
class Selection:
    """What shall be done, by class index, and all that was decided on the way."""

    wanted: dict[int, Cleaning]
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, eq=False)
class _Components:
    """The components of a class in one mask, and what its Dice without some of them would be.

    truth : voxels that truly are of the class
    voxels, known, common : (n,) per component: all voxels, those whose truth is known, and those
        that truly are of the class
    voxel : size of a voxel in the plan's unit, NaN if the scan has none
    true_sizes : (m,) of the true components, in the plan's unit
    """

    truth: int
    voxels: Counts
    known: Counts
    common: Counts
    voxel: float
    true_sizes: Row

    def counts(self, cleaning: Cleaning) -> tuple[int, int]:
        """Voxels that stay, and how many of them are right."""
        stay = cleaning.kept(self.voxels, self.voxel)
        return int(self.known[stay].sum()), int(self.common[stay].sum())

    def dice(self, cleaning: Cleaning) -> float:
        return _dice(*self.counts(cleaning), self.truth)


@dataclass(frozen=True)
class _Filling:
    """What the holes of a class would add to one mask: voxels, and how many of them are right."""

    known: int
    common: int


def select(
    unseen: Sequence[Unseen], plan: Plan, listener: Listener, *, workers: int = 1
) -> Selection:
    """Try every way of cleaning on every class; accept what makes the masks better.

    Accepted is what raises the mean Dice over the cases in which it is defined, and does not
    lower it over those that truly have the class: a mask that is emptied where nothing is counts
    for the better, but never makes up for what was lost elsewhere. What the plan already wants is
    kept. A class that no case has is left as it is.
    """
    given = cleanings(plan)
    classes = range(1, len(plan.data.class_names))
    # What is done to a class has no influence on the components of another: one pass for all.
    listener(Stage("comparing components", len(unseen)))
    tables = _each(partial(_components, plan=plan), unseen, listener, workers)
    wanted: dict[int, Cleaning] = {}
    decisions: dict[int, list[Decision]] = {}
    for index in classes:
        found = _removal([table[index] for table in tables], index, plan, given.get(index))
        wanted[index], decisions[index] = found
    listener(Stage("comparing holes", len(unseen)))
    fillings = _each(partial(_fillings, plan=plan, wanted=wanted), unseen, listener, workers)
    for index in classes:
        if wanted[index].fill_holes:
            continue
        decision = _hole_filling(
            [table[index] for table in tables],
            [filling[index] for filling in fillings],
            index,
            plan,
            wanted[index],
        )
        if decision is not None:
            wanted[index] = replace(wanted[index], fill_holes=decision.accepted)
            decisions[index].append(decision)
    return Selection(
        {index: cleaning for index, cleaning in wanted.items() if cleaning != Cleaning()},
        tuple(decision for index in classes for decision in decisions[index]),
    )


def _each(
    work: Callable[[Unseen], T], unseen: Sequence[Unseen], listener: Listener, workers: int
) -> list[T]:
    results = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for each, result in zip(unseen, pool.map(work, unseen), strict=True):
            listener(Advance(each.case.name))
            results.append(result)
    return results


def _read(each: Unseen, plan: Plan) -> tuple[Indices, Indices, float]:
    """Predicted and true class indices, and the size of a voxel."""
    mask = read_mask(each.mask, is_drawn=False)
    predicted = class_indices(mask.array, plan.data).numpy()
    try:
        voxel = voxel_size(mask.geometry, plan.data.unit)
    except DataError:
        voxel = float("nan")
    return predicted, true_indices(each.case, mask.geometry, plan.data), voxel


def _components(each: Unseen, plan: Plan) -> dict[int, _Components]:
    predicted, truth, voxel = _read(each, plan)
    places, true_places = boxes(predicted), boxes(truth)
    found = {}
    for index in range(1, len(plan.data.class_names)):
        voxels = known = common = np.zeros(0, dtype=np.int64)
        if index in places:
            inside = truth[places[index]]
            labels, voxels = components(predicted[places[index]] == index)
            known = np.bincount(labels[inside != IGNORED], minlength=len(voxels) + 1)[1:]
            common = np.bincount(labels[inside == index], minlength=len(voxels) + 1)[1:]
        true_voxels = np.zeros(0, dtype=np.int64)
        if index in true_places:
            true_voxels = components(truth[true_places[index]] == index)[1]
        found[index] = _Components(
            int(true_voxels.sum()), voxels, known, common, voxel, true_voxels * voxel
        )
    return found


def _fillings(each: Unseen, plan: Plan, wanted: dict[int, Cleaning]) -> dict[int, _Filling]:
    """What filling would add after the removals that were accepted, class by class."""
    predicted, truth, voxel = _read(each, plan)
    removals = {index: replace(cleaning, fill_holes=False) for index, cleaning in wanted.items()}
    removed = clean(predicted, removals, voxel)
    found = {index: _Filling(0, 0) for index in wanted}
    for index, (box, hole) in holes(removed).items():
        added = truth[box][hole]
        found[index] = _Filling(int((added != IGNORED).sum()), int((added == index).sum()))
    return found


def _removal(
    tables: Sequence[_Components], index: int, plan: Plan, given: Cleaning | None
) -> tuple[Cleaning, list[Decision]]:
    """The removals that help a class, the most helpful one first."""
    state = given or Cleaning()
    held = np.array([table.truth > 0 for table in tables])
    if not held.any():
        return state, []
    open_ways: dict[str, list[dict[str, Any]]] = {}
    if not state.min_size and (sizes := _sizes(tables)):
        open_ways[SMALLEST] = [{"min_size": size} for size in sizes]
    if not state.largest_component:
        open_ways[LARGEST] = [{"largest_component": True}]
    made = []
    while open_ways:
        trials = [
            _Trial.of(operation, replace(state, **change), tables, held)
            for operation, changes in open_ways.items()
            for change in changes
        ]
        now = _Trial.of("", state, tables, held)
        # Of equal ones the first, which removes least.
        best = max(trials, key=lambda trial: (trial.is_better(now), trial.mean))
        if best.is_better(now):
            made.append(_decision(best, now, index, plan, accepted=True))
            state = best.cleaning
            del open_ways[best.operation]
            continue
        for operation in open_ways:
            mine = [trial for trial in trials if trial.operation == operation]
            failed = max(mine, key=lambda trial: trial.mean)
            made.append(_decision(failed, now, index, plan, accepted=False))
        break
    return state, made


def _hole_filling(
    tables: Sequence[_Components],
    fillings: Sequence[_Filling],
    index: int,
    plan: Plan,
    state: Cleaning,
) -> Decision | None:
    held = np.array([table.truth > 0 for table in tables])
    if not held.any():
        return None
    after = []
    for table, filling in zip(tables, fillings, strict=True):
        known, common = table.counts(state)
        after.append(_dice(known + filling.known, common + filling.common, table.truth))
    now = _Trial.of("", state, tables, held)
    filled = _Trial(HOLES, replace(state, fill_holes=True), np.array(after), held)
    return _decision(filled, now, index, plan, accepted=filled.is_better(now))


@dataclass(frozen=True, eq=False)
class _Trial:
    """The Dice of every case with one more cleaning; `held`: it truly has the class."""

    operation: str
    cleaning: Cleaning
    dice: Row
    held: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        operation: str,
        cleaning: Cleaning,
        tables: Sequence[_Components],
        held: NDArray[np.bool_],
    ) -> "_Trial":
        return cls(operation, cleaning, np.array([table.dice(cleaning) for table in tables]), held)

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.dice))

    @property
    def held_mean(self) -> float:
        return float(self.dice[self.held].mean())

    def is_better(self, before: "_Trial") -> bool:
        return self.mean > before.mean + _RISE and self.held_mean >= before.held_mean


def _decision(trial: _Trial, before: _Trial, index: int, plan: Plan, *, accepted: bool) -> Decision:
    data = plan.data
    return Decision(
        data.class_names[index],
        trial.operation,
        accepted,
        trial.cleaning.min_size if trial.operation == SMALLEST else None,
        before.mean,
        trial.mean,
        (int((~np.isnan(before.dice)).sum()), int((~np.isnan(trial.dice)).sum())),
        (before.held_mean, trial.held_mean),
        "voxels" if data.unit == "px" else f"{data.unit}^{data.dimensions}",
    )


def _sizes(tables: Sequence[_Components]) -> list[float]:
    """Smallest sizes to try, ascending; none if a scan does not say how large its voxels are."""
    if any(np.isnan(table.voxel) for table in tables):
        return []
    median = float(np.median(np.concatenate([table.true_sizes for table in tables])))
    # Three digits are enough for a person to read, and for the masks.
    return sorted({float(f"{share * median:.3g}") for share in _SHARES})


def _dice(predicted: int, common: int, truth: int) -> float:
    return 2 * common / (predicted + truth) if predicted + truth else float("nan")
