"""Components and holes against scikit-image and scipy, and what no cleaning may do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import measure

from unetseg.config import Plan
from unetseg.errors import DataError, UsageError
from unetseg.geometry import Geometry
from unetseg.planning import make
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Machine
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import Cleaning, clean, cleanings, voxel_size, with_cleanings

QUICK = settings(max_examples=60, deadline=None)
ALL = Cleaning(largest_component=True, min_size=3.0, fill_holes=True)


def plan(unit: str = "um", **overrides: object) -> Plan:
    found = Fingerprint(
        cases=2,
        dimensions=2,
        unit=unit,
        channels=("grey",),
        is_picture=False,
        shapes=((32, 32),) * 2,
        spacings=((1.0, 1.0),) * 2,
        label_counts=((0, 9), (3, 9), (7, 9)),
        label_names=(),
        ignore_value=None,
        looks_like_objects=False,
        looks_like_ct=False,
        intensity=(),
        zero_share=0.0,
    )
    values = {"data.class_names": ("background", "liver", "tumour")}
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return make(found, Machine("cpu", 10**9, 2), {**values, **named})


@st.composite
def masks(draw: st.DrawFn, classes: int = 3) -> np.ndarray:
    """Blobs of several classes; smoothed noise, so that there are components and holes."""
    seed, axes = draw(st.integers(0, 10**6)), draw(st.sampled_from([2, 3]))
    shape = (17, 13) if axes == 2 else (7, 8, 9)
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(classes + 1, *shape)), (0, *(0.7,) * axes))
    return np.argmax(smooth, axis=0)


@given(masks())
@QUICK
def test_the_largest_component_is_scikit_images(array: np.ndarray) -> None:
    result = clean(array, {2: Cleaning(largest_component=True)}, 1.0)
    numbered = measure.label(array == 2, connectivity=array.ndim)
    sizes = np.bincount(numbered.ravel())[1:]
    expected = array.copy()
    for number, size in enumerate(sizes, start=1):
        if size < sizes.max():
            expected[numbered == number] = 0
    np.testing.assert_array_equal(result, expected)


@given(masks(), st.sampled_from([1, 2, 5, 9]), st.sampled_from([0.125, 1.0, 3.7]))
@QUICK
def test_small_components_are_scikit_images(array: np.ndarray, voxels: int, voxel: float) -> None:
    result = clean(array, {1: Cleaning(min_size=voxels * voxel)}, voxel)
    expected = array.copy()
    for region in measure.regionprops(measure.label(array == 1, connectivity=array.ndim)):
        if region.num_pixels < voxels:
            expected[tuple(region.coords.T)] = 0
    np.testing.assert_array_equal(result, expected)
    if voxels == 1:
        np.testing.assert_array_equal(result, array)


@given(masks(classes=1))
@QUICK
def test_the_holes_of_one_class_are_scipys(array: np.ndarray) -> None:
    result = clean(array, {1: Cleaning(fill_holes=True)}, 1.0)
    np.testing.assert_array_equal(result == 1, ndimage.binary_fill_holes(array == 1))


def test_there_is_something_to_clean_in_these_masks() -> None:
    rng = np.random.default_rng(0)
    array = np.argmax(ndimage.gaussian_filter(rng.normal(size=(2, 40, 40)), (0, 0.7, 0.7)), 0)
    for cleaning in (
        Cleaning(largest_component=True),
        Cleaning(min_size=5),
        Cleaning(fill_holes=True),
    ):
        assert (clean(array, {1: cleaning}, 1.0) != array).any()


@given(masks(), st.integers(0, 3), st.permutations([1, 2, 3]))
@QUICK
def test_neither_axes_nor_the_order_of_classes_matter(
    array: np.ndarray, axis: int, order: list[int]
) -> None:
    wanted = {1: ALL, 2: Cleaning(fill_holes=True), 3: Cleaning(min_size=4.0, fill_holes=True)}
    result = clean(array, wanted, 1.0)
    axis %= array.ndim
    flipped = clean(np.flip(array, axis).T, wanted, 1.0)
    np.testing.assert_array_equal(flipped, np.flip(result, axis).T)
    names = np.array([0, *order])
    renamed = clean(names[array], {order[k - 1]: wanted[k] for k in wanted}, 1.0)
    np.testing.assert_array_equal(renamed, names[result])


@given(masks())
@QUICK
def test_a_class_gives_to_the_background_and_takes_from_it(array: np.ndarray) -> None:
    before = array.copy()
    result = clean(array, {1: ALL, 3: Cleaning(fill_holes=True)}, 1.0)
    np.testing.assert_array_equal(array, before)
    changed = result != array
    # From a class to nothing, from nothing to a class, never from one to another but through it.
    untouched = np.isin(array, [2])
    assert not changed[untouched].any()
    assert set(np.unique(result[changed & (array == 0)])) <= {1, 3}
    # Of two largest components that are equal, one may have a hole and be larger without it.
    wanted = {1: Cleaning(min_size=3.0, fill_holes=True), 3: Cleaning(fill_holes=True)}
    once = clean(array, wanted, 1.0)
    np.testing.assert_array_equal(clean(once, wanted, 1.0), once)


@given(masks())
@QUICK
def test_what_is_done_to_a_class_is_the_same_whatever_is_done_to_others(array: np.ndarray) -> None:
    """From which it follows that classes can be judged one by one."""
    removed = {k: Cleaning(min_size=2.0 * k, largest_component=k == 2) for k in (1, 2, 3)}
    every = {k: replace(cleaning, fill_holes=True) for k, cleaning in removed.items()}
    whole = clean(array, every, 1.0)
    for index in every:
        alone = clean(array, removed | {index: every[index]}, 1.0)
        np.testing.assert_array_equal(alone == index, whole == index)


def test_a_class_without_cleaning_stays_as_it_is() -> None:
    array = np.array([[2, 0, 2], [0, 0, 0], [1, 0, 1]])
    np.testing.assert_array_equal(clean(array, {}, 1.0), array)
    np.testing.assert_array_equal(clean(array, {5: ALL}, 1.0), array)
    assert clean(array, {2: Cleaning(min_size=2)}, 1.0).tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [1, 0, 1],
    ]


def test_of_two_components_of_one_size_both_stay() -> None:
    array = np.array([[1, 1, 0, 1, 1, 0, 1]])
    result = clean(array, {1: Cleaning(largest_component=True)}, 1.0)
    assert result.tolist() == [[1, 1, 0, 1, 1, 0, 0]]


def test_a_corner_connects_a_class_and_closes_a_wall() -> None:
    array = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert clean(array, {1: Cleaning(largest_component=True)}, 1.0).tolist() == array.tolist()
    filled = clean(array, {1: Cleaning(fill_holes=True)}, 1.0)
    assert filled.tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


RING = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 0, 2, 2, 2, 0, 1],
        [1, 0, 2, 0, 2, 0, 1],
        [1, 0, 2, 2, 2, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ]
)


@pytest.mark.parametrize(
    ("filled", "gap", "middle"), [((1,), 1, 0), ((2,), 0, 2), ((1, 2), 1, 2), ((2, 1), 1, 2)]
)
def test_a_hole_belongs_to_the_class_that_encloses_and_touches_it(
    filled: tuple[int, ...], gap: int, middle: int
) -> None:
    result = clean(RING, {index: Cleaning(fill_holes=True) for index in filled}, 1.0)
    expected = np.where(RING == 0, gap, RING)
    expected[3, 3] = middle
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("names", [(1, 2), (2, 1)])
def test_a_hole_that_two_classes_claim_stays(names: tuple[int, int]) -> None:
    # An island of the outer class within the inner one touches the hole as well.
    array = RING.copy()
    array[1:6, 1:6] = 2
    array[2:5, 2:5] = 0
    array[3, 3] = 1
    array = np.array([0, *names])[array]
    both = {1: Cleaning(fill_holes=True), 2: Cleaning(fill_holes=True)}
    np.testing.assert_array_equal(clean(array, both, 1.0), array)
    for one in names:
        np.testing.assert_array_equal(clean(array, {one: both[1]}, 1.0), array)
    # Without the island it is a hole of the inner class.
    array[3, 3] = 0
    filled = clean(array, {names[1]: both[1]}, 1.0)
    assert (filled[array == 0] == names[1]).all()


def test_a_hole_that_removal_opens_is_filled_and_one_at_the_border_is_none() -> None:
    array = RING.copy()
    result = clean(array, {1: Cleaning(fill_holes=True), 2: Cleaning(min_size=9.0)}, 1.0)
    assert (result == 1).all()
    array = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 1]])
    np.testing.assert_array_equal(clean(array, {1: Cleaning(fill_holes=True)}, 1.0), array)


# --- units ---


@pytest.mark.parametrize(
    ("spacing", "unit", "asked", "size"),
    [
        ((0.5, 2.0), "um", "um", 1.0),
        ((0.5, 2.0), "um", "px", 1.0),
        ((0.5, 0.5), "px", "px", 1.0),
        ((0.5, 0.5), "mm", "mm", 0.25),
        ((0.5, 0.5), "um", "mm", 0.25e-6),
        ((1.0, 2.0, 0.5), "mm", "um", 1e9),
    ],
)
def test_the_size_of_a_voxel(
    spacing: tuple[float, ...], unit: str, asked: str, size: float
) -> None:
    grid = Geometry.from_spacing((4,) * len(spacing), spacing, unit)
    assert voxel_size(grid, asked) == pytest.approx(size)


def test_pixels_have_no_size_in_micrometres() -> None:
    grid = Geometry.from_spacing((4, 4), (1, 1), "px")
    with pytest.raises(DataError, match=r"how large its voxels .*expected a size in um.*--set"):
        voxel_size(grid, "um")


def test_a_component_of_exactly_the_smallest_size_stays() -> None:
    # 100 voxels of 0.3 cubed, once as a header has it.
    rounded = float(np.float32(0.3)) ** 3
    kept = Cleaning(min_size=100 * 0.3**3).kept(np.array([99, 100]), rounded * (1 - 1e-7))
    assert kept.tolist() == [False, True]


# --- the plan ---


def test_what_a_plan_wants_by_class() -> None:
    assert cleanings(plan()) == {}
    wanted = cleanings(plan(decode__largest_component=("liver",), decode__min_size=(4.0,)))
    assert wanted == {1: Cleaning(largest_component=True, min_size=4.0), 2: Cleaning(min_size=4.0)}
    wanted = cleanings(plan(decode__fill_holes=("tumour",), decode__min_size=(0.0, 2.5)))
    assert wanted == {2: Cleaning(min_size=2.5, fill_holes=True)}


@given(
    st.dictionaries(
        st.sampled_from([1, 2]),
        st.builds(Cleaning, st.booleans(), st.sampled_from([0.0, 2.0, 7.5]), st.booleans()).filter(
            lambda cleaning: cleaning != Cleaning()
        ),
    )
)
@QUICK
def test_a_plan_with_cleanings_wants_these_and_no_others(wanted: dict[int, Cleaning]) -> None:
    before = plan(decode__fill_holes=("liver", "tumour"), decode__min_size=(1.0, 2.0))
    assert cleanings(with_cleanings(before, wanted)) == wanted


def test_a_lone_value_needs_no_brackets() -> None:
    alone = plan(decode__largest_component="tumour", decode__min_size=3)
    assert alone.decode.largest_component == ("tumour",)
    assert alone.decode.min_size == (3.0,)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decode__fill_holes", ("lever",), "no such foreground class lever; did you mean liver"),
        ("decode__largest_component", "background", "no such foreground class background"),
        ("decode__min_size", (1.0, 2.0, 3.0), r"min_size needs one entry, .*class \(2\), got 3"),
        ("decode__min_size", (-1.0,), r"min_size\.0: .*greater than or equal to 0"),
        ("decode__min_size", True, "min_size"),
    ],
)
def test_what_a_plan_cannot_want(key: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**{key: value})


def outputs(indices: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(indices), 3).movedim(-1, 0) * 1.0


def test_the_task_cleans_on_the_scans_own_grid() -> None:
    array = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [2, 0, 0, 2]])
    grid = Geometry.from_spacing(array.shape, (0.5, 3.0), "um")
    as_it_is = make_task(plan()).decode(outputs(array), grid)
    assert as_it_is.array.tolist() == [[3, 3, 0, 3], [0, 0, 0, 0], [7, 0, 0, 7]]
    # Two pixels of liver are 3 um^2, one is 1.5.
    task = make_task(plan(decode__min_size=(3.0, 0.0)))
    assert task.cleans
    mask = task.decode(outputs(array), grid)
    assert mask.array.tolist() == [[3, 3, 0, 0], [0, 0, 0, 0], [7, 0, 0, 7]]
    assert mask.array.dtype == as_it_is.array.dtype
    coarse = Geometry.from_spacing(array.shape, (1.0, 3.0), "um")
    assert task.decode(outputs(array), coarse).array.tolist() == as_it_is.array.tolist()


def test_without_a_smallest_size_the_size_of_pixels_plays_no_part() -> None:
    array = np.array([[1, 1, 0, 1]])
    grid = Geometry.from_spacing(array.shape, (1, 1), "px")
    mask = make_task(plan(decode__largest_component="liver")).decode(outputs(array), grid)
    assert mask.array.tolist() == [[3, 3, 0, 0]]
    with pytest.raises(DataError, match="how large its voxels are"):
        make_task(plan(decode__min_size=2)).decode(outputs(array), grid)
