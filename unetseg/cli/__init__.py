"""The command line: parse, one library call, show. Heavy imports stay inside the commands."""

import signal
import sys
import traceback
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer

from unetseg.cli.checking import check
from unetseg.cli.exporting import export
from unetseg.cli.learning import train
from unetseg.cli.listing import list_names, sample
from unetseg.cli.looking import compare, runs
from unetseg.cli.reporting import report
from unetseg.cli.scoring import evaluate, measure
from unetseg.cli.study import study
from unetseg.cli.using import predict
from unetseg.cli.viewing import view
from unetseg.cli.weights import weights
from unetseg.errors import UnetsegError, one_line
from unetseg.version import __version__

app = typer.Typer(
    name="unetseg",
    help="Train a U-Net on a folder of images and masks; get masks that lie on the scan.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_debug = False


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


app.command()(check)
app.command()(train)
app.command()(predict)
app.command()(report)
app.command()(runs)
app.command()(compare)
app.command()(evaluate)
app.command()(view)
app.command()(export)
app.command()(measure)
app.command("list")(list_names)
app.command()(sample)
app.add_typer(weights)
app.add_typer(study)


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
            if not str(message):
                # A command that needs another word has shown its help.
                sys.exit(2)
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
