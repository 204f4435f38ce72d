"""How well two label images agree object by object: one id, one object.

truth, predicted : (*S) integer, same shape; 0 is background, any other value the id of an object

Which ids an object bears, and in what order, makes no difference. A true and a predicted object
match at a threshold if their intersection over union (IoU) is greater than it, and no object has
two partners. Above 0.5 there is never more than one candidate; below, as many pairs are made as
possible, and of the ways to do so the one with the greatest sum of IoU is taken.

TP counts the pairs, FP the predicted objects without a partner, FN the true ones. What is undefined
is NaN. Several images pooled are one large image: see `pooled`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from unetseg.errors import ShapeMismatch, UsageError

Labels = NDArray[np.integer[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
# Of F1, precision, recall and the panoptic qualities.
USUAL = 0.5

# As many voxels are tabled at once: bounds memory, whatever the size of the image.
_PART = 1 << 22


@dataclass(frozen=True, eq=False)
class Matches:
    """What the objects of two label images have in common.

    true_ids, predicted_ids : (n,) and (m,), in the raster order of the objects' first voxels
    true_sizes, predicted_sizes : voxels of each object, ignored ones not counted
    pairs : (k, 2) positions of a true and a predicted object that share voxels
    shared : (k,) voxels that they share
    """

    true_ids: Ints
    predicted_ids: Ints
    true_sizes: Ints
    predicted_sizes: Ints
    pairs: Ints
    shared: Ints

    @property
    def union(self) -> Ints:
        """(k,) voxels that are in one of the two objects of a pair, or in both."""
        both = self.true_sizes[self.pairs[:, 0]] + self.predicted_sizes[self.pairs[:, 1]]
        found: Ints = both - self.shared
        return found

    @property
    def iou(self) -> NDArray[np.float64]:
        """(k,) intersection over union of each pair."""
        found: NDArray[np.float64] = self.shared / self.union
        return found

    def matched(self, threshold: float) -> Ints:
        """Which of the pairs match: positions in `pairs`, ascending.

        threshold : at least 0 and less than 1; an IoU equal to it is no match

        Raises UsageError for another threshold.
        """
        checked_threshold(threshold)
        above = np.flatnonzero(self.iou > threshold)
        if threshold >= 0.5 or not len(above):
            return above
        return above[_assigned(self.pairs[above], self.iou[above])]

    def counts(self, threshold: float = USUAL) -> tuple[int, int, int]:
        """TP, FP and FN: matched pairs, predicted and true objects without a partner."""
        matched = len(self.matched(threshold))
        return matched, len(self.predicted_ids) - matched, len(self.true_ids) - matched

    def among(self, true: Bools, predicted: Bools) -> "Matches":
        """The same for some of the objects only: those of one class.

        true, predicted : (n,) and (m,), which objects are kept
        """
        kept = true[self.pairs[:, 0]] & predicted[self.pairs[:, 1]]
        numbers = [np.cumsum(mask) - 1 for mask in (true, predicted)]
        places = [number[self.pairs[kept, side]] for side, number in enumerate(numbers)]
        return Matches(
            self.true_ids[true],
            self.predicted_ids[predicted],
            self.true_sizes[true],
            self.predicted_sizes[predicted],
            np.stack(places, axis=1),
            self.shared[kept],
        )


def matches(truth: Labels, predicted: Labels, *, ignored: Bools | None = None) -> Matches:
    """Compare two label images; time and memory grow with the voxels, not with pairs of objects.

    ignored : (*S), voxels about which nobody knows anything; they count in no size and no overlap,
        and an object that has half of its voxels or more there, true or predicted, leaves the game

    Raises ShapeMismatch if the shapes differ.
    """
    for other in (predicted, ignored):
        if other is not None and other.shape != truth.shape:
            raise ShapeMismatch(
                "truth and predicted mask differ in shape", expected=truth.shape, got=other.shape
            )
    images = truth.ravel(), predicted.ravel()
    unknown = None if ignored is None else ignored.ravel()
    ids, numbered = zip(*map(_numbering, images), strict=True)
    table = csr_array(tuple(len(each) + 1 for each in ids), dtype=np.int64)
    hidden = [np.zeros(len(each) + 1, np.int64) for each in ids]
    first = [np.zeros(len(each) + 1, np.int64) for each in ids]
    # From the end to the beginning, so that what is noted last is an object's first voxel.
    for start in reversed(range(0, truth.size, _PART)):
        part = slice(start, min(start + _PART, truth.size))
        places = np.arange(part.start, part.stop)[::-1]
        both = [number(image[part]) for number, image in zip(numbered, images, strict=True)]
        for index, where in zip(both, first, strict=True):
            where[index[::-1]] = places
        if unknown is not None:
            for index, count in zip(both, hidden, strict=True):
                count += np.bincount(index[unknown[part]], minlength=len(count))
            both = [index[~unknown[part]] for index in both]
        ones = np.ones(len(both[0]), np.int64)
        table = table + coo_array((ones, tuple(both)), shape=table.shape).tocsr()
    return _in_order(table, ids, hidden, first)


def _in_order(
    table: csr_array, ids: Sequence[Ints], hidden: Sequence[Ints], first: Sequence[Ints]
) -> Matches:
    """The matches behind a table whose first row and column are the background's."""
    order, sizes, place = [], [], []
    for axis, (unseen, begin) in enumerate(zip(hidden, first, strict=True)):
        known = np.asarray(table.sum(axis=1 - axis)).ravel()
        # Without ignored voxels 0 < size: every id was found in the image.
        plays = known > unseen
        plays[0] = False
        ordered = np.flatnonzero(plays)
        ordered = ordered[np.argsort(begin[ordered])]
        number = np.full(len(known), -1)
        number[ordered] = np.arange(len(ordered))
        order.append(ordered)
        sizes.append(known[ordered])
        place.append(number)
    found = table.tocoo()
    pairs = np.stack([place[0][found.row], place[1][found.col]], axis=1).astype(np.int64)
    plays = (pairs >= 0).all(axis=1) & (found.data > 0)
    pairs, shared = pairs[plays], found.data[plays]
    sorted_ = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Matches(
        ids[0][order[0] - 1],
        ids[1][order[1] - 1],
        sizes[0],
        sizes[1],
        pairs[sorted_],
        shared[sorted_],
    )


