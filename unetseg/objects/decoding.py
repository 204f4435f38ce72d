"""Maps of a network -> objects, each voxel decided by what lies around its object.

Depth and centre together are a landscape with a hill per object. Every voxel of the foreground
belongs to the hilltop that the steepest way up leads to. Hills are then joined over the highest
pass between them, as in a watershed, unless both are objects and the pass is deep enough: a noisy
landscape has many small tops on a hill, but no deep passes between them. All ties are broken by
the order of the voxels, so that a part of an image gives the objects that the whole gives, as far
as they lie inside the part: see objects.blockwise.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from unetseg.geometry import Box, replaced, whole_box
from unetseg.objects.codes import Maps

# Heights are whole numbers: equal ones are ties, however they were computed.
_STEPS = 1 << 20
# A key is a height above a place; the place counts down, so that of ties the first voxel wins.
_PLACE_BITS = 32
_LAST_PLACE = (1 << _PLACE_BITS) - 1
# What decoding takes, codes and ids included; measured, of noise that is all foreground.
BYTES_PER_VOXEL = 72
# Standard deviations after which a Gaussian is cut off.
_TRUNCATE = 3.0


@dataclass(frozen=True)
class Rules:
    """How maps become objects.

    foreground : probability above which a voxel belongs to an object
    seed_depth, seed_centre : an object has a voxel above both; foreground around none is background
    contrast : how much lower than both tops the pass between two objects is, of a height of 1
    smoothing : standard deviation per axis in voxels of the Gaussian over the heights; () is none
    min_voxels : smaller objects become background
    """

    foreground: float = 0.5
    seed_depth: float = 0.2
    seed_centre: float = 0.2
    contrast: float = 0.15
    smoothing: tuple[float, ...] = ()
    min_voxels: float = 0

    @property
    def margin(self) -> int:
        """Voxels around an object, along any axis, that decide what belongs to it."""
        return 1 + max((_radius(sigma) for sigma in self.smoothing), default=0)


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of an image.

    ids : (*S) int32, from 1 in the order of the objects' first voxels, 0 for background
    classes : (n,) uint8, the class that most voxels of an object say
    """

    ids: NDArray[np.int32]
    classes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.classes)


def decode(maps: Maps, rules: Rules) -> Objects:
    """The objects that the maps of an image, or of a part of one, say.

    Objects touch where they have a pass between them; voxels are neighbours if they share a
    corner. Images of up to 2^31 voxels.
    """
    mask = maps.foreground > np.float32(rules.foreground)
    places = np.flatnonzero(mask)
    if not len(places):
        return Objects(np.zeros(mask.shape, np.int32), np.zeros(0, np.uint8))
    heights = _heights(maps, rules.smoothing)
    hills, tops = _hills(heights, mask, places)
    is_seed = maps.depth.ravel()[places] > np.float32(rules.seed_depth)
    is_seed &= maps.centre.ravel()[places] > np.float32(rules.seed_centre)
    has_seed = np.zeros(len(tops), np.bool_)
    has_seed[hills[is_seed]] = True
    passes = _passes(heights, places, hills, len(tops))
    joined = _joined(passes, heights.ravel()[tops], has_seed, rules.contrast)
    found = joined[hills]
    voxels = np.bincount(found, minlength=len(tops) + 1)
    # Number len(tops) is that of hills without a seed.
    voxels[-1] = 0
    stays = (voxels > 0) & (voxels >= rules.min_voxels)
    names = in_order(found, stays)
    ids = np.zeros(mask.shape, np.int32)
    ids.ravel()[places] = names[found]
    return Objects(ids, most(votes(ids, maps.classes)))


def in_order(found: NDArray[np.integer[Any]], stays: NDArray[np.bool_]) -> NDArray[np.int32]:
    """New numbers from 1, in the order in which the old ones first appear.

    found : (n,) old numbers
    stays : (m,) by old number; the others become 0

    Returns (m,) new numbers by old one. An old number that is not found becomes 0.
    """
    first = np.full(len(stays), len(found))
    # Of several values for one place numpy keeps the last.
    first[found[::-1]] = np.arange(len(found))[::-1]
    kept = np.flatnonzero(stays & (first < len(found)))
    names = np.zeros(len(stays), np.int32)
    names[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1)
    return names


def votes(ids: NDArray[np.integer[Any]], classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n + 1, C + 1) voxels of each id that say each class, background included."""
    count, most_classes = int(ids.max(initial=0)) + 1, int(classes.max(initial=0)) + 1
    pairs = ids.ravel().astype(np.int64) * most_classes + classes.ravel()
    table = np.bincount(pairs, minlength=count * most_classes)
    return table.reshape(count, most_classes)


def most(table: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n,) the class with most votes of each object, the smaller one of two alike; from 1."""
    if table.shape[1] < 2:
        return np.ones(len(table) - 1, np.uint8)
    return np.asarray(1 + table[1:, 1:].argmax(1), np.uint8)


def _radius(sigma: float) -> int:
    return ceil(_TRUNCATE * sigma)


