"""Metrics against numbers worked out by hand, by brute force, and by MONAI and SimpleITK."""

import base64
import json
import zlib
from itertools import product
from math import inf, isnan, nan, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unetseg import metrics
from unetseg.errors import ShapeMismatch, UsageError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "metrics.json").read_text())


def squares(spacing):
    """Two 4 x 4 squares, one pixel apart along the last axis.

    Of the 12 surface pixels of each, 6 lie on the other surface. The 4 of the outer side are one
    step along the last axis away, the 2 inside the other square one step along either axis.
    """
    truth, predicted = np.zeros((2, 10, 12), bool)
    truth[3:7, 3:7] = predicted[3:7, 4:8] = True
    return truth, predicted, spacing


def cube_and_centre():
    """A 3 x 3 x 3 cube that fills its array, and the voxel in its middle."""
    truth = np.ones((3, 3, 3), bool)
    predicted = np.zeros((3, 3, 3), bool)
    predicted[1, 1, 1] = True
    return truth, predicted, (1.0, 2.0, 3.0)


def point_and_line():
    """One pixel, and a line of 21 pixels that begins there."""
    truth, predicted = np.zeros((2, 5, 30), bool)
    truth[2, 4] = predicted[2, 4:25] = True
    return truth, predicted, (7.0, 1.0)


# The offsets of a 3 x 3 x 3 neighbourhood: 6 faces, 12 edges, 8 corners.
CUBE_SUM = 2 * (1 + 2 + 3) + 4 * (sqrt(5) + sqrt(10) + sqrt(13)) + 8 * sqrt(14)

