"""Maps as a network might say them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.objects.codes import SCALE, Maps, pack, unpack


def noisy(shape: tuple[int, ...], seed: int, edge: float = 5.0, noise: float = 0.2) -> Maps:
    """Maps of hills about `edge` voxels apart, rough, in steps of a code, of two classes."""
    rng = np.random.default_rng(seed)

    def field(sigma: float) -> NDArray[np.float64]:
        found = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
        return found / max(found.std(), 1e-9)

    hills = 0.3 + 0.4 * field(edge / 2)
    rough = [np.clip(hills + noise * field(0.7), 0, 1).astype(np.float32) for _ in range(3)]
    classes = np.where(field(edge) > 0, 2, 1).astype(np.uint8)
    return unpack(pack(Maps(classes, *rough)))


def coded(maps: Maps) -> Maps:
    """The maps after a code has held them: off by half a step at most."""
    found = unpack(pack(maps))
    assert np.abs(found.depth - maps.depth).max() <= 0.5 / SCALE + 1e-6
    return found
