"""Which slice shows a case, which way up, and where its outlines run."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.colours import COLOURS, of_value
from unetseg.geometry import Geometry
from unetseg.pages.parts import Outline
from unetseg.pages.slices import (
    Area,
    Look,
    areas_of,
    as_bytes,
    best_plane,
    brightness,
    outlines_of,
    picture_of,
    planes,
)
from unetseg.records import Mask, Scan, Source


def scan(array: np.ndarray, spacing: tuple[float, ...] | None = None, unit: str = "mm") -> Scan:
    geometry = Geometry.from_spacing(array.shape, spacing or (1.0,) * array.ndim, unit)
    return Scan(array[None], geometry, ("0",), Source("x", "none"))


def filled(outlines: list[Outline], shape: tuple[int, int]) -> np.ndarray:
    """The pixels inside of the outlines: those with an odd number of edges to their left."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for outline in outlines:
        for ring in outline.rings:
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if x0 == x1:
                    crossings[min(y0, y1) : max(y0, y1), x0] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_what_lies_in_an_outline_is_the_class(seed: int, height: int, width: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint8)
    outlines = outlines_of(labels, "truth")
    for value in (1, 2):
        mine = [outline for outline in outlines if outline.colour == of_value(value)]
        np.testing.assert_array_equal(filled(mine, labels.shape), labels == value)


def test_regions_overlap_and_each_has_its_outline() -> None:
    labels = np.array([[1, 1, 2, 0], [1, 2, 3, 0]])
    areas = (Area("whole", (1, 2, 3), of_value(1)), Area("core", (2, 3), of_value(2)))
    whole, core = outlines_of(labels, "truth", look=Look(areas=areas))
    np.testing.assert_array_equal(filled([whole], labels.shape), labels > 0)
    np.testing.assert_array_equal(filled([core], labels.shape), labels > 1)
    assert (whole.name, core.name) == ("whole", "core")


def test_a_class_that_is_alone_keeps_its_colour() -> None:
    (one,) = outlines_of(np.full((2, 2), 5), "mask")
    assert one.colour == of_value(5) == COLOURS[4]


def test_objects_that_touch_have_different_colours_and_no_names() -> None:
    labels = np.array([[7, 7, 900], [7, 900, 900]])
    one, other = outlines_of(labels, "truth", look=Look(has_objects=True))
    assert one.colour != other.colour
    assert one.name == other.name == ""
    np.testing.assert_array_equal(filled([one], labels.shape), labels == 7)


def test_a_predicted_object_has_the_colour_of_the_true_one_below_it() -> None:
    truth = np.zeros((20, 40), np.uint16)
    truth[2:10, 2:10], truth[2:10, 10:18], truth[2:18, 24:36] = 1, 2, 3
    found = np.zeros_like(truth)
    # Shifted, and the third split in two; numbered in another order.
    found[3:11, 2:9], found[3:11, 10:17], found[2:10, 24:36], found[10:18, 24:36] = 4, 3, 2, 1
    geometry = Geometry.from_spacing(truth.shape, (1, 1), "px")
    picture = picture_of(
        scan(truth.astype(float), unit="px"),
        Mask(truth, geometry),
        Mask(found, geometry),
        look=Look(has_objects=True),
    )
    true = [o.colour for o in picture.outlines if o.kind == "truth"]
    predicted = [o.colour for o in picture.outlines if o.kind == "predicted"]
    assert predicted == [true[2], true[2], true[1], true[0]]
    assert len(set(true)) == 3


def test_objects_of_several_classes_have_the_colours_of_their_classes() -> None:
    ids = np.array([[1, 0, 2, 0, 3]])
    geometry = Geometry.from_spacing(ids.shape, (1, 1), "px")
    mask = Mask(ids, geometry, classes=(2, 1, 2))
    shown = picture_of(scan(ids.astype(float), unit="px"), mask, look=Look(has_objects=True))
    assert [outline.colour for outline in shown.outlines] == [of_value(k) for k in (2, 1, 2)]


# --- planes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_a_body_is_seen_the_same_however_its_axes_are_stored(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    straight = Geometry.from_spacing((5, 6, 7), (1, 1, 1), "mm")
    array = np.arange(5 * 6 * 7).reshape(straight.shape)
    flips = tuple(axis for axis in range(3) if signs[axis] < 0)
    turned = straight.permute(order).flip(flips)
    other = np.flip(array.transpose(order), flips)
    mask = (array % 11 == 0).astype(np.uint8)
    other_mask = np.flip(mask.transpose(order), flips)
    for mine, theirs in zip(planes(straight), planes(turned), strict=True):
        assert mine.name == theirs.name
        np.testing.assert_array_equal(
            mine.cut(array, mine.fullest(mask)), theirs.cut(other, theirs.fullest(other_mask))
        )
        assert mine.edges(straight) == pytest.approx(theirs.edges(turned))


