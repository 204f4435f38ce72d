"""Scores of masks: seconds here and through MONAI, and whether another program finds the same.

    python benchmarks/evaluate.py [LABELS] [--results FILE.json] [--rounds 3] [--quick]

Two sets of pairs are made, with a seed: 60 small cases of two classes, whose truths are the first
masks of the folder LABELS (such as those of hippocampi) or else made up, and 12 volumes of 128 x
128 x 128 with three classes. A predicted mask is its truth, moved a little here and there.

The whole work is timed, reading included, imports not: Dice, HD95, ASSD and surface Dice of every
class and case; here with IoU, precision and recall besides, on all cores and on one. MONAI reads
with nibabel and computes each of the four by its own function, with all threads of torch and with
one; the faster of the two is what the others are compared with. Each runs in processes of its own,
in turns. Then every number is compared with MONAI's and with SimpleITK's (as in
tests/golden/metrics.py, distance maps instead of trees). Where surface-distance is installed, the
means of its numbers are shown too, which differ because a surface is another thing there.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
from apart import TIMES, Row, Stages, Work, in_turns, keep, table
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from train import Results

from unetseg.evaluation import evaluate

COMMON = ("dice", "hd95", "assd", "surface_dice")
SMALL, LARGE = (40, 50, 36), (128, 128, 128)
# No sum of squared steps comes close to it, so rounding cannot decide what is within.
TOLERANCES = {"small": 1.137, "large": 0.91}
# Every case has its own number, and is the same in every call.
FIRST_SEED = 700

Values = dict[str, dict[str, float]]


# --- pairs of masks ------------------------------------------------------------------------------


def write_pairs(folder: Path, labels: Path | None, given: argparse.Namespace) -> dict[str, int]:
    """small/ and large/ with truth/ and predicted/ in each; how many cases there are."""
    small, large = (6, 1) if given.quick else (given.small, given.large)
    sources = sorted(labels.iterdir())[:small] if labels else [None] * small
    for number, source in enumerate(sources):
        rng = np.random.default_rng(FIRST_SEED + number)
        if source is None:
            truth, spacing = blobs(rng, SMALL, 2), (1.0, 1.0, 1.0)
        else:
            image = nib.load(source)
            truth = np.asarray(image.dataobj).astype(np.uint8)
            spacing = tuple(float(edge) for edge in image.header.get_zooms()[:3])
        write(folder / "small", f"case{number:03}", truth, moved(truth, rng), spacing)
    for number in range(large):
        rng = np.random.default_rng(FIRST_SEED + 1000 + number)
        truth = blobs(rng, (48, 48, 48) if given.quick else LARGE, 3)
        write(folder / "large", f"case{number:03}", truth, moved(truth, rng), (0.8, 0.8, 1.5))
    return {"small": len(sources), "large": large}


def blobs(rng: np.random.Generator, shape: Sequence[int], classes: int) -> NDArray[np.uint8]:
    """Lumps of several classes that fill about a sixth of the volume."""
    size = min(shape) / 10
    fields = [gaussian_filter(rng.standard_normal(shape), size) for _ in range(classes + 1)]
    inside = fields[0] > np.quantile(fields[0], 0.85)
    found: NDArray[np.uint8] = np.where(inside, 1 + np.argmax(fields[1:], axis=0), 0)
    return found.astype(np.uint8)


def moved(truth: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The mask with its surfaces one or two voxels away, in smooth waves."""
    waves = []
    for _ in truth.shape:
        wave = gaussian_filter(rng.standard_normal(truth.shape), 4.0)
        waves.append(1.2 * wave / wave.std())
    places = np.indices(truth.shape) + np.stack(waves)
    found: NDArray[np.uint8] = map_coordinates(truth, places, order=0, mode="nearest")
    return found


def write(
    folder: Path,
    name: str,
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    spacing: Sequence[float],
) -> None:
    for side, array in (("truth", truth), ("predicted", predicted)):
        path = folder / side / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
        image.header.set_xyzt_units("mm")
        nib.save(image, path)


# --- what is timed -------------------------------------------------------------------------------


def here(stages: Stages, folder: str, tolerance: float, cores: int) -> Row:
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    with stages.of("evaluate"):
        sides = (Path(folder) / side for side in ("truth", "predicted"))
        found = evaluate(*sides, tolerance=tolerance, objects=False)
    if found.failures:
        raise found.failures[0][1]
    values: Values = {
        f"{one.case} {one.label.value}": {metric: one[metric] for metric in COMMON}
        for one in found.scores
    }
    return {"values": values}


def by_monai(stages: Stages, folder: str, tolerance: float, threads: int) -> Row:
    """As a person would write it: one-hot tensors, and a function for each metric."""
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )
    from monai.networks.utils import one_hot

    if threads:
        torch.set_num_threads(threads)
    values: Values = {}
    with stages.of("evaluate"):
        for path in sorted((Path(folder) / "truth").iterdir()):
            image = nib.load(path)
            spacing = [float(edge) for edge in image.header.get_zooms()]
            truth = np.asarray(image.dataobj)
            predicted = np.asarray(nib.load(Path(folder) / "predicted" / path.name).dataobj)
            count = int(max(truth.max(), predicted.max())) + 1
            y, y_pred = (
                one_hot(torch.from_numpy(array.astype(np.int64))[None, None], count)
                for array in (truth, predicted)
            )
            pair = {"y_pred": y_pred, "y": y, "include_background": False}
            surface = {**pair, "spacing": spacing}
            found = {
                "dice": compute_dice(**pair),
                "hd95": compute_hausdorff_distance(**surface, percentile=95),
                "assd": compute_average_surface_distance(**surface, symmetric=True),
                "surface_dice": compute_surface_dice(
                    **surface, class_thresholds=[tolerance] * (count - 1)
                ),
            }
            for value in range(1, count):
                values[f"{path.name.partition('.')[0]} {value}"] = {
                    metric: float(each[0, value - 1]) for metric, each in found.items()
                }
    return {"values": values}


