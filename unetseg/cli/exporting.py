"""The command that makes files for other programs of masks that are there: export."""

import json
from pathlib import Path
from typing import Annotated

import typer

from unetseg.errors import UnetsegError, UsageError


def export(
    masks: Annotated[list[Path], typer.Argument(help="Masks, in any format.")],
    to: Annotated[
        list[str] | None,
        typer.Option(help="rois (ImageJ) or geojson (QuPath), or both with a comma; both."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder; beside each mask.")
    ] = None,
    objects: Annotated[
        bool | None,
        typer.Option("--objects/--classes", help="What the values of the masks are; as they look."),
    ] = None,
    scan: Annotated[
        Path | None, typer.Option(help="What the mask was made from; dicom-seg needs the series.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also files that unetseg has not written.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per mask.")] = False,
) -> None:
    """Write what other programs open: ImageJ ROIs, GeoJSON for QuPath, DICOM-SEG."""
    from unetseg.arguments import export_names
    from unetseg.exporting import Legend, check_free, export, export_path, have_objects

    names = export_names(to, where="--to") if to else ("rois", "geojson")
    if scan is not None and len(masks) > 1:
        raise UsageError("a scan has one mask", where="--scan", hint="export masks one by one")
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError("not a folder", where=output, hint="give -o a folder")
    if objects is None:
        objects = have_objects(masks)
        what = "objects" if objects else "classes"
        typer.echo(f"values are taken for {what}; see --objects and --classes", err=True)
    taken: dict[Path, Path] = {}
    failed = 0
    for mask in masks:
        try:
            paths = [export_path(mask, name, output) for name in names]
            for path in paths:
                if path in taken:
                    raise UsageError(
                        "two masks would give the same file",
                        where=path,
                        got=f"{taken[path]} and {mask}",
                        hint="export them into different folders",
                    )
            if not overwrite:
                check_free(paths)
            taken |= dict.fromkeys(paths, mask)
            export(mask, names, Legend(objects), output, scan)
        except UnetsegError as error:
            error.where = error.where or str(mask)
            failed += 1
            typer.echo(f"failed: {error}", err=True)
            continue
        if as_json:
            typer.echo(json.dumps({"path": str(mask), "exports": list(map(str, paths))}))
        else:
            for path in paths:
                typer.echo(path)
    if failed:
        raise typer.Exit(1 if failed < len(masks) else 3)
