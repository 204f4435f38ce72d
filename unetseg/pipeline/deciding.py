"""Which output is the largest on the scan's grid, with few of the outputs there."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product, repeat
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.geometry import Box, inside, sizes_of, whole_box
from unetseg.pipeline.resampling import CHUNK_BYTES, Taps, chunks, needed
from unetseg.pipeline.restoring import Head

# Outputs that fit into the cache of a processor's core, with what is made of them.
_CACHED_VALUES = 1 << 19
# Of a voxel, if it has fewer outputs: where its corners are, and how much of each is taken.
_LEAST_VALUES = 64
# So few outputs are interpolated everywhere sooner than where they differ is looked for.
_FEW = 16
# Voxels of the scan along an edge of a tile in which they are.
_EDGE = 128
# What is kept of a voxel that is picked: three numbers of 8 bytes, and how they are found.
_PLACE_BYTES = 64


def largest_output(outputs: Tensor) -> Tensor:
    """(K, *S) -> (*S) int64 numbers of the largest."""
    # On a processor argmax over the first axis takes ten times as long.
    return outputs.max(0).indices


def largest(
    values: Tensor, where: Box, axes: Sequence[Taps], box: Box, head: Head | None = None
) -> Tensor:
    """(*box) numbers of the largest of the interpolated outputs, for many outputs too.

    values : (*where, K) outputs on the plan's grid, or the (*where, F) features of a head
    axes : linear, from the grid to the scan

    An output that is the largest at all corners of a cell of the grid is the largest everywhere
    between them. So only in cells whose corners differ anything is interpolated. Equal to
    interpolating all outputs and taking the largest, but where two are exactly the same.

    Returns uint8 for up to 256 outputs, int16 for more.
    """
    inner = needed(axes, box)
    near = values[inside(inner, where)]
    is_identity = all(taps.is_identity for taps in axes)
    if head is None and near.shape[-1] <= _FEW and not is_identity:
        return _of_few(near, axes, box)
    decide = _Decision(near, head)
    low = high = decide.of_grid(near)
    if is_identity:
        return low
    along = [_Along.of(each, part, near.device) for each, part in zip(axes, box, strict=True)]
    for axis, each in enumerate(along):
        if each.weights.shape[1] > 1:
            low, high = _of_two(torch.minimum, low, axis), _of_two(torch.maximum, high, axis)
    disputed = low != high
    result = torch.empty(sizes_of(box), dtype=low.dtype, device=low.device)
    for part in chunks(whole_box(result.shape), 0, _PLACE_BYTES * result[:1].numel()):
        first, *others = along
        here = [first.within(part[0]), *others]
        target = result[part[0]]
        target.copy_(_spread(low, here))
        between = _Between(near, here)
        for places in torch.split(_spread(disputed, here).nonzero(), decide.step):
            at = places.unbind(1)
            pairs = zip(here, at, strict=True)
            cell = tuple(each.first[place] for each, place in pairs)
            guesses = torch.stack([low[cell], high[cell]])
            target[at] = decide.of_rows(between(at), guesses)
    return result


def _of_few(near: Tensor, axes: Sequence[Taps], box: Box) -> Tensor:
    """The same of (*S, K) outputs, all of them interpolated, in tiles that the cache holds."""
    result = torch.empty(sizes_of(box), dtype=torch.uint8, device=near.device)
    for tile in product(*(_tiles(*each, near.device) for each in zip(axes, box, strict=True))):
        fine = near[tuple(part.inputs for part in tile)].movedim(-1, 0).float()
        for axis, part in enumerate(tile, start=1):
            # Products of matrices: a third of the time of picking and mixing.
            before, after = fine.shape[:axis], fine.shape[axis + 1 :]
            if axis == len(tile):
                fine = fine @ part.matrix.T
            else:
                rows = part.matrix @ fine.reshape(prod(before), -1, prod(after))
                fine = rows.reshape(*before, -1, *after)
        result[tuple(part.outputs for part in tile)] = largest_output(fine)
    return result


@dataclass(frozen=True, eq=False)
class _Tile:
    """A part of an axis of a box, what it needs of the grid that is there, and how."""

    outputs: slice
    inputs: slice
    matrix: Tensor


def _tiles(taps: Taps, part: slice, device: torch.device) -> list[_Tile]:
    origin = int(taps.first[part.start])
    found = []
    for start in range(part.start, part.stop, _EDGE):
        outputs = slice(start, min(start + _EDGE, part.stop))
        inputs = taps.needed(outputs.start, outputs.stop)
        found.append(
            _Tile(
                slice(outputs.start - part.start, outputs.stop - part.start),
                slice(inputs.start - origin, inputs.stop - origin),
                taps.matrix(outputs).to(device),
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Along:
    """An axis of a box of the scan.

    first : (n) with which plane of the grid a plane of the scan begins, of those that are there
    weights : (n, m) how much of it and of those after it is taken
    """

    first: Tensor
    weights: Tensor

    @classmethod
    def of(cls, taps: Taps, part: slice, device: torch.device) -> "_Along":
        first = taps.first[part]
        return cls((first - first[0]).to(device), taps.weights[part].to(device))

    def within(self, part: slice) -> "_Along":
        """A part of it, in the same planes of the grid."""
        return _Along(self.first[part], self.weights[part])


class _Decision:
    """Finds the largest outputs of voxels, as many at a time as the cache holds.

    like : (..., K) outputs, or the (..., F) features of a head
    """

    def __init__(self, like: Tensor, head: Head | None) -> None:
        outputs = len(head.bias) if head else like.shape[-1]
        on_card = like.device.type != "cpu"
        most = CHUNK_BYTES // 4 if on_card else _CACHED_VALUES * torch.get_num_threads()
        self.step = max(1, most // max(_LEAST_VALUES, outputs))
        self._dtype = torch.uint8 if outputs <= 256 else torch.int16
        self._weight: Tensor | None = None
        if head:
            self._weight = torch.cat([head.weight, head.bias[:, None]], 1)
            # Used again and again: memory that is new each time takes four times as long.
            self._made = torch.empty(outputs, self.step, device=like.device)
            # The bias goes with a feature that is 1.
            self._features = torch.ones(self.step, self._weight.shape[1], device=like.device)

    def of_grid(self, near: Tensor) -> Tensor:
        """(*S, K or F) -> (*S) numbers."""
        result = torch.empty(near.shape[:-1], dtype=self._dtype, device=near.device)
        if self._weight is None:
            planes = -(-self.step * len(near) // result.numel())
            for start in range(0, len(near), planes):
                part = slice(start, start + planes)
                result[part] = near[part].max(-1).indices
            return result
        guesses: Iterable[Tensor | None] = repeat(None)
        for plane, found in zip(near, result, strict=True):
            rows = torch.split(plane.reshape(-1, plane.shape[-1]), self.step)
            parts = [self.of_rows(some, guess) for some, guess in zip(rows, guesses, strict=False)]
            found.copy_(torch.cat(parts).reshape(found.shape))
            # Most voxels say what those of the plane before say.
            guesses = [part[None] for part in parts]
        return result

    def of_rows(self, rows: Tensor, guesses: Tensor | None = None) -> Tensor:
        """(n, K or F) -> (n) numbers, for up to a step of rows.

        guesses : (g, n) numbers of which one is mostly right
        """
        if self._weight is None:
            return rows.max(1).indices.to(self._dtype)
        features, made = self._features[: len(rows)], self._made[:, : len(rows)]
        features[:, :-1] = rows
        torch.mm(self._weight, features.T, out=made)
        if guesses is None:
            return largest_output(made).to(self._dtype)
        # The largest value alone is found ten times as fast as it and where it lies.
        best = made.amax(0)
        guessed = made.gather(0, guesses.long()).max(0)
        found = guesses.gather(0, guessed.indices[None])[0]
        wrong = (~(guessed.values >= best)).nonzero()[:, 0]
        made = self._weight @ features.index_select(0, wrong).T
        found[wrong] = largest_output(made).to(found.dtype)
        return found


class _Between:
    """Interpolates values of voxels that lie between those of the grid.

    near : (*S, n) on the grid
    along : the axes
    """

    def __init__(self, near: Tensor, along: Sequence[_Along]) -> None:
        width = near.shape[-1]
        start = int(along[0].first[0])
        stop = int(along[0].first[-1]) + along[0].weights.shape[1]
        near = near[start:stop].float()
        if near.stride(-1) != 1 or any(stride % width for stride in near.stride()[:-1]):
            near = near.contiguous()
        strides = [stride // width for stride in near.stride()[:-1]]
        count = 1 + sum((n - 1) * step for n, step in zip(near.shape[:-1], strides, strict=True))
        # All voxels one below the other, and some that lie between them in memory.
        self._table = near.as_strided((count, width), (width, 1))
        # (m, n) of each axis: how far down the table a tap is, and how much of it is taken.
        self._down = [
            torch.stack([step * (each.first + tap) for tap in range(each.weights.shape[1])])
            for step, each in zip(strides, along, strict=True)
        ]
        self._weights = [each.weights.T.contiguous() for each in along]
        self._down[0] -= strides[0] * start

    def __call__(self, at: Sequence[Tensor]) -> Tensor:
        """(n) numbers along each axis -> (n, values)."""
        down = _combined(torch.add, self._down, at)
        weights = _combined(torch.mul, self._weights, at)
        return functional.embedding_bag(down, self._table, mode="sum", per_sample_weights=weights)


def _combined(
    of_two: Callable[[Tensor, Tensor], Tensor], axes: Sequence[Tensor], at: Sequence[Tensor]
) -> Tensor:
    """(m, size) of each axis, (n) places along each -> (n, product of all m)."""
    picked = (axis.index_select(1, place) for axis, place in zip(axes, at, strict=True))
    found = reduce(lambda a, b: of_two(a[:, None], b[None]).flatten(0, 1), picked)
    # Turned round at the end: short rows would take ten times as long.
    return torch.stack(found.unbind(0), 1)


def _of_two(of_two: Callable[[Tensor, Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    """What is said of each two neighbours along an axis."""
    count = x.shape[axis] - 1
    return of_two(x.narrow(axis, 0, count), x.narrow(axis, 1, count))


def _spread(cells: Tensor, along: Sequence[_Along]) -> Tensor:
    """(*cells) -> for each voxel of the scan what is said of the cell that it lies in."""
    for axis, each in enumerate(along):
        cells = cells.index_select(axis, each.first)
    return cells
