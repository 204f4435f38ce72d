"""Runs side by side: scores on the cases that all of them validated, and what plans differ in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from unetseg.config import Plan, plan_keys, to_values
from unetseg.errors import UsageError
from unetseg.metrics.spread import Range, paired_difference, spread
from unetseg.runs.record import RunRecord
from unetseg.runs.tables import CaseTable, mean_of

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Compared:
    """A run among others.

    label : by which it is told from the others
    own : how many cases it validated
    values : (cases, columns) of the cases and columns that all runs have; NaN where not defined
    """

    record: RunRecord
    label: str
    own: int
    values: Rows

    @property
    def means(self) -> tuple[float, ...]:
        """Of each case, over the columns that are defined in it."""
        return tuple(map(mean_of, self.values))

    def column(self, place: int) -> tuple[float, ...]:
        """Of each case, in one column."""
        return tuple(row[place] for row in self.values)

    def mean(self, place: int) -> Range:
        """Of one column over the cases in which it is defined, with the lowest and the highest."""
        return spread(self.column(place))

    @property
    def overall(self) -> float:
        """The mean of the columns' means."""
        places = range(len(self.values[0]) if self.values else 0)
        return mean_of([self.mean(place).mean for place in places])


@dataclass(frozen=True)
class Comparison:
    """Several runs; the first is what the others are compared with.

    score : Dice or AP; empty if they are judged by different ones
    columns : classes, regions or IoUs that all have
    cases : the names of those that all validated
    differences : plan keys in which they differ, with the value of each run; None where it has none
    """

    runs: tuple[Compared, ...]
    score: str
    columns: tuple[str, ...]
    cases: tuple[str, ...]
    differences: tuple[tuple[str, tuple[Any, ...]], ...]

    def difference(self, run: Compared, place: int | None = None) -> Range:
        """A run less the first, case by case, with its 95 % interval, see `paired_difference`.

        place : of a column; None for the means of the cases
        """
        one, other = (
            each.means if place is None else each.column(place) for each in (run, self.runs[0])
        )
        return paired_difference(one, other)

    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know before the numbers."""
        found = []
        if not self.score:
            found.append("The runs are judged by different scores, which are not compared.")
        elif not self.columns:
            found.append("No class is in all of the runs: their scores are not compared.")
        elif not self.cases:
            found.append("No case was validated by all of the runs: their scores are not compared.")
        elif any(run.own > len(self.cases) for run in self.runs):
            own = ", ".join(f"{run.label} {run.own}" for run in self.runs)
            found.append(
                f"Scores are of the {len(self.cases)} cases that all runs validated; each has its"
                f" own: {own}."
            )
        digests = {run.record.digest for run in self.runs if run.record.digest}
        if len(digests) > 1:
            found.append("The data of the runs differ in names or voxels, by their digests.")
        found += [
            f"{run.label} is {_STATES[run.record.state]}: its scores are those so far."
            for run in self.runs
            if run.record.state != "finished"
        ]
        return tuple(found)


_STATES = {"running": "still running", "stopped": "not finished"}


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Set runs side by side. Raises UsageError for fewer than two."""
    if len(records) < 2:
        raise UsageError("nothing to compare with", expected="2 runs or more", got=len(records))
    tables = [record.validation for record in records]
    scores = {record.score for record in records}
    there = [table for table in tables if table is not None]
    columns: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    if len(there) == len(tables) and len(scores) == 1:
        columns = _in_all([table.columns for table in there])
        cases = _in_all([table.names for table in there])
    runs = tuple(
        Compared(record, label, len(table.names) if table else 0, _picked(table, cases, columns))
        for record, label, table in zip(
            records, labels([record.path for record in records]), tables, strict=True
        )
    )
    score = scores.pop() if len(scores) == 1 else ""
    return Comparison(
        runs, score, columns, cases, plan_differences([record.plan for record in records])
    )


def _in_all(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """What is in each of the lists, in the order of the first."""
    others = [set(each) for each in lists[1:]]
    return tuple(name for name in lists[0] if all(name in other for other in others))


def _picked(table: CaseTable | None, cases: Sequence[str], columns: Sequence[str]) -> Rows:
    if table is None or not columns:
        return ()
    rows = dict(zip(table.names, table.cleaned or table.values, strict=True))
    places = [table.columns.index(column) for column in columns]
    return tuple(tuple(rows[case][place] for place in places) for case in cases)


def labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """As little of the end of each path as tells it from the others."""
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts))
    for length in range(1, longest + 1):
        found = tuple("/".join(each[-length:]) for each in parts)
        if len(set(found)) == len(set(parts)):
            break
    # The same run twice is told apart by its place.
    return tuple(
        name if found.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(found, start=1)
    )


def plan_differences(plans: Sequence[Plan]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The keys in which plans differ, in file order, with the value of each."""
    nested = [to_values(plan) for plan in plans]
    found = []
    for key in plan_keys():
        values = tuple(reduce(getitem, key.split("."), each) for each in nested)
        if any(value != values[0] for value in values[1:]):
            found.append((key, values))
    return tuple(found)


def value_text(value: Any) -> str:
    """A plan's value as a person would write it; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return ", ".join(f"{key} = {value_text(each)}" for key, each in value.items())
    return str(value)


def score_text(value: float) -> str:
    """Four digits, or a dash where it is not defined."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def difference_text(found: Range) -> str:
    """A mean difference with its interval."""
    return found.signed(4) if found.defined else "-"
