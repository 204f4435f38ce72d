"""Trainings that differ in one thing: the same cases, patches, steps and order of the data."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from unetseg import checkpoint
from unetseg.config import Plan, to_values
from unetseg.dataset.tables import CHANNEL_SEPARATOR
from unetseg.errors import DataError, UsageError
from unetseg.files import write_text
from unetseg.nets.cost import Cost, cost
from unetseg.nets.unet import UNet
from unetseg.records import Advance, Case, Event, Listener, Note, Stage, ignore_event
from unetseg.training import Request, plan_for, refuse_errors, train

# Small networks on small patches: an effect that shows here shows in minutes on a processor.
_PATCH = {2: 64, 3: 24}
_FEATURES = (8, 16, 32)
_GROWTH = 8
_STEPS_PER_EPOCH = 40
# Every fifth case validates.
_VALIDATION = 5


@dataclass(frozen=True)
class StudyRequest:
    """What a person asks of a study that trains.

    out : the study's folder; an existing one is gone on with
    steps : of every training
    cases : how many of the data's cases are used, smaller ones first; None for all
    settings : plan values by dotted key, the same for all trainings
    """

    data: Path
    out: Path
    seeds: int = 3
    steps: int = 240
    cases: int | None = 60
    device: str = "auto"
    cache: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("steps", 2)):
            if getattr(self, name) < least:
                raise UsageError(
                    "too few",
                    where=f"--{name}",
                    expected=f"{least} or more",
                    got=getattr(self, name),
                )


@dataclass(frozen=True)
class Trial:
    """One training of a study.

    factors : what it differs in, by name
    settings : plan values by dotted key that follow from the factors
    """

    factors: Mapping[str, str]
    seed: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return "-".join([*self.factors.values(), f"seed{self.seed}"])


@dataclass(frozen=True)
class Done:
    """A finished training.

    losses : of the training, one per epoch
    dice : mean over classes and validation cases, of the kept weights
    seconds_per_step : median over the epochs
    cost : of the network for one patch
    """

    trial: Trial
    run: Path
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    dice: float
    seconds_per_step: float
    cost: Cost

    @property
    def loss(self) -> float:
        """Mean training loss over the last quarter of the epochs."""
        return float(np.mean(self.losses[-max(1, len(self.losses) // 4) :]))


class Laboratory:
    """The data of a study, and the trainings on them."""

    def __init__(
        self, study: str, request: StudyRequest, choices: Mapping[str, Any], listener: Listener
    ) -> None:
        self.request, self.listener = request, listener
        asked = {
            "study": study,
            "data": str(request.data.resolve()),
            **choices,
            **{key: asdict(request)[key] for key in ("seeds", "steps", "cases", "settings")},
        }
        self.asked: dict[str, Any] = json.loads(json.dumps(asked, sort_keys=True))
        self._keep_request()
        base = Request(
            request.data, request.out / "runs", dict(request.settings), device=request.device
        )
        self.plan, found = plan_for(base, listener, existing=False)
        if self.plan.data.has_objects and "data.task" not in request.settings:
            # What is compared is the Dice, here of the foreground.
            settings = {**request.settings, "data.task": "semantic"}
            again = replace(base, overrides=settings)
            self.plan, found = plan_for(again, listener, existing=False)
        refuse_errors(found)
        self.cases = chosen_cases(found.cases, found.fingerprint.shapes, request.cases)
        self._write_table()

    def _keep_request(self) -> None:
        path = self.request.out / "study.json"
        if path.is_file():
            try:
                earlier = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(f"cannot be read: {error}", where=path) from error
            keys = self.asked.keys() | earlier.keys()
            differing = sorted(k for k in keys if earlier.get(k) != self.asked.get(k))
            if differing:
                raise UsageError(
                    f"another study stands here, it differs in {', '.join(differing)}",
                    where=path,
                    hint="give another folder by -o, or remove this one",
                )
        else:
            write_text(path, json.dumps(self.asked, indent=1) + "\n")

    @property
    def validation_cases(self) -> tuple[Case, ...]:
        """The cases that no network learns from."""
        return self.cases[::_VALIDATION]

    def _write_table(self) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["image", "label", "split"])
        for index, case in enumerate(self.cases):
            images = CHANNEL_SEPARATOR.join(str(path.resolve()) for path in case.images)
            split = "val" if index % _VALIDATION == 0 else "train"
            writer.writerow([images, case.truth.resolve() if case.truth else "", split])
        write_text(self.request.out / "data.csv", buffer.getvalue())

    def settings(self, trial: Trial) -> dict[str, Any]:
        """The whole of what the plan of a trial is told."""
        request, plan = self.request, self.plan
        axes = plan.data.dimensions
        data = to_values(plan)["data"]
        epochs = max(1, round(request.steps / _STEPS_PER_EPOCH))
        return {
            **{f"data.{key}": value for key, value in data.items() if value is not None},
            "patch.size": (_PATCH[axes],) * axes,
            "patch.batch": 4,
            "network.levels": len(_FEATURES),
            "network.features": _FEATURES,
            "network.growth": _GROWTH,
            "network.norm": "batch",
            "network.activation": "relu",
            "network.deep_supervision": False,
            # With less, small networks are far from done and seeds differ more than depths do.
            "training.learning_rate": 0.01,
            "training.epochs": epochs,
            "training.steps_per_epoch": max(1, request.steps // epochs),
            "training.validation_cases": 4,
            "training.snapshots": 13,
            **request.settings,
            # What is compared comes last.
            **trial.settings,
            "training.seed": trial.seed,
        }

    def plan_of(self, trial: Trial) -> Plan:
        """The plan of a trial, without training it."""
        return plan_for(self._request(trial), ignore_event)[0]

    def _request(self, trial: Trial) -> Request:
        request = self.request
        return Request(
            request.out / "data.csv",
            request.out / "runs" / trial.name,
            self.settings(trial),
            device=request.device,
            cache=request.cache or request.out / "cache",
        )

    def run(
        self, trials: Sequence[Trial], should_stop: Callable[[], bool] = lambda: False
    ) -> list[Done]:
        """Train what is not trained yet; fewer results than trials if it was asked to stop."""
        self.listener(Stage("trainings", len(trials)))
        results: list[Done] = []
        for number, trial in enumerate(trials, 1):
            begun = monotonic()
            request = self._request(trial)
            is_new = not _is_finished(request.run)
            if is_new:
                outcome = train(request, self._inside, should_stop)
                if not outcome.finished:
                    return results
            done = read_run(trial, request.run)
            results.append(done)
            self.listener(Advance(trial.name))
            took = f", {monotonic() - begun:.0f} s" if is_new else ", from before"
            self.listener(
                Note(
                    f"{number} of {len(trials)}: {trial.name}: loss {done.loss:.3f},"
                    f" Dice {done.dice:.3f}, {done.cost.parameters:,} parameters{took}"
                )
            )
        return results

    def _inside(self, event: Event) -> None:
        """Of a single training a person hears what goes wrong; the rest is in its log."""
        if isinstance(event, Note) and event.level != "info":
            self.listener(event)


def chosen_cases(
    cases: Sequence[Case], shapes: Sequence[tuple[int, ...]], most: int | None
) -> tuple[Case, ...]:
    """At most `most` cases, evenly spread over those that are no larger than the median one."""
    if most is None or len(cases) <= most:
        return tuple(cases)
    picked = list(cases)
    if len(shapes) == len(cases):
        sizes = np.array([np.prod(shape) for shape in shapes])
        picked = [c for c, s in zip(cases, sizes, strict=True) if s <= np.median(sizes)]
    places = np.linspace(0, len(picked) - 1, min(most, len(picked))).round().astype(int)
    return tuple(picked[place] for place in places)


def _is_finished(run: Path) -> bool:
    return (run / "model" / checkpoint.DESCRIPTION).is_file() and bool(
        checkpoint.read_facts(run).get("finished")
    )


def network_cost(plan: Plan) -> Cost:
    """What the plan's network costs for one patch."""
    import torch

    with torch.device("meta"):
        network: UNet = checkpoint.build(plan)
    return cost(network, len(plan.data.channels), plan.patch.size)


def read_run(trial: Trial, run: Path) -> Done:
    """What a finished run folder says of its training."""
    with (run / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    speeds = [float(row["steps_per_second"]) for row in rows if row["steps_per_second"]]
    dice = checkpoint.read_facts(run).get("mean_dice")
    return Done(
        trial,
        run,
        tuple(int(row["step"]) for row in rows),
        tuple(float(row["loss"]) for row in rows),
        float("nan") if dice is None else float(dice),
        float(np.median([1 / speed for speed in speeds])) if speeds else float("nan"),
        network_cost(checkpoint.load_plan(run)),
    )
