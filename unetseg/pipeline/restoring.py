"""From outputs on the plan's grid to decisions on the scan's, without the outputs on the scan's.

What lies between grid voxels is interpolated linearly, then decided: the order that keeps thin
structures. Only a part is ever interpolated at once, and of many classes only those that can win.

Many outputs need not lie on the plan's grid either. A network's last step makes all of them of the
same few features, linearly; windows are blended and voxels interpolated by shares that add up to
1. So features are blended, and outputs made of them where they are decided on: see Head.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetseg.geometry import Box, inside, replaced
from unetseg.pipeline.resampling import Taps, needed, resampled


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


@dataclass(frozen=True, eq=False)
class Head:
    """A network's last step: outputs = weight @ features + bias.

    weight : (K, F) float32
    bias : (K) float32
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(F, *S) float32 -> (K, *S)."""
        made = torch.addmm(self.bias[:, None], self.weight, features.flatten(1))
        return made.reshape(-1, *features.shape[1:])

    def to(self, device: torch.device) -> "Head":
        """The same on that device."""
        return Head(self.weight.to(device), self.bias.to(device))


def interpolated(
    values: Tensor, where: Box, axes: Sequence[Taps], box: Box, head: Head | None = None
) -> Tensor:
    """(K, *box) float32 outputs on the scan's grid.

    values : (*where, K) outputs on the plan's grid, or the (*where, F) features of a head
    """
    inner = needed(axes, box)
    near = values[inside(inner, where)].movedim(-1, 0).float()
    fine = resampled(near, axes, box, [part.start for part in inner])
    return head(fine) if head else fine