def test_an_axial_slice_has_right_on_the_right_and_front_on_top() -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    array[3, 4, 2] = 1  # far right, far in front
    axial = planes(Geometry.from_spacing(array.shape, (1, 1, 1), "mm"))[2]
    cut = axial.cut(array, 2)
    assert cut.shape == (5, 4)
    assert cut[0, 3] == 1
    assert axial.cut(array, 3).sum() == 0


def test_thick_slices_are_seen_face_on() -> None:
    for axis in range(3):
        spacing = [1.0, 1.0, 1.0]
        spacing[axis] = 5.0
        assert best_plane(Geometry.from_spacing((9, 9, 9), spacing, "mm")).axis == axis
    assert best_plane(Geometry.from_spacing((9, 9, 9), (1, 1, 1), "mm")).name == "axial"
    assert best_plane(Geometry.from_spacing((9, 9, 9), (1, 1, 1), "um")).axis == 0
    assert best_plane(Geometry.from_spacing((9, 1, 9), (1, 1, 1), "mm")).axis == 1


def test_the_slice_with_the_most_of_the_truth_is_shown() -> None:
    labels = np.zeros((20, 22, 24), np.uint8)
    labels[5:9, 5:9, 17], labels[5:8, 5:8, 3] = 1, 1
    image = np.zeros(labels.shape)
    geometry = Geometry.from_spacing(labels.shape, (1, 1, 1), "mm")
    truth, empty = Mask(labels, geometry), Mask(np.zeros_like(labels), geometry)
    shown = picture_of(scan(image), truth, name="a case")
    assert shown.alt == "a case, axial slice 18 of 24"
    # Of a case without truth, where something was found; without either, the middle.
    assert picture_of(scan(image), empty, truth).alt == "axial slice 18 of 24"
    assert picture_of(scan(image), empty).alt == "axial slice 13 of 24"


# --- pixels ------------------------------------------------------------------------------------


def test_pixels_are_square_and_no_more_than_asked_for() -> None:
    array = np.zeros((40, 30))
    labels = np.zeros((40, 30), np.uint8)
    labels[10:20, 5:25] = 1
    stretched = scan(array, (3.0, 1.0), "um")
    shown = picture_of(stretched, Mask(labels, stretched.geometry))
    assert shown.pixels.shape == (120, 30)
    assert shown.pixel_size == 1.0
    inside = filled(list(shown.outlines), (120, 30))
    np.testing.assert_array_equal(inside, np.repeat(labels > 0, 3, axis=0))
    small = picture_of(stretched, look=Look(longest=60))
    assert small.pixels.shape == (60, 15)
    assert small.pixel_size == 2.0
    assert picture_of(scan(array, unit="px")).pixel_size is None


def test_a_mask_that_is_alone_is_called_as_wanted() -> None:
    labels = np.ones((4, 4), np.uint8)
    flat = scan(labels.astype(float))
    mask = Mask(labels, flat.geometry)
    assert picture_of(flat, mask).outlines[0].kind == "truth"
    assert picture_of(flat, predicted=mask).outlines[0].kind == "predicted"
    assert picture_of(flat, mask, look=Look(kind="mask")).outlines[0].kind == "mask"


def test_brightness_leaves_out_the_extremes_and_what_is_no_number() -> None:
    values = np.linspace(0, 100, 10_000).reshape(100, 100)
    values[0, 0], values[0, 1] = 1e9, np.nan
    low, high = brightness(scan(values))
    assert (low, high) == pytest.approx((0.5, 99.5), abs=0.1)
    shown = as_bytes(values, (low, high))
    assert shown[0, 0] == 255
    assert shown[0, 1] == 0
    assert brightness(scan(np.full((4, 4), 7.0))) == (7.0, 7.0)
    assert brightness(scan(np.full((4, 4), np.nan))) == (0.0, 1.0)


def test_a_colour_picture_keeps_its_colours() -> None:
    array = np.zeros((3, 8, 8), np.uint8)
    array[0] = 200
    array[2, :4] = 100
    geometry = Geometry.from_spacing((8, 8), (1, 1), "px")
    picture = Scan(array, geometry, ("r", "g", "b"), Source("x", "none"), is_picture=True)
    shown = picture_of(picture).pixels
    assert shown.shape == (8, 8, 3)
    assert (shown[..., 0] > shown[..., 2]).all()


def test_names_come_with_their_colours() -> None:
    found = areas_of([(0, "background"), (1, "liver"), (255, "tumour")])
    assert [(area.name, area.colour) for area in found] == [
        ("liver", of_value(1)),
        ("tumour", of_value(255)),
    ]
