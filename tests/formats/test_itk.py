"""NRRD and MetaImage: files and expected places come from SimpleITK, or are written by hand."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.errors import DataError, ShapeMismatch
from unetseg.formats import (
    format_of,
    maps_file,
    mask_file,
    open_scan,
    read_mask,
    read_scan,
    write_mask,
)
from unetseg.geometry import Geometry, whole_box
from unetseg.records import Mask, Scan

sitk = pytest.importorskip("SimpleITK")

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
NIFTI_FROM_ITK = np.array([-1, -1, 1])


def rotation(seed: int, n: int = 3) -> np.ndarray:
    """An oblique, possibly flipped and permuted set of directions."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def image(shape: tuple[int, ...] = (6, 5, 4), seed: int = 0, dtype: str = "int16") -> Any:
    """ITK's image of an array (Z, Y, X), oblique and anisotropic."""
    rng = np.random.default_rng(seed)
    made = sitk.GetImageFromArray(rng.integers(0, 120, shape).astype(dtype))
    n = len(shape)
    made.SetDirection(rotation(seed, n).ravel())
    made.SetSpacing([0.7, 1.3, 2.9][:n])
    made.SetOrigin([-11.1, 22.3, 33.7][:n])
    return made


def saved(made: Any, path: Path, *, packed: bool = False) -> Path:
    sitk.WriteImage(made, str(path), packed)
    return path


def places(scan_geometry: Geometry, made: Any, seed: int = 3) -> float:
    """The largest distance, in mm, of random voxels from where ITK says they are."""
    rng = np.random.default_rng(seed)
    n = made.GetDimension()
    worst = 0.0
    for _ in range(20):
        index = [int(rng.integers(size)) for size in made.GetSize()]
        there = np.array(made.TransformIndexToPhysicalPoint(index))
        if n == 3:
            there = there * NIFTI_FROM_ITK
        here = scan_geometry.affine @ [*index, 1.0]
        worst = max(worst, float(np.abs(here[:n] - there).max()))
    return worst


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_voxel_lies_where_itk_puts_it(tmp_path: Path, suffix: str, packed: bool) -> None:
    made = image()
    scan = read_scan(saved(made, tmp_path / f"a{suffix}", packed=packed))
    assert scan.array.shape == (1, 4, 5, 6)
    assert scan.geometry.unit == "mm"
    assert places(scan.geometry, made) < 1e-9
    for index in np.ndindex(4, 5, 6):
        assert scan.array[(0, *index)] == made[index]


def test_the_check_of_places_would_see_a_flip() -> None:
    made = image()
    other = sitk.Flip(made, (True, False, False))
    affine = np.eye(4)
    affine[:3, :3] = np.array(made.GetDirection()).reshape(3, 3) * made.GetSpacing()
    affine[:3, 3] = made.GetOrigin()
    affine[:2] *= -1
    geometry = Geometry((4, 5, 6), affine, "mm")
    assert places(geometry, made) < 1e-9
    assert places(geometry, other) > 0.5
    affine[:2] *= -1
    assert places(Geometry((4, 5, 6), affine, "mm"), made) > 0.5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flat_file_keeps_its_own_origin_and_direction(tmp_path: Path, suffix: str) -> None:
    made = image((5, 4))
    scan = read_scan(saved(made, tmp_path / f"a{suffix}"))
    assert scan.array.shape == (1, 4, 5)
    assert places(scan.geometry, made) < 1e-9
    mask = Mask((scan.array[0] > 60).astype(np.uint8), scan.geometry)
    target = tmp_path / f"m{format_of(tmp_path / f'a{suffix}').mask_suffix(Path(f'a{suffix}'))}"
    write_mask(mask, target, scan)
    back = sitk.ReadImage(str(target))
    assert np.allclose(back.GetDirection(), made.GetDirection(), atol=1e-12)
    assert back.GetOrigin() == made.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(back).T, mask.array)


@given(seed=st.integers(0, 10**6), sizes=st.tuples(*[st.integers(1, 5)] * 3))
@settings(max_examples=25, deadline=None, database=None)
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_mask_lies_on_its_scan_in_the_eyes_of_itk(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, seed: int, sizes: tuple[int, ...]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    path = saved(image(sizes, seed), folder / f"a{suffix}")
    made = sitk.ReadImage(str(path))
    scan = read_scan(path)
    array = (scan.array[0] > 60).astype(np.uint8)
    write_mask(Mask(array, scan.geometry), folder / f"m{suffix}", scan)
    back = sitk.ReadImage(str(folder / f"m{suffix}"))
    assert back.GetSize() == made.GetSize()
    assert np.allclose(back.GetDirection(), made.GetDirection(), atol=1e-12)
    assert np.allclose(back.GetSpacing(), made.GetSpacing(), rtol=1e-12)
    assert back.GetOrigin() == made.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(made) > 60)
    assert not read_mask(folder / f"m{suffix}").geometry.differences(scan.geometry)


