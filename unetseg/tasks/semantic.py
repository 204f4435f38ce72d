"""Semantic segmentation: every voxel gets one class."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, Plan
from unetseg.formats.voxels import smallest_integers
from unetseg.geometry import Geometry
from unetseg.metrics import METRICS
from unetseg.pipeline.restoring import largest_output
from unetseg.records import Label, Mask
from unetseg.tasks.cleaning import Indices, clean, cleanings, voxel_size
from unetseg.tasks.losses import FromIndices, Total, class_dtype, dice_loss


class Semantic(FromIndices):
    """Softmax over K classes, trained with cross-entropy plus Dice."""

    metrics = METRICS
    cleans = True
    takes_largest = True

    def __init__(self, plan: Plan) -> None:
        data = plan.data
        self._unit = data.unit
        self._training = plan.training
        self._cleanings = cleanings(plan)
        self.outputs = len(data.class_values)
        self._values = smallest_integers(np.array(data.class_values))
        self.labels = tuple(map(Label, data.class_values, data.class_names))
        weights = plan.training.class_weights
        self._weights = torch.tensor([1.0, *weights]) if weights else None

    def level_loss(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
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
        truth = functional.one_hot(indices, self.outputs).movedim(-1, 1)[:, 1:].to(output.dtype)
        share = output.softmax(1)[:, 1:]
        dice = dice_loss(share, truth, known, over=training.dice_over, total=total)
        return training.cross_entropy_weight * entropy + training.dice_weight * dice

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(0)

    def indices(self, outputs: Tensor) -> Tensor:
        return largest_output(outputs).to(class_dtype(self.outputs))

    def mask(self, indices: Indices, geometry: Geometry) -> Mask:
        if self._cleanings:
            sized = any(cleaning.min_size for cleaning in self._cleanings.values())
            voxel = voxel_size(geometry, self._unit) if sized else 1.0
            indices = clean(indices, self._cleanings, voxel)
        return Mask(self._values[indices], geometry, self.labels)
