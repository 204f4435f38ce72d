"""Small images with discs that touch, and masks with an id for each."""

from pathlib import Path
from typing import Any

import numpy as np
from cubes import write_tiff

# Enough to tell discs apart.
LEARNED: dict[str, Any] = {
    "training.epochs": 8,
    "training.steps_per_epoch": 20,
    "training.learning_rate": 0.02,
    "training.average_decay": 0.9,
    "training.augment.spatial_probability": 0.0,
    "training.augment.intensity_probability": 0.0,
    "patch.size": (72, 72),
}


RADIUS, SIZE = 5, 72
# A pair of discs, and a margin.
_WIDTH, _HEIGHT = 24, 12


def discs(seed: int, pairs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image with bright pairs of discs that touch, and the mask with an id for each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    ids = np.zeros((SIZE, SIZE), dtype=np.uint16)
    across = SIZE // _WIDTH
    places = rng.permutation(across * (SIZE // _HEIGHT))[:pairs]
    for number, place in enumerate(places.tolist()):
        row = place // across * _HEIGHT + _HEIGHT // 2
        middle = place % across * _WIDTH + _WIDTH // 2
        for side, column in enumerate((middle - RADIUS, middle + RADIUS + 1), start=1):
            inside = (rows - row) ** 2 + (columns - column) ** 2 <= RADIUS**2
            ids[inside] = 2 * number + side
    return (rng.normal(100, 8, ids.shape) + 100 * (ids > 0)).astype(np.float32), ids


def of_case(case: int) -> tuple[np.ndarray, np.ndarray]:
    """The discs of a case of `write_discs`."""
    return discs(case, 4 + case % 3)


def write_discs(folder: Path, count: int = 6, *, classes: bool = False) -> Path:
    """TIFF cases in images/ and labels/, 0.5 um; each with another number of discs.

    classes : with a table; of a pair the left disc is bright and the other one dark
    """
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for case in range(count):
        image, ids = of_case(case)
        if classes:
            image = image - 150 * ((ids > 0) & (ids % 2 == 0))
            rows = [f"{n},{'dark' if n % 2 == 0 else 'bright'}" for n in np.unique(ids) if n]
            table = folder / "labels" / f"cell_{case}_objects.csv"
            table.write_text("\n".join(["id,class", *rows]) + "\n")
        for part, array in (("images", image.astype(np.uint16)), ("labels", ids)):
            write_tiff(folder / part / f"cell_{case}.ome.tif", array)
    return folder
