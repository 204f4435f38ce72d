"""Object metrics against sets of voxels, StarDist, MONAI, hands, and what must hold."""

import base64
import json
import zlib
from math import isnan, nan
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unetseg.errors import ShapeMismatch, UsageError
from unetseg.metrics import objects
from unetseg.metrics.objects import COUNTS, THRESHOLDS, matches, metric_names, pooled, score

GOLDEN = json.loads((Path(__file__).parent / "golden" / "objects.json").read_text())


def unpacked(row, key):
    content = zlib.decompress(base64.b64decode(row[key]))
    return np.frombuffer(content, np.uint8).reshape(row["shape"])


def row_of(*ids):
    return np.array([ids], np.int32)


@pytest.fixture(params=GOLDEN, ids=lambda row: row["name"])
def golden(request):
    row = request.param
    return matches(unpacked(row, "truth"), unpacked(row, "predicted")), row


class TestGolden:
    def test_counts_at_every_threshold(self, golden):
        found, row = golden
        for threshold, (*counts, total) in row["sets"]["counts"].items():
            assert list(found.counts(float(threshold))) == counts
            ious = found.iou[found.matched(float(threshold))]
            assert ious.sum() == pytest.approx(total)

    def test_aji_merges_and_splits(self, golden):
        found, row = golden
        values = dict(score(found))
        assert values["aji"] == pytest.approx(row["sets"]["aji"], abs=1e-12)
        assert values["merges"] == row["sets"]["merges"]
        assert values["splits"] == row["sets"]["splits"]

    def test_panoptic_qualities_are_those_of_monai(self, golden):
        found, row = golden
        values = dict(score(found))
        for name, value in row["MONAI"].items():
            # MONAI has 0 where nothing is matched.
            mine = 0.0 if isnan(values[name]) else values[name]
            assert mine == pytest.approx(value, abs=2e-6), name

    def test_every_share_at_every_threshold_is_that_of_stardist(self, golden):
        found, row = golden
        for text, values in row["StarDist"].items():
            threshold = float(text)
            assert list(found.counts(threshold)) == values["counts"]
            mine = {
                "ap": objects.average_precision([found], [threshold])[0],
                "f1": objects.f1(found, threshold),
                "precision": objects.precision(found, threshold),
                "recall": objects.recall(found, threshold),
                "pq": objects.panoptic_quality(found, threshold),
                "sq": objects.segmentation_quality(found, threshold),
            }
            for name, value in mine.items():
                # StarDist has 0 where nothing is defined.
                assert (0.0 if isnan(value) else value) == pytest.approx(values[name], abs=1e-6)

    def test_the_shares_follow_from_the_counts(self, golden):
        found, row = golden
        values = dict(score(found))
        tp, fp, fn, total = row["sets"]["counts"]["0.5"]
        assert (values["tp"], values["fp"], values["fn"]) == (tp, fp, fn)
        assert (values["true"], values["predicted"]) == (tp + fn, tp + fp)
        assert values["ap_0.5"] == pytest.approx(tp / (tp + fp + fn))
        assert values["pq"] == pytest.approx(total / (tp + fp / 2 + fn / 2))
        assert values["f1"] == values["rq"] == pytest.approx(tp / (tp + (fp + fn) / 2))
        assert values["recall"] == pytest.approx(tp / (tp + fn))
        assert values["count_error"] == fp - fn
        assert values["relative_count_error"] == pytest.approx((fp - fn) / (tp + fn))
        each = [values[f"ap_{threshold:g}"] for threshold in THRESHOLDS]
        assert values["ap_mean"] == pytest.approx(sum(each) / len(each))

    def test_the_cases_are_not_all_alike(self):
        """What the tests above compare differs from case to case and from metric to metric."""
        for key in ("aji", "merges", "splits"):
            assert len({row["sets"][key] for row in GOLDEN}) > 1
        values = dict(score(matches(*(unpacked(GOLDEN[5], key) for key in ("truth", "predicted")))))
        assert len({round(values[name], 6) for name in ("pq", "sq", "rq", "aji", "ap_0.5")}) == 5


