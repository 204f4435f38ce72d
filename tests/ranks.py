"""Processes of one machine that train together, as torchrun would start them."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from cubes import request

from unetseg.training import joined, train
from unetseg.training.ranks import Ranks

# Forked from a process that has imported, once, what takes longer than a tiny training. Names of
# this folder are not known there.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "unetseg.training",
        "unetseg.tasks.semantic",
        "unetseg.nets.plain",
        "unetseg.nets.residual",
        "unetseg.formats.nifti",
        "torch._dynamo",
        "torch.distributed.fsdp",
        "tifffile",
    ]
)
PATIENCE = 120


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def variables(index: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(index),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(index),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def together(count: int, work: Callable[..., None], *given: Any) -> list[int]:
    """The exit codes of `count` processes that do the work, each with its variables set."""
    port = free_port()
    processes = [
        _CONTEXT.Process(target=_one, args=(variables(index, count, port), work, given))
        for index in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert None not in codes, "it hangs"
    return [int(code or 0) for code in codes]


def _one(environment: Mapping[str, str], work: Callable[..., None], given: tuple[Any, ...]) -> None:
    os.environ |= environment
    torch.set_num_threads(1)
    work(*given)


def learn(data: Path, run: Path, settings: dict[str, Any], stop: int | None = None) -> None:
    """Train, on every rank; the first stops after so many steps."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return stop is not None and asked > stop and os.environ["RANK"] == "0"

    with joined(request(data, run, settings)) as mine:
        train(mine, should_stop=should_stop)


def learn_apart(data: Path, run: Path, settings: dict[str, Any]) -> None:
    """The same with losses that each rank computes from its own samples."""
    Ranks.total = lambda self, parts: list(parts)  # type: ignore[method-assign]
    learn(data, run, settings)


def learn_less(data: Path, run: Path, settings: dict[str, Any]) -> None:
    """The same with gradients that are averaged over the ranks as if each had all samples."""
    total = Ranks.total

    def without_factor(self: Ranks, parts: Any) -> list[torch.Tensor]:
        sums = total(self, parts)
        return [part + (whole - part).detach() for part, whole in zip(parts, sums, strict=True)]

    Ranks.total = without_factor  # type: ignore[method-assign]
    learn(data, run, settings)
