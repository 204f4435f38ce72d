"""What the last validation leaves: masks as predict writes them, and numbers that add up."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cubes import LEARNED, request, write_cubes
from discs import LEARNED as LEARNED_DISCS
from discs import write_discs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_breaking_off import counting, raising
from test_region_runs import LEARNED as LEARNED_REGIONS
from test_region_runs import REGIONS, write_nnunet

from unetseg.config import IGNORED, Plan
from unetseg.config.toml import read_plan
from unetseg.dataset.loading import load_scan, without_voxels
from unetseg.errors import DataError
from unetseg.formats import read_mask
from unetseg.geometry import Geometry
from unetseg.metrics import dice_per_class
from unetseg.objects.codes import Maps, pack
from unetseg.prediction import Predictor
from unetseg.records import Event, Mask, Note
from unetseg.runs import Evidence, cases_of, read_run
from unetseg.runs.evidence import evidence_of, merged, read_evidence
from unetseg.tasks.pieces import Piece
from unetseg.training import evidence as leaving
from unetseg.training import train
from unetseg.training.cross_validation import cross_validate
from unetseg.training.evidence import BINS, Calibration, Gathering
from unetseg.training.scores import TrueObjects, class_table, dice_of, object_table, score_of


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("evidence") / "data")


@pytest.fixture(scope="module")
def semantic(cubes: Path) -> Path:
    return train(request(cubes, cubes.parent / "semantic", LEARNED)).run


@pytest.fixture(scope="module")
def plan(semantic: Path) -> Plan:
    return read_plan(semantic / "plan.toml")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_discs(tmp_path_factory.mktemp("evidence") / "data", classes=True)
    return train(request(data, data.parent / "objects", LEARNED_DISCS)).run


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_nnunet(tmp_path_factory.mktemp("evidence") / "data", tests=0)
    return train(request(data, data.parent / "regions", LEARNED_REGIONS)).run


def found_of(run: Path) -> Evidence:
    evidence = read_run(run).evidence
    assert evidence is not None
    return evidence


# --- the masks ---


@pytest.mark.parametrize("kind", ["semantic", "discs", "regions"])
def test_the_masks_are_those_that_predict_makes(kind: str, request: pytest.FixtureRequest) -> None:
    record = read_run(request.getfixturevalue(kind))
    cases = cases_of(record)
    assert not cases.gone
    assert record.masks.keys() == {case.name for case in cases.cases}
    predictor = Predictor(record.path, device="cpu")
    for case in cases.cases:
        kept = read_mask(record.masks[case.name])
        again = predictor(load_scan(case))
        assert np.array_equal(kept.array, again.array)
        assert kept.array.any()
        assert not kept.geometry.differences(again.geometry)


@pytest.mark.parametrize("kind", ["semantic", "discs", "regions"])
def test_masks_are_read_as_they_were_written(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    record = read_run(request.getfixturevalue(kind))
    data, score = record.plan.data, score_of(record.plan)
    predictor = Predictor(record.path, device="cpu")
    for case in cases_of(record).cases:
        scan = load_scan(case)
        mask, path = predictor(scan), tmp_path / record.masks[case.name].name
        leaving.write_case_mask(mask, path, without_voxels(scan), data)
        again = leaving.read_case_mask(path, without_voxels(scan), data)
        assert np.array_equal(again.array, mask.array)
        assert (again.geometry, again.labels) == (mask.geometry, mask.labels)
        assert again.classes == mask.classes
        assert bool(again.classes) == (kind == "discs")
        assert score.row(case, again, data) == score.row(case, mask, data)


# --- what they show ---


def test_the_confusion_is_that_of_the_masks(semantic: Path) -> None:
    record, table = read_run(semantic), np.zeros((2, 2), int)
    found, cases = found_of(semantic), cases_of(record)
    for case, each in zip(cases.cases, found.cases, strict=True):
        truth, mask = read_mask(case.truth).array, read_mask(record.masks[case.name]).array
        for a in (0, 1):
            for b in (0, 1):
                table[a, b] += np.sum((truth == a) & (mask == b))
        assert each.name == case.name
        assert each.true == (float((truth == 1).sum()),)
        assert each.predicted == (float((mask == 1).sum()),)
        assert each.objects is None
    assert found.confusion == tuple(map(tuple, table.tolist()))
    assert (found.kind, found.classes, found.unit) == ("classes", ("background", "label 1"), "mm^3")
    assert sum(each.count for each in found.calibration) == table.sum()
    right = sum(each.count * each.accuracy for each in found.calibration)
    assert right == pytest.approx(np.trace(table))


def test_of_regions_each_has_a_table_of_its_own(regions: Path) -> None:
    record, found = read_run(regions), found_of(regions)
    assert (found.kind, found.classes) == ("regions", ("whole", "core", "enhancing"))
    assert found.confusion == ()
    tables = np.zeros((3, 2, 2), int)
    for case in cases_of(record).cases:
        truth, mask = read_mask(case.truth).array, read_mask(record.masks[case.name]).array
        for place, region in enumerate(REGIONS):
            # As predicted, 1 is whole but not core, 2 core but not enhancing, 3 enhancing.
            one, other = np.isin(truth, region.values), mask >= place + 1
            tables[place] += [[(~one & ~other).sum(), (~one & other).sum()],
                              [(one & ~other).sum(), (one & other).sum()]]  # fmt: skip
    assert np.array_equal(found.regions, tables)
    # Every region of every voxel is an answer.
    assert sum(each.count for each in found.calibration) == tables.sum()
    assert all(each.low >= 0.5 for each in found.calibration)


def test_of_objects_there_are_counts_merges_and_splits(discs: Path) -> None:
    record, found = read_run(discs), found_of(discs)
    assert (found.kind, found.classes) == ("objects", ("background", "bright", "dark"))
    assert found.unit == "um^2"
    table = np.array(found.confusion)
    assert table.shape == (3, 3)
    assert table[1, 1] > table[1, 2]
    for case, each in zip(cases_of(record).cases, found.cases, strict=True):
        truth, mask = read_mask(case.truth).array, read_mask(record.masks[case.name]).array
        assert each.objects is not None
        assert each.objects.true == len(np.unique(truth)) - 1
        assert each.objects.predicted == len(np.unique(mask)) - 1
        # Half a micrometre a side.
        assert sum(each.true) == pytest.approx((truth > 0).sum() / 4)
        # The table of classes lies beside the mask, as predict leaves it.
        assert (record.path / "validation" / f"{case.name}_objects.csv").is_file()
    assert [each.iou for each in found.objects] == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert record.facts is not None
    for each, (_, ap) in zip(found.objects, record.facts.values, strict=True):
        assert each.tp / (each.tp + each.fp + each.fn) == pytest.approx(ap, abs=1e-6)


# --- the sums ---


@given(
    arrays.arrays(np.float32, 200, elements=st.floats(0, 1, width=32)),
    arrays.arrays(np.bool_, 200),
)
@settings(deadline=None, max_examples=30)
def test_a_calibration_counts_every_voxel_once(
    probability: np.ndarray, is_true: np.ndarray
) -> None:
    parts = Calibration()
    for part in (slice(0, 77), slice(77, 200)):
        parts.add(probability[part], is_true[part])
    by_hand: dict[int, list[tuple[float, bool]]] = {}
    for value, true in zip(probability.tolist(), is_true.tolist(), strict=True):
        place = min(int(np.float32(value) * BINS), BINS - 1)
        by_hand.setdefault(place, []).append((value, true))
    bins = parts.bins()
    assert [round(each.low * BINS) for each in bins] == sorted(by_hand)
    for each, voxels in zip(bins, (by_hand[place] for place in sorted(by_hand)), strict=True):
        assert each.count == len(voxels)
        assert each.confidence == pytest.approx(sum(value for value, _ in voxels) / len(voxels))
        assert each.accuracy == pytest.approx(sum(true for _, true in voxels) / len(voxels))


def test_what_is_not_known_counts_nowhere(plan: Plan) -> None:
    truth = np.array([[0, 1, IGNORED, 1]], np.int16)
    gathering = Gathering(plan)
    probabilities = np.array([[[0.9, 0.6, 0.99, 0.7]]], np.float32)
    indices = np.array([[0, 1, 1, 0]], np.uint8)
    box = (slice(0, 1), slice(0, 4))
    list(gathering.watched([Piece(box, indices, probabilities)], truth))
    bins = gathering.calibration.bins()
    assert [(round(b.confidence, 3), b.count, b.accuracy) for b in bins] == [
        (0.6, 1, 1.0),
        (0.7, 1, 0.0),
        (0.9, 1, 1.0),
    ]
    mask = Mask(indices.astype(np.uint8), Geometry.from_spacing((1, 4), (1, 1), "px"))
    assert class_table(truth, mask, plan.data).tolist() == [[1, 0], [1, 1]]


CLASSES = st.integers(-1, 3)


@given(
    arrays.arrays(np.int16, 60, elements=CLASSES),
    arrays.arrays(np.uint8, 60, elements=st.integers(0, 3)),
)
@settings(deadline=None, max_examples=50)
def test_dice_follows_from_the_table(truth: np.ndarray, predicted: np.ndarray) -> None:
    table = np.zeros((4, 4), np.int64)
    for true, own in zip(truth.tolist(), predicted.tolist(), strict=True):
        if true != IGNORED:
            table[true, own] += 1
    known = truth != IGNORED
    members = ((1,), (2, 3), (3,))
    expected = dice_per_class(truth[known], predicted[known], members)
    assert np.array_equal(dice_of(table, members), expected, equal_nan=True)


def test_objects_count_by_their_class(plan: Plan) -> None:
    ids = np.array([[5, 5, 9, 0, 7]])
    truth = TrueObjects(ids, ids == 7, {5: 1, 9: 2, 7: 1})
    geometry = Geometry.from_spacing((1, 5), (1, 1), "px")
    mask = Mask(np.array([[1, 1, 1, 2, 2]], np.uint8), geometry, classes=(1, 2))
    assert object_table(truth, mask, 3).tolist() == [[0, 0, 1], [0, 2, 0], [0, 1, 0]]
    assert object_table(truth, mask, 2).tolist() == [[0, 1], [0, 3]]
    gathering = Gathering(plan)
    share = np.array([[0.9, 0.5, 1.0, 0.2, 0.7]], np.float32)
    codes = pack(Maps(np.ones_like(ids, np.uint8), share, share, share))
    gathering.watch_codes(codes, truth)
    bins = gathering.calibration.bins()
    assert [b.count for b in bins] == [1, 1, 1, 1]
    assert [b.accuracy for b in bins] == [0.0, 1.0, 1.0, 1.0]
    assert [b.confidence for b in bins] == pytest.approx([0.2, 0.5, 0.9, 1.0], abs=0.01)


# --- nothing stale, nothing half ---


def test_evidence_of_another_model_is_not_shown(semantic: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(semantic, tmp_path / "run"))
    assert read_evidence(run) == found_of(semantic)
    path = run / "model" / "model.json"
    path.write_text(path.read_text().replace('"step"', '"step" '))
    assert read_evidence(run) is None
    assert read_run(run).masks == {}


def test_a_better_model_takes_the_old_evidence_away(
    cubes: Path, semantic: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(semantic, tmp_path / "run"))
    (run / "validation" / "of_before_seg.nii.gz").touch()
    (run / ".validation-last").mkdir()
    there: list[tuple[bool, bool]] = []

    def look(event: Event) -> None:
        there.append((read_run(run).validation is None, (run / "validation").exists()))

    longer = LEARNED | {"training.epochs": 8}
    train(request(cubes, run, longer, cache=cubes.parent / "cache"), look)
    # Either all of it belongs to the model that is there, or nothing is left of it.
    assert set(there) <= {(True, False), (False, True)}
    assert {path.name for path in run.iterdir() if path.name.startswith(".")} == set()
    assert sorted(path.name for path in (run / "validation").iterdir()) == [
        "case_0_seg.nii.gz",
        "case_3_seg.nii.gz",
    ]
    record = read_run(run)
    assert record.facts is not None
    assert record.evidence is not None
    table = np.array(record.evidence.confusion)
    assert table.sum() == 2 * 16**3
    assert record.evidence != found_of(semantic)


def test_a_stopped_training_leaves_it_too(cubes: Path, tmp_path: Path) -> None:
    asked = iter([False] * 7)
    outcome = train(
        request(cubes, tmp_path / "run", LEARNED, cache=cubes.parent / "cache"),
        should_stop=lambda: next(asked, True),
    )
    record = read_run(outcome.run)
    assert record.state == "stopped"
    assert record.evidence is not None
    assert len(record.masks) == 2


def test_masks_that_cannot_be_written_do_not_cost_the_training(
    cubes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = raising(DataError("cannot be written: No space left on device"))
    writes: Callable[..., Any] = counting(2, leaving.write_case_mask, full)
    monkeypatch.setattr(leaving, "write_case_mask", writes)
    told: list[Event] = []
    run = train(request(cubes, tmp_path / "run", cache=cubes.parent / "cache"), told.append).run
    notes = [event.text for event in told if isinstance(event, Note) and event.level == "warning"]
    assert notes == [
        "1 of 2 masks of the validation were not kept: cannot be written: No space left on device"
    ]
    record = read_run(run)
    assert record.state == "finished"
    assert list(record.masks) == ["case_0"]
    assert [case.mask for case in found_of(run).cases] == ["validation/case_0_seg.nii.gz", ""]


def test_a_damaged_file_is_one_line(semantic: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(semantic, tmp_path / "run"))
    for text in (
        "{",
        '{"schema": 1}',
        json.dumps(json.loads((run / "validation.json").read_text()) | {"cases": 3}),
    ):
        (run / "validation.json").write_text(text)
        with pytest.raises(DataError, match=r"validation\.json: not the evidence of a validation"):
            read_run(run)
    (run / "validation.json").unlink()
    assert read_run(run).evidence is None


# --- all folds ---


def test_all_folds_together(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 5)
    quick = {"training.folds": 2, "training.epochs": 1}
    run = cross_validate(request(data, tmp_path / "run", quick)).run
    record = read_run(run)
    assert record.is_of_folds
    assert record.state == "finished"
    assert [fold.plan.training.fold for fold in record.folds] == [0, 1]
    assert record.validation is not None
    assert record.evidence is not None
    names = [f"case_{number}" for number in range(5)]
    assert [case.name for case in record.evidence.cases] == names
    assert list(record.validation.names) == names
    assert sorted(record.validation.folds) == [0, 0, 0, 1, 1]
    assert [record.masks[name] for name in names] == [
        run / "out_of_fold" / f"{name}_seg.nii.gz" for name in names
    ]
    parts = [fold.evidence for fold in record.folds]
    assert all(part is not None for part in parts)
    whole = sum(np.array(part.confusion) for part in parts if part is not None)
    assert np.array_equal(record.evidence.confusion, whole)
    assert np.sum(whole) == 5 * 16**3
    # Folds that are done are read back, with what they show.
    (run / "validation.json").unlink()
    again = cross_validate(request(data, run, quick, cache=tmp_path / "cache")).run
    assert read_run(again).evidence == record.evidence


def test_merging_is_adding(semantic: Path, regions: Path, discs: Path) -> None:
    for run in (semantic, regions, discs):
        one = found_of(run)
        both = merged([one, one])
        assert both.cases == one.cases * 2
        assert np.array_equal(both.confusion, 2 * np.array(one.confusion, int))
        assert np.array_equal(both.regions, 2 * np.array(one.regions, int))
        for double, single in zip(both.calibration, one.calibration, strict=True):
            assert double.count == 2 * single.count
            assert double.accuracy == pytest.approx(single.accuracy)
            assert double.confidence == pytest.approx(single.confidence)
        assert [each.tp for each in both.objects] == [2 * each.tp for each in one.objects]
        reverse = [case.name for case in one.cases][::-1]
        assert [case.name for case in merged([one], reverse).cases] == reverse
        assert evidence_of(asdict(one)) == one
    bins = found_of(semantic).calibration
    first = replace(found_of(semantic), calibration=bins[:1])
    rest = replace(found_of(semantic), calibration=bins[1:])
    assert merged([rest, first]).calibration == bins
    assert not any(math.isnan(each.accuracy) for each in bins)
