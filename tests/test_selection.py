"""Cleaning is accepted where it makes out-of-fold masks better, and nowhere else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from test_cleaning import plan

from unetseg.config import Plan
from unetseg.metrics import dice
from unetseg.records import Case, ignore_event
from unetseg.tasks.cleaning import Cleaning, clean, cleanings, with_cleanings
from unetseg.training.out_of_fold import CLEANED, mask_of, write_cleaned
from unetseg.training.selection import HOLES, LARGEST, SMALLEST, Decision, Selection, Unseen, select

PLAN = plan("px")
# Class indices in arrays, label values in files.
VALUES = np.array(PLAN.data.class_values, dtype=np.uint8)


def unseen(folder: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Unseen]:
    """Cases from pairs of true and predicted class indices; 255 in a truth is not known."""
    made = []
    for number, (truth, predicted) in enumerate(pairs):
        paths = [folder / f"{number}_{part}.png" for part in ("image", "truth", "predicted")]
        folder.mkdir(parents=True, exist_ok=True)
        values = np.where(truth == 255, 255, VALUES[truth * (truth != 255)])
        Image.fromarray(np.zeros(truth.shape, np.uint8)).save(paths[0])
        Image.fromarray(values.astype(np.uint8)).save(paths[1])
        Image.fromarray(VALUES[predicted]).save(paths[2])
        made.append(Unseen(Case(f"case_{number}", (paths[0],), paths[1]), paths[2]))
    return made


def chosen(
    folder: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]], plan_: Plan = PLAN
) -> Selection:
    return select(unseen(folder, pairs), plan_, ignore_event, workers=2)


def of(selection: Selection, name: str = "liver") -> dict[str, Decision]:
    return {d.operation: d for d in selection.decisions if d.class_name == name}


def empty(size: int = 24) -> np.ndarray:
    return np.zeros((size, size), dtype=np.int64)


def block(*places: tuple[int, int, int], value: int = 1) -> np.ndarray:
    """Squares, each by row, column and edge."""
    array = empty()
    for row, column, edge in places:
        array[row : row + edge, column : column + edge] = value
    return array


# --- where it helps, and where it hurts ---


def test_false_specks_are_removed(tmp_path: Path) -> None:
    truth = block((2, 2, 10))
    selection = chosen(tmp_path, [(truth, truth + block((20, 20, 2))), (truth, truth)])
    (accepted,) = (d for d in selection.decisions if d.accepted)
    # 2 * 100 / (104 + 100) and 1; sizes of 5 % of 100 pixels and more remove four.
    assert accepted.operation == SMALLEST
    assert accepted.size == 5.0
    assert accepted.before == pytest.approx((200 / 204 + 1) / 2)
    assert accepted.after == 1.0
    assert selection.wanted == {1: Cleaning(min_size=5.0)}
    assert accepted.sentence() == (
        "liver, minimum size 5 voxels: accepted, mean Dice 0.9902 -> 1.0000"
    )
    # After it the largest component has nothing left to remove.
    assert not of(selection)[LARGEST].accepted
    assert of(selection)[LARGEST].before == of(selection)[LARGEST].after == 1.0


def test_a_large_false_component_takes_the_largest_one(tmp_path: Path) -> None:
    truth = block((2, 2, 10))
    selection = chosen(tmp_path, [(truth, truth + block((15, 15, 8))), (truth, truth)])
    assert selection.wanted == {1: Cleaning(largest_component=True)}
    # 64 pixels are more than half of 100.
    assert not of(selection)[SMALLEST].accepted


def test_two_true_components_keep_both(tmp_path: Path) -> None:
    both = block((2, 2, 10), (15, 15, 6))
    selection = chosen(tmp_path, [(both, both), (both, both)])
    assert selection.wanted == {}
    lost = of(selection)[LARGEST]
    assert not lost.accepted
    assert (lost.before, lost.after) == (1.0, pytest.approx(200 / 236))
    assert lost.sentence() == "liver, largest component: rejected, mean Dice 1.0000 -> 0.8475"


def test_holes_are_filled_where_the_truth_has_none(tmp_path: Path) -> None:
    solid = block((2, 2, 10))
    ring = solid - block((5, 5, 3))
    selection = chosen(tmp_path / "solid", [(solid, ring), (solid, solid)])
    assert selection.wanted == {1: Cleaning(fill_holes=True)}
    filled = of(selection)[HOLES]
    assert filled.before == pytest.approx((2 * 91 / 191 + 1) / 2)
    assert filled.after == 1.0
    # And nowhere else.
    selection = chosen(tmp_path / "ring", [(ring, ring), (solid, solid)])
    assert selection.wanted == {}
    assert not of(selection)[HOLES].accepted
    assert of(selection)[HOLES].after == pytest.approx((2 * 91 / 191 + 1) / 2)


def test_a_hole_is_judged_after_what_was_removed(tmp_path: Path) -> None:
    solid = block((2, 2, 12))
    # A false speck of the other class lies in the liver: removed, it leaves a hole.
    predicted = solid.copy()
    predicted[6:8, 6:8] = 2
    tumour = block((16, 16, 7), value=2)
    selection = chosen(tmp_path, [(solid + tumour, predicted + tumour)] * 2)
    wanted = selection.wanted
    assert wanted[1] == Cleaning(fill_holes=True)
    assert wanted[2].largest_component or wanted[2].min_size
    assert of(selection)[HOLES].after == 1.0


def test_classes_are_judged_by_themselves(tmp_path: Path) -> None:
    both = block((2, 2, 10)) + block((16, 2, 4), (16, 16, 2), value=2)
    predicted = both + block((20, 9, 3))
    selection = chosen(tmp_path, [(both, predicted)] * 2)
    assert set(selection.wanted) == {1}
    assert not of(selection, "tumour")[LARGEST].accepted
    assert of(selection, "tumour")[LARGEST].after == pytest.approx(32 / 36)


# --- cases without the class ---


def test_a_mask_that_is_emptied_where_nothing_is_counts_for_the_better(tmp_path: Path) -> None:
    truth = block((2, 2, 10))
    pairs = [(truth, truth), (truth, truth), (empty(), block((3, 3, 3)))]
    selection = chosen(tmp_path, pairs)
    accepted = of(selection)[SMALLEST]
    assert accepted.accepted
    assert (accepted.before, accepted.after) == (pytest.approx(2 / 3), 1.0)
    assert accepted.defined == (3, 2)
    assert accepted.sentence().endswith("0.6667 -> 1.0000 (3 -> 2 cases defined)")


def test_but_does_not_make_up_for_what_is_lost_elsewhere(tmp_path: Path) -> None:
    # Everything below 50 pixels goes: both false alarms, and the true part of one case.
    whole, small = block((2, 2, 10)), block((2, 2, 6))
    pairs = [(whole, whole), (whole, whole), (small, small)]
    pairs += [(empty(), block((3, 3, 6)))] * 6
    selection = chosen(tmp_path, pairs)
    assert selection.wanted == {}
    failed = of(selection)[SMALLEST]
    assert (failed.size, failed.accepted) == (50.0, False)
    assert (failed.before, failed.after) == (pytest.approx(3 / 9), pytest.approx(2 / 3))
    assert failed.sentence().endswith("but 1.0000 -> 0.6667 where the truth has the class")


def test_a_class_that_no_case_has_is_left_as_it_is(tmp_path: Path) -> None:
    truth = block((2, 2, 10))
    selection = chosen(tmp_path, [(truth, truth + block((20, 20, 2), value=2))] * 2)
    assert of(selection, "tumour") == {}
    assert set(of(selection)) == {LARGEST, SMALLEST, HOLES}


def test_what_is_not_known_is_not_judged(tmp_path: Path) -> None:
    truth = block((2, 2, 10))
    predicted = truth + block((18, 18, 4))
    known = chosen(tmp_path / "a", [(truth, predicted)] * 2)
    assert known.wanted
    hidden = truth.copy()
    hidden[17:, 17:] = 255
    ignoring = plan("px", data__ignore_value=255)
    assert chosen(tmp_path / "b", [(hidden, predicted)] * 2, ignoring).wanted == {}


def test_what_the_plan_wants_is_kept_and_not_judged(tmp_path: Path) -> None:
    both = block((2, 2, 10), (15, 15, 6))
    asked = plan("px", decode__largest_component="liver", decode__fill_holes="liver")
    selection = chosen(tmp_path, [(both, both)] * 2, asked)
    assert selection.wanted == cleanings(asked)
    assert set(of(selection)) == {SMALLEST}


def test_without_a_size_of_pixels_no_smallest_size_is_tried(tmp_path: Path) -> None:
    truth = block((2, 2, 10))
    physical = plan("um")
    selection = chosen(tmp_path, [(truth, truth + block((20, 20, 2)))] * 2, physical)
    assert set(of(selection)) == {LARGEST, HOLES}
    assert selection.wanted == {1: Cleaning(largest_component=True)}


# --- the numbers are those of the masks ---


def blobs(seed: int, shift: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, 24, 24)), (0, 1.2, 1.2))
    smooth[0] += shift
    return np.argmax(smooth, axis=0)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]))
@settings(max_examples=15, deadline=None)
def test_the_scores_before_and_after_are_those_of_the_cleaned_masks(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shift: float
) -> None:
    folder = tmp_path_factory.mktemp("selection")
    truths = [blobs(seed + k, shift) for k in range(3)]
    predicted = [
        np.where(blobs(seed + 9 + k, 0) == 1, blobs(seed + 5 + k, 0), t)
        for k, t in enumerate(truths)
    ]
    pairs = list(zip(truths, predicted, strict=True))
    selection = chosen(folder, pairs)
    for index, name in ((1, "liver"), (2, "tumour")):
        made = of(selection, name)
        if not made:
            assert not any((truth == index).any() for truth in truths)
            continue
        means = {}
        for key, wanted in (("before", {}), ("after", selection.wanted)):
            scores = [
                dice(truth == index, clean(mask, wanted, 1.0) == index) for truth, mask in pairs
            ]
            means[key] = np.nanmean(scores)
        accepted = [decision for decision in made.values() if decision.accepted]
        if accepted:
            assert accepted[0].before == pytest.approx(means["before"])
            assert accepted[-1].after == pytest.approx(means["after"])
            assert means["after"] > means["before"]
        else:
            assert index not in selection.wanted
            for decision in made.values():
                assert decision.before == pytest.approx(means["before"])
    cleaned = with_cleanings(PLAN, selection.wanted)
    cases = unseen(folder, pairs)
    scores = write_cleaned(folder, cases, cleaned, ignore_event)
    for row, each, (truth, mask) in zip(scores.cases, cases, pairs, strict=True):
        expected = clean(mask, selection.wanted, 1.0)
        with Image.open(mask_of(folder, each.case, CLEANED)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), VALUES[expected])
        by_hand = [dice(truth == index, expected == index) for index in (1, 2)]
        assert row == pytest.approx(by_hand, nan_ok=True)
