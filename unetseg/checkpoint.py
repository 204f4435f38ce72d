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

from unetseg.config import Plan, from_values, to_values
from unetseg.errors import ModelError, UsageError
from unetseg.files import replacing, write_text
from unetseg.nets.unet import UNet
from unetseg.tasks import make_task
from unetseg.version import __version__

# Raised when a model.json of today could not be read by yesterday's release.
SCHEMA = 1
# A release that knows no ensembles must not look for the one network of one.
ENSEMBLE_SCHEMA = 2
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"
_MEMBERS = "members"


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
        **({_MEMBERS: members} if members else {}),
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
    folder = _model_folder(path)
    description = _description(folder)
    plan = _plan(description, folder)
    members = _chosen(_members(description, folder), folds, folder)
    files = list(members.values()) or [WEIGHTS]
    networks = tuple(_network(plan, folder / file) for file in files)
    return TrainedModel(networks, plan, folder, description["facts"], tuple(members))


def _network(plan: Plan, weights: Path) -> UNet:
    try:
        network = build(plan)
    except UsageError as error:
        raise _unfit(error, weights.with_name(DESCRIPTION)) from error
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
    listed = description.get(_MEMBERS, [])
    try:
        members = {int(each["fold"]): str(each["weights"]) for each in listed}
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(folder / DESCRIPTION) from error
    # A name that leads elsewhere is no file of this model.
    if any(Path(name).name != name for name in members.values()) or (
        (description["schema"] == ENSEMBLE_SCHEMA) != bool(members)
    ):
        raise _damaged(folder / DESCRIPTION)
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
    folder = _model_folder(path)
    return tuple(_members(_description(folder), folder))


def refuse_ensemble(path: Path) -> None:
    """Raise ModelError if a run or model folder holds several networks where one is needed."""
    folder = _model_folder(path)
    if members := _members(_description(folder), folder):
        raise _not_single(folder, tuple(members))


def _not_single(folder: Path, folds: tuple[int, ...]) -> ModelError:
    return ModelError(
        "a model of several networks, where one is needed",
        where=folder,
        expected="a run of one fold",
        got=f"the folds {', '.join(map(str, folds))}",
        hint=f"give the run of one of them, such as {folder.parent / f'fold_{folds[0]}'}",
    )


def load_plan(path: Path) -> Plan:
    """The plan of a run or model folder, without its weights. Raises ModelError as `load` does."""
    folder = _model_folder(path)
    return _plan(_description(folder), folder)


def read_facts(path: Path) -> dict[str, Any]:
    """What a run or model folder says of its training. Raises ModelError as `load` does."""
    facts: dict[str, Any] = _description(_model_folder(path))["facts"]
    return facts


def _plan(description: dict[str, Any], folder: Path) -> Plan:
    path = folder / DESCRIPTION
    try:
        return from_values(description["plan"], where=path)
    except UsageError as error:
        raise _unfit(error, path) from error


def _unfit(error: UsageError, path: Path) -> ModelError:
    """The same failure as the model's: its plan was not written by the person who uses it."""
    return ModelError(
        error.what,
        where=error.where or path,
        expected=error.expected,
        got=error.got,
        hint=error.hint or "train the model again, or update unetseg",
    )


def _model_folder(path: Path) -> Path:
    return path / "model" if (path / "model" / DESCRIPTION).is_file() else path


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            "no trained model here",
            where=folder,
            expected=f"a run folder, or a folder with {DESCRIPTION} and {WEIGHTS}",
            hint=_instead(folder),
        ) from error
    except ValueError as error:
        raise ModelError(f"not JSON: {error}", where=path) from error
    if not isinstance(content, dict) or "schema" not in content:
        raise ModelError("not a model description of unetseg", where=path)
    if content["schema"] not in (SCHEMA, ENSEMBLE_SCHEMA):
        raise ModelError(
            "a model of another schema",
            where=path,
            expected=f"{SCHEMA} or {ENSEMBLE_SCHEMA}",
            got=content["schema"],
            hint="update unetseg",
        )
    if not all(isinstance(content.get(key), dict) for key in ("plan", "facts")):
        raise _damaged(path)
    return content


def _instead(folder: Path) -> str:
    """What to do where there is no model."""
    folds = sorted(folder.glob(f"fold_*/model/{DESCRIPTION}"))
    if folds:
        one = folds[0].parent.parent
        return f"not all folds are trained: let `unetseg train` go on, or give --model {one}"
    return "train one with `unetseg train`, or give --model RUN"


def _damaged(path: Path) -> ModelError:
    return ModelError(
        "a damaged model description", where=path, expected="plan, facts and the members, if any"
    )


def newest_run(runs: Path) -> Path:
    """The run that finished last; a damaged one is passed over. Raises ModelError if none is."""
    finished = [
        (path.stat().st_mtime_ns, path.parent.parent)
        for path in runs.glob(f"*/model/{DESCRIPTION}")
        if _is_finished(path.parent)
    ]
    if not finished:
        raise ModelError(
            "no finished run", where=runs, hint="train one with `unetseg train`, or give --model"
        )
    return max(finished)[1]


def _is_finished(folder: Path) -> bool:
    try:
        return bool(read_facts(folder).get("finished"))
    except ModelError:
        return False
