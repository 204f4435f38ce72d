"""The commands that look at runs: runs and compare."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetseg.cli.options import Html, PageFile, page_asked
from unetseg.errors import UnetsegError, UsageError, one_line

if TYPE_CHECKING:
    from unetseg.runs import RunRecord
    from unetseg.runs.comparing import Comparison


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the run folders are.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List the runs in FOLDER, newest first: data, score, time, encoder, skip, state."""
    from unetseg.runs import find_runs, read_run

    records, failures = [], []
    for path in find_runs(folder):
        try:
            records.append(read_run(path))
        except UnetsegError as error:
            failures.append(error)
    if as_json:
        for record in records:
            typer.echo(json.dumps(_plain(record)))
    elif records:
        from unetseg.console import print_table

        columns = ["run", "data", "score", "time", "encoder", "skip", "state"]
        print_table("", columns, [_row(record, folder) for record in records])
    elif not failures:
        typer.echo(f"no runs in {folder}", err=True)
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1 if records else failures[0].exit_code)


def _row(record: "RunRecord", folder: Path) -> list[str]:
    from unetseg.runs.comparing import score_text

    network = record.plan.network
    return [
        str(record.path if record.path == folder else record.path.relative_to(folder)),
        record.data_name,
        f"{record.score} {score_text(record.mean)}",
        _duration(record.seconds),
        network.encoder,
        network.skip,
        _state(record),
    ]


def _state(record: "RunRecord") -> str:
    """Its state; of all folds, how many are done."""
    if not record.is_of_folds:
        return record.state
    done = sum(fold.state == "finished" for fold in record.folds)
    return f"{record.state}, {done} of {record.plan.training.folds} folds"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: float) -> float | None:
    """NaN has no place in JSON."""
    return None if math.isnan(value) else round(value, 6)


def _plain(record: "RunRecord") -> dict[str, Any]:
    """The record in plain values, null for what is not known."""
    cases = record.validation
    return {
        "run": str(record.path),
        "data": record.data_name,
        "score": record.score,
        "mean": _number(record.mean),
        "cases": None if cases is None else len(cases.names),
        "seconds": round(record.seconds, 1),
        "encoder": record.plan.network.encoder,
        "skip": record.plan.network.skip,
        "task": record.plan.data.task,
        "state": record.state,
        "folds": record.plan.training.folds if record.is_of_folds else None,
        "started": record.started or None,
    }


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN ...", help="Two run folders or more.")
    ],
    html: Html = False,
    page: PageFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Set runs side by side: scores on the cases that all of them validated; what differs.

    The others are compared with the first RUN, case by case. The page has the curves too.
    """
    from unetseg.runs import read_run
    from unetseg.runs.comparing import compare as compared

    if len(folders) < 2:
        raise UsageError("nothing to compare with", where="compare", expected="2 runs or more")
    path = page_asked(html, page, "compare.html")
    found = compared([read_run(folder) for folder in folders])
    if as_json:
        for row in _json_rows(found):
            typer.echo(json.dumps(row))
    else:
        _show(found)
    if path is not None:
        from unetseg.pages.writing import write_page
        from unetseg.report.comparing import page_of

        write_page(page_of(found), path)
        typer.echo(f"{path}", err=as_json)


def _show(found: "Comparison") -> None:
    from unetseg.console import print_table
    from unetseg.runs.comparing import difference_text, score_text, value_text

    first, *others = found.runs
    for remark in found.remarks():
        typer.echo(one_line(remark))
    kind = "IoU" if found.score == "AP" else "class"
    if found.cases:
        rows = []
        for place, column in enumerate(found.columns):
            cells = [score_text(run.mean(place).mean) for run in found.runs]
            cells += [difference_text(found.difference(run, place)) for run in others]
            rows.append([column, *cells])
        means = [score_text(run.overall) for run in found.runs]
        means += [difference_text(found.difference(run)) for run in others]
        heads = [run.label for run in found.runs]
        heads += [f"{run.label} less {first.label} (95 %)" for run in others]
        number = len(found.cases)
        title = f"{found.score}, mean over {number} {'case' if number == 1 else 'cases'}"
        print_table(title, [kind, *heads], [*rows, ["mean", *means]])
    if found.differences:
        rows = [[key, *map(value_text, values)] for key, values in found.differences]
        print_table("what the plans differ in", ["", *(run.label for run in found.runs)], rows)
    else:
        typer.echo("the plans are the same")


def _json_rows(found: "Comparison") -> list[dict[str, Any]]:
    """A row per run and column, with the difference from the first run."""
    rows = []
    for run in found.runs:
        for place, column in enumerate(found.columns if found.cases else ()):
            value, apart = run.mean(place), found.difference(run, place)
            numbers = {
                "mean": value.mean,
                "difference": apart.mean,
                "low": apart.low,
                "high": apart.high,
            }
            rows.append(
                {
                    "run": str(run.record.path),
                    "score": found.score,
                    "column": column,
                    "cases": len(found.cases),
                    "own_cases": run.own,
                    "defined": value.defined,
                    **{name: _number(number) for name, number in numbers.items()},
                }
            )
    return rows
