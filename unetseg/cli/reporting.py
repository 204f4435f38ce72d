"""The command that makes the page of a run: report."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, whether its training is done or not.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file; RUN/report.html.")
    ] = None,
) -> None:
    """Make a page of a run: scores, curves, worst cases, plan and model card, in one file."""
    from unetseg.report.run import write_report

    typer.echo(write_report(run, output))
