"""The command that looks at data before anything is trained on them: check."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetseg.arguments import view_of
from unetseg.cli.options import (
    Axes,
    Channels,
    Data,
    Device,
    Encoder,
    Fold,
    Folds,
    Group,
    Html,
    Ignore,
    Init,
    PageFile,
    PixelSize,
    Seed,
    Settings,
    Skip,
    Task,
    Weights,
    page_asked,
    training_values,
)
from unetseg.errors import UnetsegError

if TYPE_CHECKING:
    from unetseg.checking import Checked


def check(
    data: Data,
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
    settings: Settings = None,
    html: Html = False,
    page: PageFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Say what was found in DATA, what is wrong with it, and how it would be trained."""
    # Many small systems are solved; threads that wait for one another in each take 18 times as long
    # on a busy machine. It has to be said before numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from unetseg.checking import Asked, Looks, checked
    from unetseg.console import Display, show_findings
    from unetseg.training.request import Request, inspected, planned

    view = view_of(axes, channels, pixel_size)
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
    )
    request = Request(data, Path(), values, device=device, skip_bad=False, view=view)
    looks, pictures = Looks(), None
    path = page_asked(html, page, "check.html")
    if path is not None:
        from unetseg.report.checking import Pictures

        pictures = Pictures()

    def look(*case: Any) -> None:
        looks(*case)
        if pictures is not None:
            pictures(*case)

    with Display() as display:
        seen = inspected(request, display, existing=False, look=look)
        plan, found = None, seen.found
        try:
            plan, found = planned(request, seen, existing=False)
        except UnetsegError as error:
            # Where the data are why no plan suits them, the findings say so.
            if all(finding.severity != "error" for finding in found.findings):
                raise
            display.line(f"note: no plan: {error}", "cyan")
        other = pictures.other if pictures is not None else None
        asked = Asked(
            looks,
            seen.dataset,
            found,
            seen.machine,
            plan,
            cache=request.prepared,
            view=view,
            look_other=other,
        )
        result = checked(asked, display)
        if not as_json:
            show_findings(result.findings, display)
        if path is not None and pictures is not None:
            from unetseg.pages.writing import write_page
            from unetseg.report.checking import page_of

            write_page(page_of(data, result, pictures), path)
            display.line(f"page {path}")
    if as_json:
        _write_json(result)
    else:
        _write_text(result, every=bool(folds or group))
    if result.has_errors:
        raise typer.Exit(3)


def _write_text(result: "Checked", *, every: bool) -> None:
    from unetseg.config.toml import describe
    from unetseg.console import describe_division, describe_fingerprint

    typer.echo(describe_fingerprint(result.inspection.fingerprint))
    plan = result.plan
    if plan is None:
        return
    if not result.has_errors:
        typer.echo(describe_division(result.inspection.cases, plan.training, every=every))
    if result.estimates is not None:
        for what, how_much in result.estimates.rows:
            typer.echo(f"{what}: {how_much}")
    typer.echo(describe(plan))


def _write_json(result: "Checked") -> None:
    from unetseg.config import to_values

    for finding in result.findings:
        typer.echo(json.dumps({"finding": asdict(finding)}))
    found = result.inspection.fingerprint
    facts: dict[str, Any] = {
        "cases": found.cases,
        "dimensions": found.dimensions,
        "unit": found.unit,
        "channels": found.channels,
        "digest": result.inspection.digest,
    }
    if found.looks_like_objects and found.objects is not None:
        facts["objects"] = found.objects.facts(found.unit)
    else:
        names = {label.value: label.name for label in found.label_names}
        facts["labels"] = [
            {"value": value, "name": names.get(value, ""), "voxels": voxels}
            for value, voxels in found.label_counts
        ]
    typer.echo(json.dumps({"data": facts}))
    if result.estimates is not None:
        typer.echo(json.dumps({"estimates": asdict(result.estimates)}))
    if result.plan is not None:
        typer.echo(
            json.dumps({"plan": to_values(result.plan), "reasons": dict(result.plan.reasons)})
        )
