"""A prepared scan through a network: the one path that training's validation and predict share."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, combinations

import torch
from torch import Tensor

from unetseg.config import Plan
from unetseg.devices import autocast
from unetseg.nets.unet import UNet
from unetseg.pipeline import Prepared, restore
from unetseg.tasks import Task
from unetseg.windows import sliding


@dataclass(frozen=True)
class Segmenter:
    """A network, or the networks of an ensemble, with plan and task, on a device.

    others : the further members of an ensemble, of the same plan
    """

    network: UNet
    plan: Plan
    task: Task
    device: torch.device
    precision: str
    others: tuple[UNet, ...] = ()

    def outputs(self, prepared: Prepared) -> Tensor:
        """(K, *scan) float32 outputs on the scan's own grid, on the CPU."""
        plan = self.plan
        coarsest = self.network.encoder.strides[-1]
        # Two voxels at the coarsest level, or instance normalisation has nothing to compare.
        smallest = [2 * stride for stride in coarsest]
        for network in (self.network, *self.others):
            network.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            result = sliding(
                self._pass(),
                prepared.image,
                patch=[max(p, s) for p, s in zip(plan.patch.size, smallest, strict=True)],
                overlap=plan.decode.overlap,
                batch=plan.patch.batch,
                device=self.device,
                smallest=smallest,
            )
        return restore(result, prepared.placement)

    def _pass(self) -> Callable[[Tensor], Tensor]:
        def once(x: Tensor) -> Tensor:
            total: Tensor = self.network(x)[0]
            # Window by window, so that a scan has one set of maps however many members there are.
            # Outputs before softmax, as in nnU-Net: any task has a mean of them, and a member that
            # is not sure of a voxel has less of a say in it.
            for other in self.others:
                total = total.float() + other(x)[0].float()
            return total / (1 + len(self.others)) if self.others else total

        if not self.plan.decode.mirror:
            return once
        axes = self.plan.training.augment.mirror_axes
        subsets = chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
        flips = [[axis + 2 for axis in subset] for subset in subsets]

        def mirrored(x: Tensor) -> Tensor:
            total = sum(once(x.flip(f)).float().flip(f) for f in flips)
            return torch.as_tensor(total) / len(flips)

        return mirrored
