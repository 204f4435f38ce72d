"""From the fingerprint of the data and the machine to the plan: a pure function."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unetseg.config import OBJECT_TASKS, RULES, Plan, check_values, make_plan
from unetseg.errors import UsageError
from unetseg.planning.choices import Choices
from unetseg.planning.classes import take_classes, take_task
from unetseg.planning.fingerprint import Fingerprint
from unetseg.planning.network import take_network
from unetseg.planning.recipe import take_recipe
from unetseg.records import Machine
from unetseg.registry import ENCODERS, SKIPS


def make(
    fingerprint: Fingerprint,
    machine: Machine,
    overrides: Mapping[str, Any] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Plan:
    """The plan for these data on this machine.

    overrides : values by dotted key; what depends on them follows them
    reasons : why an override is what it is, by key; "set by you" for those without one

    Raises UsageError if an override does not fit the data or the other values.
    """
    choices = Choices(_checked(overrides or {}, fingerprint.dimensions), reasons)
    spacing, shape = _data(choices, fingerprint)
    take_network(choices, fingerprint, machine, spacing, shape)
    choices.take("decode.overlap", 0.5, "half a patch: every voxel is seen far from an edge")
    most, why = 2.0, "twice a patch along each axis: objects are cut by fewer seams, in less time"
    if fingerprint.dimensions == 3:
        most, why = 1.0, "a patch, as learned; 2 is several times as fast and a little less exact"
    choices.take("decode.window", most, why)
    take_recipe(choices, fingerprint, machine)
    choices.take("decode.mirror", value=False, reason="true averages mirrored passes, slower")
    _cleaning(choices)
    # What is left was set by the person and is optional in a plan.
    for key in tuple(choices.overrides):
        choices.take(key, None)
    return make_plan(choices.values, choices.reasons)


def _checked(overrides: Mapping[str, Any], axes: int) -> dict[str, Any]:
    """What the person has set, before other values are derived from it."""
    values = check_values(overrides, where="plan")
    for key in ("patch.size", "data.spacing"):
        # Only a spacing may be empty: every scan then keeps its own.
        if key in values and len(values[key]) != axes and (values[key] or key == "patch.size"):
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
    take_task(choices, found)
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
    take_classes(choices, found)
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


def _cleaning(choices: Choices) -> None:
    unit = choices.values["data.unit"]
    sizes = "voxels" if unit == "px" else f"{unit}^{choices.values['data.dimensions']}"
    if choices.values["data.task"] in OBJECT_TASKS:
        choices.take("decode.largest_component", (), "not of objects")
        why = f"what is smaller is no object, in {sizes}; empty: found on the validation cases, as"
        choices.take("decode.min_size", (), f"{why} are {', '.join(RULES)} unless they are set")
        choices.take("decode.fill_holes", (), "not of objects")
        return
    why = "none by default: --folds finds out what helps"
    choices.take("decode.largest_component", (), f"classes kept in one piece; {why}")
    choices.take(
        "decode.min_size", (), f"smaller pieces go, in {sizes}, one entry per class; {why}"
    )
    choices.take("decode.fill_holes", (), f"classes whose holes are filled; {why}")