# masks, tolerance, expected values in the order of METRICS
BY_HAND = {
    "squares, tolerance 0": (squares((1, 1)), 0, (0.75, 0.6, 0.75, 0.75, 1, 0.5, 0.5)),
    "squares, tolerance 1": (squares((1, 1)), 1, (0.75, 0.6, 0.75, 0.75, 1, 0.5, 1)),
    "squares, low pixels": (squares((2, 0.5)), 0.4, (0.75, 0.6, 0.75, 0.75, 0.5, 0.25, 0.5)),
    "squares, wide pixels": (squares((0.5, 2)), 0.5, (0.75, 0.6, 0.75, 0.75, 2, 0.75, 16 / 24)),
    "cube and its centre": (
        cube_and_centre(),
        2,
        # The 95th percentile of 26 values lies between the corners; 4 faces are within 2.
        (2 / 28, 1 / 27, 1, 1 / 27, sqrt(14), (CUBE_SUM + 1) / 27, 5 / 27),
    ),
    "point and line": (
        point_and_line(),
        3,
        # Directed percentiles 0 and 19; the percentile of all 22 values would be 18.95.
        (2 / 22, 1 / 21, 1 / 21, 1, 19, 210 / 22, 5 / 22),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_numbers_by_hand(name):
    (truth, predicted, spacing), tolerance, expected = BY_HAND[name]
    found = metrics.score(truth, predicted, spacing, tolerance=tolerance)
    assert tuple(metric for metric, _ in found) == metrics.METRICS
    assert dict(found) == pytest.approx(dict(zip(metrics.METRICS, expected, strict=True)))


@pytest.mark.parametrize("name", BY_HAND)
def test_each_function_is_what_score_says(name):
    (truth, predicted, spacing), tolerance, expected = BY_HAND[name]
    values = dict(zip(metrics.METRICS, expected, strict=True))
    for metric in ("dice", "iou", "precision", "recall"):
        assert getattr(metrics, metric)(truth, predicted) == pytest.approx(values[metric])
    for metric in ("hd95", "assd"):
        assert getattr(metrics, metric)(truth, predicted, spacing) == pytest.approx(values[metric])
    found = metrics.surface_dice(truth, predicted, spacing, tolerance=tolerance)
    assert found == pytest.approx(values["surface_dice"])


def test_surface_distances_are_sorted_and_belong_to_their_mask():
    distances = metrics.surface_distances(*point_and_line())
    assert distances.from_truth.tolist() == [0]
    assert distances.from_predicted.tolist() == list(range(21))


@pytest.mark.parametrize(
    ("truth_is_empty", "predicted_is_empty", "expected"),
    [
        (True, True, (nan, nan, nan, nan, nan, nan, nan)),
        (True, False, (0.0, 0.0, 0.0, nan, nan, nan, 0.0)),
        (False, True, (0.0, 0.0, nan, 0.0, nan, nan, 0.0)),
        (False, False, (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0)),
    ],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_empty_masks(truth_is_empty, predicted_is_empty, expected, ndim):
    full = np.zeros((6,) * ndim, bool)
    full[(slice(2, 4),) * ndim] = True
    truth, predicted = (
        np.zeros_like(full) if is_empty else full
        for is_empty in (truth_is_empty, predicted_is_empty)
    )
    found = metrics.score(truth, predicted, (1.0,) * ndim, tolerance=1)
    assert [value for _, value in found] == pytest.approx(list(expected), nan_ok=True)
    # In place of the exact zero no tiny number will do, and approx(0) might let one pass.
    assert [value for _, value in found if value == 0] == [v for v in expected if v == 0]


def test_the_distances_to_nothing_are_infinite():
    mask = np.ones((2, 3), bool)
    distances = metrics.surface_distances(mask, np.zeros((2, 3), bool), (1, 1))
    assert distances.from_truth.tolist() == [inf] * 6
    assert distances.from_predicted.size == 0


@pytest.mark.parametrize("edge", [0.1, 0.3, 0.7, 0.79, 1.1, float(np.float32(0.48828125e-3) / 3)])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_a_distance_equal_to_the_tolerance_is_within(edge, steps):
    truth, predicted = np.zeros((2, 4, 12), bool)
    truth[1, 2] = predicted[1, 2 + steps] = True
    spacing = (5.0, edge)
    # The same length, summed up instead of multiplied.
    tolerance = sum([edge] * steps)
    assert metrics.surface_dice(truth, predicted, spacing, tolerance=tolerance) == 1
    assert metrics.surface_dice(truth, predicted, spacing, tolerance=tolerance * 0.9999) == 0


def test_the_border_of_the_array_is_a_surface():
    cut = np.zeros((5, 5), bool)
    cut[:, 2:] = True
    # Columns 2 and 4, and the two ends of column 3; inside are three pixels.
    distances = metrics.surface_distances(cut, cut, (1, 1))
    assert distances.from_truth.size == 12


def test_diagonal_neighbours_do_not_make_a_surface():
    notched = np.ones((5, 5), bool)
    notched[0, 0] = False
    # The pixel (1, 1) touches the missing corner only diagonally: 16 - 1 border pixels.
    assert metrics.surface_distances(notched, notched, (1, 1)).from_truth.size == 15


@pytest.mark.parametrize("metric", ["dice", "iou", "precision", "recall"])
def test_shapes_must_agree_for_overlap(metric):
    with pytest.raises(ShapeMismatch, match=r"differ in shape \(expected \(2, 3\), got \(3, 2\)\)"):
        getattr(metrics, metric)(np.ones((2, 3), bool), np.ones((3, 2), bool))


def test_shapes_must_agree_for_surfaces():
    # These two would broadcast.
    with pytest.raises(ShapeMismatch, match="differ in shape"):
        metrics.hd95(np.ones((2, 3), bool), np.ones((1, 3), bool), (1, 1))


def test_one_spacing_per_axis():
    mask = np.ones((2, 3), bool)
    with pytest.raises(ShapeMismatch, match=r"one spacing per axis \(expected 2, got 3\)"):
        metrics.assd(mask, mask, (1, 1, 1))


@pytest.mark.parametrize("tolerance", [-1.0, nan, inf])
def test_a_tolerance_is_a_length(tolerance):
    mask = np.ones((2, 3), bool)
    with pytest.raises(UsageError, match="not a surface tolerance"):
        metrics.surface_dice(mask, mask, (1, 1), tolerance=tolerance)


def test_dice_per_class():
    truth = np.array([[0, 1, 1, 2], [-3, 1, 2, 2]], np.int16)
    predicted = np.array([[0, 1, 2, 2], [-3, 0, 2, 1]], np.int16)
    # 1: 1 of 3 and 2 voxels in common; 2: 2 of 3 and 3; 5 is in neither; -3: 1 of 1 and 1.
    found = metrics.dice_per_class(truth, predicted, ((1,), (2,), (5,), (-3,), (1, 2)))
    assert found == pytest.approx((2 / 5, 4 / 6, nan, 1.0, 10 / 11), nan_ok=True)


def test_dice_per_class_wants_equal_shapes():
    with pytest.raises(ShapeMismatch):
        metrics.dice_per_class(np.zeros((2, 3), int), np.zeros((1, 3), int), ((1,),))


@pytest.mark.parametrize(
    ("dtype", "large", "small"),
    [
        ("uint8", 255, 1),
        ("int8", 127, -128),
        (">i2", 300, -7),
        ("int64", 2**40, -(2**40)),
        ("uint32", 2**32 - 1, 3),
        ("int32", 65_536, 1),
        ("int32", 65_537, -1),
    ],
)
def test_class_boxes_hold_the_class_in_both_masks(dtype, large, small):
    truth, predicted = np.zeros((2, 6, 7), dtype)
    truth[1, 2] = truth[3, 1] = large
    predicted[2, 5] = large
    predicted[0, 0] = small
    found = metrics.class_boxes(truth, predicted)
    assert found == {
        small: (slice(0, 1), slice(0, 1)),
        large: (slice(1, 4), slice(1, 6)),
    }
    assert list(found) == [small, large]


def test_class_boxes_of_nothing():
    assert metrics.class_boxes(np.zeros((2, 3), int), np.zeros((2, 3), int)) == {}


def test_class_boxes_want_equal_shapes():
    with pytest.raises(ShapeMismatch):
        metrics.class_boxes(np.zeros((2, 3), int), np.zeros((1, 3), int))


def unpacked(row, key):
    bits = np.frombuffer(zlib.decompress(base64.b64decode(row[key])), np.uint8)
    size = int(np.prod(row["shape"]))
    return np.unpackbits(bits)[:size].astype(bool).reshape(row["shape"])


@pytest.mark.parametrize("program", ["MONAI", "SimpleITK"])
@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_other_programs_find_the_same(row, program):
    truth, predicted = unpacked(row, "truth"), unpacked(row, "predicted")
    found = dict(metrics.score(truth, predicted, row["spacing"], tolerance=row["tolerance"]))
    expected = row[program]
    # Both compute in float32.
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_other_programs_would_notice_a_wrong_axis(row):
    truth, predicted = unpacked(row, "truth"), unpacked(row, "predicted")
    spacing = (row["spacing"][0] * 1.01, *row["spacing"][1:])
    found = dict(metrics.score(truth, predicted, spacing, tolerance=row["tolerance"]))
    assert found["assd"] != pytest.approx(row["MONAI"]["assd"], rel=3e-6)


def surface_points(mask, spacing):
    """Surface voxels by the definition: some face neighbour is not in the set of mask voxels."""
    voxels = set(map(tuple, np.argwhere(mask).tolist()))
    steps = [tuple(s * (k == axis) for k in range(mask.ndim)) for axis, s in STEPS[mask.ndim]]
    on_surface = [
        voxel
        for voxel in sorted(voxels)
        if any(tuple(map(sum, zip(voxel, step, strict=True))) not in voxels for step in steps)
    ]
    return [[i * edge for i, edge in zip(voxel, spacing, strict=True)] for voxel in on_surface]


STEPS = {ndim: list(product(range(ndim), (-1, 1))) for ndim in (2, 3)}


@st.composite
def pairs(draw):
    """Two masks of the same shape with at least one voxel each, and a spacing."""
    ndim = draw(st.sampled_from((2, 3)))
    shape = draw(st.tuples(*[st.integers(1, 6)] * ndim))
    masks = arrays(bool, shape, elements=st.booleans()).filter(np.any)
    edges = st.floats(0.1, 10, allow_nan=False)
    return draw(masks), draw(masks), draw(st.tuples(*[edges] * ndim))


@given(pairs(), st.floats(0, 20))
@settings(max_examples=60, deadline=None)
def test_brute_force_finds_the_same(pair, tolerance):
    truth, predicted, spacing = pair
    a, b = (np.array(surface_points(mask, spacing)) for mask in (truth, predicted))
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    found = metrics.surface_distances(truth, predicted, spacing)
    np.testing.assert_allclose(found.from_truth, np.sort(apart.min(1)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.from_predicted, np.sort(apart.min(0)), rtol=1e-9, atol=1e-12)
    both = np.concatenate([apart.min(1), apart.min(0)])
    if not np.isclose(both, tolerance, rtol=1e-5).any():
        assert found.surface_dice(tolerance) == pytest.approx((both < tolerance).mean())


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_both_searches_find_the_same_in_any_order_of_memory(pair):
    truth, predicted, spacing = pair
    found = []
    for dense in (0.0, 2.0):
        for order in "CF":
            masks = (np.array(mask, order=order) for mask in (truth, predicted))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(metrics, "_DENSE_SURFACE", dense)
                found.append(metrics.surface_distances(*masks, spacing))
    for other in found[1:]:
        np.testing.assert_allclose(other.from_truth, found[0].from_truth, rtol=1e-12)
        np.testing.assert_allclose(other.from_predicted, found[0].from_predicted, rtol=1e-12)


def test_a_dense_surface_is_searched_by_a_distance_transform(monkeypatch):
    calls = []
    transform = metrics.ndimage.distance_transform_edt

    def counting(*args, **options):
        calls.append(args)
        return transform(*args, **options)

    monkeypatch.setattr(metrics.ndimage, "distance_transform_edt", counting)
    rng = np.random.default_rng(0)
    metrics.surface_distances(*(rng.random((2, 20, 20, 20)) > 0.5), (1, 1, 1))
    assert len(calls) == 2
    ball = np.hypot(*(np.indices((40, 40)) - 20)) < 15
    metrics.surface_distances(ball, np.roll(ball, 1, 0), (1, 1))
    assert len(calls) == 2


@given(pairs(), st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_swapping_the_masks_swaps_precision_and_recall(pair, tolerance):
    truth, predicted, spacing = pair
    one = dict(metrics.score(truth, predicted, spacing, tolerance=tolerance))
    other = dict(metrics.score(predicted, truth, spacing, tolerance=tolerance))
    assert one.pop("precision") == other.pop("recall")
    assert one.pop("recall") == other.pop("precision")
    assert one == pytest.approx(other)


@given(pairs(), st.floats(0, 5), st.sampled_from((0.25, 3.0)))
@settings(max_examples=40, deadline=None)
def test_a_coarser_unit_scales_distances_only(pair, tolerance, factor):
    truth, predicted, spacing = pair
    one = dict(metrics.score(truth, predicted, spacing, tolerance=tolerance))
    larger = tuple(edge * factor for edge in spacing)
    other = dict(metrics.score(truth, predicted, larger, tolerance=tolerance * factor))
    for metric in metrics.METRICS:
        scale = factor if metric in metrics.DISTANCES else 1
        assert other[metric] == pytest.approx(one[metric] * scale)


@given(pairs(), st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_transposed_or_embedded_masks_score_the_same(pair, tolerance):
    truth, predicted, spacing = pair
    expected = dict(metrics.score(truth, predicted, spacing, tolerance=tolerance))
    turned = metrics.score(truth.T, predicted.T, spacing[::-1], tolerance=tolerance)
    assert dict(turned) == pytest.approx(expected)
    embedded = metrics.score(np.pad(truth, 3), np.pad(predicted, 3), spacing, tolerance=tolerance)
    assert dict(embedded) == pytest.approx(expected)


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_only_equal_masks_are_perfect(pair):
    truth, predicted, spacing = pair
    perfect = (1, 1, 1, 1, 0, 0, 1)
    same = metrics.score(truth, truth.copy(), spacing, tolerance=0)
    assert tuple(value for _, value in same) == perfect
    if not np.array_equal(truth, predicted):
        found = metrics.score(truth, predicted, spacing, tolerance=0)
        assert dict(found)["dice"] < 1
        assert not any(isnan(value) for _, value in found)
