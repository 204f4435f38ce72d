"""What a prediction will need, known from the header: memory, and a way that keeps to it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, prod
from threading import Event, Thread
from time import perf_counter

import psutil
import torch

from unetseg.allocator import give_back_freed_memory
from unetseg.errors import DeviceError
from unetseg.geometry import Box, Geometry, replaced, sizes_of, whole_box
from unetseg.pipeline import Placement, place
from unetseg.pipeline.lazily import SAMPLES
from unetseg.pipeline.resampling import CHUNK_BYTES, needed
from unetseg.prediction.room import finishing_bytes
from unetseg.tasks.segmenting import Segmenter
from unetseg.windows import Tiling, Walk

# What is computed with beside what is counted: copies of a chunk, voxels that are decided
# together, freed memory not yet given back.
_SPARE_BYTES = 128 << 20
# So many parts, and a part is about a window wide.
_MOST_PARTS = 64
# Of free memory, how much may be used where no limit is given.
_SHARE = 0.85
# A chunk of interpolated outputs: what it is made from, before and after an axis, the largest.
_FINE_COPIES = 4


@dataclass(frozen=True)
class Limits:
    """The most memory that a prediction may use, in bytes; None is what is free.

    host : of the whole process
    device : of a card
    """

    host: int | None = None
    device: int | None = None


@dataclass(frozen=True)
class WindowCost:
    """What one window costs, measured.

    size_bytes : memory beside the weights while it is computed
    seconds : mirroring and the members of an ensemble included
    """

    window: tuple[int, ...]
    size_bytes: int
    seconds: float

    def of(self, window: tuple[int, ...]) -> "WindowCost":
        """For windows of another size."""
        share = prod(window) / prod(self.window)
        return WindowCost(window, ceil(self.size_bytes * share), self.seconds * share)


@dataclass(frozen=True)
class Outlook:
    """How a scan will be done, and what that needs.

    scan : its own grid
    grid : sizes at which the network sees it
    tiling : its windows
    windows : how many are computed; some more than the tiling has where parts share them
    walk : through the windows
    waiting_bytes : of the outputs that wait to be blended; in blocks, of all that a walk takes
    parts : boxes of the scan that are done one after another
    host_bytes : peak of the whole process
    device_bytes : peak of the card's memory, 0 on a processor
    seconds : of the network
    in_blocks : whether the file is read and the mask written block by block
    """

    scan: Geometry
    grid: tuple[int, ...]
    tiling: Tiling
    windows: int
    walk: Walk
    waiting_bytes: int
    parts: tuple[Box, ...]
    host_bytes: int
    device_bytes: int
    seconds: float
    in_blocks: bool = False

    def fits(self, limits: Limits) -> bool:
        """Whether it keeps to the limits."""
        pairs = (self.host_bytes, limits.host), (self.device_bytes, limits.device)
        return all(most is None or needs <= most for needs, most in pairs)


@dataclass(frozen=True)
class Header:
    """What is known of a scan before it is read.

    channels : how many
    itemsize : bytes of a voxel of a channel as it is read
    """

    geometry: Geometry
    channels: int
    itemsize: int


@dataclass(frozen=True)
class Beside:
    """Memory of a scan in blocks whose mask is not made box by box.

    walk_bytes : of what is kept while it is walked
    last_bytes : of what is done when all of it was walked
    """

    walk_bytes: int = 0
    last_bytes: int = 0


@dataclass(frozen=True)
class Foresight:
    """What there is to predict with.

    limits : that are to be kept to
    base_bytes : memory of the process before the scan
    with_maps : whether probabilities are wanted too
    """

    segmenter: Segmenter
    cost: WindowCost
    limits: Limits
    base_bytes: int
    with_maps: bool = False

    def __call__(self, header: Header) -> Outlook:
        """The fastest way that keeps to the limits.

        Raises DeviceError if none does, with what the most frugal one needs; ModelError if the
        scan has other axes than the model.
        """
        return self._fitting(self._ways(header))

    def of_blocks(self, geometry: Geometry, walk_bytes: int, beside: Beside) -> Outlook:
        """What a scan needs that is done in blocks; windows that blocks share count once.

        walk_bytes : what a walk through blocks may take

        Raises as for a whole scan.
        """
        segmenter = self.segmenter
        grid = place(geometry, segmenter.plan.data).grid.shape
        tiling, walk = segmenter.tiling(grid), segmenter.walk(grid)
        device, host = self._computing(tiling, walk)
        host += walk_bytes + self._maps_bytes(prod(geometry.shape)) + beside.walk_bytes
        # Values that the normalisation looks at, twice, and a sorted copy.
        sampled = 12 * min(2 * SAMPLES, prod(grid)) * len(segmenter.plan.data.channels)
        outlook = Outlook(
            geometry,
            grid,
            tiling,
            tiling.count,
            walk,
            walk_bytes,
            (whole_box(geometry.shape),),
            self.base_bytes + max(host, sampled, beside.last_bytes) + _SPARE_BYTES,
            device,
            tiling.count * self.cost.of(tiling.window).seconds,
            in_blocks=True,
        )
        return self._fitting([outlook])

    def _fitting(self, ways: Iterable[Outlook]) -> Outlook:
        """The first that keeps to the limits."""
        outlook = None
        for outlook in ways:
            if outlook.fits(self.limits):
                return outlook
        if outlook is None:
            raise ValueError("a scan without voxels has no windows")
        limits = self.limits
        on_card = outlook.device_bytes > (limits.device or outlook.device_bytes)
        least = outlook.device_bytes if on_card else outlook.host_bytes
        raise DeviceError(
            "does not fit into the memory that may be used",
            expected=f"at least {in_units(least)}",
            got=in_units((limits.device if on_card else limits.host) or 0),
            hint=f"give a larger --{'device-' if on_card else ''}memory, or another machine",
        )

    def _ways(self, header: Header) -> Iterator[Outlook]:
        """From the fastest to the most frugal."""
        placement = place(header.geometry, self.segmenter.plan.data)
        grid, turned = placement.grid.shape, placement.turned.shape
        first = self.segmenter.walk(grid)
        half = replace(first, dtype=torch.float16)
        walks = [first, half, replace(half, batch=1)]
        if self.segmenter.device.type == "cuda":
            walks = [replace(walk, on_device=True) for walk in walks] + walks
        whole = whole_box(turned)
        for walk in walks:
            yield self._outlook(header, placement, walk, (whole,))
        others = [axis for axis in range(len(grid)) if axis != first.axis]
        across = max(others, key=lambda axis: grid[axis])
        count = 2
        while count <= min(turned[across], _MOST_PARTS):
            cuts = pairwise(turned[across] * i // count for i in range(count + 1))
            parts = tuple(replaced(whole, across, slice(a, b)) for a, b in cuts)
            yield self._outlook(header, placement, walks[-1], parts)
            count *= 2

    def _outlook(
        self, header: Header, placement: Placement, walk: Walk, parts: tuple[Box, ...]
    ) -> Outlook:
        """What a way needs; the parts are boxes of the turned scan."""
        segmenter, grid = self.segmenter, placement.grid.shape
        tiling, maps = segmenter.tiling(grid), segmenter.blended_maps
        each = self.cost.of(tiling.window)
        boxes = [needed(placement.to_turned, part) for part in parts]
        waiting = max(ring_bytes(tiling, walk, box, maps) for box in boxes)
        windows = sum(prod(map(len, tiling.touching(box))) for box in boxes)
        voxels = prod(header.geometry.shape)
        scan = header.channels * header.itemsize * voxels
        image = 4 * header.channels * prod(grid)
        # Percentiles are found in a sorted copy; resampling has a few copies of a chunk.
        preparing = scan + image + 8 * prod(grid)
        preparing += 3 * min(CHUNK_BYTES, 4 * header.channels * voxels)
        numbers = voxels * segmenter.task.number_bytes
        device, host = self._computing(tiling, walk)
        host += image + numbers
        if segmenter.device.type == "cuda" and placement.turned.shape != grid:
            # The next scan is resampled meanwhile.
            device += 3 * min(CHUNK_BYTES, 4 * header.channels * voxels)
        if walk.on_device:
            device += image + waiting + self._deciding_bytes(tiling, walk, placement.turned.shape)
        else:
            host += waiting
        host += self._maps_bytes(voxels)
        finishing = finishing_bytes(segmenter.task, voxels)
        return Outlook(
            header.geometry,
            grid,
            tiling,
            windows,
            walk,
            waiting,
            tuple(map(placement.on_scan, parts)),
            self.base_bytes + max(preparing, host, finishing) + _SPARE_BYTES,
            device,
            windows * each.seconds,
        )

    def _deciding_bytes(self, tiling: Tiling, walk: Walk, turned: Sequence[int]) -> int:
        """What a card takes to interpolate a chunk of outputs and to find the largest of them."""
        plane = 4 * self.segmenter.task.outputs * prod(turned[1:])
        depth = (tiling.window[walk.axis] + 1) / tiling.size[walk.axis]
        slab = ceil(min(1, depth) * turned[0]) * plane
        return _FINE_COPIES * min(max(CHUNK_BYTES, plane), slab)

    def _maps_bytes(self, voxels: int) -> int:
        """What a chunk of probabilities takes: interpolated, in the making, being written."""
        if not self.with_maps:
            return 0
        return 6 * min(CHUNK_BYTES, 4 * self.segmenter.task.outputs * voxels)

    def _computing(self, tiling: Tiling, walk: Walk) -> tuple[int, int]:
        """Bytes of a card, and of the host, while a batch of windows is computed."""
        segmenter = self.segmenter
        used = self.cost.of(tiling.window).size_bytes * walk.batch
        # What the window gives, and the one without content that is kept.
        used += 8 * segmenter.blended_maps * prod(tiling.window)
        if segmenter.device.type == "cuda":
            return used + torch.cuda.memory_allocated(segmenter.device), 0
        return 0, used


def ring_bytes(tiling: Tiling, walk: Walk, box: Box, maps: int) -> int:
    """What the blended maps of a box need that wait for their windows; see windows.slabs."""
    if tiling.count == 1:
        return 0
    others = [size for axis, size in enumerate(sizes_of(box)) if axis != walk.axis]
    planes = tiling.window[walk.axis] + 1
    return int(planes * maps * prod(others) * walk.dtype.itemsize)


def window_cost(segmenter: Segmenter, channels: int) -> WindowCost:
    """Compute a window without content, twice, and look at the second time."""
    size = segmenter.tiling([1 << 20] * len(segmenter.plan.patch.size)).window
    image = torch.zeros(1, channels, *size)
    # Not constant, or some kernels would take a short cut.
    image[..., ::2] = 1
    seconds = 0.0

    def once() -> None:
        nonlocal seconds
        begun = perf_counter()
        segmenter.compute(image)
        seconds = perf_counter() - begun

    once()
    if segmenter.device.type == "cuda":
        before = torch.cuda.memory_allocated(segmenter.device)
        torch.cuda.reset_peak_memory_stats(segmenter.device)
        once()
        used = torch.cuda.max_memory_allocated(segmenter.device) - before
    else:
        used = _growth(once)
    return WindowCost(size, used, seconds)


def _growth(work: Callable[[], None]) -> int:
    """By how many bytes this process is larger while it works, at most."""
    give_back_freed_memory()
    process = psutil.Process()
    before = most = process.memory_info().rss
    ended = Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.001):
            most = max(most, process.memory_info().rss)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        ended.set()
        watcher.join()
    return int(most - before)


def free_memory(device: torch.device) -> Limits:
    """What this process may use where nobody says how much."""
    used = psutil.Process().memory_info().rss
    card = None
    if device.type == "cuda":
        card = int(_SHARE * torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, ValueError):
        return Limits(used + int(_SHARE * psutil.virtual_memory().available), card)
    return Limits(None, card)


def in_units(size: int) -> str:
    """1.5 GB, 20 MB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
