"""MGH and MGZ: files and expected values come from nibabel."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.freesurfer.mghformat import MGHImage

from unetseg.errors import DataError
from unetseg.formats import (
    format_of,
    maps_file,
    mask_file,
    open_scan,
    read_mask,
    read_scan,
    write_mask,
)
from unetseg.geometry import whole_box
from unetseg.records import Mask

SUFFIXES = (".mgz", ".mgh")


def oblique(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [0.7, 1.3, 2.9]
    affine[:3, 3] = [-11.1, 22.3, 33.7]
    return affine


def loaded(path: Path) -> MGHImage:
    # `nibabel.load` leaves plain files open.
    content = path.read_bytes()
    return MGHImage.from_bytes(gzip.decompress(content) if path.suffix == ".mgz" else content)


def save(
    path: Path, shape: tuple[int, ...] = (4, 5, 6), dtype: str = "int16", seed: int = 0
) -> MGHImage:
    array = np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)
    image = MGHImage(array, oblique(seed))
    nib.save(image, path)
    return loaded(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3), (1, 5, 6)])
def test_voxels_and_affine_are_those_of_nibabel(
    tmp_path: Path, suffix: str, dtype: str, shape: tuple[int, ...]
) -> None:
    image = save(tmp_path / f"a{suffix}", shape, dtype)
    scan, opened = read_scan(tmp_path / f"a{suffix}"), open_scan(tmp_path / f"a{suffix}")
    stored = np.asarray(image.dataobj).reshape(*shape[:3], -1)
    assert np.array_equal(scan.array, np.moveaxis(stored, -1, 0))
    assert scan.array.dtype == opened.dtype == dtype
    assert np.array_equal(scan.geometry.affine, image.affine)
    assert scan.geometry.unit == "mm"
    assert opened.geometry.differences(scan.geometry, tolerance=0) == ()
    assert opened.block == ((4, 5, 6) if suffix == ".mgz" and shape[0] == 4 else opened.block)
    box = tuple(slice(n // 3, n // 2 + 1) for n in scan.geometry.shape)
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None, database=None)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mask_lies_on_its_scan_in_the_eyes_of_nibabel(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("round")
    image = save(folder / f"a{suffix}", seed=seed)
    scan = read_scan(folder / f"a{suffix}")
    array = (scan.array[0] > 60).astype(np.uint8)
    write_mask(Mask(array, scan.geometry), folder / f"m{suffix}", scan)
    back = loaded(folder / f"m{suffix}")
    assert np.array_equal(back.affine, image.affine)
    assert np.array_equal(np.asarray(back.dataobj), array)
    assert not read_mask(folder / f"m{suffix}").geometry.differences(scan.geometry, tolerance=0)


def test_another_place_would_be_seen(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a.mgz", seed=1), save(tmp_path / "b.mgz", seed=2)
    assert not np.allclose(one.affine, two.affine)
    a, b = read_scan(tmp_path / "a.mgz"), read_scan(tmp_path / "b.mgz")
    assert a.geometry.differences(b.geometry)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 1)])
def test_a_nifti_scan_gives_the_same_place(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.int16)
    image = nib.Nifti1Image(array, oblique())
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii.gz")
    scan = read_scan(tmp_path / "a.nii.gz")
    mask = Mask(np.ones(scan.geometry.shape, np.uint8), scan.geometry)
    write_mask(mask, tmp_path / "m.mgz", scan)
    back = loaded(tmp_path / "m.mgz")
    if len(scan.geometry.shape) == 3:
        assert np.allclose(back.affine, oblique(), atol=1e-5)
    else:
        assert np.allclose(np.linalg.norm(back.affine[:3, :2], axis=0), (0.7, 1.3))
    assert not read_mask(tmp_path / "m.mgz").geometry.differences(scan.geometry)


def test_a_single_plane_is_flat_and_its_mask_is_where_it_was(tmp_path: Path) -> None:
    image = save(tmp_path / "a.mgz", (4, 5, 1))
    scan = read_scan(tmp_path / "a.mgz")
    assert scan.geometry.shape == (4, 5)
    assert np.allclose(scan.geometry.spacing, (0.7, 1.3))
    write_mask(Mask(np.ones((4, 5), np.uint8), scan.geometry), tmp_path / "m.mgz", scan)
    assert np.array_equal(loaded(tmp_path / "m.mgz").affine, image.affine)


def test_a_file_without_a_place_has_that_of_nibabel(tmp_path: Path) -> None:
    save(tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[28:30] = bytes(2)
    (tmp_path / "a.mgh").write_bytes(content)
    affine = loaded(tmp_path / "a.mgh").affine
    assert np.array_equal(read_scan(tmp_path / "a.mgh").geometry.affine, affine)
    assert not np.allclose(affine, oblique())


@pytest.mark.parametrize(
    ("low", "high", "stored"),
    [(0, 255, "uint8"), (0, 300, "uint16"), (0, 70000, "int32"), (-1, 3, "int16")],
)
def test_masks_take_the_smallest_type_of_the_format(
    tmp_path: Path, low: int, high: int, stored: str
) -> None:
    save(tmp_path / "a.mgz")
    scan = read_scan(tmp_path / "a.mgz")
    array = np.zeros((4, 5, 6), np.int64)
    array[0, 0, 0], array[3, 4, 5] = low, high
    write_mask(Mask(array, scan.geometry), tmp_path / "m.mgz", scan)
    back = np.asarray(loaded(tmp_path / "m.mgz").dataobj)
    assert back.dtype.newbyteorder("=") == stored
    assert np.array_equal(back, array)


def test_values_that_no_type_holds(tmp_path: Path) -> None:
    save(tmp_path / "a.mgz")
    scan = read_scan(tmp_path / "a.mgz")
    array = np.zeros((4, 5, 6), np.int64)
    array[0, 0, 0] = 2**32 - 1
    with pytest.raises(DataError, match="label values that int32 cannot hold"):
        write_mask(Mask(array, scan.geometry), tmp_path / "m.mgz", scan)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parts_make_the_same_file_as_the_whole(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a{suffix}")
    scan = read_scan(tmp_path / f"a{suffix}")
    array = (scan.array[0] * 3).astype(np.uint16)
    assert array.max() > 255
    write_mask(Mask(array, scan.geometry), tmp_path / f"whole{suffix}", scan)
    file = mask_file(tmp_path / f"parts{suffix}", scan, np.uint16)
    for part in (slice(2, 4), slice(0, 2)):
        file.write((part, slice(0, 5), slice(0, 6)), array[part])
    file.finish()
    assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"parts{suffix}").read_bytes()


def test_maps_are_frames(tmp_path: Path) -> None:
    save(tmp_path / "a.mgz")
    scan = read_scan(tmp_path / "a.mgz")
    values = np.random.default_rng(1).random((3, 4, 5, 6)).astype(np.float32)
    file = maps_file(tmp_path / "p.mgz", scan, ("a", "b", "c"))
    file.write(whole_box((4, 5, 6)), values)
    file.finish()
    back = loaded(tmp_path / "p.mgz")
    assert np.array_equal(np.asarray(back.dataobj), np.moveaxis(values, 0, -1))
    with pytest.raises(DataError, match="MGH has no 16-bit floats"):
        maps_file(tmp_path / "q.mgz", scan, ("a",), np.float16)


def test_the_suffix_of_a_mask(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        assert format_of(path).mask_suffix(path) == suffix


# --- refused


def test_damaged_files(tmp_path: Path) -> None:
    save(tmp_path / "a.mgh", (40, 50, 60))
    content = (tmp_path / "a.mgh").read_bytes()
    (tmp_path / "cut.mgh").write_bytes(content[:-1000])
    with pytest.raises(DataError, match=r"cut\.mgh: the header promises"):
        open_scan(tmp_path / "cut.mgh")
    (tmp_path / "cut.mgz").write_bytes(gzip.compress(content)[:-1000])
    with pytest.raises(DataError, match=r"cut\.mgz: the gzip stream is damaged or cut short"):
        read_scan(tmp_path / "cut.mgz")
    (tmp_path / "junk.mgh").write_bytes(b"GARBAGE" * 99)
    with pytest.raises(DataError, match=r"junk\.mgh: not an MGH file"):
        open_scan(tmp_path / "junk.mgh")
    (tmp_path / "type.mgh").write_bytes(content[:20] + b"\0\0\0\x05" + content[24:])
    with pytest.raises(DataError, match=r"type\.mgh: voxels of an unknown type 5"):
        open_scan(tmp_path / "type.mgh")
    (tmp_path / "empty.mgh").write_bytes(content[:4] + bytes(4) + content[8:])
    with pytest.raises(DataError, match=r"empty\.mgh: an axis holds no voxels"):
        open_scan(tmp_path / "empty.mgh")


def test_micrometres_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"MGH holds millimetres only \(got um\)"):
        write_mask(Mask(np.zeros((4, 5, 6), np.uint8), scan.geometry), tmp_path / "m.mgz", scan)
