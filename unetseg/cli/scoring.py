"""The commands that say what masks are worth and what is in them: evaluate and measure."""

import json
from pathlib import Path
from typing import Annotated

import typer

from unetseg.cli.options import Html, Ignore, Objects, PageFile, page_asked
from unetseg.errors import DataError, UsageError, one_line


def evaluate(
    truth: Annotated[Path, typer.Argument(help="A mask or a folder of masks.")],
    predicted: Annotated[Path, typer.Argument(help="What to compare with it, paired by name.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A CSV file, one row per case and class.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    summary: Annotated[
        Path | None, typer.Option(help="A JSON file: means, intervals, the comparison.")
    ] = None,
    html: Html = False,
    page: PageFile = None,
    scans: Annotated[
        Path | None, typer.Option(help="What the masks lie on, for the pictures of the page.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other masks of the same cases, to compare these with.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Which cases belong together, for the intervals: a regular expression with one"
            " group, searched in their names, as in '^(patient[0-9]+)_'."
        ),
    ] = None,
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
    """Compare masks with the truth, and with other masks.

    Classes: Dice, IoU, precision, recall, HD95, ASSD, surface Dice. Masks whose values number
    objects: average precision, F1, panoptic quality, AJI, counts, merges and splits.
    """
    from unetseg import evaluation
    from unetseg.arguments import regions_of, shares_of
    from unetseg.console import Display, print_outcome

    path = page_asked(html, page, "evaluation.html")
    if scans is not None and path is None:
        raise UsageError("scans are for the page", where="--scans", hint="give --html as well")
    if scans is not None and not scans.exists():
        raise DataError("does not exist", where=scans, hint="check the path")
    resampling = evaluation.Resampling()
    if group is not None:
        names = [name for name, _, _ in evaluation.pair(truth, predicted)]
        resampling = evaluation.Resampling(evaluation.groups_of(names, group))
    if against is not None:
        # Before the first set is scored, which may take long.
        evaluation.pair(truth, against)
    data = None
    if model is not None:
        from unetseg.checkpoint import load_plan

        data = load_plan(model).data

    def scored(masks: Path, *, objects: bool | None) -> evaluation.Evaluation:
        with Display() as display:
            return evaluation.evaluate(
                truth,
                masks,
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

    found = scored(predicted, objects=objects)
    # Both in the same way, whatever the others look like.
    other = None if against is None else scored(against, objects=found.are_objects)
    outcome = evaluation.Outcome(truth, predicted, found, resampling, against, other)
    if output is not None:
        evaluation.write_csv(found, output)
    if summary is not None:
        evaluation.write_summary(outcome, summary)
    if as_json:
        for row in evaluation.to_json(found):
            typer.echo(json.dumps(row))
    else:
        print_outcome(outcome)
    if path is not None:
        from unetseg.pages.writing import write_page
        from unetseg.report.scoring import page_of

        write_page(page_of(outcome, scans), path)
        typer.echo(path, err=as_json)
    if outcome.failures:
        for name, error in outcome.failures:
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
