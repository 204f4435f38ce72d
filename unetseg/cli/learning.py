"""The command that learns: train."""

import os
import shlex
import signal
import sys
from pathlib import Path
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from unetseg.arguments import cards_of, minutes, new_run, view_of
from unetseg.cli import starting
from unetseg.cli.options import (
    Axes,
    Channels,
    Data,
    Device,
    Devices,
    Encoder,
    Fold,
    Folds,
    Group,
    Ignore,
    Init,
    PixelSize,
    Seed,
    Settings,
    Skip,
    SkipBad,
    Task,
    Weights,
    training_values,
)
from unetseg.errors import RankLost, UsageError

if TYPE_CHECKING:
    from unetseg.training import Request
    from unetseg.training.out_of_fold import OutOfFold

_LINGER_SECONDS = 5.0


class Stop:
    """Ctrl-C or SIGTERM once asks the training to finish, twice ends the program.

    is_silent : says nothing about it, as one of several processes
    """

    def __init__(self) -> None:
        self.asked = self.is_silent = False

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
        if not self.is_silent:
            sys.stderr.write("\nfinishing: validating and saving; once more to stop at once\n")


def train(
    data: Data,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The run folder; resumed if it exists.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time for everything, as in 10m or 2h.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training.")] = None,
    seed: Seed = None,
    fold: Fold = None,
    folds: Folds = None,
    group: Group = None,
    task: Task = None,
    encoder: Encoder = None,
    skip: Skip = None,
    weights: Weights = None,
    init: Init = None,
    ignore_label: Ignore = None,
    axes: Axes = None,
    channels: Channels = None,
    pixel_size: PixelSize = None,
    device: Device = "auto",
    devices: Devices = None,
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
    values = training_values(
        settings,
        seed=seed,
        fold=fold,
        folds=folds,
        group=group,
        task=task,
        encoder=encoder,
        skip=skip,
        weights=weights,
        init=init,
        ignore_label=ignore_label,
        training__minutes=minutes(time) if time else None,
        training__epochs=epochs,
    )
    from unetseg.runs.run_file import read_folds_asked, refuse_all_folds

    run = output or new_run(data)
    trains_all = folds is not None or read_folds_asked(run) is not None
    cards = () if devices is None else cards_of(devices)
    if trains_all:
        _refuse_processes()
    elif cards and _is_started(cards, device):
        return
    from unetseg.training import Request

    if fold is not None:
        refuse_all_folds(run)
    request = Request(
        data,
        run,
        values,
        device=device,
        skip_bad=skip_bad,
        cache=cache,
        view=view_of(axes, channels, pixel_size),
        started=psutil.Process().create_time(),
        command=shlex.join(["unetseg", *sys.argv[1:]]),
        with_report=True,
    )
    if trains_all:
        _train_all(request, cards)
    else:
        _train(request)


def _refuse_processes() -> None:
    """Raise UsageError if torchrun has started several processes to train all folds."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "all folds are trained by one command",
            where="--folds",
            hint="start it without torchrun; with --devices it trains several folds at once",
        )


def _is_started(cards: tuple[int, ...], device: str) -> bool:
    """Start this command in a process for each card and wait for all; False if it is one of them.

    Raises UsageError if that does not go together with what else was asked for.
    """
    if starting.is_started():
        starting.end_with_parent()
        return False
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UsageError(
            "torchrun has started the processes already", where="--devices", hint="leave it out"
        )
    if device not in ("auto", "cuda", "cpu"):
        raise UsageError(
            "several devices of one kind",
            where="--device",
            expected="auto, cuda or cpu with --devices",
            got=device,
        )
    if cards == (0,):
        return False
    if code := starting.start(cards, debug="--debug" in sys.argv):
        # Not typer's Exit: the first process has said what there is to say, an interruption too.
        sys.exit(code)
    return True


def _train(request: "Request") -> None:
    from unetseg.training import joined
    from unetseg.training import train as learn

    with Stop() as stop:
        try:
            with joined(request) as mine:
                if mine.ranks.is_first:
                    _train_shown(mine, stop)
                else:
                    stop.is_silent = True
                    learn(mine, should_stop=stop)
        except RankLost:
            if starting.is_started():
                # At once: on a card the end of the program may wait for the lost rank too.
                sys.stderr.flush()
                os._exit(starting.LOST)
            # torchrun names the process that ended first, which is to be the one at fault.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sleep(_LINGER_SECONDS)
            raise


def _train_shown(request: "Request", stop: Stop) -> None:
    from unetseg.console import Display, print_table, show_findings
    from unetseg.report.after import report_after
    from unetseg.training import plan_for, refuse_errors, run_plan

    with Display() as display:
        plan, found = plan_for(request, display)
        show_findings(found.findings, display)
        refuse_errors(found)
        display.line(f"run {request.run}")
        outcome = run_plan(request, plan, found, display, stop)
        report_after(outcome.run, display)
    validation = outcome.validation
    score = validation.score
    rows = [
        [column, f"{value:.4f}"]
        for column, value in zip(score.columns, validation.values, strict=True)
    ]
    print_table(
        f"{score.name} on {len(validation.names)} validation cases",
        [score.kind, score.name],
        [*rows, ["mean", f"{validation.mean:.4f}"]],
    )
    typer.echo(f"{outcome.run}")


def _train_all(request: "Request", cards: tuple[int, ...]) -> None:
    from unetseg.console import Display, show_findings
    from unetseg.devices import several_devices
    from unetseg.report.after import report_after
    from unetseg.training import plan_for, refuse_errors
    from unetseg.training.cross_validation import run_folds

    devices = several_devices(request.device, cards) if cards else ()
    with Display() as display, Stop() as stop:
        plan, inspection = plan_for(request, display)
        show_findings(inspection.findings, display)
        refuse_errors(inspection)
        display.line(f"run {request.run}")
        outcome = run_folds(request, plan, inspection, display, stop, devices)
        if outcome.finished:
            report_after(outcome.run, display)
    if outcome.found is None:
        typer.echo(f"stopped; the same command goes on in {outcome.run}", err=True)
        raise typer.Exit(130)
    _show_folds(outcome.found)
    typer.echo(f"{outcome.run}")


def _show_folds(found: "OutOfFold") -> None:
    """The score of every class over all cases, and of every fold over all classes."""
    from unetseg.console import print_table

    scores, cleaned = found.scores, found.cleaned
    score, rows = scores.score, []
    for place, name in enumerate(score.columns):
        spread = scores.spread(place)
        row = [name, f"{spread.mean:.4f}", f"{spread.sd:.4f}"]
        row += [f"{cleaned.values[place]:.4f}"] if cleaned else []
        rows.append([*row, f"{spread.defined} / {len(found.folds)}"])
    mean = ["mean", f"{scores.mean:.4f}", "", *([f"{cleaned.mean:.4f}"] if cleaned else []), ""]
    print_table(
        f"{score.name} out of fold",
        [score.kind, "mean", "sd", *(["cleaned"] if cleaned else []), "defined / cases"],
        [*rows, mean],
    )
    numbers = sorted(set(found.folds))
    print_table(
        "",
        ["fold", "cases", f"mean {score.name}"],
        [
            [str(number), str(len(one.names)), f"{one.mean:.4f}"]
            for number in numbers
            for one in [found.of_fold(number)]
        ],
    )
