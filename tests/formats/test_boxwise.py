"""Masks and maps written box by box: the same file as one written whole, whatever the boxes."""

import gzip
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetseg.errors import DataError, ShapeMismatch
from unetseg.formats import maps_file, mask_file, open_scan, read_mask, read_scan, write_mask
from unetseg.geometry import Geometry, whole_box
from unetseg.records import Label, Mask, Scan, Source

AFFINE = np.array([[0.0, 3, 0, 10], [-2, 0, 0, 20], [0, 0, 4, -30], [0, 0, 0, 1]])
LABELS = (Label(0, "background"), Label(1, "cell"))


def volume(path: Path) -> Scan:
    nib.save(nib.Nifti1Image(np.zeros((9, 7, 5), "int16"), AFFINE), path)
    return read_scan(path)


def single_slice(path: Path) -> Scan:
    nib.save(nib.Nifti1Image(np.zeros((9, 7, 1), "int16"), AFFINE), path)
    return read_scan(path)


def stack(path: Path) -> Scan:
    # Not a constant: `imagej` needs no unit for the file to be one.
    tifffile.imwrite(path, np.zeros((6, 20, 30), "uint16"), metadata={"axes": "ZYX"})
    return read_scan(path)


def plane(path: Path) -> Scan:
    tifffile.imwrite(path, np.zeros((40, 30), "uint16"))
    return read_scan(path)


def measured(path: Path) -> Scan:
    resolution = {"resolution": (2, 2), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.zeros((6, 20, 30), "uint8"), metadata={"axes": "ZYX"}, **resolution)
    return read_scan(path)


SCANS = [
    (volume, ".nii"),
    (volume, ".nii.gz"),
    (single_slice, ".nii.gz"),
    (stack, ".tif"),
    (stack, ".ome.tif"),
    (stack, ".btf"),
    (plane, ".tif"),
    (measured, ".tif"),
]


def boxes(shape: tuple[int, ...], edge: int) -> Iterator[tuple[slice, ...]]:
    starts = product(*(range(0, n, edge) for n in shape))
    for corner in starts:
        yield tuple(slice(a, min(a + edge, n)) for a, n in zip(corner, shape, strict=True))


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("make", "suffix"), SCANS)
def test_a_mask_has_the_bytes_of_one_written_whole(tmp_path: Path, make: Any, suffix: str) -> None:
    scan = make(tmp_path / f"scan{suffix}")
    array = np.random.default_rng(3).integers(0, 200, scan.geometry.shape).astype(np.uint8)
    array.flat[0] = 200
    write_mask(Mask(array, scan.geometry), tmp_path / f"whole{suffix}", scan)
    target = tmp_path / f"parts{suffix}"
    file = mask_file(target, open_scan(scan.source.path), np.uint8, LABELS)
    corners = set()
    with ThreadPoolExecutor(3) as pool:
        for box in reversed(list(boxes(array.shape, 4))):
            pool.submit(file.write, box, array[box].astype(np.int64)).result()
            corners.add(tuple(axis.start for axis in box))
    assert file.done() == corners
    assert not target.exists()
    file.finish()
    assert target.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("make", "suffix"), SCANS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "bool"])
def test_maps_are_what_was_given(tmp_path: Path, make: Any, suffix: str, dtype: str) -> None:
    scan = make(tmp_path / f"scan{suffix}")
    given_maps = np.random.default_rng(3).random((3, *scan.geometry.shape), dtype=np.float32)
    given_maps.flat[:2] = 0, 1
    target = tmp_path / f"maps{suffix}"
    names = ("a", "b", "c")
    if dtype == "float16" and suffix not in (".tif",):
        with pytest.raises(DataError, match="has no 16-bit floats; choose uint8 or float32"):
            maps_file(target, scan, names, dtype)
        assert hidden(tmp_path) == []
        return
    file = maps_file(target, scan, names, dtype)
    for box in boxes(scan.geometry.shape, 5):
        file.write(box, given_maps[(slice(None), *box)])
    assert not target.exists()
    file.finish()
    found = read_scan(target)
    assert found.geometry.differences(scan.geometry) == ()
    if suffix.startswith(".nii"):
        # Read by an independent program: what it shows is the value, not the byte.
        shown = np.moveaxis(nib.load(target).get_fdata(), -1, 0).reshape(given_maps.shape)
    else:
        assert found.channels == names
        shown = tifffile.imread(target).reshape(given_maps.shape) / (255 if dtype == "uint8" else 1)
    expected = given_maps > 0.5 if dtype == "bool" else given_maps
    tolerance = {"float32": 0, "float16": 5e-4, "uint8": 0.5 / 255 + 1e-6, "bool": 0}[dtype]
    assert np.abs(shown - expected).max() <= tolerance
    assert hidden(tmp_path) == []


