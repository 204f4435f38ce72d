"""Write metrics.json: random pairs of masks and what MONAI and SimpleITK say about them.

Needs monai and SimpleITK, which is no dependency of the project; run it as

    python tests/golden/metrics.py

Both define a surface as the project does: mask voxels with a face neighbour outside, the border of
the array being outside (MONAI erodes and pads; for SimpleITK the mask is padded here). MONAI
searches the nearest surface voxel with a tree and computes in float32; SimpleITK makes a Maurer
distance map, also float32. So both are to be met up to rounding, no more.

The arrays are stored as zlib-compressed bits, because random numbers may change between versions.
"""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from monai.metrics import compute_dice as monai_dice
from scipy.ndimage import gaussian_filter

# name, shape, spacing, blob size in voxels, shift of the second mask, share of noise in it
CASES = (
    ("square grid", (40, 33), (1.0, 1.0), 3.0, (1, 2), 0.3),
    ("oblong pixels", (37, 52), (0.5, 2.25), 3.0, (2, 0), 0.5),
    ("fine specks", (48, 48), (0.325, 0.325), 1.0, (0, 1), 0.6),
    ("cubes", (20, 24, 22), (1.0, 1.0, 1.0), 2.5, (1, 0, 1), 0.3),
    ("thick slices", (26, 25, 9), (0.79, 0.79, 5.0), 2.5, (0, 2, 1), 0.4),
    ("three edges", (14, 19, 23), (3.0, 1.2, 0.7), 2.0, (2, 1, 0), 0.8),
    ("hardly related", (18, 17, 16), (1.0, 0.8, 1.5), 2.0, (5, 4, 3), 2.0),
    ("one slice", (30, 28, 1), (0.9, 1.1, 4.0), 2.0, (1, 1, 0), 0.4),
)


def blobs(rng, shape, size, shift, noise):
    """Two boolean arrays of related smooth blobs, some cut off by the border."""
    field = gaussian_filter(rng.standard_normal(shape), size)
    other = gaussian_filter(rng.standard_normal(shape), size)
    moved = np.roll(field, shift, range(len(shape))) + noise * other
    return field > np.quantile(field, 0.8), moved > np.quantile(moved, 0.83)


def by_monai(truth, predicted, spacing, tolerance):
    y, y_pred = (torch.from_numpy(mask)[None, None].float() for mask in (truth, predicted))
    pair = {"y_pred": y_pred, "y": y, "include_background": True}
    surface = {**pair, "spacing": list(spacing)}
    return {
        "dice": monai_dice(**pair).item(),
        "iou": compute_iou(**pair).item(),
        "hd95": compute_hausdorff_distance(**surface, percentile=95).item(),
        "assd": compute_average_surface_distance(**surface, symmetric=True).item(),
        "surface_dice": compute_surface_dice(**surface, class_thresholds=[tolerance]).item(),
    }


def by_simpleitk(truth, predicted, spacing, tolerance):
    images = []
    for mask in (truth, predicted):
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        image.SetSpacing(spacing[::-1])  # SimpleITK counts axes from the last
        images.append(image)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(images[1], images[0])  # the second one is the truth
    contours = [sitk.BinaryContour(image, fullyConnected=False) for image in images]
    maps = [
        np.abs(
            sitk.GetArrayFromImage(
                sitk.SignedMaurerDistanceMap(contour, squaredDistance=False, useImageSpacing=True)
            )
        )
        for contour in contours
    ]
    on = [sitk.GetArrayFromImage(contour) > 0 for contour in contours]
    directed = (maps[1][on[0]], maps[0][on[1]])
    together = np.concatenate(directed).astype(np.float64)
    return {
        "dice": overlap.GetDiceCoefficient(),
        "iou": overlap.GetJaccardCoefficient(),
        # Not 1 - FalsePositiveError: that is the share of the background, TN in the denominator.
        "precision": 1 - overlap.GetFalseDiscoveryRate(),
        "recall": 1 - overlap.GetFalseNegativeError(),
        "hd95": float(max(np.percentile(d, 95) for d in directed)),
        "assd": float(together.mean()),
        "surface_dice": float((together <= tolerance).mean()),
    }


def packed(mask):
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def check_roles():
    """16 true and 20 predicted pixels, 8 in common: precision 8/20 and recall 8/16."""
    truth, predicted = np.zeros((2, 10, 10), bool)
    truth[2:6, 2:6] = predicted[2:6, 4:9] = True
    found = by_simpleitk(truth, predicted, (1.0, 1.0), 1.0)
    for metric, by_hand in (("dice", 16 / 36), ("precision", 0.4), ("recall", 0.5)):
        if not np.isclose(found[metric], by_hand):
            raise SystemExit(f"SimpleITK's {metric} is {found[metric]}, not {by_hand}")


def main():
    check_roles()
    rows = []
    for seed, (name, shape, spacing, size, shift, noise) in enumerate(CASES):
        rng = np.random.default_rng(seed)
        truth, predicted = blobs(rng, shape, size, shift, noise)
        # No sum of squared steps comes close to it, so rounding cannot decide what is within.
        tolerance = 1.137 * min(spacing)
        rows.append(
            {
                "name": name,
                "shape": shape,
                "spacing": spacing,
                "tolerance": tolerance,
                "truth": packed(truth),
                "predicted": packed(predicted),
                "MONAI": by_monai(truth, predicted, spacing, tolerance),
                "SimpleITK": by_simpleitk(truth, predicted, spacing, tolerance),
            }
        )
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
