"""How large each class of a mask is."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import DataPlan
from unetseg.geometry import Geometry
from unetseg.records import FileDone

Counts = tuple[tuple[str, int], ...]

# More values than a mask may have need no table of all of them.
_TABLE = 2**16


def class_counts(mask: NDArray[np.integer[Any]], data: DataPlan) -> Counts:
    """Voxels of each class, by name, in a (*S) mask of label values."""
    found: dict[int, int] = {}
    if mask.min() >= 0 and mask.max() < _TABLE:
        # Slice by slice: numpy counts in arrays of eight bytes a voxel.
        totals = np.zeros(int(mask.max()) + 1, np.int64)
        for plane in mask:
            totals += np.bincount(plane.ravel(), minlength=len(totals))
        found = dict(enumerate(totals.tolist()))
    else:
        values, counts = np.unique(mask, return_counts=True)
        found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return tuple(
        (name, sum(found.get(data.label_values[index], 0) for index in indices))
        for name, indices in zip(data.class_names, data.members, strict=True)
    )


class Tally:
    """Voxels of each class, added up part by part."""

    def __init__(self, data: DataPlan) -> None:
        self._data = data
        self._found = dict.fromkeys(data.class_names, 0)

    @property
    def counts(self) -> Counts:
        return tuple(self._found.items())

    def add(self, mask: NDArray[np.integer[Any]]) -> None:
        """Count a part of a mask of label values."""
        for name, count in class_counts(mask, self._data):
            self._found[name] += count


def done_record(
    scans: tuple[Path, ...], mask: Path, geometry: Geometry, counts: Counts
) -> FileDone:
    """What is told of a scan whose mask is there."""
    return FileDone(
        scans,
        mask,
        "done",
        counts=counts,
        voxel_volume=geometry.voxel_volume,
        unit=f"{geometry.unit}^{geometry.ndim}",
    )
