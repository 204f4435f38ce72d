"""Which files may serve as masks. Blurred masks are made with scipy and Pillow."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from unetseg.errors import DataError
from unetseg.formats import read_mask
from unetseg.formats.labels import checked_labels
from unetseg.geometry import Geometry
from unetseg.records import Scan, Source

BLURRED = "looks like grey values, not labels.*nearest-neighbour"


def as_scan(array: np.ndarray, **more: Any) -> Scan:
    geometry = Geometry.from_spacing(array.shape[1:], (1.0,) * (array.ndim - 1), "px")
    names = tuple(str(k) for k in range(len(array)))
    return Scan(array, geometry, names, Source(Path("mask.xyz"), "made up"), **more)


def discs(size: int = 200, count: int = 12, seed: int = 0) -> np.ndarray:
    """Instances: discs with radii of 4 to 14, numbered from 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for k in range(count):
        cy, cx = rng.uniform(0, size, 2)
        labels[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(4, 14) ** 2] = k + 1
    return labels


def cells(size: int, count: int, seed: int = 0) -> np.ndarray:
    """Instances that touch: every pixel belongs to the nearest of `count` random points."""
    points = np.random.default_rng(seed).uniform(0, size, (count, 2))
    grid = np.stack(np.mgrid[:size, :size], -1).reshape(-1, 2)
    return (cKDTree(points).query(grid)[1] + 1).reshape(size, size)


# --- types


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([[0, 1], [2, 0]], np.uint8), "uint8"),
        (np.array([[0, 1], [2, 0]], np.int64), "int64"),
        (np.array([[False, True], [True, False]]), "uint8"),
        (np.array([[0.0, 1], [255, 0]]), "uint8"),
        (np.array([[0.0, 1], [256, 0]]), "uint16"),
        (np.array([[0.0, 1], [65536, 0]], np.float32), "uint32"),
        (np.array([[0.0, -1], [2, 0]], np.float16), "int8"),
        (np.array([[0.0, 0.99999], [2.00001, 0]], np.float32), "uint8"),
    ],
)
def test_types(array: np.ndarray, dtype: str) -> None:
    scan = as_scan(array[None])
    mask = checked_labels(scan)
    assert mask.array.dtype == dtype
    assert np.array_equal(mask.array, np.rint(array.astype(float)))
    assert mask.geometry is scan.geometry
    assert mask.labels == ()


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (as_scan(np.ones((3, 4, 4), np.uint8), is_picture=True), "colour image.*red, green"),
        (as_scan(np.ones((3, 4, 4), np.uint8)), "several channels.*got 3"),
        (as_scan(np.ones((2, 4, 4, 4), np.uint8)), "several channels.*got 2"),
        (
            as_scan(np.array([[[0, 0.37], [1, 0.5]]])),
            r"fractional values, e\.g\. 0\.37, in 2 of 4 voxels",
        ),
        (as_scan(np.full((1, 2, 2), 2.0**40)), "more than 32 bits"),
    ],
)
def test_refused(scan: Scan, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked_labels(scan)


def test_a_lossy_source(tmp_path: Path) -> None:
    picture = Image.fromarray((discs() > 0).astype(np.uint8))
    picture.save(tmp_path / "a.jpg")
    picture.save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.jpg: JPEG is lossy"):
        read_mask(tmp_path / "a.jpg")
    assert np.array_equal(read_mask(tmp_path / "a.png").array, discs() > 0)


def test_the_file_is_named(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), 0.5, np.float32), np.eye(4)), tmp_path / "a.nii")
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.zeros((2, 9, 9), np.uint8), metadata={"axes": "CYX"}
    )
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(tmp_path / "a.png")
    for name, message in (
        ("a.nii", r"fractional values, e\.g\. 0\.5, in 60 of 60"),
        ("a.ome.tif", "several channels"),
        ("a.png", "colour image"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read_mask(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_float_labels_in_nifti(tmp_path: Path) -> None:
    labels = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.float32)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    mask = read_mask(tmp_path / "a.nii.gz")
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, labels)


# --- blur


def resized(share: float, method: Image.Resampling) -> np.ndarray:
    picture = Image.fromarray((discs() > 0).astype(np.uint8) * 255)
    size = (int(picture.width * share), int(picture.height * share))
    return np.asarray(picture.resize(size, method))


BINARY = (discs() > 0) * 255.0
NESTED = np.where(ndimage.binary_erosion(BINARY, iterations=3), 255.0, BINARY / 255 * 127)
SOLID = np.pad(np.full((20, 24, 18), 255.0), 8)
BLURRED_MASKS = {
    "gaussian": ndimage.gaussian_filter(BINARY, 1),
    "slight gaussian": ndimage.gaussian_filter(BINARY, 0.6),
    "strong gaussian": ndimage.gaussian_filter(BINARY, 3),
    "linear zoom": ndimage.zoom(BINARY, 1.37, order=1),
    "two classes": ndimage.gaussian_filter(NESTED, 1),
    "bilinear, smaller": resized(0.5, Image.Resampling.BILINEAR),
    "bilinear, larger": resized(1.3, Image.Resampling.BILINEAR),
    "bicubic": resized(0.8, Image.Resampling.BICUBIC),
    "lanczos": resized(1.3, Image.Resampling.LANCZOS),
    "volume": ndimage.gaussian_filter(SOLID, 1),
    "scan instead of mask": ndimage.gaussian_filter(np.random.default_rng(0).random((64, 64)), 2)
    * 255,
}


@pytest.mark.parametrize("name", BLURRED_MASKS)
def test_blurred_masks_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=BLURRED):
        checked_labels(as_scan(np.rint(BLURRED_MASKS[name]).astype(np.int16)[None]))


