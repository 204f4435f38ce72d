"""Summaries with intervals, and two sets of masks compared on the same truths."""

import dataclasses
import json
import math
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.errors import DataError, UsageError
from unetseg.evaluation import Evaluation, Outcome, compare, groups_of, summarise, write_summary
from unetseg.evaluation.direction import badness
from unetseg.evaluation.pooling import share_names, shares, sums
from unetseg.evaluation.wording import interval_text, number_text, p_text
from unetseg.metrics import METRICS
from unetseg.metrics.objects import Matches, matches, metric_names, pooled, score
from unetseg.metrics.resampling import Interval, Resampling
from unetseg.records import CaseScore, Label

A, B = Label(1, "a"), Label(2, "b")
FAST = Resampling(draws=199)
EVERY = Label(0, "all")


def evaluation(unit: str = "mm", label: Label = A, **columns: list[float]) -> Evaluation:
    """Scores of one class: a list for each metric, a case for each place."""
    count = len(next(iter(columns.values())))
    names = [f"case{place}" for place in range(count)]
    scores = []
    for place, name in enumerate(names):
        values = dict.fromkeys(METRICS, nan) | {m: c[place] for m, c in columns.items()}
        scores.append(CaseScore(name, label, unit, tuple(values.items())))
    pairs = tuple((name, Path("t") / name, Path("p") / name) for name in names)
    return Evaluation(tuple(scores), (1.0,) * count, (label,), pairs=pairs)


def objects(images: list[tuple[list[int], list[int]]]) -> Evaluation:
    """Images of one row of pixels: true and predicted ids."""
    found = [matches(*(np.array(side)[None] for side in image)) for image in images]
    names = [f"image{place}" for place in range(len(images))]
    scores = tuple(
        CaseScore(name, EVERY, "", score(each)) for name, each in zip(names, found, strict=True)
    )
    return Evaluation(
        scores,
        (),
        (EVERY,),
        pooled=(CaseScore("", EVERY, "", score(pooled(found))),),
        metrics=metric_names(),
        are_objects=True,
        pairs=tuple((name, Path(name), Path(name)) for name in names),
        matches=tuple(found),
        thresholds=(0.5, 0.6, 0.7, 0.8, 0.9),
    )


def row(found, metric, label=A):
    (one,) = [each for each in found.rows if (each.metric, each.label) == (metric, label)]
    return one


