"""Large scans are shown with fewer voxels, and whatever lies on them likewise."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from cubes import write_tiff

from unetseg.errors import DataError
from unetseg.pages import thinning
from unetseg.pages.thinning import shown
from unetseg.records import Case


@pytest.mark.parametrize("is_tiled", [True, False])
def test_a_mask_is_thinned_as_its_scan_however_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tiled: bool
) -> None:
    rng = np.random.default_rng(0)
    scan = rng.integers(0, 200, (300, 400)).astype(np.uint8)
    labels = rng.integers(0, 5, (300, 400)).astype(np.uint8)
    tiles = {"tile": (16, 16), "compression": "deflate"}
    tifffile.imwrite(tmp_path / "scan.tif", scan, **tiles)
    tifffile.imwrite(tmp_path / "mask.tif", labels, **(tiles if is_tiled else {}))
    case = Case("scan", (tmp_path / "scan.tif",), tmp_path / "mask.tif")
    whole, (mask,) = shown(case, (case.truth,))
    assert mask is not None
    np.testing.assert_array_equal(whole.array[0], scan)
    np.testing.assert_array_equal(mask.array, labels)
    monkeypatch.setattr(thinning, "_LONGEST_EDGE", 150)
    monkeypatch.setattr(thinning, "_AT_ONCE", 50)
    few, (mask,) = shown(case, (case.truth,))
    assert mask is not None
    np.testing.assert_array_equal(few.array[0], scan[::2, ::3])
    np.testing.assert_array_equal(mask.array, labels[::2, ::3])
    assert mask.geometry is few.geometry


def test_a_truth_must_lie_on_its_scan_and_a_written_mask_have_its_shape(tmp_path: Path) -> None:
    write_tiff(tmp_path / "scan.ome.tif", np.zeros((20, 30), np.uint16))
    tifffile.imwrite(tmp_path / "same.tif", np.ones((20, 30), np.uint8))
    tifffile.imwrite(tmp_path / "other.tif", np.ones((20, 31), np.uint8))
    case = Case("scan", (tmp_path / "scan.ome.tif",), tmp_path / "same.tif")
    with pytest.raises(DataError, match=r"does not lie on its scan: unit um is not px"):
        shown(case, (case.truth,))
    written = Case("scan", case.images)
    _, (mask, nothing) = shown(written, (tmp_path / "same.tif", None))
    assert mask is not None
    assert nothing is None
    with pytest.raises(DataError, match=r"does not lie on its scan: .*shape"):
        shown(written, (tmp_path / "other.tif",))
