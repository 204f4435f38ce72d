"""Which rules make the best objects of what a network says: tried out on the validation cases."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from unetseg.config import RULES, DecodePlan, Plan
from unetseg.dataset.listing import counted
from unetseg.errors import DataError
from unetseg.geometry import Geometry
from unetseg.objects.decoding import Rules
from unetseg.records import Advance, Listener, Stage
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import Indices, voxel_size
from unetseg.training.scores import AveragePrecision, Row, TrueObjects, found_objects

# What is tried, rule by rule, in this order: time may not suffice for the last ones.
_TRIED: dict[str, tuple[float, ...]] = {
    "contrast": (0.03, 0.06, 0.1, 0.15, 0.2, 0.3),
    "smoothing": (0.0, 0.5, 1.0, 2.0),
    "foreground": (0.3, 0.4, 0.5, 0.6, 0.7),
    "min_size": (),
    "seed_depth": (0.1, 0.2, 0.3, 0.4, 0.5),
    "seed_centre": (0.1, 0.2, 0.3, 0.4, 0.5),
}
# Of min_size, as shares of the median true object.
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)
_ROUNDS = 2
# A rise of less than this is noise of the last digit that is printed.
_RISE = 1e-4
# Voxels on which rules are tried, of all cases and of one: enough for thousands of objects, little
# enough for seconds.
_VOXELS, _CASE_VOXELS = 1 << 23, 1 << 16
# How many trials the time has to suffice for.
_TRIALS = 20


@dataclass(frozen=True, eq=False)
class Coded:
    """What a network says of a case, and the truth."""

    codes: Indices
    truth: TrueObjects
    geometry: Geometry


def cropped(codes: Indices, truth: TrueObjects, geometry: Geometry) -> Coded:
    """The case, or the middle of it if it is very large."""
    shrink = min(1.0, (_CASE_VOXELS / codes.size) ** (1 / codes.ndim))
    sizes = [max(1, int(n * shrink)) if shrink < 1 else n for n in codes.shape]
    start = [(n - size) // 2 for n, size in zip(codes.shape, sizes, strict=True)]
    stop = [a + size for a, size in zip(start, sizes, strict=True)]
    box = tuple(map(slice, start, stop))
    ignored = None if truth.ignored is None else truth.ignored[box]
    own = TrueObjects(truth.ids[box], ignored, truth.classes)
    return Coded(np.array(codes[box]), own, geometry.crop(start, stop))


@dataclass(frozen=True)
class Tuned:
    """The section decode with the rules that were found, each of them a number.

    changed : by key, what it would have been and what it is
    before, after : mean AP on what the rules were tried on
    cases : how many that is
    """

    decode: DecodePlan
    changed: Mapping[str, tuple[float, float]]
    before: float
    after: float
    cases: int

    def sentence(self) -> str:
        """All of it in one line."""
        made = ", ".join(f"{key} {old:g} -> {new:g}" for key, (old, new) in self.changed.items())
        return (
            f"rules for objects, tried on {counted(self.cases, 'validation case')}:"
            f" {made or 'the usual ones'}; mean AP {self.before:.4f} -> {self.after:.4f}"
        )


def tune(
    plan: Plan,
    cases: Iterable[Coded],
    listener: Listener,
    *,
    seconds: float | None = None,
    workers: int = 1,
) -> Tuned:
    """Find the rules that the plan leaves open, one after the other and twice round.

    cases : read until they suffice, or take too long
    seconds : in which to be done; without, no clock has a say in what is found
    """
    begun = perf_counter()
    usual = with_usual(plan)
    search = _Search(plan, usual, workers)
    for case in cases:
        search.add(case)
        is_slow = seconds is not None and search.seconds * _TRIALS > seconds * workers
        if search.voxels >= _VOXELS or is_slow:
            break
    before = search.score(usual)
    best = usual
    if not np.isnan(before):
        sizes = _sizes(plan, search.cases)
        listener(Stage("looking for rules", _ROUNDS * len(_TRIED)))
        for _ in range(_ROUNDS):
            for key in _TRIED:
                for trial in _trials(plan, best, key, sizes):
                    if seconds is not None and perf_counter() - begun > seconds:
                        break
                    if search.score(trial) > search.score(best) + _RISE:
                        best = trial
                listener(Advance(key))
    changed = {
        key: (_number(usual, key), _number(best, key))
        for key in (*RULES, "min_size")
        if _number(usual, key) != _number(best, key)
    }
    return Tuned(best, changed, before, search.score(best), len(search.cases))


def middle(decodes: Sequence[DecodePlan]) -> DecodePlan:
    """For an ensemble: the median of what was found for each of its networks."""
    found: dict[str, Any] = {
        key: float(np.median([_number(decode, key) for decode in decodes]))
        for key in (*RULES, "min_size")
    }
    return replace(decodes[0], **found | {"min_size": (found["min_size"],)})


def with_usual(plan: Plan) -> DecodePlan:
    """The plan's section decode with the usual rules where it leaves them open."""
    usual = Rules()
    given = {
        key: getattr(usual, key) if getattr(plan.decode, key) is None else getattr(plan.decode, key)
        for key in RULES
        if key != "smoothing"
    }
    return replace(plan.decode, smoothing=plan.decode.smoothing or 0.0, **given)


@dataclass(eq=False)
class _Search:
    """What is known of each way to decode; nothing is worked out twice.

    seconds : that the usual rules took
    """

    plan: Plan
    usual: DecodePlan
    workers: int
    cases: list[Coded] = field(default_factory=list)
    voxels: int = 0
    seconds: float = 0.0
    _scores: dict[DecodePlan, float] = field(default_factory=dict)

    def add(self, case: Coded) -> None:
        begun = perf_counter()
        self._rows(self.usual, [case])
        self.cases.append(case)
        self.voxels += case.codes.size
        self.seconds += perf_counter() - begun

    def score(self, decode: DecodePlan) -> float:
        """Mean AP of all cases together."""
        if decode not in self._scores:
            values = AveragePrecision().values(self._rows(decode, self.cases))
            self._scores[decode] = float(np.mean(values))
        return self._scores[decode]

    def _rows(self, decode: DecodePlan, cases: Sequence[Coded]) -> list[Row]:
        task = make_task(replace(self.plan, decode=decode))

        def row(case: Coded) -> Row:
            return found_objects(case.truth, task.mask(case.codes, case.geometry))

        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            return list(pool.map(row, cases))


def _trials(plan: Plan, best: DecodePlan, key: str, sizes: Sequence[float]) -> Iterator[DecodePlan]:
    """The best so far with other values of one rule, if the plan leaves it open."""
    if key == "min_size":
        if not plan.decode.min_size:
            yield from (replace(best, min_size=(size,)) for size in sizes)
    elif getattr(plan.decode, key) is None:
        for value in _TRIED[key]:
            change: dict[str, Any] = {key: value}
            yield replace(best, **change)


def _number(decode: DecodePlan, key: str) -> float:
    value = getattr(decode, key)
    return float(min(value, default=0.0) if key == "min_size" else value)


def _sizes(plan: Plan, cases: Sequence[Coded]) -> list[float]:
    """Least sizes to try, ascending; none if a scan does not say how large its voxels are."""
    sizes = []
    for case in cases:
        try:
            voxel = voxel_size(case.geometry, plan.data.unit)
        except DataError:
            return []
        counts = np.unique(case.truth.ids[case.truth.ids != 0], return_counts=True)[1]
        sizes.append(counts * voxel)
    median = float(np.median(np.concatenate(sizes)))
    # Three digits are enough for a person to read.
    return sorted({float(f"{share * median:.3g}") for share in _SHARES})