def test_bytes_are_rounded_not_cut(tmp_path: Path) -> None:
    scan = plane(tmp_path / "scan.tif")
    values = np.full((1, 40, 30), 0.999, np.float32)
    values[0, 0, :3] = 1.0000001, -1e-7, 0.5
    file = maps_file(tmp_path / "maps.tif", scan, ("a",), np.uint8)
    file.write(whole_box((40, 30)), values)
    file.finish()
    found = read_scan(tmp_path / "maps.tif").array[0]
    # 255 * 0.999 = 254.7; 255 * 0.5 = 127.5, which rounds to even.
    assert found[0, :4].tolist() == [255, 0, 128, 255]


@pytest.mark.parametrize(("make", "suffix"), [SCANS[1], SCANS[4]])
def test_what_nobody_writes_is_zero(tmp_path: Path, make: Any, suffix: str) -> None:
    scan = make(tmp_path / f"scan{suffix}")
    file = mask_file(tmp_path / f"mask{suffix}", scan, np.uint8)
    box = tuple(slice(1, 2) for _ in scan.geometry.shape)
    file.write(box, np.ones([1] * len(box), np.uint8))
    file.finish()
    found = read_mask(tmp_path / f"mask{suffix}").array
    assert found[box].item() == 1
    assert found.sum() == 1


@pytest.mark.parametrize(("make", "suffix"), [SCANS[0], SCANS[1], SCANS[3]])
def test_nothing_is_left_of_what_is_discarded(tmp_path: Path, make: Any, suffix: str) -> None:
    scan = make(tmp_path / f"scan{suffix}")
    files = [
        mask_file(tmp_path / f"mask{suffix}", scan, np.uint8),
        maps_file(tmp_path / f"maps{suffix}", scan, ("a",), np.uint8),
    ]
    assert len(hidden(tmp_path)) == 2
    for file in files:
        file.discard()
        file.discard()
    assert [path.name for path in tmp_path.iterdir()] == [f"scan{suffix}"]


def test_boxes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    scan = plane(tmp_path / "scan.tif")
    file = mask_file(tmp_path / "mask.tif", scan, np.uint8)
    with pytest.raises(ShapeMismatch, match=r"do not fill the box \(expected \(4, 5\)"):
        file.write((slice(0, 4), slice(0, 5)), np.zeros((5, 4), np.uint8))
    with pytest.raises(ShapeMismatch, match="the box is not in the scan"):
        file.write((slice(38, 42), slice(0, 5)), np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match=r"uint8 cannot hold \(expected 0\.\.255, got 0\.\.256"):
        file.write((slice(0, 1), slice(0, 2)), np.array([[0, 256]]))
    file.write((slice(0, 1), slice(0, 2)), np.array([[0, 255]]))
    file.discard()


def test_a_picture_is_not_written_in_parts(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    scan = read_scan(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"mask\.png: a picture cannot be written in parts"):
        mask_file(tmp_path / "mask.png", scan, np.uint8)
    file = maps_file(tmp_path / "maps.tif", scan, ("a",), np.float16)
    file.discard()


def test_a_type_that_maps_do_not_have(tmp_path: Path) -> None:
    scan = plane(tmp_path / "scan.tif")
    with pytest.raises(DataError, match=r"expected float32, float16, uint8, got int16"):
        maps_file(tmp_path / "maps.tif", scan, ("a",), np.int16)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    scan = plane(tmp_path / "scan.tif")
    with pytest.raises(DataError, match=r"mask\.tif: cannot be written"):
        mask_file(scan.source.path / "mask.tif", scan, np.uint8)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_told_before_the_work(tmp_path: Path) -> None:
    scan = plane(tmp_path / "scan.tif")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (600, {limits[1]}))\n"
        "from pathlib import Path; from unetseg.formats import mask_file, open_scan\n"
        f"mask_file(Path({str(tmp_path / 'mask.tif')!r}), "
        f"open_scan(Path({str(scan.source.path)!r})), 'uint8')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "mask.tif: cannot be written: File too large" in done.stderr
    assert hidden(tmp_path) == []


# --- large images


