"""The commands that learn: check and train."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from unetseg.arguments import fold_of, minutes, new_run
from unetseg.cli.options import (
    Data,
    Device,
    Encoder,
    Ignore,
    Init,
    Settings,
    Skip,
    SkipBad,
    Task,
    Weights,
    overrides,
)
from unetseg.errors import UsageError

if TYPE_CHECKING:
    from unetseg.training import Request


def check(
    data: Data,
    task: Task = None,
    encoder: Encoder = None,
    skip: Skip = None,
    weights: Weights = None,
    init: Init = None,
    ignore_label: Ignore = None,
    device: Device = "auto",
    settings: Settings = None,
) -> None:
    """Say what was found in DATA, what is wrong with it, and how it would be trained."""
    from unetseg.config.toml import describe
    from unetseg.console import Display, describe_fingerprint, show_findings
    from unetseg.training import Request, plan_for

    values = overrides(
        settings,
        data__task=task,
        data__ignore_value=ignore_label,
        network__encoder=encoder,
        network__skip=skip,
        training__weights=weights,
        training__init=str(init) if init else None,
    )
    with Display() as display:
        request = Request(data, Path(), values, device=device, skip_bad=False)
        plan, found = plan_for(request, display, existing=False)
        show_findings(found.findings, display)
    typer.echo(describe_fingerprint(found.fingerprint))
    typer.echo(describe(plan))
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(3)


class Stop:
    """Ctrl-C or SIGTERM once asks the training to finish, twice ends the program."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        self._before = [
            (number, signal.signal(number, self.handle))
            for number in (signal.SIGINT, signal.SIGTERM)
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.asked

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        sys.stderr.write("\nfinishing: validating and saving; once more to stop at once\n")


def train(
    data: Data,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The run folder; resumed if it exists.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time for everything, as in 10m or 2h.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    fold: Annotated[str | None, typer.Option(help="Which fold validates, as in 0/5.")] = None,
    task: Task = None,
    encoder: Encoder = None,
    skip: Skip = None,
    weights: Weights = None,
    init: Init = None,
    ignore_label: Ignore = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    cache: Annotated[
        Path | None, typer.Option(help="Where prepared cases are kept; the user's cache.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Train a U-Net on DATA, or go on with a run that was interrupted."""
    import psutil

    if time is not None and epochs is not None:
        raise UsageError("give --time or --epochs, not both", where="train")
    number = fold_of(fold) if fold else None
    values = overrides(
        settings,
        training__minutes=minutes(time) if time else None,
        training__epochs=epochs,
        training__seed=seed,
        training__fold=number[0] if number else None,
        training__folds=number[1] if number else None,
        data__task=task,
        data__ignore_value=ignore_label,
        network__encoder=encoder,
        network__skip=skip,
        training__weights=weights,
        training__init=str(init) if init else None,
    )
    from unetseg.training import Request

    run = output or new_run(data)
    request = Request(
        data,
        run,
        values,
        device=device,
        skip_bad=skip_bad,
        cache=cache,
        started=psutil.Process().create_time(),
    )
    _train(request)


def _train(request: "Request") -> None:
    from unetseg.console import Display, print_table, show_findings
    from unetseg.training import plan_for, refuse_errors, run_plan

    with Display() as display, Stop() as stop:
        plan, found = plan_for(request, display)
        show_findings(found.findings, display)
        refuse_errors(found)
        display.line(f"run {request.run}")
        outcome = run_plan(request, plan, found, display, stop)
    names = plan.data.class_names[1:]
    rows = [
        [name, f"{dice:.4f}"]
        for name, dice in zip(names, outcome.validation.per_class, strict=True)
    ]
    print_table(
        f"Dice on {len(outcome.validation.names)} validation cases",
        ["class", "Dice"],
        [*rows, ["mean", f"{outcome.validation.mean:.4f}"]],
    )
    typer.echo(f"{outcome.run}")
