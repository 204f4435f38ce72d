"""About how much memory, disk and time a training will need, before it begins."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from unetseg.catalogue import BYTES_PER_PARAMETER
from unetseg.config import Plan
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Finding, Machine

# Of preparing, measured on two cores of a server with four sets of 3 to 200 cases (docs/check.md):
# seconds of a core for each case, for each voxel of a channel, and for each voxel of a mask.
_CASE, _CHANNEL_VOXEL, _CLASS_VOXEL, _OBJECT_VOXEL = 4e-3, 40e-9, 40e-9, 130e-9
# What the backward pass and the kernels take, beside what the forward pass keeps for them: as much
# again. Measured on a processor: steps took 1.7 to 2.3 times what the forward pass keeps.
_WORKING = 2
# Bytes of a prepared voxel: float32 for each channel, int16 for the label or the three object maps.
_CHANNEL_BYTES, _LABEL_BYTES, _OBJECT_BYTES = 4, 2, 6


@dataclass(frozen=True)
class Estimates:
    """What is about to be needed.

    parameters : learned values of the network
    step_flops : of a training step, forward and backward, two per multiply-add
    step_bytes : of the device, for a training step of the whole batch
    device_bytes : that are free on the device
    cache_bytes : of the prepared cases on disk, of which `disk_bytes` are free
    prepare_seconds : until all cases are prepared, if none is yet
    """

    device: str
    parameters: int
    step_flops: int
    step_bytes: int
    device_bytes: int
    cache_bytes: int
    disk_bytes: int
    prepare_seconds: float

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """What is estimated, in words, and about how much of it."""
        return (
            ("network", f"{self.parameters / 1e6:.1f} million parameters"),
            (
                "a training step",
                f"about {_gb(self.step_bytes)} and {self.step_flops / 1e9:.0f} GFLOP",
            ),
            (f"free on {self.device}", _gb(self.device_bytes)),
            (
                "prepared cases on disk",
                f"about {_gb(self.cache_bytes)} of {_gb(self.disk_bytes)} free",
            ),
            ("preparing, the first time", f"about {_clock(self.prepare_seconds)}"),
        )


def estimates(plan: Plan, found: Fingerprint, machine: Machine, cache: Path) -> Estimates:
    """What training by this plan on this machine needs.

    cache : the folder of prepared cases, which need not exist
    """
    # They load torch, which whoever measured the machine has loaded.
    from unetseg.checkpoint import build
    from unetseg.nets.cost import cost

    channels, objects = len(plan.data.channels), plan.data.has_objects
    patch = cost(build(plan), channels, plan.patch.size)
    own = BYTES_PER_PARAMETER * patch.parameters
    kept = patch.memory_bytes - own
    if plan.training.precision != "float32":
        kept //= 2
    voxels = _voxels(plan, found)
    per_voxel = channels * _CHANNEL_VOXEL + (_OBJECT_VOXEL if objects else _CLASS_VOXEL)
    bytes_per_voxel = channels * _CHANNEL_BYTES + (_OBJECT_BYTES if objects else _LABEL_BYTES)
    return Estimates(
        machine.device,
        patch.parameters,
        # Backward costs twice as much as forward.
        3 * plan.patch.batch * patch.flops,
        own + _WORKING * plan.patch.batch * kept,
        machine.memory_bytes,
        voxels * bytes_per_voxel,
        _free(cache),
        (found.cases * _CASE + voxels * per_voxel) / machine.cores,
    )


def on_estimates(found: Estimates) -> Iterator[Finding]:
    """What will not fit."""
    for kind, where, what, needed, free, hint in (
        (
            "memory",
            found.device,
            "a training step",
            found.step_bytes,
            found.device_bytes,
            "close what else uses it, or set a smaller patch.batch or patch.size",
        ),
        (
            "disk",
            "cache",
            "the prepared cases",
            found.cache_bytes,
            found.disk_bytes,
            "free some space, or give train another --cache folder",
        ),
    ):
        if needed > free:
            sentence = f"{what} will need about {_gb(needed)}, {_gb(free)} are free"
            yield Finding("warning", where, sentence, hint, kind)


def _voxels(plan: Plan, found: Fingerprint) -> int:
    """Of all cases on the plan's grid."""
    total = 0.0
    for shape, spacing in zip(found.shapes, found.spacings, strict=True):
        wanted = plan.data.spacing or spacing
        edges = zip(shape, spacing, wanted, strict=True)
        total += prod(n * mine / target for n, mine, target in edges)
    return round(total)


def _free(folder: Path) -> int:
    """Bytes that are free where the folder is, or will be."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path())
    return shutil.disk_usage(there).free


def _gb(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"
