"""What the losses have in common: known voxels, coarser levels, overlap."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED
from unetseg.geometry import Geometry
from unetseg.records import Mask
from unetseg.tasks.cleaning import Indices

# Keeps the Dice of a class that is absent from being 0 / 0.
_SMOOTH = 1e-5

# Sums of tensors over all devices that share a batch; what is divided by them is right for the
# whole batch, not only for one device's part of it.
Total = Callable[[Sequence[Tensor]], list[Tensor]]


def alone(parts: Sequence[Tensor]) -> list[Tensor]:
    """The sums over one device."""
    return list(parts)


class FromIndices(ABC):
    """What tasks have in common whose targets are class indices: a loss at every level."""

    def targets(self, labels: Tensor) -> Tensor:
        return labels.long()

    def loss(self, outputs: list[Tensor], targets: Tensor, total: Total = alone) -> Tensor:
        return over_levels(partial(self.level_loss, total=total), outputs, targets)

    @abstractmethod
    def indices(self, outputs: Tensor) -> Tensor:
        """See Task."""

    @abstractmethod
    def mask(self, indices: Indices, geometry: Geometry) -> Mask:
        """See Task."""

    def decode(self, outputs: Tensor, geometry: Geometry) -> Mask:
        """See Task."""
        return self.mask(self.indices(outputs).cpu().numpy(), geometry)

    @abstractmethod
    def level_loss(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
        """A scalar from (B, K, *S) float32 outputs and (B, *S) class indices."""


def class_dtype(classes: int) -> torch.dtype:
    """The smallest type that holds the numbers of so many classes."""
    return torch.uint8 if classes <= 256 else torch.int16


def over_levels(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: list[Tensor], targets: Tensor
) -> Tensor:
    """The mean loss of the outputs, finest first; each coarser one counts half as much.

    loss : of (B, K, *S) float32 outputs and (B, *S) class indices
    outputs : (B, K, *S) each, S smaller at coarser levels
    targets : (B, *S) class indices at full resolution

    Source: nnU-Net, for the weights.
    """
    weights = [0.5**level for level in range(len(outputs))]
    losses = [
        weight * loss(output.float(), _shrunk(targets, output.shape[2:]))
        for weight, output in zip(weights, outputs, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def _shrunk(targets: Tensor, size: torch.Size) -> Tensor:
    """(B, *S) class indices at a coarser level, each voxel the nearest one."""
    if targets.shape[1:] == size:
        return targets
    shifted = (targets - IGNORED).float()[:, None]
    shrunk = functional.interpolate(shifted, size=tuple(size), mode="nearest-exact")
    return shrunk[:, 0].round().long() + IGNORED


def dice_loss(
    share: Tensor,
    truth: Tensor,
    known: Tensor,
    *,
    over: Literal["batch", "case"],
    total: Total = alone,
) -> Tensor:
    """One minus the mean soft Dice of the maps, over known voxels.

    share : (B, K, *S) in [0, 1]
    truth : (B, K, *S) in {0, 1}
    known : (B, 1, *S) bool
    over : batch sums over all samples before it divides, case takes the mean over the samples
    total : see `Total`
    """
    truth, share = truth * known, share * known
    axes = list(range(2, share.ndim))
    if over == "batch":
        axes = [0, *axes]
    overlap, sizes = (share * truth).sum(axes), share.sum(axes) + truth.sum(axes)
    if over == "batch":
        overlap, sizes = total([overlap, sizes])
        return 1 - ((2 * overlap + _SMOOTH) / (sizes + _SMOOTH)).mean()
    dice = (2 * overlap + _SMOOTH) / (sizes + _SMOOTH)
    added, count = total([dice.mean(1).sum(), sizes.new_tensor(len(dice))])
    return 1 - added / count
