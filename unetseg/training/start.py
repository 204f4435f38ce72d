"""Where a network begins: at published weights, at those of a file, or at the model of a run."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unetseg import checkpoint
from unetseg.config import NetworkPlan, Plan, check_values
from unetseg.downloads import FAMILIES, Published, fetch, published, refuse_unpinned
from unetseg.errors import DataError, UsageError, nearest
from unetseg.files import write_text
from unetseg.nets.unet import UNet
from unetseg.nets.weights import Loading, first_kernels, fit, fitted, read_tensors, unfit
from unetseg.records import Listener, ignore_event

_WEIGHTS, _INIT = "training.weights", "training.init"
_SAME_NETWORK = (
    "with --init the plan's network section must be the run's: leave out --encoder, --skip and"
    " --set network.*, or begin with --weights"
)


@dataclass(frozen=True)
class Start:
    """Where a training began, and what became of every tensor.

    source : plain facts about the file or the run, for JSON
    """

    title: str
    source: Mapping[str, Any]
    loading: Loading

    def summary(self) -> str:
        return f"{self.title}: {self.loading.summary()}"

    def write(self, path: Path) -> None:
        """Write the fate of every tensor as JSON, atomically."""
        content = {"source": dict(self.source), "tensors": self.loading.rows()}
        write_text(path, json.dumps(content, indent=1) + "\n")


# --- before there is a network -----------------------------------------------------------------


def located(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The plan values with the paths of a file or a run made absolute: plans outlive a folder.

    Raises UsageError if one of them is no name at all.
    """
    values = dict(overrides)
    for key in (_WEIGHTS, _INIT):
        if values.get(key) is None:
            continue
        given = str(values[key]) if isinstance(values[key], Path) else values[key]
        name = check_values({key: given}, where="plan")[key]
        is_family = key == _WEIGHTS and name in FAMILIES
        values[key] = name if is_family else str(Path(name).expanduser().resolve())
    return values


def check_named(weights: str | None, init: str | None) -> None:
    """Whether what a training shall begin with is there.

    Raises UsageError if both are given or there is no such file, ModelError if there is no
    model in the run.
    """
    if weights is not None and init is not None:
        raise UsageError(
            "a training begins with weights or with a run, not with both",
            where=f"{_WEIGHTS} and {_INIT}",
            hint="give --weights or --init",
        )
    if weights is not None and weights not in FAMILIES and not Path(weights).is_file():
        raise UsageError(
            "no such weights",
            where=_WEIGHTS,
            expected=f"{', '.join(FAMILIES)} or a file",
            got=weights,
            hint=nearest(Path(weights).name, FAMILIES),
        )
    if init is not None:
        checkpoint.load_plan(Path(init))
        checkpoint.refuse_ensemble(Path(init))


def check_start(plan: Plan) -> None:
    """Whether the plan's network can begin as the plan says; looks at names only.

    Raises as `check_named`, and UsageError if there are no such weights for the encoder.
    """
    check_named(plan.training.weights, plan.training.init)
    if plan.training.weights in FAMILIES:
        refuse_unpinned(_published(plan))


def network_of(init: str | None) -> tuple[dict[str, Any], int | None]:
    """The network of the run's plan as values by dotted key, and its number of spatial axes.

    Raises ModelError if there is no model in the run.
    """
    if init is None:
        return {}, None
    plan = checkpoint.load_plan(Path(init))
    values = {f"network.{f.name}": getattr(plan.network, f.name) for f in fields(NetworkPlan)}
    return values, plan.data.dimensions


def _published(plan: Plan) -> Published:
    found = published(str(plan.training.weights), plan.network.encoder)
    if found.family.dimensions > plan.data.dimensions:
        raise UsageError(
            f"{found.family.name} weights are for volumes",
            where=_WEIGHTS,
            expected=f"data in {found.family.dimensions}-D",
            got=f"{plan.data.dimensions}-D",
            hint="use --weights imagenet",
        )
    return found


# --- the network -------------------------------------------------------------------------------


def begin(
    network: UNet,
    plan: Plan,
    listener: Listener = ignore_event,
    *,
    folder: Path | None = None,
) -> Start | None:
    """Give a new network the weights that the plan wants it to begin with; None if it wants none.

    folder : where fetched weights are kept; the user's cache folder if not given

    Raises UsageError if the plan asks for what does not exist; ModelError if it does not fit, is
    damaged, or cannot be fetched; DataError if it cannot be written. The network is as it was then.
    """
    check_start(plan)
    training = plan.training
    if training.init is not None:
        old = checkpoint.load(Path(training.init))
        facts = {"run": str(training.init), "step": old.facts.get("step")}
        return Start(f"begins with the run {training.init}", facts, carry_over(old, network, plan))
    if training.weights is None:
        return None
    facts = {}
    if training.weights in FAMILIES:
        found = _published(plan)
        path = fetch(found, folder, listener)
        title = f"the encoder begins with {found.name}"
        facts |= {"name": found.name, "url": found.url, "licence": found.family.licence}
    else:
        path = Path(training.weights)
        title = f"the encoder begins with {path}"
        facts |= {"path": str(path)}
    facts["sha256"] = _sum(path)
    encoder = network.get_submodule("encoder")
    return Start(title, facts, fit(read_tensors(path), encoder, where=path))


