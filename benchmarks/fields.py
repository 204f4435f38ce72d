"""Images of touching objects, and what a network might say of them; for objects.py and tests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.objects.codes import Maps
from unetseg.objects.distances import object_distances

Ids = NDArray[np.int32]

# Objects whose centres are nearer than this share of their radii are not made.
_NEAREST = 0.8
# Thick slices, as of a confocal microscope.
STACK, SPACING, RADIUS = (16, 96, 96), (4.0, 1.0, 1.0), 12.0


def touching(
    shape: Sequence[int],
    count: int,
    radii: tuple[float, float],
    seed: int,
    *,
    spacing: Sequence[float] = (),
    longest: float = 1.0,
) -> tuple[Ids, NDArray[np.float32]]:
    """Balls, or ellipsoids of that volume, of which many touch one another.

    radii : least and most, in the unit of the spacing
    longest : the longest axis of an ellipsoid over its others, at most

    Returns (*S) ids, and how far out each voxel lies in its object: 0 at the centre, 1 at the
    surface and in the background. A voxel that two objects cover is in the nearer one's.
    """
    rng = np.random.default_rng(seed)
    lengths = np.asarray(spacing or (1.0,) * len(shape))
    axes = len(shape)
    ids, out = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    centres, sizes = np.zeros((0, axes)), np.zeros(0)
    for _ in range(30 * count):
        if len(sizes) == count:
            break
        radius, centre = rng.uniform(*radii), rng.uniform(0, np.multiply(shape, lengths))
        stretch = rng.uniform(1, longest)
        along = rng.normal(size=axes)
        along /= np.linalg.norm(along)
        apart = np.linalg.norm(centres - centre, axis=1)
        if (apart < _NEAREST * (sizes + radius)).any():
            continue
        centres, sizes = np.vstack([centres, centre]), np.append(sizes, radius)
        reach = radius * stretch
        low = np.maximum(0, np.floor((centre - reach) / lengths)).astype(int)
        high = np.minimum(shape, np.ceil((centre + reach) / lengths).astype(int) + 1)
        box = tuple(map(slice, low, high))
        away = np.moveaxis(np.mgrid[box], 0, -1) * lengths - centre
        # As large as the ball: longer along one axis, thinner across it.
        forth = away @ along
        across = np.sqrt(np.maximum(0, (away**2).sum(-1) - forth**2))
        thin = stretch ** (-1 / (axes - 1))
        share = np.hypot(forth / (radius * stretch), across / (radius * thin)).astype(np.float32)
        is_own = share < out[box]
        ids[box][is_own], out[box][is_own] = len(sizes), share[is_own]
    return connected(ids), out


def connected(ids: Ids) -> Ids:
    """The largest component of each object, numbered anew."""
    found, number = np.zeros_like(ids), 0
    for index, box in enumerate(ndimage.find_objects(ids), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(ids[box] == index)
        if count:
            number += 1
            largest = 1 + np.bincount(parts.ravel())[1:].argmax()
            found[box][parts == largest] = number
    return found


def ideal(ids: Ids, spacing: Sequence[float] = ()) -> Maps:
    """What a network would say that makes no mistakes, of objects of one class."""
    inside = ids > 0
    distances = object_distances(ids, spacing or (1.0,) * ids.ndim)
    return Maps(inside.astype(np.uint8), inside.astype(np.float32), *distances)


def said(maps: Maps, seed: int, *, blur: float = 1.5, noise: float = 0.12) -> Maps:
    """The maps as a network says them: blurred, so that passes are less deep, and uneven.

    blur : standard deviation in voxels
    noise : standard deviation of what is added, smooth over a few voxels
    """
    rng = np.random.default_rng(seed)

    def uneven(values: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(rng.normal(size=values.shape), 4.0)
        rough = 0.25 * rng.normal(size=values.shape)
        added = share * noise * (smooth / smooth.std() + rough)
        found = ndimage.gaussian_filter(values, share * blur) + added
        return np.clip(found, 0, 1).astype(np.float32)

    return replace(
        maps,
        # A network is surer of the foreground than of the rest.
        foreground=uneven(maps.foreground, 0.5),
        depth=uneven(maps.depth, 1.0),
        centre=uneven(maps.centre, 1.0),
    )


def write_balls(folder: Path, count: int, first_seed: int) -> None:
    """Stacks of thick slices with touching balls as images/ and masks/ of OME-TIFF, in um."""
    for seed in range(first_seed, first_seed + count):
        ids, out = touching(STACK, 60, (0.6 * RADIUS, RADIUS), seed, spacing=SPACING)
        rng = np.random.default_rng(seed)
        bright = np.where(ids > 0, 300 + 700 * np.sqrt(np.maximum(0, 1 - out**2)), 100)
        bright = ndimage.gaussian_filter(bright, [1.0 / length for length in SPACING])
        noisy = rng.poisson(np.maximum(bright, 0)) + rng.normal(0, 20, STACK)
        image = np.clip(noisy, 0, 65535).astype(np.uint16)
        for name, array in (("images", image), ("masks", ids.astype(np.uint16))):
            path = folder / name / f"stack{seed:03}.ome.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            sizes = {
                f"PhysicalSize{axis}": length for axis, length in zip("ZYX", SPACING, strict=True)
            }
            units = {f"PhysicalSize{axis}Unit": "µm" for axis in "ZYX"}
            tifffile.imwrite(path, array, ome=True, metadata={"axes": "ZYX", **sizes, **units})