# --- what is compared ----------------------------------------------------------------------------


def golden() -> ModuleType:
    """tests/golden/metrics.py, which knows SimpleITK."""
    path = Path(__file__).resolve().parents[1] / "tests" / "golden" / "metrics.py"
    spec = importlib.util.spec_from_file_location("golden_metrics", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def elsewhere(folder: Path, measure: Callable[..., dict[str, float]], tolerance: float) -> Values:
    """What `measure` says of truth, predicted, spacing and tolerance of every class and case."""
    values: Values = {}
    for path in sorted((folder / "truth").iterdir()):
        image = nib.load(path)
        spacing = tuple(float(edge) for edge in image.header.get_zooms())
        truth = np.asarray(image.dataobj)
        predicted = np.asarray(nib.load(folder / "predicted" / path.name).dataobj)
        for value in range(1, int(max(truth.max(), predicted.max())) + 1):
            found = measure(truth == value, predicted == value, spacing, tolerance)
            values[f"{path.name.partition('.')[0]} {value}"] = found
    return values


def by_surface_distance(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    spacing: Sequence[float],
    tolerance: float,
) -> dict[str, float]:
    """Areas of a surface that runs between the voxels, each with a distance."""
    import surface_distance

    found = surface_distance.compute_surface_distances(truth, predicted, spacing)
    directed = surface_distance.compute_average_surface_distance(found)
    return {
        "hd95": surface_distance.compute_robust_hausdorff(found, 95),
        "assd": sum(directed) / 2,
        "surface_dice": surface_distance.compute_surface_dice_at_tolerance(found, tolerance),
    }


def largest(ours: Values, others: Values) -> dict[str, float]:
    """By metric, how far the two are apart where they are farthest."""
    assert ours.keys() == others.keys()
    return {
        metric: max(abs(ours[key][metric] - others[key][metric]) for key in ours)
        for metric in COMMON
    }


def means(values: Values) -> str:
    names = [name for name in COMMON if name in next(iter(values.values()))]
    return ", ".join(
        f"{name} {np.mean([each[name] for each in values.values()]):.4f}" for name in names
    )


# --- the whole -----------------------------------------------------------------------------------


def compared(folder: Path, rows: dict[str, Row], tolerance: float) -> dict[str, Any]:
    """Print how far the numbers of others are from these, and return it."""
    ours = rows["unetseg"]["values"]
    others = {"SimpleITK": elsewhere(folder, golden().by_simpleitk, tolerance)}
    if "MONAI" in rows:
        others["MONAI"] = rows["MONAI"]["values"]
    found = {name: largest(ours, values) for name, values in others.items()}
    for name, apart in found.items():
        text = ", ".join(f"{metric} {value:.1e}" for metric, value in apart.items())
        print(f"farthest from {name}, of {len(ours)} classes of cases: {text}")
    if importlib.util.find_spec("surface_distance"):
        print(f"means here: {means(ours)}")
        values = elsewhere(folder, by_surface_distance, tolerance)
        print(f"means of surface-distance: {means(values)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, nargs="?", help="a folder of masks in NIfTI")
    parser.add_argument("--small", type=int, default=60, help="how many small cases")
    parser.add_argument("--large", type=int, default=12, help="how many volumes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    given = parser.parse_args()
    results = Results(given.results)
    with tempfile.TemporaryDirectory() as name:
        counts = write_pairs(Path(name), given.labels, given)
        for size, count in counts.items():
            folder = Path(name) / size
            asked = {"folder": folder, "tolerance": TOLERANCES[size]}
            rows = in_turns(
                {
                    "unetseg": Work("evaluate:here", asked | {"cores": 0}),
                    "unetseg, one core": Work("evaluate:here", asked | {"cores": 1}),
                    "MONAI": Work("evaluate:by_monai", asked | {"threads": 0}),
                    "MONAI, one thread": Work("evaluate:by_monai", asked | {"threads": 1}),
                },
                given.rounds,
            )
            theirs = [row["seconds"] for who, row in rows.items() if who.startswith("MONAI")]
            for row in rows.values():
                row["times_faster"] = min(theirs) / row["seconds"] if theirs else None
            print(f"\n{count} {size} cases")
            print(table(rows, [*TIMES, ("times faster", "times_faster", ".1f")], "scored by"))
            apart = compared(folder, rows, TOLERANCES[size])
            for row in rows.values():
                # Thousands of numbers that the seed makes again.
                del row["values"]
            keep(results, size, rows, cases=count, farthest=apart)
            if apart["SimpleITK"]["hd95"] > 1e-3 or apart["SimpleITK"]["assd"] > 1e-3:
                sys.exit("the distances are not those of SimpleITK")


if __name__ == "__main__":
    main()
