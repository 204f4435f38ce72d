"""What the losses have in common: classes, known voxels, coarser levels, overlap."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, TrainingPlan
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


class FromLabels(ABC):
    """What tasks have in common: the labels are the targets, and every level has a loss."""

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
        """A scalar from (B, K, *S) float32 outputs and (B, ..., *S) targets."""


def class_dtype(classes: int) -> torch.dtype:
    """The smallest type that holds the numbers of so many classes."""
    return torch.uint8 if classes <= 256 else torch.int16


def over_levels(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: list[Tensor], targets: Tensor
) -> Tensor:
    """The mean loss of the outputs, finest first; each coarser one counts half as much.

    loss : of (B, K, *S) float32 outputs and (B, ..., *S) targets
    outputs : (B, K, *S) each, S smaller at coarser levels
    targets : (B, ..., *S) at full resolution

    Source: nnU-Net, for the weights.
    """
    weights = [0.5**level for level in range(len(outputs))]
    losses = [
        weight * loss(output.float(), _shrunk(targets, output.shape[2:]))
        for weight, output in zip(weights, outputs, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def _shrunk(targets: Tensor, size: torch.Size) -> Tensor:
    """(B, ..., *S) targets at a coarser level, each voxel the nearest one."""
    before = targets.shape[: -len(size)]
    if targets.shape == (*before, *size):
        return targets
    maps = targets.reshape(len(targets), -1, *targets.shape[-len(size) :])
    shrunk = functional.interpolate(maps.float(), size=tuple(size), mode="nearest-exact")
    return shrunk.reshape(*before, *size).to(targets.dtype)


class ClassLoss:
    """Cross-entropy and Dice of classes of which every voxel has one, background first."""

    def __init__(self, classes: int, training: TrainingPlan) -> None:
        self._classes, self._training = classes, training
        weights = training.class_weights
        self._weights = torch.tensor([1.0, *weights]) if weights else None

    def __call__(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
        """A scalar from (B, classes, *S) float32 outputs and (B, *S) class indices."""
        training = self._training
        known = (targets != IGNORED)[:, None]
        indices = targets.clamp_min(0)
        weights = None if self._weights is None else self._weights.to(output.device)
        weight = known.sum() if weights is None else (weights[indices][:, None] * known).sum()
        entropy = functional.cross_entropy(
            output, targets, weights, ignore_index=IGNORED, reduction="sum"
        )
        entropy, weight = total([entropy, weight])
        # Without a known voxel both are zero; a lone voxel may weigh less than one.
        entropy = entropy / torch.where(weight > 0, weight, 1)
        truth = functional.one_hot(indices, self._classes).movedim(-1, 1)[:, 1:].to(output.dtype)
        share = output.softmax(1)[:, 1:]
        dice = dice_loss(share, truth, known, over=training.dice_over, total=total)
        return training.cross_entropy_weight * entropy + training.dice_weight * dice


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
