"""What a run folder says of itself before anything is learned."""

from unetseg.config import Plan
from unetseg.config.toml import write_plan
from unetseg.dataset.folds import FOLDS, make_folds, write_folds
from unetseg.files import remove_unfinished
from unetseg.planning.fingerprint import Inspection
from unetseg.runs.run_file import RunFile, versions, write_run_file
from unetseg.training.evidence import remove_unchosen
from unetseg.training.request import Request

# Where a command that was killed may have left what it had not finished.
_FOLDERS = ("", "model", "last", "resume", "snapshots")


def open_run(request: Request, plan: Plan, found: Inspection, machine: str) -> None:
    """Write the plan, run.json and the folds, and remove what a killed command has left.

    machine : see RunFile
    """
    run = request.run
    write_plan(plan, run / "plan.toml")
    write_origin(request, found, machine)
    if not (run / FOLDS).is_file():
        training = plan.training
        write_folds(run / FOLDS, make_folds(found.cases, training.folds, training.seed))
    for folder in _FOLDERS:
        remove_unfinished(run / folder)
    remove_unchosen(run)


def write_origin(
    request: Request, found: Inspection, machine: str, folds: int | None = None
) -> None:
    """Write run.json: data, command, versions and machine.

    folds : how many are trained, where all are
    """
    content = RunFile(
        data=request.data,
        view=request.asked,
        folds=folds,
        command=request.command,
        versions=versions(),
        machine=machine,
        digest=found.digest,
    )
    write_run_file(request.run, content)
