"""From the fingerprint of the data and the machine to the plan: a pure function."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from unetseg.config import Plan, check_values, make_plan
from unetseg.errors import UsageError
from unetseg.planning.choices import Choices
from unetseg.planning.fingerprint import Fingerprint
from unetseg.planning.network import levels, patch_size, rounded_up
from unetseg.planning.recipe import take_recipe
from unetseg.records import Machine
from unetseg.registry import ENCODERS, SKIPS, TASKS


def make(
    fingerprint: Fingerprint,
    machine: Machine,
    overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan for these data on this machine.

    overrides : values by dotted key; what depends on them follows them

    Raises UsageError if an override does not fit the data or the other values.
    """
    choices = Choices(_checked(overrides or {}, fingerprint.dimensions))
    spacing, shape = _data(choices, fingerprint)
    _patch_and_network(choices, fingerprint, machine, spacing, shape)
    take_recipe(choices, fingerprint, machine)
    choices.take("decode.overlap", 0.5, "half a window: every voxel is seen near a centre")
    choices.take("decode.mirror", value=False, reason="true averages mirrored passes, slower")
    # What is left was set by the person and is optional in a plan.
    for key in tuple(choices.overrides):
        choices.take(key, None)
    return make_plan(choices.values, choices.reasons)


def _checked(overrides: Mapping[str, Any], axes: int) -> dict[str, Any]:
    """What the person has set, before other values are derived from it."""
    values = check_values(overrides, where="plan")
    for key in ("patch.size", "data.spacing"):
        if values.get(key) and len(values[key]) != axes:
            raise UsageError(
                "one entry per axis is needed", where=key, expected=axes, got=values[key]
            )
    for key in ("network.strides", "network.kernels"):
        if any(len(level) != axes for level in values.get(key, ())):
            raise UsageError(
                "one entry per level and axis is needed",
                where=key,
                expected=f"{axes} per level",
                got=values[key],
            )
    for key in ("network.features", "network.strides"):
        if key in values and not values[key]:
            raise UsageError("one entry per level is needed", where=key, got=values[key])
    for key, known in (("network.encoder", ENCODERS), ("network.skip", SKIPS)):
        if key in values and values[key] not in known:
            known.load(values[key])
    return values


def _short(value: float) -> float:
    """Five digits are enough for a person and for the grid, however small the unit makes them."""
    return float(f"{value:.5g}")


def _data(choices: Choices, found: Fingerprint) -> tuple[tuple[float, ...], tuple[int, ...]]:
    axes = found.dimensions
    task = choices.take("data.task", "semantic", "every voxel gets a class")
    if task not in TASKS:
        TASKS.load(task)
    choices.take("data.dimensions", axes, f"the scans have {axes} axes")
    channels = choices.take("data.channels", found.channels, "as the files name them")
    # Grey pictures may stand for coloured ones.
    if len(channels) != len(found.channels) and not (found.is_picture and len(channels) == 3):
        raise UsageError(
            "not the number of channels that the scans have",
            where="data.channels",
            expected=len(found.channels),
            got=len(channels),
        )
    choices.take("data.unit", found.unit, "read from the files")
    volumes = found.unit == "mm" and axes == 3
    target, why = _target_spacing(found) if volumes else ((), "scans keep their own grid")
    spacing = tuple(choices.take("data.spacing", target, why))
    choices.take(
        "data.orientation",
        "canonical" if volumes else "as_read",
        "axes turned to the body's (RAS), without interpolation"
        if volumes
        else "images have no body axes",
    )
    _normalisation(choices, found, volumes=volumes)
    _classes(choices, found)
    edges = spacing or found.median_spacing
    if spacing:
        sizes = [
            [n * mine / wanted for n, mine, wanted in zip(s, e, spacing, strict=True)]
            for s, e in zip(found.shapes, found.spacings, strict=True)
        ]
        return edges, tuple(max(1, int(n)) for n in np.median(sizes, axis=0).round())
    return edges, found.median_shape


def _target_spacing(found: Fingerprint) -> tuple[tuple[float, ...], str]:
    target = list(found.median_spacing)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    anisotropic = target[worst] > 3 * max(target[axis] for axis in others)
    few_slices = all(3 * found.median_shape[worst] < found.median_shape[axis] for axis in others)
    if anisotropic and few_slices:
        tenth = float(np.percentile([s[worst] for s in found.spacings], 10))
        target[worst] = max(tenth, *(target[axis] for axis in others))
        why = "median of the scans; thick slices: their 10th percentile"
    else:
        why = "median of the scans"
    return tuple(_short(x) for x in target), why