class TestByHand:
    def test_an_iou_equal_to_the_threshold_is_no_match(self):
        found = matches(row_of(1, 1, 0), row_of(0, 5, 0))
        assert found.iou.tolist() == [0.5]
        assert found.counts(0.5) == (0, 1, 1)
        assert found.counts(0.4999) == (1, 0, 0)
        assert matches(row_of(*[1] * 10), row_of(*[1] * 7, 0, 0, 0)).counts(0.7) == (0, 1, 1)

    def test_two_halves_of_an_object_are_no_pair_of_it(self):
        found = matches(row_of(1, 1, 1, 1), row_of(2, 2, 3, 3))
        assert found.counts(0.5) == (0, 2, 1)
        assert found.counts(0.3) == (1, 1, 0)

    def test_more_pairs_win_over_better_ones(self):
        # IoU 1/4 of 1 and 8, 2/6 of 1 and 7, 2/6 of 2 and 7: taking 1 and 7 would leave 2 alone.
        truth = row_of(1, 1, 1, 1, 2, 2, 2, 2, 0)
        predicted = row_of(0, 8, 7, 7, 7, 7, 0, 0, 0)
        found = matches(truth, predicted)
        assert found.counts(0.1) == (2, 0, 0)
        assert sorted(found.iou[found.matched(0.1)]) == [1 / 4, 2 / 6]

    def test_merges_and_splits(self):
        one, two = row_of(1, 1, 2, 2, 3, 3, 0), row_of(4, 4, 4, 0, 5, 5, 5)
        assert (objects.merges(matches(one, two)), objects.splits(matches(one, two))) == (1, 0)
        assert (objects.merges(matches(two, one)), objects.splits(matches(two, one))) == (0, 1)
        # A third of an object is not enough.
        less = matches(row_of(1, 1, 2, 2, 2), row_of(4, 4, 4, 0, 0))
        assert (objects.merges(less), objects.splits(less)) == (0, 0)

    def test_aji_takes_a_predicted_object_for_several_true_ones(self):
        # Both go with 9: 2 + 2 in common, 4 + 4 in the unions, and 8 has served nobody.
        found = matches(row_of(1, 1, 2, 2, 0, 0), row_of(9, 9, 9, 9, 0, 8))
        assert objects.aggregated_jaccard(found) == 4 / 9

    @pytest.mark.parametrize(
        ("truth", "predicted", "expected"),
        [
            (row_of(0, 0), row_of(0, 0), dict.fromkeys(("ap_0.5", "ap_mean", "f1", "pq"), nan)),
            (row_of(0, 0), row_of(0, 0), {"count_error": 0, "relative_count_error": nan}),
            (row_of(0, 0), row_of(0, 0), {"aji": nan, "sq": nan, "merges": 0, "splits": 0}),
            (row_of(0, 1), row_of(0, 0), {"ap_0.5": 0, "f1": 0, "pq": 0, "sq": nan, "aji": 0}),
            (row_of(0, 1), row_of(0, 0), {"precision": nan, "recall": 0, "count_error": -1}),
            (row_of(0, 0), row_of(3, 1), {"precision": 0, "recall": nan, "count_error": 2}),
            (row_of(0, 0), row_of(3, 1), {"relative_count_error": nan, "aji": 0, "pq": 0}),
        ],
    )
    def test_images_without_objects(self, truth, predicted, expected):
        values = dict(score(matches(truth, predicted)))
        assert {name: values[name] for name in expected} == pytest.approx(expected, nan_ok=True)

    def test_an_array_without_voxels(self):
        nothing = np.zeros((0, 4), np.int32)
        assert matches(nothing, nothing).counts() == (0, 0, 0)

    def test_pooled_sums_before_it_divides(self):
        good = matches(row_of(1, 2, 3, 4), row_of(1, 2, 3, 4))
        bad = matches(row_of(1, 1), row_of(0, 0))
        nothing = matches(row_of(0), row_of(0))
        values = dict(score(pooled([good, nothing, bad])))
        assert (values["tp"], values["fp"], values["fn"]) == (4, 0, 1)
        assert values["ap_0.5"] == 4 / 5
        assert values["aji"] == 4 / 6
        assert objects.average_precision([good, nothing, bad]) == (0.8,) * 5
        assert dict(score(pooled([good, bad]))) == values
        assert isnan(objects.average_precision([nothing])[0])
        assert isnan(objects.average_precision([])[0])

    def test_thresholds_can_be_others(self):
        found = matches(row_of(1, 1, 1, 1), row_of(1, 1, 1, 0))
        assert metric_names((0.5, 0.75))[5:8] == ("ap_0.5", "ap_0.75", "ap_mean")
        assert dict(score(found, (0.74, 0.75)))["ap_mean"] == 0.5
        for wrong in (-0.1, 1, nan):
            with pytest.raises(UsageError, match="not a threshold of the IoU"):
                found.counts(wrong)

    def test_shapes_must_agree(self):
        with pytest.raises(ShapeMismatch, match=r"expected \(1, 2\), got \(1, 3\)"):
            matches(row_of(1, 2), row_of(1, 2, 3))

    def test_a_class_by_itself(self):
        found = matches(row_of(1, 2, 3, 0, 4), row_of(5, 6, 0, 7, 8))
        of_class = found.among(np.isin(found.true_ids, (1, 2, 4)), found.predicted_ids != 6)
        assert of_class.counts() == (2, 1, 1)
        assert of_class.true_ids.tolist() == [1, 2, 4]
        assert of_class.predicted_ids.tolist() == [5, 7, 8]


