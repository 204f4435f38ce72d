"""Boxes of an array that lies in a file as it is, without compression or behind one stream."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.geometry import Box, sizes_of

_CHUNK_BYTES = 1 << 20


def read_box(
    stream: IO[bytes], offset: int, shape: Sequence[int], dtype: np.dtype[Any], box: Box
) -> NDArray[Any]:
    """A box of an array that begins `offset` bytes after the start, its last axis fastest.

    stream : is only ever sought forward, so that a compressed one is read once
    shape : 2 axes or more

    Returns a new array. Raises DataError if the stream ends before the box does.
    """
    sizes = sizes_of(box)
    is_cut = sizes[-1] < shape[-1]
    # A run is what lies behind one another: part of the axis `split`, all of those behind it.
    # Rows are read whole: many short reads cost more than what they leave out.
    split = len(shape) - 2
    while split > 0 and not is_cut and sizes[split] == shape[split]:
        split -= 1
    behind = prod(shape[split + 1 :])
    out = np.empty(sizes, dtype)
    rows = np.empty((sizes[split], *shape[split + 1 :]), dtype) if is_cut else None
    steps = [prod(shape[axis + 1 :]) for axis in range(split)]
    for index in product(*(range(axis.start, axis.stop) for axis in box[:split])):
        first = sum(i * step for i, step in zip(index, steps, strict=True))
        stream.seek(offset + (first + box[split].start * behind) * dtype.itemsize)
        place = tuple(i - axis.start for i, axis in zip(index, box, strict=False))
        if rows is None:
            _fill(stream, out[place])
        else:
            _fill(stream, rows)
            out[place] = rows[..., box[-1]]
    return out


def _fill(stream: IO[bytes], array: NDArray[Any]) -> None:
    view = array.reshape(-1).view(np.uint8)
    done = 0
    while done < len(view):
        chunk = stream.read(min(_CHUNK_BYTES, len(view) - done))
        if not chunk:
            raise DataError(
                "the file is cut short",
                expected=f"{len(view)} bytes of voxels",
                got=done,
                hint="copy or export the file again",
            )
        view[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)


def row_block(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The box of about a megabyte that lies in one piece in an uncompressed file.

    shape : of the array, its last axis fastest
    """
    block = [1] * len(shape)
    room = max(1, _CHUNK_BYTES // itemsize)
    for axis in reversed(range(len(shape))):
        # Rows are never cut: they are read whole.
        is_row = axis == len(shape) - 1
        block[axis] = shape[axis] if is_row else min(shape[axis], max(1, room))
        room //= block[axis]
        if block[axis] < shape[axis]:
            break
    return tuple(block)
