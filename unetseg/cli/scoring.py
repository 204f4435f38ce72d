"""The commands that say what masks are worth and what is in them: evaluate and measure."""

import json
from pathlib import Path
from typing import Annotated

import typer

from unetseg.cli.options import Ignore, Objects
from unetseg.errors import one_line


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
        bool, typer.Option("--merge-labels", help="Every value but 0 is one class, the foreground.")
    ] = False,
    objects: Objects = None,
    thresholds: Annotated[
        str, typer.Option(help="Of the IoU, for the average precision of objects.")
    ] = "0.5,0.6,0.7,0.8,0.9",
    regions: Annotated[
        str | None,
        typer.Option(help="Classes of several values, as in '{whole=[1, 2], core=[2]}'."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A run whose classes or regions are scored, by name.")
    ] = None,
    ignore_label: Ignore = None,
) -> None:
    """Compare masks with the truth.

    Classes: Dice, IoU, precision, recall, HD95, ASSD, surface Dice. Masks whose values number
    objects: average precision, F1, panoptic quality, AJI, counts, merges and splits.
    """
    from unetseg import evaluation
    from unetseg.arguments import regions_of, shares_of
    from unetseg.console import Display, print_object_scores, print_scores

    data = None
    if model is not None:
        from unetseg.checkpoint import load_plan

        data = load_plan(model).data
    with Display() as display:
        found = evaluation.evaluate(
            truth,
            predicted,
            regions=regions_of(regions) if regions is not None else (),
            data=data,
            ignore_value=ignore_label,
            tolerance=tolerance,
            geometry_tolerance=geometry_tolerance,
            merge_labels=merge_labels,
            objects=objects,
            thresholds=shares_of(thresholds, where="--thresholds"),
            listener=display,
        )
    if output is not None:
        evaluation.write_csv(found, output)
    if as_json:
        for row in evaluation.to_json(found):
            typer.echo(json.dumps(row))
    elif found.are_objects and found.scores:
        print_object_scores(found)
    elif found.scores:
        print_scores(evaluation.summarise(found), found.unit)
    if found.failures:
        for name, error in found.failures:
            typer.echo(f"failed: {one_line(name)}: {error}", err=True)
        raise typer.Exit(1 if found.scores else 3)


def measure(
    scans: Annotated[Path, typer.Argument(help="A scan or a folder of scans.")],
    masks: Annotated[Path, typer.Argument(help="The mask of each, paired by name.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A CSV file, one row per object or class.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    objects: Objects = None,
    ignore_label: Ignore = None,
) -> None:
    """Measure the objects or classes in masks: size, place, shape and intensity.

    Without -o and --json the CSV table is written to stdout.
    """
    from unetseg import measuring
    from unetseg.console import Display

    with Display() as display:
        found = measuring.measure(
            scans, masks, objects=objects, ignore_value=ignore_label, listener=display
        )
    is_there = bool(found.table.columns)
    if output is not None and is_there:
        measuring.write_csv(found.table, output)
    if as_json:
        for row in found.table.rows:
            typer.echo(json.dumps(dict(zip(found.table.columns, row, strict=True))))
    elif output is None and is_there:
        typer.echo(measuring.to_csv(found.table), nl=False)
    if found.failures:
        for name, error in found.failures:
            typer.echo(f"failed: {one_line(name)}: {error}", err=True)
        raise typer.Exit(1 if is_there else 3)
