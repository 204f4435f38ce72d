"""How far thresholds get on the sample data: `python sample_data/baseline.py [FOLDER]`.

Prints one line per set: the mean Dice over its test cases.
mr : one intensity band per structure, on intensities scaled to each scan's 1st and 99th
    percentile; of all bands the one with the highest mean Dice over the training cases.
nuclei : Otsu's threshold of each image, against the foreground of the mask.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import tifffile
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

STRUCTURES = {1: "outer", 2: "middle", 3: "core"}
STEPS = 100


def band_dice(scan: NDArray, truth: NDArray) -> NDArray:
    """Dice (structure, first step, last step) of every band of intensities of one scan."""
    low, high = np.percentile(scan, (1, 99))
    step = np.clip((scan - low) / (high - low) * STEPS, 0, STEPS - 1).astype(int)

    def band_sizes(chosen: NDArray) -> NDArray:
        """Voxels from the first up to and with the last step; 0 where last < first."""
        below = np.concatenate(([0], np.bincount(chosen, minlength=STEPS).cumsum()))
        return np.maximum(below[None, 1:] - below[:-1, None], 0)

    marked = band_sizes(step.ravel())
    return np.stack(
        [
            2 * band_sizes(step[truth == label]) / (marked + np.count_nonzero(truth == label))
            for label in STRUCTURES
        ]
    )


def mr_dice(folder: Path) -> dict[str, float]:
    """Mean Dice over the test cases per structure, for the bands that suit the training cases."""
    dice = {}
    for part in ("train", "test"):
        scans = sorted((folder / part / "images").glob("*.nii.gz"))
        truths = [folder / part / "labels" / scan.name for scan in scans]
        dice[part] = np.mean(
            [
                band_dice(np.asarray(nib.load(a).dataobj, float), np.asarray(nib.load(b).dataobj))
                for a, b in zip(scans, truths, strict=True)
            ],
            axis=0,
        )
    bands = [int(one.argmax()) for one in dice["train"]]
    return {
        name: float(one.flat[band])
        for name, one, band in zip(STRUCTURES.values(), dice["test"], bands, strict=True)
    }


def nuclei_dice(folder: Path) -> float:
    """Mean Dice of the foreground over the test images."""
    scores = []
    for path in sorted((folder / "test" / "images").glob("*.tif")):
        image = tifffile.imread(path)
        truth = tifffile.imread(folder / "test" / "masks" / path.name) > 0
        found = image > threshold_otsu(image)
        scores.append(2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum()))
    return float(np.mean(scores))


def main() -> None:
    """Measure and print both sets."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    mr = mr_dice(folder / "mr")
    each = ", ".join(f"{name} {value:.3f}" for name, value in mr.items())
    sys.stdout.write(
        f"mr      threshold baseline Dice: {np.mean(list(mr.values())):.3f} ({each})\n"
        f"nuclei  threshold baseline Dice: {nuclei_dice(folder / 'nuclei'):.3f}\n"
    )


if __name__ == "__main__":
    main()
