"""Cases as they are shown: of what is too large for a picture, only every so many voxels."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.loading import load_scan, open_case, with_axes_of_truth
from unetseg.errors import DataError
from unetseg.formats import open_scan, read_mask
from unetseg.geometry import Geometry
from unetseg.records import AS_IT_IS, Case, Mask, Opened, Scan, View

# Longer axes are thinned; of files that are read box by box, boxes of at least this edge.
_LONGEST_EDGE, _LONGEST_CUBE = 4096, 768
_AT_ONCE = 256


def shown(case: Case, masks: Sequence[Path | None] = ()) -> tuple[Scan, tuple[Mask | None, ...]]:
    """The scan of a case and masks that lie on it, whole or thinned alike.

    masks : files; the case's own truth, which must lie on the scan, may be among them. Others were
        written for the scan and have its shape, though not every format holds its geometry

    Raises DataError if a file cannot be read or a mask does not lie on the scan.
    """
    case = with_axes_of_truth(case)
    opened = open_case(case)
    few = thinned(opened) if len(case.images) == 1 else None
    scan = few or load_scan(case)
    found: list[Mask | None] = []
    for path in masks:
        if path is None:
            found.append(None)
            continue
        is_truth = path == case.truth
        view = AS_IT_IS
        if is_truth:
            view = replace(case.view, axes=case.view.mask_axes, channels=(), names=())
        array, geometry = _labels(path, view, is_thinned=few is not None)
        differences = opened.geometry.differences(geometry)
        if differences and (is_truth or geometry.shape != opened.geometry.shape):
            raise DataError(
                f"the mask does not lie on its scan: {'; '.join(differences)}", where=path
            )
        found.append(Mask(array, scan.geometry))
    return scan, tuple(found)


def _labels(
    path: Path, view: View, *, is_thinned: bool
) -> tuple[NDArray[np.integer[Any]], Geometry]:
    """The labels of a mask, thinned if its scan is, and its whole geometry."""
    opened = open_scan(path, view) if is_thinned else None
    few = None if opened is None else thinned(opened)
    if opened is not None and few is not None:
        return few.array[0], opened.geometry
    mask = read_mask(path, is_drawn=False, view=view)
    steps = _steps(mask.geometry.shape) if is_thinned else [1] * mask.geometry.ndim
    return mask.array[tuple(slice(None, None, step) for step in steps)], mask.geometry


def thinned(opened: Opened) -> Scan | None:
    """A scan that is too large to be shown, with fewer voxels; None if it is not.

    Of long axes only every second voxel is taken, or every third and so on, so that the scan is
    never whole in memory.
    """
    shape = opened.geometry.shape
    steps = _steps(shape)
    if max(steps) == 1 or opened.block == shape:
        return None
    sizes = [-(-n // step) for n, step in zip(shape, steps, strict=True)]
    array = np.empty((len(opened.channels), *sizes), opened.dtype)
    # Whole blocks of the file, and whole steps.
    edges = [
        -(-max(edge, _AT_ONCE) // step) * step
        for edge, step in zip(opened.block, steps, strict=True)
    ]
    for corner in product(*(range(0, n, edge) for n, edge in zip(shape, edges, strict=True))):
        box = tuple(
            slice(a, min(a + edge, n)) for a, edge, n in zip(corner, edges, shape, strict=True)
        )
        target = [
            slice(part.start // step, -(-part.stop // step))
            for part, step in zip(box, steps, strict=True)
        ]
        every = [slice(None, None, step) for step in steps]
        array[(slice(None), *target)] = opened.read(box)[(slice(None), *every)]
    geometry = opened.geometry.resampled(sizes)
    return Scan(array, geometry, opened.channels, opened.source, opened.is_picture)


def _steps(shape: Sequence[int]) -> list[int]:
    most = _LONGEST_EDGE if sum(n > 1 for n in shape) < 3 else _LONGEST_CUBE
    return [-(-n // most) for n in shape]
