"""Whether each mask belongs to its image: as all masks of the set belong to theirs.

A linear model learns from all cases where the foreground is, by brightness, texture and place. A
mask that was flipped, or belongs to another image, agrees better with what the model sees when it
is flipped back, or in the other image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.checking.coarse import unit_rows
from unetseg.checking.looks import CaseLook
from unetseg.records import Finding

# With fewer masks the set says nothing of any one of them.
LEAST_CASES = 8
# The model learns from so many cases at most, spread over the set.
_MOST_TAUGHT = 400
# A mask belongs elsewhere if it agrees there as masks of the set usually do and clearly better than
# here, or half as much and far better: shares of what is usual, and of it the gain.
_AS_USUAL, _CLEAR_GAIN = 0.8, 0.07
_HALF_AS_USUAL, _FAR_GAIN = 0.5, 0.3
# An image that is a negative of the others agrees with its mask by less than minus this share.
_NEGATIVE = -0.3
_RIDGE = 1e-4

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Masks and what the model sees in the images, a row for each case.

    masks, seen : (N, places) as they are
    own : (N,) correlation of each mask with what is seen in its own image
    """

    looks: tuple[CaseLook, ...]
    masks: Rows
    seen: Rows
    own: Rows

    @property
    def usual(self) -> float:
        """What a mask of this set and its image have in common."""
        return float(np.median(self.own))


def agreement(looks: Sequence[CaseLook]) -> Agreement | None:
    """Of the cases with foreground; None if they are too few."""
    some = tuple(look for look in looks if look.mask is not None and look.has_foreground)
    if len(some) < LEAST_CASES:
        return None
    masks = np.stack([np.ravel(look.mask) for look in some if look.mask is not None])
    shares = masks.astype(np.float32) / np.float32(255)
    mean = shares.mean(axis=0).reshape(some[0].image.shape[1:])
    place: NDArray[np.float32] = np.sqrt(np.maximum(0, ndimage.gaussian_filter(mean, 1.0)))
    seen = _seen(some, shares, place)
    own = (unit_rows(shares) * unit_rows(seen)).sum(axis=1)
    return Agreement(some, shares, seen, own)


