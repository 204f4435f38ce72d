"""What is outlined: objects and areas, plane by plane, in any format."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from drawn import cells, filled
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unetseg.errors import DataError
from unetseg.exporting import shapes
from unetseg.exporting.shapes import Legend, Shape, Shown, boxes, looks_like_objects
from unetseg.formats import write_mask
from unetseg.geometry import Geometry
from unetseg.records import Label, Mask, Scan, Source

OBJECTS, CLASSES = Legend(has_objects=True), Legend(has_objects=False)


def painted(found: list[Shape], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The mask of ids again, (Z,) Y, X."""
    mask = np.zeros(shape, np.int64)
    for each in found:
        plane = mask if each.plane is None else mask[each.plane]
        rings = [ring for polygon in each.polygons for ring in polygon.rings]
        own = filled(rings, plane.shape)
        assert own.sum() == each.pixels
        assert not plane[own].any()
        plane[own] = each.number
    return mask


def written(path: Path, array: NDArray[np.integer], spacing: float = 1.0) -> Path:
    geometry = Geometry.from_spacing(array.shape, (spacing,) * array.ndim, "um")
    like = Scan(np.zeros((1, *array.shape)), geometry, ("0",), Source(path, "tiff"))
    write_mask(Mask(array, geometry), path, like)
    return path


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".png", ".ome.zarr"])
def test_shapes_drawn_back_are_the_mask(tmp_path: Path, suffix: str) -> None:
    ids = cells()
    found = list(Shown(written(tmp_path / f"a{suffix}", ids), OBJECTS).shapes())
    np.testing.assert_array_equal(painted(found, ids.shape), ids)
    assert [each.number for each in found] == sorted(set(np.unique(ids)) - {0})


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 4))
)
def test_boxes_are_those_of_the_values(plane: NDArray[np.uint8]) -> None:
    found = {value: (box, own) for value, box, own in boxes(plane)}
    assert set(found) == set(np.unique(plane)) - {0}
    for value, (box, own) in found.items():
        back = np.zeros(plane.shape, bool)
        back[tuple(box)] = own
        np.testing.assert_array_equal(back, plane == value)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32"])
@pytest.mark.parametrize("largest", [9, 200, 4_000_000_000])
def test_ids_may_be_as_large_as_they_like(dtype: str, largest: int) -> None:
    """A list as long as the largest id would not fit into memory."""
    largest = min(largest, np.iinfo(dtype).max)
    plane = np.zeros((40, 50), dtype)
    plane[3:9, 4:8], plane[20:30, 10:40], plane[35, 49] = 7, largest, 3
    found = {value: (box, own.sum()) for value, box, own in boxes(plane)}
    assert {value: size for value, (_, size) in found.items()} == {3: 1, 7: 24, largest: 300}
    assert found[7][0] == (slice(3, 9), slice(4, 8))


def test_values_below_0_are_values() -> None:
    plane = np.array([[-3, 0, 2], [-3, 0, -1]], np.int16)
    found = {value: (box, own.sum()) for value, box, own in boxes(plane)}
    assert [(value, size) for value, (_, size) in found.items()] == [(-3, 2), (-1, 1), (2, 1)]
    assert found[-1][0] == (slice(1, 2), slice(2, 3))


def test_without_background_there_are_all_values() -> None:
    plane = np.full((3, 4), 4_000_000_000, np.uint32)
    plane[0, 0] = 70_000
    assert [(value, int(own.sum())) for value, _, own in boxes(plane)] == [
        (70_000, 1),
        (4_000_000_000, 11),
    ]


def test_a_stack_goes_plane_by_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.stack([cells(seed) for seed in range(5)])
    path = written(tmp_path / "a.tif", stack)
    found = list(Shown(path, OBJECTS).shapes())
    np.testing.assert_array_equal(painted(found, stack.shape), stack)
    # As much memory as there is, or a plane at a time: the same.
    zarr = written(tmp_path / "a.ome.zarr", stack)
    monkeypatch.setattr(shapes, "_SLAB_BYTES", 1)
    again = list(Shown(zarr, OBJECTS).shapes())
    np.testing.assert_array_equal(painted(again, stack.shape), stack)
    assert [(e.plane, e.number) for e in again] == [(e.plane, e.number) for e in found]


def test_planes_of_a_nifti_are_those_that_viewers_show(tmp_path: Path) -> None:
    """X is its first axis: rows of a picture run along the second, planes along the third."""
    volume = np.zeros((20, 30, 4), np.uint8)
    volume[2:5, 10:20, 1] = 1
    image = nib.Nifti1Image(volume, np.eye(4))
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii.gz")
    (only,) = Shown(tmp_path / "a.nii.gz", OBJECTS).shapes()
    assert only.plane == 1
    assert only.polygons[0].shell.tolist() == [[2, 10], [5, 10], [5, 20], [2, 20]]


