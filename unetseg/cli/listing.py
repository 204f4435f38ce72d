"""The commands that show and hand out what there is: list and sample."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from unetseg.catalogue import Entry, Figures

# What stands for a figure that is not known.
_UNKNOWN = "-"


class Kind(StrEnum):
    """What `unetseg list` can list."""

    encoders = "encoders"
    skips = "skips"
    tasks = "tasks"
    formats = "formats"
    exports = "exports"


def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List what can be chosen, installed additions included, and what it costs."""
    from unetseg import registry
    from unetseg.catalogue import read_catalogue

    registries = {
        Kind.encoders: registry.ENCODERS,
        Kind.skips: registry.SKIPS,
        Kind.tasks: registry.TASKS,
        Kind.formats: registry.FORMATS,
        Kind.exports: registry.EXPORTS,
    }
    known, catalogue = registries[kind], read_catalogue()
    tables = {Kind.encoders: catalogue.encoders, Kind.skips: catalogue.skips}
    if kind not in tables:
        for name, entry in known.items():
            typer.echo(json.dumps({"name": name, "object": entry.value}) if as_json else name)
    elif as_json:
        with_weights = kind is Kind.encoders
        for line in _objects(known, tables[kind], catalogue.patches, with_weights=with_weights):
            typer.echo(json.dumps(line))
    else:
        _show(kind, tuple(known), tables[kind], catalogue.patches)


def _objects(
    known: "Mapping[str, EntryPoint]",
    table: "Mapping[str, Entry]",
    patches: Mapping[int, tuple[int, ...]],
    *,
    with_weights: bool,
) -> list[dict[str, Any]]:
    """Per name all that is known; null where no figures are."""
    lines = []
    for name, loaded in known.items():
        entry = table.get(name)
        line: dict[str, Any] = {"name": name, "object": loaded.value}
        if with_weights:
            line["weights"] = list(entry.weights) if entry else None
        for axes, size in patches.items():
            figures = entry and {"patch": [1, *size], **asdict(entry.figures[axes])}
            line[f"{axes}d"] = figures
        lines.append(line)
    return lines


def _show(
    kind: Kind,
    names: Sequence[str],
    table: "Mapping[str, Entry]",
    patches: Mapping[int, tuple[int, ...]],
) -> None:
    from unetseg.console import print_table

    with_weights = kind is Kind.encoders
    columns, rows = [kind.removesuffix("s")], []
    for axes in patches:
        columns += [f"{axes}-D M", "GFLOPs", "MB"]
    if with_weights:
        columns.append("weights")
    for name in names:
        entry = table.get(name)
        row = [name]
        for axes in patches:
            row += _cells(entry.figures[axes]) if entry else [_UNKNOWN] * 3
        if with_weights:
            row.append(", ".join(entry.weights) or _UNKNOWN if entry else _UNKNOWN)
        rows.append(row)
    sizes = ", ".join(
        f"{axes}-D 1 x {' x '.join(map(str, size))}" for axes, size in patches.items()
    )
    print_table(
        f"for one patch of {sizes}; M: million parameters, GFLOPs: of the forward pass,"
        " MB: memory of a training step",
        columns,
        rows,
    )


def _cells(figures: "Figures") -> list[str]:
    return [
        f"{figures.parameters / 1e6:.1f}",
        f"{figures.flops / 1e9:.1f}",
        f"{figures.memory_bytes / 1e6:.0f}",
    ]


def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write the sample data.")],
) -> None:
    """Write small synthetic data sets with which everything can be tried."""
    from unetseg.samples import write_samples

    paths = write_samples(folder)
    typer.echo(f"{len(paths)} files in {folder}")
