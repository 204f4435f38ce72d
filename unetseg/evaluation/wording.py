"""How scores are written where people read them."""

from collections.abc import Sequence
from math import isnan

from unetseg.evaluation.comparison import LEADING, Comparison
from unetseg.evaluation.summaries import Summary
from unetseg.metrics.objects import COUNTS, ERRORS
from unetseg.metrics.resampling import FEWEST, Interval, Resampling
from unetseg.records import Label

# Smaller p-values are not known so well.
_LEAST_P = 0.0001
# Whose worst case is named: those of which one bad value can hide in a good mean.
TELLING = {"dice", "hd95", LEADING[1]}


def number_text(value: float, metric: str = "", *, sign: str = "") -> str:
    """Two digits for means of counts, four for all others; a dash for NaN.

    sign : "+" to have one before positive numbers
    """
    if isnan(value):
        return "-"
    return f"{value:{sign}.{2 if metric in COUNTS else 4}f}"


def interval_text(interval: Interval | None, metric: str = "", *, sign: str = "") -> str:
    """Both ends; a dash where there is no interval."""
    if interval is None:
        return "-"
    ends = [number_text(end, metric, sign=sign) for end in (interval.low, interval.high)]
    # Between numbers that have signs a dash would be one more.
    return (" to " if sign or interval.low < 0 else "\u2013").join(ends)


def p_text(p: float) -> str:
    """A p-value, never as 0; a dash where there is none."""
    if isnan(p):
        return "-"
    return f"<{_LEAST_P:.4f}" if p < _LEAST_P else f"{p:.4f}"


def label_text(label: Label | None, *, are_objects: bool = False) -> str:
    """Value and name of a class; `all` for all of them together.

    are_objects : the classes of objects have no values
    """
    if label is None:
        return "all"
    value = str(label.value)
    if are_objects or label.name in ("", value):
        return label.name or value
    return f"{value} {label.name}"


def metric_text(metric: str) -> str:
    """An error is compared by its size."""
    return f"|{metric}|" if metric in ERRORS else metric


def of_intervals(summaries: Sequence[Summary], resampling: Resampling) -> str:
    """Where the intervals come from, or why there are none."""
    statistics = [each for summary in summaries for each in summary.statistics]
    if not any(each.interval for each in statistics):
        return f"no intervals: they need at least {FEWEST} {resampling.unit}s with a defined score"
    text = (
        f"intervals: {resampling.confidence:.0%}, of the mean, by bootstrap (BCa) over"
        f" {resampling.unit}s, {resampling.draws} draws"
    )
    if not all(each.interval for each in statistics):
        text += f"; - where fewer than {FEWEST} have a defined score"
    return text


def of_tests(comparison: Comparison, resampling: Resampling) -> str:
    """What the p-values are."""
    count = sum(not isnan(row.p) for row in comparison.rows)
    if not count:
        return "p: undefined, no case differs"
    over = "the means of groups" if resampling.group_of else "cases"
    return (
        f"p: Wilcoxon signed-rank test over {over}, two-sided, equal ones left out;"
        f" Holm: corrected for the {count} tests of this table"
    )
