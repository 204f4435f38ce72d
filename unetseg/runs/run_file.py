"""Where a run came from: run.json, which stays with the run folder and not with the model.

A run of all folds has a run folder for each of them below its own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import utime
from pathlib import Path
from platform import node, python_version
from threading import Event, Thread
from time import time
from typing import Any, TypeVar

import psutil
from pydantic import TypeAdapter, ValidationError

from unetseg.errors import DataError, UsageError
from unetseg.files import write_text
from unetseg.records import AS_IT_IS, View
from unetseg.version import __version__

NAME = "run.json"
# What a training rests on.
_PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-image", "nibabel", "tifffile")
T = TypeVar("T")
# How often a training says that it lives, and how long its word holds on another machine.
_BEAT_SECONDS, _LEASE_SECONDS = 20.0, 90.0
# Clocks are set now and then, and with them the time at which a process is said to have begun.
_SAME_START_SECONDS = 2.0


@dataclass(frozen=True)
class Process:
    """A process on a machine: numbers of processes are used again, but not with one's start.

    created : seconds since the epoch
    """

    host: str
    pid: int
    created: float

    @classmethod
    def this(cls) -> "Process":
        """The process that asks."""
        own = psutil.Process()
        return cls(node(), own.pid, own.create_time())

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this machine."""
        return self.host == node()

    @property
    def lives(self) -> bool:
        """Whether it is still there, on this machine."""
        try:
            found = psutil.Process(self.pid)
            is_same = abs(found.create_time() - self.created) < _SAME_START_SECONDS
            # What was killed and not fetched by its parent has still a number.
            return bool(is_same and found.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


@dataclass(frozen=True)
class RunFile:
    """What run.json holds; what an earlier release did not write is empty.

    data : where the data were
    view : how a person said that the files are to be read
    folds : how many folds the run trains if it trains them all
    started : when its first command began, ISO 8601 in UTC
    command : its last one, as a person would type it
    versions : of packages, by name
    machine : on which the last command runs: processor and card, cores, memory, system
    digest : of the names and voxels of all cases
    process : that trains, None if none does, or none has said so
    """

    data: Path | None = None
    view: View = AS_IT_IS
    folds: int | None = None
    started: str = ""
    command: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    machine: str = ""
    digest: str = ""
    process: Process | None = field(default=None)


def versions() -> tuple[tuple[str, str], ...]:
    """unetseg, Python and the packages that a training rests on, without importing them."""
    found = [("unetseg", __version__), ("python", python_version())]
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return tuple(found)


def write_run_file(run: Path, content: RunFile) -> None:
    """Write run.json; the start of a run that exists stays what it is."""
    started = read_run_file(run).started or content.started or _now()
    written: dict[str, Any] = {
        "data": None if content.data is None else str(content.data.resolve()),
        "unetseg": __version__,
        "started": started,
        "command": content.command,
        "versions": dict(content.versions),
        "machine": content.machine,
        "digest": content.digest,
    }
    if content.view != AS_IT_IS:
        written |= {"view": asdict(content.view)}
    if content.folds is not None:
        written |= {"folds": content.folds}
    if content.process is not None:
        written |= {"process": asdict(content.process)}
    write_text(run / NAME, json.dumps(written, indent=1) + "\n")


def read_run_file(run: Path) -> RunFile:
    """What run.json says; nothing where there is none, or it is damaged."""
    content = _content(run)
    text = {key: str(content.get(key) or "") for key in ("started", "command", "machine", "digest")}
    data, folds, listed = (content.get(key) for key in ("data", "folds", "versions"))
    return RunFile(
        data=Path(data) if isinstance(data, str) and data else None,
        view=_read(View, content.get("view")) or AS_IT_IS,
        folds=folds if isinstance(folds, int) else None,
        versions=tuple((str(k), str(v)) for k, v in listed.items())
        if isinstance(listed, dict)
        else (),
        process=_read(Process, content.get("process")),
        **text,
    )


def read_data_path(run: Path) -> Path:
    """Where the data of a run were. Raises DataError if the run does not say."""
    data = read_run_file(run).data
    if data is None:
        raise DataError(
            "the run does not say which data it learned from", where=run / NAME, hint="give --data"
        )
    return data


def read_view(run: Path) -> View:
    """How the files of a run were said to be read; as they say themselves if it is no run yet."""
    return read_run_file(run).view


def read_folds_asked(run: Path) -> int | None:
    """How many folds the run trains; None if it trains one, or is no run yet."""
    return read_run_file(run).folds


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


def is_running(run: Path) -> bool:
    """Whether a process trains the run.

    On its machine the process itself is asked for. From another one all that can be told is
    whether it has said within the last minute and a half that it lives.
    """
    process = read_run_file(run).process
    if process is None:
        return False
    if process.is_here:
        return process.lives
    try:
        told = (run / NAME).stat().st_mtime
    except OSError:
        return False
    return abs(time() - told) < _LEASE_SECONDS


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Say in run.json, as long as the block lasts, that this process trains the run.

    A process that is killed cannot take that back; `is_running` sees that it is gone.
    """
    own, ended = Process.this(), Event()
    write_run_file(run, replace(read_run_file(run), process=own))

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            # A folder that is gone or read-only is the training's own trouble.
            with suppress(OSError):
                utime(run / NAME)

    Thread(target=beat, name="unetseg-beat", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        # Whatever ends the block goes first; and who took the run over keeps it.
        with suppress(DataError):
            content = read_run_file(run)
            if content.process == own:
                write_run_file(run, replace(content, process=None))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _content(run: Path) -> dict[str, Any]:
    try:
        content = json.loads((run / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(kind: type[T], value: object) -> T | None:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None