def _sum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error


def carry_over(old: checkpoint.TrainedModel, network: UNet, plan: Plan) -> Loading:
    """Copy a trained model into the network of another plan.

    The first convolution takes another number of channels; of the heads, a class keeps what the
    class of its name has learned; a block of the encoder that the old network lacks begins as
    the identity where it can.

    Raises ModelError, before anything is changed, for any other difference, naming the tensor.
    """
    have, want = old.network.state_dict(), network.state_dict()
    added = dict(_added_blocks(network, have))
    first = {f"encoder.{name}" for name in first_kernels(network.get_submodule("encoder"))}
    rows = _rows(old, network, plan)
    values: dict[str, Tensor] = {}
    loaded: list[str] = []
    adapted: list[tuple[str, str]] = []
    fresh: list[tuple[str, str]] = []
    for name, like in want.items():
        if name in added:
            continue
        theirs = have.get(name)
        if name.startswith("heads."):
            result = _head(theirs, like, rows)
        else:
            result = _same_axes(theirs, like, is_first=name in first)
        if result is None:
            raise unfit(name, like, theirs, where=old.folder, hint=_SAME_NETWORK)
        value, how = result
        if value is None:
            fresh.append((name, how))
            continue
        values[name] = value
        if how:
            adapted.append((name, how))
        else:
            loaded.append(name)
    left_out = []
    for name in have.keys() - want.keys():
        if not name.startswith("heads."):
            raise unfit(name, None, have[name], where=old.folder, hint=_SAME_NETWORK)
        left_out.append((name, "a head that this network lacks"))
    for name, value in values.items():
        want[name].copy_(value)
    fresh += _begin_blocks(added)
    return Loading(tuple(loaded), tuple(adapted), tuple(sorted(left_out)), tuple(fresh))


def _added_blocks(network: UNet, have: Mapping[str, Tensor]) -> Iterator[tuple[str, nn.Module]]:
    """Each tensor of a block that the old network lacks as a whole, with the block."""
    for path, module in network.named_modules():
        if not callable(getattr(module, "become_identity", None)):
            continue
        names = [f"{path}.{name}" for name in module.state_dict()]
        if not any(name in have for name in names):
            yield from ((name, module) for name in names)


def _begin_blocks(added: Mapping[str, nn.Module]) -> list[tuple[str, str]]:
    """Let each block be the identity if it can; what became of its tensors."""
    can: dict[nn.Module, bool] = {}
    fates = []
    for name, block in added.items():
        if block not in can:
            become_identity: Any = block.become_identity
            with torch.no_grad():
                can[block] = bool(become_identity())
        reason = "the identity at first" if can[block] else "which cannot be the identity"
        fates.append((name, f"in a new block, {reason}"))
    return fates


# (row of the new head, row of the old one) of each class that both have; None if heads as they
# are, without a row per class, can only be taken whole.
_Rows = tuple[tuple[tuple[int, int], ...], tuple[str, ...]] | None
# A tensor with how it was adapted, or none with the reason why it begins fresh; None: an error.
_Result = tuple[Tensor | None, str] | None


def _rows(old: checkpoint.TrainedModel, network: UNet, plan: Plan) -> _Rows:
    heads = (old.network.heads[0], network.heads[0])
    outputs = [len(head.get_parameter("bias")) for head in heads]
    # The background has an output of its own, or none.
    first = int(bool(plan.data.regions))
    before, after = old.plan.data.class_names[first:], plan.data.class_names[first:]
    if old.plan.data.task != plan.data.task:
        return (), ()
    if outputs != [len(before), len(after)] or before == after:
        return None
    kept = [name for name in after if name in before]
    return tuple((after.index(name), before.index(name)) for name in kept), tuple(kept)


def _same_axes(theirs: Tensor | None, like: Tensor, *, is_first: bool) -> _Result:
    # Upsampling kernels cannot be given an axis as those of the encoder can.
    if theirs is None or theirs.ndim != like.ndim:
        return None
    return fitted(theirs, like, is_first=is_first)


def _head(theirs: Tensor | None, like: Tensor, rows: _Rows) -> _Result:
    """A head's tensor with the rows of the classes that both have."""
    if theirs is None:
        return None, "a head that the run's network lacks"
    if theirs.shape[1:] != like.shape[1:]:
        return None
    if rows is None:
        return (theirs, "") if theirs.shape == like.shape else (None, "other outputs")
    pairs, names = rows
    if not pairs:
        return None, "other classes"
    value = like.clone()
    for mine, other in pairs:
        value[mine] = theirs[other]
    return value, f"rows kept: {', '.join(names)}; the others are fresh"
