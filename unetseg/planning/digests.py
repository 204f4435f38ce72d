"""Digests of voxels: the same numbers, the same digest, whatever file and type they lie in."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIZE = 16
# What is converted at a time.
_VOXELS = 1 << 20


def voxel_digest(array: NDArray[Any], shape: tuple[int, ...]) -> bytes:
    """Of the shape and the values as float32, which holds whole numbers to 2^24 exactly.

    array : the voxels in C order, in whatever shape
    """
    digest = hashlib.blake2b(str(shape).encode(), digest_size=_SIZE)
    flat = array.reshape(-1)
    for start in range(0, len(flat), _VOXELS):
        part = flat[start : start + _VOXELS]
        # Adding zero makes of a negative zero, which is equal to it, a positive one.
        digest.update((part.astype(np.float32) + np.float32(0)).tobytes())
    return digest.digest()


def set_digest(cases: Iterable[tuple[str, bytes, bytes]]) -> str:
    """Of the names and the digests of all cases, in whatever order they come."""
    digest = hashlib.blake2b(digest_size=_SIZE)
    for name, scan, truth in sorted(cases):
        digest.update(f"{len(name)} {name}".encode(errors="surrogatepass") + scan + truth)
    return digest.hexdigest()
