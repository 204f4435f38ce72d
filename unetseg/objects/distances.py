"""What a network learns of objects: how deep a voxel lies in its own, and how near its centre."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.geometry import Box

Ids = NDArray[np.integer[Any]]


def object_distances(ids: Ids, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Depth and nearness to the centre of every voxel in its own object.

    ids : (*S) a number for each object, 0 for the background
    spacing : edge length of a voxel per axis, in any unit

    depth : distance to the nearest voxel outside of the object over the largest in the object: 1
        where it is deepest, above 0 in all of it. What lies beyond the edge of the array is not
        known to be outside; an object that fills the array is 1 everywhere.
    centre : 1 - distance to the centre over the largest in the object: 1 at the centre, 0 at the
        farthest voxel. The centre is the object's voxel that is nearest to its centroid, the first
        of several. An object of one voxel is 1.

    Both are relative to the object, so that they stay true when it is turned, mirrored or scaled.

    Returns (2, *S) float32: depth, centre; 0 outside of objects.
    Source: Archit et al. 2025, doi:10.1038/s41592-024-02580-4, for the pair of distances.
    """
    distances = np.zeros((2, *ids.shape), dtype=np.float32)
    for number, box in object_boxes(ids):
        grown = tuple(
            slice(max(0, part.start - 1), min(size, part.stop + 1))
            for part, size in zip(box, ids.shape, strict=True)
        )
        inside = ids[grown] == number
        view = distances[(slice(None), *grown)]
        view[0][inside] = _depth(inside, spacing)
        view[1][inside] = _centre(inside, spacing)
    return distances


def object_boxes(ids: Ids) -> list[tuple[int, Box]]:
    """Every id but 0, ascending, and the smallest box around its voxels."""
    values, compact = np.unique(ids, return_inverse=True)
    compact = compact.reshape(ids.shape).astype(np.int32)
    # 0 is the background of find_objects too; a mask without any has none to leave out.
    boxes = ndimage.find_objects(compact + 1)
    return [(int(value), box) for value, box in zip(values, boxes, strict=True) if value and box]


def _depth(inside: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """(n) for the n voxels inside."""
    if inside.all():
        return np.ones(inside.size)
    distance = ndimage.distance_transform_edt(inside, sampling=spacing)[inside]
    relative: NDArray[np.float64] = distance / distance.max()
    return relative


def _centre(inside: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """(n) for the n voxels inside."""
    places = np.argwhere(inside) * np.asarray(spacing, dtype=np.float64)
    to_centroid = np.square(places - places.mean(axis=0)).sum(axis=1)
    centre = places[np.argmin(to_centroid)]
    distance = np.sqrt(np.square(places - centre).sum(axis=1))
    farthest = distance.max()
    relative: NDArray[np.float64] = 1 - distance / farthest if farthest else distance + 1
    return relative
