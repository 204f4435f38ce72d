"""Small sets of masks to score, and what an evaluation makes of them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import tifffile

from unetseg.evaluation import Outcome, Resampling, evaluate

FAST = Resampling(draws=99)
HOSTILE = ("<script>alert(1)</script>".replace("/", "|"), '"onload=alert(2)', "&amp; \u202eabc")


def volume(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1, 1, 2)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def make_volumes(folder: Path, names: list[str], size: int = 12) -> None:
    """truth/, predicted/ and other/ with two classes, and images/; every case is a little worse."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        truth = np.zeros((size, size, 6), np.uint8)
        truth[2:8, 2:9, 1:5] = 1
        truth[4:8, 4:7, 1:5] = 2
        other = np.roll(truth, 1 + number % 3, 1)
        predicted = np.roll(truth, number % 4, 0)
        for side, mask in (("truth", truth), ("predicted", predicted), ("other", other)):
            volume(folder / side / f"{name}.nii.gz", mask)
        scan = (40 * truth + rng.normal(100, 5, truth.shape)).astype(np.float32)
        volume(folder / "images" / f"{name}.nii.gz", scan)


def make_cells(folder: Path, count: int = 6) -> None:
    """Nine cells in every image; some are missed in predicted/, more in other/."""
    truth = np.zeros((40, 40), np.uint16)
    for place in range(9):
        y, x = divmod(place, 3)
        truth[3 + 12 * y : 12 + 12 * y, 3 + 12 * x : 12 + 12 * x] = place + 1
    for number in range(count):
        for side, missing in (("truth", 0), ("predicted", number % 3), ("other", 3)):
            path = folder / side / f"cells{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, np.where(truth <= missing, 0, truth).astype(np.uint16))


def outcome(folder: Path, *, against: bool = False, objects: bool = False) -> Outcome:
    truth, predicted, other = (folder / side for side in ("truth", "predicted", "other"))
    found = evaluate(truth, predicted, objects=objects)
    if not against:
        return Outcome(truth, predicted, found, FAST)
    return Outcome(truth, predicted, found, FAST, other, evaluate(truth, other, objects=objects))
