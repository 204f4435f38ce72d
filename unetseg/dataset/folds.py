"""Which cases train and which validate: by the data set's own split, else by folds."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
    """The names that validate in each fold: every case once, sizes that differ by one at most.

    The same names and seed give the same folds on every machine, in whatever order the cases
    come. Fewer folds than asked for are made of fewer cases.

    Raises UsageError if fewer than 2 folds are asked for, DataError if there are not 2 cases.
    """
    if folds < 2:
        raise UsageError("too few folds", expected="2 or more", got=folds)
    if len(cases) < 2:
        raise _too_few(cases)
    # Of all seeded draws, Python's manual promises only random() to stay the same for ever.
    draw = Random(seed)
    names = sorted(sorted(case.name for case in cases), key=lambda _: draw.random())
    count = min(folds, len(names))
    return tuple(tuple(sorted(names[first::count], key=natural)) for first in range(count))


def make_folds(cases: Sequence[Case], folds: int, seed: int) -> tuple[Fold, ...]:
    """All folds, or the only one if cases are set apart as "val".

    Cases without truth and test cases are in none. Raises as `split_folds` does.
    """
    usable = _usable(cases)
    names = sorted((case.name for case in usable), key=natural)
    apart = {case.name for case in usable if case.split == "val"}
    if apart:
        if len(apart) == len(names):
            raise DataError(
                "all cases with a mask are set apart for validation, none is left to train",
                hint="move some to the training split",
            )
        vals: Sequence[Sequence[str]] = [sorted(apart, key=natural)]
    else:
        vals = split_folds(usable, folds, seed)
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
    if any(case.split == "val" for case in _usable(cases)):
        why = "the data set names its validation cases"
    else:
        why = f"only {len(made)} folds, not {folds}, for so few cases"
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

    Raises DataError if a case of the fold has vanished, UsageError if there is no such fold.
    """
    if not 0 <= fold < len(folds):
        raise UsageError("no such fold", expected=f"0 to {len(folds) - 1}", got=fold)
    by_name = {case.name: case for case in _usable(cases)}
    _check_present(folds[fold], by_name)
    train = tuple(by_name[name] for name in folds[fold].train)
    val = tuple(by_name[name] for name in folds[fold].val)
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
    by_name = {case.name: case for case in _usable(cases)}
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


def _usable(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.truth is not None and case.split != "test"]


def _too_few(cases: Sequence[Case]) -> DataError:
    return DataError(
        "training needs at least 2 cases with a mask, one to learn from and one to validate",
        got=some(case.name for case in cases) or "none",
        hint="add cases, or cut a large scan and its mask into several",
    )
