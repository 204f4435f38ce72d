"""The learning rate and the clock, against numbers worked out by hand."""

from dataclasses import replace
from itertools import pairwise
from time import time

import pytest
from cubes import request, write_cubes

from unetseg.config import TrainingPlan
from unetseg.training import plan_for
from unetseg.training.schedule import Clock, Plateau, learning_rate


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    folder = tmp_path_factory.mktemp("schedule")
    plan, _ = plan_for(request(write_cubes(folder / "data", 2), folder / "run"))
    return replace(plan.training, learning_rate=0.01, warmup_steps=0, epochs=4, steps_per_epoch=25)


@pytest.mark.parametrize(
    ("position", "rate"),
    # 0.01 * (1 + cos(pi p)) / 2; cos 60 degrees is a half, cos 120 degrees minus a half.
    [(0.0, 0.01), (1 / 3, 0.0075), (0.5, 0.005), (2 / 3, 0.0025), (1.0, 0.0)],
)
def test_half_a_cosine(training: TrainingPlan, position: float, rate: float) -> None:
    assert learning_rate(training, position, 50) == pytest.approx(rate, abs=1e-12)


def test_the_end_is_exactly_zero_and_stays_so(training: TrainingPlan) -> None:
    assert learning_rate(training, 1.0, 100) == 0.0
    assert learning_rate(training, 1.5, 100) == 0.0
    assert learning_rate(training, 0.99, 99) > 0.0


def test_warm_up_rises_linearly_to_the_full_rate(training: TrainingPlan) -> None:
    warm = replace(training, warmup_steps=4)
    rates = [learning_rate(warm, 0.0, step) for step in range(6)]
    assert rates == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01])


def test_the_position_counts_steps_without_a_time_budget(training: TrainingPlan) -> None:
    clock = Clock(training, started=time() - 10_000)
    assert not clock.is_open
    assert [clock.position(step) for step in (0, 25, 100, 130)] == [0.0, 0.25, 1.0, 1.0]
    assert clock.seconds_left(60, 4.0) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("ago", "before", "reserve", "position"),
    [
        # 600 s less 5 % for the first guess are 570 s.
        (57.0, 0.0, None, 0.1),
        # 600 s less the 100 s that are kept are 500 s.
        (250.0, 0.0, 100.0, 0.5),
        (50.0, 200.0, 100.0, 0.5),
        # Never more than half of the budget is kept.
        (150.0, 0.0, 5000.0, 0.5),
        (700.0, 0.0, 100.0, 1.0),
    ],
)
def test_the_position_follows_the_clock_with_a_time_budget(
    training: TrainingPlan, ago: float, before: float, reserve: float | None, position: float
) -> None:
    timed = replace(training, minutes=10.0)
    clock = Clock(timed, started=time() - ago, before=before, reserve=reserve)
    assert clock.position(0) == pytest.approx(position, abs=2e-3)
    assert clock.position(10_000) == pytest.approx(position, abs=2e-3)


def test_time_is_kept_for_what_follows(training: TrainingPlan) -> None:
    timed = replace(training, minutes=10.0)
    # 600 s less 5 % or what was measured, and less 70 s.
    for reserve, ago in ((None, 250.0), (30.0, 250.0)):
        clock = Clock(timed, started=time() - ago, reserve=reserve, after=70.0)
        assert clock.position(0) == pytest.approx(0.5, abs=2e-3)


def test_seconds_left_of_a_time_budget_never_fall_below_zero(training: TrainingPlan) -> None:
    timed = replace(training, minutes=1.0)
    assert Clock(timed, started=time() - 45).seconds_left(3, 1.0) == pytest.approx(15, abs=0.5)
    assert Clock(timed, started=time() - 90).seconds_left(3, 1.0) == 0.0


# --- a training that knows when it is done ---


@pytest.fixture
def open_end(training: TrainingPlan) -> TrainingPlan:
    return replace(
        training, epochs=None, anneal_share=0.25, patience=0.3, validation_every=1, warmup_steps=0
    )


def test_a_steady_rate_then_half_a_cosine(open_end: TrainingPlan) -> None:
    rates = [learning_rate(open_end, p, 50) for p in (0.0, 0.5, 0.75, 0.875, 1.0)]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.005, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("risen_at", "end"),
    # At least 6 epochs of 25 steps after the rise; later 0.3 of the whole: 700 / 0.7.
    [(0, 150), (100, 250), (700, 1000), (24_900, 25_000)],
)
def test_the_end_of_the_steady_rate(open_end: TrainingPlan, risen_at: int, end: int) -> None:
    assert Plateau(best=0.5, risen_at=risen_at).end(open_end) == end


def test_rare_validations_are_waited_for(open_end: TrainingPlan) -> None:
    rare = replace(open_end, validation_every=10)
    assert Plateau(best=0.5, risen_at=100).end(rare) == 100 + 3 * 10 * 25


def test_a_score_that_rises_keeps_the_rate_steady(open_end: TrainingPlan) -> None:
    plateau = Plateau()
    for epoch in range(1, 41):
        plateau.look(open_end, 0.01 * epoch, 25 * epoch)
    assert (plateau.anneal_from, plateau.risen_at) == (None, 1000)
    # Less than a thousandth is the noise of a few cases; 1000 / 0.7 is in epoch 58.
    for epoch in range(41, 60):
        plateau.look(open_end, 0.4005, 25 * epoch)
    assert plateau.anneal_from == 1450
    # Whatever comes now, the rate falls.
    plateau.look(open_end, 0.9, 1500)
    assert plateau.anneal_from == 1450


def test_a_score_that_is_not_defined_has_not_risen(open_end: TrainingPlan) -> None:
    plateau = Plateau()
    for epoch in range(1, 8):
        plateau.look(open_end, float("nan"), 25 * epoch)
    assert plateau.anneal_from == 150


def test_an_open_training_falls_for_a_quarter_of_the_whole(open_end: TrainingPlan) -> None:
    clock = Clock(open_end, started=time(), plateau=Plateau(0.5, 400, 600))
    assert clock.is_open
    # 600 steps at a steady rate, 200 more in which it falls.
    positions = [clock.position(step) for step in (600, 700, 800, 900)]
    assert positions == pytest.approx([0.75, 0.875, 1.0, 1.0])
    assert clock.seconds_left(700, 2.0) == pytest.approx(50)


def test_before_the_end_is_known_the_position_stays_below_it(open_end: TrainingPlan) -> None:
    clock = Clock(open_end, started=time())
    positions = [clock.position(step) for step in range(0, 1000, 10)]
    assert positions[0] == 0
    assert all(a <= b < 0.75 for a, b in pairwise(positions))
