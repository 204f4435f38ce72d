"""The state from which an interrupted training goes on: tensors in safetensors, numbers in JSON."""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim.swa_utils import get_ema_multi_avg_fn

from unetseg.checkpoint import write_tensors
from unetseg.config import Plan, changed_section, from_values, to_values
from unetseg.errors import ModelError, UsageError
from unetseg.nets.unet import UNet
from unetseg.training.ranks import Ranks
from unetseg.training.schedule import Plateau

STATE = "state.safetensors"


@dataclass(frozen=True, eq=False)
class Tally:
    """What of a state the end of an epoch changes."""

    best: float
    epochs_done: int
    losses: torch.Tensor
    counted: int
    plateau: Plateau


@dataclass(eq=False)
class State:
    """Everything that changes while a network learns.

    average : the averaged weights, which are what is validated and kept
    best : mean validation score of the kept model, NaN before the first
    losses, counted : sum and number of the losses since the last line of the history
    """

    network: UNet
    average: UNet
    optimiser: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    step: int = 0
    seconds: float = 0.0
    best: float = float("nan")
    epochs_done: int = 0
    losses: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    counted: int = 0
    plateau: Plateau = field(default_factory=Plateau)

    def mean_loss(self) -> float:
        """Mean of the losses since the last line of the history.

        Raises ModelError, before anything is saved, if it is no number.
        """
        mean = float(self.losses) / max(self.counted, 1)
        if not isfinite(mean):
            raise ModelError(
                "the loss is no longer a number",
                where=f"step {self.step}",
                hint="lower training.learning_rate, or look for extreme intensities",
            )
        return mean

    def tally(self) -> Tally:
        """A copy of what the end of an epoch is about to change."""
        losses, plateau = self.losses.clone(), replace(self.plateau)
        return Tally(self.best, self.epochs_done, losses, self.counted, plateau)

    def set_back(self, tally: Tally) -> None:
        """Undo what the end of an epoch has changed since."""
        self.best, self.epochs_done = tally.best, tally.epochs_done
        self.losses, self.counted, self.plateau = tally.losses, tally.counted, tally.plateau

    @classmethod
    def fresh(cls, network: UNet, plan: Plan, device: torch.device) -> "State":
        network = network.placed(device)
        average = deepcopy(network).requires_grad_(requires_grad=False)
        encoder, others = network.parameter_groups()
        optimiser = torch.optim.AdamW(
            [
                {"params": encoder, "factor": plan.training.encoder_rate},
                {"params": others, "factor": 1.0},
            ],
            lr=plan.training.learning_rate,
            weight_decay=plan.training.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        half = plan.training.precision == "float16" and device.type == "cuda"
        scaler = torch.amp.GradScaler(device.type, enabled=half)
        return cls(network, average, optimiser, scaler, losses=torch.zeros((), device=device))

    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the current ones; quickly in the first steps."""
        warm = min(decay, (1 + self.step) / (10 + self.step))
        averaged, current = list(self.average.parameters()), list(self.network.parameters())
        with torch.no_grad():
            update = get_ema_multi_avg_fn(warm)  # type: ignore[no-untyped-call]  # torch has none
            update([p.data for p in averaged], [p.data for p in current], 0)
            pairs = zip(self.average.buffers(), self.network.buffers(), strict=True)
            for mine, theirs in pairs:
                mine.copy_(theirs)

    def copied(self, plan: Plan) -> "Copy":
        """The state as it is now, in memory that the training no longer changes."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        moments = self.optimiser.state_dict()["state"]
        for index, values in moments.items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        tensors["losses.sum"] = self.losses
        numbers = {
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "epochs_done": self.epochs_done,
            "counted": self.counted,
            "plateau": asdict(self.plateau),
            "scaler": self.scaler.state_dict(),
            "plan": to_values(plan),
        }
        # Not contiguous() alone: what lies on the processor already would not be copied.
        copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        return Copy(copies, numbers)

    def restore(self, folder: Path, plan: Plan) -> bool:
        """Go on from the state in `folder`; False if there is none.

        Raises UsageError if the plan's data, patch or network were changed since.
        """
        path = folder / STATE
        if not path.is_file():
            return False
        try:
            tensors = load_file(path)
            numbers = json.loads(_metadata(path)["state"])
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise ModelError(
                f"the training's state cannot be read: {error}",
                where=path,
                hint="remove the resume folder to start again",
            ) from error
        if section := changed_section(plan, from_values(numbers["plan"], where=path)):
            raise UsageError(
                f"the plan's section {section} is not the one this training began with",
                where=path.parent.parent / "plan.toml",
                hint="train into another folder, or undo the change",
            )
        self._take(tensors, numbers)
        return True

    def share(self, ranks: Ranks, plan: Plan) -> None:
        """Go on, on every rank, from what the first has: it alone has read the run folder."""
        if ranks.count == 1:
            return
        copy = self.copied(plan) if ranks.is_first else Copy({}, {})
        numbers = ranks.told(dict[str, Any], lambda: copy.numbers)
        self._take(ranks.told_tensors(copy.tensors), numbers)

    def _take(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        parts: dict[str, dict[str, Any]] = {
            part: {} for part in ("network", "average", "optimiser", "losses")
        }
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        moments: dict[int, dict[str, Any]] = {}
        learned = [p for group in self.optimiser.param_groups for p in group["params"]]
        for name, tensor in parts["optimiser"].items():
            index, _, key = name.partition(".")
            like = learned[int(index)]
            # Fused optimisers walk through memory: the moments lie in it as the parameters do.
            value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            moments.setdefault(int(index), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(numbers["scaler"])
        self.step, self.seconds = numbers["step"], numbers["seconds"]
        self.best, self.epochs_done = numbers["best"], numbers["epochs_done"]
        self.losses.copy_(parts["losses"]["sum"])
        self.counted, self.plateau = numbers["counted"], Plateau(**numbers["plateau"])


@dataclass(frozen=True, eq=False)
class Copy:
    """A state that is being written."""

    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]

    def write(self, folder: Path) -> None:
        """One file, atomically. Raises DataError if the disk is full."""
        write_tensors(folder / STATE, self.tensors, {"state": json.dumps(self.numbers)})


class Writer:
    """Writes states beside the computing, one after the other; `seconds` is what that held up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self.seconds = 0.0

    def write(self, state: State, plan: Plan) -> None:
        """Begin to write the state as it is now. Raises what the write before this one raised."""
        begun = perf_counter()
        copy = state.copied(plan)
        self.finish()
        self._pending = self._pool.submit(copy.write, self._folder)
        self.seconds += perf_counter() - begun

    def finish(self) -> None:
        """Wait until the last state is on disk. Raises DataError if that is not possible."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
