"""DICOM: series written by pydicom; expected places come from SimpleITK and highdicom."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
sitk = pytest.importorskip("SimpleITK")
highdicom = pytest.importorskip("highdicom")

from pydicom.data import get_testdata_file  # noqa: E402
from series import COLUMN, NORMAL, ORIGIN, ROW, series, slice_of, voxels, write  # noqa: E402

from unetseg.dataset import find_cases, find_scans  # noqa: E402
from unetseg.dataset.listing import listed  # noqa: E402
from unetseg.errors import DataError  # noqa: E402
from unetseg.formats import (  # noqa: E402
    format_of,
    is_store,
    mask_file,
    open_scan,
    read_mask,
    read_scan,
    split_name,
    write_mask,
)
from unetseg.records import Mask  # noqa: E402

RAS_FROM_LPS = np.array([-1, -1, 1])


def by_itk(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def place(affine: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    return affine[:3, :3] @ index + affine[:3, 3]


def test_every_voxel_lies_where_itk_puts_it(tmp_path: Path) -> None:
    folder = series(tmp_path / "scan", RescaleIntercept=-1024)
    scan, made = read_scan(folder), by_itk(folder)
    assert scan.array.shape == (1, 6, 4, 5)
    assert np.array_equal(scan.array[0].T, voxels().astype(int) - 1024)
    for index in np.ndindex(6, 4, 5):
        assert scan.array[(0, *index)] == made[index]
        there = np.array(made.TransformIndexToPhysicalPoint(index)) * RAS_FROM_LPS
        assert np.allclose(place(scan.geometry.affine, index), there, atol=1e-4)


def test_the_affine_by_arithmetic(tmp_path: Path) -> None:
    affine = open_scan(series(tmp_path / "scan")).geometry.affine
    # PixelSpacing is 0.7 between rows and 1.3 between columns, slices are 2.5 apart.
    for axis, direction in enumerate((1.3 * ROW, 0.7 * COLUMN, 2.5 * NORMAL)):
        assert np.allclose(affine[:3, axis], direction * RAS_FROM_LPS, atol=1e-5)
    assert np.allclose(affine[:3, 3], ORIGIN * RAS_FROM_LPS)


def test_another_order_of_slices_would_be_seen(tmp_path: Path) -> None:
    scan = read_scan(series(tmp_path / "a"))
    turned = read_scan(series(tmp_path / "b", voxels()[::-1].copy()))
    assert scan.geometry.differences(turned.geometry) == ()
    assert not np.array_equal(scan.array, turned.array)
    downwards = read_scan(series(tmp_path / "c", step=-2.5 * NORMAL))
    assert scan.geometry.differences(downwards.geometry)
    # The slices are sorted, so that the last one comes first.
    assert np.array_equal(downwards.array, scan.array[..., ::-1])


def test_highdicom_finds_the_same_volume(tmp_path: Path) -> None:
    folder = series(tmp_path / "scan")
    scan = read_scan(folder)
    volume = highdicom.get_volume_from_series([pydicom.dcmread(p) for p in folder.iterdir()])
    # highdicom's axes are slices from the other end, rows, columns.
    found = np.asarray(volume.array)[::-1].T
    assert np.array_equal(found, scan.array[0])
    last = np.array(volume.affine) @ [len(voxels()) - 1, 0, 0, 1]
    assert np.allclose(last[:3] * RAS_FROM_LPS, scan.geometry.affine[:3, 3], atol=1e-4)


def test_a_tilted_gantry_shears(tmp_path: Path) -> None:
    step = 2.5 * NORMAL + 0.4 * COLUMN
    affine = open_scan(series(tmp_path / "scan", step=step)).geometry.affine
    assert np.allclose(affine[:3, 2], step * RAS_FROM_LPS, atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        ("int16", 1, 0, "int16"),
        ("uint16", 1, -1024, "int32"),
        ("uint8", 1, 0, "uint8"),
        ("uint8", 2, 10, "uint16"),
        ("int16", 0.5, 0.25, "float32"),
    ],
)
def test_values_are_rescaled(
    tmp_path: Path, stored: str, slope: float, intercept: float, dtype: str
) -> None:
    array = np.abs(voxels()) % 200
    folder = series(
        tmp_path / "a", array.astype(stored), RescaleSlope=slope, RescaleIntercept=intercept
    )
    scan, opened = read_scan(folder), open_scan(folder)
    assert scan.array.dtype == opened.dtype == dtype
    assert np.array_equal(scan.array[0].T, array * slope + intercept)


def test_slices_may_have_their_own_slope(tmp_path: Path) -> None:
    folder = tmp_path / "pet"
    folder.mkdir()
    array = np.abs(voxels()).astype(np.int16)
    for k, pixels in enumerate(array):
        data = slice_of(pixels, ORIGIN + k * 2.5 * NORMAL, RescaleSlope=0.5 * (k + 1))
        write(data, folder / f"{k}.dcm")
    expected = array * (0.5 * np.arange(1, 6))[:, None, None]
    assert np.array_equal(read_scan(folder).array[0].T, expected.astype(np.float32))


def test_boxes_read_only_their_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = series(tmp_path / "scan")
    scan, opened = read_scan(folder), open_scan(folder)
    assert opened.block == (6, 4, 1)
    for path in opened.source.header.files[:3]:  # type: ignore[attr-defined]
        path.unlink()
    box = slice(1, 5), slice(0, 3), slice(3, 5)
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])
    with pytest.raises(DataError, match="the pixels cannot be decoded"):
        opened.read((slice(0, 6), slice(0, 4), slice(2, 5)))


def test_a_header_is_opened_without_voxels(tmp_path: Path) -> None:
    folder = series(tmp_path / "scan")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        del data.PixelData
        write(data, path)
    assert open_scan(folder).geometry.shape == (6, 4, 5)


# --- one file


def enhanced(folder: Path, path: Path) -> Path:
    """One file of many frames, made of a series by highdicom."""
    slices = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
    made = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid=highdicom.UID(),
        series_number=9,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
    )
    made.save_as(path)
    return path


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.5, 0.25)])
def test_a_file_of_many_frames_is_the_same_volume(
    tmp_path: Path, slope: float, intercept: float
) -> None:
    folder = series(tmp_path / "scan", RescaleSlope=slope, RescaleIntercept=intercept)
    path = enhanced(folder, tmp_path / "many.dcm")
    many, scan = read_scan(path), read_scan(folder)
    assert many.geometry.differences(scan.geometry) == ()
    assert np.array_equal(many.array, scan.array)
    opened = open_scan(path)
    box = slice(1, 5), slice(0, 3), slice(2, 4)
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])


def test_a_single_slice_is_flat(tmp_path: Path) -> None:
    path = write(slice_of(voxels()[0], ORIGIN), tmp_path / "one.dcm")
    scan = read_scan(path)
    assert scan.geometry.shape == (6, 4)
    assert scan.geometry.spacing == pytest.approx((1.3, 0.7))
    assert scan.geometry.unit == "mm"
    assert np.array_equal(scan.array[0].T, voxels()[0])


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
        "ExplVR_BigEnd.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_small_odd.dcm",
    ],
)
def test_files_of_many_programs_as_pydicom_reads_them(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    data = pydicom.dcmread(path)
    scan = read_scan(Path(path))
    values = pydicom.pixels.apply_modality_lut(data.pixel_array, data)
    assert scan.is_picture == (values.ndim == 3)
    assert np.array_equal(scan.array, values.reshape(*values.shape[:2], -1).T)


# --- refused


def test_several_series_are_named(tmp_path: Path) -> None:
    series(tmp_path / "scan", name="a")
    series(
        tmp_path / "scan",
        name="b",
        skipped=(0, 1),
        SeriesInstanceUID="1.2.3.4.77",
        SeriesNumber=8,
        SeriesDescription="contrast",
    )
    with pytest.raises(
        DataError,
        match=r"scan: 2 series in one folder: 3 \(thorax, 5 files such as a0\.dcm\), "
        r"8 \(contrast, 3 files such as b\d\.dcm\) .*folder of their own",
    ):
        open_scan(tmp_path / "scan")


def test_missing_slices_are_told(tmp_path: Path) -> None:
    folder = series(tmp_path / "scan", skipped=(3,))
    with pytest.raises(
        DataError,
        match=r"slices are missing or unevenly spaced: 5 mm from slice\d\.dcm to slice\d\.dcm, "
        r"2\.5 mm elsewhere",
    ):
        open_scan(folder)


def test_slices_in_one_place_are_told(tmp_path: Path) -> None:
    series(tmp_path / "scan", name="a")
    folder = series(tmp_path / "scan", name="b", skipped=(0, 1, 2, 4))
    with pytest.raises(DataError, match=r"1 of 6 slices lie where another one lies, such as [ab]"):
        open_scan(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "slices of several directions"),
        ({"PixelSpacing": [0.7, 1.4]}, "slices of several directions or pixel spacings"),
        ({"Rows": 2, "Columns": 12}, r"slices of several sizes \(expected \(6, 4\)"),
        ({"ImagePositionPatient": None}, "slices without position, direction or pixel spacing"),
    ],
)
def test_a_scout_among_the_slices(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = series(tmp_path / "scan")
    write(slice_of(voxels()[0], ORIGIN - 2.5 * NORMAL, **changes), folder / "z.dcm")
    with pytest.raises(DataError, match=message):
        open_scan(folder)


def test_slices_that_step_aside(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    for k, pixels in enumerate(voxels()):
        aside = 3 * ROW if k == 2 else 0
        write(slice_of(pixels, ORIGIN + k * 2.5 * NORMAL + aside), folder / f"{k}.dcm")
    with pytest.raises(DataError, match=r"do not lie behind one another: one is 3 mm beside"):
        open_scan(folder)


def test_films_palettes_and_what_is_no_image(tmp_path: Path) -> None:
    film = slice_of(voxels()[0], ORIGIN, NumberOfFrames=2)
    film.PixelData = voxels()[:2].tobytes()
    with pytest.raises(DataError, match=r"film\.dcm: 2 frames without positions: a film"):
        open_scan(write(film, tmp_path / "film.dcm"))
    palette = slice_of(voxels()[0], ORIGIN, PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError, match="PALETTE COLOR images are not supported"):
        open_scan(write(palette, tmp_path / "palette.dcm"))
    report = slice_of(voxels()[0], ORIGIN, Modality="SR")
    del report.Rows
    with pytest.raises(DataError, match=r"no image: SR objects hold contours, reports"):
        open_scan(write(report, tmp_path / "report.dcm"))
    (tmp_path / "junk.dcm").write_bytes(b"GARBAGE" * 99)
    with pytest.raises(DataError, match=r"junk\.dcm: not a readable DICOM file"):
        open_scan(tmp_path / "junk.dcm")


def test_what_is_no_image_does_not_disturb_a_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "scan")
    report = slice_of(voxels()[0], ORIGIN, Modality="SR", SeriesInstanceUID="1.2.3.9")
    del report.Rows
    write(report, folder / "report.dcm")
    assert open_scan(folder).geometry.shape == (6, 4, 5)


# --- masks


def test_a_mask_is_a_nifti_on_the_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "1.2.840.7")
    scan = read_scan(folder)
    assert format_of(folder).mask_suffix(folder) == ".nii.gz"
    mask = Mask((scan.array[0] > 0).astype(np.uint8), scan.geometry)
    write_mask(mask, tmp_path / "m.nii.gz", scan)
    back = read_mask(tmp_path / "m.nii.gz")
    assert back.geometry.differences(scan.geometry) == ()
    made, itk = by_itk(folder), sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    for index in [(0, 0, 0), (5, 3, 4), (2, 1, 3)]:
        there = made.TransformIndexToPhysicalPoint(index)
        assert itk.TransformPhysicalPointToIndex(there) == index
        assert itk[index] == mask.array[index]


def test_dicom_masks_are_not_written_here(tmp_path: Path) -> None:
    scan = read_scan(series(tmp_path / "scan"))
    mask = Mask(np.zeros(scan.geometry.shape, np.uint8), scan.geometry)
    with pytest.raises(DataError, match=r"m\.dcm: masks and maps of DICOM series are NIfTI"):
        write_mask(mask, tmp_path / "m.dcm", scan)
    with pytest.raises(DataError, match="--export dicom-seg"):
        mask_file(tmp_path / "m.dcm", scan, np.uint8)


# --- folders


def test_a_folder_with_a_series_is_one_scan(tmp_path: Path) -> None:
    one, two = (series(tmp_path / name) for name in ("1.2.840.10", "1.2.840.9"))
    assert is_store(one)
    assert split_name(one) == ("1.2.840.10", "")
    for asked in ([tmp_path], [one, two], [tmp_path / "1.2.*"]):
        found = find_scans(asked)
        assert {case.images for case in found.cases} == {(one,), (two,)}
        assert not found.failures
    assert {Path(case.name).name for case in found.cases} == {"1.2.840.10", "1.2.840.9"}
    assert find_scans([one]).cases[0].images == (one,)


def test_series_and_masks_make_a_data_set(tmp_path: Path) -> None:
    for name in ("a", "b.1"):
        folder = series(tmp_path / "images" / name)
        scan = read_scan(folder)
        (tmp_path / "labels").mkdir(exist_ok=True)
        mask = Mask((scan.array[0] > 0).astype(np.uint8), scan.geometry)
        write_mask(mask, tmp_path / "labels" / f"{name}.nii.gz", scan)
    cases = find_cases(tmp_path).cases
    assert [(case.name, case.images[0].name) for case in cases] == [("a", "a"), ("b.1", "b.1")]
    assert [case.truth.name for case in cases if case.truth] == ["a.nii.gz", "b.1.nii.gz"]


def test_radiographs_in_one_folder_are_scans_of_their_own(tmp_path: Path) -> None:
    for k, pixels in enumerate(voxels()):
        data = slice_of(pixels, ORIGIN, SeriesInstanceUID=f"1.2.3.{k}")
        write(data, tmp_path / f"xray{k}.dcm")
    assert not is_store(tmp_path)
    assert len(listed(tmp_path).images) == 5
    assert len(find_scans([tmp_path]).cases) == 5


def test_other_folders_are_no_series(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    write(slice_of(voxels()[0], ORIGIN), tmp_path / "one" / "a.dcm")
    (tmp_path / "junk").mkdir()
    for k in range(3):
        (tmp_path / "junk" / f"{k}.dcm").write_bytes(b"GARBAGE" * 99)
    assert [is_store(tmp_path / name) for name in ("empty", "one", "junk")] == [False] * 3
