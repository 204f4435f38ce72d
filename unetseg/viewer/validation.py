"""The validation cases of a run, from worst to best, with the truth and what was predicted."""

import math
from pathlib import Path

from unetseg.errors import DataError
from unetseg.records import Case, Label
from unetseg.runs import RunRecord, cases_of, read_run
from unetseg.viewer.entries import Entry, Exhibit, Layer


def of_run(folder: Path) -> Exhibit:
    """What `view` shows of a run.

    Raises ModelError if it is no run, DataError if none of its validation cases is there any more.
    """
    record = read_run(folder)
    found = cases_of(record)
    if not found.cases:
        raise DataError(
            "no validation case of the run is there",
            where=folder,
            got=found.reason,
            hint="bring the data back to where they were",
        )
    scores = _scores(record)
    entries = [_entry(case, record, scores.get(case.name, ())) for case in found.cases]
    entries.sort(key=_worst_first)
    data = record.plan.data
    labels: tuple[Label, ...] = ()
    if not data.has_objects and not data.regions and not data.merge_labels:
        # The values of regions stand for other things in the truth than in what is predicted.
        labels = tuple(map(Label, data.class_values, data.class_names))
    has_objects = None if data.merge_labels else data.has_objects
    return Exhibit(record.name, tuple(entries), labels, has_objects)


def _scores(record: RunRecord) -> dict[str, tuple[tuple[str, float], ...]]:
    """By case: the mean, then the score of each class, region or IoU."""
    table = record.validation
    if table is None:
        return {}
    mean = f"mean {table.score}"
    rows = zip(table.names, table.means, table.values, strict=True)
    return {
        name: ((mean, average), *zip(table.columns, values, strict=True))
        for name, average, values in rows
    }


def _entry(case: Case, record: RunRecord, scores: tuple[tuple[str, float], ...]) -> Entry:
    layers, notes = [], []
    if case.truth is not None:
        layers.append(Layer(case.truth, "truth"))
    mask = record.masks.get(case.name)
    if mask is not None:
        layers.append(Layer(mask, "predicted"))
    elif record.state == "running":
        notes.append("The run goes on: what it predicts is kept at its end.")
    else:
        notes.append("The run has kept no mask of this case; only the truth is shown.")
    return Entry(case, tuple(layers), scores, tuple(notes))


def _worst_first(entry: Entry) -> tuple[bool, float]:
    """Cases without a score come last."""
    mean = entry.scores[0][1] if entry.scores else math.nan
    return (math.isnan(mean), mean)
