"""What a model on disk says of itself: model.json, read without its weights."""

import json
from pathlib import Path
from typing import Any

from unetseg.config import Plan, from_values
from unetseg.errors import ModelError, UsageError

# Raised when a model.json of today could not be read by yesterday's release.
SCHEMA = 1
# A release that knows no ensembles must not look for the one network of one.
ENSEMBLE_SCHEMA = 2
DESCRIPTION = "model.json"
MEMBERS = "members"


def load_plan(path: Path) -> Plan:
    """The plan of a run or model folder, without its weights.

    Raises ModelError if model.json is missing or damaged.
    """
    folder = model_folder(path)
    return plan_of(read_description(folder), folder)


def read_facts(path: Path) -> dict[str, Any]:
    """What a run or model folder says of its training. Raises ModelError as `load_plan` does."""
    facts: dict[str, Any] = read_description(model_folder(path))["facts"]
    return facts


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


def model_folder(path: Path) -> Path:
    """The model folder of a run folder; a model folder is its own."""
    return path / "model" if (path / "model" / DESCRIPTION).is_file() else path


def read_description(folder: Path) -> dict[str, Any]:
    """All of a model.json, its schema checked. Raises ModelError as `load_plan` does."""
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            "no trained model here",
            where=folder,
            expected=f"a run folder, or a folder with {DESCRIPTION} and weights.safetensors",
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
        raise damaged(path)
    return content


def plan_of(description: dict[str, Any], folder: Path) -> Plan:
    """The plan in a description. Raises ModelError if it is no plan of this release."""
    path = folder / DESCRIPTION
    try:
        return from_values(description["plan"], where=path)
    except UsageError as error:
        raise unfit(error, path) from error


def unfit(error: UsageError, path: Path) -> ModelError:
    """The same failure as the model's: its plan was not written by the person who uses it."""
    return ModelError(
        error.what,
        where=error.where or path,
        expected=error.expected,
        got=error.got,
        hint=error.hint or "train the model again, or update unetseg",
    )


def damaged(path: Path) -> ModelError:
    """What to raise of a description that lacks something."""
    return ModelError(
        "a damaged model description", where=path, expected="plan, facts and the members, if any"
    )


def _instead(folder: Path) -> str:
    """What to do where there is no model."""
    folds = sorted(folder.glob(f"fold_*/model/{DESCRIPTION}"))
    if folds:
        one = folds[0].parent.parent
        return f"not all folds are trained: let `unetseg train` go on, or give --model {one}"
    return "train one with `unetseg train`, or give --model RUN"
