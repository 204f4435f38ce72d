"""Borders: every object gets an id, from a class for what lies between it and all else."""

from dataclasses import replace

import torch
from torch import Tensor

from unetseg.config import Plan
from unetseg.pipeline.objects import CORE
from unetseg.tasks.losses import ClassLoss, Total
from unetseg.tasks.objects import ObjectTask, packed


class Borders(ObjectTask):
    """Softmax over background, cores of objects and their borders: to compare instances with.

    An object begins where its core is likely, and grows into the border around it.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.outputs = 3
        # Core and border weigh what the class of objects does.
        weights = 2 * plan.training.class_weights
        self._class_loss = ClassLoss(self.outputs, replace(plan.training, class_weights=weights))

    def targets(self, labels: Tensor) -> Tensor:
        return labels[:, 0].long()

    def level_loss(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
        return self._class_loss(output, targets, total)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(0)

    def indices(self, outputs: Tensor) -> Tensor:
        """Codes in which the probability of the core is the depth, and any place the centre."""
        maps = outputs.softmax(0)
        ones = torch.ones_like(maps[0])
        return packed(ones.to(torch.uint8), 1 - maps[0], maps[CORE], ones)
