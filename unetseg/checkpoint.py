"""A trained model on disk: weights.safetensors and model.json, nothing that runs code.

An ensemble has weights for each of its folds, fold_0.safetensors and so on.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unetseg.config import Plan, to_values
from unetseg.errors import ModelError, UsageError
from unetseg.files import replacing, write_text
from unetseg.nets.unet import UNet
from unetseg.runs.description import (
    DESCRIPTION,
    ENSEMBLE_SCHEMA,
    MEMBERS,
    SCHEMA,
    damaged,
    load_plan,
    model_folder,
    newest_run,
    plan_of,
    read_description,
    read_facts,
    unfit,
)
from unetseg.tasks import make_task
from unetseg.version import __version__

WEIGHTS = "weights.safetensors"

__all__ = [
    "DESCRIPTION",
    "ENSEMBLE_SCHEMA",
    "SCHEMA",
    "WEIGHTS",
    "TrainedModel",
    "build",
    "folds_of",
    "load",
    "load_plan",
    "newest_run",
    "read_facts",
    "refuse_ensemble",
    "save",
    "save_ensemble",
    "write_tensors",
    "write_weights",
]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """One network, or those of an ensemble, with the plan they were trained by.

    facts : plain values about the training (steps, seconds, validation score, data)
    folds : of an ensemble, the fold that each network validated on; empty for a single network
    """

    networks: tuple[UNet, ...]
    plan: Plan
    folder: Path
    facts: dict[str, Any]
    folds: tuple[int, ...] = ()

    @property
    def network(self) -> UNet:
        """The network of a model that has one. Raises ModelError for an ensemble."""
        if self.folds:
            raise _not_single(self.folder, self.folds)
        return self.networks[0]


def build(plan: Plan) -> UNet:
    """The plan's network with fresh weights."""
    return UNet(len(plan.data.channels), make_task(plan).outputs, plan.network)


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, atomically. Raises DataError if the disk is full."""
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(dict(tensors), temporary, dict(metadata) if metadata else None)
        except SafetensorError as error:
            # What the system says reaches us in an error of the library's own.
            raise OSError(str(error)) from error
        # Newer releases leave a file that its owner alone may read, whatever the umask.
        temporary.chmod(mode)


def write_weights(path: Path, network: UNet) -> None:
    """Write the network's tensors by name, atomically. Raises DataError if the disk is full."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    write_tensors(path, tensors)


def save(folder: Path, network: UNet, plan: Plan, facts: dict[str, Any]) -> None:
    """Write a model folder: the weights first, so that a description never stands alone."""
    write_weights(folder / WEIGHTS, network)
    _describe(folder, SCHEMA, plan, facts)


def save_ensemble(
    folder: Path, members: Mapping[int, UNet], plan: Plan, facts: dict[str, Any]
) -> None:
    """Write a model folder with the networks of several folds, by fold."""
    listed = []
    for fold, network in members.items():
        name = f"fold_{fold}.safetensors"
        write_weights(folder / name, network)
        listed.append({"fold": fold, "weights": name})
    _describe(folder, ENSEMBLE_SCHEMA, plan, facts, listed)


def _describe(
    folder: Path,
    schema: int,
    plan: Plan,
    facts: dict[str, Any],
    members: Sequence[dict[str, Any]] = (),
) -> None:
    description = {
        "schema": schema,
        "unetseg": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **({MEMBERS: members} if members else {}),
        "plan": to_values(plan),
        "facts": facts,
    }
    write_text(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")


def load(path: Path, folds: Sequence[int] | None = None) -> TrainedModel:
    """Read a run folder or a model folder.

    folds : which members of an ensemble; all of them if not given

    Raises ModelError if a file is missing or damaged, or a tensor does not fit, naming it;
    UsageError if the model has no such member.
    """
    folder = model_folder(path)
    description = read_description(folder)
    plan = plan_of(description, folder)
    members = _chosen(_members(description, folder), folds, folder)
    files = list(members.values()) or [WEIGHTS]
    networks = tuple(_network(plan, folder / file) for file in files)
    return TrainedModel(networks, plan, folder, description["facts"], tuple(members))


def _network(plan: Plan, weights: Path) -> UNet:
    try:
        network = build(plan)
    except UsageError as error:
        raise unfit(error, weights.with_name(DESCRIPTION)) from error
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"weights cannot be read: {error}", where=weights) from error
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        want = tuple(expected[name].shape) if name in expected else "no such tensor"
        have = tuple(tensors[name].shape) if name in tensors else "nothing"
        if want != have:
            raise ModelError(f"tensor {name} does not fit", where=weights, expected=want, got=have)
    network.load_state_dict(tensors)
    return network.eval()


def _members(description: dict[str, Any], folder: Path) -> dict[int, str]:
    """The weights of an ensemble by fold; empty for a single network."""
    listed = description.get(MEMBERS, [])
    try:
        members = {int(each["fold"]): str(each["weights"]) for each in listed}
    except (TypeError, KeyError, ValueError) as error:
        raise damaged(folder / DESCRIPTION) from error
    # A name that leads elsewhere is no file of this model.
    if any(Path(name).name != name for name in members.values()) or (
        (description["schema"] == ENSEMBLE_SCHEMA) != bool(members)
    ):
        raise damaged(folder / DESCRIPTION)
    return members


def _chosen(members: dict[int, str], folds: Sequence[int] | None, folder: Path) -> dict[int, str]:
    if folds is None:
        return members
    if not members:
        raise UsageError(
            "the model is a single network, it has no folds to choose from", where=folder
        )
    for fold in folds:
        if fold not in members:
            known = ", ".join(map(str, members))
            raise UsageError("no such fold in this model", where=folder, expected=known, got=fold)
    return {fold: members[fold] for fold in folds}


def folds_of(path: Path) -> tuple[int, ...]:
    """The folds of an ensemble; empty for a single network. Raises ModelError as `load` does."""
    folder = model_folder(path)
    return tuple(_members(read_description(folder), folder))


def refuse_ensemble(path: Path) -> None:
    """Raise ModelError if a run or model folder holds several networks where one is needed."""
    folder = model_folder(path)
    if members := _members(read_description(folder), folder):
        raise _not_single(folder, tuple(members))


def _not_single(folder: Path, folds: tuple[int, ...]) -> ModelError:
    return ModelError(
        "a model of several networks, where one is needed",
        where=folder,
        expected="a run of one fold",
        got=f"the folds {', '.join(map(str, folds))}",
        hint=f"give the run of one of them, such as {folder.parent / f'fold_{folds[0]}'}",
    )
