"""The processes of one training, each with a device of its own; a training alone has one.

The first of them decides, writes and speaks; the others compute as it says.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from unetseg.devices import find_device
from unetseg.errors import DeviceError, RankLost, UsageError, one_line

# A process that dies is noticed at once, by its connections; these are for one that hangs. The
# first may take long to look at all the data, and any of them to prepare its share.
_STEP, _PATIENCE = timedelta(minutes=10), timedelta(hours=2)
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")
U = TypeVar("U", bound=nn.Module)


@dataclass(frozen=True)
class Ranks:
    """This process among those of its training.

    index, count : its number, 0 for the first, and how many there are
    local_index, local_count : among those on this machine
    control : connects processors, so that no word of the first waits for a card
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1
    control: dist.ProcessGroup | None = field(default=None, compare=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Ranks":
        """The rank that torchrun's variables name; alone if they are not all there.

        Raises UsageError if they are no numbers that go together.
        """
        if not all(environment.get(name) for name in _NEEDED):
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        try:
            index, count = (int(environment[name]) for name in names[:2])
            local = int(environment.get("LOCAL_RANK", index))
            local_count = int(environment.get("LOCAL_WORLD_SIZE", count))
        except ValueError:
            index, count, local, local_count = -1, 0, 0, 0
        if not 0 <= index < count or not 0 <= local < local_count <= count:
            raise UsageError(
                "not the variables of torchrun",
                where=", ".join(names),
                expected="RANK below WORLD_SIZE, LOCAL_RANK below LOCAL_WORLD_SIZE",
                got=", ".join(environment.get(name, "nothing") for name in names),
            )
        return cls(index, count, local, local_count)

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def name(self) -> str:
        return f"rank {self.index} of {self.count}"

    @property
    def rows(self) -> slice:
        """Which of many things are this rank's: every `count`-th."""
        return slice(self.index, None, self.count)

    def divided(self, batch: int, passes: int) -> list[tuple[slice, float]]:
        """How this rank's samples go through the network: for each pass the samples, counted
        among its own, and the share of the whole batch that all ranks' samples are.

        The passes are the same samples however many ranks there are. No rank is idle in one.
        """
        parts = np.array_split(np.arange(batch), min(passes, batch // self.count))
        bounds = [(int(part[0]), int(part[-1]) + 1) for part in parts]
        return [
            (slice(self._before(begin), self._before(end)), (end - begin) / batch)
            for begin, end in bounds
        ]

    def _before(self, sample: int) -> int:
        """How many of this rank's samples come before the sample of the whole batch."""
        return max(0, ceil((sample - self.index) / self.count))

    # --- what the first knows --------------------------------------------------------------------

    def told(self, kind: Any, make: Callable[[], T]) -> T:
        """What the first makes, on every rank; as JSON, for nobody's pickle is opened here.

        kind : its type, one that pydantic knows
        """
        if self.count == 1:
            return make()
        adapter: TypeAdapter[T] = TypeAdapter(kind)
        if self.is_first:
            value = make()
            self._send(json.dumps(adapter.dump_python(value), default=plain).encode())
            return value
        return adapter.validate_python(json.loads(self._send(b"")))

    def _send(self, content: bytes) -> bytes:
        size = torch.tensor(len(content))
        dist.broadcast(size, 0, group=self.control)
        data = torch.empty(int(size), dtype=torch.uint8)
        if self.is_first:
            data = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        dist.broadcast(data, 0, group=self.control)
        return data.numpy().tobytes()

    def told_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first's tensors, on every rank's processor; the others' are not looked at."""
        listed = [(name, list(t.shape), str(t.dtype)[6:]) for name, t in tensors.items()]
        kinds = self.told(list[tuple[str, list[int], str]], lambda: listed)
        result = {}
        for name, shape, dtype in kinds:
            tensor = tensors[name] if self.is_first else None
            if tensor is None:
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            dist.broadcast(tensor, 0, group=self.control)
            result[name] = tensor
        return result

    def same(self, network: nn.Module) -> None:
        """Give the network the first's weights and running statistics."""
        if self.count > 1:
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, 0)

    def agreed(self, value: float) -> float:
        """The first's value."""
        return self.highest(value if self.is_first else -np.inf)[0]

    # --- what all of them know -------------------------------------------------------------------

    def highest(self, *values: float) -> tuple[float, ...]:
        """The highest of all ranks' values, each for itself. No card is waited for."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return tuple(tensor.tolist())

    def gathered(self, mine: Sequence[Sequence[float]], shape: tuple[int, int]) -> NDArray[Any]:
        """A table in which row k is of rank k modulo `count`, from each rank's own rows."""
        height, width = shape
        own = np.full((ceil(height / self.count), width), np.nan)
        own[: len(mine)] = np.array(mine, dtype=float).reshape(-1, width)
        if self.count == 1:
            return own
        parts = [torch.empty(own.shape, dtype=torch.float64) for _ in range(self.count)]
        dist.all_gather(parts, torch.from_numpy(own), group=self.control)
        return torch.stack(parts, 1).flatten(0, 1)[:height].numpy()

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier(group=self.control)

    def total(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The sums of each tensor over the ranks, for a loss that every rank then computes alike.

        The gradient is that of this rank's part times the number of ranks: gradients are averaged
        over the ranks afterwards, and what is wanted is their sum.
        """
        if self.count == 1:
            return list(parts)
        flat = torch.cat([part.reshape(-1).float() for part in parts])
        whole = flat.detach().clone()
        dist.all_reduce(whole)
        whole = whole + self.count * (flat - flat.detach())
        sizes = [part.numel() for part in parts]
        return [
            summed.reshape(part.shape)
            for summed, part in zip(torch.split(whole, sizes), parts, strict=True)
        ]


ALONE = Ranks()


def plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)


def with_shared_statistics(network: U, device: torch.device, ranks: Ranks) -> tuple[U, str]:
    """The network with batch statistics over all ranks, or a sentence why they cannot be."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if ranks.count == 1 or not any(isinstance(module, norms) for module in network.modules()):
        return network, ""
    if device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        converted: U = convert(network)
        return converted, ""
    return network, (
        "batch normalisation on the processor: each process takes the statistics of its own"
        " samples, and the first's are kept; the result depends on the number of processes"
    )


# --- joining ----------------------------------------------------------------------------------


@contextmanager
def join(device: str) -> Iterator[tuple[Ranks, str]]:
    """This process's rank, and its device by name.

    Raises UsageError or DeviceError if there is no such device for this rank or the others are
    not met, and RankLost in place of what torch raises when another rank has ended.
    """
    ranks = Ranks.of(os.environ)
    if ranks.count == 1:
        yield ranks, device
        return
    place = find_device(_place(device, ranks))
    on_card = place.type == "cuda"
    try:
        if on_card:
            torch.cuda.set_device(place)
        dist.init_process_group("nccl" if on_card else "gloo", timeout=_STEP)
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise DeviceError(
            f"{ranks.name} does not meet the others: {one_line(error).partition(' Exception')[0]}",
            where=":".join(os.environ[name] for name in _NEEDED[2:]),
            hint="look whether all processes were started, and reach that address",
        ) from error
    with losing(ranks):
        yield replace(ranks, control=control), str(place)
        dist.barrier(group=control)
    # After an error the connections close with the process: by then it has said what went wrong.
    dist.destroy_process_group()


def _place(device: str, ranks: Ranks) -> str:
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{ranks.local_index}"
    if device == "cpu":
        return device
    if device in ("auto", "cuda"):
        raise DeviceError(
            "no device for each process",
            where=ranks.name,
            expected="CUDA devices",
            got="none found",
            hint="give --device cpu to train in several processes on the processor",
        )
    raise UsageError(
        "not a device of several processes",
        where="--device",
        expected="auto, cuda or cpu",
        got=device,
    )


@contextmanager
def losing(ranks: Ranks) -> Iterator[None]:
    """Turn torch's ways of saying that another rank is gone into RankLost."""
    try:
        yield
    except RuntimeError as error:
        # Gloo's errors have no type of their own.
        if ranks.count == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise RankLost(
            "another process of this training has ended",
            where=ranks.name,
            hint="its own message says why; the same command goes on",
        ) from error
