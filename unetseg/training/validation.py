"""Validation on whole cases, on the scan's own grid, by the path that predict takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetseg.config import IGNORED
from unetseg.dataset.loading import load_scan, load_truth, with_channels
from unetseg.metrics import dice_per_class
from unetseg.pipeline import class_indices, prepare
from unetseg.records import Advance, Case, Listener
from unetseg.tasks.segmenting import Segmenter


@dataclass(frozen=True)
class Validation:
    """Dice per case and foreground class; NaN where a class is in neither mask."""

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

    @property
    def mean(self) -> float:
        """Mean over the classes that are defined; NaN if none is."""
        values = [value for value in self.per_class if not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")


def validate(segmenter: Segmenter, cases: Sequence[Case], listener: Listener) -> Validation:
    """Segment every case and compare with its truth."""
    data = segmenter.plan.data
    classes = range(1, len(data.class_values))
    rows = []
    for case in cases:
        scan = with_channels(load_scan(case), data.channels)
        truth = class_indices(load_truth(case, scan.geometry).array, data).numpy()
        outputs = segmenter.outputs(prepare(scan, data))
        mask = segmenter.task.decode(outputs, scan.geometry)
        predicted = class_indices(mask.array, data).numpy()
        known = truth != IGNORED
        rows.append(dice_per_class(truth[known], predicted[known], tuple(classes)))
        listener(Advance(case.name))
    return Validation(tuple(case.name for case in cases), tuple(rows))