def test_another_grid_is_seen_by_the_check_above(tmp_path: Path) -> None:
    scan = read_scan(saved(image(seed=1), tmp_path / "a.nrrd"))
    other = read_scan(saved(image(seed=2), tmp_path / "b.nrrd"))
    found = scan.geometry.differences(other.geometry)
    assert found and "axis directions" in found[0]
    mask = Mask(np.zeros(scan.geometry.shape, np.uint8), other.geometry)
    with pytest.raises(ShapeMismatch, match=r"a\.nrrd: the mask does not lie on the scan"):
        write_mask(mask, tmp_path / "m.nrrd", scan)
    assert not (tmp_path / "m.nrrd").exists()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_nibabel_finds_the_same_place_in_the_nifti_that_itk_makes_of_it(
    tmp_path: Path, suffix: str
) -> None:
    scan = read_scan(saved(image(), tmp_path / f"a{suffix}"))
    mask = Mask((scan.array[0] > 60).astype(np.uint8), scan.geometry)
    write_mask(mask, tmp_path / f"m{suffix}", scan)
    saved(sitk.ReadImage(str(tmp_path / f"m{suffix}")), tmp_path / "m.nii.gz")
    nifti = nib.load(tmp_path / "m.nii.gz")
    assert np.allclose(nifti.affine, scan.geometry.affine, atol=1e-4)
    assert np.array_equal(np.asarray(nifti.dataobj), mask.array)


def test_a_nifti_mask_lies_on_a_nrrd_scan(tmp_path: Path) -> None:
    """The same image in both formats is one grid."""
    made = image()
    nrrd = read_scan(saved(made, tmp_path / "a.nrrd"))
    nifti = read_scan(saved(made, tmp_path / "a.nii.gz"))
    assert nrrd.geometry.differences(nifti.geometry) == ()
    assert np.array_equal(nrrd.array, nifti.array)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_scan_of_another_format_gets_its_place(tmp_path: Path, suffix: str) -> None:
    made = image()
    scan = read_scan(saved(made, tmp_path / "a.nii.gz"))
    write_mask(
        Mask((scan.array[0] > 60).astype(np.uint8), scan.geometry), tmp_path / f"m{suffix}", scan
    )
    assert places(scan.geometry, sitk.ReadImage(str(tmp_path / f"m{suffix}"))) < 1e-5


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_single_plane_is_flat_and_its_mask_is_where_it_was(tmp_path: Path, suffix: str) -> None:
    made = image((1, 5, 4))
    scan = read_scan(saved(made, tmp_path / f"a{suffix}"))
    assert scan.geometry.shape == (4, 5)
    assert np.allclose(scan.geometry.spacing, (0.7, 1.3))
    write_mask(Mask(np.ones((4, 5), np.uint8), scan.geometry), tmp_path / f"m{suffix}", scan)
    back = sitk.ReadImage(str(tmp_path / f"m{suffix}"))
    assert back.GetSize() == (4, 5, 1)
    assert np.allclose(back.GetDirection(), made.GetDirection())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_values_a_voxel_are_channels(tmp_path: Path, suffix: str) -> None:
    stored = np.random.default_rng(0).integers(0, 999, (4, 3, 2, 5)).astype(np.uint16)
    path = saved(sitk.GetImageFromArray(stored, isVector=True), tmp_path / f"a{suffix}")
    scan, opened = read_scan(path), open_scan(path)
    assert scan.channels == opened.channels == tuple("01234")
    assert np.array_equal(scan.array, stored.transpose(3, 2, 1, 0))
    box = slice(0, 2), slice(1, 3), slice(1, 2)
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_fourth_axis_is_channels(tmp_path: Path, suffix: str) -> None:
    parts = [sitk.GetImageFromArray(np.full((4, 3, 2), k, np.int16)) for k in range(5)]
    scan = read_scan(saved(sitk.JoinSeries(parts), tmp_path / f"a{suffix}"))
    assert scan.array.shape == (5, 2, 3, 4)
    assert [set(channel.ravel()) for channel in scan.array] == [{0}, {1}, {2}, {3}, {4}]


