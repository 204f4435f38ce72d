"""One step of a training: random changes, forward and backward pass, optimiser."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from unetseg import augment
from unetseg.config import Plan
from unetseg.devices import autocast, is_out_of_memory
from unetseg.records import Listener, Note
from unetseg.tasks import Task
from unetseg.training.state import State


class Learner:
    """Takes the steps of a training; what is random in a step follows from the seed and the step.

    passes : the parts in which a batch goes through the network; doubled when memory runs out
    is_whole : False while a step is under way and the state is between two steps
    """

    def __init__(
        self, state: State, plan: Plan, task: Task, device: torch.device, precision: str
    ) -> None:
        self._state, self._plan, self._task = state, plan, task
        self._device, self._precision = device, precision
        self._spacing: Sequence[float] = plan.data.spacing or (1.0,) * plan.data.dimensions
        self.passes = min(plan.training.passes, plan.patch.batch)
        self.is_whole = True

    def step(
        self, images: Tensor, labels: Tensor, rate: float, listener: Listener, *, frozen: bool
    ) -> Tensor:
        """Learn from a batch; the loss, on the device, so that nothing waits for it.

        images : (B, C, *patch) float; labels : (B, *patch) class indices
        frozen : the encoder stays as it is
        """
        state, training = self._state, self._plan.training
        seed = int(np.random.SeedSequence((training.seed, 2, state.step)).generate_state(1)[0])
        drawn = augment.draw(
            len(images), training.augment, self._spacing, torch.Generator().manual_seed(seed)
        )
        images = images.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        images, labels = augment.apply(images, labels, drawn)
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        state.network.train()
        if training.frozen_share:
            state.network.freeze_encoder(frozen=frozen)
        loss = self._gradients(images, labels, seed, listener)
        state.scaler.unscale_(state.optimiser)
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), training.gradient_clip)
        self.is_whole = False
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.step += 1
        if training.average_decay:
            state.update_average(training.average_decay)
        self.is_whole = True
        return loss

    def _gradients(self, images: Tensor, labels: Tensor, seed: int, listener: Listener) -> Tensor:
        """The gradients of the whole batch, in more passes if memory does not suffice.

        However many passes there are, the batch is the plan's, and so the learning rate is right.
        """
        while True:
            # Dropout follows from the step too, so that a resumed training repeats it.
            torch.manual_seed(seed)
            self._state.optimiser.zero_grad(set_to_none=True)
            try:
                return self._passes(images, labels)
            except RuntimeError as error:
                if self.passes >= len(images) or not is_out_of_memory(error):
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
        parts = zip(images.chunk(self.passes), labels.chunk(self.passes), strict=True)
        for part, truth in parts:
            with autocast(self._device, self._precision):
                outputs = self._state.network(part)
            loss = self._task.loss(outputs, self._task.targets(truth)) * (len(part) / len(images))
            self._state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch
            total += loss.detach()
        return total
