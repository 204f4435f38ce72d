"""The command that uses a model: predict."""

import json
import os
import sys
from pathlib import Path
from threading import enumerate as running_threads
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from unetseg.cli.options import (
    Axes,
    Channels,
    Device,
    Devices,
    PixelSize,
    Settings,
    overrides,
)
from unetseg.errors import DataError, one_line

if TYPE_CHECKING:
    from unetseg.prediction import Request
    from unetseg.records import Event, FileDone, Listener


def predict(
    inputs: Annotated[list[str], typer.Argument(help="Scans, folders, or patterns.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder, or a file for one scan.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A run; the newest finished one under ./runs.")
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Which networks of an ensemble, as in 0,2; all of them.")
    ] = None,
    quality: Annotated[
        str, typer.Option(help="fast, balanced (as the model's plan says) or best.")
    ] = "balanced",
    tta: Annotated[
        bool | None,
        typer.Option("--tta/--no-tta", help="Average over mirrored windows; as --quality says."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write a map per class too.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Write a map of the classes' entropy too, 0 to 1.")
    ] = False,
    map_type: Annotated[
        str, typer.Option(help="Of these maps: float32, float16 or uint8.")
    ] = "float32",
    regions: Annotated[
        bool, typer.Option("--regions", help="Write a file with a channel per region too.")
    ] = False,
    export: Annotated[
        list[str] | None,
        typer.Option("--export", help="Write rois (ImageJ) or geojson (QuPath) too, or both."),
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write a PNG with the mask's outline too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do finished masks again.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            help="One part of the scans, 0/4 to 3/4; auto as the scheduler's variables say,"
            " auto/4 with its number of 4."
        ),
    ] = None,
    axes: Axes = None,
    channels: Channels = None,
    pixel_size: PixelSize = None,
    device: Device = "auto",
    devices: Devices = None,
    memory: Annotated[
        str | None, typer.Option(help="The most that may be used, as in 2GB; what is free.")
    ] = None,
    device_memory: Annotated[
        str | None, typer.Option(help="The most of a card's memory, as in 8GB; what is free.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do the work.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what each scan will need, without doing it."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per scan, as soon as it is done.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Write a mask for every scan, on the scan's own grid."""
    from unetseg.arguments import cards_of, export_names, memory_size, view_of, whole_numbers

    exports = export_names(export, where="--export") if export else ()
    members = whole_numbers(folds, where="--folds") if folds is not None else None
    cards = cards_of(devices) if devices is not None else ()
    values = overrides(settings, decode__mirror=tta)
    host = memory_size(memory, where="--memory") if memory is not None else None
    card = memory_size(device_memory, where="--device-memory") if device_memory else None
    from unetseg.prediction import Request
    from unetseg.prediction.outlook import Limits

    request = Request(
        inputs,
        model=model,
        output=output,
        folds=members,
        device=device,
        devices=cards,
        overwrite=overwrite,
        probabilities=probabilities,
        uncertainty=uncertainty,
        regions=regions,
        exports=exports,
        map_type=map_type,
        quality=quality,
        shard=shard,
        settings=values,
        limits=Limits(host, card),
        view=view_of(axes, channels, pixel_size),
        dask=dask,
        command=one_line(" ".join(["unetseg", *sys.argv[1:]])),
    )
    if dry_run:
        _foreseen(request, as_json=as_json)
        return
    try:
        done = _predicted(request, as_json=as_json)
    except KeyboardInterrupt:
        _leave()
        raise
    for record in done:
        if record.output is not None:
            if not as_json:
                for path in (record.output, *record.exports):
                    typer.echo(path)
            if overlay and record.status == "done":
                try:
                    picture = _overlay(record, record.output)
                except DataError as error:
                    # Of time points and scenes; the masks are there all the same.
                    typer.echo(f"no overlay: {error}", err=True)
                    continue
                if not as_json:
                    typer.echo(picture)
    failed = [record for record in done if record.status == "failed"]
    if failed:
        typer.echo(f"{len(failed)} of {len(done)} inputs failed:", err=True)
        for record in failed:
            typer.echo(f"  {record.message}", err=True)
        raise typer.Exit(1)


def _predicted(request: "Request", *, as_json: bool) -> "tuple[FileDone, ...]":
    """What became of each scan; as JSON on stdout as soon as it is known."""
    from unetseg.console import Display
    from unetseg.prediction import predict as run

    results = sys.stdout
    with Display() as display:
        # A progress bar puts itself in the place of stdout, which is right on a terminal only.
        stream = sys.stdout if results.isatty() else results
        return run(request, _telling(display, stream) if as_json else display)


def _foreseen(request: "Request", *, as_json: bool) -> None:
    """What a prediction would do, on stdout."""
    from unetseg.console import Display
    from unetseg.prediction.foreseen import foreseen, row

    with Display() as display:
        outlooks = foreseen(request, display)
    for found in outlooks:
        typer.echo(json.dumps(row(found)) if as_json else "\n".join(found.lines()))
    failed = [found for found in outlooks if found.fault]
    if failed:
        raise typer.Exit(1)


def _telling(display: "Listener", stream: TextIO) -> "Listener":
    from unetseg.prediction.manifest import class_sizes
    from unetseg.records import FileDone

    def tell(event: "Event") -> None:
        display(event)
        if isinstance(event, FileDone):
            row: dict[str, Any] = {
                "path": str(event.path),
                "output": None if event.output is None else str(event.output),
                "status": event.status,
                "seconds": round(event.seconds, 3),
                "unit": event.unit,
                "classes": class_sizes(event),
                "exports": list(map(str, event.exports)),
            }
            if event.message:
                row["message"] = event.message
            typer.echo(json.dumps(row), file=stream)
            stream.flush()

    return tell


def _leave() -> None:
    """End the process here and now if a thread of the prediction is in the middle of something.

    It would be ended inside of a library, which can take the process down with a crash.
    """
    from unetseg.prediction.hands import NAME

    if any(thread.name.startswith(NAME) for thread in running_threads()):
        sys.stderr.write("interrupted\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def _overlay(record: "FileDone", mask: Path) -> Path:
    from unetseg.dataset.loading import with_axes_of_truth
    from unetseg.formats import split_name
    from unetseg.records import Case
    from unetseg.viewer.overlay import write_overlay

    stem = split_name(mask)[0].removesuffix("_seg")
    path = mask.with_name(f"{stem}_overlay.png")
    case = with_axes_of_truth(Case(stem, record.scans, mask))
    write_overlay(case, mask, path, has_objects=bool(record.objects))
    return path
