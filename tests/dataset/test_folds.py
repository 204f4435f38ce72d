"""Folds: every case validates once, on every machine in the same fold."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.dataset.folds import (
    Fold,
    choose,
    make_folds,
    pick,
    read_folds,
    split_folds,
    write_folds,
)
from unetseg.errors import DataError, UsageError
from unetseg.records import Case, Split

NAMES = st.lists(st.text(min_size=1, max_size=5), unique=True, min_size=2, max_size=40)


def case(name: str, split: Split = "train", *, truth: bool = True) -> Case:
    return Case(name, (Path(f"{name}.png"),), Path("mask.png") if truth else None, split)


def cases(names: str) -> list[Case]:
    return [case(name) for name in names]


@settings(max_examples=50, deadline=None)
@given(names=NAMES, folds=st.integers(2, 12), seed=st.integers(0, 2**32), turn=st.randoms())
def test_every_case_once_in_folds_of_one_size(names, folds, seed, turn) -> None:
    made = split_folds([case(name) for name in names], folds, seed)
    assert len(made) == min(folds, len(names))
    assert sorted(name for fold in made for name in fold) == sorted(names)
    sizes = [len(fold) for fold in made]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    shuffled = [case(name) for name in names]
    turn.shuffle(shuffled)
    assert split_folds(shuffled, folds, seed) == made


def test_folds_are_the_same_for_ever() -> None:
    # Random(0) draws 0.84 0.76 0.42 0.26 0.51 for a to e, hence d c e b a, dealt out in turn.
    assert split_folds(cases("edbca"), 2, 0) == (("a", "d", "e"), ("b", "c"))


def test_another_seed_gives_other_folds() -> None:
    letters = cases("abcdefghijklmnop")
    assert split_folds(letters, 4, 0) != split_folds(letters, 4, 1)


@settings(max_examples=30, deadline=None)
@given(names=NAMES, folds=st.integers(2, 6))
def test_no_case_trains_and_validates(names, folds) -> None:
    for fold in make_folds([case(name) for name in names], folds, 0):
        assert set(fold.train) | set(fold.val) == set(names)
        assert not set(fold.train) & set(fold.val)
        assert fold.train
        assert fold.val


def test_validation_cases_of_the_data_set_are_kept() -> None:
    data = [*cases("ab"), case("v", "val"), case("t", "test"), case("s", "val", truth=False)]
    division = choose(data, 0, 5, 0)
    assert [each.name for each in division.train] == ["a", "b"]
    assert [each.name for each in division.val] == ["v"]
    assert division.reason == (
        "fold 0 of 1, counted from 0: 2 cases to train with, 1 to validate; "
        "the data set names its validation cases"
    )
    with pytest.raises(UsageError, match=r"no such fold \(expected 0 to 0, got 1\)"):
        choose(data, 1, 5, 0)


def test_test_cases_and_cases_without_mask_are_in_no_fold() -> None:
    data = [*cases("abcd"), case("t", "test"), case("u", truth=False)]
    for fold in range(4):
        division = choose(data, fold, 4, 0)
        assert sorted(each.name for each in (*division.train, *division.val)) == [*"abcd"]


def test_fewer_cases_than_folds() -> None:
    division = choose(cases("abc"), 2, 5, 0)
    assert (len(division.train), len(division.val)) == (2, 1)
    assert division.reason.endswith("; only 3 folds, not 5, for so few cases")
    assert "only" not in choose(cases("abcde"), 2, 5, 0).reason
    with pytest.raises(UsageError, match=r"no such fold \(expected 0 to 2, got 3\)"):
        choose(cases("abc"), 3, 5, 0)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        ([], "none"),
        (cases("a"), "a"),
        ([*cases("a"), case("u", truth=False), case("t", "test")], "a"),
    ],
)
def test_one_case_is_too_few(data: list[Case], got: str) -> None:
    message = rf"training needs at least 2 cases with a mask, .*\(got {got}\)"
    with pytest.raises(DataError, match=message):
        choose(data, 0, 5, 0)


def test_nothing_left_to_train() -> None:
    with pytest.raises(DataError, match="none is left to train"):
        choose([case("a", "val"), case("b", "val")], 0, 5, 0)


def test_one_fold_is_none() -> None:
    with pytest.raises(UsageError, match="too few folds"):
        split_folds(cases("abc"), 1, 0)


@pytest.mark.parametrize("name", ["a", "ä", "line\nbreak", "sub/a", "\udcff", '"'])
def test_folds_survive_the_file(tmp_path: Path, name: str) -> None:
    data = [*cases("xyz"), case(name)]
    folds = make_folds(data, 2, 3)
    write_folds(tmp_path / "folds.json", folds)
    assert read_folds(tmp_path / "folds.json", data) == folds
    assert pick(data, folds, 1) == pick(data, read_folds(tmp_path / "folds.json", data), 1)


def test_the_file_is_that_of_nnunet(tmp_path: Path) -> None:
    path = tmp_path / "splits_final.json"
    path.write_text('[{"train": ["a", "b"], "val": ["c"]}]')
    assert read_folds(path, cases("abcd")) == (Fold(("a", "b"), ("c",)),)
    write_folds(tmp_path / "folds.json", [Fold(("a", "b"), ("c",))])
    assert json.loads((tmp_path / "folds.json").read_text()) == json.loads(path.read_text())


def test_vanished_cases_are_named(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    write_folds(path, make_folds(cases("abcd"), 2, 0))
    left = [*cases("ab"), case("c", "test"), case("d", truth=False)]
    with pytest.raises(
        DataError, match=r"folds\.json: 2 cases of the folds not among .*: [cd], [cd]"
    ):
        read_folds(path, left)
    with pytest.raises(DataError, match="1 case of the folds not among"):
        pick(cases("abc"), [Fold(("a", "b"), ("gone",))], 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON in line 1, column 1"),
        ("{}", "not a list of folds"),
        ("[]", "not a list of folds"),
        ("[3]", "not a list of folds"),
        ('[{"train": ["a"]}]', "not a list of folds"),
        ('[{"train": ["a"], "val": []}]', "not a list of folds"),
        ('[{"train": ["a"], "val": [2]}]', "not a list of folds"),
        ('[{"train": ["a", "b"], "val": ["b"]}]', "1 case named twice in one fold: b"),
    ],
)
def test_a_file_that_holds_no_folds(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "folds.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_folds(path, cases("abc"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_folds(tmp_path / "folds.json", cases("abc"))
