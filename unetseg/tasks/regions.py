"""Regions: every voxel may be in several of them, as in BraTS."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, Plan
from unetseg.errors import UsageError
from unetseg.formats.voxels import smallest_integers
from unetseg.geometry import Geometry
from unetseg.metrics import METRICS
from unetseg.records import Label, Mask
from unetseg.regions import crossings
from unetseg.tasks.cleaning import Indices, cleanings
from unetseg.tasks.losses import FromLabels, Total, class_dtype, dice_loss


class Regions(FromLabels):
    """A sigmoid for each of K regions, trained with binary cross-entropy plus Dice."""

    metrics = METRICS
    cleans = False
    takes_largest = False
    is_local = True
    mask_bytes = 0
    score = "Dice"

    def __init__(self, plan: Plan) -> None:
        data = plan.data
        if cleanings(plan):
            raise UsageError(
                "masks of regions are not cleaned: a piece of one may be another's",
                where="decode.largest_component, decode.min_size, decode.fill_holes",
                hint="leave them out",
            )
        self._training = plan.training
        self.outputs = len(data.regions)
        self._values = smallest_integers(np.array(data.label_values))
        self._dtype = class_dtype(len(data.label_values))
        self.number_bytes = self._dtype.itemsize
        written = data.class_values[1:]
        self._written = [data.label_values.index(value) for value in written]
        self._crossings = [
            (pattern, data.label_values.index(value))
            for pattern, value in crossings(data.regions, written)
        ]
        self.labels = tuple(map(Label, data.class_values, data.class_names))
        # (classes, K): whether the class index is in the region.
        self._table = torch.zeros(len(data.label_values), self.outputs)
        for region, members in enumerate(data.members[1:]):
            self._table[list(members), region] = 1
        self._weights = torch.tensor(plan.training.class_weights or (1.0,) * self.outputs)

    def level_loss(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
        training = self._training
        known = (targets != IGNORED)[:, None]
        truth = self._table.to(output.device)[targets.clamp_min(0)].movedim(-1, 1)
        weights = self._weights.to(output.device).reshape(-1, *(1,) * (output.ndim - 2))
        # As in the cross-entropy of two classes: the voxels outside of a region weigh one.
        weights = torch.where(truth > 0, weights, 1.0) * known
        entropies = functional.binary_cross_entropy_with_logits(
            output, truth, weights, reduction="none"
        )
        axes = [0, *range(2, output.ndim)]
        entropy, weight = total([entropies.sum(axes), weights.sum(axes)])
        entropy = (entropy / torch.where(weight > 0, weight, 1)).mean()
        dice = dice_loss(output.sigmoid(), truth, known, over=training.dice_over, total=total)
        return training.cross_entropy_weight * entropy + training.dice_weight * dice

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def indices(self, outputs: Tensor) -> Tensor:
        """Numbers of label values rather than of regions, which may overlap."""
        inside = outputs > 0
        found = torch.zeros(outputs.shape[1:], dtype=self._dtype, device=outputs.device)
        for region, index in zip(inside, self._written, strict=True):
            found[region] = index
        for pattern, index in self._crossings:
            alike = [region == is_in for region, is_in in zip(inside, pattern, strict=True)]
            found[torch.stack(alike).all(0)] = index
        return found

    def mask(self, indices: Indices, geometry: Geometry) -> Mask:
        return Mask(self._values[indices], geometry, self.labels)
