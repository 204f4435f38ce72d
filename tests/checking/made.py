"""Small sound sets, written so that one fault at a time can be put into them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from unetseg.checking import Asked, Checked, Looks, checked
from unetseg.config import Plan
from unetseg.dataset import find_cases
from unetseg.planning.fingerprint import inspect
from unetseg.records import Machine

COUNT = 12
SHAPE = (22, 26, 18)
MACHINE = Machine("cpu", 8 << 30, 1)


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A scan in which one side is brighter, with two classes one behind the other."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE).astype(float)
    labels = np.zeros(SHAPE, np.uint8)
    middle = rng.uniform(-2, 2, 3) + np.array([8, 11, 7])
    radii = rng.uniform(3.0, 5.0, 3)
    for value, shift in ((1, -3), (2, 3)):
        away = ((x - middle[0]) / radii[0]) ** 2 + ((y - middle[1] - shift) / radii[1]) ** 2
        labels[away + ((z - middle[2]) / radii[2]) ** 2 < 1] = value
    image = 100 + 3 * x + 2 * y - 4 * z + 60 * (labels > 0) + rng.normal(0, 5, SHAPE)
    return image.astype(np.float32), labels


def write_volume(
    root: Path, name: str, image: np.ndarray, labels: np.ndarray | None, **more: Any
) -> None:
    """A case of NIfTI files. `part` (Tr, Va, Ts), `affine` and `mask_affine` may be given."""
    part, affine = more.get("part", "Tr"), more.get("affine", np.eye(4))
    for kind, array, place in (
        ("images", image, affine),
        ("labels", labels, more.get("mask_affine", affine)),
    ):
        if array is not None:
            file = nib.Nifti1Image(array, place)
            file.header.set_xyzt_units("mm")
            path = root / f"{kind}{part}" / f"{name}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(file, path)


def write_volumes(root: Path, count: int = COUNT) -> Path:
    for seed in range(count):
        write_volume(root, f"case_{seed}", *volume(seed))
    return root


def picture(seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs of one size on dark ground, each with an id of its own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size))
    ids = np.zeros((size, size), np.uint16)
    number = 0
    for _ in range(60):
        centre, radius = rng.uniform(6, size - 6, 2), rng.uniform(4.5, 6.5)
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
        if not ids[inside < (radius + 1) ** 2].any():
            number += 1
            ids[inside < radius**2] = number
    image = np.where(ids > 0, 150, 30) + rng.normal(0, 8, ids.shape)
    return image.clip(0, 255).astype(np.uint8), ids


def write_picture(root: Path, name: str, image: np.ndarray, ids: np.ndarray) -> None:
    for kind, array in (("images", image), ("masks", ids)):
        path = root / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def write_pictures(root: Path, count: int = COUNT) -> Path:
    for seed in range(count):
        write_picture(root, f"cell_{seed}", *picture(seed))
    return root


def check(root: Path, plan: Plan | None = None) -> Checked:
    """What the command finds, without its printing."""
    dataset, looks = find_cases(root), Looks()
    found = inspect(dataset, look=looks)
    return checked(Asked(looks, dataset, found, MACHINE, plan, root))


def alarms(result: Checked) -> dict[str, set[str]]:
    """The cases that each kind of warning or error names."""
    named: dict[str, set[str]] = {}
    for finding in result.findings:
        if finding.severity != "note":
            named.setdefault(finding.kind, set()).update(finding.cases)
    return named


__all__ = ["COUNT", "alarms", "check", "picture", "replace", "volume", "write_picture"]
