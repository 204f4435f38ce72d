"""Intervals of means and tests of differences, against programs that go another way."""

import json
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.metrics.pairing import holm, signed_rank
from unetseg.metrics.resampling import FEWEST, Resampling, intervals, mean_intervals

GOLDEN = json.loads((Path(__file__).parent / "golden" / "paired.json").read_text())
FAST = Resampling(draws=499)


def alone(values, resampling=FAST):
    """The interval of the mean of values that are each a case."""
    column = np.array(values, float)[:, None]
    return mean_intervals(column, np.arange(len(column)), resampling)[0]


@pytest.mark.parametrize("sample", GOLDEN["intervals"], ids=lambda sample: sample["name"])
def test_scipy_finds_the_same_interval(sample):
    values, groups = sample["values"], sample["groups"]
    names = [f"case{number}" for number in range(len(values))]
    group_of = dict(zip(names, groups, strict=True)) if groups else None
    resampling = Resampling(group_of)
    units = resampling.units(names)
    (found,) = mean_intervals(np.array(values)[:, None], units, resampling)
    assert [found.low, found.high] == pytest.approx(sample["interval"], rel=1e-9)
    # The negative twin: cases that are taken for strangers give another interval.
    other = mean_intervals(np.array(values)[:, None], np.arange(len(values)), resampling)[0]
    assert ([other.low, other.high] == pytest.approx(sample["interval"])) == (groups is None)


@pytest.mark.parametrize("sample", GOLDEN["tests"], ids=lambda sample: sample["name"])
def test_other_ways_find_the_same_p(sample):
    differences = sample["differences"]
    assert signed_rank(differences) == pytest.approx(sample["p"], rel=1e-9)
    assert signed_rank([-d for d in differences]) == pytest.approx(sample["p"], rel=1e-9)
    if len(differences) > 1:
        assert signed_rank([*differences, 9.0]) != pytest.approx(sample["p"], rel=1e-9)


def test_what_r_says():
    assert GOLDEN["tests"][0]["p"] == pytest.approx(2 * 0.01953, abs=1e-5)
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])


@pytest.mark.parametrize("sample", GOLDEN["holm"], ids=lambda sample: str(sample["p"]))
def test_holm(sample):
    assert holm(sample["p"]) == pytest.approx(sample["holm"])
    # What is undefined is no test.
    with_nan = holm([nan, *sample["p"], nan])
    assert with_nan[1:-1] == pytest.approx(sample["holm"])
    assert isnan(with_nan[0]) and isnan(with_nan[-1])


def test_no_difference_no_p():
    assert isnan(signed_rank([])) and isnan(signed_rank([0.0, 0.0]))
    # Two quotients that should be equal and differ in their last bit.
    assert isnan(signed_rank([0.1 + 0.2 - 0.3]))
    assert signed_rank([0.1 + 0.2 - 0.3, 0.5]) == 1


def test_equal_differences_are_ties_however_they_were_rounded():
    rough = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6, 0.3 - 0.5]
    assert signed_rank(rough) == signed_rank([0.1, 0.1, 0.1, -0.2])
    assert len(set(rough[:3])) > 1


values = st.lists(st.floats(0, 1, allow_nan=False), min_size=FEWEST, max_size=30)


@given(values)
@settings(max_examples=25, deadline=None)
def test_an_interval_holds_its_mean(sample):
    found = alone(sample)
    slack = 1e-9
    assert found.low - slack <= np.mean(sample) <= found.high + slack
    assert min(sample) - slack <= found.low and found.high <= max(sample) + slack


@given(values, st.floats(-2, 2), st.floats(0.1, 3))
@settings(max_examples=15, deadline=None)
def test_an_interval_moves_with_the_values(sample, shift, factor):
    rounded = np.round(sample, 3)
    one, other = alone(rounded), alone(rounded * factor + shift)
    assert other.low == pytest.approx(one.low * factor + shift, abs=1e-6)
    assert other.high == pytest.approx(one.high * factor + shift, abs=1e-6)


def test_more_cases_narrower():
    rng = np.random.default_rng(0)
    few, many = (alone(rng.normal(0, 1, n)) for n in (10, 1000))
    assert many.high - many.low < (few.high - few.low) / 5


def test_it_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    drawn = [alone(rng.gamma(4, 1, 30)) for _ in range(200)]
    share = np.mean([each.low <= 4 <= each.high for each in drawn])
    assert 0.88 <= share <= 0.985


@pytest.mark.parametrize("count", range(FEWEST + 1))
def test_few_cases_have_none(count):
    found = alone(np.linspace(0, 1, count))
    assert (found is not None) == (count >= FEWEST)


def test_few_groups_have_none():
    names = [f"p{number % 4}_{number}" for number in range(40)]
    resampling = Resampling({name: name[:2] for name in names}, draws=99)
    column = np.linspace(0, 1, 40)[:, None]
    assert mean_intervals(column, resampling.units(names), resampling) == (None,)


def test_undefined_values_count_for_nothing():
    sample = [0.2, nan, 0.5, 0.9, nan, 0.4, 0.7]
    assert alone(sample) == alone([v for v in sample if v == v])
    assert alone([*sample[:4], nan, nan]) is None


def test_columns_do_not_depend_on_their_neighbours():
    rng = np.random.default_rng(5)
    table = rng.random((12, 3))
    table[4, 1] = nan
    found = mean_intervals(table, np.arange(12), FAST)
    assert list(found) == [alone(column) for column in table.T]


def test_where_all_agree_there_is_no_width():
    found = alone([0.8] * 9)
    assert (found.low, found.high) == pytest.approx((0.8, 0.8))


def test_a_quotient_that_some_draws_leave_undefined_has_none():
    # Only one of six units has a denominator, so many draws have none.
    amounts = np.array([[1.0, 2.0], *[[0.0, 0.0]] * 5])
    assert intervals(amounts, lambda total: total[..., :1] / total[..., 1:], FAST) == (None,)


def test_a_case_called_like_a_group_is_not_in_it():
    resampling = Resampling({"a": "x", "b": "x"})
    assert resampling.units(["a", "b", "x"]).tolist() == [0, 0, 1]
    assert (resampling.unit, FAST.unit) == ("group", "case")
