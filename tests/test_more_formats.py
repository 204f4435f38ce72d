"""What predict makes of scans in further formats: one command, and the mask lies on the scan."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cubes import cube
from nibabel.freesurfer.mghformat import MGHImage

from unetseg.formats import read_mask, read_scan
from unetseg.prediction import Request, predict
from unetseg.records import FileDone, Mask, View

AFFINE = np.array([[0.0, -1, 0, 10], [-1, 0, 0, 20], [0, 0, 1, -30], [0, 0, 0, 1]])


def go(run: Path, scan: Path, output: Path) -> FileDone:
    [done] = predict(Request((scan,), model=run, output=output, device="cpu"))
    return done


def overlap(mask: Mask, labels: np.ndarray) -> float:
    both = np.count_nonzero((mask.array > 0) & (labels > 0))
    return 2 * both / (np.count_nonzero(mask.array) + np.count_nonzero(labels))


def write_nrrd(path: Path, array: np.ndarray) -> Path:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(array.T)
    image.SetDirection([0, 1, 0, 1, 0, 0, 0, 0, 1])
    image.SetOrigin([-10, -20, -30])
    sitk.WriteImage(image, str(path))
    return path


def write_mgz(path: Path, array: np.ndarray) -> Path:
    nib.save(MGHImage(array, AFFINE), path)
    return path


def write_series(path: Path, array: np.ndarray) -> Path:
    pytest.importorskip("pydicom")
    from series import NORMAL, series

    return series(path, array.T.copy(), step=NORMAL, PixelSpacing=[1, 1])


@pytest.mark.parametrize(
    ("name", "writer", "mask"),
    [
        ("scan.nrrd", write_nrrd, "scan_seg.nrrd"),
        ("scan.mha", write_nrrd, "scan_seg.mha"),
        ("scan.mgz", write_mgz, "scan_seg.mgz"),
        ("1.2.840.7", write_series, "1.2.840.7_seg.nii.gz"),
    ],
)
def test_a_volume(volumes: Path, tmp_path: Path, name: str, writer: object, mask: str) -> None:
    image, labels = cube((17, 22, 19), 3)
    path = writer(tmp_path / name, image.round().astype(np.int16))  # type: ignore[operator]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    done = go(volumes, path, tmp_path / "out")
    assert (done.status, done.output) == ("done", tmp_path / "out" / mask), done.message
    scan, found = read_scan(path), read_mask(tmp_path / "out" / mask)
    assert found.geometry.differences(scan.geometry) == ()
    assert overlap(found, labels) > 0.8
    # The same labels from the other end are somewhere else.
    assert overlap(found, labels[::-1]) < 0.5
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_microscope_file(images: Path, tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    image, labels = cube((40, 32), 3)
    with czi.create_czi(str(tmp_path / "cells.czi")) as file:
        file.write(image.round().astype(np.uint16)[..., np.newaxis])
        file.write_metadata("cells", scale_x=0.5e-6, scale_y=0.5e-6)
    done = go(images, tmp_path / "cells.czi", tmp_path / "out")
    assert done.status == "done", done.message
    scan, found = read_scan(tmp_path / "cells.czi"), read_mask(tmp_path / "out/cells_seg.ome.tif")
    assert found.geometry.differences(scan.geometry) == ()
    assert scan.geometry.spacing == pytest.approx((0.5, 0.5))
    assert overlap(found, labels) > 0.8


def test_films_and_scenes_of_a_microscope(images: Path, tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    (first, truth), (second, other) = cube((40, 32), 3), cube((40, 32), 4)
    for name, plane, scene in (("film", "T", 0), ("wells", "H", 1)):
        with czi.create_czi(str(tmp_path / f"{name}.czi")) as file:
            for k, image in enumerate((first, second)):
                file.write(
                    image.round().astype(np.uint16)[..., np.newaxis],
                    plane={plane: k} if plane == "T" else {},
                    location=(200 * k * scene, 0),
                    scene=k * scene,
                )
            file.write_metadata(name, scale_x=0.5e-6, scale_y=0.5e-6)
    request = Request(
        (tmp_path / "film.czi", tmp_path / "wells.czi"),
        model=images,
        output=tmp_path / "out",
        device="cpu",
    )
    assert [done.status for done in predict(request)] == ["done"] * 3
    for k, labels in enumerate((truth, other)):
        film = read_mask(tmp_path / "out" / "film_seg.ome.tif", view=View(time=k))
        well = read_mask(tmp_path / "out" / f"wells_s{k}_seg.ome.tif")
        assert overlap(film, labels) > 0.8
        assert np.array_equal(film.array, well.array)
        assert well.geometry.spacing == pytest.approx((0.5, 0.5))


def test_mixed_series_fail_with_one_line(volumes: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from series import series

    series(tmp_path / "scan", name="a")
    series(tmp_path / "scan", name="b", SeriesInstanceUID="1.2.3.9", SeriesNumber=4)
    done = go(volumes, tmp_path / "scan", tmp_path / "out")
    assert (done.status, done.output) == ("failed", None)
    assert "2 series in one folder: 3 (thorax, 5 files such as a0.dcm), 4 (" in done.message
    assert "\n" not in done.message
