"""Rules for objects, found on cases whose best rules are known."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from discs import discs
from pydantic import TypeAdapter
from test_instances import grid, object_plan

from unetseg.objects.codes import Maps, pack
from unetseg.objects.decoding import Rules
from unetseg.objects.distances import object_distances
from unetseg.records import Advance, Event, Mask, Stage, ignore_event
from unetseg.training.scores import AveragePrecision, TrueObjects, found_objects
from unetseg.training.tuning import Coded, Tuned, cropped, middle, tune, with_usual


def coded(seed: int, *, sure: float = 1.0, specks: int = 0) -> Coded:
    """What a network says that finds discs, and specks too; `sure`: its probability of them."""
    ids = discs(seed)[1].astype(np.int64)
    shown = ids.copy()
    rng = np.random.default_rng(seed)
    for speck in range(specks):
        row, column = rng.integers(1, 70, 2)
        if not ids[row - 1 : row + 3, column - 1 : column + 3].any():
            shown[row : row + 2, column : column + 2] = 1000 + speck
    depth, centre = object_distances(shown, (1.0, 1.0))
    foreground = (sure * (shown > 0)).astype(np.float32)
    maps = Maps((shown > 0).astype(np.uint8), foreground, depth, centre)
    return Coded(pack(maps), TrueObjects(ids, None, {}), grid())


def test_nothing_is_changed_where_nothing_can_be_better() -> None:
    found = tune(object_plan(), [coded(n) for n in range(3)], ignore_event)
    assert (found.before, found.cases) == (pytest.approx(1.0, abs=0.02), 3)
    assert found.after >= found.before
    usual = with_usual(object_plan())
    assert (usual.foreground, usual.contrast) == (Rules().foreground, Rules().contrast)
    if found.after == found.before:
        assert found.decode == usual
        assert "the usual ones" in found.sentence()


def test_an_unsure_network_is_believed() -> None:
    found = tune(object_plan(), [coded(n, sure=0.45) for n in range(2)], ignore_event)
    assert found.before == 0.0
    assert found.after > 0.95
    assert found.decode.foreground in (0.3, 0.4)
    assert found.changed["foreground"] == (0.5, found.decode.foreground)
    assert "foreground 0.5 -> 0." in found.sentence()


def test_specks_are_too_small_to_be_objects() -> None:
    plan = object_plan()
    cases = [coded(n, specks=15) for n in range(3)]
    found = tune(plan, cases, ignore_event)
    assert found.after > found.before + 0.2
    (size,) = found.decode.min_size
    # A speck has 4 voxels, a disc 81.
    assert 4 < size < 81
    in_um = replace(plan, data=replace(plan.data, unit="um"))
    assert not tune(in_um, cases, ignore_event).decode.min_size


def test_what_a_person_has_set_stays() -> None:
    plan = object_plan(decode__foreground=0.5, decode__min_size=2.0)
    found = tune(plan, [coded(0, sure=0.45, specks=9)], ignore_event)
    assert found.decode.foreground == 0.5
    assert found.decode.min_size == (2.0,)
    assert found.after == found.before == 0.0


def test_no_objects_leave_the_usual_rules() -> None:
    empty = Coded(np.zeros((9, 9), np.int32), TrueObjects(np.zeros((9, 9)), None, {}), grid((9, 9)))
    found = tune(object_plan(), [empty], ignore_event)
    assert np.isnan(found.before)
    assert found.decode == with_usual(object_plan())


def test_without_time_nothing_is_tried() -> None:
    cases = [coded(n, sure=0.45) for n in range(4)]
    found = tune(object_plan(), cases, ignore_event, seconds=0.0)
    assert found.cases == 1
    assert found.decode == with_usual(object_plan())


def test_the_same_is_found_again_whatever_the_workers() -> None:
    cases = [coded(n, sure=0.6, specks=5) for n in range(3)]
    events: list[Event] = []
    once = tune(object_plan(), cases, events.append)
    assert tune(object_plan(), cases, ignore_event, workers=3) == once
    (stage,) = [event for event in events if isinstance(event, Stage)]
    assert stage.total == len([event for event in events if isinstance(event, Advance)])


def test_what_was_found_can_be_told_to_other_processes() -> None:
    found = tune(object_plan(), [coded(0, sure=0.45, specks=5)], ignore_event)
    kind = TypeAdapter(Tuned)
    assert kind.validate_python(json.loads(json.dumps(kind.dump_python(found)))) == found


def test_a_large_case_is_tried_in_its_middle() -> None:
    codes = np.arange(1000 * 600, dtype=np.int32).reshape(1000, 600)
    part = cropped(codes, TrueObjects(codes, codes == 7, {}), grid((1000, 600)))
    assert part.codes.size <= 1 << 16
    assert part.codes.shape[0] / part.codes.shape[1] == pytest.approx(1000 / 600, rel=0.01)
    assert part.geometry.shape == part.codes.shape
    np.testing.assert_array_equal(part.codes, part.truth.ids)
    centre = part.codes[part.codes.shape[0] // 2, part.codes.shape[1] // 2]
    assert np.abs(np.array(divmod(int(centre), 600)) - (500, 300)).max() <= 1
    whole = coded(0)
    kept = cropped(whole.codes, whole.truth, whole.geometry)
    np.testing.assert_array_equal(kept.codes, whole.codes)


def test_an_ensemble_takes_the_median() -> None:
    usual = with_usual(object_plan())
    folds = [replace(usual, contrast=c, min_size=s) for c, s in ((0.1, ()), (0.3, (9.0,)))]
    found = middle([*folds, replace(usual, contrast=0.2, min_size=(4.0,))])
    assert (found.contrast, found.min_size) == (0.2, (4.0,))
    assert found.foreground == usual.foreground


# --- the score -----------------------------------------------------------------------------------


def row(truth: Any, predicted: Any, classes: dict[int, int] | None = None, own: Any = ()) -> Any:
    mask = Mask(np.array(predicted), grid(np.shape(predicted)), classes=own)
    return found_objects(TrueObjects(np.array(truth), None, classes or {}), mask)


def test_average_precision_by_hand() -> None:
    score = AveragePrecision()
    # IoU 3/4, and one that is not there.
    one = row([[5, 5, 5, 5, 0, 9]], [[1, 1, 1, 0, 0, 0]])
    assert one == (1, 0, 1) * 3 + (0, 1, 2) * 2
    other = row([[2, 2, 0]], [[1, 1, 0]])
    assert score.of_case(one) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 0, 0))
    # Over all cases together, not the mean of the cases.
    assert score.values([one, other]) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4))
    assert np.isnan(score.of_case(row([[0, 0]], [[0, 0]]))).all()


def test_an_object_of_another_class_is_not_found() -> None:
    truth, predicted = [[7, 7, 0, 3, 3]], [[1, 1, 0, 2, 2]]
    assert row(truth, predicted, {7: 1, 3: 2}, (1, 2)) == (2, 0, 0) * 5
    assert row(truth, predicted, {7: 1, 3: 2}, (2, 2)) == (1, 1, 1) * 5
    assert row(truth, [[0, 0, 0, 0, 0]], {7: 1, 3: 2}) == (0, 0, 2) * 5
    assert row([[0, 0]], [[0, 1]], {7: 1}, (2,)) == (0, 1, 0) * 5
    assert row([[0, 0]], [[0, 0]], {7: 1}) == (0, 0, 0) * 5
