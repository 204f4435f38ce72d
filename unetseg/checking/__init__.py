"""Everything about a data set that can be known before training, as findings.

Each module asks one kind of question of the looks at the cases; docs/check.md lists the kinds.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.checking.agreement import agreement, on_agreement
from unetseg.checking.copies import on_copies
from unetseg.checking.estimates import Estimates, estimates, on_estimates
from unetseg.checking.labels import on_labels
from unetseg.checking.leaks import on_leaks
from unetseg.checking.looks import CaseLook, Looks, look_at
from unetseg.checking.orientation import on_orientation
from unetseg.checking.outliers import on_outliers
from unetseg.checking.values import on_values
from unetseg.config import Plan
from unetseg.dataset import Dataset
from unetseg.dataset.folds import make_folds, usable
from unetseg.dataset.groups import with_groups
from unetseg.dataset.loading import load_scan
from unetseg.dataset.views import of_set
from unetseg.errors import DataError, UnetsegError
from unetseg.planning.fingerprint import Inspection
from unetseg.planning.remarks import failure
from unetseg.records import (
    AS_IT_IS,
    Advance,
    Case,
    Finding,
    Listener,
    Machine,
    Scan,
    Stage,
    View,
    ignore_event,
)

__all__ = ["Asked", "Checked", "Looks", "checked"]

# Of more cases, each is compared with a share of them: memory does not grow without end.
_MOST_COMPARED = 1500


@dataclass(frozen=True)
class Checked:
    """What a check has found.

    findings : of the folder, the cases and the set; errors first
    learned, others : looks at the cases that train and validate, and at all other images
    plan, estimates : None if the data allow no plan
    """

    inspection: Inspection
    findings: tuple[Finding, ...]
    learned: tuple[CaseLook, ...]
    others: tuple[CaseLook, ...]
    plan: Plan | None
    estimates: Estimates | None

    @property
    def has_errors(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class Asked:
    """What is checked.

    looks : was the `look` of the inspection `found`
    plan : for these data on this machine; None if the data allow none
    cache : where prepared cases would lie
    view : how the files are to be read, where a person says so
    look_other : sees each of the images that no training reads
    """

    looks: Looks
    dataset: Dataset
    found: Inspection
    machine: Machine
    plan: Plan | None
    cache: Path
    view: View = AS_IT_IS
    look_other: Callable[[Case, Scan], None] | None = None


def checked(asked: Asked, listener: Listener = ignore_event) -> Checked:
    """Everything that can be said of a data set."""
    found, plan = asked.found, asked.plan
    others, unread = _look_at_rest(asked, listener)
    learned = asked.looks.of(found.cases)
    more = list(_findings(learned, others, found, plan))
    needed = None
    if plan is not None:
        needed = estimates(plan, found.fingerprint, asked.machine, asked.cache)
        more += on_estimates(needed)
    order = {"error": 0, "warning": 1, "note": 2}
    findings = sorted((*found.findings, *unread, *more), key=lambda each: order[each.severity])
    return Checked(found, tuple(findings), learned, others, plan, needed)


def _look_at_rest(
    asked: Asked, listener: Listener
) -> tuple[tuple[CaseLook, ...], tuple[Finding, ...]]:
    """The images that no training reads: test images, and those without a mask."""
    learned = usable(asked.dataset.cases)
    known, taken = {case.images for case in learned}, {case.name for case in learned}
    unmasked = of_set(replace(asked.dataset, cases=asked.dataset.unmasked), asked.view)[0].cases
    rest = []
    for case in (*asked.dataset.cases, *unmasked):
        if case.images in known:
            continue
        # Names are distinct only within what is trained on, and within each folder of the others.
        short = case.name.rpartition("/")[2]
        names = (short, case.name, str(case.images[0]))
        name = next(each for each in names if each not in taken or each == names[-1])
        taken.add(name)
        rest.append(replace(case, name=name))

    def one(case: Case) -> CaseLook | Finding:
        try:
            scan = load_scan(case)
        except UnetsegError as error:
            return failure(replace(case, truth=None), error, is_left_out=True)
        if asked.look_other is not None:
            asked.look_other(case, scan)
        return look_at(case, scan)

    if rest:
        listener(Stage("looking at the other images", len(rest)))
    outcomes = []
    with ThreadPoolExecutor(max(1, asked.machine.cores)) as pool:
        for outcome in pool.map(one, rest):
            listener(Advance())
            outcomes.append(outcome)
    looks = tuple(each for each in outcomes if isinstance(each, CaseLook))
    return looks, tuple(each for each in outcomes if isinstance(each, Finding))


def _findings(
    learned: Sequence[CaseLook], others: Sequence[CaseLook], found: Inspection, plan: Plan | None
) -> Iterator[Finding]:
    looks = (*learned, *others)
    parts = _parts(others, found, plan)
    yield from on_copies(looks, parts)
    yield from on_leaks(_grouped(looks, plan), parts)
    values = list(on_values(looks))
    yield from values
    yield from on_outliers(looks)
    # What is no image, and what is another kind of image, says nothing of directions.
    settled = {name for each in values if each.kind == "flat" for name in each.cases}
    for axes, channels in sorted({(len(each.shape), len(each.image)) for each in learned}):
        alike = [
            look
            for look in learned
            if (len(look.shape), len(look.image)) == (axes, channels) and look.name not in settled
        ]
        parted = -(-len(alike) // _MOST_COMPARED)
        for start in range(parted):
            yield from _compared(alike[start::parted])
    yield from on_labels(learned, found.fingerprint)


def _compared(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """What a case is among others of its kind."""
    turned = list(on_orientation(looks))
    yield from turned
    told = {name for each in turned for name in each.cases}
    agreed = agreement([look for look in looks if look.name not in told])
    if agreed is not None:
        yield from on_agreement(agreed)


def _grouped(looks: Sequence[CaseLook], plan: Plan | None) -> tuple[Case, ...]:
    cases = tuple(look.case for look in looks)
    if plan is None or plan.training.group is None:
        return cases
    try:
        return with_groups(cases, plan.training.group)
    except UnetsegError:
        # The names of the others need not have groups.
        return cases


def _parts(others: Sequence[CaseLook], found: Inspection, plan: Plan | None) -> dict[str, str]:
    """What each case is for."""
    parts = {
        look.name: "test" if look.case.split == "test" else "the images without a mask"
        for look in others
    }
    if any(case.split == "val" for case in found.cases):
        return parts | {case.name: case.split for case in found.cases}
    parts |= {case.name: "train" for case in found.cases}
    if plan is not None:
        try:
            folds = make_folds(found.cases, plan.training.folds, plan.training.seed)
        except DataError:
            return parts
        parts |= {name: f"fold {k}" for k, fold in enumerate(folds) for name in fold.val}
    return parts
