"""Semantic segmentation: every voxel gets one class."""

import numpy as np
from torch import Tensor

from unetseg.config import Plan
from unetseg.formats.voxels import smallest_integers
from unetseg.geometry import Geometry
from unetseg.metrics import METRICS
from unetseg.pipeline.deciding import largest_output
from unetseg.records import Label, Mask
from unetseg.tasks.cleaning import CLEANING_BYTES, Indices, clean, cleanings, voxel_size
from unetseg.tasks.losses import ClassLoss, FromLabels, Total, class_dtype


class Semantic(FromLabels):
    """Softmax over K classes, trained with cross-entropy plus Dice."""

    metrics = METRICS
    cleans = True
    takes_largest = True
    score = "Dice"

    def __init__(self, plan: Plan) -> None:
        data = plan.data
        self._unit = data.unit
        self._cleanings = cleanings(plan)
        self.is_local = not self._cleanings
        self.mask_bytes = CLEANING_BYTES if self._cleanings else 0
        self.outputs = len(data.class_values)
        self.number_bytes = class_dtype(self.outputs).itemsize
        self._values = smallest_integers(np.array(data.class_values))
        self.labels = tuple(map(Label, data.class_values, data.class_names))
        self._class_loss = ClassLoss(self.outputs, plan.training)

    def level_loss(self, output: Tensor, targets: Tensor, total: Total) -> Tensor:
        return self._class_loss(output, targets, total)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(0)

    def indices(self, outputs: Tensor) -> Tensor:
        return largest_output(outputs).to(class_dtype(self.outputs))

    def mask(self, indices: Indices, geometry: Geometry) -> Mask:
        if self._cleanings:
            sized = any(cleaning.min_size for cleaning in self._cleanings.values())
            voxel = voxel_size(geometry, self._unit) if sized else 1.0
            indices = clean(indices, self._cleanings, voxel)
        # Where classes are numbered as their values are, a scan's voxels need no looking up.
        is_same = np.array_equal(self._values, np.arange(len(self._values)))
        values = (
            indices.astype(self._values.dtype, copy=False) if is_same else self._values[indices]
        )
        return Mask(values, geometry, self.labels)
