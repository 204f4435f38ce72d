"""Patch, levels, strides and kernels from shape, spacing and a budget of voxels."""

from collections.abc import Sequence
from math import ceil, prod

# An axis is halved while at least this many voxels remain, so that the coarsest level has context.
_SMALLEST_EDGE = 4
# Axes whose voxels are more than twice as long as the finest wait until the others caught up.
_ANISOTROPY = 2.0


def patch_size(shape: Sequence[int], spacing: Sequence[float], voxels: int) -> tuple[int, ...]:
    """The box of about `voxels` voxels that covers equal lengths per axis, inside `shape`.

    shape : median shape on the plan's grid
    spacing : edge lengths on the plan's grid, any unit
    """
    size = [1.0] * len(shape)
    free = set(range(len(shape)))
    # An axis that reaches the scan's edge hands what it does not need to the others.
    while free:
        fixed = prod(size[axis] for axis in range(len(shape)) if axis not in free)
        edge = (voxels / fixed * prod(spacing[axis] for axis in free)) ** (1 / len(free))
        full = {axis for axis in free if edge / spacing[axis] >= shape[axis]}
        if not full:
            for axis in free:
                size[axis] = max(1.0, edge / spacing[axis])
            break
        for axis in full:
            size[axis] = float(shape[axis])
        free -= full
    return tuple(ceil(n) for n in size)


def levels(
    size: Sequence[int], spacing: Sequence[float], most: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Strides and kernels per level, finest first, for a patch of `size` voxels.

    Each level halves the axes that are long enough and about as fine as the finest of those; a
    kernel looks along an axis only once its voxels are within twice that edge.
    """
    edges, left = list(spacing), list(size)
    strides, kernels = [(1,) * len(left)], []
    finest = min(edges)
    while True:
        # Nobody waits for an axis that is too short to become coarser.
        long = [e for e, n in zip(edges, left, strict=True) if n >= 2 * _SMALLEST_EDGE]
        finest = min(long, default=finest)
        kernels.append(tuple(3 if edge <= _ANISOTROPY * finest else 1 for edge in edges))
        halved = [
            left[axis] >= 2 * _SMALLEST_EDGE and edges[axis] < _ANISOTROPY * finest * 0.999
            for axis in range(len(left))
        ]
        if len(strides) == most or not any(halved):
            return tuple(strides), tuple(kernels)
        strides.append(tuple(2 if half else 1 for half in halved))
        left = [ceil(n / 2) if half else n for n, half in zip(left, halved, strict=True)]
        edges = [edge * 2 if half else edge for edge, half in zip(edges, halved, strict=True)]


def rounded_up(size: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The next size that every level divides without a rest."""
    total = [prod(stride[axis] for stride in strides) for axis in range(len(size))]
    return tuple(ceil(n / t) * t for n, t in zip(size, total, strict=True))


def rounded(size: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The nearest size that every level divides without a rest, and not less than one of them."""
    total = [prod(stride[axis] for stride in strides) for axis in range(len(size))]
    return tuple(max(1, round(n / t)) * t for n, t in zip(size, total, strict=True))
