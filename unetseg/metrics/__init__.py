"""How well two masks agree: overlap and distances between surfaces.

truth, predicted : (*S) bool, 2-D or 3-D, same shape
spacing : edge length of a voxel per axis, in the geometry's unit

A metric that is undefined is NaN, never a stand-in number. Every function raises ShapeMismatch if
the two shapes differ, or if there is not one spacing per axis.

The surface of a mask is made of its voxels that have a face neighbour outside the mask; what lies
beyond the border of the array counts as outside. Distances run between voxel centres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from unetseg.errors import ShapeMismatch, UsageError

Voxels = NDArray[np.bool_]
Distances = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]

METRICS = ("dice", "iou", "precision", "recall", "hd95", "assd", "surface_dice")
# In the unit of the spacing; the others are shares between 0 and 1.
DISTANCES = ("hd95", "assd")

# A distance of one voxel edge must be within a tolerance of one voxel edge, whatever way the two
# numbers were rounded: spacings come out of float32 headers.
_ROUNDING = 1e-6
# Beyond it, a table with a place for every possible value costs more than sorting the voxels.
_DENSE_VALUES = 1 << 16
# Surfaces that fill more of their box than this are searched by a distance transform, whose time
# grows with the box and not with the surface.
_DENSE_SURFACE = 0.125


def dice(truth: Voxels, predicted: Voxels) -> float:
    """Twice the common voxels over the sum of both masks' voxels.

    Returns a float in [0, 1]; NaN if both masks are empty, 0.0 if exactly one is.
    Source: Dice 1945, doi:10.2307/1932409.
    """
    both, of_truth, of_predicted = _counts(truth, predicted)
    return _share(2 * both, of_truth + of_predicted)


def iou(truth: Voxels, predicted: Voxels) -> float:
    """Intersection over union, the Jaccard index.

    Returns a float in [0, 1]; NaN if both masks are empty, 0.0 if exactly one is.
    """
    both, of_truth, of_predicted = _counts(truth, predicted)
    return _share(both, of_truth + of_predicted - both)


def precision(truth: Voxels, predicted: Voxels) -> float:
    """Share of the predicted voxels that are true.

    Returns a float in [0, 1]; NaN if the predicted mask is empty, 0.0 if only the truth is.
    """
    both, _, of_predicted = _counts(truth, predicted)
    return _share(both, of_predicted)


def recall(truth: Voxels, predicted: Voxels) -> float:
    """Share of the true voxels that were predicted.

    Returns a float in [0, 1]; NaN if the truth is empty, 0.0 if only the predicted mask is.
    """
    both, of_truth, _ = _counts(truth, predicted)
    return _share(both, of_truth)


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far the surface of each mask lies from the other one's, in the unit of the spacing.

    from_truth : (n,) ascending, one for each surface voxel of the truth
    from_predicted : (m,) ascending, one for each surface voxel of the predicted mask

    An empty mask has no surface: its own array is empty and the other's distances are infinite.
    """

    from_truth: Distances
    from_predicted: Distances

    @property
    def has_both(self) -> bool:
        """Whether neither of the two masks is empty."""
        return bool(self.from_truth.size and self.from_predicted.size)

    def hd95(self) -> float:
        """See `unetseg.metrics.hd95`."""
        if not self.has_both:
            return float("nan")
        directed = (self.from_truth, self.from_predicted)
        return max(float(np.percentile(distances, 95)) for distances in directed)

    def assd(self) -> float:
        """See `unetseg.metrics.assd`."""
        if not self.has_both:
            return float("nan")
        return float(np.concatenate([self.from_truth, self.from_predicted]).mean())

    def surface_dice(self, tolerance: float) -> float:
        """See `unetseg.metrics.surface_dice`."""
        directed = (self.from_truth, self.from_predicted)
        reach = checked_tolerance(tolerance) * (1 + _ROUNDING)
        within = sum(int(np.searchsorted(distances, reach, side="right")) for distances in directed)
        return _share(within, sum(distances.size for distances in directed))


