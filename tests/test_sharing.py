"""How the time for all folds is shared by them."""

from dataclasses import replace

import pytest
from cubes import request, write_cubes

from unetseg.tasks.cleaning import Cleaning, with_cleanings
from unetseg.training import plan_for
from unetseg.training.sharing import Share


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Share:
    """Forty minutes for four folds of eight cases."""
    folder = tmp_path_factory.mktemp("sharing")
    plan, _ = plan_for(request(write_cubes(folder / "data", 5), folder / "run"))
    plan = replace(plan, training=replace(plan.training, minutes=40.0))
    names = [f"case_{n}" for n in range(8)]
    held = tuple((names[n], names[n + 4]) for n in range(4))
    return Share(plan, held, dict.fromkeys(names, (16, 16, 16)), devices=1, after=0.0)


MASKS = 2 * (0.03 + 1e-7 * 16**3)


def test_the_time_is_shared_by_the_folds_that_are_left(share: Share) -> None:
    # 98 % of 40 minutes, a quarter of it, less the masks of two cases.
    assert share.minutes(0, 0, 4, []) == pytest.approx(0.98 * 10 - MASKS / 60)
    # What came before the first fold is taken from all of them alike.
    assert share.minutes(480, 0, 4, []) == pytest.approx((0.98 * 40 - 8) / 4 - MASKS / 60)
    # Masks take as long as those of the slowest fold, and a little more.
    left = (0.98 * 2400 - 560) / 3
    assert share.minutes(0, 560, 3, [20.0]) == pytest.approx((left - 1 - 1.2 * 20) / 60)
    # Whatever was used up, the others learn something.
    assert share.minutes(0, 1e6, 3, [20.0]) == pytest.approx((300 - 1 - 1.2 * 20) / 60)
    timeless = replace(share.plan.training, minutes=None)
    assert replace(share, plan=replace(share.plan, training=timeless)).minutes(0, 0, 4, []) is None


def test_masks_that_are_made_again_take_a_part_of_the_share(share: Share) -> None:
    cleaned = replace(share, plan=with_cleanings(share.plan, {1: Cleaning(min_size=2.0)}))
    assert cleaned.minutes(0, 0, 4, []) == pytest.approx(0.98 * 10 * 0.95)


def test_what_follows_the_folds_is_done_in_their_time(share: Share) -> None:
    reported = replace(share, after=24.0)
    assert reported.minutes(0, 0, 4, []) == pytest.approx(0.98 * 10 - 0.1 - MASKS / 60)
    # Two per cent of a short time do not suffice for comparing many masks.
    short = replace(share.plan, training=replace(share.plan.training, minutes=0.5))
    many = tuple(tuple(f"{fold} {n}" for n in range(50)) for fold in range(4))
    shapes = dict.fromkeys([name for names in many for name in names], (2, 3))
    masks = 50 * (0.03 + 6e-7)
    found = Share(short, many, shapes, devices=1, after=0.0).minutes(0, 0, 4, [])
    assert found == pytest.approx(((30 - 200 * 0.03) / 4 - masks) / 60)


def test_folds_at_the_same_time_take_the_same_time(share: Share) -> None:
    """Four folds on three devices: two waves, the second after one fold of each device."""
    three = replace(share, devices=3)
    assert three.minutes(480, 0, 2, []) == pytest.approx((0.98 * 40 - 8) / 2 - MASKS / 60)
    # On the other two, folds have been trained for a thousand seconds each.
    left = 0.98 * 2400 - 480 - 2000 / 3
    assert three.minutes(480, 2000, 1, []) == pytest.approx((left - MASKS) / 60)
    # Half of an equal share at least: there are two waves of 1200 seconds.
    assert three.minutes(0, 1e7, 1, []) == pytest.approx((600 - MASKS) / 60)