def pooled(images: Iterable[Matches]) -> Matches:
    """Several images as one: TP, FP, FN, IoU and voxels are summed before any share is taken.

    An image without objects changes nothing.
    """
    each = list(images)
    offsets = np.zeros((len(each) + 1, 2), np.int64)
    counts = [(len(one.true_ids), len(one.predicted_ids)) for one in each]
    offsets[1:] = np.cumsum(np.reshape(counts, (-1, 2)), axis=0)
    none = np.zeros(0, np.int64)
    pairs = [one.pairs + offset for one, offset in zip(each, offsets[:-1], strict=True)]
    return Matches(
        np.concatenate([none, *(one.true_ids for one in each)]),
        np.concatenate([none, *(one.predicted_ids for one in each)]),
        np.concatenate([none, *(one.true_sizes for one in each)]),
        np.concatenate([none, *(one.predicted_sizes for one in each)]),
        np.concatenate([np.zeros((0, 2), np.int64), *pairs]),
        np.concatenate([none, *(one.shared for one in each)]),
    )


def average_precision(
    images: Iterable[Matches], thresholds: Sequence[float] = THRESHOLDS
) -> tuple[float, ...]:
    """TP / (TP + FP + FN) of all images together, at each of the thresholds.

    Called average precision by StarDist and Cellpose, threat score by others; it is no area under
    a curve, as there is no confidence to sort the objects by.

    Returns floats in [0, 1]; NaN if there is no object at all.
    Source: Schmidt et al. 2018, doi:10.1007/978-3-030-00934-2_30.
    """
    together = pooled(images)
    return tuple(_share(tp, tp + fp + fn) for tp, fp, fn in map(together.counts, thresholds))


