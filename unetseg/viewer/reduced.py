"""Every second voxel of a scan, or every fourth and so on, without the whole in memory."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.large import Read
from unetseg.geometry import Box

# Voxels that are read at once.
_AT_ONCE = 1 << 24


def read_reduced(read: Read, box: Box, steps: Sequence[int], block: Sequence[int]) -> NDArray[Any]:
    """The voxels of a box whose indices in the scan are multiples of the steps.

    read : box -> (..., *box) voxels
    box : starts at multiples of the steps
    block : of the file; it is read in whole ones, some at a time

    Returns (..., *sizes), a new array.
    """
    if all(step == 1 for step in steps):
        return read(box)
    edges = _edges(box, steps, block)
    cuts = [
        range(part.start // edge * edge, part.stop, edge)
        for part, edge in zip(box, edges, strict=True)
    ]
    sizes = [
        -(-part.stop // step) - part.start // step for part, step in zip(box, steps, strict=True)
    ]
    index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
    out: NDArray[Any] | None = None
    for corner in product(*cuts):
        inner = tuple(
            slice(max(a, part.start), min(a + edge, part.stop))
            for a, edge, part in zip(corner, edges, box, strict=True)
        )
        values = read(inner)[index]
        if out is None:
            out = np.empty((*values.shape[: values.ndim - len(box)], *sizes), values.dtype)
        place: tuple[Any, ...] = tuple(
            slice(a.start // step - part.start // step, -(-a.stop // step) - part.start // step)
            for a, step, part in zip(inner, steps, box, strict=True)
        )
        out[(..., *place)] = values
    if out is None:
        raise ValueError(f"a box without voxels: {box}")
    return out


def _edges(box: Box, steps: Sequence[int], block: Sequence[int]) -> list[int]:
    """Sizes of the boxes that are read at once: multiples of the steps and, mostly, of blocks."""
    edges = [
        -(-min(edge, part.stop) // step) * step
        for edge, part, step in zip(block, box, steps, strict=True)
    ]
    # The last axis first, along which most files are stored.
    for axis in reversed(range(len(box))):
        room = _AT_ONCE // max(1, int(np.prod(edges)))
        length = box[axis].stop - box[axis].start
        edges[axis] *= max(1, min(room, -(-length // edges[axis])))
    return edges
