"""The command that shows scans and masks in the browser: view."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unetseg.cli.options import Axes, Channels, Objects, PixelSize
from unetseg.errors import DataError, UsageError

if TYPE_CHECKING:
    from unetseg.viewer.entries import Exhibit


def view(
    scan: Annotated[Path, typer.Argument(help="A scan in any format, or a run.")],
    masks: Annotated[list[Path] | None, typer.Argument(help="Masks that lie on the scan.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; a free one.")] = 0,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Do not open the browser; the address is printed.")
    ] = False,
    screenshot: Annotated[
        Path | None, typer.Option(help="Write a PNG of the page and end; needs a Chromium.")
    ] = None,
    objects: Objects = None,
    axes: Axes = None,
    channels: Channels = None,
    pixel_size: PixelSize = None,
) -> None:
    """Look at a scan and its masks, or at the validation cases of a run, in the browser.

    The page is served to this computer alone, for as long as the command runs; Ctrl-C ends it.
    """
    from unetseg.arguments import view_of
    from unetseg.viewer.browsers import browser, write_screenshot
    from unetseg.viewer.entries import of_files
    from unetseg.viewer.server import Viewer

    given = list(masks or ())
    if screenshot is not None:
        if screenshot.suffix.lower() != ".png":
            raise UsageError("a picture is a PNG", where="--screenshot", got=screenshot.name)
        browser()
    exhibit = _run(scan, given) or of_files(
        scan, given, view_of(axes, channels, pixel_size), has_objects=objects
    )
    with Viewer(exhibit, port) as viewer:
        # What is wrong with the first case is said here, not in the browser.
        viewer.check()
        if screenshot is not None:
            write_screenshot(viewer.url, screenshot)
            typer.echo(screenshot)
            return
        # Ctrl-C is how looking ends, and no failure.
        with contextlib.suppress(KeyboardInterrupt):
            typer.echo(viewer.url)
            if not no_open:
                viewer.open()
            viewer.wait()


def _run(path: Path, masks: list[Path]) -> "Exhibit | None":
    """The cases of a run; None if the path is that of a scan."""
    if not path.is_dir():
        return None
    # What reads runs is loaded for runs alone: a scan is on the screen sooner.
    from unetseg.runs.record import is_run

    if not is_run(path):
        from unetseg.formats import is_store

        if not is_store(path):
            raise DataError(
                "neither a scan nor a run", where=path, hint="give a file, or a run folder"
            )
        return None
    from unetseg.viewer.validation import of_run

    if masks:
        raise UsageError("a run has its own masks", where=masks[0], hint="give a scan, or a run")
    return of_run(path)
