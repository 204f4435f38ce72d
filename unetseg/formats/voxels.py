"""What every format asks of voxel values before they are handed out or written."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError, ShapeMismatch
from unetseg.geometry import whole_box
from unetseg.records import Mask, Opened, Scan

COLOURS = ("red", "green", "blue")
# What is said of a picture beside its axes.
ALPHA = "alpha left out"
EQUAL_COLOURS = "three equal colours read as grey"
PALETTE = "palette expanded to colours"
# Up to this value, marking those that are there is much faster than sorting.
_COUNTED = 1 << 22
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)


def checked_values(array: NDArray[Any]) -> NDArray[Any]:
    """The array in native byte order, bool as uint8; real numbers, all of them finite.

    Raises DataError for complex, structured or non-finite values.
    """
    if array.dtype.kind not in "buif":
        kind = "complex" if array.dtype.kind == "c" else str(array.dtype)
        raise DataError(
            f"{kind} values are not supported",
            hint="save real numbers, for example the magnitude",
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    # The extremes carry any NaN or Inf along: no second array as large as the scan.
    if array.dtype.kind == "f" and not np.isfinite([array.min(), array.max()]).all():
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        raise DataError(
            f"{bad} of {array.size} values are NaN or infinite",
            hint="replace them, for example by 0 or by the background value",
        )
    return array


def values_of(array: NDArray[np.integer[Any]]) -> tuple[int, ...]:
    """The values of a mask but 0, in order."""
    low, high = int(array.min()), int(array.max())
    if low >= 0 and high < _COUNTED:
        flat = array.reshape(-1, order="A")
        is_there = np.zeros(high + 1, np.bool_)
        for part in np.array_split(flat, max(1, flat.size >> 22)):
            is_there[part] = True
        found = np.flatnonzero(is_there)
    else:
        found = np.unique(array)
    return tuple(int(value) for value in found if value)


def grey_or_colours(array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """A picture (C, *S), C = 1 or 3, as one channel if its colours are equal, and the names."""
    if len(array) == 1 or (
        np.array_equal(array[0], array[1]) and np.array_equal(array[0], array[2])
    ):
        return array[:1], ("grey",)
    return array, COLOURS


def smallest_integers(array: NDArray[np.generic]) -> NDArray[np.integer[Any]]:
    """The values in the smallest unsigned type, or signed type if there are negative ones.

    Raises DataError if they need more than 32 bits.
    """
    return array.astype(integer_type(int(array.min()), int(array.max())), copy=False)


def integer_type(low: int, high: int) -> np.dtype[Any]:
    """The smallest type for such values; raises as `smallest_integers` does."""
    for candidate in _INTEGERS:
        limits = np.iinfo(candidate)
        if limits.min <= low and high <= limits.max and (low < 0) == (limits.min < 0):
            return np.dtype(candidate)
    raise DataError(
        "the label values need more than 32 bits",
        got=f"{low}..{high}",
        hint="number the labels anew from 1",
    )


def check_grid(mask: Mask, like: Scan) -> None:
    """Raises ShapeMismatch if the mask does not lie on the grid of the scan."""
    if mask.array.shape != like.geometry.shape:
        raise ShapeMismatch(
            "the mask does not cover the scan",
            where=like.source.path,
            expected=like.geometry.shape,
            got=mask.array.shape,
        )
    differences = mask.geometry.differences(like.geometry)
    if differences:
        raise ShapeMismatch(
            f"the mask does not lie on the scan: {'; '.join(differences)}", where=like.source.path
        )


def too_large(promised: int, there: int) -> DataError:
    """The error for a header that promises `promised` bytes to a file of `there` bytes."""
    return DataError(
        f"the header promises {_size(promised)} of voxels, which {_size(there)} cannot hold",
        hint="the file is damaged or cut short; copy or export it again",
    )


def _size(count: float) -> str:
    units = ["bytes", "KB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}"


def whole(opened: Opened) -> Scan:
    """All voxels of an opened scan."""
    return Scan(
        opened.read(whole_box(opened.geometry.shape)),
        opened.geometry,
        opened.channels,
        opened.source,
        opened.is_picture,
        opened.axes,
    )
