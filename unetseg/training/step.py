"""One step of a training: random changes, forward and backward pass, optimiser."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from unetseg import augment
from unetseg.config import Plan
from unetseg.devices import autocast, is_out_of_memory
from unetseg.errors import DeviceError
from unetseg.records import Listener, Note
from unetseg.tasks import Task
from unetseg.training.ranks import ALONE, Ranks
from unetseg.training.state import State

# All that the maps of a step take, for the next one.
KEPT_BYTES = 1 << 30


class Learner:
    """Takes the steps of a training; what is random in a step follows from the seed and the step.

    passes : the parts in which a batch goes through the network; doubled when memory runs out
    is_whole : False while a step is under way and the state is between two steps
    """

    def __init__(
        self,
        state: State,
        plan: Plan,
        task: Task,
        device: torch.device,
        precision: str,
        ranks: Ranks = ALONE,
    ) -> None:
        self._state, self._plan, self._task = state, plan, task
        self._device, self._precision, self._ranks = device, precision, ranks
        self._spacing: Sequence[float] = plan.data.spacing or (1.0,) * plan.data.dimensions
        # No rank is without a sample in any pass.
        self.passes = min(plan.training.passes, plan.patch.batch // ranks.count)
        self.is_whole = True
        self._shared: DistributedDataParallel | None = None
        if ranks.count > 1:
            self._shared = DistributedDataParallel(
                state.network,
                device_ids=[device] if device.type == "cuda" else None,
                # A frozen encoder takes no part in the backward pass.
                find_unused_parameters=plan.training.frozen_share > 0,
            )

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        rate: float,
        listener: Listener,
        *,
        frozen: bool,
        rounds: float,
    ) -> None:
        """Learn from a batch; its loss stays on the device, so that nothing waits for it.

        images : (B, C, *patch) float; labels : (B, ..., *patch) as of Batches; this rank's samples
        frozen : the encoder stays as it is
        rounds : over the cases, so far
        """
        state, training = self._state, self._plan.training
        drawn = augment.draw(
            self._plan.patch.batch,
            augment.grown(training.augment, rounds),
            self._spacing,
            torch.Generator().manual_seed(self._seed()),
            images.shape[1],
        )
        if self._shared:
            drawn = drawn.part(self._ranks.rows)
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        images, labels = augment.apply(images, labels, drawn)
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        state.network.train()
        if training.frozen_share:
            state.network.freeze_encoder(frozen=frozen)
        loss = self.gradients(images, labels, listener)
        state.scaler.unscale_(state.optimiser)
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), training.gradient_clip)
        self.is_whole = False
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.step += 1
        if training.average_decay:
            state.update_average(training.average_decay)
        state.losses += loss
        state.counted += 1
        self.is_whole = True

    def _seed(self, *rank: int) -> int:
        of = (self._plan.training.seed, 2, self._state.step, *rank)
        return int(np.random.SeedSequence(of).generate_state(1)[0])

    def gradients(self, images: Tensor, labels: Tensor, listener: Listener) -> Tensor:
        """The gradients of the whole batch, in more passes if memory does not suffice.

        However many passes there are, the batch is the plan's, and so the learning rate is right.
        """
        while True:
            # Dropout follows from the step too, so that a resumed training repeats it.
            torch.manual_seed(self._seed(*([] if self._ranks.is_first else [self._ranks.index])))
            self._state.optimiser.zero_grad(set_to_none=True)
            try:
                return self._passes(images, labels)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._ranks.count > 1:
                    raise self._out_of_memory() from error
                if self.passes >= len(images):
                    raise
            # Out of the handler: its traceback holds what filled the memory.
            self.passes = min(2 * self.passes, len(images))
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            part = -(-len(images) // self.passes)
            listener(
                Note(
                    f"out of memory: the {len(images)} patches of a step go through the network"
                    f" {part} at a time from here on, at the same learning rate; "
                    f"training.passes = {self.passes} begins like that",
                    "warning",
                )
            )

    def _passes(self, images: Tensor, labels: Tensor) -> Tensor:
        total = torch.zeros((), device=self._device)
        network = self._shared or self._state.network
        parts = self._ranks.divided(self._plan.patch.batch, self.passes)
        for number, (rows, share) in enumerate(parts, 1):
            # Gradients add up; they are exchanged once, when they are complete.
            shared = self._shared if number < len(parts) else None
            with shared.no_sync() if shared else nullcontext():
                with autocast(self._device, self._precision):
                    outputs = network(images[rows])
                targets = self._task.targets(labels[rows])
                loss = self._task.loss(outputs, targets, self._ranks.total) * share
                self._state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch
            total += loss.detach()
        return total

    def _out_of_memory(self) -> DeviceError:
        """Others wait for this rank's part of the step, and cannot be asked for another one."""
        more = min(2 * self.passes, self._plan.patch.batch // self._ranks.count)
        return DeviceError(
            "out of memory",
            where=self._device,
            hint=f"go on with --set training.passes={more}"
            if more > self.passes
            else "close what else uses it, train with a smaller patch, or on more devices",
        )
