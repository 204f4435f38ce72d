"""The sample data: what the code writes, what lies in sample_data, and what both promise."""

import re
import runpy
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from nibabel.affines import obliquity, voxel_sizes
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

from unetseg.errors import DataError
from unetseg.samples import write_samples

COMMITTED = Path(__file__).resolve().parents[1] / "sample_data"
MR_CASES = [f"{'train' if n <= 14 else 'test'}/{{}}/case_{n:02d}.nii.gz" for n in range(1, 18)]
NUCLEI_CASES = [f"{'train' if n <= 10 else 'test'}/{{}}/img_{n:02d}.ome.tif" for n in range(1, 14)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    written = write_samples(folder)
    assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())
    return folder


def voxels(path: Path) -> NDArray:
    if path.name.endswith(".nii.gz"):
        return np.asarray(nib.load(path).dataobj)
    return tifffile.imread(path)


def nearly_equal(one: NDArray, other: NDArray, *, step: float) -> bool:
    """All but one voxel in a thousand within `step`: rounding may differ between platforms."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(np.mean(np.abs(one.astype(float) - other.astype(float)) > step) < 1e-3)


def rounding_step(path: Path) -> float:
    return 1.0 if path.parent.name == "images" else 0.0


def image_and_labels(case: str) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    mr = COMMITTED / "mr"
    return nib.load(mr / case.format("images")), nib.load(mr / case.format("labels"))


def touching_labels(labels: NDArray) -> set[int]:
    found: set[int] = set()
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        found |= set(a[meet].tolist()) | set(b[meet].tolist())
    return found


def test_a_second_write_gives_the_same_bytes(fresh: Path, tmp_path: Path) -> None:
    for path in write_samples(tmp_path):
        assert path.read_bytes() == (fresh / path.relative_to(tmp_path)).read_bytes(), path.name


def test_the_committed_files_are_what_the_code_writes(fresh: Path) -> None:
    names = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    lying = {
        path.relative_to(COMMITTED)
        for part in ("mr", "nuclei")
        for path in (COMMITTED / part).rglob("*")
        if path.is_file()
    }
    assert names == lying
    for name in names:
        step = rounding_step(COMMITTED / name)
        assert nearly_equal(voxels(COMMITTED / name), voxels(fresh / name), step=step), name
        if name.name.endswith(".nii.gz"):
            here, there = nib.load(COMMITTED / name), nib.load(fresh / name)
            np.testing.assert_allclose(here.affine, there.affine, atol=1e-4)


@pytest.mark.parametrize("name", ["mr/train/{}/case_01.nii.gz", "nuclei/train/{}/img_01.ome.tif"])
@pytest.mark.parametrize("kind", ["images", "truths"])
def test_a_shift_by_one_voxel_would_be_noticed(name: str, kind: str) -> None:
    if kind == "truths":
        kind = "labels" if name.startswith("mr") else "masks"
    path = COMMITTED / name.format(kind)
    array = voxels(path)
    assert nearly_equal(array, array.copy(), step=rounding_step(path))
    assert not nearly_equal(array, np.roll(array, 1, axis=0), step=rounding_step(path))
    assert not nearly_equal(array, array.astype(np.int64), step=rounding_step(path))


def test_all_of_it_is_under_two_megabytes() -> None:
    assert sum(path.stat().st_size for path in COMMITTED.rglob("*") if path.is_file()) < 2_000_000


def test_gzip_headers_hold_no_time() -> None:
    for case in MR_CASES:
        for kind in ("images", "labels"):
            head = (COMMITTED / "mr" / case.format(kind)).read_bytes()[:8]
            # RFC 1952: two magic bytes, method, flags, then four bytes of time.
            assert head[:2] == b"\x1f\x8b"
            assert head[4:8] == bytes(4)


@pytest.mark.parametrize("case", MR_CASES)
def test_mr_grids_are_oblique_and_anisotropic(case: str) -> None:
    image, labels = image_and_labels(case)
    assert np.rad2deg(obliquity(image.affine)).max() > 3
    sizes = voxel_sizes(image.affine)
    assert sorted(sizes)[2] / sorted(sizes)[1] > 2.3
    np.testing.assert_allclose(sorted(sizes), [0.8, 0.8, 2.5], rtol=0.08)
    assert int(np.argmin(image.shape)) == int(np.argmax(sizes))
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.get_qform(coded=True)[0], image.get_sform(), atol=1e-3)
    assert labels.shape == image.shape
    np.testing.assert_array_equal(labels.affine, image.affine)


def test_mr_orientations_types_and_spacings_vary() -> None:
    images = [image_and_labels(case)[0] for case in MR_CASES]
    codes = {"".join(nib.aff2axcodes(image.affine)) for image in images}
    assert codes == {"LPS", "RAS", "LAS", "SLP", "PLS", "RPI", "ASR"}
    assert {image.get_data_dtype().name for image in images} == {"int16", "uint8", "float32"}
    assert len({tuple(voxel_sizes(image.affine).round(3)) for image in images}) == len(images)
    assert len({image.shape for image in images}) > 5


@pytest.mark.parametrize("case", MR_CASES)
def test_mr_structures_are_nested(case: str) -> None:
    array = np.asarray(image_and_labels(case)[1].dataobj)
    assert array.dtype == np.uint8
    assert np.unique(array).tolist() == [0, 1, 2, 3]
    thick = int(np.argmin(array.shape))
    # Slices are thicker than the shells, so that only within a slice each shell is seen all round.
    cross = np.zeros((3, 3, 3), dtype=bool)
    for axis in {0, 1, 2} - {thick}:
        cross[tuple(slice(None) if other == axis else 1 for other in range(3))] = True
    for inner, share in ((2, 0.95), (3, 0.7)):
        inside = array >= inner
        ring = array[binary_dilation(inside, cross) & ~inside]
        assert np.mean(ring == inner - 1) > share


@pytest.mark.parametrize("case", MR_CASES)
def test_mr_background_holds_the_brightness_of_each_structure(case: str) -> None:
    image, labels = image_and_labels(case)
    scan, truth = np.asarray(image.dataobj), np.asarray(labels.dataobj)
    for structure in (1, 2, 3):
        low, high = np.percentile(scan[truth == structure], (10, 90))
        alike = (scan >= low) & (scan <= high) & (truth == 0)
        assert np.count_nonzero(alike) > 0.5 * np.count_nonzero(truth == structure)


@pytest.mark.parametrize("case", NUCLEI_CASES)
def test_nuclei_touch_and_each_is_one_piece(case: str) -> None:
    image = tifffile.imread(COMMITTED / "nuclei" / case.format("images"))
    labels = tifffile.imread(COMMITTED / "nuclei" / case.format("masks"))
    assert image.shape == labels.shape == (160, 160)
    assert image.dtype == labels.dtype == np.uint16
    count = int(labels.max())
    assert np.unique(labels).tolist() == list(range(count + 1))
    assert count >= 15
    assert all(label(labels == number)[1] == 1 for number in range(1, count + 1))
    assert len(touching_labels(labels)) > 0.4 * count


def test_nuclei_that_lie_apart_do_not_touch() -> None:
    apart = np.zeros((5, 5), dtype=np.uint16)
    apart[0, 0], apart[1, 1], apart[4, 4] = 1, 2, 3
    assert touching_labels(apart) == set()
    apart[0, 1] = 2
    assert touching_labels(apart) == {1, 2}


def test_some_nuclei_are_dimmer_than_background_elsewhere() -> None:
    for case in NUCLEI_CASES:
        image = tifffile.imread(COMMITTED / "nuclei" / case.format("images"))
        labels = tifffile.imread(COMMITTED / "nuclei" / case.format("masks"))
        means = np.array([image[labels == n].mean() for n in range(1, int(labels.max()) + 1)])
        assert means.min() < np.percentile(image[labels == 0], 98)


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("case", NUCLEI_CASES)
def test_the_pixel_size_stands_in_the_ome_metadata(case: str, kind: str) -> None:
    with tifffile.TiffFile(COMMITTED / "nuclei" / case.format(kind)) as file:
        assert file.is_ome
        assert file.series[0].axes == "YX"
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.65, "µm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == (0.65, "µm")


@pytest.mark.parametrize(
    ("part", "cases"), [("mr", MR_CASES), ("nuclei", NUCLEI_CASES)], ids=["mr", "nuclei"]
)
def test_no_case_stands_in_two_places(part: str, cases: list[str]) -> None:
    assert any(case.startswith("test/") for case in cases)
    assert len({Path(case).name for case in cases}) == len(cases)
    arrays = [voxels(COMMITTED / part / case.format("images")) for case in cases]
    for one, other in combinations(arrays, 2):
        assert not (one.shape == other.shape and np.mean(one == other) > 0.5)


def test_the_readme_gives_the_figures_that_the_baseline_prints() -> None:
    run = subprocess.run(
        [sys.executable, "sample_data/baseline.py", "sample_data"],
        cwd=COMMITTED.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = re.findall(r"\d\.\d{3}", run.stdout)
    readme = (COMMITTED / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\d\.\d{3}", readme) == printed
    mr, *_, nuclei = map(float, printed)
    assert len(printed) == 5
    assert mr < 0.6
    assert 0.6 < nuclei < 0.85


def test_the_baseline_scores_a_band_by_its_dice() -> None:
    band_dice = runpy.run_path(str(COMMITTED / "baseline.py"))["band_dice"]
    # 101 values 0..100: percentiles 1 and 99 are the values 1 and 99, so a step is 0.98 wide.
    scan = np.arange(101.0)
    truth = np.zeros(101, dtype=np.uint8)
    truth[50:60], truth[70], truth[80] = 1, 2, 3
    dice = band_dice(scan, truth)
    # Steps 50 to 59 are the values with 50 <= (value - 1) / 0.98 < 60, that is 50 to 59.
    assert dice[0, 50, 59] == pytest.approx(1.0)
    # Steps 45 to 59 are the values 46 to 59: 10 right ones of 14 marked, 10 true.
    assert dice[0, 45, 59] == pytest.approx(2 * 10 / (14 + 10))
    assert dice[0, 59, 45] == 0.0


def test_a_folder_in_the_way_of_a_file_is_reported(tmp_path: Path) -> None:
    taken = tmp_path / "mr" / "train" / "images" / "case_01.nii.gz"
    taken.mkdir(parents=True)
    with pytest.raises(DataError, match=r"case_01\.nii\.gz: cannot be written"):
        write_samples(tmp_path)
    assert list(taken.parent.iterdir()) == [taken]
