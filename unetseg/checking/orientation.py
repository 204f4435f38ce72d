"""Whether the axes of each image point as in the rest of the set."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unetseg.checking.agreement import LEAST_CASES, negative
from unetseg.checking.coarse import unit_rows
from unetseg.checking.looks import CaseLook
from unetseg.records import Finding

# A direction is settled if all images but so many, or one, agree with the mean of the set better as
# they are than flipped, and usually by this much, as a correlation.
_EXCEPTIONS, _SETTLED_BY = 0.05, 0.05
# An image is the other way round if flipped it agrees better by this share of the usual margin.
_OTHER = 0.5
_AXES = "xyz"


def on_orientation(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """Images that are the other way round, or a negative, where the set has one way round."""
    if len(looks) < LEAST_CASES:
        return
    grid = looks[0].image.shape[1:]
    images = np.stack([look.image[0].astype(np.float32) for look in looks])
    others = unit_rows((images.sum(axis=0) - images).reshape(len(looks), -1))

    def fits(flips: Sequence[int]) -> NDArray[np.float32]:
        moved = np.flip(images, tuple(1 + axis for axis in flips)).reshape(len(looks), -1)
        products: NDArray[np.float32] = (unit_rows(moved) * others).sum(axis=1)
        return products

    as_is = fits(())
    told: set[str] = set()
    usual = float(np.median(as_is))
    if usual > _SETTLED_BY and _is_settled(as_is):
        for look, fit in zip(looks, as_is, strict=True):
            if fit < -_OTHER * usual:
                told.add(look.name)
                yield negative(look)
    axes = range(len(grid))
    for flips in [each for count in (1, 2, 3) for each in combinations(axes, count)]:
        margins = as_is - fits(flips)
        usual = float(np.median(margins))
        if usual < _SETTLED_BY or not _is_settled(margins):
            continue
        for look, margin in zip(looks, margins, strict=True):
            if margin < -_OTHER * usual and look.name not in told:
                told.add(look.name)
                yield _turned_round(look, flips)


def _is_settled(margins: NDArray[np.float32]) -> bool:
    return int((margins <= 0).sum()) <= max(1, _EXCEPTIONS * len(margins))


def _turned_round(look: CaseLook, flips: Sequence[int]) -> Finding:
    names = _AXES if len(look.shape) == 3 else ("vertical", "horizontal")
    along = " and ".join(names[axis] for axis in flips)
    return Finding(
        "warning",
        look.image_file,
        f"lies the other way round along {along} than the other images",
        "look at it: the header may name the wrong orientation",
        "orientation",
        (look.name,),
    )
