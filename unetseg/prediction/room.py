"""Memory of a scan: whether it is read as a whole, and how much of it is walked at once."""

from dataclasses import dataclass
from math import inf, prod

import psutil

from unetseg.config import DataPlan
from unetseg.geometry import Box, sizes_of
from unetseg.pipeline import Placement, place
from unetseg.pipeline.resampling import needed
from unetseg.records import Opened
from unetseg.tasks import Task
from unetseg.tasks.segmenting import Segmenter

# Of the memory: while one scan is whole in it, the next one and the last mask are as well.
_WHOLE_SHARE = 0.5
# What a walk may take: more would hardly make it faster.
_WALK_BYTES = 1 << 29
_WALK_SHARE = 0.25
# As large as a scan's class numbers: its mask, and the bytes that are compressed.
_COPIES = 3


def whole_bytes(opened: Opened, data: DataPlan, task: Task) -> int:
    """What a scan takes that is read as a whole: voxels, grid, class numbers, mask."""
    shape = opened.geometry.shape
    grid = place(opened.geometry, data).grid.shape
    channels = len(opened.channels)
    scan = channels * (prod(shape) * opened.dtype.itemsize + 4 * prod(grid))
    return scan + prod(shape) * (2 * task.number_bytes + task.mask_bytes)


def finishing_bytes(task: Task, voxels: int) -> int:
    """What it takes to make the class numbers of a whole scan its mask, and to write that."""
    return voxels * (_COPIES * task.number_bytes + task.mask_bytes)


def is_too_large(opened: Opened, data: DataPlan, task: Task, limit: int | None) -> bool:
    """Whether the scan is to be done in blocks; never if any box of it costs as much as all.

    limit : bytes that the prediction may take; what is free if None
    """
    if opened.block == opened.geometry.shape:
        return False
    return whole_bytes(opened, data, task) > _WHOLE_SHARE * free_bytes(limit)


def is_too_large_to_finish(task: Task, voxels: int, limit: int | None) -> bool:
    """Whether there is no room for the mask of so many voxels to be made as a whole."""
    return finishing_bytes(task, voxels) > free_bytes(limit)


def walk_bytes(limit: int | None) -> int:
    """What a walk through blocks may take beside the network and a batch of windows."""
    return min(_WALK_BYTES, int(_WALK_SHARE * free_bytes(limit)))


def free_bytes(limit: int | None) -> int:
    """What is left for scans: of a limit of the process, what it does not hold already."""
    if limit is None:
        return int(psutil.virtual_memory().available)
    return max(0, limit - int(psutil.Process().memory_info().rss))


@dataclass(frozen=True, eq=False)
class Walker:
    """What it takes to walk through a box of a scan.

    channels : C
    block : as of Opened
    height : voxels of a row of blocks along the axis of the walk, on the scan
    limit : bytes
    """

    segmenter: Segmenter
    placement: Placement
    channels: int
    block: tuple[int, ...]
    height: int
    limit: int

    @property
    def axis(self) -> int:
        """Along which the windows are walked, on the grid."""
        return self.segmenter.walk(self.placement.grid.shape).axis

    @property
    def scan_axis(self) -> int:
        """The same on the scan."""
        return self.placement.order[self.axis]

    @property
    def _window(self) -> int:
        return self.segmenter.tiling(self.placement.grid.shape).window[self.axis]

    @property
    def least(self) -> tuple[float, ...]:
        """Sizes per axis of the scan; of smaller boxes, hardly less would have to be read."""
        placement = self.placement
        window = self.segmenter.tiling(placement.grid.shape).window
        found = [inf] * len(window)
        for k, axis in enumerate(placement.order):
            if k != self.axis:
                found[axis] = window[k] * placement.turned.shape[k] / placement.grid.shape[k] / 4
        return tuple(found)

    def step(self, box: Box) -> int:
        """Planes of the grid that are read at once: what is stored in one piece, if it fits."""
        grid, turned = self.placement.grid.shape, self.placement.turned.shape
        stored = round(self.block[self.scan_axis] * grid[self.axis] / turned[self.axis])
        stored *= -(-self._window // max(1, stored))
        fits = self._bytes(box, stored) <= self.limit
        return max(1, stored if fits else self._window)

    def fits(self, box: Box) -> bool:
        """Whether the walk through a box of the scan takes no more than the limit."""
        return self._bytes(box, self._window) <= self.limit

    def _bytes(self, box: Box, step: int) -> int:
        segmenter, placement, axis = self.segmenter, self.placement, self.axis
        reach = segmenter.reach(placement, box)
        inner = needed(placement.to_turned, placement.on_turned(box))
        read, blended, written = (
            prod(size for k, size in enumerate(sizes_of(each)) if k != along)
            for each, along in ((reach, axis), (inner, axis), (box, self.scan_axis))
        )
        # In use, read ahead, and on its way from the file's type.
        image = 4 * self.channels * read * (self._window + 3 * step)
        # Values that wait, and the numbers of the largest as torch gives them.
        ring = blended * (self._window + 1) * (4 * segmenter.blended_maps + 8)
        # One row of blocks in the making and one being written, as class numbers and as values.
        numbers = (2 * segmenter.task.number_bytes + 2) * written * self.height
        return int(image + ring + numbers)