class TestSummaries:
    def test_the_worst_case_is_the_worst_in_its_own_direction(self):
        found = evaluation(dice=[0.9, 0.2, nan, 0.5], hd95=[1.0, 2.0, nan, 9.0])
        of_a, _ = summarise(found, FAST)
        assert (of_a["dice"].worst, of_a["dice"].worst_case) == (0.2, "case1")
        assert (of_a["hd95"].worst, of_a["hd95"].worst_case) == (9.0, "case3")
        assert of_a["recall"].worst_case == ""
        assert of_a["dice"].interval is None

    def test_an_error_is_as_bad_as_it_is_far_from_0(self):
        found = objects([([1, 0, 0, 0], [1, 2, 3, 0]), ([1, 2, 3, 4], [0, 0, 0, 0])])
        (summary,) = summarise(found)
        assert (summary["count_error"].worst, summary["count_error"].worst_case) == (-4, "image1")
        assert badness("count_error", -4) > badness("count_error", 2)
        assert isnan(badness("dice", nan))

    def test_all_classes_of_a_case_are_drawn_together(self):
        dices = [0.1, 0.3, 0.8, 0.9, 0.95, 0.4]
        one, other = (evaluation(label=label, dice=dices) for label in (A, B))
        both = Evaluation(one.scores + other.scores, (1.0,) * 12, (A, B), pairs=one.pairs)
        of_a, _, of_all = summarise(both, FAST)
        assert of_all["dice"].cases == 12
        # Twice the same cases are no more cases.
        assert of_all["dice"].interval == of_a["dice"].interval

    def test_groups_of_one_patient(self):
        found = evaluation(dice=[0.1, 0.12, 0.5, 0.52, 0.9, 0.92, 0.7, 0.72, 0.3, 0.32])
        group_of = groups_of([name for name, _, _ in found.pairs], "case([0-9])")
        pairs = {name: str(int(number) // 2) for name, number in group_of.items()}
        apart, together = (
            summarise(found, resampling)[0]["dice"].interval
            for resampling in (FAST, Resampling(pairs, draws=199))
        )
        assert together.high - together.low > 1.2 * (apart.high - apart.low)

    def test_groups_that_are_none(self):
        with pytest.raises(UsageError, match=r"--group: not a regular expression with one group"):
            groups_of(["a1"], "a")
        with pytest.raises(DataError, match=r"--group: the expression \(b\) finds no group .* a1"):
            groups_of(["a1", "b"], "(b)")
        assert groups_of(["a1", "b2"], "([0-9])") == {"a1": "1", "b2": "2"}

    def test_millimetres_and_pixels_have_no_interval(self):
        found = evaluation(hd95=[1.0, 2.0, 3.0, 4.0, 5.0], dice=[0.1, 0.2, 0.3, 0.4, 0.5])
        mixed = (dataclasses.replace(found.scores[0], unit="px"), *found.scores[1:])
        summary, _ = summarise(dataclasses.replace(found, scores=mixed), FAST)
        assert summary["hd95"].interval is None
        assert summary["dice"].interval is not None

    def test_the_same_input_gives_the_same_digits(self):
        found = evaluation(dice=[0.1, 0.3, 0.8, 0.9, 0.95, 0.4])
        once, again, other = (
            summarise(found, resampling)[0]["dice"].interval
            for resampling in (FAST, FAST, Resampling(draws=199, seed=1))
        )
        assert once == again != other


ids = st.lists(st.integers(0, 4), min_size=8, max_size=8)
images = st.lists(st.tuples(ids, ids), min_size=1, max_size=7)


class TestPooled:
    @given(images)
    @settings(max_examples=40, deadline=None)
    def test_shares_of_sums_are_the_scores_of_all_as_one(self, made):
        found = objects(made)
        total = np.sum([sums(each, found.thresholds) for each in found.matches], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            by_sums = dict(zip(share_names(found.thresholds), shares(total), strict=True))
        by_one = dict(found.pooled[0].values)
        expected = {name: by_one[name] for name in by_sums}
        assert by_sums == pytest.approx(expected, nan_ok=True)

    def test_an_interval_for_shares_and_none_for_counts(self):
        rng = np.random.default_rng(0)
        made = [([1, 1, 2, 2, 0], [1, 1, 2 * (rng.random() < 0.6), 2, 0]) for _ in range(12)]
        (summary,) = summarise(objects(made), FAST)
        f1 = summary["f1"]
        assert f1.pooled == summary["rq"].pooled
        assert f1.pooled_interval.low < f1.pooled < f1.pooled_interval.high
        assert summary["tp"].pooled_interval is None
        assert summary["tp"].pooled == sum(each.counts()[0] for each in objects(made).matches)

    def test_images_without_objects_are_not_drawn(self):
        made = [([1, 1, 2, 2], [1, 1, 0, 3 * (place % 2)]) for place in range(9)]
        empty = [([0, 0, 0, 0], [0, 0, 0, 0])] * 5
        with_, without = (summarise(objects(each), FAST)[0] for each in (made + empty, made))
        assert with_["pq"].pooled_interval == without["pq"].pooled_interval
        assert isinstance(objects(made).matches[0], Matches)


scores = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1)) | st.just((nan, 0.5)), min_size=5, max_size=14
).filter(lambda each: any(not isnan(a) for a, _ in each))


