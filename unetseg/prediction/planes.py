"""A part of a scan that is read while the windows move over it."""

from concurrent.futures import Future

import torch
from torch import Tensor

from unetseg.geometry import Box, replaced
from unetseg.pipeline import Placement
from unetseg.pipeline.lazily import Part, Unread
from unetseg.prediction.hands import Hand


class Planes:
    """A box of a scan on the placement's grid, see GridImage, of which a stretch is in memory.

    reach : the box
    axis : along which it is read, forwards only
    step : planes that are read at once; the next ones are read while those before are in use
    """

    def __init__(self, unread: Unread, reach: Box, axis: int, step: int, reader: Hand) -> None:
        self._unread, self._reach, self._axis, self._step = unread, reach, axis, step
        self._reader = reader
        self._part: Part | None = None
        self._start = self._stop = reach[axis].start
        # Windows of an axis that is too short for the network reach beyond the image.
        self._end = min(reach[axis].stop, unread.placement.grid.shape[axis])
        self._next: Future[Part] | None = None
        self._order()

    @property
    def placement(self) -> Placement:
        return self._unread.placement

    def read(self, box: Box) -> Tensor:
        """(C, *box), which must not begin before a box that was read already."""
        while self._stop < min(box[self._axis].stop, self._end):
            self._advance(box[self._axis].start)
        if self._part is None:
            raise ValueError("a box outside of what is read")
        return self._part.read(box)

    def _order(self) -> None:
        """Have the planes read that follow."""
        axis, reach = self._axis, self._reach
        # So that what is stored in one piece is read once.
        stop = min((self._stop // self._step + 1) * self._step, self._end)
        if stop > self._stop:
            box = replaced(reach, axis, slice(self._stop, stop))
            self._next = self._reader.do(lambda: self._unread.load(box))
            self._stop_next = stop

    def _advance(self, start: int) -> None:
        """Go on to the planes that follow; those before `start` are no longer needed."""
        if self._next is None:
            raise ValueError("a box beyond what is read")
        found, self._next = self._next.result(), None
        part = self._part
        if part is not None and start < self._stop:
            axis = self._axis + 1
            before = part.image.narrow(axis, start - self._start, self._stop - start)
            found = Part(
                torch.cat([before, found.image], axis),
                (*found.corner[: self._axis], start, *found.corner[self._axis + 1 :]),
                found.placement,
            )
            self._start = start
        else:
            self._start = self._stop
        self._part, self._stop = found, self._stop_next
        self._order()
