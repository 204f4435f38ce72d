"""Distances in objects against numbers from loops over voxels, and what they must be anywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unetseg.objects.distances import object_boxes, object_distances

QUICK = settings(max_examples=40, deadline=None)
GOLDEN = json.loads((Path(__file__).parent / "golden" / "distances.json").read_text())
SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
)
MASKS = SHAPES.flatmap(lambda shape: arrays(np.int32, shape, elements=st.integers(0, 4)))


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_as_loops_over_voxels_have_it(case: dict[str, object]) -> None:
    found = object_distances(np.array(case["mask"]), case["spacing"])
    np.testing.assert_allclose(found[0], case["depth"], atol=1e-5)
    np.testing.assert_allclose(found[1], case["centre"], atol=1e-5)


def test_thick_slices_are_not_seen_as_thin_ones() -> None:
    case = next(case for case in GOLDEN if case["name"] == "thick slices")
    found = object_distances(np.array(case["mask"]), (1.0, 1.0, 1.0))
    assert np.abs(found[0] - case["depth"]).max() > 0.1
    assert np.abs(found[1] - case["centre"]).max() > 0.1


@QUICK
@given(MASKS)
def test_every_object_has_a_deepest_voxel_and_a_centre(mask: np.ndarray) -> None:
    depth, centre = object_distances(mask, (1.0, 0.5, 0.25)[: mask.ndim])
    assert not depth[mask == 0].any()
    assert not centre[mask == 0].any()
    for number in set(np.unique(mask)) - {0}:
        own = mask == number
        assert depth[own].min() > 0
        assert depth[own].max() == 1
        assert centre[own].max() == 1
        assert centre[own].min() == (0 if own.sum() > 1 else 1)


@QUICK
@given(MASKS, st.integers(1, 1 << 20))
def test_numbers_do_not_matter(mask: np.ndarray, offset: int) -> None:
    renamed = np.where(mask > 0, offset + 7 * mask, 0)
    spacing = (1.0,) * mask.ndim
    np.testing.assert_array_equal(
        object_distances(mask, spacing), object_distances(renamed, spacing)
    )


@QUICK
@given(MASKS)
def test_depth_is_mirrored_with_the_mask_and_units_cancel(mask: np.ndarray) -> None:
    spacing = (1.0, 3.0, 2.0)[: mask.ndim]
    depth = object_distances(mask, spacing)[0]
    np.testing.assert_allclose(object_distances(np.flip(mask), spacing)[0], np.flip(depth))
    scaled = object_distances(mask, [0.1 * edge for edge in spacing])
    np.testing.assert_allclose(scaled[0], depth, atol=1e-6)


def test_what_the_edge_cuts_goes_on_behind_it() -> None:
    whole = np.zeros((9, 9), np.uint8)
    whole[2:7, 2:7] = 1
    cut = object_distances(whole[4:], (1.0, 1.0))[0]
    # The first row is the middle of the object, as deep as it was.
    np.testing.assert_array_equal(cut[0], object_distances(whole, (1.0, 1.0))[0][4])
    walled = np.zeros((6, 9), np.uint8)
    walled[1:] = whole[4:]
    assert object_distances(walled, (1.0, 1.0))[0][1, 4] < cut[0, 4]


def test_boxes_are_around_all_pieces_in_the_order_of_the_numbers() -> None:
    mask = np.array([[70000, 0, 3], [0, 0, 3], [70000, 0, 0]], dtype=np.uint32)
    assert object_boxes(mask) == [
        (3, (slice(0, 2), slice(2, 3))),
        (70000, (slice(0, 3), slice(0, 1))),
    ]
    assert object_boxes(np.zeros((3, 3), np.uint8)) == []
