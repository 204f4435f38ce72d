"""Validation on whole cases, on the scan's own grid, by the path that predict takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetseg.config import Plan
from unetseg.dataset.loading import load_scan, with_channels, without_voxels
from unetseg.pipeline import prepare
from unetseg.records import Advance, Case, Listener, Mask, Scan
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import Indices
from unetseg.tasks.pieces import together
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.codes import Codes
from unetseg.training.evidence import Gathering, Leaving
from unetseg.training.scores import Compared, Row, Score, score_of


@dataclass(frozen=True)
class Validation:
    """What each case gives to the score, over the voxels whose truth is known.

    names : of the cases
    rows : a row for each case, see `Score`
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    score: Score

    @property
    def values(self) -> tuple[float, ...]:
        """Of each of the score's columns; NaN where nothing is defined."""
        return self.score.values(self.rows)

    @property
    def cases(self) -> tuple[tuple[float, ...], ...]:
        """Of each case, for each of the score's columns."""
        return tuple(map(self.score.of_case, self.rows))

    def spread(self, place: int) -> "Spread":
        """Over the cases in which column number `place`, from 0, is defined."""
        column = np.array([values[place] for values in self.cases])
        defined = column[~np.isnan(column)]
        sd = float(defined.std(ddof=1)) if defined.size > 1 else float("nan")
        return Spread(self.values[place], sd, defined.size)

    @property
    def mean(self) -> float:
        """Mean over the columns that are defined; NaN if none is."""
        values = [value for value in self.values if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")

    def facts(self) -> dict[str, Any]:
        """Plain values for model.json; NaN has no place in JSON and becomes null."""
        score = self.score
        values = [None if np.isnan(value) else round(value, 6) for value in self.values]
        mean = None if np.isnan(self.mean) else round(self.mean, 6)
        table = dict(zip(score.columns, values, strict=True))
        return {f"mean_{score.key}": mean, score.key: table}


@dataclass(frozen=True)
class Spread:
    """The value of a column, and the standard deviation (over n - 1) of the defined cases.

    sd : NaN for too few of them
    """

    mean: float
    sd: float
    defined: int


@dataclass(frozen=True, eq=False)
class Segmented:
    """A case as it was segmented.

    like : its scan, without the voxels
    indices : (*S) numbers of classes, as of Task.indices
    """

    like: Scan
    indices: Indices
    mask: Mask
    compared: Compared


def segmented(
    segmenter: Segmenter, case: Case, score: Score, gathering: Gathering | None = None
) -> Segmented:
    """Segment a case and compare with its truth.

    gathering : of evidence, is shown what the network says, though not yet the mask
    """
    data, task = segmenter.plan.data, segmenter.task
    scan = with_channels(load_scan(case), data.channels)
    prepared, like = prepare(scan, data), without_voxels(scan)
    del scan
    truth = score.truth(case, like.geometry, data)
    if gathering is None:
        indices = segmenter.indices(prepared)
    elif data.has_objects:
        indices = segmenter.indices(prepared)
        gathering.watch_codes(indices, truth)
    else:
        pieces = segmenter.pieces(prepared, probabilities=True, only_likeliest=not data.regions)
        indices = together(gathering.watched(pieces, truth), like.geometry.shape)
    mask = task.mask(indices, like.geometry)
    return Segmented(like, indices, mask, score.compared(truth, mask, data))


def validate(
    segmenter: Segmenter,
    cases: Sequence[Case],
    listener: Listener,
    codes: Codes | None = None,
    leaving: Leaving | None = None,
) -> Validation:
    """Segment every case and compare with its truth.

    codes : keep what is said of the cases, by their place among them
    leaving : takes the masks and what they show
    """
    score, rows = score_of(segmenter.plan), []
    for number, case in enumerate(cases):
        found = segmented(segmenter, case, score, leaving.gathering if leaving else None)
        if codes is not None:
            codes.put(number, found.indices, found.like)
        if leaving is not None:
            leaving.take(case, found.mask, found.compared, found.like)
        rows.append(found.compared.row)
        listener(Advance(case.name))
    return Validation(tuple(case.name for case in cases), tuple(rows), score)


def validate_again(
    plan: Plan, cases: Sequence[Case], codes: Codes, leaving: Leaving | None
) -> Validation:
    """The validation of what was kept of the cases, decoded as the plan says; see `validate`."""
    score, task, rows = score_of(plan), make_task(plan), []
    for number, case in enumerate(cases):
        indices, like = codes.get(number)
        truth = score.truth(case, like.geometry, plan.data)
        mask = task.mask(indices, like.geometry)
        compared = score.compared(truth, mask, plan.data)
        if leaving is not None:
            leaving.gathering.watch_codes(indices, truth)
            leaving.take(case, mask, compared, like)
        rows.append(compared.row)
    return Validation(tuple(case.name for case in cases), tuple(rows), score)
