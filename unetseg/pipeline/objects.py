"""Ids of objects -> labels as training takes them, on the plan's grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED
from unetseg.geometry import Geometry
from unetseg.objects.codes import SCALE
from unetseg.objects.distances import Ids, object_boxes, object_distances

CORE, BORDER = 1, 2


def object_labels(
    ids: Ids, indices: NDArray[np.integer[Any]], grid: Geometry, *, with_borders: bool
) -> NDArray[np.int16]:
    """Class indices, and the distances of every voxel in its object.

    ids, indices : (*S) of the turned scan: objects by number, and their class indices
    grid : the plan's grid of the same box of space; each of its voxels is the nearest of the scan
    with_borders : the class indices are those of `cores_and_borders` instead

    Returns (3, *grid): class index, IGNORED where nothing is known; depth and nearness to the
    centre as of `object_distances`, times SCALE.
    """
    near = nearest(ids.shape, grid.shape)
    indices, ids = indices[near], ids[near]
    ids = np.where(indices == IGNORED, 0, ids)
    distances = object_distances(ids, grid.spacing)
    if with_borders:
        indices = np.where(indices == IGNORED, IGNORED, cores_and_borders(ids, distances[0]))
    return np.concatenate([indices[None], np.rint(distances * SCALE)]).astype(np.int16)


def class_of_ids(ids: Ids, classes: Mapping[int, str], names: Sequence[str]) -> NDArray[np.int64]:
    """(*S) the place of each voxel's class among the names, background first; 0 for unknown ids.

    ids : (*S)
    classes : the name of each id's class
    """
    values, places = np.unique(ids, return_inverse=True)
    table = [names.index(classes[value]) if value in classes else 0 for value in values.tolist()]
    found: NDArray[np.int64] = np.array(table, dtype=np.int64)[places].reshape(ids.shape)
    return found


def nearest(shape: Sequence[int], new: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """The index that takes from an array of `shape` the voxel nearest to each of `new` ones."""
    return np.ix_(
        *(
            ((np.arange(after) + 0.5) * before / after).astype(np.intp)
            for before, after in zip(shape, new, strict=True)
        )
    )


def cores_and_borders(ids: Ids, depth: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """(*S) 0 outside of objects, CORE inside and BORDER at their edge.

    ids : (*S)
    depth : (*S) as of `object_distances`

    The border is one voxel wide, inside of each object, so two where objects touch. Where all of
    an object would be border, its deepest voxels are core. The image's edge has no border.
    """
    from skimage.segmentation import find_boundaries

    border = find_boundaries(ids, connectivity=ids.ndim, mode="inner")
    classes = np.where(ids == 0, 0, np.where(border, BORDER, CORE))
    for number, box in object_boxes(ids):
        own = ids[box] == number
        if not (classes[box][own] == CORE).any():
            classes[box][own & (depth[box] == depth[box][own].max())] = CORE
    return classes
