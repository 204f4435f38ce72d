"""Where a run came from: run.json, which stays with the run folder and not with the model.

A run of all folds has a run folder for each of them below its own.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from unetseg.errors import DataError, UsageError
from unetseg.files import write_text
from unetseg.records import AS_IT_IS, View
from unetseg.version import __version__

_NAME = "run.json"


def write_run_file(
    run: Path, data: Path, view: View = AS_IT_IS, *, folds: int | None = None
) -> None:
    """Note which data the run learns from, and how many folds it trains if it trains them all.

    view : how a person says that the files are to be read
    """
    content: dict[str, Any] = {"data": str(data.resolve()), "unetseg": __version__}
    if view != AS_IT_IS:
        content |= {"view": asdict(view)}
    if folds is not None:
        content |= {"folds": folds}
    write_text(run / _NAME, json.dumps(content, indent=1) + "\n")


def read_data_path(run: Path) -> Path:
    """Where the data of a run were. Raises DataError if the run does not say."""
    try:
        return Path(_content(run)["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the run does not say which data it learned from",
            where=run / _NAME,
            hint="give --data",
        ) from error


def read_view(run: Path) -> View:
    """How the files of a run were said to be read; as they say themselves if it is no run yet."""
    try:
        return TypeAdapter(View).validate_python(_content(run)["view"])
    except (OSError, ValueError, KeyError, TypeError):
        return AS_IT_IS


def read_folds_asked(run: Path) -> int | None:
    """How many folds the run trains; None if it trains one, or is no run yet."""
    try:
        return int(_content(run)["folds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fold_folder(run: Path, fold: int) -> Path:
    """Where a fold is trained: a run folder of its own."""
    return run / f"fold_{fold}"


def refuse_all_folds(run: Path) -> None:
    """Raise UsageError if the run folder is that of a training of all folds."""
    if read_folds_asked(run) is not None:
        raise UsageError(
            "a training of all folds stands here",
            where=run,
            hint=f"let all go on by --folds, or train one of them in {fold_folder(run, 0)}",
        )


def _content(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / _NAME).read_text(encoding="utf-8"))
    return content
