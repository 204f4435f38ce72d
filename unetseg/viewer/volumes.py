"""Volumes as NIfTI, whatever format they come from: what the page's viewer reads."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.geometry import Geometry

# What a graphics card draws as one texture.
_LONGEST, _MOST_VOXELS = 2048, 1 << 27
_SAMPLED = 1 << 20
_UNITS = {"mm": "mm", "um": "micron", "px": "unknown"}
_SHOWN = (np.uint8, np.int16, np.uint16, np.int32, np.float32)


def steps_of(geometry: Geometry) -> tuple[int, ...]:
    """Which voxels of a volume are shown: all, or every second and so on along some axes."""
    steps = [-(-n // _LONGEST) for n in geometry.shape]
    while prod(_sizes(geometry.shape, steps)) > _MOST_VOXELS:
        # The axis along which the voxels that are left lie closest.
        edges = [edge * step for edge, step in zip(geometry.spacing, steps, strict=True)]
        steps[edges.index(min(edges))] += 1
    return tuple(steps)


def _sizes(shape: Sequence[int], steps: Sequence[int]) -> list[int]:
    return [-(-n // step) for n, step in zip(shape, steps, strict=True)]


def placed(geometry: Geometry, steps: Sequence[int], letters: str) -> Geometry:
    """Where the voxels that are shown lie, axes in the order X, Y, Z.

    letters : of the axes of the geometry. Files with other letters than XYZ are pictures or stacks
        of them, whose rows run down: their Y is shown with its sign turned

    A voxel that is shown lies where it lies in the scan.
    """
    index_map = np.diag([*map(float, steps), 1.0])
    affine = geometry.affine @ index_map
    shown = Geometry(tuple(_sizes(geometry.shape, steps)), affine, geometry.unit)
    if letters == "XYZ":
        return shown
    order = order_of(letters)
    shown = shown.permute(order)
    world = shown.affine[[*order, 3]].copy()
    world[1] *= -1
    return Geometry(shown.shape, world, shown.unit)


def order_of(letters: str) -> tuple[int, ...]:
    """How the axes are brought into the order X, Y, Z."""
    return tuple(letters.index(letter) for letter in "XYZ")


def nifti(array: NDArray[Any], geometry: Geometry) -> tuple[bytes, memoryview]:
    """Header and voxels of an uncompressed NIfTI file.

    array : (X, Y, Z), any real type; values keep their size, types that viewers do not read
        become one that they do
    geometry : of the array

    The header's display range is that of the values, but for the lowest and highest half percent.
    Raises DataError for integers that no such type holds.
    """
    # Only here: an image in tiles has no need of it.
    import nibabel as nib

    voxels = np.asfortranarray(_readable(array))
    header = nib.Nifti1Header(endianness="<")
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header.set_xyzt_units(_UNITS[geometry.unit])
    header.set_sform(geometry.affine, code="aligned")
    header["pixdim"][1:4] = geometry.spacing
    header["cal_min"], header["cal_max"] = display_range(voxels)
    header["scl_slope"] = 1
    header["vox_offset"] = 352
    return header.binaryblock + b"\0\0\0\0", memoryview(voxels.T.data).cast("B")


def display_range(values: NDArray[Any]) -> tuple[float, float]:
    """From dark to bright: the half percent of lowest and of highest values are left out."""
    flat = values.reshape(-1, order="A")
    # Neighbours are alike: a few of them tell as much.
    low, high = np.percentile(flat[:: max(1, flat.size // _SAMPLED)], [0.5, 99.5])
    if high <= low:
        low, high = flat.min(), flat.max()
    return float(low), float(max(high, low + 1e-6))


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    kind = array.dtype.newbyteorder("=")
    if kind in _SHOWN:
        return array.astype(kind, copy=False)
    if kind.kind == "f":
        return array.astype(np.float32)
    if kind == np.bool_:
        return array.astype(np.uint8)
    low, high = int(array.min()), int(array.max())
    for dtype in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise DataError("values too large to be shown", expected="32-bit integers", got=high)
