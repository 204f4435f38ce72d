"""Outlines: drawn back they are the object, and other libraries find them valid."""

import numpy as np
import pytest
import shapely
from drawn import filled
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from unetseg.exporting.outlines import Polygon, outlined

areas = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def shape_of(polygons: tuple[Polygon, ...]) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shapely.Polygon(p.shell, p.holes) for p in polygons])


def drawn(text: str) -> NDArray[np.bool_]:
    return np.array([[c == "#" for c in line] for line in text.split()])


@given(areas, st.integers(0, 30), st.integers(0, 30))
def test_an_outline_drawn_back_is_the_area(area: NDArray[np.bool_], left: int, top: int) -> None:
    polygons = outlined(area, left=left, top=top)
    rings = [ring for polygon in polygons for ring in polygon.rings]
    height, width = area.shape
    back = filled(rings, (top + height, left + width))
    np.testing.assert_array_equal(back[top:, left:], area)
    assert back.sum() == area.sum()


@given(areas)
def test_outlines_are_valid_polygons_of_the_parts(area: NDArray[np.bool_]) -> None:
    polygons = outlined(area)
    whole = shape_of(polygons)
    assert whole.is_valid, shapely.is_valid_reason(whole)
    assert whole.area == area.sum()
    # As another library counts them: parts whose pixels share edges.
    parts, count = ndimage.label(area)
    assert len(polygons) == count
    assert [shapely.Polygon(p.shell, p.holes).area for p in polygons] == [
        (parts == number).sum() for number in range(1, count + 1)
    ]
    for polygon in polygons:
        assert shapely.LinearRing(polygon.shell).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in polygon.holes)


@given(areas)
def test_only_corners_are_told(area: NDArray[np.bool_]) -> None:
    for polygon in outlined(area):
        for ring in polygon.rings:
            steps = np.diff(np.concatenate([ring, ring[:2]]), axis=0)
            assert ((steps == 0).sum(axis=1) == 1).all()
            # Every step turns: along a row, then down a column.
            assert ((steps[1:] == 0) != (steps[:-1] == 0)).all()


def test_contours_through_pixels_are_no_such_outlines() -> None:
    """Why there is an own tracer: what runs through half pixels is smaller at every corner."""
    area = drawn("##. ##. ..#")
    (contour,) = [c for c in find_contours(np.pad(area, 1).astype(float), 0.5) if len(c) > 5]
    assert shapely.Polygon(contour).area < 4
    assert shape_of(outlined(area)).area == 5


def test_a_square_by_hand() -> None:
    (polygon,) = outlined(drawn(".... .##. .##."), left=10, top=20)
    assert polygon.shell.tolist() == [[11, 21], [13, 21], [13, 23], [11, 23]]
    assert polygon.holes == ()


def test_a_hole_by_hand() -> None:
    (polygon,) = outlined(drawn("### #.# ###"))
    assert polygon.shell.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    (hole,) = polygon.holes
    assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("text", "parts", "holes"),
    [
        ("#. .#", 2, 0),  # touching at a corner only
        (".# #.", 2, 0),
        ("### #.# #.#", 1, 0),  # a bay
        ("### #.# ##.", 1, 1),  # closed by pixels that touch at a corner
        ("### #.# ##. ###", 1, 1),
        ("#### #.## ##.# ####", 1, 2),  # two holes that touch at a corner
        (".#. #.# .#.", 4, 0),  # nothing encloses the middle
        ("##### #.#.# ##### ", 1, 2),
        ("##### #...# #.#.# #...# #####", 2, 1),  # an island in a hole
        ("..... ..... ", 0, 0),
    ],
)
def test_parts_and_holes(text: str, parts: int, holes: int) -> None:
    polygons = outlined(drawn(text))
    assert (len(polygons), sum(len(p.holes) for p in polygons)) == (parts, holes)


def test_a_bay_closed_at_a_corner_is_a_hole() -> None:
    """The ring would pass through the corner twice, which no polygon may do."""
    (polygon,) = outlined(drawn("### #.# ##. "))
    assert len(np.unique(polygon.shell, axis=0)) == len(polygon.shell)
    assert shape_of((polygon,)).is_valid
    # The same ring, not cut, is what is refused.
    twice = [(0, 0), (3, 0), (3, 2), (2, 2), (2, 1), (1, 1), (1, 2), (2, 2), (2, 3), (0, 3)]
    assert not shapely.Polygon(twice).is_valid
