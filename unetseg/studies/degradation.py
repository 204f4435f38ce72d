"""The experiment behind residual learning, on segmentation: do deeper networks learn worse?

Networks of different depths with and without short skips learn from the same patches in the same
order for the same number of steps. He et al. 2015, arXiv:1512.03385, saw that plain networks get
worse with depth already on the data they learn from, and that residual ones do not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from unetseg.errors import UsageError
from unetseg.metrics.spread import Range, spread
from unetseg.records import Listener, ignore_event
from unetseg.studies.figures import curves
from unetseg.studies.report import Report, Section, Table, write_report
from unetseg.studies.trials import Done, Laboratory, StudyRequest, Trial

ENCODERS = ("plain", "highway", "residual", "dense")
DEPTHS = (20, 56)
_LEVELS = 3
# A dense layer holds two convolutions, as a residual block does.
_PER_BLOCK = {"plain": 1, "highway": 1, "residual": 2, "dense": 2}


@dataclass(frozen=True)
class Degradation:
    """What came out.

    results : in the order of encoders, depths and seeds
    conclusion : one sentence per encoder that the numbers support
    """

    results: tuple[Done, ...]
    conclusion: tuple[str, ...]


def study(
    request: StudyRequest,
    *,
    depths: Sequence[int] = DEPTHS,
    encoders: Sequence[str] = ENCODERS,
    listener: Listener = ignore_event,
    should_stop: Callable[[], bool] = lambda: False,
) -> Degradation | None:
    """Train all of them and write the report; None if it was asked to stop before the end.

    depths : layers of the encoder, its classifier counted as one: 6n + 2, two or more
    encoders : plain, highway, residual, dense

    Raises UsageError for a depth or an encoder that cannot be had, and what a training raises.
    """
    for depth in depths:
        if depth < 8 or (depth - 2) % 6:
            raise UsageError(
                "not a depth of this family", where="--depths", expected="6n + 2", got=depth
            )
    for encoder in encoders:
        if encoder not in _PER_BLOCK:
            raise UsageError(
                "not an encoder of any depth",
                where="--encoders",
                expected=", ".join(ENCODERS),
                got=encoder,
            )
    choices = {"depths": list(depths), "encoders": list(encoders)}
    laboratory = Laboratory("degradation", request, choices, listener)
    trials = [
        Trial({"encoder": encoder, "depth": str(depth)}, seed, _settings(encoder, depth))
        # Seeds outermost: whoever stops early has a whole comparison.
        for seed in range(request.seeds)
        for encoder in encoders
        for depth in sorted(depths)
    ]
    results = laboratory.run(trials, should_stop)
    if len(results) < len(trials):
        return None
    found = Degradation(tuple(results), conclusions(results))
    _write(laboratory, found)
    return found


def _settings(encoder: str, depth: int) -> Mapping[str, Any]:
    # 6n layers besides the first convolution and the classifier, a third of them per level.
    blocks = (depth - 2) // _LEVELS // _PER_BLOCK[encoder]
    return {"network.encoder": encoder, "network.blocks": (blocks,) * _LEVELS}


def _grouped(results: Sequence[Done]) -> dict[tuple[str, int], list[Done]]:
    groups: dict[tuple[str, int], list[Done]] = {}
    for done in results:
        factors = done.trial.factors
        groups.setdefault((factors["encoder"], int(factors["depth"])), []).append(done)
    return groups


def conclusions(results: Sequence[Done]) -> tuple[str, ...]:
    """One sentence per encoder: what depth does to the training loss.

    Depths are compared seed by seed: with the same seed they saw the same patches in the same
    order, and some orders are easier than others.
    """
    groups = _grouped(results)
    sentences = []
    for encoder in dict.fromkeys(name for name, _ in groups):
        depths = sorted(depth for name, depth in groups if name == encoder)
        for few, many in pairwise(depths):
            shallow = {d.trial.seed: d.loss for d in groups[encoder, few]}
            deep = {d.trial.seed: d.loss for d in groups[encoder, many]}
            gap = spread([deep[seed] - shallow[seed] for seed in shallow])
            sentences.append(f"{encoder}: {_sentence(few, many, gap)}")
    return tuple(sentences)


def _sentence(few: int, many: int, gap: Range) -> str:
    over = f"over {gap.defined} seeds" if gap.defined > 1 else "with one seed"
    numbers = f"{gap.mean:+.3f}, {gap.low:+.3f} to {gap.high:+.3f} {over}"
    compared = f"the training loss of {many} layers minus that of {few} is {numbers}"
    if gap.low > 0:
        return f"{compared}: the deeper network learns worse, which is degradation."
    if gap.high < 0:
        return f"{compared}: the deeper network learns better, no degradation."
    if gap.mean <= 0:
        return f"{compared}: the deeper network learns no worse, no degradation."
    return f"{compared}: nothing is shown."


def _write(laboratory: Laboratory, found: Degradation) -> None:
    groups = _grouped(found.results)
    rows = []
    for (encoder, depth), members in groups.items():
        loss, dice = spread([d.loss for d in members]), spread([d.dice for d in members])
        one = members[0]
        rows.append(
            (
                encoder,
                str(depth),
                f"{one.cost.parameters:,}",
                f"{one.cost.flops / 1e9:.2f}",
                f"{1000 * spread([d.seconds_per_step for d in members]).mean:.0f}",
                str(loss),
                str(dice),
            )
        )
    lines = {
        encoder: {
            f"{depth} layers": [(d.steps, d.losses) for d in members]
            for (name, depth), members in groups.items()
            if name == encoder
        }
        for encoder in dict.fromkeys(name for name, _ in groups)
    }
    table = Table(
        "Depth and short skips",
        ("encoder", "layers", "parameters", "GFLOP", "ms / step", "training loss", "Dice"),
        tuple(rows),
        "Means over the seeds, with the lowest and the highest. Training loss: over the last"
        " quarter of the steps. Dice: on cases that no network learned from. GFLOP: one patch,"
        " forward.",
    )
    figure = curves(laboratory.request.out, "losses", lines, ylabel="training loss")
    write_report(
        laboratory,
        found.results,
        Report(
            "Does depth hurt?",
            found.conclusion,
            (Section("Training loss", figure), Section("Numbers", table=table)),
        ),
    )
