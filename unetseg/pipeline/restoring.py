"""From outputs on the plan's grid to decisions on the scan's, without the outputs on the scan's.

What lies between grid voxels is interpolated linearly, then decided: the order that keeps thin
structures. Only a part is ever interpolated at once, and of many classes only those that can win.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from math import inf, prod

import torch
from torch import Tensor

from unetseg.geometry import Box, inside, replaced, sizes_of
from unetseg.pipeline.resampling import Taps, chunks, needed, resampled

# Cells of the grid along each edge of a block in which the classes that can win are looked for.
_BLOCK, _VALUES = 16, 200_000
# Each has blocks of its own in memory.
_MOST_THREADS = 8
# Of many classes, how many are asked what the largest value is at least.
_FEW = 12


def planes_on_scan(
    slabs: Iterable[tuple[slice, Tensor]], axes: Sequence[Taps], box: Box, axis: int
) -> Iterator[tuple[Box, Tensor, Box]]:
    """Parts of a box of the scan's grid whose outputs are all there.

    slabs : (planes of the grid, (planes, *others, K) outputs), as windows.slabs gives them
    axes : from the grid to the (turned) scan
    box : of the scan, whose needed outputs are what the slabs give
    axis : of the slabs

    Yields the part of the box, the outputs (*where, K) behind it, and where these lie.
    """
    along = axes[axis]
    others = needed(axes, box)
    start = box[axis].start
    for planes, outputs in slabs:
        ready = min(along.ready(planes.start, planes.stop).stop, box[axis].stop)
        if ready > start:
            part = replaced(box, axis, slice(start, ready))
            yield part, outputs.movedim(0, axis), replaced(others, axis, planes)
            start = ready


def interpolated(outputs: Tensor, where: Box, axes: Sequence[Taps], box: Box) -> Tensor:
    """(K, *box) float32 outputs on the scan's grid.

    outputs : (*where, K) on the plan's grid
    """
    inner = needed(axes, box)
    near = outputs[inside(inner, where)].movedim(-1, 0).float()
    return resampled(near, axes, box, [part.start for part in inner])


def largest(outputs: Tensor, where: Box, axes: Sequence[Taps], box: Box) -> Tensor:
    """(*box) numbers of the largest of the interpolated outputs, for many outputs too.

    outputs : (*where, K) on the plan's grid

    Linear interpolation gives no more than the largest and no less than the smallest of the
    values around. So a class whose largest value in a block is below the smallest of another one
    is never the largest there, and a class alone in its block needs no interpolation. Equal to
    interpolating all and taking the largest, but where two are exactly the same.

    Returns uint8 for up to 256 outputs, int16 for more.
    """
    dtype = torch.uint8 if outputs.shape[-1] <= 256 else torch.int16
    result = torch.empty(sizes_of(box), dtype=dtype, device=outputs.device)
    if all(taps.is_identity for taps in axes):
        for part in chunks(box, 0, 12 * result[:1].numel()):
            result[inside(part, box)] = outputs[inside(part, where)].max(-1).indices
        return result
    if outputs.device.type != "cpu":
        # Many small steps would cost more than all classes at once.
        _largest_of_all(outputs, where, axes, box, result)
        return result
    _fill(result, outputs, where, axes, box)
    return result


@contextmanager
def _threads_apart() -> Iterator[ThreadPoolExecutor]:
    """A thread for each core, each of which computes alone.

    Steps of less than a millisecond: threads that share one would wait for one another most of
    the time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, _MOST_THREADS)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _fill(result: Tensor, outputs: Tensor, where: Box, axes: Sequence[Taps], box: Box) -> None:
    """Block by block, see `largest`."""
    # As many values in a block whatever the number of classes.
    edge = max(_BLOCK, round((_VALUES / outputs.shape[-1]) ** (1 / len(box))))
    parts = [_cut(taps, part, edge) for taps, part in zip(axes, box, strict=True)]
    # The mode belongs to a thread.
    inference = torch.is_inference_mode_enabled()

    @torch.inference_mode(inference)
    def decide(cell: Sequence[_Part]) -> None:
        near = outputs[inside(tuple(part.inputs for part in cell), where)].contiguous()
        able = _able(near)
        target = result[inside(tuple(part.outputs for part in cell), box)]
        if len(able) == 1:
            target.fill_(int(able[0]))
        else:
            fine = near[..., able].float()
            for axis, part in enumerate(cell):
                # Products of small matrices: fewer calls than picking and mixing.
                before, after = fine.shape[:axis], fine.shape[axis + 1 :]
                rows = fine.reshape(prod(before), -1, prod(after))
                fine = torch.bmm(part.matrix.expand(len(rows), -1, -1), rows)
                fine = fine.reshape(*before, -1, *after)
            target.copy_(able[fine.max(-1).indices])

    with _threads_apart() as pool:
        # Takes what a block raised to whoever asked.
        deque(pool.map(decide, product(*parts)), maxlen=0)


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of an axis between grid planes: neighbours share planes and nothing else."""

    outputs: slice
    inputs: slice
    matrix: Tensor


def _cut(taps: Taps, part: slice, edge: int) -> list[_Part]:
    first = taps.first[part]
    steps = range(int(first[0]) + edge, int(first[-1]) + 1, edge)
    inner = [part.start + int(torch.searchsorted(first, step)) for step in steps]
    outputs = [slice(a, b) for a, b in pairwise([part.start, *inner, part.stop]) if a < b]
    return [_Part(o, taps.needed(o.start, o.stop), taps.matrix(o)) for o in outputs]


def largest_output(outputs: Tensor) -> Tensor:
    """(K, *S) -> (*S) int64 numbers of the largest."""
    # On a processor argmax over the first axis takes ten times as long.
    return outputs.max(0).indices


def _able(near: Tensor) -> Tensor:
    """The numbers of those of (*S, K) outputs that can be the largest somewhere between voxels.

    In every cell the largest is at least what any one class has at all of the cell's corners, and
    at least what any mean of classes has there: where one class falls and another rises, theirs
    does neither. Only the classes with the largest values are asked for that. A class that is
    below it at every voxel, in all cells around the voxel, is never the largest.
    """
    flat = near.reshape(-1, near.shape[-1])
    high = flat.amax(0)
    first = high.topk(min(_FEW, len(high))).indices
    each = flat[:, first].float()
    means = each.cumsum(1) / torch.arange(1.0, len(first) + 1)
    few = torch.cat([each, means[:, 1:]], 1)
    # Not below, instead of above: nothing is ruled out by a mean that is no number.
    able = (~(high < few.amin(0).max())).nonzero()[:, 0]
    if len(able) <= 3:
        return able
    least = few.reshape(*near.shape[:-1], -1)
    # An axis of one voxel has no cells; its lone plane is its own corner.
    axes = [axis for axis, size in enumerate(near.shape[:-1]) if size > 1]
    for axis in axes:
        least = _lower(least, axis)
    least = least.amax(-1)
    # The least of the cells around each voxel; beyond the block there is no cell.
    for axis in axes:
        beyond = torch.full_like(least.narrow(axis, 0, 1), inf)
        least = _lower(torch.cat([beyond, least, beyond], axis), axis)
    return able[~(flat[:, able] < least.reshape(-1, 1)).all(0)]


def _lower(x: Tensor, axis: int) -> Tensor:
    """The lower one of each two neighbours along an axis."""
    count = x.shape[axis] - 1
    return torch.minimum(x.narrow(axis, 0, count), x.narrow(axis, 1, count))


def _largest_of_all(
    outputs: Tensor, where: Box, axes: Sequence[Taps], box: Box, result: Tensor
) -> None:
    """All classes at once, so many planes at a time as a chunk holds."""
    for part in chunks(box, 0, 4 * outputs.shape[-1] * result[:1].numel()):
        best = interpolated(outputs, where, axes, part).max(0).indices
        result[inside(part, box)] = best.to(result.dtype)
