"""Small files to look at, with known values."""

from pathlib import Path

import nibabel as nib
import numpy as np
import tifffile
from numpy.typing import NDArray

# Not a flip of one another along any axis, oblique, with three edge lengths.
AFFINE = np.array(
    [
        [0.0, -1.5, 0.1, 40.0],
        [0.9, 0.0, 0.0, -20.0],
        [0.0, 0.1, 2.5, 7.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
SHAPE = (16, 20, 12)


def box_mask(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Two boxes side by side, of the values 1 and 3."""
    mask = np.zeros(shape, np.uint8)
    inner = tuple(slice(n // 4, 3 * n // 4) for n in shape[1:])
    mask[(slice(shape[0] // 4, shape[0] // 2), *inner)] = 1
    mask[(slice(shape[0] // 2, 3 * shape[0] // 4), *inner)] = 3
    return mask


def write_volume(folder: Path, affine: NDArray[np.float64] = AFFINE) -> tuple[Path, Path]:
    """A scan with a value of its own for each voxel, and a mask."""
    scan = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    paths = folder / "scan.nii.gz", folder / "mask.nii.gz"
    for path, array in zip(paths, (scan, box_mask(SHAPE)), strict=True):
        nib.save(nib.Nifti1Image(array, affine), path)
    return paths


def write_image(folder: Path, shape: tuple[int, int] = (300, 420)) -> tuple[Path, Path]:
    """A grey image, dark but for noise, and a mask of two classes."""
    rng = np.random.default_rng(0)
    paths = folder / "cells.tif", folder / "cells_seg.tif"
    tifffile.imwrite(paths[0], rng.integers(20, 60, shape, np.uint8))
    tifffile.imwrite(paths[1], box_mask(shape))
    return paths
