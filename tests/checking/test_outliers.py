"""What stands apart from the rest, and what only is the largest."""

import numpy as np
import pytest

from unetseg.checking.outliers import isolated, times


def apart(values: list[float], factor: float = 2.0) -> list[int]:
    return [index for index, _ in isolated(np.log(values), factor)]


def test_one_that_no_other_is_near_to() -> None:
    values = [10.0, 11, 12, 13, 14, 15, 16, 17, 18]
    assert apart(values) == []
    assert apart([*values, 50.0]) == [9]
    assert apart([1.0, *values]) == [0]
    assert isolated(np.log([*values, 54.0]), 2.0)[0][1] == pytest.approx(3.0)


def test_the_gap_counts_not_the_distance_from_the_middle() -> None:
    assert apart([10.0 * 1.5**k for k in range(12)]) == []


def test_two_alike_stand_apart_in_a_large_set_only() -> None:
    assert apart([1.0] * 10 + [9.0, 9.0]) == []
    assert apart([1.0] * 40 + [9.0, 9.0]) == [40, 41]


def test_a_diverse_set_has_no_outliers() -> None:
    assert apart([4.0**k for k in range(20)]) == []


def test_few_cases_have_no_outliers() -> None:
    assert apart([1.0] * 6 + [100.0]) == []


def test_times() -> None:
    assert (times(12.04), times(0.25)) == ("12 times", "1/4 of")
