"""Masks and maps that are written box by box, so that they are never whole in memory."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from errno import EINVAL, ENOTSUP, EOPNOTSUPP
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetseg.errors import DataError, ShapeMismatch
from unetseg.files import telling
from unetseg.formats.boxes import read_box
from unetseg.geometry import Box, sizes_of


class MaskFile(Protocol):
    """A mask that is written box by box; there is nothing at its path until `finish`.

    block : boxes that start and end at multiples of it, or at the edge, may be written by any
        threads at once, and by any processes that write one OME-Zarr together

    Voxels that nobody writes are 0. Raises DataError if the disk is full.
    """

    block: tuple[int, ...]

    def write(self, box: Box, values: NDArray[np.integer[Any]]) -> None:
        """Write the (*box) label values. Raises DataError if the file's type cannot hold them."""
        ...

    def done(self) -> frozenset[tuple[int, ...]]:
        """Where the boxes start that have been written, by whomever."""
        ...

    def finish(self) -> None:
        """Let the file appear, with its pyramid."""
        ...

    def discard(self) -> None:
        """Remove what has been written; safe to call at any time, also after `finish`."""
        ...


class MapsFile(Protocol):
    """Maps of the classes that are written box by box; nothing at their path until `finish`.

    block : as of MaskFile
    """

    block: tuple[int, ...]

    def write(self, box: Box, values: NDArray[np.floating[Any]]) -> None:
        """Write (K, *box) values in [0, 1], in any order of boxes."""
        ...

    def done(self) -> frozenset[tuple[int, ...]]:
        """Where the boxes start that have been written, by whomever."""
        ...

    def finish(self) -> None:
        """Let the file appear."""
        ...

    def discard(self) -> None:
        """Remove what has been written; safe to call at any time, also after `finish`."""
        ...


class Voxels(Protocol):
    """An array in memory or on disk, (*S), (K, *S) or (T, *S)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, box: Box) -> NDArray[Any]:
        """The voxels of a box."""
        ...


def stored_type(dtype: DTypeLike) -> np.dtype[Any]:
    """How maps are stored: as float32, float16, or uint8, which stands for bool as well.

    Raises DataError for other types.
    """
    found = np.dtype(dtype)
    if found == np.bool_:
        return np.dtype(np.uint8)
    if found not in (np.float32, np.float16, np.uint8):
        raise DataError("maps cannot be stored so", expected="float32, float16, uint8", got=found)
    return found


def stored_maps(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Values in [0, 1] as they are stored: uint8 is 255 times as much, bool is above a half."""
    found = np.dtype(dtype)
    if found == np.bool_:
        return (values > 0.5).astype(np.uint8)
    if found == np.uint8:
        scaled = np.multiply(np.clip(values, 0, 1), 255, dtype=np.float32)
        return np.asarray(np.rint(scaled), np.uint8)
    return values.astype(found, copy=False)


def stored_labels(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Label values in the type of the file. Raises DataError if it cannot hold them."""
    if np.can_cast(values.dtype, dtype):
        return values
    limits = np.iinfo(dtype)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise DataError(
            f"label values that {dtype} cannot hold",
            expected=f"{limits.min}..{limits.max}",
            got=f"{low}..{high}",
        )
    return values.astype(dtype)


def check_box(values: NDArray[Any], shape: tuple[int, ...], ndim: int, box: Box) -> None:
    """Raises ShapeMismatch if values do not fill a box of the last `ndim` axes of the shape."""
    lead, shape = shape[: len(shape) - ndim], shape[len(shape) - ndim :]
    expected = (*lead, *sizes_of(box))
    if len(box) != ndim or values.shape != expected:
        raise ShapeMismatch("the values do not fill the box", expected=expected, got=values.shape)
    if any(not 0 <= axis.start < axis.stop <= n for axis, n in zip(box, shape, strict=True)):
        raise ShapeMismatch("the box is not in the scan", expected=shape, got=box)


class Raw:
    """An array in a hidden file beside `path`, filled box by box; zeros where nobody has written.

    shape : (*S) or (K, *S)
    offset : bytes that are left free before the voxels
    is_x_first : the first axis of *S lies fastest, as in NIfTI; K is always slowest

    The room is reserved at once: a disk that is full is told here, not in the middle.
    Raises DataError if the folder cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        ndim: int,
        offset: int = 0,
        is_x_first: bool = False,
    ) -> None:
        self.target = path
        self.path = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
        self.shape = shape
        self.dtype = dtype
        self.ndim = ndim
        self._offset = offset
        lead = len(shape) - ndim
        spatial = range(lead, len(shape))
        # The same permutation leads from the array to the file and back.
        self._axes = (*range(lead), *(reversed(spatial) if is_x_first else spatial))
        try:
            with telling(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("xb") as file:
                    _reserve(file.fileno(), offset + prod(shape) * dtype.itemsize)
        except BaseException:
            self.discard()
            raise

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write the (*box) values, from any thread."""
        # Mapped for this box only: pages of a file count as memory for as long as they are mapped.
        with telling(self.target):
            array = np.memmap(self.path, self.dtype, "r+", self._offset, self._stored(self.shape))
        array.transpose(self._axes)[box] = values

    def read(self, box: Box) -> NDArray[Any]:
        """A box of the array; only if it has 2 axes or more."""
        with self.path.open("rb") as file:
            stored = self._stored(self.shape)
            array = read_box(file, self._offset, stored, self.dtype, self._stored(box))
        return array.transpose(self._axes)

    def _stored(self, per_axis: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(per_axis[axis] for axis in self._axes)

    def discard(self) -> None:
        # Where not even the folder could be made there is nothing to remove.
        with suppress(OSError):
            self.path.unlink()


def _reserve(file: int, size: int) -> None:
    # Not every system has it, not every file system can do it.
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (EINVAL, ENOTSUP, EOPNOTSUPP):
                raise
        else:
            return
    os.truncate(file, size)


class Gathered:
    """A mask (*S) or maps (K, *S), gathered in a raw file and saved from there by `finish`.

    stored : the values of a box as the raw file holds them
    save : makes the file at the target from the raw one, atomically
    """

    def __init__(
        self,
        raw: Raw,
        stored: Callable[[NDArray[Any]], NDArray[Any]],
        save: Callable[[Raw], None],
    ) -> None:
        self.block = (1,) * raw.ndim
        self._raw = raw
        self._stored = stored
        self._save = save
        self._done: set[tuple[int, ...]] = set()

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write a box, from any thread."""
        check_box(values, self._raw.shape, len(self.block), box)
        if len(box) == len(self._raw.shape):
            self._raw.write(box, self._stored(values))
        else:
            # Map by map, or converting them would take their memory once more.
            for index, each in enumerate(values):
                self._raw.write((slice(index, index + 1), *box), self._stored(each)[np.newaxis])
        self._done.add(tuple(axis.start for axis in box))

    def done(self) -> frozenset[tuple[int, ...]]:
        """Where the boxes start that this process has written."""
        return frozenset(self._done)

    def finish(self) -> None:
        """Save the file. Raises DataError if that is not possible; the raw file goes away."""
        try:
            self._save(self._raw)
        finally:
            self.discard()

    def discard(self) -> None:
        self._raw.discard()
