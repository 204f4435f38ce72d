"""A scan and its mask, box by box: as much at once as memory surely holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.large import Read, boxes_of, is_large, open_mask
from unetseg.dataset.loading import load_scan, with_axes_of_truth
from unetseg.errors import DataError
from unetseg.formats import open_scan
from unetseg.formats.naming import spatial_letters
from unetseg.geometry import Box, Geometry
from unetseg.records import Case, Label, Opened

# About so many voxels in a box.
AT_ONCE = 1 << 21


@dataclass(frozen=True, eq=False)
class Voxels:
    """A scan with its mask, read when they are asked for.

    letters : X, Y, Z, one per array axis
    image : box -> (C, *box)
    labels : box -> (*box) integer
    block : sizes of the boxes in which the scan is stored; the whole shape if it is in memory
    names : what the mask itself calls its values
    """

    geometry: Geometry
    channels: tuple[str, ...]
    letters: str
    image: Read
    labels: Read
    block: tuple[int, ...]
    names: tuple[Label, ...] = ()

    def boxes(self) -> Iterator[Box]:
        """Boxes that cover the scan, whole blocks each, in the order of the file."""
        shape = self.geometry.shape
        edges = _edges(shape, self.block)
        for corner in product(*(range(0, n, e) for n, e in zip(shape, edges, strict=True))):
            yield tuple(
                slice(c, min(c + e, n)) for c, e, n in zip(corner, edges, shape, strict=True)
            )


def open_voxels(case: Case, mask: Path) -> Voxels:
    """The scan of a case, one file or one per channel, and a mask that lies on it.

    Raises DataError if one cannot be read, or with every field in which the grids differ.
    """
    # The mask settles what the axes of a bare TIFF are.
    case = with_axes_of_truth(replace(case, truth=mask))
    files = [open_scan(path, case.view) for path in case.images]
    if is_large(files, sum(len(file.channels) for file in files)):
        geometry, channels, image = _joined(files)
        block = files[0].block
    else:
        scan = load_scan(case)
        geometry, channels = scan.geometry, scan.channels
        image, block = boxes_of(scan.array, geometry.ndim), geometry.shape
    opened = open_mask(mask)
    if found := geometry.differences(opened.geometry):
        raise DataError(
            f"does not lie on its scan {case.images[0].name}: {'; '.join(found)}",
            where=mask,
            hint="give the mask that was made for this scan",
        )
    letters = spatial_letters(files[0])
    return Voxels(geometry, channels, letters, image, opened.read, block, opened.names)


def _edges(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """Whole blocks, doubled along the shortest edge for as long as there is room."""
    edges = [min(b, n) for b, n in zip(block, shape, strict=True)]
    if edges == list(shape):
        # In memory: flat boxes, which lie in one piece.
        edges[0] = max(1, AT_ONCE // prod(edges[1:]))
        return tuple(edges)
    while True:
        growing = [k for k, n in enumerate(shape) if edges[k] < n]
        if not growing or 2 * prod(edges) > AT_ONCE:
            return tuple(edges)
        edges[min(growing, key=lambda k: edges[k])] *= 2


def _joined(files: Sequence[Opened]) -> tuple[Geometry, tuple[str, ...], Read]:
    """Several files of one channel each as one, as `load_scan` has them."""
    first, *others = files
    if not others:
        return first.geometry, first.channels, first.read
    for other in others:
        if found := first.geometry.differences(other.geometry):
            raise DataError(
                f"a channel file lies on another grid than {first.source.path.name}:"
                f" {'; '.join(found)}",
                where=other.source.path,
                hint="resample the channels to one grid",
            )
    if several := [len(file.channels) for file in files if len(file.channels) != 1]:
        raise DataError(
            "a channel file holds several channels",
            where=first.source.path,
            expected=1,
            got=several[0],
        )

    def read(box: Box) -> NDArray[Any]:
        return np.concatenate([file.read(box) for file in files])

    return first.geometry, tuple(map(str, range(len(files)))), read
