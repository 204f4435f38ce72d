"""The plan of a training: frozen dataclasses, written to and read from TOML.

A plan is complete: every value that shapes a training stands in it, with the reason beside it as
a comment, and may be edited. `plan.toml` has the sections data, patch, network, training, decode.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import reduce
from operator import getitem
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from unetseg.config.data import IGNORED as IGNORED
from unetseg.config.data import OBJECT_TASKS as OBJECT_TASKS
from unetseg.config.data import STRICT, PositiveFloat, Share, Weight
from unetseg.config.data import DataPlan as DataPlan
from unetseg.config.decode import RULES as RULES
from unetseg.config.decode import DecodePlan as DecodePlan
from unetseg.errors import UsageError, nearest

Positive = Annotated[int, Field(ge=1)]
Portion = Annotated[float, Field(ge=0, lt=1)]
PerAxis = tuple[Positive, ...]


@dataclass(frozen=True, kw_only=True)
class PatchPlan:
    """How much the network sees at once.

    size : voxels per axis of the plan's grid
    batch : patches per step
    """

    __pydantic_config__ = STRICT
    size: PerAxis
    batch: Positive


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """The U-Net; every tuple has one entry per level, finest first.

    features : channels of the decoder, and of an encoder that has no widths of its own
    strides : per level and axis, relative to the level above; the first is all ones
    kernels : per level and axis
    blocks : of the encoder: convolutions (plain), layers (highway, dense), blocks (residual); empty
        for an encoder whose name says how many it has
    decoder_blocks : convolutions per level of the decoder
    block, preactivation, shortcut : of the residual encoders
    growth : maps that a layer of the dense encoder adds
    gate_bias : with which the gates of the highway encoder begin
    dropout : share of the channels that a training step leaves out
    stochastic_depth : share of the samples that skip the last residual block, less before it
    recompute : the dense encoders keep less for the backward pass and compute it again
    """

    __pydantic_config__ = STRICT
    encoder: str
    skip: str
    levels: Positive
    features: tuple[Positive, ...]
    strides: tuple[PerAxis, ...]
    kernels: tuple[PerAxis, ...]
    blocks: tuple[Positive, ...] = ()
    decoder_blocks: Positive = 2
    block: Literal["basic", "bottleneck"] = "basic"
    preactivation: bool = False
    shortcut: Literal["projection", "padding"] = "projection"
    growth: Positive = 16
    gate_bias: Annotated[float, Field(allow_inf_nan=False)] = -2.0
    norm: Literal["instance", "batch", "group"] = "instance"
    activation: Literal["leaky_relu", "relu", "elu", "silu"] = "leaky_relu"
    dropout: Portion = 0.0
    stochastic_depth: Portion = 0.0
    recompute: bool = False
    deep_supervision: bool


@dataclass(frozen=True, kw_only=True)
class AugmentPlan:
    """Random changes of a batch; each `*_probability` is per sample.

    elastic : largest shift of a control point, in distances between two of them along an axis,
        of which a patch has four; smooth, and without folds
    rotation_degrees : largest angle per rotation axis (one in 2-D, three in 3-D, array order)
    mirror_axes : array axes along which a sample is flipped with probability one half
    scale, gamma, brightness, contrast : lowest and highest factor
    intensity_per_channel : gamma, brightness and contrast have a factor for each channel
    noise, blur : largest standard deviation (normalised intensity; voxels)
    low_resolution : least share of the resolution that a sample keeps along each axis
    growth : how often the data are seen until changes of shape are as strong as they get, see
        augment.grown; 0: they stay as they are
    """

    __pydantic_config__ = STRICT
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...]
    spatial_probability: Share
    rotation_degrees: tuple[Annotated[float, Field(ge=0, le=180)], ...]
    scale: tuple[PositiveFloat, PositiveFloat]
    # Cubic B-splines do not fold up to 1 / 2.48 of that distance in 3-D (Choi & Lee 2000).
    elastic: Annotated[float, Field(ge=0, le=0.4)] = 0.0
    intensity_probability: Share
    intensity_per_channel: bool = False
    brightness: tuple[PositiveFloat, PositiveFloat]
    contrast: tuple[PositiveFloat, PositiveFloat]
    gamma: tuple[PositiveFloat, PositiveFloat]
    noise: Weight
    blur: Weight
    low_resolution: Annotated[float, Field(gt=0, le=1)] = 1.0
    growth: Weight = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How the network learns.

    group : what cases of one group share, which then stand in one fold: a column of the CSV list,
        or a regular expression with one group, searched in the names of the cases
    minutes : the whole command's time budget; without it the training lasts `epochs`, and without
        both until the validation score no longer rises
    anneal_share : share of the training, at its end, in which the learning rate falls to zero
    patience : without a budget, the rate falls once the score has not risen for this share
    passes : the parts in which the batch goes through the network; more need less memory
    weights : published weights that the encoder begins with (imagenet, medicalnet), or a file
    init : a run whose model the training begins with
    encoder_rate : the encoder's learning rate, as a factor on the others'
    frozen_share : share of the training, from its start, in which the encoder stays as it is
    snapshots : how many times the averaged weights are set aside, evenly over the training
    average_decay : decay of the averaged weights per step; 0 switches averaging off
    foreground_share : share of the patches centred on a voxel of a class
    dice_over : Dice of the whole batch, or of each case's patch and then the mean
    class_weights : in the cross-entropy, of each class but the background (1); empty: all alike
    distance_weight : of the distances that voxels have in their objects; None where there are none
    validation_cases : cases scored after an epoch; all of them are scored at the end
    validation_every : epochs from one validation to the next
    """

    __pydantic_config__ = STRICT
    seed: Annotated[int, Field(ge=0)]
    fold: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=2)]
    group: str | None = None
    minutes: PositiveFloat | None = None
    epochs: Positive | None = None
    steps_per_epoch: Positive
    weights: str | None = None
    init: str | None = None
    learning_rate: PositiveFloat
    anneal_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    patience: Annotated[float, Field(gt=0, le=0.9)] = 0.3
    passes: Positive = 1
    encoder_rate: PositiveFloat = 1.0
    frozen_share: Portion = 0.0
    weight_decay: Weight
    warmup_steps: Annotated[int, Field(ge=0)]
    gradient_clip: PositiveFloat
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    foreground_share: Share
    dice_weight: Weight
    cross_entropy_weight: Weight
    dice_over: Literal["batch", "case"] = "batch"
    class_weights: tuple[PositiveFloat, ...] = ()
    distance_weight: Weight | None = None
    precision: Literal["float32", "bfloat16", "float16"]
    validation_cases: Positive
    validation_every: Positive = 1
    snapshots: Annotated[int, Field(ge=0)] = 0
    augment: AugmentPlan


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that shapes a training and its predictions."""

    __pydantic_config__ = STRICT
    data: DataPlan
    patch: PatchPlan
    network: NetworkPlan
    training: TrainingPlan
    decode: DecodePlan
    # Why each value is what it is, by dotted key; a comment in the file, no part of the plan.
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        axes, network = self.data.dimensions, self.network
        per_level = {
            "features": network.features,
            "strides": network.strides,
            "kernels": network.kernels,
        }
        if network.blocks:
            per_level["blocks"] = network.blocks
        for name, values in per_level.items():
            if len(values) != network.levels:
                raise ValueError(
                    f"network.{name} needs one entry per level ({network.levels}),"
                    f" got {len(values)}"
                )
        per_axis: dict[str, tuple[float, ...]] = {"patch.size": self.patch.size}
        if self.data.spacing:
            per_axis["data.spacing"] = self.data.spacing
        per_axis |= {f"network.strides[{i}]": s for i, s in enumerate(network.strides)}
        per_axis |= {f"network.kernels[{i}]": k for i, k in enumerate(network.kernels)}
        for name, values in per_axis.items():
            if len(values) != axes:
                raise ValueError(f"{name} needs one entry per axis ({axes}), got {len(values)}")
        if set(network.strides[0]) != {1}:
            raise ValueError("network.strides[0] must be all ones: level 0 is at full resolution")
        if any(size % 2 == 0 for kernel in network.kernels for size in kernel):
            raise ValueError("network.kernels must be odd")
        if not self.data.channels:
            raise ValueError("data.channels must name one channel or more")
        if len(self.data.class_names) != len(self.data.class_values):
            raise ValueError("data.class_names and data.class_values differ in length")
        if len(self.data.class_values) < 2 or self.data.class_values[0] != 0:
            raise ValueError("data.class_values must begin with 0 and hold one class more")
        self.data.check_regions()
        self.data.check_objects()
        classes, weights = len(self.data.class_values) - 1, len(self.training.class_weights)
        if weights not in (0, classes):
            raise ValueError(
                f"training.class_weights needs one entry per class but the background ({classes}),"
                f" got {weights}"
            )
        is_open = self.training.minutes is None and self.training.epochs is None
        if is_open and self.training.anneal_share == 1:
            raise ValueError(
                "training.anneal_share must be below 1 without training.minutes or epochs: the"
                " score is watched at a steady rate"
            )
        if self.training.fold >= self.training.folds:
            raise ValueError(f"training.fold must be below training.folds ({self.training.folds})")
        if len(self.training.augment.rotation_degrees) != (1 if axes == 2 else 3):
            raise ValueError("training.augment.rotation_degrees needs 1 angle in 2-D, 3 in 3-D")
        if any(axis >= axes for axis in self.training.augment.mirror_axes):
            raise ValueError(f"training.augment.mirror_axes must be below {axes}")
        foreground = self.data.class_names[1:]
        for name in ("largest_component", "fill_holes"):
            for unknown in set(getattr(self.decode, name)) - set(foreground):
                raise ValueError(
                    f"decode.{name}: no such foreground class {unknown};"
                    f" {nearest(unknown, foreground)}"
                )
        for name in () if self.data.has_objects else RULES:
            if getattr(self.decode, name) is not None:
                raise ValueError(f"decode.{name} is for {' and '.join(OBJECT_TASKS)} only")
        if self.data.has_objects and len(self.decode.min_size) > 1:
            raise ValueError("decode.min_size needs one entry: it is the same for all objects")
        if len(self.decode.min_size) not in (0, 1, len(foreground)):
            raise ValueError(
                f"decode.min_size needs one entry, or one per foreground class ({len(foreground)}),"
                f" got {len(self.decode.min_size)}"
            )


_ADAPTER = TypeAdapter(Plan)


def _leaves(record: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    # With extras: the limits of a value are part of its type.
    for name, kind in get_type_hints(record, include_extras=True).items():
        if name in ("reasons", "__pydantic_config__"):
            continue
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def plan_keys() -> tuple[str, ...]:
    """Every dotted key of a plan, in file order."""
    return tuple(name for name, _ in _leaves(Plan))


def check_keys(keys: Mapping[str, Any], *, where: object) -> None:
    """Raise UsageError with the nearest known key if one of `keys` is not a key of a plan."""
    known = plan_keys()
    for key in keys:
        if key not in known:
            raise UsageError("no such plan key", where=where, got=key, hint=nearest(key, known))


def check_values(values: Mapping[str, Any], *, where: object) -> dict[str, Any]:
    """The values by dotted key, each as its type has it, before they become a plan together.

    Raises UsageError for an unknown key and for a value that its key cannot have.
    """
    check_keys(values, where=where)
    kinds = dict(_leaves(Plan))
    checked: dict[str, Any] = {}
    for key, value in values.items():
        try:
            checked[key] = TypeAdapter(kinds[key]).validate_python(value)
        except ValidationError as error:
            raise _fault(error, where, key) from error
    return checked


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`("training.epochs=8", ...)` as values by dotted key.

    A value is read as TOML; what is not TOML is a string, so that quotes are not needed.
    Raises UsageError for a missing `=` or an unknown key.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError("not a setting", where="--set", expected="key=value", got=setting)
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    check_keys(values, where="--set")
    return values


def make_plan(
    values: Mapping[str, Any], reasons: Mapping[str, str], *, where: object = "plan"
) -> Plan:
    """A checked plan from values by dotted key. Raises UsageError that names the key at fault."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return checked_plan(tree, reasons, where)


