"""A bare array as a scan."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import DataPlan
from unetseg.errors import DataError
from unetseg.formats.voxels import checked_values
from unetseg.geometry import Geometry, Unit
from unetseg.records import Scan, Source


def scan_of(
    array: NDArray[Any], data: DataPlan, spacing: Sequence[float] | None, unit: Unit | None
) -> Scan:
    """The scan that an array is for a model.

    array : (*S), for a model of one channel, or (C, *S); the number of axes tells which
    spacing : edge lengths per spatial axis; needed where the model has a spacing of its own
    unit : of the spacing; the model's if None

    Raises DataError if it has other axes or channels than the model, or lacks a spacing.
    """
    array = checked_values(np.asarray(array))
    names, axes = data.channels, data.dimensions
    if array.ndim == axes and len(names) == 1:
        array = array[None]
    if array.ndim != axes + 1 or len(array) != len(names):
        is_last = array.ndim == axes + 1 and array.shape[-1] == len(names)
        spatial = "Y, X" if axes == 2 else "3 axes"
        plain = f"({spatial}) or " if len(names) == 1 else ""
        raise DataError(
            "the array does not fit the model",
            expected=f"{plain}({len(names)}, {spatial}), channels first: {', '.join(names)}",
            got=array.shape,
            hint="move the channels with np.moveaxis(array, -1, 0)" if is_last else "",
        )
    return Scan(array, _geometry(array, data, spacing, unit), names, Source(Path("array"), "array"))


def _geometry(
    array: NDArray[Any], data: DataPlan, spacing: Sequence[float] | None, unit: Unit | None
) -> Geometry:
    shape = array.shape[1:]
    if spacing is None:
        if data.spacing or unit not in (None, "px"):
            raise DataError(
                "the array has no spacing",
                expected=f"{len(shape)} edge lengths of a voxel in {unit or data.unit}",
                hint=f"give it, as in spacing={tuple(data.spacing) or (1.0,) * len(shape)}",
            )
        return Geometry.from_spacing(shape, (1.0,) * len(shape), "px")
    lengths = tuple(float(length) for length in spacing)
    if len(lengths) != len(shape) or not all(0 < length < np.inf for length in lengths):
        raise DataError(
            "not the spacing of the array",
            expected=f"{len(shape)} positive edge lengths",
            got=lengths,
        )
    unit = unit or data.unit
    if data.spacing and unit != data.unit:
        raise DataError(
            "the spacing is in another unit than the model's", expected=data.unit, got=unit
        )
    return Geometry.from_spacing(shape, lengths, unit)
