"""A scan that is larger than memory, as the network takes it, one part at a time."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod

import torch
from torch import Tensor

from unetseg.config import DataPlan
from unetseg.geometry import Box, sizes_of
from unetseg.pipeline import Placement, beyond, on_grid, place
from unetseg.pipeline.intensity import Intensity, intensities, normalise
from unetseg.records import Opened

# Of a scan that is normalised by its own values, about how many of them are looked at.
SAMPLES = 1 << 22


@dataclass(frozen=True, eq=False)
class Part:
    """A box of a scan on the placement's grid, see GridImage.

    image : (C, *part) float32
    corner : where it begins
    """

    image: Tensor
    corner: tuple[int, ...]
    placement: Placement

    def read(self, box: Box) -> Tensor:
        """(C, *box), which must begin inside of the part."""
        inside = [
            slice(part.start - corner, part.stop - corner)
            for part, corner in zip(box, self.corner, strict=True)
        ]
        return beyond(self.image[(slice(None), *inside)], box)


class Unread:
    """A scan whose voxels stay in the file until a part is loaded.

    The same part is the same whoever loads it: what the normalisation needs to know of the whole
    comes from boxes that are spread evenly over it, all of it if there are few.

    Raises ModelError if the scan has other axes than the plan.
    """

    def __init__(self, opened: Opened, data: DataPlan) -> None:
        self.placement = place(opened.geometry, data)
        self._opened, self._data = opened, data

    @cached_property
    def _intensities(self) -> tuple[Intensity, ...]:
        if self._data.normalisation == "clip_zscore":
            return intensities(torch.empty(0, 0), self._data)
        boxes = self._sampled()
        step = max(1, len(boxes) * prod(sizes_of(boxes[0])) // SAMPLES)
        values = [
            on_grid(self._opened.read, self.placement, box).flatten(1)[:, ::step].clone()
            for box in boxes
        ]
        return intensities(torch.cat(values, 1), self._data)

    def _sampled(self) -> list[Box]:
        """Boxes of the grid, about as large as those in which the file is stored."""
        placement = self.placement
        shape = placement.grid.shape
        block = [
            max(1, round(self._opened.block[axis] * n / m))
            for axis, n, m in zip(placement.order, shape, placement.turned.shape, strict=True)
        ]
        counts = [ceil(n / b) for n, b in zip(shape, block, strict=True)]
        # The same share of the blocks along every axis, and more than the middle of it.
        share = min(1.0, (SAMPLES / prod(block) / prod(counts)) ** (1 / len(shape)))
        numbers = []
        for count in counts:
            some = min(count, max(3, round(count * share)))
            numbers.append([int((i + 0.5) * count / some) for i in range(some)])
        return [
            tuple(
                slice(i * b, min((i + 1) * b, n))
                for i, b, n in zip(corner, block, shape, strict=True)
            )
            for corner in product(*numbers)
        ]

    def load(self, box: Box) -> Part:
        """Read a box of the placement's grid. Raises DataError if the file is damaged."""
        shape = self.placement.grid.shape
        there = tuple(slice(p.start, min(p.stop, n)) for p, n in zip(box, shape, strict=True))
        # A copy: what is read may be part of what the file keeps in memory.
        image = on_grid(self._opened.read, self.placement, there)
        image = image.clone(memory_format=torch.contiguous_format)
        normalise(image, self._intensities)
        return Part(image, tuple(part.start for part in box), self.placement)
