"""Prepared cases on disk: used again when nothing changed, and never when something did."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cubes import request, write_cubes

from unetseg.config import Plan
from unetseg.errors import DataError
from unetseg.pipeline.cache import CachedCase, prepare_cases
from unetseg.records import Case, Event, Note, ignore_event
from unetseg.training import plan_for


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_cubes(tmp_path / "data", 2)


@pytest.fixture
def found(data: Path, tmp_path: Path) -> tuple[Plan, tuple[Case, ...]]:
    plan, inspection = plan_for(request(data, tmp_path / "run"))
    return plan, inspection.cases


def prepare_all(plan: Plan, cases: tuple[Case, ...], folder: Path) -> tuple[CachedCase, ...]:
    return prepare_cases(cases, plan, folder, cores=2, skip_bad=False, listener=ignore_event)


def stamps(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_kept_are_the_arrays_of_the_case(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path
) -> None:
    plan, cases = found
    first = prepare_all(plan, cases, tmp_path / "cache")[0]
    raw = np.asarray(nib.load(cases[0].images[0]).dataobj, dtype=np.float64)
    truth = np.asarray(nib.load(cases[0].truth).dataobj)
    assert plan.data.normalisation == "zscore"
    np.testing.assert_allclose(first.image[0], (raw - raw.mean()) / raw.std(), atol=1e-4)
    np.testing.assert_array_equal(first.labels, truth)
    assert first.image.dtype == np.float32
    assert first.labels.dtype == np.int16
    voxels = np.argwhere(truth == 1)
    np.testing.assert_array_equal(first.locations[:, 1:], voxels)
    assert set(first.locations[:, 0].tolist()) == {1}


def test_a_second_time_nothing_is_written(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    one = prepare_all(*found, folder)
    before = stamps(folder)
    assert len(before) == 2 * 3
    two = prepare_all(*found, folder)
    assert stamps(folder) == before
    assert [case.folder for case in one] == [case.folder for case in two]


def test_another_plan_of_the_training_uses_the_same_entry(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path
) -> None:
    plan, cases = found
    prepare_all(plan, cases, tmp_path / "cache")
    before = stamps(tmp_path / "cache")
    prepare_all(replace(plan, patch=replace(plan.patch, batch=7)), cases, tmp_path / "cache")
    assert stamps(tmp_path / "cache") == before


@pytest.mark.parametrize(
    "change", [{"normalisation": "percentile"}, {"spacing": (2.0, 2.0, 2.0)}, {"ignore_value": 1}]
)
def test_another_plan_of_the_data_gives_a_new_entry(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path, change: dict[str, object]
) -> None:
    plan, cases = found
    one = prepare_all(plan, cases, tmp_path / "cache")
    other = prepare_all(replace(plan, data=replace(plan.data, **change)), cases, tmp_path / "cache")
    assert not {case.folder for case in one} & {case.folder for case in other}
    arrays = [
        np.concatenate([case.image.ravel(), case.labels.ravel()]) for case in (one[0], other[0])
    ]
    assert not np.array_equal(*arrays)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_changed_file_gives_a_new_entry(
    data: Path, found: tuple[Plan, tuple[Case, ...]], tmp_path: Path, part: str
) -> None:
    plan, cases = found
    one = prepare_all(plan, cases, tmp_path / "cache")
    path = data / part / "case_0.nii.gz"
    stat = path.stat()
    picture = nib.load(path)
    array = np.asarray(picture.dataobj)[::-1].copy()
    nib.save(nib.Nifti1Image(array, picture.affine, picture.header), path)
    # Even where a copying program set the time back: the change time betrays it.
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    two = prepare_all(plan, cases, tmp_path / "cache")
    assert one[0].folder != two[0].folder
    assert one[1].folder == two[1].folder
    kind = "image" if part == "images" else "labels"
    before, after = getattr(one[0], kind), getattr(two[0], kind)
    turned = before[:, ::-1] if part == "images" else before[::-1]
    np.testing.assert_allclose(turned, after, atol=1e-4)
    assert not np.array_equal(before, after)


def test_half_written_entries_are_hidden_and_never_used(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    expected = [(case.image.copy(), case.labels.copy()) for case in prepare_all(*found, folder)]
    shutil.rmtree(folder)
    good = np.save
    seen: list[Path] = []

    def save(path: Path, array: np.ndarray) -> None:
        seen.append(path)
        good(path, array[..., :3] if path.name == "labels.npy" else array)
        if path.name == "labels.npy":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(DataError, match=r"No space left on device; .*--cache"):
        prepare_all(*found, folder)
    monkeypatch.undo()
    assert seen
    assert all(path.parent.name.startswith(".") for path in seen)
    assert not list(folder.iterdir())
    # What a killed process left behind is in nobody's way either.
    for path in seen:
        path.parent.mkdir(exist_ok=True)
        (path.parent / "image.npy").write_bytes(b"half")
    again = prepare_all(*found, folder)
    for case, (image, labels) in zip(again, expected, strict=True):
        np.testing.assert_array_equal(case.image, image)
        np.testing.assert_array_equal(case.labels, labels)


@pytest.mark.parametrize("lost", ["image.npy", "labels.npy", "locations.npy"])
def test_an_entry_that_lost_a_file_is_made_again(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path, lost: str
) -> None:
    folder = tmp_path / "cache"
    first = prepare_all(*found, folder)
    expected = {path.name: path.read_bytes() for path in first[0].folder.iterdir()}
    (first[0].folder / lost).unlink()
    again = prepare_all(*found, folder)
    assert {path.name: path.read_bytes() for path in again[0].folder.iterdir()} == expected


def test_a_bad_case_is_an_error_or_is_left_out_by_name(
    data: Path, found: tuple[Plan, tuple[Case, ...]], tmp_path: Path
) -> None:
    plan, cases = found
    (data / "images" / "case_1.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"case_1\.nii\.gz: not a NIfTI file"):
        prepare_all(plan, cases, tmp_path / "cache")
    events: list[Event] = []
    kept = prepare_cases(
        cases, plan, tmp_path / "cache", cores=1, skip_bad=True, listener=events.append
    )
    assert [case.case.name for case in kept] == ["case_0"]
    warnings = [event for event in events if isinstance(event, Note)]
    assert [note.level for note in warnings] == ["warning"]
    assert "left out case_1" in warnings[0].text


def test_a_folder_that_cannot_be_made_is_named(
    found: tuple[Plan, tuple[Case, ...]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"file/\w+: a prepared case cannot be written: Not a dir"):
        prepare_all(*found, tmp_path / "file")
