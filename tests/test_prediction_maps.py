"""What is written beside a mask, how much work it is worth, and the predictor in Python."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import scipy.stats
import tifffile
import torch
from cubes import cube, request, write_cubes, write_tiff
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetseg import checkpoint
from unetseg.config import with_overrides
from unetseg.errors import DataError, UsageError
from unetseg.formats import read_scan
from unetseg.geometry import Box, whole_box
from unetseg.prediction import Predictor, Request, predict
from unetseg.prediction.counting import Tally
from unetseg.prediction.maps import uncertainty
from unetseg.prediction.quality import QUALITIES
from unetseg.records import Event, FileDone, Note
from unetseg.tasks.pieces import together
from unetseg.tasks.segmenting import Piece, Segmenter
from unetseg.training import train
from unetseg.training.cross_validation import cross_validate


def write_volume(path: Path, array: np.ndarray) -> Path:
    picture = nib.Nifti1Image(array, np.diag([1.0, 1.2, 0.9, 1]))
    picture.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(picture, path)
    return path


def go(run: Path, output: Path, *inputs: Path | str, **more: Any) -> tuple[FileDone, ...]:
    return predict(Request(inputs, model=run, output=output, device="cpu", **more))


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture
def in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of three voxels along the second axis, as an engine may give them."""
    whole = Segmenter.pieces

    def pieces(self: Segmenter, *given: Any, **named: Any) -> Any:
        for piece in whole(self, *given, **named):
            size = piece.indices.shape[1]
            for first in range(0, size, 3):
                part = slice(first, min(first + 3, size))
                start = piece.box[1].start
                along = slice(start + part.start, start + part.stop)
                box: Box = (piece.box[0], along, *piece.box[2:])
                maps = piece.probabilities
                yield Piece(box, piece.indices[:, part], None if maps is None else maps[:, :, part])

    monkeypatch.setattr(Segmenter, "pieces", pieces)


# --- maps --------------------------------------------------------------------------------------


