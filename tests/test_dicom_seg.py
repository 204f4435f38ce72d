"""DICOM-SEG: read back by highdicom, every voxel at its place in the patient."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("SimpleITK")
highdicom = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

from series import series, slice_of, voxels, write  # noqa: E402

from unetseg.errors import DataError  # noqa: E402
from unetseg.exporting.dicom_seg import DicomSeg, is_dicom_seg, write_dicom_seg  # noqa: E402
from unetseg.formats import open_scan, read_scan, write_mask  # noqa: E402
from unetseg.geometry import Geometry  # noqa: E402
from unetseg.records import Label, Mask  # noqa: E402
from unetseg.version import __version__  # noqa: E402

LABELS = (Label(0, "background"), Label(2, "liver"), Label(4, "tumour"), Label(9, "absent"))
Voxel = tuple[float, float, float, int]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return series(tmp_path / "scan")


def mask_on(scan: Path, labels: tuple[Label, ...] = LABELS) -> Mask:
    array = np.zeros((6, 4, 5), np.uint8)
    array[0:3, 1:3, 1:4], array[2, 1, 3], array[5, 0, 0] = 2, 4, 2
    return Mask(array, open_scan(scan).geometry, labels)


def placed(affine: np.ndarray, array: np.ndarray, sign: tuple[int, int, int]) -> set[Voxel]:
    """Where the voxels above 0 lie, in RAS micrometres, and what they hold."""
    found = set()
    for index in np.argwhere(array > 0):
        x, y, z = np.round(1000 * (affine[:3, :3] @ index + affine[:3, 3]) * sign)
        found.add((float(x), float(y), float(z), int(array[tuple(index)])))
    return found


def read_back(path: Path) -> tuple[set[Voxel], list[str]]:
    """The segment numbers with their places, and the segments' names."""
    seg = highdicom.seg.segread(path)
    volume = seg.get_volume(combine_segments=True)
    names = [seg.get_segment_description(number).segment_label for number in seg.segment_numbers]
    return placed(np.array(volume.affine), np.asarray(volume.array), (-1, -1, 1)), names


def test_every_voxel_lies_where_the_mask_has_it(scan: Path, tmp_path: Path) -> None:
    mask = mask_on(scan)
    write_dicom_seg(mask, scan, tmp_path / "m_seg.dcm")
    found, names = read_back(tmp_path / "m_seg.dcm")
    segments = np.array([0, 0, 1, 0, 2])[mask.array]
    assert names == ["liver", "tumour", "absent"]
    assert found == placed(mask.geometry.affine, segments, (1, 1, 1))
    assert len(found) == 19


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_mask_would_be_seen(scan: Path, tmp_path: Path, axis: int) -> None:
    mask = mask_on(scan)
    write_dicom_seg(mask, scan, tmp_path / "m_seg.dcm")
    found, _ = read_back(tmp_path / "m_seg.dcm")
    flipped = np.flip(np.array([0, 0, 1, 0, 2])[mask.array], axis)
    assert found != placed(mask.geometry.affine, flipped, (1, 1, 1))


def test_each_frame_names_the_slice_it_was_made_from(scan: Path, tmp_path: Path) -> None:
    mask = mask_on(scan)
    write_dicom_seg(mask, scan, tmp_path / "m_seg.dcm")
    seg = pydicom.dcmread(tmp_path / "m_seg.dcm")
    by_uid = {pydicom.dcmread(p).SOPInstanceUID: pydicom.dcmread(p) for p in scan.iterdir()}
    # Four slices hold liver, one of them a tumour as well.
    assert seg.NumberOfFrames == 5
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(by_uid[source].ImagePositionPatient, place)


def test_what_the_object_says_of_itself(scan: Path, tmp_path: Path) -> None:
    write_dicom_seg(mask_on(scan), scan, tmp_path / "m_seg.dcm")
    seg = pydicom.dcmread(tmp_path / "m_seg.dcm")
    source = pydicom.dcmread(next(scan.iterdir()))
    assert (seg.Modality, seg.SegmentationType, seg.BitsAllocated) == ("SEG", "BINARY", 1)
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert seg[name].value == source[name].value
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert is_dicom_seg(tmp_path / "m_seg.dcm")
    assert not is_dicom_seg(next(scan.iterdir()))
    assert not is_dicom_seg(tmp_path / "none.dcm")
    segment = seg.SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("unetseg", __version__)


def test_a_mask_without_names_and_one_that_is_empty(
    scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mask = mask_on(scan, ())
    write_dicom_seg(mask, scan, tmp_path / "a_seg.dcm")
    assert read_back(tmp_path / "a_seg.dcm")[1] == ["label 2", "label 4"]
    empty = Mask(np.zeros_like(mask.array), mask.geometry)
    write_dicom_seg(empty, scan, tmp_path / "b_seg.dcm")
    assert not pydicom.dcmread(tmp_path / "b_seg.dcm").pixel_array.any()
    assert capfd.readouterr().err == ""


def test_a_file_of_many_frames_gets_its_own_order(scan: Path, tmp_path: Path) -> None:
    slices = [pydicom.dcmread(p) for p in sorted(scan.iterdir(), reverse=True)]
    highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid=highdicom.UID(),
        series_number=9,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
    ).save_as(tmp_path / "many.dcm")
    mask = mask_on(tmp_path / "many.dcm")
    write_dicom_seg(mask, tmp_path / "many.dcm", tmp_path / "m_seg.dcm")
    found, _ = read_back(tmp_path / "m_seg.dcm")
    segments = np.array([0, 0, 1, 0, 2])[mask.array]
    assert found == placed(mask.geometry.affine, segments, (1, 1, 1))


