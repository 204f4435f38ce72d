"""The summary of an evaluation as JSON: means, intervals, and the comparison of two sets."""

import json
import math
from pathlib import Path
from typing import Any

from unetseg.evaluation.comparison import Change, Comparison, PairedStatistic
from unetseg.evaluation.outcome import Outcome
from unetseg.evaluation.summaries import Statistic
from unetseg.files import write_text
from unetseg.metrics.objects import COUNTS
from unetseg.metrics.resampling import Interval
from unetseg.records import Label

Values = dict[str, Any]

# As many of the cases with the greatest gains and losses are listed, of each class.
_CHANGES = 10


def write_summary(outcome: Outcome, path: Path) -> None:
    """Write the summary, atomically; null where a number is undefined.

    Raises DataError if the file cannot be written.
    """
    found, resampling = outcome.evaluation, outcome.resampling
    content: Values = {
        "scored": "objects" if found.are_objects else "classes",
        "unit": found.unit or None,
        "cases": len(found.pairs),
        "failed": [name for name, _ in found.failures],
        "intervals": {
            "confidence": resampling.confidence,
            "method": "BCa bootstrap",
            "over": f"{resampling.unit}s",
            "draws": resampling.draws,
            "seed": resampling.seed,
        },
        "classes": [
            {
                **_label(summary.label),
                "metrics": {
                    each.metric: _statistic(each, has_pooled=found.are_objects)
                    for each in summary.statistics
                },
            }
            for summary in outcome.summaries
        ],
    }
    if outcome.comparison is not None:
        content["against"] = _comparison(outcome.comparison)
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _label(label: Label | None) -> Values:
    if label is None:
        return {"label": None, "name": "all"}
    return {"label": label.value, "name": label.name}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _statistic(found: Statistic, *, has_pooled: bool) -> Values:
    values: Values = {
        "mean": _number(found.mean),
        "interval": _interval(found.interval),
        "sd": _number(found.sd),
        "median": _number(found.median),
        "minimum": _number(found.minimum),
        "maximum": _number(found.maximum),
        "worst": _number(found.worst),
        "worst_case": found.worst_case or None,
        "defined": found.defined,
        "cases": found.cases,
    }
    if has_pooled:
        pooled = _number(found.pooled)
        is_count = pooled is not None and found.metric in COUNTS
        values["pooled"] = round(pooled) if is_count and pooled is not None else pooled
        values["pooled_interval"] = _interval(found.pooled_interval)
    return values


def _comparison(found: Comparison) -> Values:
    return {
        "difference": "first less second",
        "correction": "Holm",
        "scored_in_one_set": list(found.missing),
        "rows": [_row(row) for row in found.rows],
        "changed_most": [
            {
                **_label(label),
                "better": [_change(change) for change in gains],
                "worse": [_change(change) for change in losses],
            }
            for label in found.labels
            for gains, losses in [found.changed_most(label, _CHANGES)]
        ],
    }


def _row(row: PairedStatistic) -> Values:
    values: Values = {
        **_label(row.label),
        "metric": row.metric,
        "mean": _number(row.mean),
        "other_mean": _number(row.other_mean),
        "difference": _number(row.difference),
        "interval": _interval(row.interval),
        "p": _number(row.p),
        "p_holm": _number(row.adjusted_p),
        "better": row.wins,
        "equal": row.ties,
        "worse": row.losses,
        "pairs": row.pairs,
        "cases": row.cases,
    }
    if row.pooled is not None:
        values["pooled"] = _number(row.pooled.value)
        values["other_pooled"] = _number(row.pooled.other)
        values["pooled_difference"] = _number(row.pooled.difference)
        values["pooled_interval"] = _interval(row.pooled.interval)
    return values


def _change(change: Change) -> Values:
    return {
        "case": change.case,
        "metric": change.metric,
        "score": change.value,
        "other_score": change.other,
    }
