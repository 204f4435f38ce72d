"""A trained model on disk: weights.safetensors and model.json, nothing that runs code."""

import json
import platform
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
WEIGHTS, DESCRIPTION = "weights.safetensors", "model.json"


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with the plan it was trained by.

    facts : plain values about the training (steps, seconds, validation Dice, data)
    """

    network: UNet
    plan: Plan
    folder: Path
    facts: dict[str, Any]


def build(plan: Plan) -> UNet:
    """The plan's network with fresh weights."""
    return UNet(len(plan.data.channels), make_task(plan).outputs, plan.network)


def write_weights(path: Path, network: UNet) -> None:
    """Write the network's tensors by name, atomically."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def save(folder: Path, network: UNet, plan: Plan, facts: dict[str, Any]) -> None:
    """Write a model folder: the weights first, so that a description never stands alone."""
    write_weights(folder / WEIGHTS, network)
    description = {
        "schema": SCHEMA,
        "unetseg": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": to_values(plan),
        "facts": facts,
    }
    write_text(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")


def load(path: Path) -> TrainedModel:
    """Read a run folder or a model folder.

    Raises ModelError if a file is missing or damaged, or a tensor does not fit, naming it.
    """
    folder = _model_folder(path)
    description = _description(folder)
    plan = _plan(description, folder)
    try:
        network = build(plan)
    except UsageError as error:
        raise _unfit(error, folder / DESCRIPTION) from error
    weights = folder / WEIGHTS
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
    return TrainedModel(network.eval(), plan, folder, description["facts"])


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
            hint="train one with `unetseg train`, or give --model RUN",
        ) from error
    except ValueError as error:
        raise ModelError(f"not JSON: {error}", where=path) from error
    if not isinstance(content, dict) or "schema" not in content:
        raise ModelError("not a model description of unetseg", where=path)
    if content["schema"] != SCHEMA:
        raise ModelError(
            "a model of another schema",
            where=path,
            expected=SCHEMA,
            got=content["schema"],
            hint="update unetseg",
        )
    if not all(isinstance(content.get(key), dict) for key in ("plan", "facts")):
        raise ModelError("a damaged model description", where=path, expected="plan and facts")
    return content


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
