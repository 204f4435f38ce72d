"""Sliding windows: an image of any size through a network of a fixed patch, slab by slab."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from unetseg.devices import is_out_of_memory
from unetseg.geometry import Box, sizes_of, windows

# A voxel at a window's very edge still counts a little, or a lone window would divide by zero.
_SMALLEST_WEIGHT = 1e-3
# Outputs that a processor's cache holds along with what they are added to.
_CACHED_VALUES = 1 << 18


def gaussian(window: int) -> Tensor:
    """(window) weights of one axis, largest in the middle, deviation an eighth, never zero."""
    offset = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    return torch.exp(-0.5 * (offset / (window / 8)) ** 2).clamp_min(_SMALLEST_WEIGHT)


def _shares(size: int, window: int, first: Sequence[int]) -> Tensor:
    """(windows, window): how much of each voxel's output each window of an axis gives.

    As all windows are a product of those of each axis, so are the shares, and they add up to 1.
    """
    weights = gaussian(window)
    total = torch.zeros(size, dtype=torch.float64)
    for start in first:
        total[start : start + window] += weights
    return torch.stack([weights / total[start : start + window] for start in first]).float()


@dataclass(frozen=True)
class Tiling:
    """The windows of an image: the same ones whatever part of the image is asked for.

    size : of the image, and of the zeros behind it where an axis is too short for the network
    window : of every window
    first : per axis, where the windows begin
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    first: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls,
        size: Sequence[int],
        patch: Sequence[int],
        overlap: float,
        smallest: Sequence[int] | None = None,
        *,
        most: float = 1.0,
    ) -> "Tiling":
        """The fewest windows, evenly spread, that overlap by at least that share of a patch.

        patch : the least window; an axis shorter than it is taken whole
        smallest : an axis shorter than this is padded; larger windows are a multiple of its half
        most : the largest window, in patches along each axis
        """
        padded = tuple(map(max, size, smallest or size))
        multiples = [max(1, least // 2) for least in smallest or [1] * len(padded)]
        axes = [
            windows(n, p, overlap, most, multiple)
            for n, p, multiple in zip(padded, patch, multiples, strict=True)
        ]
        return cls(padded, tuple(edge for edge, _ in axes), tuple(first for _, first in axes))

    @property
    def count(self) -> int:
        return reduce(lambda total, axis: total * len(axis), self.first, 1)

    def touching(self, box: Box) -> tuple[tuple[int, ...], ...]:
        """Per axis, the numbers of the windows that have a voxel of the box."""
        return tuple(
            tuple(i for i, a in enumerate(first) if a < part.stop and a + window > part.start)
            for first, window, part in zip(self.first, self.window, box, strict=True)
        )

    def reach(self, box: Box) -> Box:
        """What the windows that have a voxel of the box are made of."""
        return tuple(
            slice(first[numbers[0]], first[numbers[-1]] + window)
            for first, window, numbers in zip(
                self.first, self.window, self.touching(box), strict=True
            )
        )


@dataclass(frozen=True)
class Walk:
    """How the windows are walked; the outputs do not depend on it, but for rounding.

    axis : along which slabs are finished one after another
    batch : windows that go through the network together
    dtype : of the outputs that wait to be blended
    on_device : whether they wait on the network's device, or in host memory
    """

    axis: int
    batch: int = 1
    dtype: torch.dtype = torch.float32
    on_device: bool = False


Network = Callable[[Tensor], Tensor]
Reader = Callable[[Box], Tensor]

_HOST = torch.device("cpu")
_FEWER = "out of memory: {count} at a time from here on"
_ELSEWHERE = "out of memory: outputs wait in host memory from here on"


class Batches:
    """Windows through a network, several at once, and fewer where memory is short.

    network : (B, C, *window) -> (B, K, *window)
    size : windows that go through it together
    told : hears how they go on when memory runs out
    room : asked for memory once a single window does not fit; whether there is more of it now
    """

    def __init__(
        self,
        network: Network,
        size: int,
        device: torch.device,
        told: Callable[[str], None],
        room: Callable[[], bool] = lambda: False,
    ) -> None:
        self.size = size
        self._network, self._device, self._told, self._room = network, device, told, room

    def __call__(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """The (K, *window) outputs of each (C, *window), in the network's own precision.

        Raises RuntimeError if memory does not suffice for a single window.
        """
        done: list[Tensor] = []
        while len(done) < len(windows):
            group = windows[len(done) : len(done) + self.size]
            try:
                done += self._network(torch.stack(list(group)).to(self._device))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                # The windows that are done stay done.
                if len(group) > 1:
                    self.size = len(group) // 2
                    count = f"{self.size} windows" if self.size > 1 else "one window"
                    self._told(_FEWER.format(count=count))
                elif not self._room():
                    raise
        return done


def slabs(
    network: Network,
    image: Reader,
    tiling: Tiling,
    walk: Walk,
    *,
    box: Box,
    device: torch.device,
    told: Callable[[str], None],
) -> Iterator[tuple[slice, Tensor]]:
    """The network's outputs in a box, blended where windows overlap.

    network : (B, C, *window) -> (B, K, *window)
    image : box inside the tiling's size -> (C, *box), on any device
    told : hears how it goes on when memory runs out: with fewer windows at a time, then with
        outputs that wait in host memory

    Yields parts along the axis of the walk: where in the image, and the outputs
    (planes, *others, K) in the walk's dtype. Each begins with the last plane of the one before, as
    who interpolates needs both sides. The memory is used again by the next part.
    Raises RuntimeError if memory does not suffice for a single window.
    """
    ring: _Ring | None = None
    place = device if walk.on_device else _HOST

    def make_room() -> bool:
        nonlocal place
        if place == _HOST:
            return False
        place = _HOST
        if ring is not None:
            ring.move(place)
        told(_ELSEWHERE)
        return True

    runner = _Runner(Batches(network, walk.batch, device, told, make_room), image, tiling)
    axis = walk.axis
    if tiling.count == 1:
        outputs = next(runner([(0,) * len(box)])).movedim(0, -1)[box]
        yield box[axis], outputs.movedim(axis, 0).to(place).float()
        return
    sizes = zip(tiling.size, tiling.window, tiling.first, strict=True)
    shares = [_shares(*each) for each in sizes]
    numbers = tiling.touching(box)
    others = (each for a, each in enumerate(numbers) if a != axis)
    # Batches go on from one row of windows to the next.
    corners = [(*row[:axis], i, *row[axis:]) for i, *row in product(numbers[axis], *others)]
    for corner, outputs in zip(corners, runner(corners), strict=True):
        first = tiling.first[axis][corner[axis]]
        weights = reduce(
            lambda a, b: a[..., None] * b,
            [share[i] for share, i in zip(shares, corner, strict=True)],
        )
        if ring is None:
            try:
                ring = _Ring(tiling, walk, box, len(outputs), first, place)
            except RuntimeError as error:
                if not (is_out_of_memory(error) and make_room()):
                    raise
                ring = _Ring(tiling, walk, box, len(outputs), first, place)
        yield from ring.finished(first)
        ring.add(outputs.movedim(0, -1).to(place), weights.to(place), corner)
    if ring is None:
        raise ValueError("a box without voxels has no windows")
    yield from ring.finished(box[axis].stop)


class _Ring:
    """The outputs of the planes of a window and of the one before; plane p lies at p modulo depth.

    A plane is free when the next one has been given. The outputs of a voxel lie side by side: so
    they come from a processor's convolutions, and what is done to them is done to all at once.
    """

    def __init__(
        self,
        tiling: Tiling,
        walk: Walk,
        box: Box,
        outputs: int,
        first: int,
        device: torch.device,
    ) -> None:
        self._tiling, self._axis, self._box = tiling, walk.axis, box
        self._depth = tiling.window[walk.axis] + 1
        sizes = [*sizes_of(box), outputs]
        sizes[walk.axis] = self._depth
        # In memory as windows are, whatever the axis: side by side there, side by side here.
        planes = torch.zeros(sizes, dtype=walk.dtype, device=device)
        self._planes = planes.movedim(walk.axis, 0)
        self._first = self._done = first

    def move(self, device: torch.device) -> None:
        """Have the planes wait there."""
        self._planes = self._planes.to(device)

    def add(self, outputs: Tensor, weights: Tensor, corner: Sequence[int]) -> None:
        """Add a window's (*window, K) outputs with their (*window) weights."""
        source, target = [], []
        for axis, (first, part) in enumerate(zip(self._tiling.first, self._box, strict=True)):
            if axis == self._axis:
                continue
            start = first[corner[axis]]
            low = max(start, part.start)
            high = min(start + self._tiling.window[axis], part.stop)
            source.append(slice(low - start, high - start))
            target.append(slice(low - part.start, high - part.start))
        inside = (slice(None), *source)
        planes = outputs.movedim(self._axis, 0)[inside]
        shares = weights.movedim(self._axis, 0)[inside][..., None]
        place = self._tiling.first[self._axis][corner[self._axis]] % self._depth
        before = min(len(planes), self._depth - place)
        # A processor computes in 32 bits with a copy, which is to stay in its cache.
        rows = outputs.shape[0]
        step = max(1, _CACHED_VALUES * rows // planes.numel()) if planes.device == _HOST else rows
        for there, window in (
            (slice(place, place + before), slice(0, before)),
            (slice(0, len(planes) - before), slice(before, None)),
        ):
            parts = self._planes[(there, *target)], planes[window], shares[window]
            chunks = (torch.split(part.movedim(0, self._axis), step) for part in parts)
            for goal, values, share in zip(*chunks, strict=True):
                if goal.dtype == share.dtype:
                    goal.addcmul_(values, share)
                else:
                    goal += values * share

    def finished(self, stop: int) -> Iterator[tuple[slice, Tensor]]:
        """The planes before `stop` that were not given yet, and the last one that was."""
        wanted = self._box[self._axis]
        while self._done < stop:
            first = max(self._first, self._done - 1)
            place = first % self._depth
            if place == self._depth - 1 and first < self._done:
                # The next plane lies at the other end of the ring.
                end = first + 2
                planes = torch.cat([self._planes[place:], self._planes[:1]])
            else:
                end = min(stop, first + self._depth - place)
                planes = self._planes[place : place + end - first]
            low, high = max(first, wanted.start), min(end, wanted.stop)
            if low < high:
                yield slice(low, high), planes[low - first : high - first]
            self._planes[place : place + end - 1 - first].zero_()
            self._done = end


class _Runner:
    """The windows of an image through a network: constant ones only once."""

    def __init__(self, batches: Batches, image: Reader, tiling: Tiling) -> None:
        self._batches, self._image, self._tiling = batches, image, tiling
        self._constant: tuple[tuple[float, ...], Tensor] | None = None

    def __call__(self, corners: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """(K, *window) outputs of each window, in order."""
        waiting: list[Tensor] = []
        # Windows that lie between those of a batch and are known already: (place, outputs).
        known: list[tuple[int, Tensor]] = []
        for corner in corners:
            window = self._image(self._box(corner))
            values = _constants(window)
            if values is not None:
                known.append((len(waiting) + len(known), self._answer(window, values)))
            else:
                waiting.append(window)
            if len(waiting) >= self._batches.size or (not waiting and known):
                yield from self._merged(waiting, known)
                waiting, known = [], []
        yield from self._merged(waiting, known)

    def _merged(self, waiting: list[Tensor], known: list[tuple[int, Tensor]]) -> list[Tensor]:
        results = self._batches(waiting)
        for place, outputs in known:
            results.insert(place, outputs)
        return results

    def _box(self, corner: Sequence[int]) -> Box:
        pairs = zip(self._tiling.first, corner, self._tiling.window, strict=True)
        return tuple(slice(first[i], first[i] + window) for first, i, window in pairs)

    def _answer(self, window: Tensor, values: tuple[float, ...]) -> Tensor:
        """What the network says to a window without any structure; air, mostly."""
        if self._constant is None or self._constant[0] != values:
            self._constant = values, self._batches([window])[0]
        return self._constant[1]


def _constants(window: Tensor) -> tuple[float, ...] | None:
    """The value of each channel, if none of them varies."""
    flat = window.flatten(1)
    low, high = flat.aminmax(dim=1)
    return tuple(low.tolist()) if bool((low == high).all()) else None
