"""ImageJ ROIs: read back by roifile, drawn by another library, they are the objects."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import tifffile
from drawn import cells, filled
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi, roiread

from unetseg.errors import DataError
from unetseg.exporting import Legend, export
from unetseg.records import Label

OBJECTS = Legend(has_objects=True)


def exported(path: Path, mask: NDArray[np.integer], legend: Legend = OBJECTS) -> list[ImagejRoi]:
    tifffile.imwrite(path, mask, photometric="minisblack")
    (written,) = export(path, ["rois"], legend)
    found = roiread(written)
    return [found] if isinstance(found, ImagejRoi) else found


def painted(rois: list[ImagejRoi], shape: tuple[int, ...]) -> NDArray[np.int64]:
    mask = np.zeros(shape, np.int64)
    for roi in rois:
        plane = mask[roi.position - 1] if len(shape) == 3 else mask
        own = filled(roi.coordinates(multi=True), plane.shape)
        plane[own] = int(roi.name.split()[0])
        rows, columns = np.nonzero(own)
        assert (roi.top, roi.left) == (rows.min(), columns.min())
        assert (roi.bottom, roi.right) == (rows.max() + 1, columns.max() + 1)
    return mask


def test_rois_drawn_back_are_the_objects(tmp_path: Path) -> None:
    ids = cells()
    rois = exported(tmp_path / "cells_seg.tif", ids)
    assert (tmp_path / "cells_rois.zip").is_file()
    np.testing.assert_array_equal(painted(rois, ids.shape), ids)
    # The one with a hole and the one in two parts are composite, all whole ones are traced.
    by_name = {roi.name: roi for roi in rois}
    assert by_name["0016"].composite and by_name["0017"].composite
    assert len(by_name["0016"].coordinates(multi=True)) == 2
    whole = [roi for roi in rois if not roi.composite]
    assert len(whole) > 5
    assert {roi.roitype for roi in whole} == {ROI_TYPE.TRACED}


def test_an_outer_outline_would_fill_the_hole(tmp_path: Path) -> None:
    ids = cells()
    rois = exported(tmp_path / "a.tif", ids)
    (ring,) = [roi for roi in rois if roi.name == "0016"]
    outer = filled(ring.coordinates(multi=True)[:1], ids.shape)
    assert outer.sum() == (ids == 16).sum() + 6


def test_a_roi_knows_its_slice(tmp_path: Path) -> None:
    stack = np.stack([cells(seed) for seed in range(3)])
    rois = exported(tmp_path / "a.tif", stack)
    np.testing.assert_array_equal(painted(rois, stack.shape), stack)
    assert {roi.position for roi in rois} == {1, 2, 3}
    assert rois[0].name.endswith(" z0001")
    assert len({roi.name for roi in rois}) == len(rois)


def test_large_coordinates(tmp_path: Path) -> None:
    """More than two bytes hold."""
    mask = np.zeros((5, 70_000), np.uint8)
    mask[1:3, 65_540:65_550], mask[1:4, 40_000:40_010], mask[2:4, 5:9] = 1, 2, 3
    rois = exported(tmp_path / "a.tif", mask)
    for roi, (columns, rows) in zip(
        rois,
        [((65_540, 65_550), (1, 3)), ((40_000, 40_010), (1, 4)), ((5, 9), (2, 4))],
        strict=True,
    ):
        (ring,) = roi.coordinates(multi=True)
        assert (ring[:, 0].min(), ring[:, 0].max()) == columns
        assert (ring[:, 1].min(), ring[:, 1].max()) == rows


def test_names_are_data(tmp_path: Path) -> None:
    """No class leads out of the folder that the zip is unpacked into, nor breaks a line."""
    labels = (
        Label(0, "background"),
        Label(1, "../../up\nand/away"),
        Label(2, ".._.._up\\nand:away"),
    )
    mask = np.zeros((9, 9), np.uint8)
    mask[:2, :2], mask[5:, 5:] = 1, 2
    rois = exported(tmp_path / "a.tif", mask, Legend(False, labels))
    assert [roi.name for roi in rois] == ["../../up\\nand/away 0001", ".._.._up\\nand:away 0001"]
    with ZipFile(tmp_path / "a_rois.zip") as archive:
        names = archive.namelist()
    assert len(set(names)) == 2
    assert all("/" not in name and "\\" not in name and ":" not in name for name in names)
    archive_out = tmp_path / "out"
    ZipFile(tmp_path / "a_rois.zip").extractall(archive_out)
    assert sorted(path.name for path in archive_out.iterdir()) == sorted(names)


def test_several_classes_are_groups(tmp_path: Path) -> None:
    labels = (Label(0, "background"), Label(1, "tumour"), Label(2, "stroma"))
    mask = np.zeros((9, 9), np.uint8)
    mask[:2, :2], mask[5:, 5:] = 1, 2
    legend = Legend(True, labels, (2, 1))
    rois = exported(tmp_path / "a.tif", mask, legend)
    assert [(roi.name, roi.group) for roi in rois] == [("stroma 0001", 2), ("tumour 0002", 1)]


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    exported(tmp_path / "a.tif", cells())
    first = (tmp_path / "a_rois.zip").read_bytes()
    exported(tmp_path / "a.tif", cells())
    assert (tmp_path / "a_rois.zip").read_bytes() == first
    exported(tmp_path / "a.tif", cells(1))
    assert (tmp_path / "a_rois.zip").read_bytes() != first


def test_an_empty_mask_gives_an_empty_zip(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 5), np.uint8))
    (path,) = export(tmp_path / "a.tif", ["rois"], OBJECTS)
    assert ZipFile(path).namelist() == []


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    mask = cells().astype(np.int16)
    stack = np.stack([mask, mask])
    stack[1, 0, 0] = -1
    tifffile.imwrite(tmp_path / "a.tif", stack)
    with pytest.raises(DataError, match="below 0"):
        export(tmp_path / "a.tif", ["rois", "geojson"], OBJECTS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
