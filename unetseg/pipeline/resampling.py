"""Linear resampling, axis by axis, of any part of an image: a voxel needs only its neighbours.

Outer edges stay where they are, as in Geometry.resampled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from unetseg.geometry import Box, replaced, whole_box

# Of float32 that is resampled at once.
CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class Taps:
    """How one axis is resampled: output j is sum(weights[j] * input[first[j] : first[j] + m]).

    size : voxels of the input
    first : (n,) int64
    weights : (n, m) float32, each row with the sum 1
    """

    size: int
    first: Tensor
    weights: Tensor

    @property
    def is_identity(self) -> bool:
        return self.weights.shape[1] == 1 and len(self.first) == self.size

    def needed(self, start: int, stop: int) -> slice:
        """The inputs behind the outputs from `start` up to but without `stop`."""
        last = int(self.first[stop - 1]) + self.weights.shape[1]
        return slice(int(self.first[start]), last)

    def ready(self, start: int, stop: int) -> slice:
        """The outputs whose inputs all lie from `start` up to but without `stop`."""
        last = self.first + self.weights.shape[1]
        low = int(torch.searchsorted(self.first, start))
        high = int(torch.searchsorted(last, stop, right=True))
        return slice(low, max(low, high))

    def matrix(self, outputs: slice) -> Tensor:
        """(outputs, inputs) float32: the outputs from the inputs that `needed` names."""
        first = self.first[outputs] - self.first[outputs.start]
        count = int(first[-1]) + self.weights.shape[1]
        dense = torch.zeros(len(first), count)
        places = first[:, None] + torch.arange(self.weights.shape[1])
        return dense.scatter_(1, places, self.weights[outputs])

    def apply(self, x: Tensor, axis: int, outputs: slice, start: int) -> Tensor:
        """Resample one axis of a tensor.

        outputs : which of them
        start : the input that is the first of `x` along `axis`
        """
        if self.is_identity:
            return x.narrow(axis, outputs.start - start, outputs.stop - outputs.start)
        first = self.first[outputs].to(x.device) - start
        shape = [1] * x.ndim
        shape[axis] = len(first)
        weights = self.weights[outputs].to(x.device, x.dtype)
        if weights.shape[1] == 2:
            before, after = x.index_select(axis, first), x.index_select(axis, first + 1)
            return torch.lerp(before, after, weights[:, 1].reshape(shape))
        result = x.index_select(axis, first) * weights[:, 0].reshape(shape)
        for tap in range(1, weights.shape[1]):
            result += x.index_select(axis, first + tap) * weights[:, tap].reshape(shape)
        return result


def taps(size: int, new: int, *, smooth: bool) -> Taps:
    """How `size` voxels become `new` ones.

    smooth : where there are fewer, each is a mean over what it covers (a triangle as wide as two
        of the new voxels), so that fine structure is not aliased
    """
    if size == new:
        return Taps(size, torch.arange(size), torch.ones(size, 1))
    scale = size / new
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * scale - 0.5
    if not smooth or scale <= 1:
        # Beyond the centres of the outermost voxels there is nothing to lean on.
        centre = centre.clamp(0, size - 1)
        count = min(2, size)
        first = centre.floor().long().clamp_max(size - count)
        after = centre - first
        weights = torch.stack([1 - after, after], 1)[:, :count]
        return Taps(size, first, (weights / weights.sum(1, keepdim=True)).float())
    count = min(size, ceil(2 * scale) + 1)
    first = (centre - scale).ceil().long().clamp(0, size - count)
    distance = (first[:, None] + torch.arange(count) - centre[:, None]).abs()
    weights = (1 - distance / scale).clamp_min(0)
    return Taps(size, first, (weights / weights.sum(1, keepdim=True)).float())


def all_taps(shape: Sequence[int], new: Sequence[int], *, smooth: bool) -> tuple[Taps, ...]:
    """How each axis is resampled."""
    return tuple(taps(a, b, smooth=smooth) for a, b in zip(shape, new, strict=True))


def needed(axes: Sequence[Taps], box: Box) -> Box:
    """The box of inputs behind a box of outputs."""
    return tuple(taps.needed(part.start, part.stop) for taps, part in zip(axes, box, strict=True))


def resampled(x: Tensor, axes: Sequence[Taps], box: Box, corner: Sequence[int]) -> Tensor:
    """A box of outputs.

    x : (C, *S) the inputs that `needed` names, or more
    corner : the input that is the first of `x`, per axis

    Returns (C, *box).
    """
    parts = list(zip(range(x.ndim - 1), axes, box, corner, strict=True))
    # First what makes it smaller: the other axes have less to do.
    parts.sort(key=lambda part: len(part[1].first) / part[1].size)
    for axis, each, outputs, start in parts:
        x = each.apply(x, axis + 1, outputs, start)
    return x


def resize(x: Tensor, shape: Sequence[int], *, smooth: bool) -> Tensor:
    """(C, *S) -> (C, *shape); `smooth` as in `taps`."""
    if tuple(x.shape[1:]) == tuple(shape):
        return x
    axes = all_taps(x.shape[1:], shape, smooth=smooth)
    return resampled(x, axes, whole_box(shape), (0,) * len(shape))


def chunks(box: Box, axis: int, bytes_a_plane: int) -> Iterator[Box]:
    """The box in parts along an axis, each of which needs little memory."""
    step = max(1, CHUNK_BYTES // max(1, bytes_a_plane))
    for start in range(box[axis].start, box[axis].stop, step):
        yield replaced(box, axis, slice(start, min(start + step, box[axis].stop)))
