"""The tables of an evaluation."""

from collections.abc import Sequence

from unetseg.console.tables import print_line, print_numbers
from unetseg.errors import one_line
from unetseg.evaluation import Evaluation, Outcome, Statistic, Summary, summarise
from unetseg.evaluation.comparison import Change, Comparison, PairedStatistic, PooledPair
from unetseg.evaluation.wording import (
    TELLING,
    interval_text,
    label_text,
    metric_text,
    number_text,
    of_intervals,
    of_tests,
    p_text,
)
from unetseg.metrics.objects import COUNTS

# Told above the table: they have no mean worth reading.
_OBJECT_COUNTS = ("true", "predicted", "tp", "fp", "fn")
_INTERVAL = ("95 % interval",)
_STATISTICS = ("sd", "median", "worst", "defined")
# As many cases are named that have become better, and as many that have become worse.
_CHANGES = 3


def print_outcome(outcome: Outcome) -> None:
    """All tables of an evaluation; none if nothing has scores."""
    found, resampling = outcome.evaluation, outcome.resampling
    if not found.scores:
        return
    if found.are_objects:
        print_object_scores(found, outcome.summaries)
    else:
        print_scores(outcome.summaries, found.unit)
    print_line(of_intervals(outcome.summaries, resampling))
    if outcome.comparison is not None:
        _print_comparison(outcome, outcome.comparison)


def print_scores(summaries: Sequence[Summary], unit: str) -> None:
    """The table of the scores of classes, and which case of each class is the worst."""
    has_intervals = _have_intervals(summaries)
    parts = [
        [
            [label_text(summary.label), found.metric, *_cells(found, has_intervals=has_intervals)]
            for found in summary.statistics
        ]
        for summary in summaries
    ]
    numbers = ["mean", *_INTERVAL[: int(has_intervals)], *_STATISTICS]
    print_numbers(f"distances in {unit}" if unit else "", ["class", "metric"], numbers, parts)
    of_classes = [summary for summary in summaries if summary.label is not None]
    _print_worst(of_classes, are_objects=False)


def print_object_scores(found: Evaluation, summaries: Sequence[Summary] = ()) -> None:
    """The table of an evaluation of objects, one row per class and metric, and the counts.

    summaries : of the evaluation, with intervals; made without them if not given
    """
    parts, titles = [], []
    summaries = summaries or summarise(found)
    has_classes, has_intervals = len(found.labels) > 1, _have_intervals(summaries)
    for summary, pooled in zip(summaries, found.pooled, strict=True):
        name = [summary.label.name] if has_classes and summary.label is not None else []
        values = dict(pooled.values)
        true, predicted, tp, fp, fn = (round(values.pop(metric)) for metric in _OBJECT_COUNTS)
        titles.append(
            f"{''.join(f'{word}: ' for word in name)}{true} true and {predicted} predicted objects;"
            f" at an IoU of 0.5 TP {tp}, FP {fp}, FN {fn}"
        )
        rows = []
        for metric, value in values.items():
            statistic = summary[metric]
            shown = [f"{value:.0f}" if metric in COUNTS else f"{value:.4f}"]
            if has_intervals:
                shown.append(interval_text(statistic.pooled_interval, metric))
            rows.append([*name, metric, *shown, *_cells(statistic, has_intervals=has_intervals)])
        parts.append(rows)
    between = _INTERVAL[: int(has_intervals)]
    numbers = ["pooled", *between, "mean", *between, *_STATISTICS]
    words = ["class", "metric"] if has_classes else ["metric"]
    print_numbers("\n".join(map(one_line, titles)), words, numbers, parts)
    _print_worst(summaries, are_objects=True)


def _print_comparison(outcome: Outcome, found: Comparison) -> None:
    """The tables of two sets of masks: differences, and the cases that changed most."""
    are_objects = outcome.evaluation.are_objects
    heads = (
        f"A: {outcome.predicted}",
        f"B: {outcome.against}",
        "of the cases where both are defined",
    )
    names = {row.label: label_text(row.label, are_objects=are_objects) for row in found.rows}
    by_class = [[row for row in found.rows if row.label == label] for label in names]
    numbers = ["A", "B", "A - B", *_INTERVAL, "p", "Holm", "win/tie/loss", "defined"]
    parts = [[[names[row.label], *_row(row)] for row in rows] for rows in by_class]
    print_numbers("\n".join(map(one_line, heads)), ["class", "metric"], numbers, parts)
    print_line(of_tests(found, outcome.resampling))
    pooled = [
        [
            [names[row.label], metric_text(row.metric), *_pooled_cells(row.pooled)]
            for row in rows
            if row.pooled is not None
        ]
        for rows in by_class
    ]
    if any(pooled):
        numbers = ["A", "B", "A - B", *_INTERVAL]
        print_numbers("all images pooled", ["class", "metric"], numbers, pooled)
    changes = [
        [
            [name, change.case, *_change(change)]
            for changes in found.changed_most(label, _CHANGES)
            for change in changes
        ]
        for label, name in names.items()
    ]
    if any(changes):
        metric = found.changes[0].metric
        numbers = [f"{metric} A", f"{metric} B", "A - B"]
        print_numbers("cases that changed most", ["class", "case"], numbers, changes)
    else:
        print_line("no case changed")
    if found.missing:
        print_line(f"scored in one set only: {', '.join(found.missing)}")


def _row(row: PairedStatistic) -> list[str]:
    metric = row.metric
    return [
        metric_text(metric),
        number_text(row.mean, metric),
        number_text(row.other_mean, metric),
        number_text(row.difference, metric, sign="+"),
        interval_text(row.interval, metric, sign="+"),
        p_text(row.p),
        p_text(row.adjusted_p),
        f"{row.wins}/{row.ties}/{row.losses}",
        f"{row.pairs} / {row.cases}",
    ]


def _pooled_cells(pooled: PooledPair) -> list[str]:
    return [
        number_text(pooled.value),
        number_text(pooled.other),
        number_text(pooled.difference, sign="+"),
        interval_text(pooled.interval, sign="+"),
    ]


def _change(change: Change) -> list[str]:
    difference = number_text(change.value - change.other, sign="+")
    return [number_text(change.value), number_text(change.other), difference]


def _print_worst(summaries: Sequence[Summary], *, are_objects: bool) -> None:
    parts = [
        [
            [
                label_text(summary.label, are_objects=are_objects),
                found.metric,
                found.worst_case,
                number_text(found.worst),
            ]
            for found in summary.statistics
            if found.metric in TELLING and found.worst_case and found.cases > 1
        ]
        for summary in summaries
    ]
    if any(parts):
        print_numbers("worst cases", ["class", "metric", "case"], ["score"], parts)


def _have_intervals(summaries: Sequence[Summary]) -> bool:
    return any(each.interval for summary in summaries for each in summary.statistics)


def _cells(found: Statistic, *, has_intervals: bool) -> list[str]:
    metric = found.metric
    interval = [interval_text(found.interval, metric)] if has_intervals else []
    others = (number_text(n, metric) for n in (found.sd, found.median, found.worst))
    return [number_text(found.mean, metric), *interval, *others, f"{found.defined} / {found.cases}"]
