"""A run folder as a record: what was trained, on what, how it went and what came of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from unetseg.config import Plan
from unetseg.config.toml import read_plan
from unetseg.errors import ModelError, UsageError
from unetseg.records import View
from unetseg.runs.description import plan_of, read_description
from unetseg.runs.evidence import Evidence, read_evidence
from unetseg.runs.run_file import RunFile, fold_folder, is_running, read_run_file
from unetseg.runs.tables import CaseTable, History, read_case_table, read_history

PLAN = "plan.toml"
HISTORY = "history.csv"
VALIDATION, OUT_OF_FOLD = "validation.csv", "out_of_fold.csv"

State = Literal["running", "stopped", "finished"]


@dataclass(frozen=True)
class Objects:
    """The objects that a model learned from, as of planning.objects; diameters in `unit`.

    per_image : median number
    diameter, low, high : median, 5th and 95th percentile
    """

    per_image: float
    diameter: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Facts:
    """What the model of a run says of its training; what it does not say is empty or NaN.

    plan : with the rules and the cleaning of masks that were found
    created : when it was written, ISO 8601 in UTC
    finished : whether the training ran to its end
    step : at which the model was; None for all folds together
    device : on which it was trained
    data : name of the data set
    cases : to learn from and to validate; of all folds, all of them
    folds : of an ensemble
    score, mean, values : Dice or AP of the validation, over all columns and of each
    cleaned_mean, cleaned_values : the same of the cleaned masks, where masks are cleaned
    spacing, unit : median of the scans
    rules : how the rules for objects were found
    cleaning : which ways of cleaning were tried, a sentence each
    """

    plan: Plan
    created: str
    finished: bool
    step: int | None
    seconds: float
    device: str
    data: str
    cases: tuple[int, ...]
    folds: tuple[int, ...]
    score: str
    mean: float
    values: tuple[tuple[str, float], ...]
    cleaned_mean: float
    cleaned_values: tuple[tuple[str, float], ...]
    spacing: tuple[float, ...]
    unit: str
    objects: Objects | None
    rules: str
    cleaning: tuple[str, ...]


@dataclass(frozen=True)
class RunRecord:
    """A run folder. What is not there yet, or was not written by an earlier release, is empty.

    plan : of the training, with its reasons
    data : where the data were, None if the run does not say
    view : how a person said that the files are to be read
    state : running while a process trains it
    started : ISO 8601 in UTC
    command, versions, machine, digest : see RunFile
    seconds : of training so far
    history : without rows in a run of all folds: they are in its folds
    validation : of the kept model; of all folds, every case by the network that has not seen it
    evidence : None where it is not of the model that is there
    facts : None as long as there is no model
    folds : the folds that were begun, in a run of all folds
    """

    path: Path
    plan: Plan
    data: Path | None
    view: View
    state: State
    started: str
    command: str
    versions: tuple[tuple[str, str], ...]
    machine: str
    digest: str
    seconds: float
    history: History
    validation: CaseTable | None
    evidence: Evidence | None
    facts: Facts | None
    is_of_folds: bool = False
    folds: tuple["RunRecord", ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def data_name(self) -> str:
        """The name of the data set; empty if the run does not say."""
        if self.facts is not None and self.facts.data:
            return self.facts.data
        return self.data.name if self.data is not None else ""

    @property
    def score(self) -> str:
        """What it is judged by: Dice or AP."""
        return "AP" if self.plan.data.has_objects else "Dice"

    @property
    def mean(self) -> float:
        """Its score over all cases, of masks as the model makes them; NaN before the first."""
        if self.facts is None:
            return math.nan
        cleaned = self.facts.cleaned_mean
        return self.facts.mean if math.isnan(cleaned) else cleaned

    @cached_property
    def masks(self) -> dict[str, Path]:
        """The predicted masks of the validation cases that are there, by the case's name."""
        if self.evidence is None:
            return {}
        named = {case.name: self.path / case.mask for case in self.evidence.cases if case.mask}
        return {name: path for name, path in named.items() if path.exists()}


