"""Validation on whole cases, on the scan's own grid, by the path that predict takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED, DataPlan
from unetseg.dataset.loading import load_scan, load_truth, with_channels
from unetseg.geometry import Geometry
from unetseg.metrics import dice_per_class
from unetseg.pipeline import class_indices, prepare
from unetseg.records import Advance, Case, Listener, Mask, Scan
from unetseg.tasks.segmenting import Segmenter

Indices = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Validation:
    """Dice per case and foreground class or region, over the voxels whose truth is known.

    NaN where a class is in neither mask, so in all of them where nothing is known.
    """

    names: tuple[str, ...]
    dice: tuple[tuple[float, ...], ...]

    @property
    def per_class(self) -> tuple[float, ...]:
        """Mean over the cases in which the class is defined."""
        table = np.array(self.dice)
        defined = ~np.isnan(table)
        sums = np.where(defined, table, 0).sum(0)
        counts = defined.sum(0)
        return tuple(float(s / n) if n else float("nan") for s, n in zip(sums, counts, strict=True))

    def spread(self, place: int) -> "Spread":
        """Over the cases in which foreground class number `place`, from 0, is defined."""
        column = np.array([row[place] for row in self.dice])
        defined = column[~np.isnan(column)]
        mean = float(defined.mean()) if defined.size else float("nan")
        sd = float(defined.std(ddof=1)) if defined.size > 1 else float("nan")
        return Spread(mean, sd, defined.size)

    @property
    def mean(self) -> float:
        """Mean over the classes that are defined; NaN if none is."""
        values = [value for value in self.per_class if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")

    def facts(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for model.json; NaN has no place in JSON and becomes null."""
        values = [None if np.isnan(dice) else round(dice, 6) for dice in self.per_class]
        mean = None if np.isnan(self.mean) else round(self.mean, 6)
        return {"mean_dice": mean, "dice": dict(zip(classes, values, strict=True))}


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (over n - 1) of the defined cases; NaN for too few of them."""

    mean: float
    sd: float
    defined: int


def validate(segmenter: Segmenter, cases: Sequence[Case], listener: Listener) -> Validation:
    """Segment every case and compare with its truth."""
    rows = []
    for case in cases:
        _, mask = segmented(segmenter, case)
        truth = true_indices(case, mask.geometry, segmenter.plan.data)
        rows.append(case_dice(truth, mask, segmenter.plan.data))
        listener(Advance(case.name))
    return Validation(tuple(case.name for case in cases), tuple(rows))


def segmented(segmenter: Segmenter, case: Case) -> tuple[Scan, Mask]:
    """A case's scan and the mask that the segmenter makes of it."""
    data = segmenter.plan.data
    scan = with_channels(load_scan(case), data.channels)
    return scan, segmenter.mask(prepare(scan, data))


def true_indices(case: Case, geometry: Geometry, data: DataPlan) -> Indices:
    """(*S) class indices of a case's truth, IGNORED where it is not known."""
    indices: Indices = class_indices(load_truth(case, geometry).array, data).numpy()
    return indices


def case_dice(truth: Indices, mask: Mask, data: DataPlan) -> tuple[float, ...]:
    """Dice per foreground class over the voxels whose truth is known.

    truth : (*S) class indices
    """
    predicted = class_indices(mask.array, data).numpy()
    known = truth != IGNORED
    return dice_per_class(truth[known], predicted[known], data.members[1:])
