"""Whether labels that differ do so only where two outputs are the same, in exact arithmetic."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from apart import Row
from numpy.typing import NDArray


def compare(
    outputs: Path,
    count: int,
    grid: Sequence[int],
    ours: NDArray[np.integer],
    theirs: NDArray[np.integer],
) -> Row:
    """Two label arrays that were made of the same outputs.

    outputs : (count, *grid) float16, raw
    ours, theirs : (*scan) numbers of outputs

    Returns the share that is equal, and for the voxels that differ how far each label's output
    lies below the other's, interpolated linearly in float64, at most; zero where none differ.
    """
    values = np.memmap(outputs, np.float16, "r", shape=(count, *grid))
    places = np.argwhere(ours != theirs)
    result: Row = {"equal": float((ours == theirs).mean()), "differing": len(places)}
    mine, other = (
        interpolated(values, labels[tuple(places.T)], places, ours.shape)
        for labels in (ours, theirs)
    )
    result["ours_below"] = float(np.max(other - mine, initial=0.0))
    result["theirs_below"] = float(np.max(mine - other, initial=0.0))
    largest = np.abs(np.concatenate([mine, other])).max(initial=0.0)
    result["step"] = float(np.spacing(np.float16(largest)))
    return result


def interpolated(
    values: NDArray[np.float16],
    index: NDArray[np.integer],
    places: NDArray[np.intp],
    scan: Sequence[int],
) -> NDArray[np.float64]:
    """(n,) the output `index` of each voxel `places` (n, axes) of the scan, in float64."""
    low, after = [], []
    for axis, (size, new) in enumerate(zip(values.shape[1:], scan, strict=True)):
        centre = np.clip((places[:, axis] + 0.5) * size / new - 0.5, 0, size - 1)
        first = np.minimum(centre.astype(np.intp), max(0, size - 2))
        low.append(first)
        after.append(centre - first)
    total = np.zeros(len(places))
    for corner in product((0, 1), repeat=len(low)):
        weight = np.prod(
            [a if step else 1 - a for a, step in zip(after, corner, strict=True)], axis=0
        )
        place = [
            np.minimum(first + step, size - 1)
            for first, step, size in zip(low, corner, values.shape[1:], strict=True)
        ]
        total += weight * values[(index, *place)].astype(np.float64)
    return total