def surface_distances(
    truth: Voxels, predicted: Voxels, spacing: Sequence[float]
) -> SurfaceDistances:
    """Distances between the surfaces of two masks, from which all surface metrics follow.

    Exact; takes time and memory (12 bytes a voxel at most) for the box that holds both masks only.
    """
    truth, predicted = _alike(truth, predicted)
    if len(spacing) != truth.ndim:
        raise ShapeMismatch("not one spacing per axis", expected=truth.ndim, got=len(spacing))
    if truth.strides[0] < truth.strides[-1]:
        # NIfTI lies so in memory; the distances are the same, and no pass jumps through it.
        truth, predicted, spacing = truth.T, predicted.T, spacing[::-1]
    boxes = ndimage.find_objects((truth | predicted).view(np.uint8))
    if not boxes:
        return SurfaceDistances(np.empty(0), np.empty(0))
    edges = [_surface(mask[boxes[0]]) for mask in (truth, predicted)]
    return SurfaceDistances(
        _to_nearest(edges[0], edges[1], spacing), _to_nearest(edges[1], edges[0], spacing)
    )


def hd95(truth: Voxels, predicted: Voxels, spacing: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance, in the unit of the spacing.

    The larger of the two directed percentiles (truth to predicted, predicted to truth), each with
    linear interpolation between ranks, as in MONAI.

    Returns a float >= 0; NaN if either mask is empty.
    Source: Huttenlocher et al. 1993, doi:10.1109/34.232073.
    """
    return surface_distances(truth, predicted, spacing).hd95()


def assd(truth: Voxels, predicted: Voxels, spacing: Sequence[float]) -> float:
    """Average symmetric surface distance, in the unit of the spacing.

    The mean over the surface voxels of both masks together, so the larger surface weighs more.

    Returns a float >= 0; NaN if either mask is empty.
    Source: Heimann et al. 2009, doi:10.1109/TMI.2009.2013851.
    """
    return surface_distances(truth, predicted, spacing).assd()


def surface_dice(
    truth: Voxels, predicted: Voxels, spacing: Sequence[float], *, tolerance: float
) -> float:
    """Share of the two surfaces that lies within `tolerance` of the other one.

    tolerance : >= 0, in the unit of the spacing; a distance equal to it is within

    Surface voxels are counted, not the areas they stand for, as in MONAI without subvoxels.

    Returns a float in [0, 1]; NaN if both masks are empty, 0.0 if exactly one is.
    Raises UsageError if the tolerance is negative or not finite.
    Source: Nikolov et al. 2021, doi:10.2196/26151.
    """
    return surface_distances(truth, predicted, spacing).surface_dice(tolerance)


def checked_tolerance(tolerance: float) -> float:
    """The tolerance itself. Raises UsageError if it is negative or not finite."""
    if not 0 <= tolerance < float("inf"):
        raise UsageError("not a surface tolerance", expected="a number >= 0", got=tolerance)
    return tolerance


def score(
    truth: Voxels, predicted: Voxels, spacing: Sequence[float], *, tolerance: float
) -> tuple[tuple[str, float], ...]:
    """All of METRICS, in that order, each with its name.

    tolerance : of the surface Dice, >= 0, in the unit of the spacing

    Raises UsageError if the tolerance is negative or not finite.
    """
    surfaces = surface_distances(truth, predicted, spacing)
    both, of_truth, of_predicted = _counts(truth, predicted)
    values = (
        _share(2 * both, of_truth + of_predicted),
        _share(both, of_truth + of_predicted - both),
        _share(both, of_predicted),
        _share(both, of_truth),
        surfaces.hd95(),
        surfaces.assd(),
        surfaces.surface_dice(tolerance),
    )
    return tuple(zip(METRICS, values, strict=True))


def dice_per_class(
    truth: Labels, predicted: Labels, classes: Sequence[Sequence[int]]
) -> tuple[float, ...]:
    """The Dice of each class, without the surfaces: for use during training.

    truth, predicted : (*S) integer, same shape
    classes : the values that count as each of them
    """
    return tuple(dice(np.isin(truth, values), np.isin(predicted, values)) for values in classes)


def class_boxes(truth: Labels, predicted: Labels) -> dict[int, tuple[slice, ...]]:
    """The values other than 0, ascending, each with the smallest box that holds it in both masks.

    truth, predicted : (*S) integer, same shape

    One pass over the voxels of each mask; a class need only be scored inside its box.
    Raises ShapeMismatch if the shapes differ.
    """
    if truth.shape != predicted.shape:
        raise _differing(truth, predicted)
    boxes: dict[int, list[tuple[slice, ...]]] = {}
    for labels in (truth, predicted):
        low, high = int(labels.min()), int(labels.max())
        first = low if low < 0 else 1
        if high - first < _DENSE_VALUES:
            values = np.arange(first, high + 1)
            numbered = labels if first == 1 else labels.astype(np.int32) - (first - 1)
        else:
            values = np.unique(labels)
            numbered = np.searchsorted(values, labels) + 1
        for value, box in zip(values.tolist(), ndimage.find_objects(numbered), strict=True):
            if value and box is not None:
                boxes.setdefault(value, []).append(box)
    return {value: around(boxes[value]) for value in sorted(boxes)}


def around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box that holds all of the boxes."""
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )


