"""Outlines along the edges of pixels: what lies inside of one is exactly what was outlined."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

Ring = NDArray[np.int64]
Area = NDArray[np.bool_]

# By the four pixels around a point of the grid, see `_rings`: one or three of them make a corner,
# two that only touch there make two.
_CORNERS = np.array([2 if k in (6, 9) else k.bit_count() % 2 for k in range(16)])


@dataclass(frozen=True, eq=False)
class Polygon:
    """A connected area, by the corners of its pixels.

    shell, holes : (n, 2) x and y of the corners, x to the right and y down, the first one not
        repeated. A shell is a ring of positive area by the shoelace formula, a hole of negative
    """

    shell: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def rings(self) -> tuple[Ring, ...]:
        return (self.shell, *self.holes)


def outlined(area: Area, *, left: int = 0, top: int = 0) -> tuple[Polygon, ...]:
    """The outlines of an area, one polygon for each part whose pixels share edges.

    area : (height, width)
    left, top : where its first pixel lies

    Pixel (row, column) is the square from (column, row) to (column + 1, row + 1). Every ring is
    simple, so that the polygons are valid for whoever reads them: where pixels touch at a corner
    only, rings touch there and none passes through a point twice. The polygons are in the order
    of their first pixels.
    """
    rings, shift = list(_rings(area)), np.array([left, top])
    if len(rings) == 1:
        # As nearly every object is.
        return (Polygon(rings[0] + shift),)
    parts, count = label(area)
    shells: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {number: [] for number in range(1, count + 1)}
    for ring in rings:
        number = int(parts[_inside(ring)])
        if _doubled_area(ring) > 0:
            shells[number] = ring + shift
        else:
            holes[number].append(ring + shift)
    return tuple(Polygon(shells[n], tuple(holes[n])) for n in sorted(shells))


def _rings(area: Area) -> Iterator[Ring]:
    """The closed lines around an area, that keep it on their right where y runs down.

    Only corners are looked at. Along a line of the grid, and down one, each corner is joined with
    its neighbour, by turns: the first with the second, the third with the fourth. Where two pixels
    touch at a corner only, that corner counts twice, once for each of the two.
    """
    padded = np.zeros([size + 2 for size in area.shape], np.int8)
    padded[1:-1, 1:-1] = area
    # Of the four pixels around a corner: above left, above right, below left, below right.
    kind = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    rows, columns = np.nonzero(_CORNERS[kind])
    kind = kind[rows, columns]
    times = _CORNERS[kind]
    rows, columns, kind = (np.repeat(each, times) for each in (rows, columns, kind))
    # By rows: of a double corner the line from the left ends in the first, the one to the right
    # begins in the second.
    nodes = np.arange(len(rows))
    following = np.empty_like(nodes)
    start, end = nodes[::2], nodes[1::2]
    is_above = kind[start] & 8 == 0
    following[np.where(is_above, end, start)] = np.where(is_above, start, end)
    # By columns: where the pixels above left and below right touch, the first of a double corner
    # has the line from above; where the other two do, the second.
    order = nodes.copy()
    first = np.flatnonzero(kind == 6)[::2]
    order[first], order[first + 1] = first + 1, first
    turn = order[np.argsort(columns, kind="stable")]
    start, end = turn[::2], turn[1::2]
    is_right = kind[start] & 4 == 0
    following[np.where(is_right, end, start)] = np.where(is_right, start, end)
    points = np.stack([columns, rows], axis=1)
    for ring in _cycles(following.tolist()):
        yield from _simple(points[ring]) if len(nodes) > len(times) else [points[ring]]


def _cycles(following: list[int]) -> Iterator[list[int]]:
    seen = bytearray(len(following))
    for begin in range(len(following)):
        if seen[begin]:
            continue
        ring = []
        node = begin
        while not seen[node]:
            seen[node] = 1
            ring.append(node)
            node = following[node]
        yield ring


def _simple(ring: Ring) -> Iterator[Ring]:
    """The ring, cut where it passes through a point for the second time."""
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for x, y in ring.tolist():
        point = (x, y)
        if point in place:
            begin = place[point]
            yield np.array(path[begin:])
            for gone in path[begin + 1 :]:
                del place[gone]
            del path[begin + 1 :]
        else:
            place[point] = len(path)
            path.append(point)
    yield np.array(path)


def _doubled_area(ring: Ring) -> int:
    x, y = np.concatenate([ring, ring[:1]]).T
    return int(np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:]))


def _inside(ring: Ring) -> tuple[int, int]:
    """Row and column of a pixel of the area that lies along the ring's first line."""
    (x, y), (to_x, to_y) = ring[:2].tolist()
    if to_x != x:
        return (y, x) if to_x > x else (y - 1, x - 1)
    return (y, x - 1) if to_y > y else (y - 1, x)