class TestComparison:
    @given(scores)
    @settings(max_examples=25, deadline=None)
    def test_the_other_way_round_everything_is_turned(self, both):
        one, other = (
            evaluation(dice=[pair[side] for pair in both], hd95=[5 * pair[side] for pair in both])
            for side in (0, 1)
        )
        there, back = compare(one, other, FAST), compare(other, one, FAST)
        for metric in ("dice", "hd95"):
            a, b = row(there, metric), row(back, metric)
            assert a.difference == -b.difference
            assert (a.mean, a.other_mean) == (b.other_mean, b.mean)
            assert (a.wins, a.ties, a.losses) == (b.losses, b.ties, b.wins)
            assert [a.p, a.adjusted_p] == pytest.approx([b.p, b.adjusted_p], nan_ok=True)
            if a.interval is not None:
                ends = (-b.interval.high, -b.interval.low)
                assert (a.interval.low, a.interval.high) == pytest.approx(ends, abs=1e-9)
        assert {c.gain for c in there.changes} == {-c.gain for c in back.changes}

    def test_a_set_against_itself(self):
        found = evaluation(dice=[0.1, 0.5, 0.9, 0.3, 0.4, 0.7])
        same = row(compare(found, found, FAST), "dice")
        assert (same.difference, same.interval) == (0, Interval(0, 0))
        assert (same.wins, same.ties, same.losses) == (0, 6, 0)
        assert isnan(same.p) and isnan(same.adjusted_p)
        assert compare(found, found, FAST).changed_most(A, 3) == ((), ())

    def test_by_hand(self):
        one = evaluation(dice=[0.9, 0.8, 0.5, 0.5, nan], hd95=[1.0, 2.0, 3.0, 4.0, 1.0])
        other = evaluation(dice=[0.7, 0.8, 0.6, 0.1, 0.2], hd95=[2.0, 2.0, 2.0, 5.0, 3.0])
        found = compare(one, other, FAST)
        dice = row(found, "dice")
        assert (dice.mean, dice.other_mean) == pytest.approx((0.675, 0.55))
        assert dice.difference == pytest.approx(0.125)
        assert (dice.wins, dice.ties, dice.losses, dice.pairs, dice.cases) == (2, 1, 1, 4, 5)
        # 0.1, 0.2 and 0.4 with one minus: sums of ranks 1 and 5; 2 * 2 of 8 choices.
        assert dice.p == 0.5
        assert dice.interval is None
        # Of a distance less is better.
        distance = row(found, "hd95")
        assert distance.difference == pytest.approx(-0.6)
        assert (distance.wins, distance.ties, distance.losses) == (3, 1, 1)
        gains, losses = found.changed_most(A, 1)
        assert (gains[0].case, losses[0].case) == ("case3", "case2")
        assert gains[0].gain == pytest.approx(0.4)

    def test_holm_counts_the_rows_that_have_a_p(self):
        one = evaluation(dice=[0.9] * 7, iou=[0.5] * 7)
        other = evaluation(dice=[0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], iou=[0.5] * 7)
        dice = row(compare(one, other, FAST), "dice")
        assert dice.p == dice.adjusted_p == pytest.approx(2 / 128)
        worse = evaluation(dice=[0.8 - 0.1 * k for k in range(7)], iou=[0.4] * 7)
        found = compare(one, worse, FAST)
        assert row(found, "dice").adjusted_p == pytest.approx(2 * 2 / 128)

    def test_cases_of_a_patient_are_one_witness(self):
        one = evaluation(dice=[0.9] * 12)
        other = evaluation(dice=[0.5 + 0.01 * k for k in range(12)])
        together = {f"case{k}": str(k // 2) for k in range(12)}
        apart = row(compare(one, other, FAST), "dice")
        grouped = row(compare(one, other, Resampling(together, draws=99)), "dice")
        assert apart.p == pytest.approx(2 / 2**12)
        assert grouped.p == pytest.approx(2 / 2**6)

    def test_a_class_that_only_one_set_has(self):
        one = evaluation(dice=[0.5] * 5)
        other = evaluation(dice=[0.5] * 5, label=B)
        assert compare(one, other, FAST).rows == ()

    def test_a_class_is_known_by_its_value_whatever_files_call_it(self):
        dices = [0.1, 0.2, 0.3, 0.4, 0.5]
        named = evaluation(dice=dices, label=Label(1, "liver"))
        (dice, *_) = compare(named, evaluation(dice=dices[::-1], label=Label(1, "1")), FAST).rows
        assert (dice.label, dice.pairs) == (Label(1, "liver"), 5)

    def test_cases_of_one_set_only_are_told(self):
        one, other = evaluation(dice=[0.5, 0.6]), evaluation(dice=[0.4, 0.5, 0.6])
        assert compare(one, other, FAST).missing == ("case2",)
        bare = dataclasses.replace(other, scores=(), pairs=())
        with pytest.raises(DataError, match="no case is scored in both sets"):
            compare(one, bare, FAST)
        with pytest.raises(DataError, match="objects and classes cannot be compared"):
            compare(one, objects([([1], [1])]), FAST)

    def test_objects_per_image_and_pooled(self):
        truth = [[1, 1, 2, 2, 3, 3, 4, 4]] * 8
        better = [(t, [1, 1, 2, 2, 3, 3, 4 * (k > 2), 4]) for k, t in enumerate(truth)]
        worse = [(t, [1, 1, 0, 0, 3, 3, 0, 4]) for t in truth]
        one, other = objects(better), objects(worse)
        found = compare(one, other, FAST)
        f1 = row(found, "f1", EVERY)
        assert f1.pooled.value == one.pooled[0]["f1"]
        assert f1.pooled.difference == pytest.approx(one.pooled[0]["f1"] - other.pooled[0]["f1"])
        assert f1.pooled.interval.low <= f1.pooled.difference <= f1.pooled.interval.high
        # The smaller error is better, whichever sign it has.
        count = row(found, "count_error", EVERY)
        assert (count.wins, count.losses, count.other_mean) == (8, 0, 1)
        assert {change.metric for change in found.changes} == {"pq"}
        assert "tp" not in {each.metric for each in found.rows}


class TestFile:
    def outcome(self, **more):
        one = evaluation(dice=[0.9, 0.8, 0.5, 0.5, 0.7], hd95=[1.0, 2.0, 3.0, 4.0, nan])
        other = evaluation(dice=[0.8, 0.7, 0.6, 0.1, 0.6], hd95=[1.0, 2.0, 3.0, 4.0, nan])
        return Outcome(Path("t"), Path("p"), one, FAST, Path("q"), other, **more)

    def test_the_summary_is_strict_json(self, tmp_path):
        write_summary(self.outcome(), tmp_path / "s.json")
        found = json.loads((tmp_path / "s.json").read_text(), parse_constant=pytest.fail)
        (first, last) = found["classes"]
        assert (first["label"], first["name"], last["name"]) == (1, "a", "all")
        dice = first["metrics"]["dice"]
        assert dice["mean"] == pytest.approx(0.68)
        low, high = dice["interval"]
        assert low < 0.68 < high
        assert (dice["worst_case"], dice["defined"]) == ("case2", 5)
        assert first["metrics"]["hd95"]["interval"] is None
        assert first["metrics"]["recall"]["mean"] is None
        assert "pooled" not in dice
        rows = {each["metric"]: each for each in found["against"]["rows"]}
        assert rows["hd95"]["p"] is None
        assert (rows["dice"]["better"], rows["dice"]["worse"]) == (4, 1)
        (changed,) = found["against"]["changed_most"]
        assert changed["better"][0]["case"] == "case3"

    def test_of_one_set(self, tmp_path):
        outcome = dataclasses.replace(self.outcome(), against=None, other=None)
        write_summary(outcome, tmp_path / "s.json")
        assert "against" not in json.loads((tmp_path / "s.json").read_text())

    def test_of_objects(self, tmp_path):
        found = objects([([1, 1, 2], [1, 1, 0])] * 6)
        write_summary(Outcome(Path("t"), Path("p"), found, FAST), tmp_path / "s.json")
        (every,) = json.loads((tmp_path / "s.json").read_text())["classes"]
        assert every["metrics"]["tp"]["pooled"] == 6
        assert every["metrics"]["f1"]["pooled_interval"] == pytest.approx([2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0, "<0.0001"), (1e-9, "<0.0001"), (0.03906, "0.0391"), (nan, "-"), (1, "1.0000")],
)
def test_a_p_is_never_0(p, text):
    assert p_text(p) == text


def test_intervals_read_well():
    assert interval_text(Interval(0.1, 0.25)) == "0.1000\u20130.2500"
    assert interval_text(Interval(-0.1, 0.25)) == "-0.1000 to 0.2500"
    assert interval_text(Interval(0.1, 0.25), sign="+") == "+0.1000 to +0.2500"
    assert interval_text(None) == number_text(math.nan) == "-"
    assert number_text(2.5, "merges") == "2.50"
