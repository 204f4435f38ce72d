"""Patients by the names of their files."""

from pathlib import Path

import pytest

from unetseg.checking.leaks import on_leaks
from unetseg.records import Case


def told(names: dict[str, str], group: dict[str, str] | None = None) -> list[str]:
    cases = [Case(n, (Path(f"{n}.png"),), Path("m"), group=(group or {}).get(n)) for n in names]
    return [finding.sentence for finding in on_leaks(cases, names)]


@pytest.mark.parametrize(
    ("names", "patient"),
    [
        ({"sub-01_ses-1": "train", "sub-01_ses-2": "val", "sub-02_ses-1": "val"}, "sub01"),
        ({"Patient_7_a": "train", "patient7_b": "test", "x": "train"}, "patient7"),
        ({"TCGA-AB-1234-01": "fold 0", "TCGA-AB-1234-02": "fold 1"}, "tcgaab1234"),
        ({"a1_x": "train", "a1_y": "val", "a2_x": "train", "a3_x": "train"}, "a1"),
    ],
)
def test_a_patient_in_two_parts(names: dict[str, str], patient: str) -> None:
    (sentence,) = told(names)
    assert f" {patient} is in several parts" in sentence


@pytest.mark.parametrize(
    "names",
    [
        {"sub-01_a": "train", "sub-01_b": "train", "sub-02_a": "val"},
        {f"hippocampus_{k:03}": f"fold {k % 5}" for k in range(20)},
        {f"film_{k:04}": f"fold {k % 5}" for k in range(20)},
        {f"2020_image_{k}": f"fold {k % 5}" for k in range(20)},
        {f"{k:04x}d059ba7f": f"fold {k % 5}" for k in range(20)},
    ],
    ids=["in one part", "one each", "frames of one film", "a date", "hashes"],
)
def test_no_patient_in_two_parts(names: dict[str, str]) -> None:
    assert told(names) == []


def test_groups_that_were_given_count() -> None:
    names = {"sub-01_a": "train", "sub-01_b": "val"}
    assert told(names, {"sub-01_a": "x", "sub-01_b": "y"}) == []
    assert told({"a": "train", "b": "test"}, {"a": "x", "b": "x"}) == [
        "the group x is in several parts: a (train), b (test)"
    ]


def test_the_hint_is_an_option_that_works() -> None:
    names = {f"slide{k}_{part}": f"fold {k + part}" for k in range(4) for part in range(2)}
    cases = [Case(name, (Path(name),), Path("m")) for name in names]
    hint = next(on_leaks(cases, names)).hint
    assert hint.startswith("if it is one, keep its images together by --group '")
    from unetseg.dataset.groups import with_groups

    groups = [case.group for case in with_groups(cases, hint.partition("'")[2].rstrip("'"))]
    assert groups == [f"slide{k}" for k in range(4) for part in range(2)]


def test_many_are_told_in_one_sentence() -> None:
    names = {f"sub-{k}_{part}": f"fold {part}" for k in range(9) for part in range(2)}
    (sentence,) = told(names)
    assert sentence.startswith("9 times what looks like the patient is in several parts")
