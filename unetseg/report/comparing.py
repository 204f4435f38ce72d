"""The page of runs side by side."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta

from unetseg.colours import LINES, RGB
from unetseg.dataset.listing import counted
from unetseg.pages.charts import Axis, Group, Series, lines, scatter, strips
from unetseg.pages.parts import Figure, Notice, Page, Part, Prose, Section, Table
from unetseg.records import EpochDone
from unetseg.runs.comparing import (
    Compared,
    Comparison,
    difference_text,
    score_text,
    value_text,
)
from unetseg.runs.tables import History


def page_of(comparison: Comparison) -> Page:
    """The page of a comparison."""
    names = sorted({run.record.data_name for run in comparison.runs} - {""})
    on = f" on {', '.join(names)}" if names else ""
    number = counted(len(comparison.cases), "case")
    sections = [
        Section("Runs", (*_remarks(comparison), _runs(comparison))),
        Section("Scores", tuple(_scores(comparison))),
        Section("Curves", tuple(_curves(comparison.runs))),
        Section("Case by case", tuple(_cases(comparison))),
        Section("Plans", (_plans(comparison),)),
    ]
    return Page(
        " and ".join(run.label for run in comparison.runs)
        if len(comparison.runs) == 2
        else f"{len(comparison.runs)} runs side by side",
        f"{len(comparison.runs)} runs{on}; {number} validated by all",
        tuple(section for section in sections if section.parts),
    )


def _remarks(comparison: Comparison) -> tuple[Part, ...]:
    found = comparison.remarks()
    return (Notice(found),) if found else ()


def _colour(comparison: Sequence[Compared], run: Compared) -> RGB:
    return LINES[comparison.index(run) % len(LINES)]


def _runs(comparison: Comparison) -> Table:
    rows = []
    # One data set stands above, in the title.
    has_several = len({run.record.data_name for run in comparison.runs}) > 1
    for run in comparison.runs:
        record, network = run.record, run.record.plan.network
        steps = record.facts.step if record.facts else None
        rows.append(
            (
                run.label,
                *((record.data_name,) if has_several else ()),
                f"{record.score} {score_text(record.mean)}",
                str(run.own),
                str(timedelta(seconds=round(record.seconds))),
                "" if steps is None else str(steps),
                network.encoder,
                network.skip,
                record.state,
            )
        )
    columns = ("own score", "own cases", "time", "steps", "encoder", "skip", "state")
    return Table(("run", *(("data",) if has_several else ()), *columns), tuple(rows))


def _scores(comparison: Comparison) -> list[Part]:
    if not comparison.cases:
        return []
    first, *others = comparison.runs
    kind = "IoU" if comparison.score == "AP" else "class"
    rows = []
    for place, column in enumerate(comparison.columns):
        found = [run.mean(place) for run in comparison.runs]
        cells = [f"{score_text(each.mean)}" for each in found]
        cells += [difference_text(comparison.difference(run, place)) for run in others]
        rows.append((column, *cells, f"{min(each.defined for each in found)}"))
    means = [score_text(run.overall) for run in comparison.runs]
    means += [difference_text(comparison.difference(run)) for run in others]
    rows.append(("mean", *means, f"{len(comparison.cases)}"))
    heads = [run.label for run in comparison.runs]
    heads += [f"{run.label} less {first.label}" for run in others]
    caption = (
        f"Mean {comparison.score} over the cases that all runs validated; differences are paired,"
        " case by case, with the 95 % interval of a bootstrap over the cases."
    )
    if comparison.score == "AP":
        caption += " AP is taken in each image, then averaged: not that of all objects together."
    table = Table((kind, *heads, "defined"), tuple(rows), caption, is_sortable=False)
    groups = [Group(run.label, run.means, _colour(comparison.runs, run)) for run in comparison.runs]
    figure = strips(
        f"{comparison.score} of every case",
        groups,
        Axis(comparison.score),
        caption="A point is a case, the box holds the middle half, the line is the median.",
    )
    return [table, figure]


def _curves(runs: Sequence[Compared]) -> list[Figure]:
    """Loss and score, each over steps and over time."""
    scores = {run.record.score for run in runs}
    name = scores.pop() if len(scores) == 1 else "score"
    steps, hours = Axis("steps", low=0), Axis(_unit(runs), low=0)
    seconds = 3600 if _unit(runs) == "hours" else 60
    found = []
    for what, value in (("Loss", _loss), (name, _mean)):
        for axis, along in ((steps, _step), (hours, _time(seconds))):
            series = [
                Series(label, *_points(history, along, value), _colour(runs, run))
                for run in runs
                for label, history in _histories(run)
            ]
            if any(each.x for each in series):
                title = f"{what} over {'steps' if axis is steps else 'time'}"
                found.append(lines(title, [s for s in series if s.x], axis, Axis(what)))
    return found


def _unit(runs: Sequence[Compared]) -> str:
    return "hours" if max(run.record.seconds for run in runs) > 7200 else "minutes"


def _histories(run: Compared) -> list[tuple[str, History]]:
    """The history of a run, or that of each of its folds."""
    if not run.record.is_of_folds:
        return [(run.label, run.record.history)]
    return [(f"{run.label} {fold.path.name}", fold.history) for fold in run.record.folds]


def _loss(row: EpochDone) -> float:
    return row.loss


def _mean(row: EpochDone) -> float:
    return row.mean


def _step(row: EpochDone) -> float:
    return float(row.step)


def _time(seconds: float) -> Callable[[EpochDone], float]:
    return lambda row: row.seconds / seconds


def _points(
    history: History, along: Callable[[EpochDone], float], value: Callable[[EpochDone], float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    rows = [row for row in history.rows if math.isfinite(value(row))]
    return tuple(map(along, rows)), tuple(map(value, rows))


def _cases(comparison: Comparison) -> list[Part]:
    if not comparison.cases:
        return []
    first, *others = comparison.runs
    changes = [
        [mine - theirs for mine, theirs in zip(run.means, first.means, strict=True)]
        for run in others
    ]
    groups = [
        Group(run.label, tuple(each), _colour(comparison.runs, run))
        for run, each in zip(others, changes, strict=True)
    ]
    parts: list[Part] = [
        strips(
            f"Difference from {first.label}, case by case",
            groups,
            Axis(f"difference in {comparison.score}"),
            caption="To the right of 0 a case is better.",
        )
    ]
    if len(others) == 1:
        series = [Series("", first.means, others[0].means, _colour(comparison.runs, others[0]))]
        axes = Axis(first.label), Axis(others[0].label)
        caption = f"A point is a case; above the line {others[0].label} is better."
        title = f"{comparison.score} against {comparison.score}"
        parts.append(scatter(title, series, *axes, caption=caption, line="equal"))
    rows = []
    for number, case in enumerate(comparison.cases):
        cells = [score_text(run.means[number]) for run in comparison.runs]
        cells += [_signed(each[number]) for each in changes]
        rows.append((_least(number, changes), (case, *cells)))
    # The cases that lost the most come first.
    rows.sort(key=lambda row: row[0])
    heads = [run.label for run in comparison.runs]
    heads += [f"{run.label} less {first.label}" for run in others]
    caption = f"Mean {comparison.score} of every case, those first that lose the most."
    parts.append(Table(("case", *heads), tuple(row for _, row in rows), caption))
    return parts


def _least(number: int, changes: Sequence[Sequence[float]]) -> float:
    found = [each[number] for each in changes if not math.isnan(each[number])]
    return min(found, default=math.inf)


def _signed(value: float) -> str:
    return score_text(value) if math.isnan(value) else f"{value:+.4f}"


def _plans(comparison: Comparison) -> Part:
    if not comparison.differences:
        return Prose(("The plans of the runs are the same.",))
    rows = tuple(
        (key, *(value_text(value) or "-" for value in values))
        for key, values in comparison.differences
    )
    heads = tuple(run.label for run in comparison.runs)
    return Table(("plan value", *heads), rows, "Only the values that differ.", is_sortable=False)
