"""Objects of all images together: the sums from which every pooled share follows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetseg.metrics.objects import Matches, jaccard_parts
from unetseg.metrics.resampling import Interval, Resampling, intervals

Numbers = NDArray[np.float64]

# Places among the sums of an image; after them TP at each of the thresholds.
_TRUE, _PREDICTED, _TP, _IOU, _COMMON, _WHOLE, _AT = range(7)


def pooled_intervals(
    images: Sequence[Matches],
    units: NDArray[np.intp],
    thresholds: Sequence[float],
    resampling: Resampling,
) -> dict[str, Interval | None]:
    """The interval of every pooled share, by metric, from drawing images or groups of them.

    units : of each image, see `Resampling.units`

    Images without an object in either mask change no share and are not drawn.
    """
    amounts = np.zeros((int(units.max(initial=-1)) + 1, _AT + len(thresholds)))
    np.add.at(amounts, units, np.array([sums(found, thresholds) for found in images]))
    amounts = amounts[amounts[:, _TRUE] + amounts[:, _PREDICTED] > 0]
    made = intervals(amounts, shares, resampling)
    return dict(zip(share_names(thresholds), made, strict=True))


def sums(found: Matches, thresholds: Sequence[float]) -> list[float]:
    """What an image adds to the sums."""
    matched = found.matched(0.5)
    at = [float(len(found.matched(threshold))) for threshold in thresholds]
    return [
        len(found.true_ids),
        len(found.predicted_ids),
        len(matched),
        float(found.iou[matched].sum()),
        *jaccard_parts(found),
        *at,
    ]


def share_names(thresholds: Sequence[float]) -> tuple[str, ...]:
    """What `shares` gives, in its order."""
    each = tuple(f"ap_{threshold:g}" for threshold in thresholds)
    shares_ = ("ap_mean", "f1", "precision", "recall", "pq", "sq", "rq", "aji")
    return (*each, *shares_, "relative_count_error")


def shares(total: Numbers) -> Numbers:
    """(..., k) sums over images -> (..., m) shares as `metrics.objects.score` has them."""
    true, predicted, tp, iou, common, whole = np.moveaxis(total[..., :_AT], -1, 0)
    both = true + predicted
    at = total[..., _AT:]
    each = at / (both[..., None] - at)
    f1 = 2 * tp / both
    others = (
        *(each.mean(-1), f1, tp / predicted, tp / true),
        *(2 * iou / both, iou / tp, f1, common / whole),
        (predicted - true) / true,
    )
    return np.concatenate([each, np.stack(others, axis=-1)], axis=-1)