def test_the_area_of_a_pixel_is_that_of_the_plane(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.diag([2, 3, 7, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii.gz")
    assert Shown(tmp_path / "a.nii.gz", OBJECTS).pixel_area == pytest.approx(6)


def test_classes_are_shown_area_by_area(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[2:6, 2:6] = mask[10:15, 2:6] = 1
    mask[15:18, 6:9] = 1  # shares a corner with the one before
    mask[2:6, 6:10] = 3  # touches, and is another class
    path = written(tmp_path / "a.tif", mask)
    labels = (Label(0, "background"), Label(1, "gland"), Label(3, "lumen"))
    found = list(Shown(path, Legend(has_objects=False, labels=labels)).shapes())
    told = [(e.label and e.label.name, e.number, e.pixels, len(e.polygons)) for e in found]
    assert told == [("gland", 1, 16, 1), ("gland", 2, 29, 2), ("lumen", 1, 16, 1)]
    # As another library labels them.
    assert ndimage.label(mask == 1, np.ones((3, 3)))[1] == 2
    nameless = [each.label for each in Shown(path, CLASSES).shapes()]
    assert nameless == [Label(1, "label 1"), Label(1, "label 1"), Label(3, "label 3")]


def test_areas_are_counted_through_the_planes(tmp_path: Path) -> None:
    stack = np.zeros((3, 8, 8), np.uint8)
    stack[0, :2, :2] = stack[0, 5:, 5:] = stack[2, :2, :2] = 2
    found = list(Shown(written(tmp_path / "a.tif", stack), CLASSES).shapes())
    assert [(each.plane, each.number) for each in found] == [(0, 1), (0, 2), (2, 3)]


@pytest.mark.parametrize(
    ("legend", "value", "name"),
    [
        (OBJECTS, 4, None),
        (Legend(True, (Label(0, "background"), Label(1, "nucleus"))), 4, "nucleus"),
        (Legend(True, (Label(1, "a"), Label(2, "b")), (2, 1, 2)), 1, "b"),
        (Legend(True, (Label(1, "a"), Label(2, "b")), (2, 1, 2)), 2, "a"),
        (Legend(True, (Label(1, "a"), Label(2, "b")), (2, 1, 2)), 4, None),
        (Legend(True, (Label(1, "a"), Label(2, "b")), (2, 0)), 2, None),
        (Legend(True, (), (5,)), 1, "class 5"),
        (CLASSES, 4, "label 4"),
        (Legend(False, (Label(4, "bone"),)), 4, "bone"),
    ],
)
def test_what_a_value_stands_for(legend: Legend, value: int, name: str | None) -> None:
    label = legend.label_of(value)
    assert (None if label is None else label.name) == name


def test_a_palette_counts_by_its_numbers(tmp_path: Path) -> None:
    picture = Image.fromarray(cells().astype(np.uint8), mode="P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] * 85)
    picture.save(tmp_path / "a.png")
    found = list(Shown(tmp_path / "a.png", OBJECTS).shapes())
    np.testing.assert_array_equal(painted(found, cells().shape), cells())


def test_no_mask_is_refused(tmp_path: Path) -> None:
    negative = np.array([[0, -3], [2, 2]], np.int16)
    tifffile.imwrite(tmp_path / "a.tif", negative)
    with pytest.raises(DataError, match=r"a\.tif: ids of objects below 0 \(got -3\)"):
        list(Shown(tmp_path / "a.tif", OBJECTS).shapes())
    tifffile.imwrite(tmp_path / "b.tif", np.random.default_rng(0).random((8, 8)))
    with pytest.raises(DataError, match="fractional values"):
        Shown(tmp_path / "b.tif", OBJECTS)
    with pytest.raises(DataError, match=r"nothing\.tif: cannot be read"):
        Shown(tmp_path / "nothing.tif", OBJECTS)


# Whole, and in parts whose edges go through cells.
@pytest.mark.parametrize("part", [2048, 7])
def test_objects_look_like_objects_and_classes_do_not(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "_PART", part)

    def looks(name: str, mask: NDArray[np.integer]) -> bool:
        return looks_like_objects(written(tmp_path / name, mask))

    assert looks("cells.tif", cells())
    assert looks("stack.tif", np.stack([cells(), cells()]))
    scattered = np.random.default_rng(0).integers(0, 20, (40, 40)).astype(np.uint8)
    assert not looks("scattered.tif", scattered)
    assert not looks("few.tif", np.where(cells() < 8, cells(), 0))
    assert not looks("empty.tif", np.zeros((5, 5), np.uint8))
