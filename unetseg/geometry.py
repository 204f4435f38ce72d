"""Where voxels lie: shape, affine and unit, without the voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import ceil, floor, prod
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError

Unit = Literal["mm", "um", "px"]
Affine = NDArray[np.float64]
# One slice per axis, with start and stop and without a step.
Box = tuple[slice, ...]

# Header fields are float32: the same place may differ by this share of a voxel's edge.
TOLERANCE_VOXELS = 1e-2


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid on which an array lies. Column k of the affine belongs to array axis k.

    shape : 2 or 3 positive sizes, in array order
    affine : (n+1, n+1), index -> position in `unit`; voxel centres have integer indices
    unit : mm, um or px, as read from the file

    Raises DataError if the sizes are not positive or the affine is none, singular or not finite.
    """

    shape: tuple[int, ...]
    affine: Affine
    unit: Unit

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) not in (2, 3):
            raise DataError("wrong number of axes", expected="2 or 3 spatial axes", got=len(shape))
        if min(shape) < 1:
            raise DataError("an axis holds no voxels", expected="sizes of 1 or more", got=shape)
        if affine.shape != (len(shape) + 1,) * 2:
            raise DataError(
                "affine of the wrong size", expected=(len(shape) + 1,) * 2, got=affine.shape
            )
        if not np.isfinite(affine).all():
            raise DataError("the affine is not finite", hint="repair the header's geometry")
        if affine[-1, :-1].any() or affine[-1, -1] != 1:
            raise DataError(
                "not an affine: its last row is not 0 ... 0 1", got=_numbers(affine[-1])
            )
        lengths = np.linalg.norm(affine[:-1, :-1], axis=0)
        # Directions, not lengths: a nanometre grid is as regular as a kilometre one.
        if (lengths == 0).any() or abs(np.linalg.det(affine[:-1, :-1] / lengths)) < 1e-6:
            raise DataError(
                "the affine is singular: two axes point the same way or one has no length",
                hint="repair the header's geometry",
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, shape: Sequence[int], spacing: Sequence[float], unit: Unit) -> Self:
        """An axis-aligned grid whose first voxel centre is the origin."""
        return cls(tuple(shape), np.diag([*spacing, 1.0]), unit)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Edge length of a voxel along each array axis, in `unit`."""
        return tuple(float(x) for x in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def voxel_volume(self) -> float:
        """Volume (or area in 2-D) of a voxel, in `unit` to the power of the number of axes."""
        return float(abs(np.linalg.det(self.affine[:-1, :-1])))

    def _moved(self, shape: Sequence[int], index_map: Affine) -> "Geometry":
        """The grid whose index j lies where `index_map @ j` lies on this one."""
        return Geometry(tuple(shape), self.affine @ index_map, self.unit)

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Geometry":
        """The box of voxels from `start` up to but without `stop`."""
        if any(not 0 <= a < b <= n for a, b, n in zip(start, stop, self.shape, strict=True)):
            raise DataError("crop outside the grid", expected=self.shape, got=f"{start}..{stop}")
        index_map = np.eye(self.ndim + 1)
        index_map[:-1, -1] = start
        return self._moved([b - a for a, b in zip(start, stop, strict=True)], index_map)

    def pad(self, before: Sequence[int], after: Sequence[int]) -> "Geometry":
        """The grid with that many voxels more on either side of each axis."""
        if min(*before, *after) < 0:
            raise DataError("negative padding", expected="0 or more", got=f"{before}, {after}")
        index_map = np.eye(self.ndim + 1)
        index_map[:-1, -1] = [-n for n in before]
        sizes = [n + a + b for n, a, b in zip(self.shape, before, after, strict=True)]
        return self._moved(sizes, index_map)

    def flip(self, axes: Sequence[int]) -> "Geometry":
        """The same voxels, counted from the other end of the given axes."""
        index_map = np.eye(self.ndim + 1)
        for axis in axes:
            index_map[axis, axis] = -1
            index_map[axis, -1] = self.shape[axis] - 1
        return self._moved(self.shape, index_map)

    def permute(self, order: Sequence[int]) -> "Geometry":
        """Array axis k of the result is axis `order[k]` of this grid, as in numpy.transpose."""
        index_map = np.zeros((self.ndim + 1, self.ndim + 1))
        index_map[-1, -1] = 1
        for new, old in enumerate(order):
            index_map[old, new] = 1
        return self._moved([self.shape[axis] for axis in order], index_map)

    def resampled(self, shape: Sequence[int]) -> "Geometry":
        """The same box of space cut into `shape` voxels: outer edges stay where they are."""
        zoom = np.array(self.shape) / np.array(shape)
        index_map = np.diag([*zoom, 1.0])
        index_map[:-1, -1] = (zoom - 1) / 2
        return self._moved(shape, index_map)

    def shape_at(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """The number of voxels per axis that brings the edge lengths closest to `spacing`."""
        return tuple(
            max(1, round(size * mine / wanted))
            for size, mine, wanted in zip(self.shape, self.spacing, spacing, strict=True)
        )

    def canonical(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How to bring the axes nearest to the world's: `permute(order)`, then `flip(axes)`.

        Exact for oblique grids too: the assignment of array axes to world axes with the
        largest sum of |cosines| is taken, so that no voxel has to be interpolated.
        """
        cosines = self.affine[:-1, :-1] / np.array(self.spacing)
        world = range(self.ndim)
        order = max(permutations(world), key=lambda p: sum(abs(cosines[w, p[w]]) for w in world))
        return order, tuple(w for w in world if cosines[w, order[w]] < 0)

    def differences(
        self, other: "Geometry", *, tolerance: float = TOLERANCE_VOXELS
    ) -> tuple[str, ...]:
        """One sentence for each field in which the two grids differ; empty if they are the same.

        tolerance : how far a voxel may lie from its place, as a share of a voxel's edge
        """
        found = []
        if self.unit != other.unit:
            found.append(f"unit {self.unit} is not {other.unit}")
        if self.shape != other.shape:
            found.append(f"shape {self.shape} is not {other.shape}")
        if self.ndim != other.ndim:
            return tuple(found)
        edges = np.array(self.spacing)
        apart = np.abs(edges - other.spacing) * np.array(self.shape) / edges
        if (apart > tolerance).any():
            found.append(f"spacing {_numbers(self.spacing)} is not {_numbers(other.spacing)}")
        mine = self.affine[:-1, :-1] / edges
        theirs = other.affine[:-1, :-1] / np.array(other.spacing)
        if (np.abs(mine - theirs) * max(self.shape) > tolerance).any():
            found.append(f"axis directions {_rows(mine)} are not {_rows(theirs)}")
        shift = np.linalg.solve(self.affine[:-1, :-1], other.affine[:-1, -1] - self.affine[:-1, -1])
        if (np.abs(shift) > tolerance).any():
            found.append(
                f"origin {_numbers(self.affine[:-1, -1])} is not {_numbers(other.affine[:-1, -1])}"
            )
        return tuple(found)


