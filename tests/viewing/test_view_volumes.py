"""The NIfTI that the page gets lies where the scan lies."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shown_files import AFFINE, SHAPE, box_mask, write_volume

from unetseg.errors import DataError
from unetseg.geometry import Geometry
from unetseg.viewer import volumes
from unetseg.viewer.entries import of_files
from unetseg.viewer.subject import Moment, Subject


def parsed(parts: tuple[bytes | memoryview, ...]) -> nib.Nifti1Image:
    """As another library reads it."""
    return nib.Nifti1Image.from_bytes(b"".join(map(bytes, parts)))


def subject(scan: Path, *masks: Path) -> Subject:
    exhibit = of_files(scan, masks)
    return Subject(exhibit.entries[0], exhibit)


def values(image: Any) -> NDArray[Any]:
    return np.asanyarray(image.dataobj)


def test_a_nifti_keeps_its_voxels_and_their_place(tmp_path: Path) -> None:
    found = subject(*write_volume(tmp_path))
    scan = parsed(found.scan_nifti(Moment(), 0))
    stored = nib.load(tmp_path / "scan.nii.gz")
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(values(scan), values(stored))
    assert scan.get_data_dtype() == np.int16
    assert scan.header.get_xyzt_units()[0] == "mm"
    mask = parsed(found.mask_nifti(Moment(), 0))
    np.testing.assert_array_equal(values(mask), box_mask(SHAPE))
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-6)


def test_channels_one_by_one(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
    found = subject(tmp_path / "a.nii")
    for channel in range(3):
        one = parsed(found.scan_nifti(Moment(), channel))
        np.testing.assert_array_equal(values(one), array[..., channel])
    with pytest.raises(DataError, match="no channel 3"):
        found.scan_nifti(Moment(), 3)


def test_a_stack_of_pictures_stands_upright(tmp_path: Path) -> None:
    """Axes Z, Y, X of the file: rows run down, so that Y has the other sign."""
    array = np.random.default_rng(0).integers(0, 99, (4, 5, 6), np.uint16)
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, array, metadata={"axes": "ZYX", **sizes})
    found = subject(path)
    facts = found.facts(Moment())
    assert (facts.shape, facts.spacing) == ((6, 5, 4), (0.5, 0.25, 2.0))
    assert facts.y_sign == -1
    image = parsed(found.scan_nifti(Moment(), 0))
    np.testing.assert_array_equal(values(image), array.transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine, np.diag([0.5, -0.25, 2.0, 1.0]))
    assert image.header.get_xyzt_units()[0] == "micron"


@settings(deadline=None, max_examples=60)
@given(st.permutations("XYZ"), st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_a_voxel_that_is_shown_lies_where_it_lies(letters: list[str], steps: list[int]) -> None:
    shape = (7, 8, 9)
    affine = AFFINE if letters == ["X", "Y", "Z"] else np.diag([2.0, 3.0, 5.0, 1.0])
    geometry = Geometry(shape, affine, "um")
    shown = volumes.placed(geometry, steps, "".join(letters))
    array = np.arange(np.prod(shape)).reshape(shape)
    thinned = array[tuple(slice(None, None, step) for step in steps)]
    order = volumes.order_of("".join(letters))
    assert shown.shape == thinned.transpose(order).shape
    # The last voxel, which differs along all axes.
    last = np.array(shown.shape) - 1
    index = [int(last[order.index(axis)]) * steps[axis] for axis in range(3)]
    place = affine @ [*index, 1]
    expected = place[:3] if letters == ["X", "Y", "Z"] else place[[*order]] * [1, -1, 1]
    np.testing.assert_allclose(shown.affine @ [*last, 1], [*expected, 1], atol=1e-9)


def test_volumes_too_large_for_a_card_are_thinned_along_their_finest_axis() -> None:
    small = Geometry.from_spacing((512, 512, 512), (1, 1, 1), "mm")
    assert volumes.steps_of(small) == (1, 1, 1)
    stack = Geometry.from_spacing((60, 5000, 4000), (5.0, 0.5, 0.5), "um")
    steps = volumes.steps_of(stack)
    assert steps[0] == 1
    sizes = volumes.placed(stack, steps, "ZYX").shape
    assert max(sizes) <= 2048
    assert np.prod(sizes) <= 1 << 27
    assert steps[1] == steps[2]


def test_a_thinned_volume_and_its_mask_stay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "_LONGEST", 8)
    found = subject(*write_volume(tmp_path))
    facts = found.facts(Moment())
    assert facts.shape == SHAPE
    assert facts.notes == ("too large to be shown whole: one voxel of 2 x 3 x 2 is",)
    scan, mask = parsed(found.scan_nifti(Moment(), 0)), parsed(found.mask_nifti(Moment(), 0))
    whole = nib.load(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(values(scan), values(whole)[::2, ::3, ::2])
    np.testing.assert_array_equal(values(mask), box_mask(SHAPE)[::2, ::3, ::2])
    np.testing.assert_allclose(scan.affine, mask.affine)
    np.testing.assert_allclose(scan.affine @ [2, 3, 4, 1], AFFINE @ [4, 9, 8, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "largest", "shown"),
    [
        ("?", 1, "uint8"),
        ("u1", 200, "uint8"),
        (">i2", 300, "int16"),
        ("u4", 70_000, "int32"),
        ("i8", 5, "uint8"),
        ("f8", 0.5, "float32"),
        ("f2", 0.5, "float32"),
    ],
)
def test_types_that_the_page_reads(stored: str, largest: float, shown: str) -> None:
    array = np.zeros((2, 3, 4), stored)
    array[1, 2, 3] = largest
    geometry = Geometry.from_spacing(array.shape, (1, 1, 1), "mm")
    image = parsed(volumes.nifti(array, geometry))
    assert image.get_data_dtype() == np.dtype(shown)
    assert image.header.endianness == "<"
    np.testing.assert_array_equal(values(image), array)


def test_values_that_no_type_holds() -> None:
    geometry = Geometry.from_spacing((2, 2, 2), (1, 1, 1), "mm")
    with pytest.raises(DataError, match=r"too large to be shown.*32-bit"):
        volumes.nifti(np.full((2, 2, 2), 1 << 40), geometry)


def test_the_display_range_leaves_out_the_rarest() -> None:
    array = np.arange(10_000.0).reshape(20, 20, 25)
    array[0, 0, 0] = -1e9
    low, high = volumes.display_range(array)
    assert low == pytest.approx(50, abs=2)
    assert high == pytest.approx(9950, abs=2)
    low, high = volumes.display_range(np.full((3, 3), 7.0))
    assert low == 7
    assert high > low


def test_a_mask_elsewhere_is_refused(tmp_path: Path) -> None:
    scan, mask = write_volume(tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] += 30
    nib.save(nib.Nifti1Image(box_mask(SHAPE), moved), mask)
    with pytest.raises(DataError, match=r"does not lie on its scan scan\.nii\.gz: origin"):
        subject(scan, mask).facts(Moment())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_lie_where_they_lie(tmp_path: Path, suffix: str) -> None:
    """Written by another library, from a NIfTI: left, right, front and back are told otherwise."""
    sitk = pytest.importorskip("SimpleITK")
    scan, mask = write_volume(tmp_path, np.diag([-1.0, 1.5, 2.5, 1.0]))
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.ReadImage(scan), path)
    found = subject(path, mask)
    assert found.facts(Moment()).y_sign == 1
    image, before = parsed(found.scan_nifti(Moment(), 0)), nib.load(scan)
    np.testing.assert_allclose(image.affine, before.affine, atol=1e-5)
    np.testing.assert_array_equal(values(image), values(before))


@pytest.mark.real
def test_real_scans_are_what_another_library_reads(real_data: Path) -> None:
    paths = sorted((real_data / "hippocampus" / "images").iterdir())[:20]
    for path in (*paths, *(real_data / "ct_spleen_crop" / "images").iterdir()):
        image, before = parsed(subject(path).scan_nifti(Moment(), 0)), nib.load(path)
        np.testing.assert_allclose(image.affine, before.affine, atol=1e-4)
        np.testing.assert_array_equal(values(image), values(before).astype(values(image).dtype))