def checked_plan(tree: Mapping[str, Any], reasons: Mapping[str, str], where: object) -> Plan:
    """A plan from nested values. Raises UsageError that names the key at fault."""
    try:
        return _ADAPTER.validate_python({**tree, "reasons": dict(reasons)})
    except ValidationError as error:
        raise _fault(error, where) from error


def _fault(error: ValidationError, where: object, prefix: str = "") -> UsageError:
    """The first thing that is wrong, by its dotted key."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in (prefix, *first["loc"]) if part != "")
    given = first.get("input")
    return UsageError(
        re.sub(r"^Value error, ", "", first["msg"]),
        where=f"{where}: {key}" if key else where,
        got="" if isinstance(given, dict) or not key else given,
    )


def with_overrides(plan: Plan, overrides: Mapping[str, Any], *, where: object) -> Plan:
    """The plan with other values by dotted key, checked. Raises UsageError as `make_plan` does."""
    nested = to_values(plan)
    flat = {key: reduce(getitem, key.split("."), nested) for key in plan_keys()}
    values = {key: value for key, value in (flat | dict(overrides)).items() if value is not None}
    return make_plan(values, plan.reasons, where=where)


def to_values(plan: Plan) -> dict[str, Any]:
    """The plan as plain nested values, for JSON and for hashing."""
    values = asdict(plan)
    del values["reasons"]
    return values


def from_values(values: Mapping[str, Any], *, where: object) -> Plan:
    """The inverse of `to_values`. Raises UsageError that names the key at fault."""
    return checked_plan(values, {}, where)


def changed_section(plan: Plan, before: Plan) -> str | None:
    """The first section of two plans that differs, of those that trained weights depend on."""
    sections = ("data", "patch", "network")
    return next((s for s in sections if getattr(plan, s) != getattr(before, s)), None)
