"""Tiles, put together, are the image; every second voxel is every second voxel."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from unetseg.errors import DataError
from unetseg.formats import open_levels, open_scan
from unetseg.formats.voxels import values_of
from unetseg.geometry import whole_box
from unetseg.pages.colouring import coloured
from unetseg.viewer import planes
from unetseg.viewer.entries import of_files
from unetseg.viewer.legends import colour_table, labels_of
from unetseg.viewer.planes import TILE, Place, Plane, Stored, halvings, shown_type
from unetseg.viewer.reduced import read_reduced
from unetseg.viewer.subject import Moment, Subject


def together(plane: Plane, level: int) -> NDArray[Any]:
    """All tiles of a level side by side."""
    step = TILE << level
    rows, columns = (math.ceil(n / step) for n in plane.shape)
    return np.concatenate(
        [
            np.concatenate([plane.tile(Place(level, r, c)) for c in range(columns)], -1)
            for r in range(rows)
        ],
        -2,
    )


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 300),
    st.integers(1, 300),
    st.booleans(),
    st.data(),
)
def test_tiles_together_are_the_image(
    height: int, width: int, rows: int, columns: int, is_large: bool, data: st.DataObject
) -> None:
    image = np.arange(2 * height * width, dtype=np.int32).reshape(2, height, width)
    asked = []

    def read(box: Any) -> NDArray[Any]:
        asked.append(box)
        return image[(slice(None), *box)]

    plane = Plane(Stored((height, width), read, (min(rows, height), min(columns, width))))
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(planes, "_SMALL", 0)
        level = data.draw(st.integers(0, plane.levels - 1))
        found = together(plane, level)
        np.testing.assert_array_equal(found, image[:, :: 1 << level, :: 1 << level])
        assert plane.tile(Place(plane.levels - 1, 0, 0)).shape[-1] <= TILE
        assert max(plane.overview.shape[1:]) <= 2 * TILE


@settings(deadline=None, max_examples=30)
@given(st.integers(300, 900), st.integers(300, 900), st.booleans(), st.data())
def test_smaller_copies_are_used_where_they_fit(
    height: int, width: int, is_cut: bool, data: st.DataObject
) -> None:
    """The copy of half the size, odd sizes halved down or up, holds other values to tell it."""
    image = np.arange(height * width).reshape(height, width)
    half = -image[: height // 2 * 2 : 2, : width // 2 * 2 : 2] if is_cut else -image[::2, ::2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "_SMALL", 0)
        block = (100, 100)
        plane = Plane(
            Stored((height, width), lambda box: image[box], block),
            [Stored(half.shape, lambda box: half[box], block)],
        )
        level = data.draw(st.integers(0, plane.levels - 1))
        found = together(plane, level)
    expected = image[:: 1 << level, :: 1 << level]
    assert found.shape == expected.shape
    if level == 0:
        np.testing.assert_array_equal(found, expected)
        return
    rows, columns = (
        n - (n * 2**level > m - m % 2) for n, m in zip(found.shape, image.shape, strict=True)
    )
    np.testing.assert_array_equal(found[:rows, :columns], -expected[:rows, :columns])
    # What a copy that was halved down lacks is what lies beside it.
    assert (found <= 0).all()


@pytest.mark.parametrize(
    ("shape", "smaller", "times"),
    [
        ((101, 200), (50, 100), 1),
        ((101, 200), (51, 100), 1),
        ((400, 400), (100, 100), 2),
        ((400, 400), (133, 133), 0),
        ((400, 400), (200, 100), 0),
        ((400, 400), (400, 400), 0),
        ((400, 400), (60, 60), 0),
    ],
)
def test_how_often_a_copy_was_halved(
    shape: tuple[int, int], smaller: tuple[int, int], times: int
) -> None:
    assert halvings(shape, smaller) == times


def test_a_margin_is_what_lies_beyond() -> None:
    image = np.arange(300 * 600).reshape(300, 600)
    plane = Plane(Stored(image.shape, lambda box: image[box], image.shape))
    np.testing.assert_array_equal(plane.tile(Place(0, 0, 1), 1), image[:257, 256:513])
    # There is nothing beyond the edge.
    np.testing.assert_array_equal(plane.tile(Place(0, 1, 2), 1), image[256:, 512:])


@pytest.mark.parametrize(
    "place", [Place(0, 2, 0), Place(0, 0, 3), Place(3, 0, 0), Place(60, 0, 0), Place(-1, 0, 0)]
)
def test_tiles_that_are_not_there(place: Place) -> None:
    image = np.zeros((300, 600))
    plane = Plane(Stored(image.shape, lambda box: image[box], image.shape))
    with pytest.raises(DataError, match="no such tile"):
        plane.tile(place)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_reduced_reading_equals_slicing(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    shape = [data.draw(st.integers(1, 40)) for _ in range(ndim)]
    block = [data.draw(st.integers(1, n)) for n in shape]
    steps = [data.draw(st.integers(1, 9)) for _ in range(ndim)]
    starts = [
        data.draw(st.integers(0, (n - 1) // s)) * s for n, s in zip(shape, steps, strict=True)
    ]
    box = tuple(
        slice(a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True)
    )
    array = np.arange(math.prod(shape)).reshape(1, *shape)
    largest = 0

    def read(part: Any) -> NDArray[Any]:
        nonlocal largest
        found = array[(slice(None), *part)]
        assert found.size > 0
        largest = max(largest, found.size)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unetseg.viewer.reduced._AT_ONCE", 64)
        found = read_reduced(read, box, steps, block)
    every = tuple(slice(None, None, step) for step in steps)
    np.testing.assert_array_equal(found, array[(slice(None), *box)][(slice(None), *every)])
    if max(steps) > 1:
        # A block, however large, or a multiple of the steps, is read at once.
        least = math.prod(-(-b // s) * s for b, s in zip(block, steps, strict=True))
        assert largest <= max(64, least)


def subject(scan: Path, *masks: Path) -> Subject:
    exhibit = of_files(scan, masks)
    return Subject(exhibit.entries[0], exhibit)


@pytest.mark.parametrize("suffix", ["tif", "png", "ome.zarr"])
def test_tiles_of_files(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 500), np.uint8)
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, image, tile=(64, 64), compression="zlib")
    elif suffix == "png":
        Image.fromarray(image).save(path)
    else:
        group = zarr.create_group(path, zarr_format=3)
        group.create_array("0", data=image, chunks=(64, 128))
        axes = [{"name": name, "type": "space"} for name in "yx"]
        steps = [{"type": "scale", "scale": [1, 1]}]
        datasets = [{"path": "0", "coordinateTransformations": steps}]
        multiscale = {"axes": axes, "datasets": datasets}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    found = subject(path).scan_tile(Moment(), 0, Place(0, 1, 1))
    np.testing.assert_array_equal(found, image[256:, 256:])
    half = subject(path).scan_tile(Moment(), 0, Place(1, 0, 0))
    np.testing.assert_array_equal(half, image[::2, ::2])


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_the_pyramid_of_a_file_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(planes, "_SMALL", 0)
    image = np.random.default_rng(0).integers(1, 255, (600, 1000), np.uint8)
    # No reduction of the image: what is read must be the copy.
    half = 255 - image[::2, ::2]
    path = tmp_path / f"a.{suffix}"
    if suffix == "ome.tif":
        with tifffile.TiffWriter(path) as writer:
            tiles = {"tile": (128, 128), "compression": "zlib"}
            writer.write(image, subifds=1, **tiles)
            writer.write(half, subfiletype=1, **tiles)
    else:
        group = zarr.create_group(path, zarr_format=3)
        datasets = []
        for name, array, scale in (("0", image, 1), ("1", half, 2)):
            group.create_array(name, data=array, chunks=(128, 128))
            steps = [{"type": "scale", "scale": [scale, scale]}]
            datasets.append({"path": name, "coordinateTransformations": steps})
        axes = [{"name": name, "type": "space"} for name in "yx"]
        multiscale = {"axes": axes, "datasets": datasets}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    assert [level.geometry.shape for level in open_levels(path)] == [(300, 500)]
    found = subject(path)
    full, smaller, quarter = (
        found.scan_tile(Moment(), 0, Place(level, 0, 0)) for level in range(3)
    )
    np.testing.assert_array_equal(full, image[:256, :256])
    np.testing.assert_array_equal(smaller, half[:256, :256])
    np.testing.assert_array_equal(quarter, half[::2, ::2])


def test_colours_of_a_picture_come_together(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    found = subject(path)
    assert found.facts(Moment()).is_picture
    np.testing.assert_array_equal(
        found.scan_tile(Moment(), None, Place(0, 0, 0)), image.transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(found.scan_tile(Moment(), 1, Place(0, 0, 0)), image[..., 1])
    with pytest.raises(DataError, match="no channel 3"):
        found.scan_tile(Moment(), 3, Place(0, 0, 0))


def test_films_are_seen_time_by_time(tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 60000, (4, 30, 50), np.uint16)
    masks = (film > 30000).astype(np.uint8)
    for name, array in (("film", film), ("masks", masks)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "still.tif", masks[0])
    found = subject(tmp_path / "film.tif", tmp_path / "masks.tif", tmp_path / "still.tif")
    assert found.facts(Moment()).times == 4
    place = Place(0, 0, 0)
    for time in (0, 3):
        moment = Moment(time)
        np.testing.assert_array_equal(found.scan_tile(moment, 0, place), film[time])
        np.testing.assert_array_equal(found.mask_tile(moment, 0, place), masks[time])
        # A mask of one image lies over all of them.
        np.testing.assert_array_equal(found.mask_tile(moment, 1, place), masks[0])
    with pytest.raises(DataError, match="no time point 9"):
        found.facts(Moment(9))


def test_scenes_are_seen_one_by_one(tmp_path: Path) -> None:
    """Of a file of several images, with a mask that has as many."""
    images = np.random.default_rng(0).integers(1, 255, (2, 30, 50), np.uint8)
    for name, arrays in (("a", images), ("b", images // 200)):
        with tifffile.TiffWriter(tmp_path / f"{name}.ome.tif", ome=True) as writer:
            for array in arrays:
                writer.write(array, metadata={"axes": "YX"})
    found = subject(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    assert len(found.facts(Moment()).scenes) == 2
    for scene in range(2):
        moment, place = Moment(scene=scene), Place(0, 0, 0)
        np.testing.assert_array_equal(found.scan_tile(moment, 0, place), images[scene])
        np.testing.assert_array_equal(found.mask_tile(moment, 0, place), images[scene] // 200)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((30, 50), np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", np.full((30, 50), 1 << 31, np.uint32))
    with pytest.raises(DataError, match=r"b\.tif: label values too large to be shown"):
        subject(tmp_path / "a.tif", tmp_path / "b.tif").facts(Moment())


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((30, 50), np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((30, 51), np.uint8))
    with pytest.raises(DataError, match=r"does not lie on its scan a.tif: shape \(30, 50\) is not"):
        subject(tmp_path / "a.tif", tmp_path / "b.tif").facts(Moment())


def test_a_mask_without_a_pixel_size_lies_over_the_same_pixels(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((30, 50), np.uint8), metadata=sizes)
    tifffile.imwrite(tmp_path / "b.tif", np.ones((30, 50), np.uint8))
    found = subject(tmp_path / "a.ome.tif", tmp_path / "b.tif")
    assert found.facts(Moment()).unit == "um"
    assert found.mask_tile(Moment(), 0, Place(0, 0, 0)).all()


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("u1", "uint8"), ("?", "uint8"), (">u2", "uint16"), ("i2", "float32"), ("f8", "float32")],
)
def test_types_of_tiles(stored: str, shown: str) -> None:
    assert shown_type(np.dtype(stored)).name == shown


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0, 1, 2, 7, 300, 70000]), min_size=12, max_size=12))
def test_values_and_colours_of_objects(values: list[int]) -> None:
    array = np.array(values).reshape(3, 4)
    ids = sorted(set(values) - {0})
    assert values_of(array) == tuple(ids)
    table = colour_table(array)
    if not ids:
        assert table.size == 0
        return
    assert len(table) == ids[-1] + 1
    assert np.flatnonzero(table).tolist() == ids
    # As in every other picture of these objects.
    ranks = np.searchsorted(ids, array) + 1
    ranks[array == 0] = 0
    ranks = np.pad(ranks, 16)
    np.testing.assert_array_equal(table[ids], coloured([ranks], len(ids))[1:] + 1)


def test_negative_values_are_classes_with_colours() -> None:
    assert values_of(np.array([[-2, 0], [5, 5]])) == (-2, 5)
    assert [label.value for label in labels_of((-2, 5), ())] == [-2, 5]
    assert colour_table(np.array([[-2, 0], [5, 5]])).size == 0


def test_large_images_are_read_in_parts(tmp_path: Path) -> None:
    """What is read at once of a large file is bounded, whatever the reduction."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((6000, 6000), np.uint8), tile=(256, 256), compression="zlib")
    opened = open_scan(path)
    sizes = []

    def read(box: Any) -> NDArray[Any]:
        found = opened.read(box)
        sizes.append(found.size)
        return found

    found = read_reduced(read, whole_box((6000, 6000)), (16, 16), opened.block)
    assert found.shape == (1, 375, 375)
    assert max(sizes) <= 1 << 24
    assert len(sizes) > 1