def is_run(folder: Path) -> bool:
    """Whether the folder is that of a run."""
    return (folder / PLAN).is_file()


def read_run(folder: Path | str) -> RunRecord:
    """All that a run folder says, whatever state it is in.

    Raises ModelError if it is no run or its plan or model cannot be read, DataError if a table
    in it is damaged.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise ModelError(
            "no run here",
            where=folder,
            expected=f"a run folder, with {PLAN}",
            hint=_instead(folder),
        )
    origin = read_run_file(folder)
    facts, plan = _facts(folder), _plan(folder)
    folds = tuple(_folds(folder, origin))
    history = read_history(folder / HISTORY)
    state: State = "stopped"
    if is_running(folder):
        state = "running"
    elif facts is not None and facts.finished:
        state = "finished"
    table = VALIDATION if origin.folds is None else OUT_OF_FOLD
    told = [row.seconds for row in history.rows[-1:]]
    told += [facts.seconds] if facts is not None else [sum(fold.seconds for fold in folds)]
    return RunRecord(
        path=folder,
        plan=plan,
        data=origin.data,
        view=origin.view,
        state=state,
        started=origin.started,
        command=origin.command,
        versions=origin.versions,
        machine=origin.machine,
        digest=origin.digest,
        seconds=max(0.0, *told),
        history=history,
        validation=read_case_table(folder / table),
        evidence=read_evidence(folder),
        facts=facts,
        is_of_folds=origin.folds is not None,
        folds=folds,
    )


def _instead(folder: Path) -> str:
    if is_run(folder.parent):
        return f"give the run folder, {folder.parent}"
    return "train one with `unetseg train`; `unetseg runs` lists those that are there"


def _plan(folder: Path) -> Plan:
    try:
        return read_plan(folder / PLAN)
    except UsageError as error:
        raise ModelError(
            error.what,
            where=error.where,
            expected=error.expected,
            got=error.got,
            hint=error.hint or "undo the last change of it",
        ) from error


def _folds(folder: Path, origin: RunFile) -> Sequence[RunRecord]:
    places = (fold_folder(folder, fold) for fold in range(origin.folds or 0))
    return [read_run(place) for place in places if is_run(place)]


def _facts(folder: Path) -> Facts | None:
    place = folder / "model"
    if not place.is_dir():
        return None
    try:
        description = read_description(place)
    except ModelError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    facts = description["facts"]
    score = "AP" if "mean_ap" in facts else "Dice"
    scans = facts.get("scans") or {}
    cases = facts.get("cases", ())
    return Facts(
        plan=plan_of(description, place),
        created=str(description.get("created", "")),
        finished=bool(facts.get("finished")),
        step=facts.get("step"),
        seconds=float(facts.get("seconds") or 0.0),
        device=str(facts.get("device", "")),
        data=str(facts.get("data", "")),
        cases=tuple(cases) if isinstance(cases, list) else (cases,) if cases else (),
        folds=tuple(facts.get("folds", ())),
        score=score,
        mean=_number(facts.get(f"mean_{score.lower()}")),
        values=_values(facts.get(score.lower())),
        cleaned_mean=_number(facts.get(f"cleaned_mean_{score.lower()}")),
        cleaned_values=_values(facts.get(f"cleaned_{score.lower()}")),
        spacing=tuple(scans.get("spacing", ())),
        unit=str(scans.get("unit", "")),
        objects=_objects(facts.get("objects")),
        rules=str(facts.get("rules", "")),
        cleaning=tuple(map(str, facts.get("cleaning", ()))),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _values(table: Any) -> tuple[tuple[str, float], ...]:
    return tuple((str(name), _number(value)) for name, value in (table or {}).items())


def _objects(content: Any) -> Objects | None:
    if not content:
        return None
    number, diameter, low, high = (
        _number(content.get(key))
        for key in ("per_image", "diameter", "diameter_5th", "diameter_95th")
    )
    return Objects(number, diameter, low, high, str(content.get("unit", "")))
