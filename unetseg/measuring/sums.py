"""What is measured of objects, in a form that can be summed up over the parts of a scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Of n objects, or of what a part of a scan holds of them, with d axes and C channels.

    ids : (n,) ascending
    counts : (n,) voxels, 1 or more
    centres : (n, d) mean place of their voxels, in voxels
    scatters : (n, d, d) sum over the voxels of the products of what parts them from the centre
    low, high : (n, d) the smallest box: first voxel, and first behind it
    means, squares : (n, C) mean intensity, and sum of the squared differences from it
    least, most : (n, C) extremes of the intensity
    """

    ids: Ints
    counts: Ints
    centres: Floats
    scatters: Floats
    low: Ints
    high: Ints
    means: Floats
    squares: Floats
    least: Floats
    most: Floats


def sums_of(labels: NDArray[np.integer[Any]], image: NDArray[Any], corner: Sequence[int]) -> Sums:
    """The sums of what is in a box.

    labels : (*box) ids; 0 belongs to no object
    image : (C, *box)
    corner : where the box begins
    """
    places = np.flatnonzero(labels)
    found = labels.ravel()[places]
    # One run of voxels per object.
    order = np.argsort(found, kind="stable")
    places = places[order]
    ids, starts, counts = np.unique(found[order], return_index=True, return_counts=True)
    runs = _Runs(starts, counts)
    where = np.stack(np.unravel_index(places, labels.shape), axis=1)
    centres, scatters = _spread(where.astype(np.float64), runs)
    values = image.reshape(len(image), -1)[:, places].T
    means, squares = _spread(values.astype(np.float64), runs, products=False)
    first = np.asarray(corner)
    return Sums(
        ids.astype(np.int64),
        counts,
        centres + first,
        scatters,
        runs.of(np.minimum, where) + first,
        runs.of(np.maximum, where) + first + 1,
        means,
        squares,
        runs.of(np.minimum, values).astype(np.float64),
        runs.of(np.maximum, values).astype(np.float64),
    )


def together(parts: Sequence[Sums]) -> Sums:
    """The sums of several parts, which have no voxel in common, as those of one."""
    every = Sums(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Sums.__dataclass_fields__
        )
    )
    order = np.argsort(every.ids, kind="stable")
    ids, starts, lengths = np.unique(every.ids[order], return_index=True, return_counts=True)
    runs = _Runs(starts, lengths)
    weights = every.counts[order]
    counts = runs.of(np.add, weights)

    def joined(centres: Floats) -> tuple[Floats, Floats]:
        """The mean, and how far each part's own mean is from it."""
        whole = runs.of(np.add, centres * weights[:, None]) / counts[:, None]
        return whole, centres - runs.spread_out(whole)

    centres, apart = joined(every.centres[order])
    between = weights[:, None, None] * apart[:, :, None] * apart[:, None, :]
    means, off = joined(every.means[order])
    return Sums(
        ids,
        counts,
        centres,
        runs.of(np.add, every.scatters[order] + between),
        runs.of(np.minimum, every.low[order]),
        runs.of(np.maximum, every.high[order]),
        means,
        runs.of(np.add, every.squares[order] + weights[:, None] * off**2),
        runs.of(np.minimum, every.least[order]),
        runs.of(np.maximum, every.most[order]),
    )


@dataclass(frozen=True, eq=False)
class _Runs:
    """Rows of a table that belong together: where each run begins, and how long it is."""

    starts: Ints
    lengths: Ints

    def of(self, function: np.ufunc, rows: NDArray[Any]) -> NDArray[Any]:
        """The sum or an extreme of each run, column by column."""
        if not len(self.starts):
            return np.zeros((0, *rows.shape[1:]), rows.dtype)
        found: NDArray[Any] = function.reduceat(rows, self.starts, axis=0)
        return found

    def spread_out(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value per run as a value per row."""
        return np.repeat(values, self.lengths, axis=0)


def _spread(values: Floats, runs: _Runs, *, products: bool = True) -> tuple[Floats, Floats]:
    """Means of the columns per run, and sums of the products, or squares, of what is apart.

    Around the mean, not around 0: far from the corner nothing would be left of a small object.
    """
    means = runs.of(np.add, values) / runs.lengths[:, None]
    apart = values - runs.spread_out(means)
    if not products:
        return means, runs.of(np.add, apart**2)
    return means, runs.of(np.add, apart[:, :, None] * apart[:, None, :])
