"""Options that several commands have, and the plan values that they stand for."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unetseg.arguments import fold_of
from unetseg.errors import UsageError

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Devices = Annotated[
    str | None, typer.Option(help="Several at once: how many, as in 4, or which cards, as in 0,2.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A plan value, as in training.epochs=20.")
]
Task = Annotated[str | None, typer.Option(help="What to learn; see `unetseg list tasks`.")]
Ignore = Annotated[
    int | None, typer.Option(help="A label value that means 'not known' and is left out.")
]
Objects = Annotated[
    bool | None,
    typer.Option(
        "--objects/--no-objects", help="The values number objects, or name classes; as they look."
    ),
]
Axes = Annotated[
    str | None,
    typer.Option("--axes", help="The axes of the files, a letter each, as in ZCYX; T is time."),
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", help="Which channels, by name or by number from 0: DAPI,1."),
]
PixelSize = Annotated[
    str | None,
    typer.Option(
        "--pixel-size", help="Where files lack it: 0.65um, or 0.65x0.65x2um along X, Y, Z."
    ),
]
Encoder = Annotated[
    str | None, typer.Option(help="The contracting path; see `unetseg list encoders`.")
]
Skip = Annotated[str | None, typer.Option(help="The long skips; see `unetseg list skips`.")]
Weights = Annotated[
    str | None, typer.Option(help="Where the encoder begins: imagenet, medicalnet, or a file.")
]
Init = Annotated[Path | None, typer.Option(help="A run whose model the training begins with.")]
Fold = Annotated[str | None, typer.Option(help="Which fold validates, as in 0/5.")]
Folds = Annotated[
    int | None, typer.Option(min=2, help="Train all of this many folds, and keep an ensemble.")
]
Group = Annotated[
    str | None,
    typer.Option(
        help="What keeps cases in one fold: a column of the CSV list, or a regular expression"
        " with one group, searched in their names, as in '^(patient[0-9]+)_'."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Of everything random.")]
Data = Annotated[Path, typer.Argument(help="A folder of images and masks, or a CSV file.")]
Html = Annotated[bool, typer.Option("--html", help="Write a page named after the command, here.")]
PageFile = Annotated[Path | None, typer.Option("--page", help="Write the page to this file.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without the cases that fail.")]


def training_values(
    settings: list[str] | None,
    *,
    seed: int | None,
    fold: str | None,
    folds: int | None,
    group: str | None,
    task: str | None,
    encoder: str | None,
    skip: str | None,
    weights: str | None,
    init: Path | None,
    ignore_label: int | None,
    **more: Any,
) -> dict[str, Any]:
    """The plan values of a training by dotted key, see `overrides`."""
    return overrides(
        settings,
        training__seed=seed,
        **_division(fold, folds),
        training__group=group,
        data__task=task,
        data__ignore_value=ignore_label,
        network__encoder=encoder,
        network__skip=skip,
        training__weights=weights,
        training__init=str(init) if init else None,
        **more,
    )


def _division(fold: str | None, folds: int | None) -> dict[str, int]:
    """The plan values of `--fold` and `--folds`, of which a training has one at most."""
    if fold is not None and folds is not None:
        raise UsageError("give --fold to train one, or --folds to train all", where="--fold")
    if fold is None:
        return {} if folds is None else {"training__fold": 0, "training__folds": folds}
    number, of = fold_of(fold)
    return {"training__fold": number, "training__folds": of}


def overrides(settings: list[str] | None, **named: Any) -> dict[str, Any]:
    """Values by dotted key from `--set` and from options; `a__b` stands for a.b."""
    from unetseg.config import parse_settings

    values = parse_settings(tuple(settings or ()))
    for key, value in named.items():
        if value is not None:
            values[key.replace("__", ".")] = value
    return values


def page_asked(html: bool, page: Path | None, name: str) -> Path | None:
    """Where a page is wanted, if one is. Raises UsageError if none may be written there.

    name : of the file, if the person gives none
    """
    if page is None and not html:
        return None
    from unetseg.pages.writing import checked_page

    return checked_page(page or Path(name))
