"""Partly annotated images: slices, scribbles, and whatever else leaves most voxels unknown."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from cubes import request, write_cubes
from whole import scan_outputs

from unetseg import checkpoint
from unetseg.config import IGNORED, Plan
from unetseg.console import describe_fingerprint
from unetseg.dataset import find_cases
from unetseg.dataset.loading import load_scan
from unetseg.geometry import Geometry
from unetseg.pipeline import place, prepare, prepare_truth
from unetseg.pipeline.cache import CachedCase, prepare_cases
from unetseg.planning.fingerprint import Inspection, inspect
from unetseg.prediction import Predictor
from unetseg.records import Mask, ignore_event
from unetseg.tasks import make_task
from unetseg.tasks.segmenting import Segmenter
from unetseg.training import plan_for, train
from unetseg.training.batches import Batches
from unetseg.training.validation import validate

UNKNOWN = 9
# Labels of a whole volume -> what somebody had the time to annotate.
Annotate = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def ball(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan with a brighter ball, and the mask of the ball."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(7, size - 7, 3)
    distance = np.linalg.norm(np.moveaxis(np.indices((size,) * 3), 0, -1) - centre, axis=-1)
    labels = (distance <= rng.uniform(4, 6)).astype(np.uint8)
    return (rng.normal(100, 25, labels.shape) + 60 * labels).astype(np.float32), labels


def whole(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return labels


def slices(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every fourth slice."""
    annotated = np.full_like(labels, UNKNOWN)
    annotated[..., 1::4] = labels[..., 1::4]
    return annotated


