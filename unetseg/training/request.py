"""What a person asks of a training, and the plan that answers it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import Any

from platformdirs import user_cache_path

from unetseg.config import Plan, check_values, with_overrides
from unetseg.config.toml import read_plan
from unetseg.dataset import Dataset, find_cases
from unetseg.dataset.descriptions import read_json
from unetseg.dataset.folds import FOLDS, choose, usable
from unetseg.dataset.groups import with_groups
from unetseg.dataset.views import of_set
from unetseg.devices import find_device, measure
from unetseg.errors import DataError, UsageError
from unetseg.planning import make
from unetseg.planning.facts import Look
from unetseg.planning.fingerprint import Fingerprint, Inspection, inspect
from unetseg.records import AS_IT_IS, Finding, Listener, Machine, Note, View, ignore_event
from unetseg.runs.run_file import fold_folder, read_folds_asked, read_view
from unetseg.training.ranks import ALONE, Ranks, join
from unetseg.training.start import check_named, check_start, located, network_of
from unetseg.training.state import STATE

# Of one processor core: Python's imports, and the pictures of each case.
_REPORT_SECONDS, _REPORT_CASE_SECONDS = 3.0, 0.035


@dataclass(frozen=True)
class Request:
    """What a person asks of a training.

    data : a folder or a CSV file
    run : the run folder; an existing one is resumed
    overrides : plan values by dotted key
    cache : where prepared cases lie; the user's cache folder if not given
    view : how the files are to be read, where a person says so; as in the run, if it exists
    started : when the command started, for the time budget
    command : as a person would type it
    with_report : a page is made of the run afterwards, in the time that it has
    ranks : this process among those that train together; see `joined`
    """

    data: Path
    run: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    skip_bad: bool = False
    cache: Path | None = None
    view: View = AS_IT_IS
    started: float = field(default_factory=time)
    command: str = ""
    with_report: bool = False
    ranks: Ranks = ALONE

    @property
    def asked(self) -> View:
        """How the files are to be read."""
        return read_view(self.run) if self.view == AS_IT_IS else self.view

    def seconds_after(self, cases: int) -> float:
        """What is kept of a time budget for the page of so many validation cases."""
        return _REPORT_SECONDS + _REPORT_CASE_SECONDS * cases if self.with_report else 0.0

    @property
    def prepared(self) -> Path:
        """Where prepared cases lie."""
        return self.cache or user_cache_path("unetseg") / "prepared"


@contextmanager
def joined(request: Request) -> Iterator[Request]:
    """The request as it is for this process, its rank and its device, if torchrun has started it.

    Raises as `join` does.
    """
    with join(request.device) as (ranks, device):
        yield replace(request, ranks=ranks, device=device)


@dataclass(frozen=True)
class Inspected:
    """What a plan is made of, beside what was asked for: the machine and the data."""

    machine: Machine
    found: Inspection
    dataset: Dataset


def plan_for(
    request: Request, listener: Listener = ignore_event, *, existing: bool = True
) -> tuple[Plan, Inspection]:
    """Look at the data and the machine, and plan. The first rank does, and tells the others.

    existing : a plan.toml in the run folder is what counts, with the overrides on top

    Raises UsageError if there are more ranks than samples in a batch.
    """
    made: tuple[Plan, Inspection] = request.ranks.told(
        tuple[Plan, Inspection],
        lambda: planned(
            request, inspected(request, listener, existing=existing), existing=existing
        ),
    )
    return made


def inspected(
    request: Request,
    listener: Listener = ignore_event,
    *,
    existing: bool = True,
    look: Look | None = None,
) -> Inspected:
    """Find the cases, read them and measure the machine. `look` sees every case, see `inspect`."""
    overrides = located(request.overrides)
    if not (existing and _needs_no_start(request.run)):
        # A name that is mistyped is said before the data are read.
        check_named(overrides.get("training.weights"), overrides.get("training.init"))
    dataset = find_cases(request.data)
    listener(Note(f"read as {dataset.layout}: {dataset.reason}"))
    dataset, lines = of_set(dataset, request.asked if existing else request.view)
    for line in lines:
        listener(Note(f"  {line}"))
    if overrides.get("training.group") is not None:
        # Names suffice to tell whether it groups the cases; reading them all takes longer.
        asked = check_values({"training.group": overrides["training.group"]}, where="plan")
        with_groups(usable(dataset.cases), asked["training.group"])
    machine = replace(measure(find_device(request.device)), devices=request.ranks.count)
    found = inspect(
        dataset,
        ignore_value=overrides.get("data.ignore_value"),
        skip_bad=request.skip_bad,
        cores=machine.cores,
        listener=listener,
        look=look,
    )
    return Inspected(machine, found, dataset)


def planned(request: Request, seen: Inspected, *, existing: bool = True) -> tuple[Plan, Inspection]:
    """The plan for what was seen, or that of the run. Raises as `plan_for` does."""
    overrides, machine, found = located(request.overrides), seen.machine, seen.found
    path = request.run / "plan.toml"
    if existing and path.is_file():
        # The budget that is given now counts, whatever kind the run began with.
        kinds = {"training.minutes", "training.epochs"}
        given = kinds & overrides.keys()
        budget = dict.fromkeys(kinds - given) if given else {}
        plan = with_overrides(read_plan(path), budget | overrides, where=path)
    else:
        try:
            plan = _made(found.fingerprint, machine, overrides)
        except UsageError:
            # What is wrong with the data may be why no plan suits them.
            refuse_errors(found)
            raise
    if not (existing and _needs_no_start(request.run)):
        check_start(plan)
    if plan.patch.batch < request.ranks.count:
        raise UsageError(
            "more processes than patches in a step",
            where="patch.batch",
            expected=f"{request.ranks.count} or more, one for each process",
            got=plan.patch.batch,
            hint="start fewer, or train into another folder with --set patch.batch="
            f"{request.ranks.count}",
        )
    return plan, _with_division(found, plan)


def is_begun(run: Path) -> bool:
    """Whether the run has a state to go on from: where it began no longer matters then."""
    return (run / "resume" / STATE).is_file()


def _needs_no_start(run: Path) -> bool:
    """Whether the run, or every fold of a run of all folds, has a state to go on from."""
    if read_folds_asked(run) is None or not (run / FOLDS).is_file():
        return is_begun(run)
    folds = read_json(run / FOLDS)
    return isinstance(folds, list) and all(
        is_begun(fold_folder(run, fold)) for fold in range(len(folds))
    )


def _made(found: Fingerprint, machine: Machine, overrides: Mapping[str, Any]) -> Plan:
    """A new plan; its network is that of the run it begins with, if it begins with one."""
    followed, dimensions = network_of(overrides.get("training.init"))
    if dimensions not in (None, found.dimensions):
        raise UsageError(
            "the run to begin with has another number of axes than these scans",
            where=overrides["training.init"],
            expected=f"{found.dimensions}-D",
            got=f"{dimensions}-D",
        )
    reasons = {key: "as in the run it begins with" for key in followed if key not in overrides}
    return make(found, machine, followed | dict(overrides), reasons)


def _with_division(found: Inspection, plan: Plan) -> Inspection:
    """The inspection, its cases grouped; with a finding if they cannot be divided as planned."""
    try:
        found = replace(found, cases=with_groups(found.cases, plan.training.group))
        choose(found.cases, plan.training.fold, plan.training.folds, plan.training.seed)
    except DataError as error:
        text = str(error).removesuffix(f"; {error.hint}")
        finding = Finding("error", error.where or "cases", text, error.hint, "folds")
        return replace(found, findings=(*found.findings, finding))
    return found


def refuse_errors(found: Inspection) -> None:
    """Raise DataError with the first error among the findings, and how many there are."""
    errors = [finding for finding in found.findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more; see `unetseg check`)" if len(errors) > 1 else ""
        raise DataError(errors[0].sentence + more, where=errors[0].where, hint=errors[0].hint)