def precision(found: Matches, threshold: float = USUAL) -> float:
    """TP / (TP + FP); NaN if nothing was predicted."""
    tp, fp, _ = found.counts(threshold)
    return _share(tp, tp + fp)


def recall(found: Matches, threshold: float = USUAL) -> float:
    """TP / (TP + FN); NaN if nothing is true."""
    tp, _, fn = found.counts(threshold)
    return _share(tp, tp + fn)


def f1(found: Matches, threshold: float = USUAL) -> float:
    """2 TP / (2 TP + FP + FN), which is the recognition quality too; NaN without any object."""
    tp, fp, fn = found.counts(threshold)
    return _share(2 * tp, 2 * tp + fp + fn)


def segmentation_quality(found: Matches, threshold: float = USUAL) -> float:
    """Mean IoU of the matched pairs; NaN if there are none. Source: see `panoptic_quality`."""
    matched = found.matched(threshold)
    return float(found.iou[matched].mean()) if len(matched) else float("nan")


def panoptic_quality(found: Matches, threshold: float = USUAL) -> float:
    """Sum of the IoU of the matched pairs / (TP + FP / 2 + FN / 2).

    The product of the segmentation quality and the recognition quality.

    Returns a float in [0, 1]; NaN without any object, 0.0 if none is matched.
    Source: Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963.
    """
    matched = found.matched(threshold)
    objects = len(found.true_ids) + len(found.predicted_ids)
    return 2 * float(found.iou[matched].sum()) / objects if objects else float("nan")


def aggregated_jaccard(found: Matches) -> float:
    """AJI: intersections over unions, each summed over the objects.

    Every true object goes with the predicted one of the highest IoU, which may serve several (of
    equally good ones the one with more common voxels, then the one that begins first). Predicted
    objects that serve none and true ones without an overlap add their voxels to the union.

    Returns a float in [0, 1]; NaN without any object, 0.0 if nothing overlaps.
    Source: Kumar et al. 2017, doi:10.1109/TMI.2017.2677499, algorithm 1.
    """
    common, whole = jaccard_parts(found)
    return _share(common, whole)


def jaccard_parts(found: Matches) -> tuple[int, int]:
    """The two sums of which the AJI is the quotient; those of images pooled are added."""
    true, predicted = found.pairs.T
    union = found.union
    # The best of each true object comes first among its pairs.
    order = np.lexsort((predicted, -found.shared, -found.iou, true))
    best = order[np.unique(true[order], return_index=True)[1]]
    alone = found.true_sizes.sum() - found.true_sizes[true[best]].sum()
    spare = np.ones(len(found.predicted_ids), np.bool_)
    spare[predicted[best]] = False
    whole = union[best].sum() + alone + found.predicted_sizes[spare].sum()
    return int(found.shared[best].sum()), int(whole)


def merges(found: Matches) -> int:
    """How many predicted objects hold at least half of each of two true ones or more."""
    return _holders(found, 0)


def splits(found: Matches) -> int:
    """How many true objects hold at least half of each of two predicted ones or more."""
    return _holders(found, 1)


def _holders(found: Matches, side: int) -> int:
    sizes = (found.true_sizes, found.predicted_sizes)[side][found.pairs[:, side]]
    holders = found.pairs[2 * found.shared >= sizes, 1 - side]
    return int(np.count_nonzero(np.bincount(holders) >= 2)) if len(holders) else 0


# Numbers of objects, not shares of them.
COUNTS = ("true", "predicted", "tp", "fp", "fn", "count_error", "merges", "splits")
# Away from 0, in either direction, is worse.
ERRORS = ("count_error", "relative_count_error")


