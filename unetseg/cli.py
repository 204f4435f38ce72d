"""The command line: parse, one library call, show. Heavy imports stay inside the commands."""

import json
import signal
import sys
import traceback
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetseg.arguments import fold_of, minutes, new_run
from unetseg.errors import UnetsegError, UsageError, one_line
from unetseg.version import __version__

if TYPE_CHECKING:
    from unetseg.training import Request

app = typer.Typer(
    name="unetseg",
    help="Train a U-Net on a folder of images and masks; get masks that lie on the scan.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_debug = False


class Kind(StrEnum):
    """What `unetseg list` can list."""

    encoders = "encoders"
    skips = "skips"
    tasks = "tasks"
    formats = "formats"


Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A plan value, as in training.epochs=20.")
]
Task = Annotated[str | None, typer.Option(help="What to learn; see `unetseg list tasks`.")]
Ignore = Annotated[
    int | None, typer.Option(help="A label value that means 'not known' and is left out.")
]
Data = Annotated[Path, typer.Argument(help="A folder of images and masks, or a CSV file.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without the cases that fail.")]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"unetseg {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options before the command."""
    global _debug
    del version
    _debug = debug


def _overrides(settings: list[str] | None, **named: Any) -> dict[str, Any]:
    from unetseg.config import parse_settings

    values = parse_settings(tuple(settings or ()))
    for key, value in named.items():
        if value is not None:
            values[key.replace("__", ".")] = value
    return values


@app.command()
def check(
    data: Data,
    task: Task = None,
    ignore_label: Ignore = None,
    device: Device = "auto",
    settings: Settings = None,
) -> None:
    """Say what was found in DATA, what is wrong with it, and how it would be trained."""
    from unetseg.config import describe
    from unetseg.console import Display, describe_fingerprint, show_findings
    from unetseg.training import Request, plan_for

    values = _overrides(settings, data__task=task, data__ignore_value=ignore_label)
    with Display() as display:
        request = Request(data, Path(), values, device=device, skip_bad=False)
        plan, found = plan_for(request, display, existing=False)
        show_findings(found.findings, display)
    typer.echo(describe_fingerprint(found.fingerprint))
    typer.echo(describe(plan))
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(3)


class _Stop:
    """Ctrl-C or SIGTERM once asks the training to finish, twice ends the program."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        sys.stderr.write("\nfinishing: validating and saving; once more to stop at once\n")


@app.command()
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
    values = _overrides(
        settings,
        training__minutes=minutes(time) if time else None,
        training__epochs=epochs,
        training__seed=seed,
        training__fold=number[0] if number else None,
        training__folds=number[1] if number else None,
        data__task=task,
        data__ignore_value=ignore_label,
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

    stop = _Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.handle)
    with Display() as display:
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


@app.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, or patterns.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder, or a file for one scan.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A run; the newest finished one under ./runs.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write a map per class too.")
    ] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write a PNG with the mask's outline too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do finished masks again.")
    ] = False,
    device: Device = "auto",
    settings: Settings = None,
) -> None:
    """Write a mask for every scan, on the scan's own grid."""
    from unetseg.console import Display
    from unetseg.prediction import Request
    from unetseg.prediction import predict as run

    values = _overrides(settings)
    request = Request(
        inputs,
        model=model,
        output=output,
        device=device,
        overwrite=overwrite,
        probabilities=probabilities,
        settings=values,
        command=one_line(" ".join(["unetseg", *sys.argv[1:]])),
    )
    with Display() as display:
        done = run(request, display)
    for record in done:
        if record.output is not None:
            typer.echo(record.output)
            if overlay and record.status == "done":
                typer.echo(_overlay(record.scans, record.output))
    failed = [record for record in done if record.status == "failed"]
    if failed:
        typer.echo(f"{len(failed)} of {len(done)} inputs failed:", err=True)
        for record in failed:
            typer.echo(f"  {record.message}", err=True)
        raise typer.Exit(1)


def _overlay(scans: tuple[Path, ...], mask: Path) -> Path:
    from unetseg.formats import split_name
    from unetseg.records import Case
    from unetseg.viewer.overlay import write_overlay

    stem = split_name(mask)[0].removesuffix("_seg")
    path = mask.with_name(f"{stem}_overlay.png")
    write_overlay(Case(stem, scans), mask, path)
    return path


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Argument(help="A mask or a folder of masks.")],
    predicted: Annotated[Path, typer.Argument(help="What to compare with it, paired by name.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A CSV file, one row per case and class.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="Of the surface Dice, in the scan's unit; one voxel.")
    ] = None,
    geometry_tolerance: Annotated[
        float, typer.Option(help="How far voxels may lie apart, as a share of their edge.")
    ] = 0.01,
    merge_labels: Annotated[
        bool, typer.Option("--merge-labels", help="Object ids: every value but 0 is one class.")
    ] = False,
    ignore_label: Ignore = None,
) -> None:
    """Compare masks with the truth: Dice, IoU, precision, recall, HD95, ASSD, surface Dice."""
    from unetseg import evaluation
    from unetseg.console import Display, print_scores

    with Display() as display:
        found = evaluation.evaluate(
            truth,
            predicted,
            ignore_value=ignore_label,
            tolerance=tolerance,
            geometry_tolerance=geometry_tolerance,
            merge_labels=merge_labels,
            listener=display,
        )
    if output is not None:
        evaluation.write_csv(found, output)
    if as_json:
        for row in evaluation.to_json(found):
            typer.echo(json.dumps(row))
    elif found.scores:
        print_scores(evaluation.summarise(found), found.unit)
    if found.failures:
        for name, error in found.failures:
            typer.echo(f"failed: {one_line(name)}: {error}", err=True)
        raise typer.Exit(1 if found.scores else 3)


@app.command("list")
def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List what can be chosen, installed additions included."""
    from unetseg import registry

    registries = {
        Kind.encoders: registry.ENCODERS,
        Kind.skips: registry.SKIPS,
        Kind.tasks: registry.TASKS,
        Kind.formats: registry.FORMATS,
    }
    for name, entry in registries[kind].items():
        typer.echo(json.dumps({"name": name, "object": entry.value}) if as_json else name)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write the sample data.")],
) -> None:
    """Write small synthetic data sets with which everything can be tried."""
    from unetseg.samples import write_samples

    paths = write_samples(folder)
    typer.echo(f"{len(paths)} files in {folder}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; a failure is one line on stderr and an exit code."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # A file name in another encoding must not end the work on the files that follow.
        sys.stdout.reconfigure(errors="backslashreplace")
    # A process asked to end cleans up as after Ctrl-C; as process 1 it would else not even hear it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        # Without the standalone mode a code that a command ends with is handed back, not raised.
        code = app(standalone_mode=False)
    except UnetsegError as error:
        _fail(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except typer.Abort:
        _fail("interrupted", 130)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            message = error.format_message() if hasattr(error, "format_message") else error
            _fail(f"error: {one_line(message)}; see `unetseg --help`", 2)
        if _debug:
            raise
        _fail(
            f"error: {type(error).__name__}: {one_line(error)};"
            " this is a defect of unetseg, run it with --debug and report what it prints",
            70,
        )
    else:
        if code == 130:
            # Typer saw the interruption first and made a silent code of it.
            sys.stderr.write("interrupted\n")
        if code:
            sys.exit(code)


def _fail(message: str, code: int) -> None:
    if _debug:
        traceback.print_exc()
    sys.stderr.write(message + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
