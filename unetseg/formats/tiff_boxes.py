"""Boxes of the image in a TIFF: only the tiles or strips that they touch are read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from unetseg.formats.boxes import read_box, row_block
from unetseg.geometry import Box, sizes_of

# Of the five axes of a page: separate samples, depth, rows, columns, contiguous samples.
_ROWS_AND_COLUMNS = (2, 3)


def box_reader(
    path: Path, tiff: TiffFile, image: TiffPageSeries, shape: Sequence[int]
) -> tuple[tuple[int, ...], Callable[[Box], NDArray[Any]]]:
    """The block in which the image is stored, and what reads a box of it, from any thread.

    tiff : open; the reader opens the file anew
    shape : of the image in the order of the file, axes of size 1 left out but for Y and X
    """
    shape = tuple(shape)
    page = image.keyframe
    inner = tuple(n for k, n in enumerate(page.shaped) if n > 1 or k in _ROWS_AND_COLUMNS)
    outer = shape[: len(shape) - len(inner)]
    if image.dataoffset is not None:
        offset = image.dataoffset
        dtype = image.dtype.newbyteorder(tiff.byteorder)

        def read_plain(box: Box) -> NDArray[Any]:
            with path.open("rb") as file:
                return read_box(file, offset, shape, dtype, box)

        return row_block(shape, dtype.itemsize), read_plain
    fits = shape[len(outer) :] == inner and prod(outer) == len(image.pages)
    if not fits or image.transform is not None:
        position = tiff.series.index(image)

        def read_whole(box: Box) -> NDArray[Any]:
            with TiffFile(path) as again:
                whole = again.series[position].asarray()
            return whole.reshape(shape)[box].copy()

        return shape, read_whole
    stored = _Segments.of(page)
    # None is missing: a file with missing planes has been refused.
    pages = [each for each in image.pages if each is not None]

    def read(box: Box) -> NDArray[Any]:
        lead, rest = box[: len(outer)], iter(box[len(outer) :])
        within = tuple(
            next(rest) if n > 1 or k in _ROWS_AND_COLUMNS else slice(0, 1)
            for k, n in enumerate(page.shaped)
        )
        sizes = sizes_of(within)
        out = np.empty((prod(sizes_of(lead)), *sizes), image.dtype)
        with path.open("rb") as file:
            for place, index in enumerate(product(*(range(a.start, a.stop) for a in lead))):
                number = int(np.ravel_multi_index(index, outer)) if outer else 0
                stored.read(file, pages[number], within, out[place])
        return out.reshape(sizes_of(box))

    edges = (1, *stored.edges, page.shaped[4])
    block = [e for k, e in enumerate(edges) if page.shaped[k] > 1 or k in _ROWS_AND_COLUMNS]
    return (*[1] * len(outer), *block), read


def is_in_boxes(image: TiffPageSeries) -> bool:
    """Whether a smaller copy in a pyramid can be read in boxes: one page, stored as it is shown."""
    return len(image.pages) == 1 and image.transform is None and len(image.shape) in (2, 3)


@dataclass(frozen=True)
class _Segments:
    """The tiles or strips of every page of an image.

    shaped : sizes of a page's five axes
    edges : depth, rows and columns of a segment
    decode : as of TiffPage.decode
    """

    shaped: tuple[int, ...]
    edges: tuple[int, int, int]
    decode: Callable[..., Any]
    jpeg_header: bytes | None
    nodata: float

    @classmethod
    def of(cls, page: TiffPage) -> "_Segments":
        _, depth, rows, columns, _ = page.shaped
        if page.is_tiled:
            edges = page.tiledepth, page.tilelength, page.tilewidth
        else:
            edges = 1, page.rowsperstrip, columns
        return cls(
            page.shaped,
            (min(edges[0], depth), min(edges[1], rows), min(edges[2], columns)),
            page.decode,
            page.jpegheader,
            page.nodata,
        )

    def read(
        self, file: IO[bytes], page: TiffPage | TiffFrame, box: Box, out: NDArray[Any]
    ) -> None:
        """Write the box of the page, five axes, to `out`."""
        options = {"jpegtables": page.jpegtables, "jpegheader": self.jpeg_header}
        for index in self._touched(box):
            data = None
            if index < len(page.dataoffsets) and page.databytecounts[index] > 0:
                file.seek(page.dataoffsets[index])
                data = file.read(page.databytecounts[index])
            values, first, sizes = self.decode(data, index, **options)
            # Where the segment and the box overlap, counted from either.
            there, here = [slice(first[0] - box[0].start, first[0] - box[0].start + 1)], []
            for axis, (start, size) in enumerate(zip(first[1:4], sizes[:3], strict=True), 1):
                low = max(start, box[axis].start)
                high = min(start + size, box[axis].stop)
                there.append(slice(low - box[axis].start, high - box[axis].start))
                here.append(slice(low - start, high - start))
            target = out[(*there, slice(None))]
            target[...] = self.nodata if values is None else values[(*here, box[4])]

    def _touched(self, box: Box) -> Iterator[int]:
        grid = [-(-n // edge) for n, edge in zip(self.shaped[1:4], self.edges, strict=True)]
        ranges = [
            range(axis.start // edge, -(-axis.stop // edge))
            for axis, edge in zip(box[1:4], self.edges, strict=True)
        ]
        for sample in range(box[0].start, box[0].stop):
            for z, y, x in product(*ranges):
                yield ((sample * grid[0] + z) * grid[1] + y) * grid[2] + x
