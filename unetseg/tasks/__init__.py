"""What a network's outputs mean: labels -> targets -> loss; outputs -> mask; which metrics."""

from typing import Literal, Protocol

from torch import Tensor

from unetseg.config import Plan
from unetseg.geometry import Geometry
from unetseg.records import Mask
from unetseg.registry import TASKS
from unetseg.tasks.cleaning import Indices
from unetseg.tasks.losses import Total, alone

ScoreName = Literal["Dice", "AP"]


class Task(Protocol):
    """What a task must offer; built as `task(plan)`.

    outputs : K, the maps that the network must produce
    metrics : names from metrics.METRICS
    score : what a validation of it is judged by
    cleans : `mask` cleans as the plan's section decode says, see tasks.cleaning
    takes_largest : `indices` is the number of the largest output: an output that cannot be the
        largest need not be known
    is_local : the mask of a part of a scan is that part of the scan's mask
    number_bytes : of a number of `indices`
    mask_bytes : what `mask` takes for a voxel of a whole scan, beside the numbers and the mask
    """

    outputs: int
    metrics: tuple[str, ...]
    cleans: bool
    takes_largest: bool
    is_local: bool
    number_bytes: int
    mask_bytes: int
    score: ScoreName

    def targets(self, labels: Tensor) -> Tensor:
        """(B, ..., *S) labels, as prepared, in a batch -> what the loss compares with."""
        ...

    def loss(self, outputs: list[Tensor], targets: Tensor, total: Total = alone) -> Tensor:
        """A scalar from the network's outputs, finest level first.

        total : what is summed over the samples goes through it before anything is divided
        """
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(K, *S) outputs -> (K, *S) in [0, 1]."""
        ...

    def indices(self, outputs: Tensor) -> Tensor:
        """(K, *S) outputs -> (*S) uint8 to int32 numbers of classes, each voxel by itself.

        Of objects: codes that say what the voxel is in its own, see objects.codes.
        """
        ...

    def mask(self, indices: Indices, geometry: Geometry) -> Mask:
        """(*S) class numbers of a whole scan -> a mask in the original label values, or ids."""
        ...

    def decode(self, outputs: Tensor, geometry: Geometry) -> Mask:
        """(K, *S) outputs of a whole scan on its own grid -> its mask."""
        ...


def make_task(plan: Plan) -> Task:
    """The task that the plan names."""
    task: Task = TASKS.load(plan.data.task)(plan)
    return task
