"""Instances: every object gets an id, from how deep a voxel lies in it and how near its centre."""

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, Plan
from unetseg.objects.codes import SCALE
from unetseg.tasks.losses import ClassLoss, Total
from unetseg.tasks.objects import ObjectTask, packed

# Errors of a distance below this count by their square, larger ones by themselves.
_SMALL_ERROR = 0.1


class Instances(ObjectTask):
    """Softmax over background and C classes of objects, and two distances through a sigmoid.

    K = 1 + C + 2: the classes, then depth and nearness to the centre, see objects.distances.
    Trained with cross-entropy plus Dice of the classes plus the distances' smooth L1.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.outputs = 1 + self._classes + 2
        self._class_loss = ClassLoss(1 + self._classes, plan.training)
        weight = plan.training.distance_weight
        self._distance_weight = 1.0 if weight is None else weight

    def targets(self, labels: Tensor) -> Tensor:
        """(B, 3, *S) float32: class index, depth, centre."""
        targets = labels.float()
        targets[:, 1:] /= SCALE
        return targets

    def level_loss(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
        classes = targets[:, 0].long()
        loss = self._class_loss(output[:, : 1 + self._classes], classes, total)
        distances = distance_loss(output[:, -2:].sigmoid(), targets[:, 1:], classes, total)
        return loss + self._distance_weight * distances

    def probabilities(self, outputs: Tensor) -> Tensor:
        return torch.cat([outputs[:-2].softmax(0), outputs[-2:].sigmoid()])

    def indices(self, outputs: Tensor) -> Tensor:
        """Codes: the most likely class of object, whether it is one at all, and the distances."""
        maps = self.probabilities(outputs)
        classes = maps[1:-2].max(0).indices + 1
        return packed(classes, 1 - maps[0], maps[-2], maps[-1])


def distance_loss(share: Tensor, truth: Tensor, classes: Tensor, total: Total) -> Tensor:
    """Smooth L1 of the distances; objects and background count by half, however large they are.

    share, truth : (B, 2, *S) in [0, 1]
    classes : (B, *S) class indices; what is IGNORED does not count
    total : see `losses.Total`
    """
    errors = functional.smooth_l1_loss(share, truth, reduction="none", beta=_SMALL_ERROR).mean(1)
    parts = []
    for side in (classes > 0, (classes <= 0) & (classes != IGNORED)):
        parts += [(errors * side).sum(), side.sum()]
    inside, voxels, outside, others = total(parts)
    return 0.5 * (inside / voxels.clamp_min(1) + outside / others.clamp_min(1))
