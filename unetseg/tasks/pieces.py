"""Finished parts of a scan: decided on its own grid once the outputs behind them are there."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unetseg.geometry import Box, sizes_of
from unetseg.pipeline import Placement
from unetseg.pipeline.deciding import largest
from unetseg.pipeline.resampling import Taps, chunks
from unetseg.pipeline.restoring import Head, interpolated
from unetseg.tasks import Task
from unetseg.tasks.cleaning import Indices


@dataclass(frozen=True, eq=False)
class Piece:
    """A finished part of a scan: pieces do not overlap, and together they are the whole of it.

    box : where, on the scan's own grid
    indices : (*box) numbers of classes, as of Task.indices
    probabilities : (K, *box) float32, or (1, *box) of the likeliest class alone, where they were
        asked for
    """

    box: Box
    indices: Indices
    probabilities: NDArray[np.float32] | None = None


def together(pieces: Iterable[Piece], shape: Sequence[int]) -> Indices:
    """(*shape) numbers of classes of a whole scan."""
    indices: Indices | None = None
    for piece in pieces:
        if indices is None:
            indices = np.empty(shape, piece.indices.dtype)
        indices[piece.box] = piece.indices
    if indices is None:
        raise ValueError("a scan without voxels has no mask")
    return indices


@dataclass(frozen=True, eq=False)
class Decoder:
    """Outputs on the plan's grid, or features of which a head makes them -> pieces on the scan's.

    axis : along which they come
    probabilities : whether pieces have them
    only_likeliest : that of the likeliest class alone
    """

    task: Task
    placement: Placement
    axis: int
    probabilities: bool
    only_likeliest: bool = False
    head: Head | None = None

    @cached_property
    def axes(self) -> tuple[Taps, ...]:
        """From the grid to the turned scan."""
        return self.placement.to_turned

    def __call__(self, box: Box, values: Tensor, where: Box) -> Iterator[Piece]:
        """The pieces of a box of the turned scan.

        values : (*where, K) outputs on the grid, or the head's (*where, F) features; all that the
            box needs
        """
        # Where they wait, which may be another place than the network's.
        head = self.head and self.head.to(values.device)
        if self.task.takes_largest and not self.probabilities:
            yield self._piece(box, largest(values, where, self.axes, box, head), None)
            return
        plane = prod(sizes_of(box)) // sizes_of(box)[self.axis]
        for part in chunks(box, self.axis, 4 * self.task.outputs * plane):
            fine = interpolated(values, where, self.axes, part, head)
            maps = self.task.probabilities(fine) if self.probabilities else None
            if maps is not None and self.only_likeliest:
                maps = maps.amax(0, keepdim=True)
            yield self._piece(part, self.task.indices(fine), maps)

    def _piece(self, box: Box, indices: Tensor, maps: Tensor | None) -> Piece:
        back = self.placement.turn_back
        return Piece(
            self.placement.on_scan(box),
            back(indices).cpu().numpy(),
            None if maps is None else back(maps).cpu().numpy(),
        )