def test_a_single_slice(tmp_path: Path) -> None:
    path = write(slice_of(voxels()[0], np.zeros(3)), tmp_path / "one.dcm")
    array = np.zeros((6, 4), np.uint8)
    array[4, 1] = 1
    write_dicom_seg(Mask(array, open_scan(path).geometry), path, tmp_path / "m_seg.dcm")
    assert np.argwhere(pydicom.dcmread(tmp_path / "m_seg.dcm").pixel_array).tolist() == [[1, 4]]


def test_what_does_not_fit_is_refused(scan: Path, tmp_path: Path) -> None:
    mask = mask_on(scan)
    elsewhere = Mask(mask.array, Geometry(mask.array.shape, np.eye(4), "mm"))
    with pytest.raises(DataError, match=r"the mask does not lie on the series scan: spacing"):
        write_dicom_seg(elsewhere, scan, tmp_path / "m_seg.dcm")
    many = Mask(np.arange(6 * 4 * 5).reshape(6, 4, 5) + 1000, mask.geometry)
    write_dicom_seg(many, scan, tmp_path / "many_seg.dcm")
    labels = tuple(Label(k, str(k)) for k in range(300))
    with pytest.raises(DataError, match="299 segments are too many"):
        write_dicom_seg(Mask(mask.array, mask.geometry, labels), scan, tmp_path / "m_seg.dcm")
    assert not (tmp_path / "m_seg.dcm").exists()


def test_one_beside_its_mask_is_no_second_mask(scan: Path, tmp_path: Path) -> None:
    from unetseg.evaluation.pairs import pair

    mask = mask_on(scan)
    for folder in ("truth", "masks"):
        (tmp_path / folder).mkdir()
        write_mask(mask, tmp_path / folder / "scan_seg.nii.gz", read_scan(scan))
    write_dicom_seg(mask, scan, tmp_path / "masks" / "scan_seg.dcm")
    paths = (tmp_path / folder / "scan_seg.nii.gz" for folder in ("truth", "masks"))
    assert pair(tmp_path / "truth", tmp_path / "masks") == (("scan", *paths),)


def test_one_in_the_folder_of_its_series_is_left_out(scan: Path) -> None:
    write_dicom_seg(mask_on(scan), scan, scan / "scan_seg.dcm")
    assert open_scan(scan).geometry.shape == (6, 4, 5)
    with pytest.raises(DataError, match=r"scan_seg\.dcm: no image: SEG objects hold"):
        open_scan(scan / "scan_seg.dcm")


@pytest.mark.parametrize(
    ("legend", "names", "segment_of"),
    [
        ({"labels": LABELS}, ["liver", "tumour", "absent"], {2: 1, 4: 2}),
        ({"has_objects": True}, ["object"], {2: 1, 4: 1}),
        ({"has_objects": True, "labels": LABELS[:2]}, ["liver"], {2: 1, 4: 1}),
        (
            {"has_objects": True, "labels": LABELS, "classes": (2, 4, 4, 2)},
            ["liver", "tumour", "absent"],
            {2: 2, 4: 1},
        ),
    ],
)
def test_the_export_of_a_mask_file(
    scan: Path, tmp_path: Path, legend: dict[str, Any], names: list[str], segment_of: dict[int, int]
) -> None:
    mask = mask_on(scan)
    write_mask(mask, tmp_path / "m.nii.gz", read_scan(scan))
    named = SimpleNamespace(**{"has_objects": False, "labels": (), "classes": (), **legend})
    asked = SimpleNamespace(path=tmp_path / "m.nii.gz", legend=named, scan=scan)
    DicomSeg().write(asked, tmp_path / f"m{DicomSeg.suffix}")
    found, told = read_back(tmp_path / "m_seg.dcm")
    segments = np.zeros_like(mask.array)
    for value, number in segment_of.items():
        segments[mask.array == value] = number
    assert told == names
    assert found == placed(mask.geometry.affine, segments, (1, 1, 1))


def test_the_export_needs_a_series(scan: Path, tmp_path: Path) -> None:
    write_mask(mask_on(scan), tmp_path / "m.nii.gz", read_scan(scan))
    named = SimpleNamespace(has_objects=False, labels=(), classes=())
    for source, told in ((None, "no series"), (tmp_path / "m.nii.gz", r"m\.nii\.gz")):
        asked = SimpleNamespace(path=tmp_path / "m.nii.gz", legend=named, scan=source)
        with pytest.raises(DataError, match=rf"made of a mask and its DICOM series \(got .*{told}"):
            DicomSeg().write(asked, tmp_path / "m_seg.dcm")
