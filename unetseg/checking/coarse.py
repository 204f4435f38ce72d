"""Cases on one small grid, whatever their size, so that they can be compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.geometry import Geometry

# About ten thousand places in each case.
GRIDS = {2: (96, 96), 3: (24, 24, 24)}
# What lies beyond these percentiles is clipped: specks must not set the scale.
_CLIPPED = (1.0, 99.0)


def coarse(array: NDArray[Any], grid: Sequence[int]) -> NDArray[np.float32]:
    """(..., *S) -> (..., *grid): means over blocks of voxels; repeated where there are too few."""
    result: NDArray[Any] = array
    first = array.ndim - len(grid)
    # The longest axis first: what is left to do shrinks most.
    for axis in sorted(range(len(grid)), key=lambda axis: -array.shape[first + axis]):
        size, count = array.shape[first + axis], grid[axis]
        starts = np.arange(count) * size // count
        widths = np.maximum(1, np.diff(starts, append=size))
        shape = [1] * array.ndim
        shape[first + axis] = count
        sums = np.add.reduceat(result, starts, axis=first + axis, dtype=np.float32)
        result = sums / widths.reshape(shape).astype(np.float32)
    return result.astype(np.float32, copy=False)


def turned(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """(..., *S) with the axes in the order and direction of the body's."""
    order, flips = geometry.canonical()
    before = array.ndim - geometry.ndim
    moved = array.transpose(*range(before), *(before + axis for axis in order))
    return np.flip(moved, tuple(before + axis for axis in flips))


def scaled(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Mean 0 and deviation 1, after clipping; zeros if there is nothing but one value."""
    low, high = np.percentile(values, _CLIPPED)
    clipped = np.clip(values, low, high).astype(np.float64)
    deviation = clipped.std()
    # Where rounding is all there is, it is not blown up to a picture.
    if not deviation > 1e-6 * max(abs(low), abs(high)):
        return np.zeros(values.shape, np.float16)
    result: NDArray[np.float16] = ((clipped - clipped.mean()) / deviation).astype(np.float16)
    return result


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows with mean 0 and length 1, so that products of rows are correlations."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    result: NDArray[np.float32] = centred / np.maximum(lengths, 1e-6)
    return result
