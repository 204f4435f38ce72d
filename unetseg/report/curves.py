"""How a training went: loss, scores, learning rate, and how fast it was."""

from collections.abc import Callable, Sequence
from math import isnan

from unetseg.pages.charts import INK_COLOUR, Axis, Series, lines
from unetseg.pages.parts import Figure, Notice, Part, Section
from unetseg.records import EpochDone
from unetseg.report.columns import FEW, colour, nan_last, title
from unetseg.runs import RunRecord

_STEP = Axis("step")


def curves(record: RunRecord) -> Section:
    """The curves of a run, or of all its folds together."""
    runs = record.folds if record.is_of_folds else (record,)
    parts: list[Part] = list(_charts(record, [run for run in runs if run.history.rows]))
    if not parts:
        parts.append(Notice(("No epoch is done yet: there is nothing to draw.",)))
    return Section("Training", tuple(parts), "training")


def _charts(record: RunRecord, runs: Sequence[RunRecord]) -> Sequence[Figure]:
    if not runs:
        return ()
    steps = record.plan.training.steps_per_epoch
    found = [
        lines(
            "Loss",
            _each(runs, lambda row: row.loss),
            _STEP,
            Axis("loss"),
            caption=f"Mean of the {steps} steps of each epoch.",
        )
    ]
    validated = [run for run in runs if run.history.validated]
    if validated:
        found.append(_scores(record, validated))
    found.append(
        lines(
            "Learning rate",
            _each(runs, lambda row: row.learning_rate),
            _STEP,
            Axis("learning rate", low=0),
            caption="At the end of each epoch.",
        )
    )
    if any(not isnan(row.waiting) for run in runs for row in run.history.rows):
        found += [
            lines(
                "Speed",
                _each(runs, lambda row: row.steps_per_second),
                _STEP,
                Axis("steps per second", low=0),
            ),
            lines(
                "Waiting for data",
                _each(runs, lambda row: row.waiting),
                _STEP,
                Axis("share of the time", low=0, is_share=True),
                caption="While the device had nothing to compute.",
            ),
        ]
    return found


def _each(runs: Sequence[RunRecord], value: Callable[[EpochDone], float]) -> list[Series]:
    """A line for each run; a single one needs no name."""
    return [
        Series(
            run.name,
            tuple(float(row.step) for row in run.history.rows),
            tuple(map(value, run.history.rows)),
        )
        for run in runs
    ]


def _scores(record: RunRecord, runs: Sequence[RunRecord]) -> Figure:
    score, axis = record.score, Axis(record.score, 0, 1)
    if record.is_of_folds:
        series = [
            Series(
                run.name,
                tuple(float(row.step) for row in run.history.validated),
                tuple(row.mean for row in run.history.validated),
            )
            for run in runs
        ]
        caption = "Mean of each fold's own validation cases, on the way."
        return lines(f"Validation {score}", series, _STEP, axis, caption=caption)
    history = runs[0].history
    steps = tuple(float(row.step) for row in history.validated)
    last = history.validated[-1].values
    # Of many classes those that are hardest.
    order = sorted(range(len(history.columns)), key=lambda place: nan_last(last[place]))
    if len(order) > FEW:
        order = order[: FEW - 1]
    series = [
        Series(
            title(record, history.columns[place]),
            steps,
            tuple(row.values[place] for row in history.validated),
            colour(record.plan.data, history.columns[place]),
        )
        for place in sorted(order)
    ]
    if len(history.columns) > 1:
        means = tuple(row.mean for row in history.validated)
        series.append(Series("mean", steps, means, INK_COLOUR))
    best = [row for row in history.rows if row.is_best]
    caption = "On the way, of some or all validation cases."
    if len(order) < len(history.columns):
        caption += (
            f" Of {len(history.columns)} classes the {len(order)} that are lowest at the end."
        )
    if best:
        caption += f" Highest at step {best[-1].step:,}."
    return lines(f"Validation {score}", series, _STEP, axis, caption=caption)