def _numbers(values: Sequence[float] | Affine) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in values) + ")"


def _rows(matrix: Affine) -> str:
    return "[" + "; ".join(" ".join(f"{value:.4f}" for value in row) for row in matrix) + "]"


def starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the fewest evenly spread windows that overlap by at least that share."""
    if size <= window:
        return (0,)
    # Whole voxels, or rounding could take from the overlap; 1 - 0.9 is a little less than 0.1.
    step = max(1, floor(window * (1 - overlap) + 1e-6))
    count = ceil((size - window) / step) + 1
    return tuple(round(i * (size - window) / (count - 1)) for i in range(count))


def windows(
    size: int, patch: int, overlap: float, most: float = 1.0, multiple: int = 1
) -> tuple[int, tuple[int, ...]]:
    """The edge of an axis's windows, and where they begin: the fewest, none larger than needed.

    patch : the least edge, unless the axis is shorter
    overlap : share of a patch that two windows have in common at least
    most : the largest edge, in patches
    multiple : of which the edge is, as far as the other bounds allow
    """
    longest = max(patch, floor(most * patch + 1e-6))
    if size <= longest:
        return size, (0,)
    count = len(starts(size, longest, overlap * patch / longest))
    edge = ceil((size + (count - 1) * overlap * patch) / count - 1e-6)
    edge = min(max(patch, ceil(edge / multiple) * multiple), longest)
    return edge, tuple(round(i * (size - edge) / (count - 1)) for i in range(count))


def voxels_computed(
    size: Sequence[int], patch: Sequence[int], overlap: float, most: float = 1.0
) -> int:
    """The voxels of all windows of a scan, see `windows`, and of one whole patch at least.

    Where windows overlap, a large scan costs several times its own voxels, a small one does not.
    """
    axes = [windows(n, p, overlap, most) for n, p in zip(size, patch, strict=True)]
    return max(prod(patch), prod(edge * len(first) for edge, first in axes))


def whole_box(shape: Sequence[int]) -> Box:
    """The box that covers everything."""
    return tuple(slice(0, size) for size in shape)


def sizes_of(box: Box) -> tuple[int, ...]:
    """Edge lengths of a box."""
    return tuple(part.stop - part.start for part in box)


def inside(box: Box, other: Box) -> Box:
    """The box, counted from the corner of another one."""
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, other, strict=True)
    )


def replaced(box: Box, axis: int, part: slice) -> Box:
    """The box with another extent along one axis."""
    return (*box[:axis], part, *box[axis + 1 :])
