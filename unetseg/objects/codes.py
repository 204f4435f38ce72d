"""What a network says of a voxel, in one number of 32 bits.

So the machinery that carries numbers of classes carries all that objects are made of: a code a
voxel, put together from pieces, stored block by block, decoded when the whole of it is there.
0 is background that is sure of itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# From the lowest bit: centre, depth, foreground, class.
CENTRE_BITS = DEPTH_BITS = 10
FOREGROUND_BITS = CLASS_BITS = 6
DEPTH_SHIFT = CENTRE_BITS
FOREGROUND_SHIFT = DEPTH_SHIFT + DEPTH_BITS
CLASS_SHIFT = FOREGROUND_SHIFT + FOREGROUND_BITS
# What stands for 1: of depth and centre, and of the probability of the foreground.
SCALE = (1 << DEPTH_BITS) - 1
FOREGROUND_SCALE = (1 << FOREGROUND_BITS) - 1
MOST_CLASSES = (1 << CLASS_BITS) - 1

Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Maps:
    """What a network says of each voxel.

    classes : (*S) uint8, the most likely class of objects, from 1; 0 for none
    foreground : (*S) float32 in [0, 1], probability that there is an object
    depth : (*S) float32 in [0, 1], distance to the object's boundary over the largest one in it
    centre : (*S) float32 in [0, 1], 1 at the object's centre, 0 at its farthest voxel and outside
    """

    classes: NDArray[np.uint8]
    foreground: NDArray[np.float32]
    depth: NDArray[np.float32]
    centre: NDArray[np.float32]


def pack(maps: Maps) -> Codes:
    """(*S) int32: the maps in steps of 1 / FOREGROUND_SCALE and 1 / SCALE; beyond 0..1 cut off.

    Raises ValueError for a class above MOST_CLASSES.
    """
    if maps.classes.size and maps.classes.max() > MOST_CLASSES:
        raise ValueError(f"class {maps.classes.max()}: a code has room for {MOST_CLASSES}")
    codes = maps.classes.astype(np.uint32) << CLASS_SHIFT
    codes |= _steps(maps.foreground, FOREGROUND_SCALE) << FOREGROUND_SHIFT
    codes |= _steps(maps.depth, SCALE) << DEPTH_SHIFT
    codes |= _steps(maps.centre, SCALE)
    return codes.view(np.int32)


def unpack(codes: NDArray[np.integer[Any]]) -> Maps:
    """The maps behind (*S) codes."""
    bits: NDArray[np.uint32] = np.ascontiguousarray(codes, np.int32).view(np.uint32)
    return Maps(
        (bits >> CLASS_SHIFT).astype(np.uint8),
        _share(bits, FOREGROUND_SHIFT, FOREGROUND_SCALE),
        _share(bits, DEPTH_SHIFT, SCALE),
        _share(bits, 0, SCALE),
    )


def _steps(values: NDArray[np.float32], scale: int) -> NDArray[np.uint32]:
    return np.asarray(np.rint(np.clip(values, 0, 1) * np.float32(scale)), np.uint32)


def _share(bits: NDArray[np.uint32], shift: int, scale: int) -> NDArray[np.float32]:
    return np.asarray((bits >> shift & scale) / np.float32(scale), np.float32)
