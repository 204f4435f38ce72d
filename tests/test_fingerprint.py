"""Whether label values number objects or name classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetseg.dataset import find_cases
from unetseg.planning.fingerprint import inspect


def write_set(folder: Path, masks: list[np.ndarray]) -> Path:
    """Image files with these masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, mask in enumerate(masks):
        noise = rng.integers(0, 255, mask.shape, dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{number}.png")
    return folder


def blocks(values: list[int], pieces: int = 1) -> np.ndarray:
    """A 3 x 3 block for each value, on a grid with gaps, `pieces` times over."""
    mask = np.zeros((40, 40), dtype=np.int64)
    for index, value in enumerate(values * pieces):
        row, column = divmod(index, 9)
        mask[4 * row + 1 : 4 * row + 4, 4 * column + 1 : 4 * column + 4] = value
    return mask


def looks_like_objects(folder: Path) -> bool:
    return inspect(find_cases(folder)).fingerprint.looks_like_objects


@pytest.mark.parametrize(
    "values",
    [
        [list(range(1, n + 1)) for n in (20, 25, 22, 30)],
        [[1, 7, 90, 33], [2, 8, 91, 34], [3, 9, 92, 35]],
    ],
    ids=["counted from one", "ids that differ"],
)
def test_objects(tmp_path: Path, values: list[list[int]]) -> None:
    assert looks_like_objects(write_set(tmp_path, [blocks(ids) for ids in values]))


@pytest.mark.parametrize(
    ("values", "pieces"),
    [
        ([[1, 2], [1, 2], [1]], 1),
        ([list(range(1, 13))] * 4, 1),
        ([list(range(1, 13)), [1, *range(3, 13)], list(range(2, 13))], 1),
        ([list(range(1, n + 1)) for n in (9, 12, 10)], 3),
    ],
    ids=["few", "the same in all", "some are missing", "in several pieces"],
)
def test_classes(tmp_path: Path, values: list[list[int]], pieces: int) -> None:
    assert not looks_like_objects(write_set(tmp_path, [blocks(ids, pieces) for ids in values]))
