"""Whether the numbers of a label file are labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats.voxels import smallest_integers
from unetseg.records import Mask, Scan

# Labels that went through a rescaling header or float arithmetic miss their integer by less.
_ROUNDING = 1e-4

_SLAB_VOXELS = 1 << 22
_MOST_SLABS = 8
_FEWEST_GREYS = 8
_MOST_INTERIOR = 0.02
_LEAST_RAMP = 0.4
_LEAST_REPEATED = 1 / 3


def checked_labels(scan: Scan, *, is_drawn: bool = True) -> Mask:
    """The mask that a label file holds, as read by `Format.read_labels`.

    is_drawn : somebody's truth, in which grey values are a mistake; a network's may look odd

    Integers keep their type; bool becomes uint8; floats become the smallest integer type.

    Raises DataError if the file is lossy, coloured, has several channels, fractional values, or
    looks like a mask that was blurred by interpolation.
    """
    where = scan.source.path
    lossy = getattr(scan.source.header, "lossy", "")
    if lossy:
        raise DataError(
            f"{lossy} is lossy: the labels are not the ones that were drawn",
            where=where,
            hint="export the mask again as PNG, TIFF or NIfTI",
        )
    if scan.is_picture and len(scan.array) == 3:
        raise DataError(
            "a colour image cannot serve as a mask",
            where=where,
            expected="one number per pixel",
            got="red, green and blue",
            hint="save the label numbers as grey values or as a palette",
        )
    if len(scan.array) != 1:
        raise DataError(
            "several channels cannot serve as a mask",
            where=where,
            expected="one channel",
            got=len(scan.array),
            hint="save one label number per voxel",
        )
    array = _integers(scan.array[0], scan)
    if is_drawn and any(_is_blurred(slab) for slab in _slabs(array)):
        raise DataError(
            "looks like grey values, not labels: many values that occur along edges only",
            where=where,
            expected="areas of equal label numbers",
            got=f"values from {array.min()} to {array.max()}",
            hint="if the mask was resized, do so again with nearest-neighbour interpolation",
        )
    return Mask(array, scan.geometry)


def _integers(array: NDArray[Any], scan: Scan) -> NDArray[np.integer[Any]]:
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind in "ui":
        return array
    whole = np.rint(array)
    fractional = np.abs(array - whole) > _ROUNDING
    count = int(np.count_nonzero(fractional))
    if count:
        raise DataError(
            f"fractional values, e.g. {float(array[fractional][0]):.4g}, in {count} "
            f"of {array.size} voxels",
            where=scan.source.path,
            hint="save whole label numbers; if the mask was resampled, do so again with "
            "nearest-neighbour interpolation",
        )
    return smallest_integers(whole)


def _slabs(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Up to 8 blocks of neighbouring planes, spread over the mask: bounds time and memory."""
    array = np.moveaxis(array, int(np.argmax(np.abs(array.strides))), 0)
    planes = max(2, _SLAB_VOXELS // max(1, array[0].size))
    starts = range(0, len(array), planes)
    step = -(-len(starts) // _MOST_SLABS)
    for start in starts[::step]:
        yield array[start : start + planes]


def _is_blurred(array: NDArray[Any]) -> bool:
    """Whether most values between the extremes look like the greys of a smooth edge.

    Such a grey (1) fills no area: fewer than 2 % of its voxels have direct neighbours of the
    same value only; (2) lies on a ramp: a neighbour is lower and another one higher; (3) turns
    up in several places. Small instances satisfy (1), touching ones perhaps (2), but an
    instance is in one place; classes of thin or scattered structures lack (2).
    """
    values, counts = np.unique(array, return_counts=True)
    if len(values) < _FEWEST_GREYS + 2:
        return False
    inverse = np.searchsorted(values, array)
    alone, lower, higher = _neighbours(inverse)
    interior = np.bincount(inverse[~alone], minlength=len(values))
    is_grey = interior < _MOST_INTERIOR * counts
    is_grey[[0, -1]] = False
    greys = int(np.count_nonzero(is_grey))
    if greys < max(_FEWEST_GREYS, (len(values) - 2) / 2):
        return False
    on_edge = is_grey[inverse]
    if np.count_nonzero((lower & higher)[on_edge]) < _LEAST_RAMP * np.count_nonzero(on_edge):
        return False
    from skimage.measure import label

    # Index 0 is the lowest value and never grey, so that it can stand for "not grey".
    places = label(np.where(on_edge, inverse, 0), background=0, connectivity=array.ndim)
    first = np.unique(places, return_index=True)[1]
    repeated = np.bincount(inverse.ravel()[first], minlength=len(values))[is_grey] > 1
    return bool(np.count_nonzero(repeated) >= _LEAST_REPEATED * greys)


def _neighbours(
    array: NDArray[Any],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Per voxel: has it a direct neighbour with another, with a lower, with a higher value."""
    lower = np.zeros(array.shape, np.bool_)
    higher = np.zeros(array.shape, np.bool_)
    for axis in range(array.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        rises = array[before] < array[after]
        falls = array[before] > array[after]
        higher[before] |= rises
        lower[after] |= rises
        lower[before] |= falls
        higher[after] |= falls
    return lower | higher, lower, higher
