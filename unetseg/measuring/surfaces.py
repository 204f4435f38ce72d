"""The surfaces of objects in space: meshes of marching cubes, without making the meshes.

A mesh is the sum of what lies in its cells, a cell being the cube between eight neighbouring
voxels; and what lies in a cell of a binary image follows from which of the eight are inside: 256
possibilities, made once by scikit-image. So the surfaces of all objects come from one look at the
cells, and a scan can be looked at in parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CORNERS = tuple(product((0, 1), repeat=3))


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Area and enclosed volume of the meshes of some objects, or their parts of these.

    ids : (n,) in any order, perhaps with repetitions, which add up
    areas, volumes : (n,) in the unit of the spacing, squared and cubed
    """

    ids: NDArray[np.int64]
    areas: Floats
    volumes: Floats

    def of(self, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Area and volume of each of some ascending ids."""
        place = np.searchsorted(ids, self.ids)
        areas, volumes = np.zeros((2, len(ids)))
        np.add.at(areas, place, self.areas)
        np.add.at(volumes, place, self.volumes)
        return areas, volumes


def together(parts: Sequence[Surfaces]) -> Surfaces:
    """Several parts as one, each id once."""
    every = Surfaces(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.areas for part in parts]),
        np.concatenate([part.volumes for part in parts]),
    )
    ids = np.unique(every.ids)
    return Surfaces(ids, *every.of(ids))


@dataclass(frozen=True, eq=False)
class Cells:
    """What lies in a cell, by which of its corners are inside: bit k stands for corner k.

    areas : (256,) of the triangles
    slopes, volumes : (256,) so that a cell that begins at x along the first axis adds
        x * slope + volume to the enclosed volume
    """

    areas: Floats
    slopes: Floats
    volumes: Floats
    edge: float

    def surfaces(self, labels: NDArray[np.integer[Any]], first: int) -> Surfaces:
        """Of all objects in the cells between the voxels of a box.

        labels : (X, Y, Z) ids, 0 outside of every object
        first : where the box begins along the first axis, in voxels
        """
        views = [
            labels[tuple(slice(k, k + n - 1) for k, n in zip(corner, labels.shape, strict=True))]
            for corner in _CORNERS
        ]
        is_mixed = np.zeros(views[0].shape, np.bool_)
        for view in views[1:]:
            is_mixed |= view != views[0]
        places = np.flatnonzero(is_mixed)
        start = (places // (is_mixed[0].size or 1) + first) * self.edge
        corners = [view[is_mixed].astype(np.int64) for view in views]
        ids, areas, volumes = [], [], []
        for one in corners:
            number = np.zeros(len(one), np.int64)
            share = np.zeros(len(one), np.int64)
            for k, other in enumerate(corners):
                number |= (one == other).astype(np.int64) << k
                share += one == other
            # An object with several corners of a cell comes by as often: each time a part of it.
            mine = one != 0
            number, share = number[mine], share[mine]
            ids.append(one[mine])
            areas.append(self.areas[number] / share)
            volumes.append((start[mine] * self.slopes[number] + self.volumes[number]) / share)
        return together([Surfaces(*each) for each in zip(ids, areas, volumes, strict=True)])


@lru_cache(maxsize=32)
def cells_of(spacing: tuple[float, float, float]) -> Cells:
    """The cells between voxels of this size."""
    from skimage.measure import marching_cubes, mesh_surface_area

    areas, slopes, volumes = np.zeros((3, 256))
    for number in range(1, 255):
        inside = [number >> k & 1 for k in range(8)]
        cube = np.reshape(inside, (2, 2, 2)).astype(np.float32)
        points, faces, _, _ = marching_cubes(cube, 0.5, spacing=spacing)
        areas[number] = mesh_surface_area(points, faces)
        # By Gauss: the volume is the integral of x over the surface along the first axis.
        # scikit-image's triangles turn so that their normals point inwards.
        triangles = points.astype(np.float64)[faces]
        sides = triangles[:, 1:] - triangles[:, :1]
        normals = -np.cross(sides[:, 0], sides[:, 1])[:, 0] / 2
        slopes[number] = normals.sum()
        volumes[number] = (normals * triangles[:, :, 0].mean(axis=1)).sum()
    return Cells(areas, slopes, volumes, spacing[0])
