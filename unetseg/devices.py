"""The device that does the work: found, measured, and what it computes fast."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import torch

from unetseg.errors import DeviceError, UsageError
from unetseg.processes import usable_cores
from unetseg.records import Machine

_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: str) -> torch.device:
    """auto, cpu, cuda, cuda:1 or mps as a device. Raises DeviceError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            "no such device", where="--device", expected="auto, cpu, cuda, cuda:1 or mps", got=name
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                "no such device",
                where=name,
                expected=f"one of {count} CUDA devices" if count else "a CUDA device",
                got="none found" if not count else device.index,
                hint="give --device cpu, or check the driver",
            )
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no such device", where=name, hint="give --device cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(
            "no such device", where="--device", expected="auto, cpu, cuda, cuda:1 or mps", got=name
        )
    return device


def several_devices(device: str, cards: Sequence[int]) -> tuple[str, ...]:
    """The names of devices of one kind, for work that each does by itself.

    device : as a person names the kind: auto, cuda or cpu
    cards : numbers of cards, or on the processor as many numbers as it is to do at once

    Raises UsageError or DeviceError if there cannot be several of that kind.
    """
    if device == "cpu":
        return ("cpu",) * len(cards)
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return tuple(f"cuda:{card}" for card in cards)
    if device == "auto":
        raise DeviceError(
            "no such devices",
            where="--devices",
            expected="CUDA devices",
            got="none found",
            hint="give --device cpu to do several things at once on the processor",
        )
    raise UsageError(
        "several devices of one kind",
        where="--device",
        expected="auto, cuda or cpu with --devices",
        got=device,
    )


def measure(device: torch.device) -> Machine:
    """Free memory, cores and abilities of the device."""
    memory = psutil.virtual_memory().available
    bfloat16 = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
        bfloat16 = torch.cuda.is_bf16_supported()
    return Machine(str(device), int(memory), usable_cores(), bool(bfloat16))


def machine_name(device: torch.device) -> str:
    """The machine in words: its processor, cores, memory and system, and the card that is used."""
    cores = usable_cores()
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.release()}"
    text = (
        f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}, {memory:.0f} GiB, {system}"
    )
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return f"{card}; {text}" if card else text


def _processor() -> str:
    # Python's own answer is empty on most Linux systems.
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Mixed precision on that device, or nothing for float32."""
    if precision == "float32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=_PRECISIONS[precision])


def usable_precision(planned: str, machine: Machine) -> str:
    """The planned precision, or float32 where this device would emulate it."""
    if planned == "float16" and machine.kind == "cpu":
        return "bfloat16" if machine.has_bfloat16 else "float32"
    if planned == "bfloat16" and not machine.has_bfloat16:
        return "float32"
    return planned


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Turn torch's ways of saying that memory is out into a DeviceError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            "out of memory",
            where=device,
            hint="close what else uses it, train with a smaller patch, or give --device cpu",
        ) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that memory does not suffice."""
    # On a processor torch raises a plain RuntimeError from its allocator.
    return "out of memory" in str(error) or "allocate memory" in str(error)


def memory_format(device: torch.device, dimensions: int) -> torch.memory_format:
    """How images and kernels of a network lie in the memory of that device.

    Channels last on a processor: its convolutions are faster so. On a card (an H200, 3-D, any
    precision) they were 12 to 15 % slower so: there as torch has it. benchmarks/train.py measures
    both.
    """
    if device.type != "cpu":
        return torch.contiguous_format
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d