def shell() -> np.ndarray:
    """A thin cortex of 60 parcels around a solid core, as in a coarse brain atlas."""
    index = np.stack(np.mgrid[:40, :40, :40], -1) - 19.5
    radius = np.linalg.norm(index, axis=-1)
    points = np.random.default_rng(0).normal(size=(60, 3))
    parcels = cKDTree(points / np.linalg.norm(points, axis=1, keepdims=True)).query(
        index / radius[..., None]
    )[1]
    return np.where(radius > 16, 0, np.where(radius > 14.5, 1001 + parcels, 2))


def leftovers() -> np.ndarray:
    """Touching cells, and between them 12 cells of which only specks in two places are left."""
    labels = cells(200, 300) * 2
    left, right = labels[:, :-1], labels[:, 1:]
    made = 0
    for cell in np.unique(labels):
        places = np.argwhere((left == cell) & (right > cell))
        if made < 12 and len(places) > 4:
            for y, x in places[[0, -1]]:
                labels[y, x] = cell + 1
            made += 1
    assert made == 12
    return labels


def layers() -> np.ndarray:
    """Twelve layers on top of each other, one pixel thin but for a stretch of three, twice."""
    labels = np.zeros((100, 100), np.int32)
    for top in (2, 52):
        for k in range(12):
            labels[top + k, 15:] = k + 1
            labels[top + 3 * k : top + 3 * k + 3, :15] = k + 1
    return labels


def dots(numbers: np.ndarray) -> np.ndarray:
    labels = np.zeros((150, 150), np.int32)
    labels[::3, ::3] = numbers.reshape(50, 50)
    return labels


HALF = np.arange(200)[:, None] < 100
CLASSES = np.random.default_rng(0).integers(1, 30, 2500)
SHARP_MASKS = {
    "binary": BINARY,
    "instances": discs(),
    "nearest, smaller": ndimage.zoom(discs(), 0.2, order=0),
    "nearest, larger": ndimage.zoom(discs(), 2.3, order=0),
    "touching": cells(200, 300),
    "tiny touching": cells(200, 8000),
    "tiny touching, background": cells(200, 8000) * HALF,
    "tiny touching, ignored region": np.where(HALF, cells(200, 8000), 65535),
    "one pixel each": dots(np.arange(2500) + 1),
    "one pixel each, 29 classes": dots(CLASSES),
    "two by two in reading order": np.arange(1, 2501).reshape(50, 50).repeat(2, 0).repeat(2, 1),
    "many classes": np.kron(CLASSES.reshape(50, 50), np.ones((6, 6), int)),
    "many classes in small areas": np.kron(CLASSES.reshape(50, 50), np.ones((3, 3), int)),
    "layers": layers(),
    "thin parcels": shell(),
    "leftovers of hidden cells": leftovers(),
    "empty": np.zeros((50, 50)),
    "one voxel": np.ones((1, 1)),
    "one row": np.arange(50)[None],
}


@pytest.mark.parametrize("name", SHARP_MASKS)
def test_sharp_masks_pass(name: str) -> None:
    array = SHARP_MASKS[name].astype(np.int32)
    for turned in (array, array[..., ::-1], np.asfortranarray(array)):
        assert np.array_equal(checked_labels(as_scan(turned[None])).array, turned)


def test_blur_is_found_in_a_mask_larger_than_a_block() -> None:
    array = np.zeros((3000, 2500), np.uint8)
    assert checked_labels(as_scan(array[None])).array.shape == array.shape
    array[2500:2700, 100:300] = np.rint(BLURRED_MASKS["gaussian"])
    with pytest.raises(DataError, match=BLURRED):
        checked_labels(as_scan(array[None]))


@pytest.mark.real
def test_real_labels(real_data: Path) -> None:
    paths = sorted(real_data.glob("*/labels/*"))
    assert len(paths) > 600
    for path in paths:
        mask = read_mask(path)
        assert mask.array.dtype.kind in "ui"
        assert mask.array.max() > 0


@pytest.mark.real
def test_real_labels_blurred(real_data: Path) -> None:
    paths = sorted((real_data / "nuclei_fluo" / "labels").iterdir())[::40]
    paths += sorted((real_data / "nuclei_stained" / "labels").iterdir())[::10]
    paths += sorted((real_data / "hippocampus" / "labels").iterdir())[::40]
    assert len(paths) > 15
    for path in paths:
        mask = read_mask(path)
        binary = (mask.array > 0) * 255.0
        for blurred in (ndimage.gaussian_filter(binary, 1), ndimage.zoom(binary, 1.37, order=1)):
            with pytest.raises(DataError, match=BLURRED):
                checked_labels(as_scan(np.rint(blurred).astype(np.uint8)[None]))
