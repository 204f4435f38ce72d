"""Groups: what belongs together stays in one fold, and the folds are of one size all the same."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.dataset import find_cases
from unetseg.dataset.folds import choose, make_folds, read_folds, split_folds, write_folds
from unetseg.dataset.groups import with_groups
from unetseg.errors import DataError, UsageError
from unetseg.records import Case


def case(name: str, group: str | None = None, **more: object) -> Case:
    return replace(Case(name, (Path(f"{name}.png"),), Path("mask.png"), group=group), **more)


def of_sizes(sizes: list[int]) -> list[Case]:
    """Group g0 with as many cases as the first number says, and so on."""
    return [case(f"c{g}_{n}", f"g{g}") for g, size in enumerate(sizes) for n in range(size)]


def group_sizes(made: tuple[tuple[str, ...], ...]) -> list[dict[str, int]]:
    """Per fold, its groups with their sizes."""
    return [Counter(name.partition("_")[0] for name in fold) for fold in made]


SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=12)


@settings(max_examples=80, deadline=None)
@given(sizes=SIZES, folds=st.integers(2, 6), seed=st.integers(0, 99), turn=st.randoms())
def test_every_case_once_and_no_group_in_two_folds(sizes, folds, seed, turn) -> None:
    cases = of_sizes(sizes)
    made = split_folds(cases, folds, seed)
    assert len(made) == min(folds, len(sizes))
    assert sorted(name for fold in made for name in fold) == sorted(c.name for c in cases)
    groups = [set(each) for each in group_sizes(made)]
    assert all(not one & other for one, other in combinations(groups, 2))
    assert all(made)
    shuffled = list(cases)
    turn.shuffle(shuffled)
    assert split_folds(shuffled, folds, seed) == made


@settings(max_examples=80, deadline=None)
@given(sizes=SIZES, folds=st.integers(2, 6))
def test_no_move_and_no_exchange_would_bring_two_folds_closer(sizes, folds) -> None:
    contents = [
        sorted(each.values()) for each in group_sizes(split_folds(of_sizes(sizes), folds, 0))
    ]
    for one, other in combinations(contents, 2):
        apart = abs(sum(one) - sum(other))
        for mine, theirs in product([0, *one], [0, *other]):
            assert abs(sum(one) - sum(other) - 2 * (mine - theirs)) >= apart


def test_sizes_that_dealing_alone_would_not_level() -> None:
    # The largest first gives 3 2 2 | 3 2; exchanged, it is 2 2 2 | 3 3.
    made = split_folds(of_sizes([3, 3, 2, 2, 2]), 2, 0)
    assert sorted(map(len, made)) == [6, 6]


def test_without_groups_folds_are_what_they_were() -> None:
    # The golden folds of test_folds.py, and the same with each case in a group of its own.
    plain = [case(name) for name in "abcde"]
    assert split_folds(plain, 2, 0) == (("a", "d", "e"), ("b", "c"))
    alone = [case(name, name) for name in "abcde"]
    assert split_folds(alone, 2, 0) == split_folds(plain, 2, 0)
    together = [case(name, "x" if name in "ab" else name) for name in "abcde"]
    assert split_folds(together, 2, 0) != split_folds(plain, 2, 0)


def test_thousands_of_cases_are_divided_at_once() -> None:
    made = split_folds([case(f"c{n}", f"g{n % 1500}") for n in range(9_000)], 5, 0)
    assert max(map(len, made)) - min(map(len, made)) <= 1


def test_fewer_groups_than_folds() -> None:
    division = choose(of_sizes([2, 1, 1]), 0, 5, 0)
    assert division.reason.endswith("only 3 folds, not 5, for so few groups")


def test_one_group_is_too_few() -> None:
    with pytest.raises(DataError, match=r"training\.group: all cases are of one group.*got g0"):
        make_folds(of_sizes([4]), 2, 0)


def test_a_split_that_tears_a_group_apart_is_refused(tmp_path: Path) -> None:
    cases = of_sizes([2, 2])
    apart = [replace(cases[0], split="val"), *cases[1:]]
    with pytest.raises(DataError, match=r"1 group in both the training and the .*: g0"):
        choose(apart, 0, 5, 0)
    whole = [replace(each, split="val") if each.group == "g0" else each for each in cases]
    assert {each.group for each in choose(whole, 0, 5, 0).val} == {"g0"}
    path = tmp_path / "folds.json"
    write_folds(path, make_folds([replace(each, group=None) for each in cases], 4, 0))
    assert len(read_folds(path, cases)) == 4


# --- what a group is ---


def named(*names: str) -> list[Case]:
    return [case(name) for name in names]


def test_an_expression_is_searched_in_the_names() -> None:
    grouped = with_groups(named("p01_a", "p01_b", "x/p2_a"), "(p[0-9]+)_")
    assert [each.group for each in grouped] == ["p01", "p01", "p2"]
    assert with_groups(named("p01_a"), None)[0].group is None


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("(p[0-9", r"training\.group: not a regular expression: .*got \(p\[0-9"),
        ("p[0-9]+", r"not a regular expression with one group \(expected such as"),
        ("(p)([0-9]+)", r"not a regular expression with one group"),
    ],
)
def test_what_is_no_expression_with_one_group(group: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_groups(named("p1_a"), group)


@pytest.mark.parametrize("group", ["^(p[0-9]+)_", "^(p[0-9]+)?"])
def test_a_name_without_a_group_is_told(group: str) -> None:
    with pytest.raises(DataError, match=r"finds no group for 2 cases: q1_a, q2_a; let it match"):
        with_groups(named("p1_a", "q1_a", "q2_a"), group)


def table(folder: Path, text: str) -> Path:
    for name in "abcd":
        for end in ("", "_mask"):
            (folder / f"{name}{end}.png").write_bytes(b"x")
    path = folder / "list.csv"
    path.write_text(text)
    return path


ROWS = (
    "image,label,Patient,Site\na.png,a_mask.png,p1,x\nb.png,b_mask.png,p2,x\nc.png,c_mask.png,p1,\n"
)


@pytest.mark.parametrize("column", ["Patient", "patient", " PATIENT "])
def test_a_column_of_the_list_groups_its_cases(tmp_path: Path, column: str) -> None:
    cases = find_cases(table(tmp_path, ROWS)).cases
    assert cases[0].columns == (("Patient", "p1"), ("Site", "x"))
    assert [each.group for each in with_groups(cases, column)] == ["p1", "p2", "p1"]
    # What is no column is an expression all the same.
    assert [each.group for each in with_groups(cases, "([abc])")] == ["a", "b", "c"]


def test_a_list_without_that_column_names_those_it_has(tmp_path: Path) -> None:
    cases = find_cases(table(tmp_path, ROWS)).cases
    with pytest.raises(
        UsageError,
        match=r"neither a column .*one of the columns Patient, Site, got patent\); did you mean",
    ):
        with_groups(cases, "patent")


def test_an_empty_cell_is_told(tmp_path: Path) -> None:
    cases = find_cases(table(tmp_path, ROWS)).cases
    with pytest.raises(DataError, match=r"the column Site is empty for 1 case: c; fill it"):
        with_groups(cases, "site")


def test_files_and_splits_are_no_columns_to_group_by(tmp_path: Path) -> None:
    text = "image,label,split,\na.png,a_mask.png,train,1\nb.png,b_mask.png,val,2\n"
    assert {each.columns for each in find_cases(table(tmp_path, text)).cases} == {()}
