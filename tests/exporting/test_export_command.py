"""unetseg export in processes of its own: files, messages, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn import cells

from unetseg.errors import UsageError
from unetseg.exporting import check_free, export_path
from unetseg.exporting.marks import is_exported
from unetseg.formats import write_mask
from unetseg.geometry import Geometry
from unetseg.records import Mask, Scan, Source


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unetseg.cli", *map(str, words)],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "a_seg.tif", cells())
    tifffile.imwrite(tmp_path / "b.tif", (cells() > 0).astype(np.uint8))
    return tmp_path


def test_files_beside_the_masks(folder: Path) -> None:
    done = run(folder, "export", "b.tif")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["b_rois.zip", "b.geojson"]
    assert done.stderr == "values are taken for classes; see --objects and --classes\n"
    features = json.loads((folder / "b.geojson").read_text())["features"]
    assert features[0]["properties"]["classification"]["name"] == "label 1"
    # Ids of a single object look like a class; those of the other mask do not.
    done = run(folder, "export", "b.tif", "a_seg.tif")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "values are taken for objects; see --objects and --classes\n"
    (only,) = json.loads((folder / "b.geojson").read_text())["features"]
    assert only["properties"]["objectType"] == "detection"
    features = json.loads((folder / "a.geojson").read_text())["features"]
    assert len(features) == len(np.unique(cells())) - 1
    assert features[0]["properties"]["objectType"] == "detection"
    # What unetseg has written it may write again.
    again = run(
        folder, "export", "a_seg.tif", "--to", "geojson", "--classes", "--json", "-o", "out"
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {"path": "a_seg.tif", "exports": ["out/a.geojson"]}
    assert again.stderr == ""
    assert "label 16" in (folder / "out" / "a.geojson").read_text()
    assert run(folder, "export", "a_seg.tif").returncode == 0


def test_one_line_for_each_fault(folder: Path) -> None:
    (folder / "notes.txt").write_text("no mask")
    done = run(folder, "export", "notes.txt", "a_seg.tif", "a_seg.tif", "--to", "rois")
    assert done.returncode == 1
    assert done.stdout.split() == ["a_rois.zip"]
    _, first, second = done.stderr.splitlines()
    assert first.startswith("failed: notes.txt: no known image format")
    assert second.startswith("failed: a_rois.zip: two masks would give the same file")
    alone = run(folder, "export", "notes.txt", "--classes")
    assert (alone.returncode, alone.stdout) == (3, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "roi"), "error: --to: no such export (got roi); did you mean rois?\n"),
        (
            ("--to", "rois,"),
            "error: --to: no such export (got nothing); known: dicom-seg, geojson, rois\n",
        ),
        (("-o", "b.tif"), "error: b.tif: not a folder; give -o a folder\n"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, words: tuple[str, ...], message: str) -> None:
    done = run(folder, "export", "a_seg.tif", *words)
    assert (done.returncode, done.stderr) == (2, message)


def test_outlines_that_somebody_drew_stay(folder: Path) -> None:
    drawn = '{"type": "FeatureCollection", "features": []}'
    (folder / "a.geojson").write_text(drawn)
    done = run(folder, "export", "a_seg.tif")
    assert done.returncode == 3
    assert "a.geojson: a file that unetseg has not written is here; give another -o" in done.stderr
    assert (folder / "a.geojson").read_text() == drawn
    assert not (folder / "a_rois.zip").exists()
    assert run(folder, "export", "a_seg.tif", "--overwrite").returncode == 0
    assert is_exported(folder / "a.geojson") and is_exported(folder / "a_rois.zip")


def test_whose_file_it_is(tmp_path: Path) -> None:
    for name, content in (("a.geojson", b"\xff"), ("a.zip", b"no zip"), ("b.geojson", b"")):
        (tmp_path / name).write_bytes(content)
        assert not is_exported(tmp_path / name)
        with pytest.raises(UsageError, match=f"{name}: a file that unetseg has not written"):
            check_free([tmp_path / name])
    assert not is_exported(tmp_path / "nothing.geojson")
    check_free([tmp_path / "nothing.geojson"])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("out/a_seg.nii.gz", "out/a.geojson"),
        ("out/a_seg.ome.zarr", "out/a.geojson"),
        ("out/a.tif", "out/a.geojson"),
        ("out/scan.ome.zarr/labels/cells", "out/scan_cells.geojson"),
        ("out/plate.zarr/A/1/0/labels/x.zarr", "out/plate_x.geojson"),
    ],
)
def test_where_an_export_goes(mask: str, expected: str) -> None:
    assert export_path(Path(mask), "geojson") == Path(expected)
    assert export_path(Path(mask), "geojson", Path("o")) == Path("o", Path(expected).name)


def test_a_store_stays_as_it_is(tmp_path: Path) -> None:
    array = cells()
    geometry = Geometry.from_spacing(array.shape, (0.5, 0.5), "um")
    path = tmp_path / "a_seg.ome.zarr"
    write_mask(
        Mask(array, geometry), path, Scan(array[None], geometry, ("0",), Source(path, "tiff"))
    )
    before = sorted(path.rglob("*"))
    done = run(tmp_path, "export", path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.rglob("*")) == before
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "a.geojson", "a_rois.zip"}