@given(
    hnp.arrays(np.float32, (4, 5), elements=st.floats(0, 8, width=32)),
    st.integers(2, 4),
)
def test_uncertainty_is_the_entropy_of_scipy(logits: np.ndarray, classes: int) -> None:
    shares = np.exp(logits[:classes]) / np.exp(logits[:classes]).sum(0)
    found = uncertainty(shares, may_overlap=False)
    assert found.dtype == np.float32
    expected = scipy.stats.entropy(shares.astype(float), base=classes, axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    both = [scipy.stats.entropy([p, 1 - p], base=2) for p in shares.astype(float)]
    expected = np.mean(both, axis=0)
    np.testing.assert_allclose(uncertainty(shares, may_overlap=True), expected, atol=1e-5)


def test_uncertainty_has_its_ends_where_they_should_be() -> None:
    shares = np.array([[1, 0.5, 0.25], [0, 0.5, 0.75]], np.float32)
    np.testing.assert_allclose(uncertainty(shares, may_overlap=False), [0, 1, 0.8112781])
    regions = np.array([[0, 0.5, 1], [0, 0.5, 0.5]], np.float32)
    np.testing.assert_allclose(uncertainty(regions, may_overlap=True), [0, 1, 0.5])


def test_maps_are_the_same_from_slabs_as_from_the_whole(
    volumes: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz", cube((18, 20, 17), 3)[0])
    asked = {"probabilities": True, "uncertainty": True}
    go(volumes, tmp_path / "whole", scan, **asked)
    request.getfixturevalue("in_slabs")
    (record,) = go(volumes, tmp_path / "slabs", scan, **asked)
    assert record.status == "done", record.message
    names = sorted(path.name for path in (tmp_path / "slabs").iterdir())
    kinds = ("prob", "seg", "uncertainty")
    assert names == ["manifest.json", *(f"scan_{kind}.nii.gz" for kind in kinds)]
    for kind in kinds:
        one, other = (tmp_path / f / f"scan_{kind}.nii.gz" for f in ("whole", "slabs"))
        np.testing.assert_array_equal(values(one), values(other))
        np.testing.assert_array_equal(nib.load(other).affine, nib.load(scan).affine)
    shares = values(tmp_path / "slabs" / "scan_prob.nii.gz")
    entropy = values(tmp_path / "slabs" / "scan_uncertainty.nii.gz").squeeze()
    expected = scipy.stats.entropy(shares.astype(float), base=2, axis=-1)
    np.testing.assert_allclose(entropy, expected, atol=1e-5)
    assert entropy.max() > 0.5
    assert entropy.min() < 0.5


@pytest.mark.parametrize(("kind", "most"), [("float32", 1e-7), ("uint8", 0.5 / 255 + 1e-6)])
def test_types_of_maps_of_a_volume(volumes: Path, tmp_path: Path, kind: str, most: float) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz", cube((18, 20, 17), 3)[0])
    asked = {"probabilities": True, "uncertainty": True, "map_type": kind}
    go(volumes, tmp_path / "out", scan, **asked)
    predictor = Predictor(volumes, device="cpu")
    shares = predictor.segment(predictor.prepare(read_scan(scan)))[1]
    stored = nib.load(tmp_path / "out" / "scan_prob.nii.gz")
    assert stored.get_data_dtype() == kind
    np.testing.assert_allclose(np.moveaxis(stored.get_fdata(), -1, 0), shares, atol=most)
    assert nib.load(tmp_path / "out" / "scan_uncertainty.nii.gz").get_data_dtype() == kind


def test_uint8_maps_of_an_image_are_255_times_as_much(images: Path, tmp_path: Path) -> None:
    write_tiff(tmp_path / "cell.ome.tif", cube((32, 40), 1)[0].astype(np.uint16))
    asked = {"probabilities": True, "uncertainty": True, "map_type": "uint8"}
    go(images, tmp_path / "out", tmp_path / "cell.ome.tif", **asked)
    maps = tifffile.imread(tmp_path / "out" / "cell_prob.ome.tif")
    assert maps.dtype == np.uint8
    assert set(np.unique(maps.astype(int).sum(0))) <= {254, 255, 256}
    entropy = tifffile.imread(tmp_path / "out" / "cell_uncertainty.ome.tif").squeeze()
    assert entropy.shape == (32, 40)


def test_a_type_that_a_format_does_not_have_is_one_line(volumes: Path, tmp_path: Path) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz", cube((16,) * 3, 3)[0])
    asked = {"probabilities": True, "map_type": "float16"}
    (record,) = go(volumes, tmp_path / "out", scan, **asked)
    assert record.status == "failed"
    assert "scan_prob.nii.gz: NIfTI has no 16-bit floats; choose" in record.message
    assert not list((tmp_path / "out").glob("*"))
    with pytest.raises(UsageError, match=r"--map-type: no such type of maps .*float64.*did you"):
        go(volumes, tmp_path / "out", scan, map_type="float64")


def test_what_lies_between_voxels_is_exact_whatever_the_network_computes_with(
    volumes: Path, tmp_path: Path
) -> None:
    """The network may round its outputs to 16 bits; what is made from them may not be."""
    predictor = Predictor(volumes, device="cpu")
    predictor.segmenter = replace(predictor.segmenter, precision="bfloat16")
    path = write_volume(tmp_path / "scan.nii.gz", cube((60, 50, 40), 3)[0])
    mask, maps = predictor.segment(predictor.prepare(read_scan(path)))
    # Two ways of interpolating: all outputs, and only those that can be the largest.
    certain = np.abs(maps[1] - maps[0]) > 1e-5
    found = predictor(path).array
    np.testing.assert_array_equal(found[certain], maps.argmax(0)[certain])
    assert (found == mask.array)[certain].all()
    assert ((found > 0).mean(), certain.mean()) > (0.001, 0.99)


def test_a_scan_stays_where_it_is_if_a_device_has_no_room_for_it(
    volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(volumes, device="cpu")
    path = write_volume(tmp_path / "scan.nii.gz", cube((40, 30, 30), 4)[0])
    prepared, whole = predictor.prepare(read_scan(path)), whole_box((40, 30, 30))
    walk = replace(predictor.segmenter.walk(prepared.placement.grid.shape), on_device=True)
    monkeypatch.setattr(predictor, "_way", lambda prepared, *, with_maps: (walk, (whole,)))

    class Image(torch.Tensor):
        """That a device has no room for, or that becomes zero there."""

        def to(self, *given: Any, **named: Any) -> torch.Tensor:
            if self.shape == prepared.image.shape and given:
                if message:
                    raise RuntimeError(message)
                return 0 * prepared.image
            return super().to(*given, **named)

    def found() -> np.ndarray:
        image = replace(prepared, image=prepared.image.as_subclass(Image))
        return together(predictor.pieces(image), (40, 30, 30))

    expected = together(predictor.pieces(prepared), (40, 30, 30))
    assert expected.any()
    message = "CUDA out of memory. Tried to allocate 2.00 GiB"
    np.testing.assert_array_equal(found(), expected)
    # It is the moved one that is segmented.
    message = ""
    assert (found() != expected).any()
    message = "device-side assert triggered"
    with pytest.raises(RuntimeError, match="device-side assert"):
        found()


def test_maps_that_are_asked_for_later_leave_the_mask_as_it_is(
    volumes: Path, tmp_path: Path
) -> None:
    scan, out = write_volume(tmp_path / "scan.nii.gz", cube((16,) * 3, 3)[0]), tmp_path / "out"
    go(volumes, out, scan)
    mask = out / "scan_seg.nii.gz"
    mask.write_bytes(b"corrected by hand")
    before = json.loads((out / "manifest.json").read_text())["files"]
    (record,) = go(volumes, out, scan, probabilities=True)
    assert (record.status, record.counts) == ("done", ())
    assert json.loads((out / "manifest.json").read_text())["files"] == before
    assert mask.read_bytes() == b"corrected by hand"
    assert (out / "scan_prob.nii.gz").is_file()
    (record,) = go(volumes, out, scan, probabilities=True)
    assert record.status == "skipped"
    go(volumes, out, scan, probabilities=True, overwrite=True)
    assert mask.read_bytes() != b"corrected by hand"


def test_maps_never_overwrite_an_input(volumes: Path, tmp_path: Path) -> None:
    scan = write_volume(tmp_path / "a.nii.gz", cube((16,) * 3, 3)[0])
    trap = write_volume(tmp_path / "a_prob.nii.gz", cube((16,) * 3, 4)[0])
    content = trap.read_bytes()
    done = go(volumes, tmp_path, scan, trap, probabilities=True)
    assert [record.status for record in done] == ["failed", "done"]
    assert "a_prob.nii.gz: the maps would overwrite an input" in done[0].message
    assert trap.read_bytes() == content


@pytest.mark.parametrize("value", [3, 70000])
def test_counts_of_classes_are_those_of_numpy(volumes: Path, value: int) -> None:
    plan = checkpoint.load_plan(volumes)
    data = with_overrides(plan, {"data.class_values": (0, value)}, where="test").data
    mask = np.random.default_rng(0).integers(0, 2, (5, 6, 7)).astype(np.int32) * value
    tally = Tally(data)
    tally.add(mask[:2])
    tally.add(mask[2:])
    counts = dict(tally.counts)
    assert counts == {"background": (mask == 0).sum(), "label 1": (mask == value).sum()}


# --- quality -----------------------------------------------------------------------------------


def test_qualities_stay_on_their_side_of_the_plan(volumes: Path) -> None:
    plan = checkpoint.load_plan(volumes)
    for overlap, window in product((0.0, 0.25, 0.4, 0.5, 0.75), (1.0, 2.0, 3.0)):
        for mirror in (False, True):
            given = {
                "decode.overlap": overlap,
                "decode.window": window,
                "decode.mirror": mirror,
            }
            decode = with_overrides(plan, given, where="test").decode
            found = {
                name: (
                    changed.get("decode.overlap", overlap),
                    changed.get("decode.window", window),
                    changed.get("decode.mirror", mirror),
                )
                for name, quality in QUALITIES.items()
                for changed in [quality.settings(decode)]
            }
            assert found["balanced"] == (overlap, window, mirror)
            assert found["fast"] == (min(overlap, 0.25), max(window, 2.0), False)
            assert found["best"] == (max(overlap, 0.5), window, True)


def test_settings_win_over_the_quality(volumes: Path, tmp_path: Path) -> None:
    fast = Predictor(volumes, device="cpu", quality="fast")
    assert (fast.plan.decode.overlap, fast.plan.decode.mirror) == (0.25, False)
    settings = {"decode.overlap": 0.6, "decode.mirror": False}
    best = Predictor(volumes, device="cpu", quality="best", settings=settings)
    assert (best.plan.decode.overlap, best.plan.decode.mirror) == (0.6, False)
    scan = write_volume(tmp_path / "scan.nii.gz", cube((16,) * 3, 3)[0])
    heard: list[Event] = []
    asked = Request([scan], volumes, tmp_path / "out", quality="best", device="cpu")
    predict(asked, heard.append)
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert notes == [
        f"model {volumes}, best: overlap 0.5, windows up to a patch, mirroring",
        "read as 1 x XYZ 16x16x16, 1.0 x 1.2 x 0.9 mm",
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["quality"], manifest["overlap"], manifest["mirror"]) == ("best", 0.5, True)
    with pytest.raises(
        UsageError, match=r"--quality: no such quality .*got bets.*; did you mean best"
    ):
        go(volumes, tmp_path / "out", scan, quality="bets")


def test_fast_takes_one_network_of_an_ensemble_unless_told_otherwise(tmp_path: Path) -> None:
    asked = request(write_cubes(tmp_path / "data", 4), tmp_path / "run", {"training.folds": 2})
    run = cross_validate(asked).run
    folds = {
        (quality, given): Predictor(run, device="cpu", quality=quality, folds=given).folds
        for quality in QUALITIES
        for given in (None, (1,), (0, 1))
    }
    assert folds["fast", None] == (0,)
    assert folds["balanced", None] == folds["best", None] == (0, 1)
    for quality in QUALITIES:
        assert folds[quality, (1,)] == (1,)
        assert folds[quality, (0, 1)] == (0, 1)
    # The processor in the place of a device is the same model.
    assert Predictor(run, device="cpu", quality="fast").on_processor.folds == (0,)


def test_an_axis_that_training_did_not_mirror_is_not_mirrored(tmp_path: Path) -> None:
    """Left and right classes: what the network sees is never a mirrored body."""
    axes = {"training.augment.mirror_axes": (1, 2)}
    run = train(request(write_cubes(tmp_path / "data", 3), tmp_path / "run", axes)).run
    scan = tmp_path / "data" / "images" / "case_0.nii.gz"

    def seen(quality: str) -> list[np.ndarray]:
        predictor = Predictor(run, device="cpu", quality=quality)
        windows: list[np.ndarray] = []

        def look(module: Any, given: Any) -> None:
            windows.extend(window[0].float().numpy().copy() for window in given[0])

        predictor.segmenter.network.register_forward_pre_hook(look)
        predictor(scan)
        return windows

    (alone,) = seen("balanced")
    both = seen("best")
    assert len(both) == 4
    flips = [np.flip(alone, axes) for axes in ((), (1,), (2,), (1, 2))]
    for flip in flips:
        assert sum(np.allclose(window, flip, atol=1e-5) for window in both) == 1
    # The first axis lies as it was.
    assert not any(np.allclose(window, np.flip(alone, 0), atol=1e-5) for window in both)


# --- the predictor -----------------------------------------------------------------------------


def test_a_predictor_serves_threads(volumes: Path, tmp_path: Path, in_slabs: None) -> None:
    shapes = [(16, 16, 16), (18, 20, 22), (12, 30, 17), (24, 16, 16)]
    scans = [write_volume(tmp_path / f"s{k}.nii.gz", cube(shapes[k % 4], k)[0]) for k in range(12)]
    predictor = Predictor(volumes, device="cpu")
    one_by_one = [predictor(scan).array for scan in scans]
    assert len({array.tobytes() for array in one_by_one}) == 12
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(predictor, scans))
    for mask, expected in zip(together, one_by_one, strict=True):
        np.testing.assert_array_equal(mask.array, expected)


def test_arrays_are_scans(volumes: Path, tmp_path: Path) -> None:
    image = cube((18, 20, 17), 3)[0]
    predictor = Predictor(volumes, device="cpu")
    spacing = (1.0, 1.2, 0.9)
    expected = predictor(write_volume(tmp_path / "scan.nii.gz", image))
    for array in (image, image[None], image.astype(np.float64)):
        mask = predictor(array, spacing=spacing, unit="mm")
        np.testing.assert_array_equal(mask.array, expected.array)
        assert mask.geometry.spacing == pytest.approx(spacing)
        assert mask.geometry.unit == "mm"
        assert mask.labels == expected.labels
    # Where the spacing is the model's business it is not ignored.
    other = predictor(image, spacing=(2.0, 1.2, 0.9))
    assert predictor.plan.data.spacing
    assert not np.array_equal(other.array, expected.array)


def test_an_array_of_an_image_needs_no_spacing_where_the_model_has_none(images: Path) -> None:
    predictor = Predictor(images, device="cpu", settings={})
    image = cube((32, 40), 1)[0]
    if predictor.plan.data.spacing:
        with pytest.raises(DataError, match=r"the array has no spacing .*2 edge lengths .*in um"):
            predictor(image)
    mask = predictor(image, spacing=(0.5, 0.5), unit="um")
    assert mask.array.shape == (32, 40)


@pytest.mark.parametrize(
    ("array", "more", "message"),
    [
        (np.zeros((16, 16)), {}, r"the array does not fit .*\(1, 3 axes\).*got \(16, 16\)"),
        (np.zeros((2, 16, 16, 16)), {}, r"does not fit .*got \(2, 16, 16, 16\)"),
        (np.zeros((16, 16, 16, 1)), {}, r"does not fit .*np\.moveaxis\(array, -1, 0\)"),
        (np.zeros((16, 16, 16)), {"spacing": None}, "no spacing .*3 edge lengths .*spacing="),
        (np.zeros((16, 16, 16)), {"spacing": (1, 1)}, "not the spacing .*3 positive edge"),
        (np.zeros((16, 16, 16)), {"spacing": (1, 0, 1)}, "not the spacing .*3 positive edge"),
        (np.zeros((16, 16, 16)), {"unit": "um"}, "another unit .*expected mm, got um"),
        (np.full((16, 16, 16), np.nan), {}, "4096 of 4096 values are NaN"),
        (np.zeros((16, 16, 16), complex), {}, "complex values are not supported"),
    ],
)
def test_arrays_that_are_no_scans_of_the_model(
    volumes: Path, array: np.ndarray, more: dict[str, Any], message: str
) -> None:
    predictor = Predictor(volumes, device="cpu")
    with pytest.raises(DataError, match=message):
        predictor(array, **{"spacing": (1, 1, 1)} | more)


def test_a_file_has_its_own_spacing(volumes: Path, tmp_path: Path) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz", cube((16,) * 3, 3)[0])
    with pytest.raises(DataError, match="a spacing and a unit of its own"):
        Predictor(volumes, device="cpu")(scan, spacing=(1, 1, 1))
