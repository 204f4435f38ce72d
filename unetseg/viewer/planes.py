"""2-D images in tiles, at full size and halved again and again, read as they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log2, prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.large import Read
from unetseg.errors import DataError
from unetseg.geometry import Box, whole_box
from unetseg.viewer.reduced import read_reduced

TILE = 256
# What has fewer values, or is stored in one piece, is read once and kept.
_SMALL = 1 << 24


@dataclass(frozen=True)
class Place:
    """A tile: `level` times halved, in rows and columns of tiles."""

    level: int
    row: int
    column: int


@dataclass(frozen=True)
class Stored:
    """An array (..., rows, columns) in a file or in memory.

    shape : rows and columns
    read : box of rows and columns -> (..., *box) values
    block : in which the file stores them
    """

    shape: tuple[int, int]
    read: Read
    block: tuple[int, int]


class Plane:
    """An image (..., rows, columns) that is read tile by tile.

    smaller : copies that the file holds too, see `halvings`

    Level k has every 2**k-th pixel, from the first, or is made of a smaller copy. The last level
    fits a tile.
    """

    def __init__(self, stored: Stored, smaller: Sequence[Stored] = ()) -> None:
        self.shape = stored.shape
        self._stored = {0: stored}
        for each in smaller:
            halved = halvings(stored.shape, each.shape)
            if halved:
                self._stored[halved] = each
        self._lock = Lock()
        self._whole: NDArray[Any] | None = None

    @cached_property
    def levels(self) -> int:
        return 1 + max(0, ceil(log2(max(self.shape) / TILE)))

    def tile(self, place: Place, margin: int = 0) -> NDArray[Any]:
        """(..., h, w) values; at the lower and right edge less than TILE pixels.

        margin : so many rows and columns of the tiles to the right and below are in it too

        Raises DataError if there is no such tile or the file is damaged.
        """
        if not 0 <= place.level < self.levels:
            raise DataError("no such tile", got=place)
        step = 1 << place.level
        starts = [place.row * TILE * step, place.column * TILE * step]
        if not all(0 <= a < n for a, n in zip(starts, self.shape, strict=True)):
            raise DataError("no such tile", got=place)
        box = tuple(
            slice(a, min(a + (TILE + margin) * step, n))
            for a, n in zip(starts, self.shape, strict=True)
        )
        return self._reduced(box, step)

    @cached_property
    def overview(self) -> NDArray[Any]:
        """(..., h, w): the whole image with an edge of at most 2 * TILE pixels."""
        step = 1 << max(0, self.levels - 2)
        return self._reduced(whole_box(self.shape), step)

    def most(self) -> NDArray[Any]:
        """The whole image if it is small, else with an edge of at most 16 tiles."""
        step = 1 if self._is_small else 1 << max(0, self.levels - 5)
        return self._reduced(whole_box(self.shape), step)

    @property
    def _is_small(self) -> bool:
        return is_small(self._stored[0])

    def _reduced(self, box: Box, step: int) -> NDArray[Any]:
        if not self._is_small:
            halved = max(k for k in self._stored if 1 << k <= step)
            return _read(self._stored[halved], box, 1 << halved, step)
        with self._lock:
            if self._whole is None:
                self._whole = self._stored[0].read(whole_box(self.shape))
        rows, columns = box
        return self._whole[..., rows.start : rows.stop : step, columns.start : columns.stop : step]


def is_small(stored: Stored) -> bool:
    """Whether an image is read as a whole: it has few pixels, or its file has one block."""
    return prod(stored.shape) <= _SMALL or stored.block == stored.shape


def halvings(shape: tuple[int, int], smaller: tuple[int, int]) -> int:
    """How many times an image was halved to make a copy; 0 if that is not how it was made.

    Sizes that are odd may be halved up or down.
    """
    factor = round(max(a / b for a, b in zip(shape, smaller, strict=True)))
    is_power = factor > 1 and factor & (factor - 1) == 0
    pairs = zip(shape, smaller, strict=True)
    fits = all(n // factor <= m <= -(-n // factor) for n, m in pairs)
    return factor.bit_length() - 1 if is_power and fits else 0


def _read(stored: Stored, box: Box, factor: int, step: int) -> NDArray[Any]:
    """A box of the full image, with a pixel of `step`, out of a copy `factor` times smaller."""
    inner: list[slice] = []
    missing: list[tuple[int, int]] = []
    for part, size in zip(box, stored.shape, strict=True):
        start, stop = part.start // factor, -(-part.stop // factor)
        inner.append(slice(start, max(start + 1, min(stop, size))))
        # A size that was halved down lacks the last pixel.
        wanted = -(-part.stop // step) - part.start // step
        missing.append((0, wanted - len(range(start, inner[-1].stop, step // factor))))
    values = read_reduced(stored.read, tuple(inner), (step // factor,) * 2, stored.block)
    if not any(after for _, after in missing):
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 2) + missing, mode="edge")


def shown_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which the page gets the values of an image."""
    if dtype.kind == "b" or (dtype.kind, dtype.itemsize) == ("u", 1):
        return np.dtype(np.uint8)
    return np.dtype("<u2" if (dtype.kind, dtype.itemsize) == ("u", 2) else "<f4")
