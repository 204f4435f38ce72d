"""The scores of the validation cases: per class, per case, and how they spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetseg.pages.charts import INK_COLOUR, Axis, Group, Series, scatter, strips
from unetseg.pages.parts import Cell, Figure, Link, Notice, Part, Section, Table
from unetseg.pages.words import DASH, number
from unetseg.report.columns import FEW, colour, nan_last, size_axis, title
from unetseg.runs import CaseEvidence, CaseTable, RunRecord, mean_of

# A size that is wrong by more than this share of itself is told as so many times.
_MANY_TIMES = 10.0


@dataclass(frozen=True)
class Ranked:
    """The validation cases from worst to best; those without a score come last.

    places : rows of the table
    scores : mean over the columns, of each row of the table
    """

    table: CaseTable
    places: tuple[int, ...]
    scores: tuple[float, ...]

    @property
    def scored(self) -> tuple[int, ...]:
        """The places of the cases that have a score."""
        return tuple(place for place in self.places if not math.isnan(self.scores[place]))


def ranked(record: RunRecord) -> Ranked | None:
    """The cases by the score of the masks that the run keeps; None while there are none."""
    table = record.validation
    if table is None or not table.names:
        return None
    scores = tuple(map(mean_of, kept(table)))
    order = sorted(range(len(scores)), key=lambda place: nan_last(scores[place]))
    return Ranked(table, tuple(order), scores)


def kept(table: CaseTable) -> tuple[tuple[float, ...], ...]:
    """The scores of the masks as the model gives them, cleaned if it cleans them."""
    return table.cleaned or table.values


def per_class(record: RunRecord, cases: Ranked) -> Table:
    """Mean, spread and worst case of each class or IoU."""
    table, score = cases.table, cases.table.score
    facts = record.facts
    # Objects are counted over all cases together, as the score of the run is.
    pooled = dict(facts.values) if facts is not None and score == "AP" else {}
    columns = ["IoU above" if score == "AP" else "class", *(["all objects"] if pooled else [])]
    columns += ["mean", "sd", "median", "worst", "worst case", "defined / cases"]
    if table.cleaned:
        columns.insert(2, "before cleaning")
    values = np.array(kept(table), dtype=float)
    raw = np.array(table.values, dtype=float)
    rows = []
    for place, name in enumerate(table.columns):
        own, all_ = values[:, place], len(values)
        known = own[~np.isnan(own)]
        row: list[Cell] = [name, *([number(pooled.get(name, math.nan))] if pooled else [])]
        row.append(number(_mean(own)))
        if table.cleaned:
            row.append(number(_mean(raw[:, place])))
        row.append(number(float(known.std(ddof=1))) if len(known) > 1 else DASH)
        row.append(number(float(np.median(known))) if len(known) else DASH)
        row.append(number(float(known.min())) if len(known) else DASH)
        row.append(_worst(table.names, own) if len(known) else DASH)
        rows.append((*row, f"{len(known)} / {all_}"))
    return Table(tuple(columns), tuple(rows), f"{score} of the validation cases", is_sortable=False)


def _worst(names: Sequence[str], values: NDArray[np.float64]) -> str:
    """The case with the lowest value; of several the first, and how many there are."""
    lowest = np.flatnonzero(values == np.nanmin(values))
    more = f" and {len(lowest) - 1} more" if len(lowest) > 1 else ""
    return f"{names[lowest[0]]}{more}"


def _mean(values: NDArray[np.float64]) -> float:
    return mean_of(values.tolist())


def validation(record: RunRecord, cases: Ranked | None, pictured: Sequence[str]) -> Section:
    """The table of all cases, and how their scores are distributed.

    pictured : names of the cases that have a picture on the page
    """
    if cases is None:
        why = "The scores of single cases are written at the end of a training."
        if record.is_of_folds:
            why = "They are written when all folds are trained."
        return Section(
            "Cases", (Notice((f"No table of the validation cases yet. {why}",)),), "cases"
        )
    parts: list[Part] = [_distribution(record, cases), *_by_size(record, cases)]
    parts.append(_cases(record, cases, set(pictured)))
    return Section("Cases", tuple(parts), "cases")


def _distribution(record: RunRecord, cases: Ranked) -> Part:
    table = cases.table
    columns = list(zip(*kept(table), strict=True))
    groups = [
        Group(title(record, name), values, colour(record.plan.data, name))
        for name, values in zip(table.columns, columns, strict=True)
    ]
    if len(groups) > 1:
        groups.append(Group("mean", cases.scores, INK_COLOUR))
    return strips(
        f"{table.score} of each case",
        groups,
        Axis(table.score),
        caption="A point is a case; the box is the middle half of them, its bar the median.",
    )


def _by_size(record: RunRecord, cases: Ranked) -> list[Figure]:
    """The score against the true size: whether small things are harder."""
    evidence = record.evidence
    if evidence is None or evidence.kind == "objects":
        return []
    true = {case.name: case.true for case in evidence.cases}
    series = []
    for place, name in enumerate(cases.table.columns):
        pairs = [
            (true[case][place], values[place])
            for case, values in zip(cases.table.names, kept(cases.table), strict=True)
            if case in true and true[case][place] > 0 and not math.isnan(values[place])
        ]
        own = colour(record.plan.data, name)
        series.append(Series(name, tuple(x for x, _ in pairs), tuple(y for _, y in pairs), own))
    sizes = [size for one in series for size in one.x]
    if not sizes:
        return []
    if len(series) > FEW:
        points = [pair for one in series for pair in zip(one.x, one.y, strict=True)]
        series = [Series("", tuple(x for x, _ in points), tuple(y for _, y in points))]
    x = size_axis(evidence, sizes)
    caption = "A point is a class of a case."
    return [
        scatter(f"{cases.table.score} by size", series, x, Axis(cases.table.score), caption=caption)
    ]


def _cases(record: RunRecord, cases: Ranked, pictured: set[str]) -> Table:
    table = cases.table
    found = {} if record.evidence is None else {e.name: e for e in record.evidence.cases}
    names = () if record.evidence is None else record.evidence.foreground
    has_objects = any(each.objects is not None for each in found.values())
    columns = ["case", *(["fold"] if table.folds else [])]
    if len(table.columns) > 1:
        columns.append(f"mean {table.score}")
    columns += [f"{table.score} {name}" for name in table.columns]
    if has_objects:
        columns += ["true objects", "predicted", "merges", "splits"]
    elif found:
        columns += [f"size error {name}" for name in names]
    rows = []
    for place in cases.places:
        name = table.names[place]
        row: list[Cell] = [Link(name, f"case-{name}") if name in pictured else name]
        row += [str(table.folds[place])] if table.folds else []
        row += [number(cases.scores[place])] if len(table.columns) > 1 else []
        row += [number(value) for value in kept(table)[place]]
        if found:
            row += _evidence_cells(found.get(name), len(names), has_objects=has_objects)
        rows.append(tuple(row))
    caption = "From worst to best. "
    if pictured:
        caption += "A name that is a link leads to its picture. "
    if found and not has_objects:
        caption += "Size error: predicted less true size, as a share of the true one. "
    return Table(tuple(columns), tuple(rows), caption.strip())


def _evidence_cells(case: CaseEvidence | None, classes: int, *, has_objects: bool) -> list[str]:
    if has_objects:
        if case is None or case.objects is None:
            return [DASH] * 4
        one = case.objects
        return [str(n) for n in (one.true, one.predicted, one.merges, one.splits)]
    if case is None:
        return [DASH] * classes
    return [size_error(t, p) for t, p in zip(case.true, case.predicted, strict=True)]


def size_error(true: float, predicted: float) -> str:
    """How much too large or too small, as a signed share; a dash where there is no true size."""
    if not true > 0 or math.isnan(predicted):
        return DASH
    share = predicted / true - 1
    return f"{share:+.1%}" if share < _MANY_TIMES else f"{share:+,.0%}"
