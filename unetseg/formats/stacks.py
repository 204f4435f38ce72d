"""The masks of several time points, which become one file with the axis of time."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats import format_of
from unetseg.formats.boxwise import Raw, Voxels
from unetseg.formats.voxels import integer_type
from unetseg.geometry import Box, whole_box
from unetseg.records import Opened, Scan


@runtime_checkable
class Stacking(Protocol):
    """A format whose masks may have an axis of time."""

    def write_stack(self, voxels: Voxels, path: Path, like: Scan | Opened) -> None:
        """Write (T, *S) label values on the grid of `like`, atomically."""
        ...


class Stack:
    """A mask that is written time point by time point; nothing at its path until `finish`.

    like : the scan at one of its time points

    The values are gathered in a hidden file beside the path. Raises DataError if the format has no
    axis of time, if the folder cannot be written to or the disk is full.
    """

    def __init__(self, path: Path, like: Scan | Opened, count: int) -> None:
        format_ = format_of(path)
        if not isinstance(format_, Stacking):
            raise DataError(
                f"a {format_.name} mask cannot hold {count} time points",
                where=path,
                hint="choose a name that ends in .ome.tif or .ome.zarr",
            )
        self._path, self._like, self._format = path, like, format_
        shape = like.geometry.shape
        self._raw = Raw(path, (count, *shape), np.dtype(np.int32), ndim=len(shape))
        self._low = self._high = 0

    def write(self, time: int, values: NDArray[np.integer[Any]]) -> None:
        """Write the (*S) label values of a time point."""
        self._low = min(self._low, int(values.min()))
        self._high = max(self._high, int(values.max()))
        box = (slice(time, time + 1), *whole_box(values.shape))
        self._raw.write(box, values[np.newaxis])

    def finish(self) -> None:
        """Save the file, in the smallest type that holds all values."""
        try:
            dtype = integer_type(self._low, self._high)
            self._format.write_stack(_Cast(self._raw, dtype), self._path, self._like)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what has been written; safe to call at any time, also after `finish`."""
        self._raw.discard()


class _Cast:
    """A raw file as values of another type."""

    def __init__(self, raw: Raw, dtype: np.dtype[Any]) -> None:
        self._raw, self.dtype, self.shape = raw, dtype, raw.shape

    def read(self, box: Box) -> NDArray[Any]:
        return self._raw.read(box).astype(self.dtype)