class TestIgnored:
    def test_what_is_half_unknown_leaves_on_both_sides(self):
        truth = row_of(1, 1, 2, 2, 3, 3, 0, 0)
        predicted = row_of(0, 0, 5, 5, 6, 6, 6, 7)
        ignored = np.array([[0, 0, 1, 0, 0, 0, 0, 1]], bool)
        found = matches(truth, predicted, ignored=ignored)
        assert found.true_ids.tolist() == [1, 3]
        assert found.predicted_ids.tolist() == [6]
        assert matches(truth, predicted).counts() == (2, 1, 1)

    def test_what_stays_is_measured_on_known_ground(self):
        truth = row_of(1, 1, 1, 1)
        predicted = row_of(2, 2, 2, 0)
        ignored = np.array([[0, 0, 0, 1]], bool)
        assert matches(truth, predicted, ignored=ignored).iou.tolist() == [1]
        assert matches(truth, predicted).iou.tolist() == [0.75]

    def test_nothing_ignored_changes_nothing(self):
        truth, predicted = (unpacked(GOLDEN[5], key) for key in ("truth", "predicted"))
        known = matches(truth, predicted, ignored=np.zeros(truth.shape, bool))
        assert score(known) == score(matches(truth, predicted))


labels = arrays(
    np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(0, 5)
)
pairs = labels.flatmap(
    lambda one: st.tuples(st.just(one), arrays(np.uint8, one.shape, elements=st.integers(0, 5)))
)


def same(one, other):
    return one == pytest.approx(other, nan_ok=True)


class TestProperties:
    @given(pairs, st.permutations(range(1, 6)), st.sampled_from([1, 1000, 2**31, 2**40]))
    @settings(max_examples=150, deadline=None)
    def test_the_numbering_of_objects_means_nothing(self, images, order, factor):
        truth, predicted = images
        table = np.array([0, *(factor * number for number in order)], np.int64)
        renumbered = matches(table[truth], table[predicted])
        plain = matches(truth, predicted)
        for threshold in (0, 0.2, 0.5):
            assert renumbered.counts(threshold) == plain.counts(threshold)
        assert same(dict(score(renumbered)), dict(score(plain)))

    @given(pairs)
    @settings(max_examples=100, deadline=None)
    def test_exchanging_the_images_exchanges_fp_and_fn(self, images):
        there, back = matches(*images), matches(*reversed(images))
        for threshold in (0, 0.2, 0.5, 0.8):
            tp, fp, fn = there.counts(threshold)
            assert back.counts(threshold) == (tp, fn, fp)
        one, other = dict(score(there)), dict(score(back))
        for name, twin in (("precision", "recall"), ("merges", "splits"), ("pq", "pq")):
            assert same(one[name], other[twin])
        assert one["count_error"] == -other["count_error"]

    @given(labels)
    @settings(max_examples=50, deadline=None)
    def test_an_image_agrees_with_itself(self, image):
        values = dict(score(matches(image, image)))
        perfect = 1.0 if image.any() else nan
        for name in ("ap_0.9", "f1", "precision", "recall", "pq", "sq", "aji"):
            assert same(values[name], perfect)
        assert values["fp"] == values["fn"] == values["count_error"] == values["merges"] == 0

    @given(pairs)
    @settings(max_examples=100, deadline=None)
    def test_shares_are_shares_and_fall_with_the_threshold(self, images):
        found = matches(*images)
        for name, value in score(found):
            if name not in (*COUNTS, "relative_count_error"):
                assert isnan(value) or 0 <= value <= 1
        counted = [found.counts(threshold)[0] for threshold in (0, 0.1, 0.3, *THRESHOLDS)]
        assert counted == sorted(counted, reverse=True)
        assert all(tp <= min(len(found.true_ids), len(found.predicted_ids)) for tp in counted)

    @given(pairs, pairs)
    @settings(max_examples=50, deadline=None)
    def test_pooled_counts_are_sums(self, one, other):
        each = [matches(*one), matches(*other)]
        together = pooled(each)
        for threshold in (0, 0.3, 0.5):
            sums = [
                sum(counts) for counts in zip(*(m.counts(threshold) for m in each), strict=True)
            ]
            assert list(together.counts(threshold)) == sums

    @given(pairs)
    @settings(max_examples=50, deadline=None)
    def test_parts_of_any_size_give_the_same_table(self, images):
        whole = matches(*images)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objects, "_PART", 3)
            parts = matches(*images)
        for name in (
            "true_ids",
            "predicted_ids",
            "true_sizes",
            "predicted_sizes",
            "pairs",
            "shared",
        ):
            assert np.array_equal(getattr(parts, name), getattr(whole, name)), name


def test_objects_come_in_raster_order():
    found = matches(row_of(0, 9, 9, 2, 9), row_of(4, 4, 1, 1, 1))
    assert found.true_ids.tolist() == [9, 2]
    assert found.predicted_ids.tolist() == [4, 1]
    assert found.true_sizes.tolist() == [3, 1]


def test_five_thousand_objects_take_about_a_second():
    edge, ids = 28, np.arange(1, 73 * 73 + 1, dtype=np.int32).reshape(73, 73)
    truth = np.kron(ids, np.ones((edge, edge), np.int32))
    truth[::edge] = truth[:, ::edge] = 0
    predicted = np.roll(truth, (3, 4), (0, 1))
    start = perf_counter()
    found = matches(truth, predicted)
    values = dict(score(found))
    assert found.counts(0)[0] == len(found.true_ids) == 73 * 73
    # Far above what it takes, far below what objects times objects would.
    assert perf_counter() - start < 5
    assert 0.5 < values["sq"] < 0.8
