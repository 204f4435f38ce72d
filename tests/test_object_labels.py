"""From ids in a mask file to what training reads: distances, classes, cache, padding, planning."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cubes import request, write_squares, write_tiff
from discs import discs, of_case, write_discs

from unetseg.config import IGNORED, Plan
from unetseg.console import describe_fingerprint
from unetseg.dataset.object_classes import class_table, object_classes
from unetseg.errors import DataError, UsageError
from unetseg.geometry import Geometry
from unetseg.objects.codes import SCALE
from unetseg.objects.distances import object_distances
from unetseg.pipeline import place, prepare_truth
from unetseg.pipeline.cache import CachedCase, prepare_cases
from unetseg.pipeline.objects import BORDER, CORE, class_of_ids, nearest
from unetseg.planning.fingerprint import Inspection
from unetseg.planning.objects import object_sizes
from unetseg.records import Case, Mask, ignore_event
from unetseg.training import plan_for
from unetseg.training.batches import Batches


def planned(data: Path, **settings: Any) -> tuple[Plan, Inspection]:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return plan_for(request(data, data.parent / "run", named))


def cached(plan: Plan, found: Inspection, folder: Path) -> tuple[CachedCase, ...]:
    return prepare_cases(found.cases, plan, folder, cores=1, skip_bad=False, listener=ignore_event)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs") / "data")


@pytest.fixture(scope="module")
def found(data: Path) -> tuple[Plan, Inspection]:
    return planned(data)


# --- the plan ----------------------------------------------------------------------------------


def test_masks_of_objects_are_learned_as_instances(found: tuple[Plan, Inspection]) -> None:
    plan, inspection = found
    assert plan.data.task == "instances"
    assert plan.data.class_names == ("background", "object")
    assert (plan.data.class_values, plan.data.merge_labels) == ((0, 1), False)
    assert "the ids differ from image to image" in plan.reasons["data.task"]
    assert "10 in an image, diameter 5.08" in plan.reasons["data.task"]
    assert "seed_depth" in plan.reasons["decode.min_size"]
    assert "10 in an image, diameter 5.08" in describe_fingerprint(inspection.fingerprint)
    assert plan.training.distance_weight == 3.0


@pytest.mark.parametrize(
    "asked", [{"data__task": "semantic"}, {"data__merge_labels": True}], ids=["task", "merged"]
)
def test_who_asks_for_one_class_gets_it_as_before(data: Path, asked: dict[str, Any]) -> None:
    plan, _ = planned(data, **asked)
    assert (plan.data.task, plan.data.merge_labels) == ("semantic", True)
    assert plan.data.class_names == ("background", "foreground")
    assert plan.training.distance_weight is None
    assert "--folds finds out what helps" in plan.reasons["decode.min_size"]


def test_values_that_are_named_by_hand_are_classes(data: Path) -> None:
    plan, _ = planned(
        data, data__class_values=(0, 1, 2), data__class_names=("background", "a", "b")
    )
    assert (plan.data.task, plan.data.merge_labels) == ("semantic", True)


def test_masks_of_one_value_keep_no_objects_apart(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    assert planned(data)[0].data.task == "semantic"
    with pytest.raises(UsageError, match=r"nothing keeps objects apart.*--task semantic"):
        planned(data, data__task="instances")


def test_sizes_are_those_of_discs_and_balls() -> None:
    flat = object_sizes([[(0, 9), (1, 314), (2, 314)], [(0, 5)], [(7, 1256)]], [(0.5, 0.5)] * 3)
    assert flat is not None
    assert flat.per_image == 1
    assert flat.diameter == pytest.approx(10.0, rel=0.01)
    assert 10 < flat.high < 20
    assert flat.facts("um")["unit"] == "um"
    ball = object_sizes([[(1, 4189)]], [(1.0, 1.0, 1.0)])
    assert ball is not None
    assert ball.diameter == pytest.approx(20.0, rel=0.01)
    assert object_sizes([[(0, 9)]], [(1.0, 1.0)]) is None


# --- labels ------------------------------------------------------------------------------------


def test_the_cache_holds_classes_and_distances(
    found: tuple[Plan, Inspection], tmp_path: Path
) -> None:
    plan, inspection = found
    for case, kept in enumerate(cached(plan, inspection, tmp_path)):
        ids = of_case(case)[1]
        assert kept.labels.shape == (3, 72, 72)
        assert kept.labels.dtype == np.int16
        assert kept.shape == (72, 72)
        np.testing.assert_array_equal(kept.labels[0], ids > 0)
        expected = object_distances(ids, (0.5, 0.5))
        np.testing.assert_allclose(kept.labels[1:] / SCALE, expected, atol=0.51 / SCALE)
        np.testing.assert_array_equal(kept.locations[:, 1:], np.argwhere(ids > 0))


def test_other_tasks_have_other_entries(data: Path, tmp_path: Path) -> None:
    folders = set()
    for task in ("instances", "borders", "semantic"):
        plan, inspection = planned(data, data__task=task)
        folders.update(kept.folder for kept in cached(plan, inspection, tmp_path))
        classes = np.unique(cached(plan, inspection, tmp_path)[0].labels)
        assert (classes.max() > BORDER) == (task != "semantic")
    assert len(folders) == 3 * 6


def on_grid(plan: Plan, array: np.ndarray, **more: Any) -> np.ndarray:
    mask = Mask(array, Geometry(array.shape, np.eye(3), "um"))
    data = replace(plan.data, **more)
    return prepare_truth(mask, data, place(mask.geometry, data)).numpy()


def test_ids_are_resampled_before_distances_are_taken(found: tuple[Plan, Inspection]) -> None:
    # Numbers that single precision could not keep apart.
    ids = discs(0)[1].astype(np.uint32)
    ids[ids > 0] += 2**25
    labels = on_grid(found[0], ids, spacing=(2.0, 0.5))
    near = np.repeat(ids[1::2], 2, axis=1)
    np.testing.assert_array_equal(labels[0], near > 0)
    expected = object_distances(near, (2.0, 0.5))
    np.testing.assert_allclose(labels[1:] / SCALE, expected, atol=0.51 / SCALE)
    apart = object_distances(np.where(near > 0, 1, 0), (2.0, 0.5))
    assert np.abs(labels[1:] / SCALE - apart).max() > 0.2


@pytest.mark.parametrize(("before", "after"), [(5, 5), (4, 8), (9, 3), (7, 5)])
def test_the_nearest_voxel(before: int, after: int) -> None:
    (index,) = nearest((before,), (after,))
    centres = (np.arange(after) + 0.5) * before / after - 0.5
    assert (np.abs(index - centres) <= 0.5 + 1e-9).all()


def test_what_is_ignored_belongs_to_no_object(found: tuple[Plan, Inspection]) -> None:
    ids = np.zeros((6, 9), np.uint8)
    ids[1:5, 1:8] = 3
    ids[:, 4] = 255
    labels = on_grid(found[0], ids, ignore_value=255)
    assert (labels[0][:, 4] == IGNORED).all()
    assert not labels[1:, :, 4].any()
    assert set(np.unique(labels[0])) == {IGNORED, 0, 1}
    without = on_grid(found[0], ids)
    assert (without[0][:, 4] == 1).all()


def test_borders_are_classes_of_their_own(found: tuple[Plan, Inspection]) -> None:
    ids = discs(0)[1]
    ids[0, :3] = 255
    labels = on_grid(found[0], ids, task="borders", ignore_value=255)
    assert set(np.unique(labels[0])) == {IGNORED, 0, CORE, BORDER}
    np.testing.assert_array_equal(labels[0] > 0, (ids > 0) & (ids < 255))


def test_patches_beyond_the_image_are_not_known(
    found: tuple[Plan, Inspection], tmp_path: Path
) -> None:
    plan, inspection = found
    cases = cached(plan, inspection, tmp_path)
    larger = replace(plan, patch=replace(plan.patch, size=(80, 40)))
    for memory in (1 << 30, 0):
        batches = Batches(cases, larger, memory)
        assert batches.home == ("memory" if memory else "disk")
        labels = batches.make(0)[1].numpy()
        assert labels.shape == (2, 3, 80, 40)
        outside = labels[:, 0] == IGNORED
        assert outside.sum() == 2 * 8 * 40
        assert not labels[:, 1:][np.repeat(outside[:, None], 2, axis=1)].any()
        assert labels[:, 1:].max() > SCALE // 2


# --- classes of objects ------------------------------------------------------------------------


@pytest.fixture
def classed(tmp_path: Path) -> Path:
    return write_discs(tmp_path / "data", classes=True)


def test_a_table_beside_the_mask_names_classes(classed: Path, tmp_path: Path) -> None:
    plan, inspection = planned(classed)
    assert len(inspection.cases) == 6
    assert not [f for f in inspection.findings if f.severity != "note"]
    assert plan.data.class_names == ("background", "bright", "dark")
    assert plan.data.class_values == (0, 1, 2)
    kept = cached(plan, inspection, tmp_path)[0]
    ids = of_case(0)[1]
    expected = np.where(ids % 2 == 0, 2, 1) * (ids > 0)
    np.testing.assert_array_equal(kept.labels[0], expected)
    assert set(kept.locations[:, 0].tolist()) == {1, 2}
    assert planned(classed, data__task="borders")[0].data.class_names == ("background", "object")


def test_another_table_is_another_entry(classed: Path, tmp_path: Path) -> None:
    plan, inspection = planned(classed)
    before = cached(plan, inspection, tmp_path)[0]
    table = class_table(inspection.cases[0].truth)
    assert table.name == "cell_0_objects.csv"
    table.write_text(table.read_text().replace("1,bright", "1,dark"))
    os.utime(table)
    after = cached(plan, inspection, tmp_path)[0]
    assert after.folder != before.folder
    assert (after.labels[0] != before.labels[0]).any()


def test_class_of_ids_by_hand() -> None:
    ids = np.array([[0, 5], [70000, 9]])
    found = class_of_ids(ids, {5: "b", 70000: "a"}, ("background", "a", "b"))
    np.testing.assert_array_equal(found, [[0, 2], [1, 0]])


def drop_last(text: str) -> str:
    return "\n".join(text.splitlines()[:-1])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace("id,class", "id,kind"), "not a table of the classes of objects"),
        (lambda text: "", "not a table of the classes of objects"),
        (lambda text: text.replace("1,", "one,", 1), "row 2: the id is no whole number above 0"),
        (lambda text: text + "1,dark\n", "row 10: the object 1 has two classes"),
        (drop_last, "1 object without a class: 8"),
    ],
    ids=["columns", "empty", "no number", "twice", "missing"],
)
def test_tables_that_do_not_fit(classed: Path, change: Callable[[str], str], match: str) -> None:
    table = classed / "labels" / "cell_0_objects.csv"
    table.write_text(change(table.read_text()))
    _, inspection = planned(classed)
    errors = [finding for finding in inspection.findings if finding.severity == "error"]
    assert len(errors) == 1
    assert match in f"{errors[0].where}: {errors[0].sentence}"


def test_masks_with_and_without_a_table_do_not_go_together(classed: Path) -> None:
    (classed / "labels" / "cell_3_objects.csv").unlink()
    _, inspection = planned(classed)
    assert "1 mask without a table of classes: cell_3" in "".join(
        finding.sentence for finding in inspection.findings if finding.severity == "error"
    )


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    write_tiff(tmp_path / "cell.tif", np.zeros((4, 4), np.uint8))
    case = Case("cell", (tmp_path / "image.tif",), tmp_path / "cell.tif")
    assert object_classes(case.truth) is None
    (tmp_path / "cell_objects.csv").write_bytes(b"id,class\n1,\xff\xfe\n")
    with pytest.raises(DataError, match="not in UTF-8"):
        object_classes(case.truth)
