"""How many objects images hold, and how large they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, prod

import numpy as np

from unetseg.geometry import Unit


@dataclass(frozen=True)
class ObjectSizes:
    """How many objects there are and how large, if every label value numbers one.

    per_image : median number
    diameter : median, of a disc or ball of the object's size, in the data's unit
    low, high : 5th and 95th percentile of the diameters
    """

    per_image: float
    diameter: float
    low: float
    high: float

    def sentence(self, unit: Unit) -> str:
        low, middle, high = (f"{size:.3g}" for size in (self.low, self.diameter, self.high))
        return f"{self.per_image:g} in an image, diameter {middle} {unit} ({low} to {high})"

    def facts(self, unit: Unit) -> dict[str, float | str]:
        """Plain values for model.json."""
        return {
            "per_image": self.per_image,
            "diameter": round(self.diameter, 4),
            "diameter_5th": round(self.low, 4),
            "diameter_95th": round(self.high, 4),
            "unit": unit,
        }


def object_sizes(
    counts: Sequence[Sequence[tuple[int, int]]], spacings: Sequence[Sequence[float]]
) -> ObjectSizes | None:
    """The sizes if every label value but 0 numbers an object; None if there is no other value.

    counts : voxels per label value, of each image
    spacings : of each image
    """
    numbers, diameters = [], []
    for found, spacing in zip(counts, spacings, strict=True):
        voxels = np.array([count for value, count in found if value], dtype=float)
        # Of the disc with this area, or the ball with this volume.
        unit_size = pi if len(spacing) == 2 else 4 / 3 * pi
        diameters.append(2 * (voxels * prod(spacing) / unit_size) ** (1 / len(spacing)))
        numbers.append(len(voxels))
    every = np.concatenate(diameters)
    if not len(every):
        return None
    low, middle, high = (float(n) for n in np.percentile(every, (5, 50, 95)))
    return ObjectSizes(float(np.median(numbers)), middle, low, high)
