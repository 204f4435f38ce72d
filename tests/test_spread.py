"""Ranges over seeds and intervals over cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.metrics.spread import paired_difference, spread

NAN = float("nan")
NUMBERS = st.lists(st.floats(-10, 10), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(NUMBERS)
def test_the_mean_lies_between_the_lowest_and_the_highest(values):
    found = spread(values)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert found.defined == len(values)


def test_what_is_undefined_does_not_count():
    found = spread([NAN, 1.0, 3.0])
    assert (found.mean, found.low, found.high, found.defined) == (2.0, 1.0, 3.0, 2)
    nothing = spread([NAN])
    assert math.isnan(nothing.mean)
    assert nothing.defined == 0


def test_above_means_all_of_it():
    assert spread([2.0, 3.0]).is_above(spread([0.0, 1.9]))
    assert not spread([2.0, 3.0]).is_above(spread([0.0, 2.0]))
    assert not spread([NAN]).is_above(spread([0.0]))


def test_pairing_takes_out_what_differs_between_cases():
    """Cases differ by up to 10, the methods by 0.1 in every case: the pairs show it."""
    cases = np.random.default_rng(0).uniform(0, 10, 30)
    gap = paired_difference(cases + 0.1, cases)
    assert gap.low == pytest.approx(0.1)
    assert gap.high == pytest.approx(0.1)
    noisy = paired_difference(cases[::-1] + 0.1, cases)
    assert noisy.low < 0 < noisy.high


def test_the_interval_is_that_of_the_mean():
    """Of n values with deviation s it reaches about 1.96 s / sqrt(n) to either side."""
    values = np.random.default_rng(1).normal(0.5, 2.0, 400)
    gap = paired_difference(values, np.zeros(400))
    half = 1.96 * values.std() / 20
    assert gap.high - gap.mean == pytest.approx(half, rel=0.1)
    assert gap.mean - gap.low == pytest.approx(half, rel=0.1)


def test_a_pair_with_an_undefined_half_does_not_count():
    gap = paired_difference([1.0, NAN, 3.0], [0.0, 1.0, NAN])
    assert (gap.mean, gap.defined) == (1.0, 1)
    assert paired_difference([NAN], [1.0]).defined == 0
