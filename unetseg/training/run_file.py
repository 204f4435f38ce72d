"""Where a run came from: run.json, which stays with the run folder and not with the model."""

import json
from pathlib import Path

from unetseg.errors import DataError
from unetseg.files import write_text
from unetseg.version import __version__

_NAME = "run.json"


def write_run_file(run: Path, data: Path) -> None:
    """Note which data the run learns from."""
    content = {"data": str(data.resolve()), "unetseg": __version__}
    write_text(run / _NAME, json.dumps(content, indent=1) + "\n")


def read_data_path(run: Path) -> Path:
    """Where the data of a run were. Raises DataError if the run does not say."""
    path = run / _NAME
    try:
        return Path(json.loads(path.read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "the run does not say which data it learned from", where=path, hint="give --data"
        ) from error
