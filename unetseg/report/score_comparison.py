"""Two sets of masks compared case by case: differences, and the cases that changed most."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from unetseg.errors import UnetsegError, one_line
from unetseg.evaluation.comparison import Change, Comparison, PairedStatistic, PooledPair
from unetseg.evaluation.wording import (
    interval_text,
    label_text,
    metric_text,
    number_text,
    of_tests,
    p_text,
)
from unetseg.metrics.resampling import Interval
from unetseg.pages.charts import Axis, Group, Series, scatter, strips
from unetseg.pages.parts import Cell, Figure, Gallery, Notice, Part, Prose, Section, Table
from unetseg.records import Label
from unetseg.report.score_charts import FEW, colour_of, dashed
from unetseg.report.score_pictures import Pictured

Named = Callable[[Label], str]

# As many cases are shown that A does better, and as many that B does.
_CHANGES = 3


def comparison(made: Pictured, found: Comparison) -> Section:
    """The section of the comparison, of A against B."""
    outcome = made.outcome
    tests = of_tests(found, outcome.resampling)
    name = partial(label_text, are_objects=outcome.evaluation.are_objects)
    rows = [(name(row.label), *_row(row)) for row in found.rows]
    parts: list[Part] = [
        Prose(
            (
                f"A is {one_line(outcome.predicted)}, B is {one_line(outcome.against)}. Every"
                " difference is A less B, over the cases where the score is defined in both.",
                f"{tests}. A win is a case in which A is better.",
            )
        ),
        _table(_COLUMNS, rows, "A against B"),
    ]
    pooled = [
        (name(row.label), metric_text(row.metric), *_pooled(row.pooled))
        for row in found.rows
        if row.pooled is not None
    ]
    if pooled:
        parts.append(_table(_POOLED, pooled, "All images pooled"))
    parts += _figures(found, name, are_objects=outcome.evaluation.are_objects)
    parts += _changed(made, found, name)
    if found.missing:
        parts.append(Notice((f"Scored in one set only: {', '.join(found.missing)}.",), "warning"))
    return Section("Comparison", tuple(parts), "comparison")


_COLUMNS = (
    *("class", "metric", "A", "B", "A \u2212 B (95 %)", "p", "p (Holm)"),
    *("win / tie / loss", "defined / cases"),
)
_POOLED = ("class", "metric", "A", "B", "A \u2212 B (95 %)")


def _table(columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]], caption: str) -> Table:
    """Without the column of classes where there is only one."""
    first = 1 if len({row[0] for row in rows}) == 1 else 0
    return Table(columns[first:], tuple(row[first:] for row in rows), caption)


def _row(row: PairedStatistic) -> tuple[Cell, ...]:
    metric = row.metric
    return (
        metric_text(metric),
        dashed(number_text(row.mean, metric)),
        dashed(number_text(row.other_mean, metric)),
        _difference(row.difference, row.interval, metric),
        dashed(_p(row.p)),
        dashed(_p(row.adjusted_p)),
        f"{row.wins} / {row.ties} / {row.losses}",
        f"{row.pairs} / {row.cases}",
    )


def _difference(value: float, interval: Interval | None, metric: str = "") -> str:
    text = number_text(value, metric, sign="+")
    if interval is not None:
        text += f" ({interval_text(interval, metric, sign='+')})"
    return dashed(text)


def _p(value: float) -> str:
    """Small ones with their power of ten, so that a column of them can be sorted."""
    return f"{value:.1e}" if value < 0.0001 else p_text(value)


def _pooled(pooled: PooledPair) -> tuple[Cell, ...]:
    return (
        dashed(number_text(pooled.value)),
        dashed(number_text(pooled.other)),
        _difference(pooled.difference, pooled.interval),
    )


def _figures(found: Comparison, name: Named, *, are_objects: bool) -> list[Figure]:
    """Each case in both sets, and how much it changed."""
    if not found.changes:
        return []
    metric = found.changes[0].metric
    series, groups = [], []
    for label in found.labels[:FEW]:
        own = [change for change in found.changes if change.label == label]
        colour = colour_of(label, are_objects=are_objects)
        before = tuple(change.other for change in own)
        after = tuple(change.value for change in own)
        series.append(Series(name(label), before, after, colour))
        gains = tuple(change.value - change.other for change in own)
        groups.append(Group(name(label), gains, colour))
    return [
        scatter(
            f"{metric} of each case",
            series,
            Axis(f"{metric}, B"),
            Axis(f"{metric}, A"),
            caption="Above the line A is better.",
            line="equal",
        ),
        strips(
            f"Change of {metric}",
            groups,
            Axis(f"{metric}, A less B"),
            caption="Right of 0 A is better.",
        ),
    ]


def _changed(made: Pictured, found: Comparison, name: Named) -> Iterator[Part]:
    """The cases that changed most, each with the outlines of A and of B."""
    outcome = made.outcome
    if outcome.other is None:
        return
    sides = [
        {case: path for case, _, path in each.pairs} for each in (outcome.evaluation, outcome.other)
    ]
    most = list(_most(found))
    if not most:
        yield Prose(("No case changed.",))
        return
    metric = most[0][1].metric
    rows = [
        (
            change.case,
            name(change.label),
            word,
            number_text(change.value),
            number_text(change.other),
            number_text(change.value - change.other, sign="+"),
        )
        for word, change in most
    ]
    columns = ("case", "class", "A is", f"{metric} A", f"{metric} B", "A \u2212 B")
    yield Table(columns, tuple(rows), "Cases that changed most")
    missing = []
    for word, change in most:
        of_class = f", class {name(change.label)}" if len(found.labels) > 1 else ""
        told = f"{change.case}{of_class}: A is {word}"
        try:
            drawn = [
                made.picture(
                    change.case, masks[change.case], f"{side}: {metric} {number_text(value)}"
                )
                for side, value, masks in zip(
                    "AB", (change.value, change.other), sides, strict=True
                )
            ]
        except UnetsegError as error:
            missing.append(f"No picture: {error}.")
        else:
            yield Gallery(tuple(drawn), told)
    if missing:
        yield Notice(tuple(missing), "warning")


def _most(found: Comparison) -> Iterator[tuple[str, Change]]:
    """Over all classes, each case once: where A gains most, then where it loses most."""
    for word, sign, changes in (
        ("better", 1, found.changes),
        ("worse", -1, found.changes[::-1]),
    ):
        taken: dict[str, Change] = {}
        for change in changes:
            if sign * change.gain > 0:
                taken.setdefault(change.case, change)
        for change in list(taken.values())[:_CHANGES]:
            yield word, change