def test_more_axes_are_refused(tmp_path: Path) -> None:
    stored = np.zeros((2, 3, 3, 3, 2), np.uint8)
    saved(sitk.GetImageFromArray(stored, isVector=True), tmp_path / "a.mha")
    with pytest.raises(DataError, match=r"a\.mha: more than four axes .* got \(3, 3, 3, 2, 2\)"):
        open_scan(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(dtype, suffix) for dtype in ("uint8", "int32", "float32", "float64") for suffix in SUFFIXES],
)
def test_the_header_tells_what_the_whole_file_tells(
    tmp_path: Path, dtype: str, suffix: str
) -> None:
    path = saved(image(dtype=dtype), tmp_path / f"a{suffix}")
    opened, scan = open_scan(path), read_scan(path)
    assert opened.dtype == scan.array.dtype == dtype
    assert opened.geometry.differences(scan.geometry, tolerance=0) == ()
    assert np.array_equal(opened.read(whole_box((4, 5, 6))), scan.array)

    @given(st.data())
    @settings(max_examples=10, deadline=None, database=None)
    def check(data: st.DataObject) -> None:
        starts = [data.draw(st.integers(0, size - 1)) for size in (4, 5, 6)]
        box = tuple(
            slice(a, data.draw(st.integers(a + 1, n)))
            for a, n in zip(starts, (4, 5, 6), strict=True)
        )
        assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])

    check()


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    values = np.arange(24, dtype=">i2")
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: int16\ndimension: 3\nsizes: 2 3 4\nendian: big\nencoding: raw\n\n"
        + values.tobytes()
    )
    scan = read_scan(tmp_path / "a.nrrd")
    assert scan.array.dtype == np.dtype(np.int16)
    assert np.array_equal(scan.array[0].ravel(order="F"), values)


# --- NRRD written by hand


def nrrd(path: Path, *lines: str, values: bytes = bytes(range(24))) -> Path:
    head = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 2 3 4", *lines, "encoding: raw"]
    path.write_bytes("\n".join([*head, "", ""]).encode() + values)
    return path


def test_a_ras_file_needs_no_turning(tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd",
        "space: right-anterior-superior",
        "space directions: (0,2,0) (-3,0,0) (0,0,4)",
        "space origin: (10,20,-30)",
    )
    affine = read_scan(path).geometry.affine
    assert np.array_equal(affine, [[0, -3, 0, 10], [2, 0, 0, 20], [0, 0, 4, -30], [0, 0, 0, 1]])


@pytest.mark.parametrize("written", ['space units: "{0}" "{0}" "{0}"', 'units: "{0}" "{0}" "{0}"'])
@pytest.mark.parametrize(
    ("word", "unit", "spacing"),
    [("mm", "mm", 0.5), ("um", "um", 0.5), ("microns", "um", 0.5), ("nm", "um", 0.0005),
     ("m", "mm", 500.0), ("s", "px", 0.5)],
)  # fmt: skip
def test_units_of_a_nrrd(
    tmp_path: Path, written: str, word: str, unit: str, spacing: float
) -> None:
    space = "space directions: (0.5,0,0) (0,0.5,0) (0,0,0.5)"
    where = ["space: left-posterior-superior", space, "space origin: (1,2,3)"]
    lines = where if written.startswith("space") else ["spacings: 0.5 0.5 0.5"]
    scan = read_scan(nrrd(tmp_path / "a.nrrd", *lines, written.format(word)))
    assert scan.geometry.unit == unit
    assert np.allclose(scan.geometry.spacing, spacing)


def test_a_mask_in_micrometres_stays_there(tmp_path: Path) -> None:
    scan = read_scan(
        nrrd(
            tmp_path / "a.nrrd",
            "space: left-posterior-superior",
            "space directions: (0.5,0,0) (0,0.5,0) (0,0,2)",
            "space origin: (1,2,3)",
            'space units: "um" "um" "um"',
        )
    )
    mask = Mask((scan.array[0] > 9).astype(np.uint8), scan.geometry)
    write_mask(mask, tmp_path / "m.nrrd", scan)
    assert not read_mask(tmp_path / "m.nrrd").geometry.differences(scan.geometry)
    with pytest.raises(DataError, match=r"m\.mha: an MHA holds millimetres only \(got um\)"):
        write_mask(mask, tmp_path / "m.mha", scan)


