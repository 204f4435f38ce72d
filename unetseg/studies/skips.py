"""The long skips compared: equal steps and, if asked for, equal size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np

from unetseg.config import IGNORED
from unetseg.dataset.loading import load_scan, load_truth
from unetseg.errors import UsageError
from unetseg.metrics import dice, surface_dice
from unetseg.metrics.spread import Range, paired_difference, spread
from unetseg.pipeline import class_indices
from unetseg.prediction import Predictor
from unetseg.records import Advance, Case, Listener, Stage, ignore_event
from unetseg.registry import SKIPS
from unetseg.studies.figures import curves, differences
from unetseg.studies.report import Report, Section, Table, write_report
from unetseg.studies.trials import Done, Laboratory, StudyRequest, Trial, network_cost

# The one that the others are compared with.
_REFERENCE = "concat"
_METRICS = ("dice", "surface_dice")
# Wider by steps of a hundredth; eightfold width is far beyond what a skip's channels cost.
_WIDTHS = np.linspace(1, 8, 701)


@dataclass(frozen=True)
class Comparison:
    """What came out.

    scores : in the order of seeds, encoders and skips
    conclusion : one sentence per encoder and skip that the numbers support
    """

    scores: tuple["Scores", ...]
    conclusion: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """Of one training, per validation case: the mean over its classes of each metric."""

    done: Done
    values: Mapping[str, tuple[float, ...]]


def study(
    request: StudyRequest,
    *,
    skips: Sequence[str] = (),
    encoders: Sequence[str] = ("plain",),
    match_params: bool = False,
    listener: Listener = ignore_event,
    should_stop: Callable[[], bool] = lambda: False,
) -> Comparison | None:
    """Train all of them and write the report; None if it was asked to stop before the end.

    skips : names from SKIPS, all of them if empty; the first is what the others are compared with,
        or concat where it is among them
    match_params : networks with fewer parameters than the largest are made wider, so that all
        have the same number to within what whole channels allow
    """
    names = tuple(skips) or tuple(SKIPS)
    for name in names:
        if name not in SKIPS:
            SKIPS.load(name)
    if len(set(names)) < 2:
        raise UsageError("nothing to compare", where="--skips", expected="two or more", got=names)
    choices = {"skips": list(names), "encoders": list(encoders), "match_params": match_params}
    laboratory = Laboratory("skips", request, choices, listener)
    trials = [
        Trial(
            {"encoder": encoder, "skip": name},
            seed,
            {"network.encoder": encoder, "network.skip": name},
        )
        for seed in range(request.seeds)
        for encoder in encoders
        for name in names
    ]
    if match_params:
        trials = matched(laboratory, trials)
    results = laboratory.run(trials, should_stop)
    if len(results) < len(trials):
        return None
    cases = laboratory.validation_cases
    listener(Stage("scoring", len(results)))
    scores = []
    for done in results:
        scores.append(score(done, cases, request.device))
        listener(Advance(done.trial.name))
    return Comparison(tuple(scores), _write(laboratory, tuple(scores), cases))


def matched(laboratory: Laboratory, trials: Sequence[Trial]) -> list[Trial]:
    """The trials with the features of the smaller networks widened, encoder by encoder."""
    widths: dict[tuple[str, str], Mapping[str, Any]] = {}
    plans = {
        (t.factors["encoder"], t.factors["skip"]): laboratory.plan_of(t)
        for t in trials
        if t.seed == 0
    }
    for encoder in dict.fromkeys(name for name, _ in plans):
        group = {skip: plan for (name, skip), plan in plans.items() if name == encoder}
        target = max(network_cost(plan).parameters for plan in group.values())
        for skip, plan in group.items():
            # Parameters grow with the width: the first that reaches the target, or the one before.
            low, high = 0, len(_WIDTHS) - 1

            def size(index: int, plan: Any = plan) -> int:
                features = _widened(plan.network.features, _WIDTHS[index])
                network = replace(plan.network, features=features)
                return network_cost(replace(plan, network=network)).parameters

            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if size(middle) >= target else (middle + 1, high)
            best = min((max(0, low - 1), low), key=lambda i: abs(size(i) - target))
            features = _widened(plan.network.features, _WIDTHS[best])
            widths[encoder, skip] = {"network.features": features}
    return [
        replace(t, settings={**t.settings, **widths[t.factors["encoder"], t.factors["skip"]]})
        for t in trials
    ]


def _widened(features: Sequence[int], factor: float) -> tuple[int, ...]:
    return tuple(round(width * factor) for width in features)


def score(done: Done, cases: Sequence[Case], device: str) -> Scores:
    """Dice and surface Dice of the trained model, on each scan's own grid.

    The tolerance of the surface Dice is the shortest edge of a voxel.
    """
    predictor = Predictor(done.run, device=device)
    data = predictor.plan.data
    rows: dict[str, list[float]] = {metric: [] for metric in _METRICS}
    for case in cases:
        scan = load_scan(case)
        truth = class_indices(load_truth(case, scan.geometry).array, data).numpy()
        mask = class_indices(predictor(scan).array, data).numpy()
        mask[truth == IGNORED] = 0
        spacing = scan.geometry.spacing
        per_class: dict[str, list[float]] = {metric: [] for metric in _METRICS}
        for indices in data.members[1:]:
            one, other = np.isin(truth, indices), np.isin(mask, indices)
            per_class["dice"].append(dice(one, other))
            near = surface_dice(one, other, spacing, tolerance=min(spacing))
            per_class["surface_dice"].append(near)
        for metric, values in per_class.items():
            rows[metric].append(spread(values).mean)
    return Scores(done, {metric: tuple(values) for metric, values in rows.items()})


def _write(
    laboratory: Laboratory, scores: tuple[Scores, ...], cases: Sequence[Case]
) -> tuple[str, ...]:
    """Write the report; returns its conclusion."""
    groups: dict[tuple[str, str], list[Scores]] = {}
    for each in scores:
        factors = each.done.trial.factors
        groups.setdefault((factors["encoder"], factors["skip"]), []).append(each)
    encoders = list(dict.fromkeys(name for name, _ in groups))
    sentences, sections = [], []
    for encoder in encoders:
        members = {skip: group for (name, skip), group in groups.items() if name == encoder}
        reference = _REFERENCE if _REFERENCE in members else next(iter(members))
        gaps = {
            metric: {
                skip: _difference(group, members[reference], metric)
                for skip, group in members.items()
                if skip != reference
            }
            for metric in _METRICS
        }
        sentences += [
            f"{encoder}: {conclusion((skip, reference), group, members[reference])}"
            for skip, group in members.items()
            if skip != reference
        ]
        lines = {
            encoder: {
                skip: [(s.done.steps, s.done.losses) for s in group]
                for skip, group in members.items()
            }
        }
        out = laboratory.request.out
        sections += [
            Section(
                f"{encoder}: difference from {reference}",
                differences(out, f"differences_{encoder}", gaps, (reference, list(members))),
            ),
            Section(
                f"{encoder}: training loss",
                curves(out, f"losses_{encoder}", lines, ylabel="training loss"),
            ),
            Section(f"{encoder}: numbers", table=_table(members, gaps, reference)),
        ]
    extra = [{metric: spread(s.values[metric]).mean for metric in _METRICS} for s in scores]
    per_case = {
        s.done.trial.name: {
            metric: dict(zip((case.name for case in cases), s.values[metric], strict=True))
            for metric in _METRICS
        }
        for s in scores
    }
    write_report(
        laboratory,
        tuple(s.done for s in scores),
        Report("What do the long skips buy?", tuple(sentences), tuple(sections)),
        columns=extra,
        more={"per_case": per_case},
    )
    return tuple(sentences)


def _case_means(group: Sequence[Scores], metric: str) -> list[float]:
    """Per case, the mean over the seeds."""
    return [spread(values).mean for values in zip(*(s.values[metric] for s in group), strict=True)]


def _difference(group: Sequence[Scores], reference: Sequence[Scores], metric: str) -> Range:
    return paired_difference(_case_means(group, metric), _case_means(reference, metric))


def conclusion(names: tuple[str, str], group: Sequence[Scores], reference: Sequence[Scores]) -> str:
    """What the Dice of a skip says against the reference's: better or worse only where the
    interval over the cases and every seed by itself agree, since trainings differ as well.

    names : of the skip and of the reference
    """
    gap = _difference(group, reference, "dice")
    seeds = [
        _difference([one], [other], "dice").mean
        for one, other in zip(group, reference, strict=True)
    ]
    over = f"over {gap.defined} cases"
    numbers = f"Dice {gap.mean:+.3f}, 95 % interval {gap.low:+.3f} to {gap.high:+.3f} {over}"
    if isnan(gap.low):
        numbers = f"Dice {gap.mean:+.3f} {over}, too few for an interval"
    if gap.low > 0 and min(seeds) > 0:
        said = "is better than"
    elif gap.high < 0 and max(seeds) < 0:
        said = "is worse than"
    else:
        said = "is not told apart from"
        numbers += f", {min(seeds):+.3f} to {max(seeds):+.3f} over {len(seeds)} seeds"
    return f"{names[0]} {said} {names[1]} ({numbers})."


def _table(
    members: Mapping[str, Sequence[Scores]],
    gaps: Mapping[str, Mapping[str, Range]],
    reference: str,
) -> Table:
    rows = []
    for skip, group in members.items():
        cost = group[0].done.cost
        cells = [
            skip,
            f"{cost.parameters:,}",
            f"{cost.flops / 1e9:.2f}",
            f"{1000 * spread([s.done.seconds_per_step for s in group]).mean:.0f}",
        ]
        for metric in _METRICS:
            cells.append(f"{spread(_case_means(group, metric)).mean:.3f}")
            gap = gaps[metric].get(skip)
            cells.append("" if gap is None else gap.signed())
        rows.append(tuple(cells))
    names = (
        "skip",
        "parameters",
        "GFLOP",
        "ms / step",
        "Dice",
        "difference",
        "surface Dice",
        "difference",
    )
    return Table(
        "Long skips",
        names,
        tuple(rows),
        f"Differences from {reference}, paired over the validation cases (each the mean over the"
        " seeds), with the 95 % interval of a bootstrap over cases. Surface Dice within one voxel."
        " GFLOP: one patch, forward.",
    )
