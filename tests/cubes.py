"""Tiny scans with a bright cube, and requests for trainings on them that take seconds."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
import torch

from unetseg.training import Request

# Tiny tensors gain nothing from a second thread, and workers that fight for cores lose much.
torch.set_num_threads(1)

# Enough to find the cubes, where a test looks at masks.
LEARNED: dict[str, Any] = {
    "training.epochs": 5,
    "training.steps_per_epoch": 6,
    "training.learning_rate": 0.02,
    "training.average_decay": 0.9,
    "training.augment.spatial_probability": 0.0,
}

# As little as still is a U-Net: two levels, few features, few steps, no randomness of precision.
TINY: dict[str, Any] = {
    "network.levels": 2,
    "network.features": (4, 8),
    "patch.batch": 2,
    "training.precision": "float32",
    "training.epochs": 1,
    "training.steps_per_epoch": 2,
    "training.warmup_steps": 1,
}


def cube(shape: tuple[int, ...], seed: int, value: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan with a bright cube of 7 voxels a side, and the mask of the cube."""
    rng = np.random.default_rng(seed)
    start = [int(rng.integers(1, size - 8)) for size in shape]
    labels = np.zeros(shape, dtype=np.uint8)
    labels[tuple(slice(a, a + 7) for a in start)] = value
    image = rng.normal(100, 10, shape) + 100 * (labels > 0)
    return image.astype(np.float32), labels


def write_cubes(folder: Path, count: int = 6, *, value: int = 1, size: int = 16) -> Path:
    """NIfTI cases in images/ and labels/, 1 mm."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, labels = cube((size,) * 3, number, value)
        for part, array in (("images", image), ("labels", labels)):
            picture = nib.Nifti1Image(array, np.eye(4))
            picture.header.set_xyzt_units("mm")
            nib.save(picture, folder / part / f"case_{number}.nii.gz")
    return folder


def write_squares(folder: Path, count: int = 6, *, value: int = 255, size: int = 32) -> Path:
    """TIFF cases in images/ and labels/, two-dimensional, 0.5 um; the mask is 0 and `value`."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, labels = cube((size,) * 2, number, value)
        for part, array in (("images", image.astype(np.uint16)), ("labels", labels)):
            write_tiff(folder / part / f"cell_{number}.ome.tif", array)
    return folder


def write_tiff(path: Path, array: np.ndarray) -> None:
    metadata = {
        "axes": "YX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5,
        "PhysicalSizeYUnit": "µm",
    }
    tifffile.imwrite(path, array, ome=True, metadata=metadata)


def request(data: Path, run: Path, settings: dict[str, Any] | None = None, **more: Any) -> Request:
    """A tiny training on the CPU with its cache beside the run."""
    more = {"cache": run.parent / "cache", "device": "cpu"} | more
    return Request(data, run, TINY | (settings or {}), **more)
