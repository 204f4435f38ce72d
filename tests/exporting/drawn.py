"""Outlines drawn back by another library, and masks to outline."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask


def filled(rings: Sequence[NDArray[np.number]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside an odd number of rings.

    rings : (n, 2) x and y of corners, with or without the first one at the end
    """
    inside = np.zeros(shape, bool)
    for ring in rings:
        # In the coordinates of skimage a pixel's centre is at whole numbers.
        inside ^= polygon2mask(shape, np.asarray(ring, float)[:, ::-1] - 0.5)
    return inside


def cells(seed: int = 0, shape: tuple[int, int] = (48, 60)) -> NDArray[np.uint16]:
    """Ids from 1 of discs that touch, one with a hole, and one in two parts."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(shape, np.uint16)
    rows, columns = np.indices(shape)
    for number in range(1, 16):
        middle = [rng.integers(0, size) for size in shape]
        disc = np.hypot(rows - middle[0], columns - middle[1]) < rng.uniform(3, 7)
        ids[disc] = number
    ids[20:27, 20:27], ids[22:24, 22:25] = 16, 0
    ids[40:43, 1:4] = ids[43:46, 4:6] = 17
    return ids
