"""Which cases train and which validate: by the data set's own split, else by folds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product
from pathlib import Path
from random import Random

from unetseg.dataset.descriptions import read_json
from unetseg.dataset.listing import counted, natural, some
from unetseg.errors import DataError, UsageError
from unetseg.files import write_text
from unetseg.records import Case

FOLDS = "folds.json"


@dataclass(frozen=True)
class Fold:
    """The names of the cases that train and of those that validate."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Division:
    """The cases of one fold, and one sentence that says how they were chosen."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    reason: str


def split_folds(cases: Sequence[Case], folds: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """The names that validate in each fold: every case once, the cases of a group in one fold.

    Without groups, sizes differ by one at most; with them, the sizes of no two folds would come
    closer if a group moved from one to the other or two groups changed places.

    The same names, groups and seed give the same folds on every machine, in whatever order the
    cases come. Fewer folds than asked for are made of fewer cases or groups.

    Raises UsageError if fewer than 2 folds are asked for, DataError if there are not 2 cases or
    not 2 groups.
    """
    if folds < 2:
        raise UsageError("too few folds", expected="2 or more", got=folds)
    if len(cases) < 2:
        raise _too_few(cases)
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.name if case.group is None else case.group, []).append(case.name)
    if len(groups) < 2:
        raise DataError(
            "all cases are of one group, none is left to validate",
            where="training.group",
            got=some(groups),
            hint="add cases of another group, or group them otherwise",
        )
    # Of all seeded draws, Python's manual promises only random() to stay the same for ever.
    draw = Random(seed)
    order = sorted(sorted(groups), key=lambda _: draw.random())
    sizes = {group: len(names) for group, names in groups.items()}
    dealt: list[list[str]] = [[] for _ in range(min(folds, len(groups)))]
    totals = [0] * len(dealt)
    # The largest first, each to the smallest fold so far: what is left over is small.
    for group in sorted(order, key=lambda group: -sizes[group]):
        smallest = totals.index(min(totals))
        dealt[smallest].append(group)
        totals[smallest] += sizes[group]
    while _levelled(dealt, sizes):
        pass
    return tuple(
        tuple(sorted((name for group in fold for name in groups[group]), key=natural))
        for fold in dealt
    )


def _levelled(folds: Sequence[list[str]], sizes: Mapping[str, int]) -> bool:
    """Let two groups of two folds change places if that brings their sizes closer."""
    totals = [sum(sizes[group] for group in fold) for fold in folds]
    # Of groups of one size, any will do.
    places = [{sizes[group]: place for place, group in enumerate(fold)} for fold in folds]
    for one, other in combinations(range(len(folds)), 2):
        apart = totals[one] - totals[other]
        for mine, theirs in product(places[one], places[other]):
            if abs(apart - 2 * (mine - theirs)) < abs(apart):
                i, j = places[one][mine], places[other][theirs]
                folds[one][i], folds[other][j] = folds[other][j], folds[one][i]
                return True
    return False


def make_folds(cases: Sequence[Case], folds: int, seed: int) -> tuple[Fold, ...]:
    """All folds, or the only one if cases are set apart as "val".

    Cases without truth and test cases are in none. Raises as `split_folds` does.
    """
    whole = usable(cases)
    names = sorted((case.name for case in whole), key=natural)
    apart = {case.name for case in whole if case.split == "val"}
    if apart:
        if len(apart) == len(names):
            raise DataError(
                "all cases with a mask are set apart for validation, none is left to train",
                hint="move some to the training split",
            )
        vals: Sequence[Sequence[str]] = [sorted(apart, key=natural)]
    else:
        vals = split_folds(whole, folds, seed)
    return tuple(
        Fold(tuple(name for name in names if name not in held), tuple(val))
        for val in vals
        for held in [set(val)]
    )


def choose(cases: Sequence[Case], fold: int, folds: int, seed: int) -> Division:
    """The cases of fold number `fold`, counted from 0, of as many as `make_folds` makes.

    Raises DataError if fewer than 2 cases have a mask, UsageError if there is no such fold.
    """
    made = make_folds(cases, folds, seed)
    division = pick(cases, made, fold)
    if len(made) == folds:
        return division
    if any(case.split == "val" for case in usable(cases)):
        why = "the data set names its validation cases"
    else:
        what = "groups" if any(case.group is not None for case in cases) else "cases"
        why = f"only {len(made)} folds, not {folds}, for so few {what}"
    return replace(division, reason=f"{division.reason}; {why}")


def divide(run: Path, cases: Sequence[Case], fold: int, folds: int, seed: int) -> Division:
    """The cases of a fold as the run folder has them, or as they are chosen if it has none yet.

    Raises as `read_folds` and `pick`, or as `choose` does.
    """
    path = run / FOLDS
    if path.is_file():
        return pick(cases, read_folds(path, cases), fold)
    return choose(cases, fold, folds, seed)


def pick(cases: Sequence[Case], folds: Sequence[Fold], fold: int) -> Division:
    """The cases of fold number `fold`, counted from 0, of folds that were made before.

    Raises DataError if a case of the fold has vanished or a group would both train and validate,
    UsageError if there is no such fold.
    """
    if not 0 <= fold < len(folds):
        raise UsageError("no such fold", expected=f"0 to {len(folds) - 1}", got=fold)
    by_name = {case.name: case for case in usable(cases)}
    _check_present(folds[fold], by_name)
    train = tuple(by_name[name] for name in folds[fold].train)
    val = tuple(by_name[name] for name in folds[fold].val)
    torn = {case.group for case in train if case.group is not None} & {c.group for c in val}
    if torn:
        raise DataError(
            f"{counted(len(torn), 'group')} in both the training and the validation cases:"
            f" {some(sorted(filter(None, torn)))}",
            where="training.group",
            hint="the split was made without groups: change it, or train into another folder",
        )
    reason = (
        f"fold {fold} of {len(folds)}, counted from 0: "
        f"{counted(len(train), 'case')} to train with, {len(val)} to validate"
    )
    return Division(train, val, reason)


def write_folds(path: Path, folds: Sequence[Fold]) -> None:
    """Write a JSON list with the names that train and validate in each fold.

    nnU-Net's splits_final.json has the same form. Raises DataError if the file cannot be written.
    """
    write_text(path, json.dumps([asdict(fold) for fold in folds], indent=1) + "\n")


def read_folds(path: Path, cases: Sequence[Case]) -> tuple[Fold, ...]:
    """Read what `write_folds` wrote, or nnU-Net's splits_final.json.

    Raises DataError if it is no such file, a case in it is not among `cases` (with a mask, not
    for testing), or a case would both train and validate in one fold.
    """
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise _not_folds(path)
    folds = tuple(_fold(entry, path) for entry in content)
    by_name = {case.name: case for case in usable(cases)}
    for fold in folds:
        try:
            _check_present(fold, by_name)
        except DataError as error:
            raise DataError(error.what, where=path, hint=error.hint) from error
    return folds


def _fold(entry: object, path: Path) -> Fold:
    names = [entry.get(key) for key in ("train", "val")] if isinstance(entry, dict) else []
    lists = [each for each in names if isinstance(each, list) and each]
    if len(lists) != 2 or not all(isinstance(name, str) for each in lists for name in each):
        raise _not_folds(path)
    twice = [name for name, times in Counter(lists[0] + lists[1]).items() if times > 1]
    if twice:
        raise DataError(
            f"{counted(len(twice), 'case')} named twice in one fold: {some(twice)}",
            where=path,
            hint="a case may train or validate, once",
        )
    return Fold(tuple(lists[0]), tuple(lists[1]))


def _not_folds(path: Path) -> DataError:
    return DataError(
        "not a list of folds",
        where=path,
        expected='[{"train": [names], "val": [names]}, ...], no list empty',
        hint="remove the file to have new folds made",
    )


def _check_present(fold: Fold, by_name: Mapping[str, Case]) -> None:
    gone = [name for name in (*fold.train, *fold.val) if name not in by_name]
    if gone:
        raise DataError(
            f"{counted(len(gone), 'case')} of the folds not among the cases with a mask: "
            f"{some(gone)}",
            hint="bring the files back, or remove the folds to have new ones made",
        )


def usable(cases: Sequence[Case]) -> list[Case]:
    """The cases that training may use: with truth, and not set apart for testing."""
    return [case for case in cases if case.truth is not None and case.split != "test"]


def _too_few(cases: Sequence[Case]) -> DataError:
    return DataError(
        "training needs at least 2 cases with a mask, one to learn from and one to validate",
        got=some(case.name for case in cases) or "none",
        hint="add cases, or cut a large scan and its mask into several",
    )