# --- written box by box


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("shape", [(6, 5, 4), (5, 4), (1, 5, 4)])
def test_parts_make_the_same_file_as_the_whole(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    scan = read_scan(saved(image(shape), tmp_path / f"a{suffix}"))
    array = (scan.array[0] * 3).astype(np.uint16)
    write_mask(Mask(array, scan.geometry), tmp_path / f"whole{suffix}", scan)
    file = mask_file(tmp_path / f"parts{suffix}", scan, np.uint16)
    half = array.shape[0] // 2
    for part in (slice(half, array.shape[0]), slice(0, half)):
        file.write((part, *whole_box(array.shape[1:])), array[part])
    assert not (tmp_path / f"parts{suffix}").exists()
    file.finish()
    whole, parts = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("whole", "parts"))
    # Of values below 256 the whole needs one byte.
    assert array.max() > 255
    assert whole == parts
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("shape", [(6, 5, 4), (5, 4)])
def test_maps_are_values_of_a_voxel(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    scan = read_scan(saved(image(shape), tmp_path / f"a{suffix}"))
    values = np.random.default_rng(1).random((3, *scan.geometry.shape)).astype(np.float32)
    file = maps_file(tmp_path / f"p{suffix}", scan, ("a", "b", "c"))
    file.write(whole_box(scan.geometry.shape), values)
    file.finish()
    back = sitk.ReadImage(str(tmp_path / f"p{suffix}"))
    assert back.GetNumberOfComponentsPerPixel() == 3
    assert np.array_equal(sitk.GetArrayFromImage(back).T, values)
    assert np.array_equal(read_scan(tmp_path / f"p{suffix}").array, values)
    with pytest.raises(DataError, match="NRRD and MHA have no 16-bit floats"):
        maps_file(tmp_path / f"q{suffix}", scan, ("a",), np.float16)


@pytest.mark.parametrize(
    ("low", "high", "stored"),
    [
        (0, 1, "uint8"),
        (0, 300, "uint16"),
        (0, 70000, "uint32"),
        (-1, 3, "int8"),
        (-9, 300, "int16"),
    ],
)
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_masks_take_the_smallest_type(
    tmp_path: Path, suffix: str, low: int, high: int, stored: str
) -> None:
    scan = read_scan(saved(image(), tmp_path / f"a{suffix}"))
    array = np.zeros(scan.geometry.shape, np.int64)
    array[0, 0, 0], array[3, 4, 5] = low, high
    write_mask(Mask(array, scan.geometry), tmp_path / f"m{suffix}", scan)
    back = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"m{suffix}")))
    assert back.dtype == stored
    assert np.array_equal(back.T, array)


# --- refused


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_cut_short(tmp_path: Path, suffix: str, packed: bool, capfd: Any) -> None:
    saved(image((40, 30, 20)), tmp_path / f"a{suffix}", packed=packed)
    cut = next((p for p in tmp_path.iterdir() if "raw" in p.name), tmp_path / f"a{suffix}")
    cut.write_bytes(cut.read_bytes()[:-5000])
    with pytest.raises(DataError, match=rf"a\{suffix}: (the header promises|the voxels are dam)"):
        read_scan(tmp_path / f"a{suffix}")
    told = capfd.readouterr()
    assert told.out == told.err == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nrrd", b"GARBAGE" * 9, r"a\.nrrd: not a NRRD file \(expected NRRD000"),
        ("a.mha", b"GARBAGE" * 9, r"a\.mha: not a MetaImage file"),
        ("a.nrrd", b"NRRD0004\ntype: uint8\n\n", r"a\.nrrd: damaged header"),
        (
            "a.nrrd",
            b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 9000 9000 9000\nencoding: gzip\n\nabc",
            r"a\.nrrd: the header promises 729 GB of voxels, which 3 bytes cannot hold",
        ),
        (
            "a.nhdr",
            b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: b.raw\n\n",
            r"a\.nhdr: the file with the voxels is missing: b\.raw",
        ),
        (
            "a.mhd",
            b"ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\n"
            b"ElementDataFile = b.raw\n",
            r"a\.mhd: the file with the voxels is missing: b\.raw",
        ),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_scan(tmp_path / name)


@pytest.mark.parametrize(("suffix", "one"), [(".nhdr", ".nrrd"), (".mhd", ".mha")])
def test_masks_are_one_file(tmp_path: Path, suffix: str, one: str) -> None:
    path = saved(image(), tmp_path / f"a{suffix}")
    scan: Scan = read_scan(path)
    assert format_of(path).mask_suffix(path) == one
    with pytest.raises(DataError, match=rf"written as one file.*ends in \{one}"):
        write_mask(
            Mask(np.zeros(scan.geometry.shape, np.uint8), scan.geometry),
            tmp_path / f"m{suffix}",
            scan,
        )
