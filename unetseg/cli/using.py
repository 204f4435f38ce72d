"""The commands that use a model and judge its masks: predict and evaluate."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from unetseg.cli.options import Device, Ignore, Settings, overrides
from unetseg.errors import one_line


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
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write a map per class too.")
    ] = False,
    regions: Annotated[
        bool, typer.Option("--regions", help="Write a file with a channel per region too.")
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
    from unetseg.arguments import whole_numbers
    from unetseg.console import Display

    members = whole_numbers(folds, where="--folds") if folds is not None else None
    values = overrides(settings)
    from unetseg.prediction import Request
    from unetseg.prediction import predict as run

    request = Request(
        inputs,
        model=model,
        output=output,
        folds=members,
        device=device,
        overwrite=overwrite,
        probabilities=probabilities,
        regions=regions,
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
    regions: Annotated[
        str | None,
        typer.Option(help="Classes of several values, as in '{whole=[1, 2], core=[2]}'."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A run whose classes or regions are scored, by name.")
    ] = None,
    ignore_label: Ignore = None,
) -> None:
    """Compare masks with the truth: Dice, IoU, precision, recall, HD95, ASSD, surface Dice."""
    from unetseg import evaluation
    from unetseg.arguments import regions_of
    from unetseg.console import Display, print_scores

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