def metric_names(thresholds: Sequence[float] = THRESHOLDS) -> tuple[str, ...]:
    """What `score` gives, in its order."""
    each = tuple(f"ap_{threshold:g}" for threshold in thresholds)
    shares = ("f1", "precision", "recall", "pq", "sq", "rq", "aji")
    return (*COUNTS[:5], *each, "ap_mean", *shares, *ERRORS, *COUNTS[6:])


def score(
    found: Matches, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[tuple[str, float], ...]:
    """All of `metric_names`, each with its name; of one image or of several pooled.

    thresholds : of the average precisions and their mean; all others are taken at an IoU of 0.5

    count_error is the number of predicted objects less that of the true ones, and
    relative_count_error its share of the true ones, NaN if there are none.
    """
    tp, fp, fn = found.counts()
    true, predicted = tp + fn, tp + fp
    at_each = average_precision([found], thresholds)
    values: tuple[float, ...] = (
        *(true, predicted, tp, fp, fn),
        *at_each,
        float(np.mean(at_each)),
        f1(found),
        precision(found),
        recall(found),
        panoptic_quality(found),
        segmentation_quality(found),
        f1(found),
        aggregated_jaccard(found),
        predicted - true,
        (predicted - true) / true if true else float("nan"),
        merges(found),
        splits(found),
    )
    return tuple(zip(metric_names(thresholds), map(float, values), strict=True))


def checked_threshold(threshold: float) -> float:
    """The threshold itself. Raises UsageError if it is not at least 0 and less than 1."""
    if not 0 <= threshold < 1:
        raise UsageError("not a threshold of the IoU", expected="0 <= number < 1", got=threshold)
    return threshold


def checked_thresholds(thresholds: Sequence[float]) -> Sequence[float]:
    """The thresholds themselves. Raises UsageError if there is none, or one is no threshold."""
    if not thresholds:
        raise UsageError("no thresholds of the IoU", expected="such as 0.5, 0.75")
    for threshold in thresholds:
        checked_threshold(threshold)
    return thresholds


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _numbering(image: Labels) -> tuple[Ints, Callable[[Labels], Ints]]:
    """The ids in an image, ascending, and what turns voxels into positions among them.

    Position 0 is the background, ids[k] has position k + 1.
    """
    if not image.size:
        return np.zeros(0, np.int64), lambda part: part.astype(np.int64)
    low, high = int(image.min()), int(image.max())
    if high - low < max(_PART, image.size // 8):
        seen = np.zeros(high - low + 1, np.bool_)
        for start in range(0, image.size, _PART):
            seen[image[start : start + _PART].astype(np.int64) - low] = True
        if low <= 0 <= high:
            seen[-low] = False
        positions = np.where(seen, np.cumsum(seen), 0)
        return (
            np.flatnonzero(seen) + low,
            lambda part: positions[part.astype(np.int64) - low],
        )
    values = np.unique(image)
    ids = values[values != 0].astype(np.int64)

    def number(part: Labels) -> Ints:
        return np.where(part == 0, 0, np.searchsorted(ids, part.astype(np.int64)) + 1)

    return ids, number


def _assigned(pairs: Ints, iou: NDArray[np.float64]) -> Ints:
    """Which of the pairs make the most couples, and of these choices the best ones.

    A true object may also be left alone, which costs more than all that a better IoU could gain.
    """
    true = np.unique(pairs[:, 0], return_inverse=True)[1]
    predicted = np.unique(pairs[:, 1], return_inverse=True)[1]
    n, m = int(true.max()) + 1, int(predicted.max()) + 1
    alone = np.arange(n)
    costs = np.concatenate([2 - iou / (n + 1), np.full(n, 4.0)])
    rows, columns = np.concatenate([true, alone]), np.concatenate([predicted, m + alone])
    graph = coo_array((costs, (rows, columns)), shape=(n, m + n)).tocsr()
    taken = min_weight_full_bipartite_matching(graph)
    partner = np.full(n, -1)
    partner[taken[0]] = taken[1]
    chosen: Ints = np.flatnonzero(partner[true] == predicted)
    return chosen