def _differing(truth: NDArray[Any], predicted: NDArray[Any]) -> ShapeMismatch:
    return ShapeMismatch(
        "truth and predicted mask differ in shape", expected=truth.shape, got=predicted.shape
    )


def _alike(truth: Voxels, predicted: Voxels) -> tuple[Voxels, Voxels]:
    if truth.shape != predicted.shape:
        raise _differing(truth, predicted)
    return truth.astype(bool, copy=False), predicted.astype(bool, copy=False)


def _counts(truth: Voxels, predicted: Voxels) -> tuple[int, int, int]:
    truth, predicted = _alike(truth, predicted)
    masks = (truth & predicted, truth, predicted)
    both, of_truth, of_predicted = (int(np.count_nonzero(mask)) for mask in masks)
    return both, of_truth, of_predicted


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _surface(mask: Voxels) -> Voxels:
    inside = mask.copy(order="K")
    for axis in range(mask.ndim):
        # Views whose first axis is this one; what lies beyond the border is outside.
        part, whole = inside.swapaxes(0, axis), mask.swapaxes(0, axis)
        part[1:] &= whole[:-1]
        part[:-1] &= whole[1:]
        part[0] = part[-1] = False
    return mask & ~inside


def _to_nearest(surface: Voxels, other: Voxels, spacing: Sequence[float]) -> Distances:
    """Ascending distances from each voxel of `surface` to the nearest one of `other`."""
    size, of_other = int(np.count_nonzero(surface)), int(np.count_nonzero(other))
    if not of_other:
        return np.full(size, np.inf)
    # Those on both surfaces, often most of them, are 0 away and need no search.
    apart = surface & ~other
    places = _places(apart)
    edges = np.asarray(spacing, np.float64)
    if of_other > _DENSE_SURFACE * other.size:
        # Indices instead of distances: a third of the memory, as only surface voxels are measured.
        nearest = ndimage.distance_transform_edt(
            ~other, sampling=tuple(spacing), return_distances=False, return_indices=True
        )[:, apart].T
    elif len(places):
        of_tree = _places(other)
        # Built for one search, so not with care.
        tree = KDTree(of_tree * edges, balanced_tree=False, compact_nodes=False)
        nearest = of_tree[tree.query(places * edges)[1]]
    else:
        nearest = places
    found = np.zeros(size)
    found[size - len(places) :] = np.sort(np.sqrt((((nearest - places) * edges) ** 2).sum(axis=1)))
    return found


def _places(mask: Voxels) -> NDArray[np.intp]:
    """(n, axes) indices of the voxels, as argwhere gives them, in a third of its time."""
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1)
