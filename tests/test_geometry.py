"""Grids against affine arithmetic done by hand, and against nibabel."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nibabel.orientations import io_orientation

from unetseg.errors import DataError
from unetseg.geometry import Geometry

QUICK = settings(max_examples=40, deadline=None)


def rotation(axes, angles):
    """A rotation made of one turn per plane, angles in radians."""
    matrix = np.eye(axes)
    for (a, b), angle in zip([(0, 1), (0, 2), (1, 2)], angles, strict=False):
        if b < axes:
            turn = np.eye(axes)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
    return matrix


@st.composite
def grids(draw, largest=9, angle=3.1):
    """Oblique, flipped, permuted, anisotropic grids with 2 or 3 axes."""
    axes = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(1, largest)] * axes))
    turn = rotation(axes, draw(st.tuples(*[st.floats(-angle, angle)] * 3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * axes))
    edges = draw(st.tuples(*[st.floats(0.05, 20)] * axes))
    order = list(draw(st.permutations(range(axes))))
    affine = np.eye(axes + 1)
    affine[:-1, :-1] = (turn @ np.diag(signs) @ np.diag(edges))[:, order]
    affine[:-1, -1] = draw(st.tuples(*[st.floats(-500, 500)] * axes))
    return Geometry(shape, affine, draw(st.sampled_from(["mm", "um", "px"])))


def world(affine, index):
    """Position of a voxel, by hand: matrix times index plus offset."""
    affine = np.asarray(affine)
    return affine[:-1, :-1] @ np.asarray(index, float) + affine[:-1, -1]


def voxels(shape):
    return np.ndindex(*shape)


@given(grids(), st.data())
@QUICK
def test_crop_keeps_every_voxel_in_its_place(grid, data):
    start = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True)]
    cut = grid.crop(start, stop)
    whole = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    part = whole[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    assert cut.shape == part.shape
    for index in list(voxels(cut.shape))[::7]:
        old = np.unravel_index(part[index], grid.shape)
        np.testing.assert_allclose(
            world(cut.affine, index), world(grid.affine, old), rtol=0, atol=1e-8
        )


@given(grids(), st.data())
@QUICK
def test_pad_keeps_every_voxel_in_its_place(grid, data):
    before = [data.draw(st.integers(0, 4)) for _ in grid.shape]
    after = [data.draw(st.integers(0, 4)) for _ in grid.shape]
    padded = grid.pad(before, after)
    array = np.pad(np.zeros(grid.shape), list(zip(before, after, strict=True)))
    assert padded.shape == array.shape
    for index in list(voxels(grid.shape))[::7]:
        moved = np.add(index, before)
        np.testing.assert_allclose(
            world(padded.affine, moved), world(grid.affine, index), rtol=0, atol=1e-8
        )


@given(grids(), st.data())
@QUICK
def test_flip_keeps_every_voxel_in_its_place(grid, data):
    axes = data.draw(st.lists(st.integers(0, grid.ndim - 1), unique=True))
    flipped = grid.flip(axes)
    number = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for index in list(voxels(grid.shape))[::7]:
        old = np.unravel_index(np.flip(number, axes)[index], grid.shape)
        np.testing.assert_allclose(
            world(flipped.affine, index), world(grid.affine, old), rtol=0, atol=1e-8
        )


@given(grids(), st.data())
@QUICK
def test_permute_keeps_every_voxel_in_its_place(grid, data):
    order = data.draw(st.permutations(range(grid.ndim)))
    turned = grid.permute(order)
    number = np.arange(np.prod(grid.shape)).reshape(grid.shape).transpose(order)
    assert turned.shape == number.shape
    for index in list(voxels(turned.shape))[::7]:
        old = np.unravel_index(number[index], grid.shape)
        np.testing.assert_allclose(
            world(turned.affine, index), world(grid.affine, old), rtol=0, atol=1e-8
        )


@given(grids(), st.data())
@QUICK
def test_resampled_keeps_the_outer_edges(grid, data):
    shape = [data.draw(st.integers(1, 12)) for _ in grid.shape]
    new = grid.resampled(shape)
    assert new.shape == tuple(shape)
    # The corners of the box lie half a voxel beyond the outermost centres.
    for corner in np.ndindex(*(2,) * grid.ndim):
        old_index = [n - 0.5 if c else -0.5 for c, n in zip(corner, grid.shape, strict=True)]
        new_index = [n - 0.5 if c else -0.5 for c, n in zip(corner, shape, strict=True)]
        np.testing.assert_allclose(
            world(new.affine, new_index), world(grid.affine, old_index), rtol=0, atol=1e-8
        )
    # A relative position inside the box is the same position in space.
    old_index = [0.3 * n - 0.5 for n in grid.shape]
    new_index = [0.3 * n - 0.5 for n in shape]
    np.testing.assert_allclose(
        world(new.affine, new_index), world(grid.affine, old_index), rtol=0, atol=1e-8
    )


@given(grids(), st.data())
@QUICK
def test_inverse_pairs_give_the_same_grid_again(grid, data):
    order = data.draw(st.permutations(range(grid.ndim)))
    before = [data.draw(st.integers(0, 3)) for _ in grid.shape]
    after = [data.draw(st.integers(0, 3)) for _ in grid.shape]
    axes = data.draw(st.lists(st.integers(0, grid.ndim - 1), unique=True))
    ends = [a + n for a, n in zip(before, grid.shape, strict=True)]
    for again in (
        grid.permute(order).permute(np.argsort(order).tolist()),
        grid.flip(axes).flip(axes),
        grid.pad(before, after).crop(before, ends),
        grid.resampled([n + 3 for n in grid.shape]).resampled(grid.shape),
    ):
        assert grid.differences(again, tolerance=1e-6) == ()


@given(grids())
@QUICK
def test_moved_grids_do_differ(grid):
    """The negative twin: each operation on its own is seen."""
    one = [1] * grid.ndim
    assert any("origin" in line for line in grid.differences(grid.pad(one, [0] * grid.ndim)))
    assert any("shape" in line for line in grid.differences(grid.pad([0] * grid.ndim, one)))
    assert any("directions" in line for line in grid.differences(grid.flip([0])))
    assert any("spacing" in line for line in grid.differences(grid.resampled([17] * grid.ndim)))


@given(grids())
@QUICK
def test_spacing_and_volume_by_hand(grid):
    columns = [grid.affine[:-1, axis] for axis in range(grid.ndim)]
    lengths = [float(np.sqrt((column**2).sum())) for column in columns]
    np.testing.assert_allclose(grid.spacing, lengths)
    # The edges of these grids are at right angles, so the volume is their product.
    np.testing.assert_allclose(grid.voxel_volume, np.prod(lengths))


def test_the_volume_of_a_sheared_voxel():
    affine = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    grid = Geometry((4, 4), affine, "mm")
    assert grid.voxel_volume == pytest.approx(6.0)
    assert grid.spacing == pytest.approx((2.0, np.sqrt(10)))


@given(grids())
@QUICK
def test_canonical_axes_have_the_best_positive_diagonal(grid):
    order, flips = grid.canonical()
    turned = grid.permute(order).flip(flips)
    cosines = turned.affine[:-1, :-1] / np.array(turned.spacing)
    diagonal = np.diag(cosines)
    assert (diagonal >= 0).all()
    for other in permutations(range(grid.ndim)):
        assert sum(abs(cosines[w, other[w]]) for w in range(grid.ndim)) <= diagonal.sum() + 1e-9


@given(grids(angle=0.5))
@QUICK
def test_canonical_agrees_with_nibabel(grid):
    assume(grid.ndim == 3)
    cosines = np.sort(np.abs(grid.affine[:3, :3] / np.array(grid.spacing)), axis=0)
    # Near 45 degrees either answer is right, and nibabel chooses axis by axis.
    assume((cosines[-1] - cosines[-2] > 0.1).all())
    order, flips = grid.canonical()
    orientation = io_orientation(grid.affine)
    assert [int(orientation[axis, 0]) for axis in order] == [0, 1, 2]
    assert flips == tuple(w for w in range(3) if orientation[order[w], 1] < 0)


def test_canonical_of_a_known_grid():
    """Axis 0 runs down, axis 1 to the left, axis 2 to the front."""
    affine = np.array([[0, -2.0, 0, 9], [0, 0, 3.0, 0], [-1.0, 0, 0, 4], [0, 0, 0, 1]])
    assert Geometry((4, 5, 6), affine, "mm").canonical() == ((1, 2, 0), (0, 2))


def test_a_canonical_grid_stays_as_it_is():
    assert Geometry.from_spacing((3, 4, 5), (1, 2, 3), "mm").canonical() == ((0, 1, 2), ())


def test_shape_at_rounds_to_the_nearest_and_never_to_none():
    grid = Geometry.from_spacing((10, 10, 2), (1.0, 2.0, 0.1), "mm")
    assert grid.shape_at((2.0, 3.0, 5.0)) == (5, 7, 1)


REFERENCE = Geometry((10, 20, 30), np.diag([1.0, 2.0, 3.0, 1.0]), "mm")


def changed(**fields):
    values = {"shape": REFERENCE.shape, "affine": REFERENCE.affine.copy(), "unit": "mm"}
    return Geometry(**{**values, **fields})


def turned_about_the_first_axis(radians):
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]
    return matrix @ REFERENCE.affine


def shifted(millimetres):
    affine = REFERENCE.affine.copy()
    affine[0, 3] += millimetres
    return affine


def stretched(factor):
    return REFERENCE.affine @ np.diag([1.0, 1.0, factor, 1.0])


@pytest.mark.parametrize(
    ("other", "first_word"),
    [
        (changed(unit="um"), "unit"),
        (changed(shape=(10, 20, 31)), "shape"),
        (changed(affine=stretched(1.01)), "spacing"),
        (changed(affine=turned_about_the_first_axis(0.01)), "axis"),
        (changed(affine=shifted(0.02)), "origin"),
    ],
)
def test_exactly_the_differing_field_is_named(other, first_word):
    found = REFERENCE.differences(other)
    assert [line.split()[0] for line in found] == [first_word]
    assert [line.split()[0] for line in other.differences(REFERENCE)] == [first_word]


@pytest.mark.parametrize(
    "other",
    [
        changed(),
        # Of an edge of 3 mm over 30 voxels, a share of 1e-4 moves the last one 0.3 % of an edge.
        changed(affine=stretched(1.0001)),
        changed(affine=turned_about_the_first_axis(1e-4)),
        changed(affine=shifted(0.005)),
        changed(affine=REFERENCE.affine.astype(np.float32)),
    ],
)
def test_what_lies_within_a_hundredth_of_a_voxel_is_the_same(other):
    assert REFERENCE.differences(other) == ()


@pytest.mark.parametrize(("tolerance", "expected"), [(0.03, 0), (0.01, 1)])
def test_the_tolerance_is_a_share_of_an_edge(tolerance, expected):
    assert (
        len(REFERENCE.differences(changed(affine=shifted(0.02)), tolerance=tolerance)) == expected
    )


def test_the_tolerance_counts_the_last_voxel():
    """A spacing off by 0.1 % is small in one voxel and large at the far end."""
    assert REFERENCE.differences(changed(affine=stretched(1.001)))
    short = Geometry((2, 2, 2), REFERENCE.affine, "mm")
    assert not short.differences(Geometry((2, 2, 2), stretched(1.001), "mm"))


def test_all_differing_fields_are_named_with_their_values():
    other = Geometry((10, 20, 31), np.diag([1.5, 2.0, 3.0, 1.0]), "um")
    assert REFERENCE.differences(other) == (
        "unit mm is not um",
        "shape (10, 20, 30) is not (10, 20, 31)",
        "spacing (1, 2, 3) is not (1.5, 2, 3)",
    )


def test_other_number_of_axes():
    flat = Geometry.from_spacing((10, 20), (1, 2), "mm")
    assert REFERENCE.differences(flat) == ("shape (10, 20, 30) is not (10, 20)",)


def singular():
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0]
    return affine


def last_row(*values):
    affine = np.eye(4)
    affine[-1] = values
    return affine


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((4,), np.eye(2), r"wrong number of axes \(expected 2 or 3 spatial axes, got 1\)"),
        ((4, 4, 4, 4), np.eye(5), "wrong number of axes"),
        ((4, 0), np.eye(3), "an axis holds no voxels"),
        ((4, 4), np.eye(4), "affine of the wrong size"),
        ((4, 4, 4), np.diag([1, np.nan, 1, 1]), "not finite"),
        ((4, 4, 4), np.diag([1, np.inf, 1, 1]), "not finite"),
        ((4, 4, 4), np.diag([1.0, 0, 1, 1]), "singular"),
        ((4, 4, 4), singular(), "singular"),
        ((4, 4, 4), last_row(0, 0, 1, 1), "last row"),
        ((4, 4, 4), last_row(0, 0, 0, -1), "last row"),
    ],
)
def test_grids_that_cannot_be(shape, affine, message):
    with pytest.raises(DataError, match=message):
        Geometry(shape, affine, "mm")


def test_tiny_voxels_are_not_singular():
    assert Geometry.from_spacing((4, 4, 4), (1e-9,) * 3, "mm").spacing == (1e-9,) * 3


@pytest.mark.parametrize(
    ("start", "stop"), [((0, 0, 0), (11, 1, 1)), ((-1, 0, 0), (1, 1, 1)), ((3, 0, 0), (3, 1, 1))]
)
def test_a_crop_outside_the_grid_is_refused(start, stop):
    with pytest.raises(DataError, match="crop outside the grid"):
        REFERENCE.crop(start, stop)


def test_negative_padding_is_refused():
    with pytest.raises(DataError, match="negative padding"):
        REFERENCE.pad((0, 0, -1), (0, 0, 0))


def test_axes_counted_from_the_end_are_refused():
    """They would land in the affine's last row and column."""
    with pytest.raises(DataError, match="last row"):
        REFERENCE.flip([-1])
    with pytest.raises(DataError, match=r"last row|singular"):
        REFERENCE.permute([0, 1, -1])


def test_a_repeated_axis_is_refused():
    with pytest.raises(DataError, match="singular"):
        REFERENCE.permute([0, 0, 1])


def test_a_grid_cannot_be_changed_from_outside():
    affine = np.eye(3)
    grid = Geometry((4, 4), affine, "px")
    affine[0, 0] = 9
    assert grid.spacing == (1, 1)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2
