"""The commands about published weights: weights list and weights fetch."""

import json
from pathlib import Path
from typing import Annotated

import typer

weights = typer.Typer(
    name="weights",
    help="Show and fetch the published weights that an encoder can begin with.",
    no_args_is_help=True,
)

Cache = Annotated[
    Path | None, typer.Option(help="Where fetched weights are kept; the user's cache.")
]


@weights.command("list")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    cache: Cache = None,
) -> None:
    """List the published weights, their licences, and whether they are here."""
    from unetseg.console import print_table
    from unetseg.downloads import PUBLISHED, place

    rows = []
    for each in PUBLISHED:
        path = place(each, cache)
        cached = str(path) if path.is_file() else None
        if as_json:
            facts = {
                "name": each.name,
                "dimensions": each.family.dimensions,
                "bytes": each.size_bytes,
                "licence": each.family.licence,
                "about": each.family.about,
                "url": each.url,
                "sha256": each.sha256,
                "cached": cached,
            }
            typer.echo(json.dumps(facts))
        state = "yes" if cached else "no" if each.sha256 else "by hand"
        size = f"{each.size_bytes / 1e6:.0f} MB" if each.size_bytes else ""
        rows.append([each.name, f"{each.family.dimensions}-D", size, each.family.licence, state])
    if not as_json:
        print_table("", ["name", "dimension", "size", "licence", "in cache"], rows)


@weights.command("fetch")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="Which weights, as in imagenet/resnet34.")],
    cache: Cache = None,
) -> None:
    """Download published weights, so that a training finds them without a connection."""
    from unetseg.console import Display
    from unetseg.downloads import fetch, named

    chosen = named(name)
    with Display() as display:
        path = fetch(chosen, cache, display)
    typer.echo(path)
