"""How large each class of a mask is, and how many objects it has."""

from collections import Counter
from math import nan, pi
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import DataPlan
from unetseg.geometry import Geometry
from unetseg.records import FileDone, ObjectCount

Counts = tuple[tuple[str, int], ...]

# More values than a mask may have need no table of all of them.
_TABLE = 2**16


def value_counts(mask: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Voxels of each value of a (*S) mask."""
    if mask.min() >= 0 and mask.max() < _TABLE:
        # Slice by slice: numpy counts in arrays of eight bytes a voxel.
        totals = np.zeros(int(mask.max()) + 1, np.int64)
        for plane in mask:
            totals += np.bincount(plane.ravel(), minlength=len(totals))
        return dict(enumerate(totals.tolist()))
    values, counts = np.unique(mask, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class Tally:
    """Voxels of each value, added up part by part.

    classes : of objects, once it is known; see records.Mask
    """

    def __init__(self, data: DataPlan) -> None:
        self.classes: tuple[int, ...] = ()
        self._data = data
        self._found: Counter[int] = Counter()

    def add(self, mask: NDArray[np.integer[Any]]) -> None:
        """Count a part of a mask of label values or ids."""
        self._found.update(value_counts(mask))

    @property
    def counts(self) -> Counts:
        """Voxels of each class, by name."""
        data, found = self._data, self._found
        if data.has_objects:
            sizes = [found[0], *(sum(each) for _, each in self._by_class())]
            return tuple(zip(data.class_names, sizes, strict=True))
        return tuple(
            (name, sum(found[data.label_values[index]] for index in indices))
            for name, indices in zip(data.class_names, data.members, strict=True)
        )

    def objects(self, geometry: Geometry) -> tuple[ObjectCount, ...]:
        """How many there are of each class; empty where values are no ids."""
        if not self._data.has_objects:
            return ()
        ndim = geometry.ndim
        # Of a circle pi/4 d^2, of a ball pi/6 d^3.
        unit_size = pi / (2 * ndim)
        found = []
        for name, sizes in self._by_class():
            median = float(np.median(sizes)) * geometry.voxel_volume if sizes else nan
            found.append(ObjectCount(name, len(sizes), (median / unit_size) ** (1 / ndim)))
        return tuple(found)

    def _by_class(self) -> list[tuple[str, list[int]]]:
        """The sizes of the objects of each class."""
        data = self._data
        sizes: dict[int, list[int]] = {value: [] for value in data.class_values[1:]}
        for value, count in self._found.items():
            if value and count:
                number = self.classes[value - 1] if self.classes else data.class_values[1]
                # A table that was changed by hand may leave an object without a class.
                sizes.get(number, []).append(count)
        return list(zip(data.class_names[1:], sizes.values(), strict=True))


def done_record(
    scans: tuple[Path, ...], mask: Path, geometry: Geometry, tally: Tally | None = None
) -> FileDone:
    """What is told of a scan whose mask is there.

    tally : of all of the mask; None where nobody has looked at what it holds
    """
    return FileDone(
        scans,
        mask,
        "done",
        counts=() if tally is None else tally.counts,
        voxel_volume=geometry.voxel_volume,
        unit=f"{geometry.unit}^{geometry.ndim}",
        objects=() if tally is None else tally.objects(geometry),
    )