def _normalisation(choices: Choices, found: Fingerprint, *, volumes: bool) -> None:
    if found.looks_like_ct:
        kind, why = "clip_zscore", "calibrated values as in CT: one scale for all scans"
    elif not volumes:
        kind, why = "percentile", "brightness differs between images: 1st to 99.8th percentile"
    elif found.zero_share > 0.25:
        kind, why = "zscore_nonzero", f"{found.zero_share:.0%} of the voxels are empty (zero)"
    else:
        kind, why = "zscore", "brightness differs between scans: mean 0, deviation 1 in each"
    kind = choices.take("data.normalisation", kind, why)
    if kind == "clip_zscore":
        limits = tuple((_short(i.low), _short(i.high)) for i in found.intensity)
        choices.take("data.clip", limits, "0.5th and 99.5th percentile of the foreground")
        means = tuple(_short(i.mean) for i in found.intensity)
        choices.take("data.mean", means, "over the foreground of all scans")
        deviations = tuple(_short(i.std) or 1.0 for i in found.intensity)
        choices.take("data.std", deviations, "over the foreground of all scans")


def _classes(choices: Choices, found: Fingerprint) -> None:
    ignore = choices.take("data.ignore_value", found.ignore_value, "left out of loss and metrics")
    merge = choices.take(
        "data.merge_labels",
        found.looks_like_objects,
        "the ids differ from image to image: objects, seen as one class"
        if found.looks_like_objects
        else "label values name classes",
    )
    values = [v for v, _ in found.label_counts if v not in (0, ignore)]
    names = {label.value: label.name for label in found.label_names}
    if merge:
        # The one value is kept where there is only one (0/255), objects become 1.
        values = values if len(values) == 1 else [1]
        names = {values[0]: "foreground"} if values else {}
    taken = choices.take("data.class_values", (0, *values), "the values in the mask files")
    choices.take(
        "data.class_names",
        tuple(names.get(v, "background" if v == 0 else f"label {v}") for v in taken),
        "from dataset.json" if names and not merge else "nobody named them; rename them here",
    )


def _patch_and_network(
    choices: Choices,
    found: Fingerprint,
    machine: Machine,
    spacing: Sequence[float],
    shape: Sequence[int],
) -> None:
    axes = found.dimensions
    on_gpu = machine.kind == "cuda"
    precision = str(
        choices.take(
            "training.precision",
            "float16" if on_gpu else machine_precision(machine),
            "half the memory traffic" if on_gpu else "what this processor computes fastest",
        )
    )
    first, widest = (32, 320 if axes == 3 else 512) if on_gpu else (16, 256)
    budget = _batch_voxels(axes, machine, first, precision)
    most_voxels = {(2, True): 512**2, (3, True): 128**3, (2, False): 256**2, (3, False): 64**3}
    voxels = most_voxels[axes, on_gpu]
    if on_gpu:
        # At least two patches have to fit into its memory.
        voxels = min(voxels, int(budget / 2))
    start = patch_size(shape, spacing, voxels)
    most = int(choices.overrides.get("network.levels", (6 if axes == 3 else 7) if on_gpu else 5))
    fixed = choices.overrides.get("patch.size")
    strides, kernels = levels(fixed or start, spacing, most)
    count = choices.take("network.levels", len(strides), "halved while 8 voxels are left")
    if count != len(strides) and "network.strides" not in choices.overrides:
        raise UsageError(
            "too many levels for the patch",
            where="network.levels",
            expected=f"at most {len(strides)} for patch {tuple(fixed or start)}",
            got=count,
            hint="raise patch.size too",
        )
    strides = choices.take("network.strides", strides, "coarse axes are halved later")
    kernels = choices.take("network.kernels", kernels, "1 along an axis of much longer voxels")
    size = choices.take(
        "patch.size",
        rounded_up(start, strides),
        f"median scan {tuple(shape)}, at most {voxels} voxels on this device",
    )
    features = choices.take(
        "network.features",
        tuple(min(first * 2**level, widest) for level in range(count)),
        "doubled per level" if on_gpu else "doubled per level; narrow, for a processor",
    )
    choices.take("network.blocks", (2,) * count, "two convolutions per level")
    choices.take("network.encoder", "plain", "stacked convolutions")
    choices.take("network.skip", "concat", "the U-Net's long skip")
    choices.take("network.norm", "instance", "independent of the batch")
    choices.take(
        "network.deep_supervision",
        on_gpu and count > 2,
        "coarser levels are taught too" if on_gpu else "costs more steps than it is worth here",
    )
    budget = _batch_voxels(axes, machine, features[0], precision)
    patch = prod(size)
    seen = sum(prod(s) for s in found.shapes)
    by_data = max(2, int(0.2 * seen / patch))
    batch = max(2, min(round(budget / patch), 64, by_data))
    choices.take("patch.batch", batch, "fills the device's memory or time budget")


def machine_precision(machine: Machine) -> str:
    """bfloat16 where the machine's matrix units compute it natively, else float32."""
    return "bfloat16" if machine.has_bfloat16 else "float32"


def _batch_voxels(axes: int, machine: Machine, features: int, precision: str) -> float:
    if machine.kind != "cuda":
        # A step of about half a second on two cores: many small steps beat few large ones.
        return 360_000 if axes == 3 else 524_288
    # Kept activations: about 24 maps of the finest level's width, coarser levels included.
    per_voxel = 24 * features * (4 if precision == "float32" else 2)
    return 0.6 * machine.memory_bytes / per_voxel
