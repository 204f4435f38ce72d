"""Scans and masks for made runs, with masks that are predicted with known kinds of mistakes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint16]


@dataclass(frozen=True)
class Made:
    """What is made.

    cases : to validate
    kind : what the masks hold
    shape : of the scans, two or three sizes
    classes : names of the classes or regions
    name : of case number k
    is_done : there is a model with scores and evidence; else an epoch is done
    """

    cases: int = 6
    kind: str = "classes"
    shape: tuple[int, ...] = (24, 32, 28)
    classes: tuple[str, ...] = ("core", "rim")
    name: Callable[[int], str] = "case_{:03d}".format
    is_done: bool = True
    seed: int = 0

    @property
    def is_flat(self) -> bool:
        return len(self.shape) == 2


@dataclass(frozen=True, eq=False)
class MadeCase:
    name: str
    image: NDArray[np.float32]
    truth: Labels
    found: Labels

    @classmethod
    def make(cls, made: Made, number: int) -> "MadeCase":
        rng = np.random.default_rng([made.seed, number])
        seed = int(rng.integers(1 << 30))
        make = _objects if made.kind == "objects" else _nested
        truth = make(made, np.random.default_rng(seed), 1.0)
        # Too small or too large, and the further it is moved, the worse; some parts are lost.
        found = make(made, np.random.default_rng(seed), rng.uniform(0.8, 1.12))
        found = np.roll(found, int(rng.integers(0, 4)), axis=int(rng.integers(len(made.shape))))
        if made.kind == "objects":
            ids = np.unique(found[found > 0])
            lost = rng.choice(ids, len(ids) // 8, replace=False)
            found[np.isin(found, lost)] = 0
            pairs = ids[:-1][rng.random(len(ids) - 1) < 0.1] if len(ids) else ids
            for one in pairs:
                found[found == one + 1] = one
        image = 100 + 40 * truth.clip(0, 3) + rng.normal(0, 12, made.shape)
        return cls(made.name(number), image.astype(np.float32), truth, found)


def _nested(made: Made, rng: np.random.Generator, factor: float) -> Labels:
    """A blob of the first class, its outer part of the second, and so on."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in made.shape), indexing="ij")
    centre = rng.uniform(-0.25, 0.25, len(made.shape))
    squeeze = rng.uniform(0.8, 1.3, len(made.shape))
    far = np.sqrt(sum((s * (x - c)) ** 2 for x, c, s in zip(axes, centre, squeeze, strict=True)))
    radius, count = factor * rng.uniform(0.3, 0.65), len(made.classes)
    # The first is the outermost, so that regions, which hold those after them, lie in one another.
    rings = np.floor((1 - far / radius) * count).astype(int) + 1
    return np.where(far < radius, rings.clip(1, count), 0).astype(np.uint16)


def _objects(made: Made, rng: np.random.Generator, factor: float) -> Labels:
    """Discs or balls on a grid, many of which touch."""
    labels = np.zeros(made.shape, np.uint16)
    step, number = 12, 0
    for corner in np.ndindex(*(size // step for size in made.shape)):
        if rng.random() < 0.75:
            number += 1
            centre = [step * c + step / 2 + rng.uniform(-1, 1) for c in corner]
            radius = factor * rng.uniform(4, 6.5)
            # Only what is near is looked at.
            box = tuple(slice(max(0, int(c) - step), int(c) + step) for c in centre)
            near = labels[box]
            axes = np.ogrid[
                tuple(slice(b.start, b.start + n) for b, n in zip(box, near.shape, strict=True))
            ]
            far = sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True))
            near[far < radius**2] = number
    again = np.unique(labels, return_inverse=True)[1]
    return again.reshape(made.shape).astype(np.uint16)


def members(made: Made) -> list[list[int]]:
    count = len(made.classes)
    if made.kind == "regions":
        return [list(range(k + 1, count + 1)) for k in range(count)]
    return [[k + 1] for k in range(count)]