def _heights(maps: Maps, smoothing: tuple[float, ...]) -> NDArray[np.int32]:
    heights = maps.depth + maps.centre
    if any(smoothing):
        radius = [_radius(sigma) for sigma in smoothing]
        ndimage.gaussian_filter(heights, smoothing, output=heights, mode="nearest", radius=radius)
    heights *= _STEPS / 2
    return np.asarray(np.rint(heights, out=heights), np.int32)


def _hills(
    heights: NDArray[np.int32], mask: NDArray[np.bool_], places: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """The hill of each voxel of the foreground, and the places of their tops, in order."""
    keys = np.full(mask.shape, -1, np.int64)
    keys.ravel()[places] = heights.ravel()[places]
    keys.ravel()[places] <<= _PLACE_BITS
    keys.ravel()[places] |= _LAST_PLACE - places
    _spread(keys)
    highest = keys.ravel()[places]
    del keys
    rank = np.empty(mask.size, np.int32)
    rank[places] = np.arange(len(places), dtype=np.int32)
    above = rank[_LAST_PLACE - (highest & _LAST_PLACE)]
    del rank, highest
    # Each step doubles the way that has been gone.
    while True:
        further = above[above]
        if np.array_equal(further, above):
            break
        above = further
    tops = np.flatnonzero(above == np.arange(len(places)))
    number = np.empty(len(places), np.int32)
    number[tops] = np.arange(len(tops), dtype=np.int32)
    return number[above], places[tops]


def _spread(keys: NDArray[np.int64]) -> None:
    """Give every voxel the highest key of it and its neighbours, in place."""
    for axis in range(keys.ndim):
        before = keys.copy()
        one, other = _neighbours(keys.shape, axis)
        np.maximum(keys[one], before[other], out=keys[one])
        np.maximum(keys[other], before[one], out=keys[other])


def _neighbours(shape: tuple[int, ...], axis: int) -> tuple[Box, Box]:
    """The voxels that have a next one along the axis, and those next ones."""
    whole = whole_box(shape)
    return replaced(whole, axis, slice(None, -1)), replaced(whole, axis, slice(1, None))


@dataclass(frozen=True, eq=False)
class _Passes:
    """The highest pass between any two hills that touch, the highest first.

    low, high : (n,) the hills
    height : (n,) int32
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    height: NDArray[np.int32]


def _passes(
    heights: NDArray[np.int32],
    places: NDArray[np.intp],
    hills: NDArray[np.int32],
    count: int,
) -> _Passes:
    """Hills touch where voxels share a face."""
    where = np.full(heights.shape, -1, np.int32)
    where.ravel()[places] = hills
    pairs, levels = [], []
    for axis in range(where.ndim):
        a, b = _neighbours(where.shape, axis)
        touching = (where[a] != where[b]) & (where[a] >= 0) & (where[b] >= 0)
        one, other = where[a][touching], where[b][touching]
        pair = np.minimum(one, other).astype(np.int64) * count + np.maximum(one, other)
        level = np.minimum(heights[a][touching], heights[b][touching])
        del touching, one, other
        # Axis by axis: a rough landscape has as many places where hills touch as voxels.
        pair, level = _highest(pair, level)
        pairs.append(pair)
        levels.append(level)
    pair, level = _highest(np.concatenate(pairs), np.concatenate(levels))
    order = np.lexsort((pair, -level))
    pair = pair[order]
    return _Passes(pair // count, pair % count, level[order])


def _highest(
    pair: NDArray[np.int64], level: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Every pair once, with the highest of its levels."""
    order = np.lexsort((level, pair))
    pair, level = pair[order], level[order]
    is_last = np.ones(len(pair), np.bool_)
    is_last[:-1] = pair[1:] != pair[:-1]
    return pair[is_last], level[is_last]


def _joined(
    passes: _Passes,
    tops: NDArray[np.int32],
    has_seed: NDArray[np.bool_],
    contrast: float,
) -> NDArray[np.int64]:
    """The number of the object of each hill; as many as there are hills for one without a seed.

    tops : (n,) heights of the hills
    """
    count = len(tops)
    # Only the highest ways between hills matter: a lower pass between hills that have a higher
    # way is either inside an object by then, or deeper than one that has parted them.
    order = np.arange(1, len(passes.low) + 1, dtype=np.float64)
    graph = coo_array((order, (passes.low, passes.high)), shape=(count, count))
    tree = np.sort(minimum_spanning_tree(graph.tocsr()).data.astype(np.int64)) - 1
    parent, top, seeded = list(range(count)), tops.tolist(), has_seed.tolist()
    deep = contrast * _STEPS

    def root(hill: int) -> int:
        while parent[hill] != hill:
            parent[hill] = parent[parent[hill]]
            hill = parent[hill]
        return hill

    columns = (column[tree].tolist() for column in (passes.low, passes.high, passes.height))
    for low, high, level in zip(*columns, strict=True):
        one, other = root(low), root(high)
        if seeded[one] and seeded[other] and min(top[one], top[other]) - level > deep:
            continue
        parent[other] = one
        top[one] = max(top[one], top[other])
        seeded[one] = seeded[one] or seeded[other]
    roots = np.array([root(hill) for hill in range(count)])
    return np.where(np.array(seeded)[roots], roots, count)
