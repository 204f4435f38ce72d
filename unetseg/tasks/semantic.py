"""Semantic segmentation: every voxel gets one class."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, Plan
from unetseg.geometry import Geometry
from unetseg.metrics import METRICS
from unetseg.records import Label, Mask
from unetseg.tasks.cleaning import clean, cleanings, voxel_size

# Keeps the Dice of a class that is absent from the batch from being 0 / 0.
_SMOOTH = 1e-5


class Semantic:
    """Softmax over K classes, trained with cross-entropy plus Dice."""

    metrics = METRICS
    cleans = True

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outputs = len(plan.data.class_values)
        self._cleanings = cleanings(plan)
        values = np.array(plan.data.class_values)
        signed = values.min() < 0
        self._values = values.astype(
            np.min_scalar_type(int(values.min())) if signed else np.min_scalar_type(values.max())
        )
        if signed:
            self._values = values.astype(
                np.promote_types(self._values.dtype, np.min_scalar_type(-int(values.max()) - 1))
            )
        self.labels = tuple(
            Label(value, name)
            for value, name in zip(plan.data.class_values, plan.data.class_names, strict=True)
        )

    def targets(self, labels: Tensor) -> Tensor:
        return labels.long()

    def loss(self, outputs: list[Tensor], targets: Tensor) -> Tensor:
        # Coarser levels count half as much each, as in nnU-Net.
        weights = [0.5**level for level in range(len(outputs))]
        losses = [
            weight * self._level_loss(output.float(), _shrunk(targets, output.shape[2:]))
            for weight, output in zip(weights, outputs, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)

    def _level_loss(self, output: Tensor, targets: Tensor) -> Tensor:
        training = self.plan.training
        known = (targets != IGNORED)[:, None]
        entropy = functional.cross_entropy(
            output, targets, ignore_index=IGNORED, reduction="sum"
        ) / known.sum().clamp_min(1)
        truth = functional.one_hot(targets.clamp_min(0), self.outputs).movedim(-1, 1)
        truth = (truth * known)[:, 1:].to(output.dtype)
        share = (output.softmax(1) * known)[:, 1:]
        # Over the whole batch: a small patch often lacks a class, a batch seldom does.
        axes = [0, *range(2, output.ndim)]
        overlap = (share * truth).sum(axes)
        total = share.sum(axes) + truth.sum(axes)
        dice = (2 * overlap + _SMOOTH) / (total + _SMOOTH)
        return training.cross_entropy_weight * entropy + training.dice_weight * (1 - dice.mean())

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(0)

    def decode(self, outputs: Tensor, geometry: Geometry) -> Mask:
        indices = outputs.argmax(0).numpy()
        if self._cleanings:
            sized = any(cleaning.min_size for cleaning in self._cleanings.values())
            voxel = voxel_size(geometry, self.plan.data.unit) if sized else 1.0
            indices = clean(indices, self._cleanings, voxel)
        return Mask(self._values[indices], geometry, self.labels)


def _shrunk(targets: Tensor, size: torch.Size) -> Tensor:
    """(B, *S) class indices at a coarser level, each voxel the nearest one."""
    if targets.shape[1:] == size:
        return targets
    shifted = (targets - IGNORED).float()[:, None]
    shrunk = functional.interpolate(shifted, size=tuple(size), mode="nearest-exact")
    return shrunk[:, 0].round().long() + IGNORED
