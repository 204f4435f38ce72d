"""Masks that lie on their scans, whatever the grid, and files that are never lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from cubes import cube, write_tiff
from nibabel.affines import from_matvec
from PIL import Image

from unetseg.errors import DataError, ModelError, UsageError
from unetseg.formats import read_mask, read_scan
from unetseg.prediction import Predictor, Request, predict
from unetseg.records import FileDone


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    picture = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    picture.header.set_xyzt_units("mm")
    picture.set_qform(picture.affine, 1)
    picture.set_sform(picture.affine, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(picture, path)
    return path


def go(run: Path, output: Path | None, *inputs: Path | str, **more: Any) -> tuple[FileDone, ...]:
    return predict(Request(inputs, model=run, output=output, device="cpu", **more))


def statuses(done: tuple[FileDone, ...]) -> list[str]:
    return [record.status for record in done]


def turned(degrees: float, spacing: tuple[float, float, float]) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return from_matvec(rotation @ np.diag(spacing), [-31.5, 12.25, 70])


# --- the mask lies on the scan -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((16, 16, 16), np.eye(4)),
        ((17, 22, 19), from_matvec(np.diag([-1.0, -1.0, 1.0]), [40, 30, -20])),
        ((20, 12, 31), turned(20, (0.8, 1.3, 1.0))),
        ((24, 18, 16), from_matvec([[0, 0, 1.0], [-1.1, 0, 0], [0, 0.9, 0]], [1, 2, 3])),
        # Smaller than the patch, and smaller than the coarsest level.
        ((16, 16, 3), np.diag([1.0, 1.0, 4.0, 1.0])),
        ((1, 16, 16), np.eye(4)),
    ],
    ids=["plain", "flipped", "oblique", "permuted", "thin", "one-slice"],
)
def test_a_mask_lies_on_its_volume(
    volumes: Path, tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray
) -> None:
    rng = np.random.default_rng(1)
    scan = write_volume(tmp_path / "scan.nii.gz", rng.normal(size=shape).astype("f4"), affine)
    (record,) = go(volumes, tmp_path / "out", scan)
    assert record.status == "done", record.message
    assert record.output == tmp_path / "out" / "scan_seg.nii.gz"
    mask, image = nib.load(record.output), nib.load(scan)
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    for name in ("pixdim", "qform_code", "sform_code", "xyzt_units", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(mask.header[name], image.header[name])
    assert mask.get_data_dtype() == np.uint8
    assert read_mask(record.output).geometry.differences(read_scan(scan).geometry) == ()
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}


@pytest.mark.parametrize(
    "axes", [(), (0,), (1, 2), (0, 1, 2)], ids=["plain", "left", "two axes", "all axes"]
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_what_was_found_is_where_it_is(
    volumes: Path, tmp_path: Path, axes: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """The same body, stored in another order: the cube is found at its own voxels."""
    image, truth = cube((18, 20, 22), 77)
    signs = np.array([-1.0 if axis in axes else 1.0 for axis in range(3)])
    offset = [shape - 1 if axis in axes else 0 for axis, shape in enumerate(image.shape)]
    affine = from_matvec(np.diag(signs), offset)[:, [*order, 3]]
    stored, expected = (np.flip(a, axes).transpose(order).copy() for a in (image, truth))
    scan = write_volume(tmp_path / "scan.nii.gz", stored, affine)
    go(volumes, tmp_path / "out", scan)
    mask = np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj)
    overlap = 2 * ((mask == 1) & (expected == 1)).sum() / ((mask == 1).sum() + 7**3)
    assert overlap > 0.8
    # A mask that is mirrored or shifted by the cube's size would not be counted as found.
    moved = np.roll(expected, 5, axis=0)
    assert 2 * ((mask == 1) & (moved == 1)).sum() / ((mask == 1).sum() + 7**3) < 0.6


@pytest.mark.parametrize("shape", [(32, 32), (45, 61), (7, 90)])
def test_a_mask_of_an_image_has_its_pixels_and_its_values(
    images: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    array = np.random.default_rng(0).integers(90, 120, shape).astype(np.uint16)
    array[1:6, 20:27] += 100
    write_tiff(tmp_path / "cell.ome.tif", array)
    (record,) = go(images, tmp_path / "out", tmp_path / "cell.ome.tif")
    assert record.output == tmp_path / "out" / "cell_seg.ome.tif"
    with tifffile.TiffFile(record.output) as tiff:
        mask = tiff.asarray()
        assert tiff.series[0].axes == "YX"
        assert 'PhysicalSizeX="0.5"' in (tiff.ome_metadata or "")
    assert mask.shape == shape
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255}
    scan = read_scan(tmp_path / "cell.ome.tif")
    assert read_mask(record.output).geometry.differences(scan.geometry) == ()


def test_the_original_label_values_are_written(images: Path, tmp_path: Path) -> None:
    image, truth = cube((32, 32), 5, 255)
    write_tiff(tmp_path / "cell.ome.tif", image.astype(np.uint16))
    (record,) = go(images, tmp_path / "out", tmp_path / "cell.ome.tif")
    mask = tifffile.imread(record.output)
    assert set(np.unique(mask)) == {0, 255}
    assert 2 * ((mask == 255) & (truth == 255)).sum() / ((mask == 255).sum() + 49) > 0.7
    assert dict(record.counts) == {
        "background": int((mask == 0).sum()),
        "label 255": int((mask == 255).sum()),
    }
    assert record.voxel_volume == pytest.approx(0.25)
    assert record.unit == "um^2"


def test_a_picture_gets_a_png(images: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.jpg", quality=95)
    (record,) = go(images, tmp_path / "out", tmp_path / "photo.jpg")
    assert record.output == tmp_path / "out" / "photo_seg.png"
    with Image.open(record.output) as mask:
        assert mask.size == (50, 40)
        assert mask.format == "PNG"


# --- probabilities -----------------------------------------------------------------------------


def test_probabilities_lie_on_the_scan_and_sum_to_one(volumes: Path, tmp_path: Path) -> None:
    affine = turned(10, (1.0, 1.2, 0.9))
    scan = write_volume(tmp_path / "scan.nii.gz", cube((18, 20, 17), 3)[0], affine)
    (record,) = go(volumes, tmp_path / "out", scan, probabilities=True)
    maps = nib.load(tmp_path / "out" / "scan_prob.nii.gz")
    assert maps.shape == (18, 20, 17, 2)
    assert maps.get_data_dtype() == np.float32
    np.testing.assert_array_equal(maps.affine, nib.load(scan).affine)
    values = np.asarray(maps.dataobj)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
    assert values.min() >= 0
    mask = np.asarray(nib.load(record.output).dataobj)
    np.testing.assert_array_equal(values.argmax(-1), mask)
    assert 0 < mask.sum() < mask.size


def test_probabilities_of_an_image_name_their_classes(images: Path, tmp_path: Path) -> None:
    write_tiff(tmp_path / "cell.ome.tif", cube((32, 40), 1)[0].astype(np.uint16))
    go(images, tmp_path / "out", tmp_path / "cell.ome.tif", probabilities=True)
    with tifffile.TiffFile(tmp_path / "out" / "cell_prob.ome.tif") as tiff:
        maps = tiff.asarray()
        assert 'Name="label 255"' in (tiff.ome_metadata or "")
    assert maps.shape == (2, 32, 40)
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)


def test_without_the_option_there_are_no_probabilities(volumes: Path, tmp_path: Path) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz", cube((16,) * 3, 3)[0])
    go(volumes, tmp_path / "out", scan)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["manifest.json", "scan_seg.nii.gz"]


# --- files -------------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for name in ("b", "a"):
        write_volume(tmp_path / "scans" / f"{name}.nii.gz", cube((16,) * 3, ord(name))[0])
    return tmp_path / "scans"


def test_what_is_finished_is_skipped_unless_overwritten(
    volumes: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert statuses(go(volumes, out, scans / "a.nii.gz")) == ["done"]
    (out / "a_seg.nii.gz").write_bytes(b"mine")
    done = go(volumes, out, scans)
    assert {record.path.name: record.status for record in done} == {
        "a.nii.gz": "skipped",
        "b.nii.gz": "done",
    }
    assert (out / "a_seg.nii.gz").read_bytes() == b"mine"
    assert statuses(go(volumes, out, scans)) == ["skipped", "skipped"]
    assert statuses(go(volumes, out, scans, overwrite=True)) == ["done", "done"]
    assert (out / "a_seg.nii.gz").read_bytes() != b"mine"


def test_a_file_that_fails_does_not_stop_the_others(
    volumes: Path, scans: Path, tmp_path: Path
) -> None:
    (scans / "aa.nii.gz").write_bytes(b"no gzip")
    write_volume(scans / "c.nii.gz", np.full((16, 16, 16), np.nan, dtype=np.float32))
    write_volume(scans / "d.nii.gz", np.zeros((16, 16, 16, 2), dtype=np.float32))
    done = go(volumes, tmp_path / "out", scans, tmp_path / "nowhere.nii.gz")
    failed = {record.path.name: record.message for record in done if record.status == "failed"}
    assert set(failed) == {"aa.nii.gz", "c.nii.gz", "d.nii.gz", "nowhere.nii.gz"}
    for name, message in failed.items():
        assert name in message
    good = [record.path.name for record in done if record.status == "done"]
    assert good == ["a.nii.gz", "b.nii.gz"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a_seg.nii.gz", "b_seg.nii.gz", "manifest.json"]


def test_a_scan_of_another_dimension_fails_by_name(volumes: Path, tmp_path: Path) -> None:
    write_tiff(tmp_path / "flat.ome.tif", np.zeros((20, 20), dtype=np.uint8))
    (record,) = go(volumes, tmp_path / "out", tmp_path / "flat.ome.tif")
    assert record.status == "failed"
    assert "flat.ome.tif: the scan has another number of axes" in record.message


def test_the_manifest_says_what_was_done(volumes: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (scans / "bad.nii.gz").write_bytes(b"no gzip")
    go(volumes, out, scans, command="unetseg predict scans")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["model"] == str(volumes.resolve())
    assert manifest["command"] == "unetseg predict scans"
    assert manifest["device"] == "cpu"
    assert manifest["labels"] == {"0": "background", "1": "label 1"}
    assert set(manifest["files"]) == {"a_seg.nii.gz", "b_seg.nii.gz"}
    assert [Path(entry["scan"]).name for entry in manifest["failed"]] == ["bad.nii.gz"]
    assert "NIfTI" in manifest["failed"][0]["error"]
    entry = manifest["files"]["a_seg.nii.gz"]
    assert entry["scan"] == str((scans / "a.nii.gz").resolve())
    assert entry["status"] == "done"
    mask = np.asarray(nib.load(out / "a_seg.nii.gz").dataobj)
    # A voxel is 1 mm^3.
    assert entry["classes"]["label 1"]["voxels"] == int((mask == 1).sum())
    assert entry["classes"]["label 1"]["volume"] == pytest.approx(float((mask == 1).sum()))


def test_the_manifest_keeps_what_earlier_commands_did(
    volumes: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    go(volumes, out, scans / "a.nii.gz")
    before = json.loads((out / "manifest.json").read_text())["files"]
    go(volumes, out, scans)
    after = json.loads((out / "manifest.json").read_text())["files"]
    assert set(after) == {"a_seg.nii.gz", "b_seg.nii.gz"}
    assert after["a_seg.nii.gz"] == before["a_seg.nii.gz"]


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("scan.nii", "scan_seg.nii"),
        ("s.1.NII.GZ", "s.1_seg.nii.gz"),
        ("a b.nii.gz", "a b_seg.nii.gz"),
    ],
)
def test_names_of_masks(volumes: Path, tmp_path: Path, name: str, mask: str) -> None:
    source = write_volume(tmp_path / "in" / "x.nii.gz", cube((16,) * 3, 1)[0])
    if name.lower().endswith(".gz"):
        source = source.rename(tmp_path / "in" / name)
    else:
        source = write_volume(tmp_path / "in" / name, cube((16,) * 3, 1)[0])
    (record,) = go(volumes, tmp_path / "out", source)
    assert record.status == "done", record.message
    assert record.output == tmp_path / "out" / mask
    assert record.output.is_file()


def test_masks_go_to_the_current_folder_by_default(
    volumes: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    go(volumes, None, scans / "a.nii.gz")
    assert (tmp_path / "here" / "a_seg.nii.gz").is_file()


def test_an_output_file_for_a_single_scan(volumes: Path, scans: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "mine.nii.gz"
    (record,) = go(volumes, target, scans / "a.nii.gz", probabilities=True)
    assert record.output == target
    assert nib.load(target).shape == (16, 16, 16)
    assert (tmp_path / "deep" / "mine_prob.nii.gz").is_file()


def test_several_scans_do_not_go_into_one_file(volumes: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one\.nii\.gz: several inputs cannot go into one file"):
        go(volumes, tmp_path / "one.nii.gz", scans)
    assert not (tmp_path / "one.nii.gz").exists()
    (tmp_path / "one.ome.zarr").mkdir()
    with pytest.raises(UsageError, match=r"one\.ome\.zarr: several inputs cannot go into one"):
        go(volumes, tmp_path / "one.ome.zarr", scans)
    assert not list((tmp_path / "one.ome.zarr").iterdir())


def test_a_file_is_no_output_folder(volumes: Path, scans: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"file: not a folder; give -o a folder"):
        go(volumes, tmp_path / "file", scans)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_overwritten(volumes: Path, scans: Path, overwrite: bool) -> None:
    content = (scans / "a.nii.gz").read_bytes()
    (record,) = go(volumes, scans / "a.nii.gz", scans / "a.nii.gz", overwrite=overwrite)
    assert record.status == "failed"
    assert "the mask would overwrite an input" in record.message
    assert (scans / "a.nii.gz").read_bytes() == content


def test_an_input_named_like_a_mask_is_not_overwritten(volumes: Path, scans: Path) -> None:
    trap = shutil.copy(scans / "b.nii.gz", scans / "a_seg.nii.gz")
    content = Path(trap).read_bytes()
    done = go(volumes, scans, scans / "a.nii.gz", trap, overwrite=True)
    assert Path(trap).read_bytes() == content
    failed = [record.message for record in done if record.status == "failed"]
    assert len(failed) == 1
    assert "a_seg.nii.gz: the mask would overwrite an input" in failed[0]


def test_two_scans_of_one_name_do_not_share_a_mask(
    volumes: Path, scans: Path, tmp_path: Path
) -> None:
    other = write_volume(tmp_path / "more" / "a.nii.gz", cube((16,) * 3, 9)[0])
    done = go(volumes, tmp_path / "out", scans / "a.nii.gz", other)
    assert statuses(done) == ["failed", "done"]
    assert "two inputs would give the same mask" in done[0].message
    assert str(other) in done[0].message
    assert done[1].output == tmp_path / "out" / "a_seg.nii.gz"


# --- the predictor -----------------------------------------------------------------------------


def test_a_predictor_takes_scans_and_paths(volumes: Path, tmp_path: Path) -> None:
    image, truth = cube((16,) * 3, 50)
    path = write_volume(tmp_path / "scan.nii.gz", image)
    predictor = Predictor(volumes, device="cpu")
    mask = predictor(read_scan(path))
    np.testing.assert_array_equal(mask.array, predictor(path).array)
    assert mask.geometry.differences(read_scan(path).geometry) == ()
    assert [label.value for label in mask.labels] == [0, 1]
    assert 2 * (mask.array & truth).sum() / (mask.array.sum() + truth.sum()) > 0.8


def test_settings_of_decoding_change_the_prediction(volumes: Path, tmp_path: Path) -> None:
    scan = read_scan(write_volume(tmp_path / "s.nii.gz", cube((16, 16, 30), 4)[0]))

    def maps(**settings: Any) -> np.ndarray:
        predictor = Predictor(volumes, device="cpu", settings=settings)
        return predictor.segment(predictor.prepare(scan))[1]

    np.testing.assert_array_equal(maps(), maps(**{"decode.overlap": 0.5}))
    assert not np.array_equal(maps(), maps(**{"decode.overlap": 0.0}))
    assert not np.array_equal(maps(), maps(**{"decode.mirror": True}))


def test_other_settings_are_refused(volumes: Path) -> None:
    with pytest.raises(UsageError, match=r"--set network\.skip: cannot be changed after"):
        Predictor(volumes, device="cpu", settings={"network.skip": "add"})


def test_a_predictor_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="runs: no finished run"):
        Predictor(device="cpu")
    with pytest.raises(ModelError, match="nothing: no trained model here"):
        Predictor(tmp_path / "nothing", device="cpu")


def test_the_newest_run_is_taken_if_none_is_named(
    volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(volumes / "model", tmp_path / "runs" / "one" / "model")
    monkeypatch.chdir(tmp_path)
    assert Predictor(device="cpu").path == Path("runs/one")


def test_a_scan_with_other_channels_is_refused(volumes: Path, tmp_path: Path) -> None:
    path = write_volume(tmp_path / "s.nii.gz", np.zeros((16, 16, 16, 3), dtype=np.float32))
    with pytest.raises(DataError, match=r"wrong number of channels \(expected 1 "):
        Predictor(volumes, device="cpu")(path)