def scribbles(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random walks of 30 steps: two in the ball, two around it, two anywhere outside."""
    annotated = np.full_like(labels, UNKNOWN)
    outside = labels == 0
    near = outside & np.any(
        [np.roll(labels == 1, shift, axis) for shift in (-3, 3) for axis in range(3)], axis=0
    )
    for value, allowed in ((1, ~outside), (0, near), (0, outside)):
        for _ in range(2):
            seeds = np.argwhere(allowed)
            voxel = seeds[rng.integers(len(seeds))]
            for _ in range(30):
                annotated[tuple(voxel)] = value
                there = voxel + rng.integers(-1, 2, 3)
                if (there >= 0).all() and (there < labels.shape).all() and allowed[tuple(there)]:
                    voxel = there
    return annotated


def as_background(annotate: Annotate) -> Annotate:
    """The mistake: what was not annotated is taken for background."""

    def mistaken(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        annotated = annotate(labels, rng)
        return np.where(annotated == UNKNOWN, 0, annotated)

    return mistaken


def write_balls(folder: Path, annotate: Annotate, *, count: int = 4, size: int = 20) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(5)
    for seed in range(count):
        image, labels = ball(seed, size)
        for part, array in (("images", image), ("labels", annotate(labels, rng))):
            write_volume(folder / part / f"case_{seed}.nii.gz", array)
    return folder


def write_volume(path: Path, array: np.ndarray) -> Path:
    picture = nib.Nifti1Image(array, np.eye(4))
    picture.header.set_xyzt_units("mm")
    nib.save(picture, path)
    return path


def planned(folder: Path, data: Path, **settings: Any) -> tuple[Plan, Inspection]:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return plan_for(request(data, folder / "run", {"data.ignore_value": UNKNOWN, **named}))


def prepared(folder: Path, annotate: Annotate, **settings: Any) -> tuple[Plan, list[CachedCase]]:
    plan, found = planned(folder, write_balls(folder / "data", annotate), **settings)
    cached = prepare_cases(
        found.cases, plan, folder / "cache", cores=1, skip_bad=False, listener=ignore_event
    )
    return plan, list(cached)


# --- what is read ------------------------------------------------------------------------------


def test_statistics_are_those_of_annotated_voxels(tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data", slices, count=3)
    found = inspect(find_cases(data), ignore_value=UNKNOWN).fingerprint
    images, truths = (
        np.stack([np.asarray(nib.load(p).dataobj) for p in sorted((data / part).iterdir())])
        for part in ("images", "labels")
    )
    assert dict(found.label_counts) == {v: int((truths == v).sum()) for v in (0, 1)}
    assert found.ignored_share == pytest.approx(0.75)
    inside = images[truths == 1]
    assert found.intensity[0].mean == pytest.approx(inside.mean(), rel=1e-5)
    assert found.intensity[0].low == pytest.approx(np.percentile(inside, 0.5), rel=1e-5)
    assert describe_fingerprint(found).endswith("; not known: 75.00%")
    # A class of its own, and the largest one, where nobody says what 9 means.
    other = inspect(find_cases(data)).fingerprint
    assert dict(other.label_counts)[UNKNOWN] == 3 * 20**3 * 3 // 4
    assert other.intensity[0].mean < found.intensity[0].mean - 20
    assert "not known" not in describe_fingerprint(other)


def test_a_mask_without_a_known_voxel_is_told(tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data", slices, count=3)
    write_volume(data / "labels" / "case_1.nii.gz", np.full((20,) * 3, UNKNOWN, np.uint8))
    write_volume(data / "labels" / "case_2.nii.gz", slices(np.zeros((20,) * 3, np.uint8), None))
    told = {each.sentence for each in inspect(find_cases(data), ignore_value=UNKNOWN).findings}
    assert told == {
        "1 mask holds nothing but the ignored value: case_1",
        "1 mask is background only: case_2",
    }


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        # The slice at 2 lies half in two voxels of the grid, whose nearest is the later one.
        (2.0, [IGNORED, 1, IGNORED, IGNORED]),
        (1.0, [IGNORED, IGNORED, 1, IGNORED, IGNORED, IGNORED, IGNORED, IGNORED]),
        (0.5, [IGNORED] * 4 + [1, 1] + [IGNORED] * 10),
    ],
)
def test_an_annotated_slice_is_not_lost_on_another_grid(
    tmp_path: Path, spacing: float, expected: list[int]
) -> None:
    data = planned(tmp_path, write_cubes(tmp_path / "data", 2))[0].data
    data = replace(data, dimensions=2, spacing=(spacing, 1.0), channels=("0",))
    grid = Geometry.from_spacing((8, 3), (1.0, 1.0), "mm")
    labels = np.full((8, 3), UNKNOWN)
    labels[3 if spacing == 2 else 2] = 1
    truth = prepare_truth(Mask(labels, grid), data, place(grid, data))
    assert [row.tolist() for row in truth] == [[value] * 3 for value in expected]


def test_between_two_known_classes_the_larger_share_decides_what_is_known(tmp_path: Path) -> None:
    """1 1 0 ? at twice the distance: a voxel of class 1, then one whose nearest is unknown."""
    data = planned(tmp_path, write_cubes(tmp_path / "data", 2))[0].data
    data = replace(data, dimensions=2, spacing=(0.5, 1.0), channels=("0",))
    grid = Geometry.from_spacing((4, 1), (1.0, 1.0), "mm")
    labels = np.array([[1], [1], [0], [UNKNOWN]])
    truth = prepare_truth(Mask(labels, grid), data, place(grid, data))
    assert truth[:, 0].tolist() == [1, 1, 1, 1, 0, 0, IGNORED, IGNORED]


# --- what is learned from ----------------------------------------------------------------------


@pytest.mark.parametrize("annotate", [slices, scribbles])
def test_known_voxels_are_listed_where_some_are_unknown(tmp_path: Path, annotate: Annotate) -> None:
    for case in prepared(tmp_path, annotate)[1]:
        places, labels = case.locations, np.asarray(case.labels)
        assert set(places[:, 0]) == {0, 1}
        for index, wanted in ((0, labels != IGNORED), (1, labels == 1)):
            listed = places[places[:, 0] == index, 1:]
            np.testing.assert_array_equal(listed, np.argwhere(wanted))


def test_but_only_there(tmp_path: Path) -> None:
    for case in prepared(tmp_path, whole)[1]:
        assert set(case.locations[:, 0]) == {1}


@pytest.mark.parametrize("annotate", [slices, scribbles])
@pytest.mark.parametrize("size", [1, 3])
def test_every_patch_holds_a_known_voxel(tmp_path: Path, annotate: Annotate, size: int) -> None:
    plan, cases = prepared(tmp_path, annotate, patch__size=(8, 8, 8))
    plan = replace(plan, patch=replace(plan.patch, size=(size,) * 3, batch=6))
    batches = Batches(cases, plan, 10**9)
    truths = torch.cat([batches.make(step)[1] for step in range(30)])
    assert (truths != IGNORED).flatten(1).any(1).all()
    # Patches anywhere would often hold none: that these do is no chance.
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 20 - size, (200, 3))
    labels = np.asarray(cases[0].labels)
    anywhere = [
        (labels[tuple(slice(a, a + size) for a in start)] != IGNORED).any() for start in starts
    ]
    assert np.mean(anywhere) < 0.9


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_every_place_of_a_patch_is_judged_at_times(tmp_path: Path, share: float) -> None:
    """With the annotated slice always in the middle, most places would never be."""
    plan, cases = prepared(tmp_path, slices, training__foreground_share=share)
    plan = replace(plan, patch=replace(plan.patch, size=(16, 16, 16), batch=4))
    batches = Batches(cases, plan, 10**9)
    truths = torch.cat([batches.make(step)[1] for step in range(40)])
    judged = (truths != IGNORED).all(1).all(1)
    # One slice in four, wherever the patch begins; 0.25 in the mean.
    assert judged.float().mean(0).min() > 0.1
    assert judged.float().mean(0).max() < 0.5
    assert float(judged.float().mean()) == pytest.approx(0.25, abs=0.01)


def test_the_share_of_foreground_is_forced_in_scribbles_too(tmp_path: Path) -> None:
    plan, cases = prepared(tmp_path, scribbles, training__foreground_share=0.5)
    plan = replace(plan, patch=replace(plan.patch, size=(1, 1, 1), batch=4))
    batches = Batches(cases, plan, 10**9)
    truths = torch.stack([batches.make(step)[1].flatten() for step in range(60)])
    assert (truths[:, 2:] == 1).all()
    # The others are any known voxel: most of them background, as most scribbles are.
    assert 0.1 < (truths[:, :2] == 1).float().mean() < 0.6


def test_a_case_without_a_known_voxel_costs_a_patch_and_no_more(tmp_path: Path) -> None:
    data = write_balls(tmp_path / "data", slices, count=2)
    # One of four cases validates, so that at least one of these is learned from.
    for name in ("none", "nothing"):
        image, labels = ball(9, 20)
        write_volume(data / "images" / f"{name}.nii.gz", image)
        write_volume(data / "labels" / f"{name}.nii.gz", np.full_like(labels, UNKNOWN))
    settings = {"data.ignore_value": UNKNOWN, "patch.size": (8, 8, 8)}
    outcome = train(request(data, tmp_path / "run", settings))
    assert outcome.finished
    assert all(torch.isfinite(t).all() for t in weights(outcome.run))


def weights(run: Path) -> Sequence[torch.Tensor]:
    return list(checkpoint.load(run).network.state_dict().values())


def test_a_case_that_nobody_annotated_has_no_score(tmp_path: Path) -> None:
    """The other case is judged by its annotated slices alone."""
    data = write_balls(tmp_path / "data", slices, count=2)
    write_volume(data / "labels" / "case_1.nii.gz", np.full((20,) * 3, UNKNOWN, np.uint8))
    plan, found = planned(tmp_path, data)
    torch.manual_seed(0)
    task = make_task(plan)
    segmenter = Segmenter(checkpoint.build(plan), plan, task, torch.device("cpu"), "float32")
    result = validate(segmenter, found.cases, ignore_event)
    assert np.isnan(result.cases[1]).all()
    scan = load_scan(found.cases[0])
    outputs = scan_outputs(segmenter, prepare(scan, plan.data))
    predicted = task.decode(outputs, scan.geometry).array == 1
    truth = np.asarray(nib.load(data / "labels" / "case_0.nii.gz").dataobj)
    known = truth != UNKNOWN
    both = (predicted & (truth == 1))[known].sum()
    expected = 2 * both / ((predicted & known).sum() + (truth == 1).sum())
    assert result.cases[0] == pytest.approx((expected,))
    assert result.values == pytest.approx((expected,))
    everywhere = 2 * both / (predicted.sum() + (truth == 1).sum())
    assert result.cases[0] != pytest.approx((everywhere,), rel=0.1)


# --- what is learned ---------------------------------------------------------------------------


def learned(folder: Path, annotate: Annotate, *, ignore: bool) -> float:
    """Mean Dice against the full truth of six unseen balls."""
    settings: dict[str, Any] = {
        "training.steps_per_epoch": 120,
        "training.learning_rate": 0.01,
        "training.average_decay": 0.9,
        "training.augment.spatial_probability": 0.0,
        "training.augment.intensity_probability": 0.0,
        "patch.size": (16, 16, 16),
    }
    if ignore:
        settings["data.ignore_value"] = UNKNOWN
    data = write_balls(folder / "data", annotate, count=10)
    predictor = Predictor(train(request(data, folder / "run", settings)).run, device="cpu")
    scores = []
    for seed in range(100, 106):
        image, labels = ball(seed, 20)
        mask = predictor(write_volume(folder / "scan.nii.gz", image)).array
        scores.append(2 * (mask & labels).sum() / (mask.sum() + labels.sum()))
    return float(np.mean(scores))


@pytest.mark.slow
def test_slices_and_scribbles_teach_nearly_as_much_as_the_whole(tmp_path: Path) -> None:
    """Same scans, same steps; a quarter, and a fiftieth, of the voxels annotated."""
    of_whole = learned(tmp_path / "whole", whole, ignore=False)
    assert of_whole > 0.9
    assert learned(tmp_path / "slices", slices, ignore=True) > of_whole - 0.04
    assert learned(tmp_path / "scribbles", scribbles, ignore=True) > of_whole - 0.12
    # The same annotations with the rest taken for background.
    mistaken = learned(tmp_path / "slices as background", as_background(slices), ignore=False)
    assert mistaken < of_whole - 0.06
    mistaken = learned(tmp_path / "lines as background", as_background(scribbles), ignore=False)
    assert mistaken < 0.6