def _seen(looks: Sequence[CaseLook], masks: Rows, place: NDArray[np.float32]) -> Rows:
    """Where the model sees foreground in each image, learned from the masks of the others."""
    step = -(-len(looks) // _MOST_TAUGHT)
    own = {}
    for index in range(0, len(looks), step):
        features = _features(looks[index], place)
        own[index] = features @ np.vstack([features, masks[index]]).T
    every: NDArray[np.float64] = np.stack(list(own.values())).sum(axis=0, dtype=np.float64)
    weights = _solved(every)
    rows = []
    for index, look in enumerate(looks):
        its = _solved(every - own[index]) if index in own else weights
        rows.append(its @ _features(look, place))
    return np.stack(rows)


def _solved(products: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weights with which the features come nearest to the masks."""
    squares, wanted = products[:, :-1], products[:, -1]
    ridge = _RIDGE * np.trace(squares) / len(squares) * np.eye(len(squares))
    return np.linalg.solve(squares + ridge, wanted).astype(np.float32)


def _features(look: CaseLook, place: NDArray[np.float32]) -> Rows:
    """(features, places): brightness at several scales, texture, their products, and all by place.

    place : (*grid), more where the masks of the set have foreground
    """
    image = look.image.astype(np.float32)
    several = len(image) > 1
    own = []
    for channel in image:
        near = ndimage.uniform_filter(channel, 3)
        own += [near, ndimage.uniform_filter(channel, 9)]
        if not several:
            texture = ndimage.uniform_filter(channel * channel, 3) - near * near
            own += [channel, ndimage.uniform_filter(channel, 5), np.sqrt(np.maximum(0, texture))]
    products = [one * other for one, other in combinations_with_replacement(own, 2)]
    plain = [np.ones_like(place), *own, *products]
    every = [*plain, *(2 * place * each for each in plain), place * place]
    return np.stack([np.ravel(each) for each in every])


# --- what is suspicious --------------------------------------------------------------------------


def on_agreement(found: Agreement) -> Iterator[Finding]:
    """Masks that fit flipped, or fit another image better; images that are a negative."""
    told: set[str] = set()
    for index, look in enumerate(found.looks):
        finding = _negative(found, index) or _flipped(found, index)
        if finding is not None:
            told.add(look.name)
            yield finding
    yield from _exchanged(found, told)


def _is_better(best: float, own: float, usual: float) -> bool:
    """Whether a mask belongs where it agrees by `best`, rather than where it agrees by `own`."""
    if usual <= 0:
        return False
    gain = (best - own) / usual
    return (best > _AS_USUAL * usual and gain > _CLEAR_GAIN) or (
        best > _HALF_AS_USUAL * usual and gain > _FAR_GAIN
    )


def _negative(found: Agreement, index: int) -> Finding | None:
    is_negative = found.own[index] < _NEGATIVE * found.usual
    return negative(found.looks[index]) if is_negative else None


def negative(look: CaseLook) -> Finding:
    """An image that is dark where the others are bright."""
    return Finding(
        "warning",
        look.image_file,
        "looks like a negative of the other images: dark where they are bright",
        "look at it: another stain, another sequence, or inverted values",
        "inverted",
        (look.name,),
    )


def _flipped(found: Agreement, index: int) -> Finding | None:
    """The mask fits its image clearly better in another direction."""
    look = found.looks[index]
    grid = look.image.shape[1:]
    mask, seen = found.masks[index].reshape(grid), unit_rows(found.seen[index : index + 1])[0]
    best, words = 0.0, ""
    for way, order, flips in _ways(look):
        moved = np.flip(mask.transpose(order), flips)
        fits = float(unit_rows(moved.reshape(1, -1))[0] @ seen)
        if fits > best:
            best, words = fits, way
    if not _is_better(best, float(found.own[index]), found.usual):
        return None
    return Finding(
        "warning",
        look.mask_file,
        f"fits its image better {words}: agreement {best:.2f} instead of {found.own[index]:.2f}, "
        f"in this set usually {found.usual:.2f}",
        "look at both: the mask was probably saved in another orientation than its image",
        "mask-flip",
        (look.name,),
    )


def _ways(look: CaseLook) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Other directions of an array of this shape: in words, the order of axes, axes to flip."""
    axes = tuple(range(len(look.shape)))
    names: Sequence[str] = ("along x", "along y", "along z")
    if len(axes) == 2:
        names = ("vertically", "horizontally")
    for order in permutations(axes):
        if any(look.shape[axis] != look.shape[order[axis]] for axis in axes):
            continue
        for flags in product((False, True), repeat=len(axes)):
            flips = tuple(axis for axis in axes if flags[axis])
            if order == axes and not flips:
                continue
            words = ["with axes exchanged"] if order != axes else []
            words += [f"flipped {' and '.join(names[axis] for axis in flips)}"] if flips else []
            yield " and ".join(words), order, flips


def _exchanged(found: Agreement, told: set[str]) -> Iterator[Finding]:
    """Masks that fit another image of their shape clearly better than their own."""
    # What all masks have in common tells none from another.
    masks = unit_rows(found.masks - found.masks.mean(axis=0))
    seen = unit_rows(found.seen - found.seen.mean(axis=0))
    own = (masks * seen).sum(axis=1)
    usual = float(np.median(own))
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, look in enumerate(found.looks):
        if look.name not in told:
            groups.setdefault(look.shape, []).append(index)
    for group in groups.values():
        fits = masks[group] @ seen[group].T
        np.fill_diagonal(fits, -1)
        for index, row in zip(group, fits, strict=True):
            other = group[int(row.argmax())]
            best = float(row.max())
            if not _is_better(best, float(own[index]), usual):
                continue
            look, image = found.looks[index], found.looks[other]
            yield Finding(
                "warning",
                look.mask_file,
                f"fits the image of {image.name} better than its own: agreement {best:.2f} instead"
                f" of {own[index]:.2f}, in this set usually {usual:.2f}",
                "look at both: the masks may have been exchanged",
                "mismatch",
                (look.name, image.name),
            )
