"""The commands that experiment: study degradation, skips and landscape."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetseg.cli.learning import Stop
from unetseg.cli.options import Data, Device, Settings, overrides

if TYPE_CHECKING:
    from unetseg.studies.trials import StudyRequest

study = typer.Typer(
    name="study", no_args_is_help=True, help="Show on your own data what skip connections buy."
)

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The study's folder; it goes on where it stopped."),
]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each kind.")]
Steps = Annotated[int, typer.Option(min=2, help="Steps of each training.")]
Cases = Annotated[int, typer.Option(min=2, help="How many cases are used, small ones first.")]
Cache = Annotated[Path | None, typer.Option(help="Where prepared cases are kept; in the study.")]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _request(study: str, data: Path, output: Path | None, **values: Any) -> "StudyRequest":
    from unetseg.studies.trials import StudyRequest

    settings = overrides(values.pop("settings"))
    out = output or Path("studies") / f"{study}-{data.resolve().stem}"
    return StudyRequest(data, out, settings=settings, **values)


@study.command()
def degradation(
    data: Data,
    output: Output = None,
    depths: Annotated[str, typer.Option(help="Layers, 6n + 2 each.")] = "20,56",
    encoders: Annotated[
        str, typer.Option(help="Of plain, highway, residual, dense.")
    ] = "plain,highway,residual,dense",
    seeds: Seeds = 3,
    steps: Steps = 240,
    cases: Cases = 60,
    device: Device = "auto",
    cache: Cache = None,
    settings: Settings = None,
) -> None:
    """Shallow against deep, with and without short skips: does depth hurt the training loss?"""
    from unetseg.arguments import whole_numbers
    from unetseg.console import Display
    from unetseg.studies.degradation import study as run

    numbers = whole_numbers(depths, where="--depths")
    asked = _request(
        "degradation",
        data,
        output,
        seeds=seeds,
        steps=steps,
        cases=cases,
        device=device,
        cache=cache,
        settings=settings,
    )
    with Display() as display, Stop() as stop:
        found = run(
            asked,
            depths=numbers,
            encoders=_listed(encoders),
            listener=display,
            should_stop=stop,
        )
    _tell(None if found is None else found.conclusion, asked.out)


@study.command()
def skips(
    data: Data,
    output: Output = None,
    skips: Annotated[
        str, typer.Option(help="The first, or concat, is what the others are compared with.")
    ] = "concat,add,gated,attention,none",
    encoders: Annotated[str, typer.Option(help="See `unetseg list encoders`.")] = "plain",
    match_params: Annotated[
        bool, typer.Option("--match-params", help="Widen the narrower networks to equal size.")
    ] = False,
    seeds: Seeds = 3,
    steps: Steps = 240,
    cases: Cases = 60,
    device: Device = "auto",
    cache: Cache = None,
    settings: Settings = None,
) -> None:
    """The long skips at equal steps: Dice, surface Dice, parameters, FLOPs, time."""
    from unetseg.console import Display
    from unetseg.studies.skips import study as run

    asked = _request(
        "skips",
        data,
        output,
        seeds=seeds,
        steps=steps,
        cases=cases,
        device=device,
        cache=cache,
        settings=settings,
    )
    with Display() as display, Stop() as stop:
        found = run(
            asked,
            skips=_listed(skips),
            encoders=_listed(encoders),
            match_params=match_params,
            listener=display,
            should_stop=stop,
        )
    _tell(None if found is None else found.conclusion, asked.out)


@study.command()
def landscape(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, drawn side by side.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The study's folder.")] = Path(
        "studies/landscape"
    ),
    grid: Annotated[int, typer.Option(min=5, help="Points along each direction, odd.")] = 25,
    radius: Annotated[float, typer.Option(help="Half the width of a random plane.")] = 0.5,
    samples: Annotated[int, typer.Option(min=1, help="Patches on which the loss is taken.")] = 8,
    plane: Annotated[
        str, typer.Option(help="random, or path: where the training moved most.")
    ] = "random",
    seed: Annotated[int, typer.Option(min=0, help="Of the directions.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="The cases, if they are not where the run found them.")
    ] = None,
    device: Device = "auto",
) -> None:
    """The loss around trained models along two directions."""
    from unetseg.console import Display
    from unetseg.studies.landscape import LandscapeRequest, landscapes
    from unetseg.studies.landscape_report import conclusions, write

    request = LandscapeRequest(
        tuple(runs), output, grid, radius, samples, plane, seed, device, data
    )
    with Display() as display:
        found = landscapes(request, display)
    write(request, found)
    _tell(conclusions(found), output)


def _tell(conclusion: tuple[str, ...] | None, out: Path) -> None:
    """The sentences and the page, or where to go on."""
    if conclusion is None:
        typer.echo(f"stopped; the same command goes on in {out}", err=True)
        raise typer.Exit(130)
    for sentence in conclusion:
        typer.echo(sentence)
    typer.echo(out / "index.html")
