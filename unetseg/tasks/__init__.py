"""What a network's outputs mean: labels -> targets -> loss; outputs -> mask; which metrics."""

from typing import Protocol

from torch import Tensor

from unetseg.config import Plan
from unetseg.geometry import Geometry
from unetseg.records import Mask
from unetseg.registry import TASKS
from unetseg.tasks.losses import Total, alone


class Task(Protocol):
    """What a task must offer; built as `task(plan)`.

    outputs : K, the maps that the network must produce
    metrics : names from metrics.METRICS
    cleans : `decode` cleans the mask as the plan's section decode says, see tasks.cleaning
    """

    outputs: int
    metrics: tuple[str, ...]
    cleans: bool

    def targets(self, labels: Tensor) -> Tensor:
        """(B, *S) class indices -> what the loss compares with."""
        ...

    def loss(self, outputs: list[Tensor], targets: Tensor, total: Total = alone) -> Tensor:
        """A scalar from the network's outputs, finest level first.

        total : what is summed over the samples goes through it before anything is divided
        """
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(K, *S) outputs -> (K, *S) in [0, 1]."""
        ...

    def decode(self, outputs: Tensor, geometry: Geometry) -> Mask:
        """(K, *S) outputs on the grid of `geometry` -> a mask in the original label values."""
        ...


def make_task(plan: Plan) -> Task:
    """The task that the plan names."""
    task: Task = TASKS.load(plan.data.task)(plan)
    return task
