"""What a person asks of a training, and the plan that answers it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import Any

from unetseg.config import Plan, read_plan, with_overrides
from unetseg.dataset import find_cases
from unetseg.dataset.folds import choose
from unetseg.devices import find_device, measure
from unetseg.errors import DataError, UsageError
from unetseg.planning import make
from unetseg.planning.fingerprint import Inspection, inspect
from unetseg.records import Finding, Listener, Note, ignore_event


@dataclass(frozen=True)
class Request:
    """What a person asks of a training.

    data : a folder or a CSV file
    run : the run folder; an existing one is resumed
    overrides : plan values by dotted key
    cache : where prepared cases lie; the user's cache folder if not given
    started : when the command started, for the time budget
    """

    data: Path
    run: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    skip_bad: bool = False
    cache: Path | None = None
    started: float = field(default_factory=time)


def plan_for(
    request: Request, listener: Listener = ignore_event, *, existing: bool = True
) -> tuple[Plan, Inspection]:
    """Look at the data and the machine, and plan.

    existing : a plan.toml in the run folder is what counts, with the overrides on top
    """
    dataset = find_cases(request.data)
    listener(Note(f"read as {dataset.layout}: {dataset.reason}"))
    machine = measure(find_device(request.device))
    overrides = dict(request.overrides)
    found = inspect(
        dataset,
        ignore_value=overrides.get("data.ignore_value"),
        skip_bad=request.skip_bad,
        cores=machine.cores,
        listener=listener,
    )
    path = request.run / "plan.toml"
    if existing and path.is_file():
        plan = with_overrides(read_plan(path), overrides, where=path)
    else:
        try:
            plan = make(found.fingerprint, machine, overrides)
        except UsageError:
            # What is wrong with the data may be why no plan suits them.
            refuse_errors(found)
            raise
    return plan, _with_division(found, plan)


def _with_division(found: Inspection, plan: Plan) -> Inspection:
    """The inspection, with a finding if the cases do not suffice for training and validation."""
    try:
        choose(found.cases, plan.training.fold, plan.training.folds, plan.training.seed)
    except DataError as error:
        text = str(error).removesuffix(f"; {error.hint}")
        finding = Finding("error", error.where or "cases", text, error.hint)
        return replace(found, findings=(*found.findings, finding))
    return found


def refuse_errors(found: Inspection) -> None:
    """Raise DataError with the first error among the findings, and how many there are."""
    errors = [finding for finding in found.findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more; see `unetseg check`)" if len(errors) > 1 else ""
        raise DataError(errors[0].sentence + more, where=errors[0].where, hint=errors[0].hint)
