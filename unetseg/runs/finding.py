"""Runs under a folder, and the files of a run's validation cases."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from unetseg.dataset import find_cases
from unetseg.dataset.descriptions import read_json
from unetseg.dataset.folds import FOLDS
from unetseg.dataset.listing import counted, some
from unetseg.dataset.views import of_set
from unetseg.errors import DataError, UnetsegError
from unetseg.records import Case
from unetseg.runs.record import PLAN, RunRecord, is_run
from unetseg.runs.run_file import read_run_file

# Runs lie in ./runs or in a folder of it; a study's in one more.
_DEEPEST = 3


def find_runs(folder: Path | str) -> tuple[Path, ...]:
    """The run folders in a folder and in folders of it, newest first, each by its first start.

    The folds of a run of all folds are part of it. A folder that is a run is the only one.

    Raises DataError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            "no such folder",
            where=folder,
            expected="a folder of runs",
            hint="`unetseg train` makes runs",
        )
    found = sorted(_runs(folder, _DEEPEST))
    return tuple(sorted(found, key=_start, reverse=True))


def _runs(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
    elif depth:
        try:
            inner = [Path(entry) for entry in os.scandir(folder) if entry.is_dir()]
        except OSError:
            # A folder that may not be looked into holds no run for this person.
            return
        for each in inner:
            yield from _runs(each, depth - 1)


def _start(run: Path) -> float:
    """When a run began, seconds since the epoch."""
    try:
        return datetime.fromisoformat(read_run_file(run).started).timestamp()
    except ValueError:
        # Written once, when the run begins; the plan may be edited later.
        path = run / FOLDS
        return (path if path.is_file() else run / PLAN).stat().st_mtime


@dataclass(frozen=True)
class RunCases:
    """The validation cases of a run, as far as they are still there.

    gone : the names of the others
    reason : why they are gone, a sentence; empty if none is
    """

    cases: tuple[Case, ...]
    gone: tuple[str, ...] = ()
    reason: str = ""

    def __getitem__(self, name: str) -> Case:
        return {case.name: case for case in self.cases}[name]


def cases_of(record: RunRecord) -> RunCases:
    """The images and truth of a run's validation cases, found again where its data were."""
    names = validation_names(record)
    if record.data is None:
        return RunCases((), names, f"{record.path.name} does not say which data it learned from")
    try:
        dataset, _ = of_set(find_cases(record.data), record.view)
    except UnetsegError as error:
        return RunCases((), names, str(error))
    by_name = {case.name: case for case in dataset.cases if case.truth is not None}
    gone = tuple(name for name in names if name not in by_name)
    reason = ""
    if gone:
        reason = f"{counted(len(gone), 'case')} no longer in {record.data}: {some(gone)}"
    return RunCases(tuple(by_name[n] for n in names if n in by_name), gone, reason)


def validation_names(record: RunRecord) -> tuple[str, ...]:
    """The cases that validate, by name: as in its tables, else as it was divided."""
    if record.validation is not None:
        return record.validation.names
    try:
        folds: Any = read_json(record.path / FOLDS)
        chosen = folds if record.is_of_folds else [folds[record.plan.training.fold]]
        return tuple(str(name) for fold in chosen for name in fold["val"])
    except (DataError, LookupError, TypeError):
        return ()