def large(shape: tuple[int, ...] = (4200, 1100), dtype: str = "uint8") -> np.ndarray:
    rows, columns = np.ogrid[: shape[-2], : shape[-1]]
    pattern = (rows // 37 + columns // 41) % 7
    return np.broadcast_to(pattern, shape).astype(dtype)


def scan_of(array: np.ndarray, folder: Path) -> Scan:
    geometry = Geometry.from_spacing(array.shape, (0.5,) * array.ndim, "um")
    return Scan(array[np.newaxis], geometry, ("0",), Source(folder / "none.tif", "tiff"))


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize("shape", [(4200, 1100), (2, 300, 5000)])
def test_a_large_mask_is_tiled_with_a_pyramid(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    array = large(shape)
    scan = scan_of(array, tmp_path)
    path = tmp_path / f"mask{suffix}"
    write_mask(Mask(array, scan.geometry), path, scan)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        image = tiff.series[0]
        assert image.keyframe.tile == (256, 256)
        assert image.keyframe.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert np.array_equal(image.asarray().reshape(shape), array)
        if suffix == ".ome.tif":
            halved = [
                level.asarray().reshape(shape[:-2] + level.shape[-2:]) for level in image.levels
            ]
            assert len(halved) == 4
            for level, found in enumerate(halved):
                assert np.array_equal(found, array[..., :: 2**level, :: 2**level])
        assert image.keyframe.pages is not None
        assert len(image.keyframe.pages) == 3
    mask = read_mask(path)
    assert np.array_equal(mask.array, array)
    assert mask.geometry.differences(scan.geometry) == ()
    assert open_scan(path).block == (*[1] * (len(shape) - 2), 256, 256)


def test_an_image_of_4096_pixels_is_not(tmp_path: Path) -> None:
    array = large((4096, 40))
    scan = scan_of(array, tmp_path)
    write_mask(Mask(array, scan.geometry), tmp_path / "mask.tif", scan)
    with tifffile.TiffFile(tmp_path / "mask.tif") as tiff:
        assert not tiff.is_bigtiff
        assert not tiff.series[0].keyframe.is_tiled
        assert tiff.is_imagej


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_a_large_mask_in_parts_has_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    array = large((1100, 4200), "uint16")
    array[7, 9] = 300
    scan = scan_of(array, tmp_path)
    write_mask(Mask(array, scan.geometry), tmp_path / f"whole{suffix}", scan)
    file = mask_file(tmp_path / f"parts{suffix}", scan, np.uint16)
    for box in boxes(array.shape, 1000):
        file.write(box, array[box])
    file.finish()
    whole, parts = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr", ".nii.gz"])
def test_the_memory_of_writing_does_not_grow_with_the_mask(tmp_path: Path, suffix: str) -> None:
    """A child writes 200 MB of voxels; the peak of its memory grows by a quarter of that."""
    code = f"""
from pathlib import Path
import numpy as np
from unetseg.formats import mask_file, suffixes
from unetseg.geometry import Geometry
from unetseg.records import Scan, Source
suffixes()  # what the formats import is not what writing needs
def peak():
    # Not ru_maxrss, which a child takes over from its parent.
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])
scan = Scan(np.zeros((1, 1, 1), np.uint8), Geometry.from_spacing((10000, 20000), (1, 1), "px"),
            ("0",), Source(Path("none.tif"), "tiff"))
def write(path):
    file = mask_file(path, scan, np.uint8)
    for top in range(0, 10000, 1024):
        for left in range(0, 20000, 4096):
            box = slice(top, min(10000, top + 1024)), slice(left, min(20000, left + 4096))
            file.write(box, block[: box[0].stop - top, : box[1].stop - left])
    file.finish()
block = np.arange(1024 * 4096, dtype=np.uint32).reshape(1024, 4096).astype(np.uint8)
before = peak()
write(Path({str(tmp_path / f"mask{suffix}")!r}))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = int(done.stdout)
    assert grown < (90_000 if suffix == ".ome.zarr" else 50_000)


@given(st.data())
@settings(max_examples=15, deadline=None, database=None)
def test_any_order_of_any_boxes(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = volume(folder / "scan.nii.gz")
        array = np.random.default_rng(5).integers(0, 9, (9, 7, 5)).astype(np.uint8)
        edge = data.draw(st.integers(1, 9))
        file = mask_file(folder / "mask.nii.gz", scan, np.uint8)
        for box in data.draw(st.permutations(list(boxes(array.shape, edge)))):
            file.write(box, array[box])
        file.finish()
        with gzip.open(folder / "mask.nii.gz") as stream:
            stored = np.frombuffer(stream.read()[352:], np.uint8).reshape((9, 7, 5), order="F")
        assert np.array_equal(stored, array)
