"""All folds in one run folder: every case scored once, nothing done twice, nothing lost."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from cubes import request, write_cubes
from safetensors.torch import load_file
from whole import scan_outputs

from unetseg import checkpoint
from unetseg.config.toml import read_plan
from unetseg.dataset.folds import Fold, write_folds
from unetseg.dataset.loading import load_scan
from unetseg.errors import DataError, ModelError, UsageError
from unetseg.evaluation import evaluate
from unetseg.prediction import Predictor, predict
from unetseg.prediction import Request as PredictRequest
from unetseg.records import Advance, Case, Event, Note, Stage
from unetseg.runs.evidence import read_evidence
from unetseg.tasks.cleaning import Cleaning, cleanings
from unetseg.training import Request, plan_for, train
from unetseg.training.cross_validation import CrossValidation, cross_validate

LEARNED = {
    "training.folds": 2,
    "training.epochs": 2,
    "training.steps_per_epoch": 6,
    "training.learning_rate": 0.02,
    "training.average_decay": 0.9,
    "training.augment.spatial_probability": 0.0,
}
QUICK = {"training.folds": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("folds") / "data", 5)


@pytest.fixture(scope="module")
def outcome(data: Path) -> CrossValidation:
    """Two folds of five cases."""
    return cross_validate(request(data, data.parent / "run", LEARNED))


@pytest.fixture
def run(outcome: CrossValidation, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(outcome.run, tmp_path / "run"))


def again(data: Path, run: Path, settings: dict[str, Any] | None = None) -> Request:
    return request(data, run, settings or LEARNED, cache=data.parent / "cache")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same(one: Path, other: Path) -> bool:
    mine, theirs = load_file(one), load_file(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def stages(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, Stage)]

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Note))


# --- what it leaves ---


def test_the_folder_of_all_folds(outcome: CrossValidation) -> None:
    run = outcome.run
    assert {path.name for path in run.iterdir()} == {
        "plan.toml",
        "run.json",
        "folds.json",
        "log.txt",
        "fold_0",
        "fold_1",
        "out_of_fold",
        "out_of_fold.csv",
        "validation.json",
        "model",
    }
    for fold in (0, 1):
        own = run / f"fold_{fold}"
        assert (own / "folds.json").read_text() == (run / "folds.json").read_text()
        assert read_plan(own / "plan.toml").training.fold == fold
        assert (own / "resume" / "state.safetensors").is_file()
        assert checkpoint.read_facts(own)["finished"] is True
    assert {path.name for path in (run / "model").iterdir()} == {
        "model.json",
        "fold_0.safetensors",
        "fold_1.safetensors",
    }
    assert "finished 2 folds" in (run / "log.txt").read_text()


def test_every_case_is_scored_once_by_a_network_that_has_not_seen_it(
    outcome: CrossValidation,
) -> None:
    table = rows(outcome.run / "out_of_fold.csv")
    assert sorted(row["case"] for row in table) == [f"case_{n}" for n in range(5)]
    folds = json.loads((outcome.run / "folds.json").read_text())
    for row in table:
        fold = folds[int(row["fold"])]
        assert row["case"] in fold["val"]
        assert row["case"] not in fold["train"]
        # The number that the fold's own validation has found.
        own = rows(outcome.run / f"fold_{row['fold']}" / "validation.csv")
        (score,) = (each["dice label 1"] for each in own if each["case"] == row["case"])
        assert row["dice label 1"] == score
    assert outcome.found is not None
    assert len(outcome.found.of_fold(0).names) + len(outcome.found.of_fold(1).names) == 5


def test_the_masks_are_what_was_scored(data: Path, outcome: CrossValidation) -> None:
    found = evaluate(data / "labels", outcome.run / "out_of_fold")
    by_case = {score.case: score["dice"] for score in found.scores}
    table = rows(outcome.run / "out_of_fold.csv")
    assert {row["case"]: pytest.approx(by_case[row["case"]], abs=1e-6) for row in table} == {
        row["case"]: float(row["dice label 1"]) for row in table
    }
    assert outcome.found is not None
    values = [float(row["dice label 1"]) for row in table]
    spread = outcome.found.scores.spread(0)
    assert spread.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert spread.sd == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert spread.defined == 5


def test_the_model_holds_the_networks_of_all_folds(outcome: CrossValidation) -> None:
    run = outcome.run
    for fold in (0, 1):
        kept = run / f"fold_{fold}" / "model" / "weights.safetensors"
        assert same(run / "model" / f"fold_{fold}.safetensors", kept)
        assert not same(run / "model" / f"fold_{1 - fold}.safetensors", kept)
    trained = checkpoint.load(run)
    assert trained.folds == (0, 1)
    assert trained.facts["folds"] == [0, 1]
    assert trained.facts["finished"] is True
    assert trained.facts["cases"] == 5
    mean = np.mean([float(row["dice label 1"]) for row in rows(run / "out_of_fold.csv")])
    assert trained.facts["mean_dice"] == pytest.approx(mean, abs=1e-5)
    assert trained.facts["cleaning"] == [decision.sentence() for decision in outcome.decisions]
    assert checkpoint.newest_run(run.parent) == run


# --- nothing is done twice ---


def test_what_is_finished_is_left_as_it_is(data: Path, run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.glob("fold_*/**/*") if path.is_file()}
    heard = Heard()
    outcome = cross_validate(again(data, run), heard)
    assert outcome.finished
    assert heard.stages == ["inspecting", "comparing components", "comparing holes"]
    assert "fold 0 is done" in heard.notes
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_mask_that_was_lost_is_made_again_without_training(data: Path, run: Path) -> None:
    (case,) = (row["case"] for row in rows(run / "out_of_fold.csv")[:1])
    path = run / "out_of_fold" / f"{case}_seg.nii.gz"
    before = np.asarray(nib.load(path).dataobj)
    path.unlink()
    heard = Heard()
    assert cross_validate(again(data, run), heard).finished
    assert "training" not in heard.stages
    assert heard.stages.count("taking over masks") == 1
    assert "segmenting" not in heard.stages
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), before)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("lost", ["validation", "validation.json", "a mask"])
def test_what_the_validation_left_is_what_the_network_makes_again(
    data: Path, run: Path, lost: str
) -> None:
    before = {name: files_of(run / name) for name in ("out_of_fold", "fold_0/validation")}
    names = [f"out_of_fold/{name}" for name in before["fold_0/validation"]]
    assert set(names) < {f"out_of_fold/{name}" for name in before["out_of_fold"]}
    evidence, table = read_evidence(run), (run / "out_of_fold.csv").read_text()
    shutil.rmtree(run / "out_of_fold")
    if lost == "validation":
        shutil.rmtree(run / "fold_0" / "validation")
    elif lost == "a mask":
        next((run / "fold_0" / "validation").iterdir()).unlink()
    else:
        (run / "fold_0" / "validation.json").write_text("{")
    heard = Heard()
    assert cross_validate(again(data, run), heard).finished
    assert heard.stages.count("segmenting") == 1
    assert heard.stages.count("taking over masks") == 1
    assert files_of(run / "out_of_fold") == before["out_of_fold"]
    assert (run / "out_of_fold.csv").read_text() == table
    assert evidence is not None
    assert read_evidence(run) == evidence


def test_cleaned_masks_of_a_validation_are_not_those_of_the_network(
    data: Path, tmp_path: Path
) -> None:
    settings = LEARNED | {"decode.min_size": [1e6]}
    heard = Heard()
    run = cross_validate(again(data, tmp_path / "run", settings), heard).run
    assert heard.stages.count("segmenting") == 2
    assert "taking over masks" not in heard.stages
    name, *_ = files_of(run / "fold_0" / "validation")
    assert not np.asarray(nib.load(run / "fold_0" / "validation" / name).dataobj).any()
    assert np.asarray(nib.load(run / "out_of_fold" / name).dataobj).any()


def test_a_mask_of_another_size_is_refused(data: Path, run: Path) -> None:
    shutil.rmtree(run / "out_of_fold")
    path = next((run / "fold_0" / "validation").iterdir())
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), path)
    with pytest.raises(DataError, match=rf"{path.name}: is not on its scan's grid; remove it"):
        cross_validate(again(data, run))


def test_more_epochs_lengthen_every_fold(data: Path, run: Path) -> None:
    old = (run / "out_of_fold.csv").read_text()
    cross_validate(again(data, run, LEARNED | {"training.epochs": 3}))
    for fold in (0, 1):
        assert checkpoint.read_facts(run / f"fold_{fold}")["step"] in (6, 12, 18)
        assert [r["step"] for r in rows(run / f"fold_{fold}" / "history.csv")] == ["6", "12", "18"]
        kept = run / f"fold_{fold}" / "model" / "weights.safetensors"
        assert same(run / "model" / f"fold_{fold}.safetensors", kept)
    assert (run / "out_of_fold.csv").read_text() != old


def stages_of(heard: Heard, name: str) -> int:
    return heard.stages.count(name)


@pytest.mark.parametrize("moment", ["inside", "between", "masks"])
def test_stopped_and_resumed_is_as_if_never_stopped(
    data: Path, outcome: CrossValidation, tmp_path: Path, moment: str
) -> None:
    run = tmp_path / "run"
    heard = Heard()
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        training = stages_of(heard, "training")
        if moment == "inside":
            # Before the fourth step of the second fold.
            asked += training == 2
            return asked > 3
        if moment == "between":
            return "fold 0: mean Dice" in heard.notes
        # In the middle of the second fold's masks.
        masks = stages_of(heard, "taking over masks") == 2
        asked += masks
        return asked > 1

    first = cross_validate(again(data, run), heard, should_stop)
    assert not first.finished
    assert first.found is None
    assert not (run / "model").exists()
    assert stages_of(heard, "training") == (1 if moment == "between" else 2)
    assert (run / "fold_1").exists() == (moment != "between")
    assert "stopped with 1 of 2 folds done" in (run / "log.txt").read_text()
    with pytest.raises(ModelError, match=r"not all folds are trained: .*--model .*fold_0"):
        checkpoint.load(run)
    done = (run / "fold_0" / "model" / "weights.safetensors").stat().st_mtime_ns

    second = Heard()
    # Without --folds: the folder knows.
    later = replace(again(data, run), overrides={})
    assert cross_validate(later, second).finished
    assert stages_of(second, "training") == (0 if moment == "masks" else 1)
    assert (run / "fold_0" / "model" / "weights.safetensors").stat().st_mtime_ns == done
    for fold in (0, 1):
        file = Path("model") / f"fold_{fold}.safetensors"
        assert same(run / file, outcome.run / file)
    assert (run / "out_of_fold.csv").read_text() == (outcome.run / "out_of_fold.csv").read_text()


@pytest.mark.parametrize("moment", ["taking over masks", "comparing holes"])
def test_killed_it_goes_on(
    data: Path, outcome: CrossValidation, tmp_path: Path, moment: str
) -> None:
    run = tmp_path / "run"
    stage = ""

    def listener(event: Event) -> None:
        nonlocal stage
        if isinstance(event, Stage):
            stage = event.name
        elif isinstance(event, Advance) and stage == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(again(data, run), listener)
    assert not (run / "model").exists()
    assert not list(run.rglob(".*"))
    heard = Heard()
    assert cross_validate(again(data, run), heard).finished
    assert stages_of(heard, "training") == (1 if moment == "taking over masks" else 0)
    assert (run / "out_of_fold.csv").read_text() == (outcome.run / "out_of_fold.csv").read_text()
    assert same(run / "model" / "fold_0.safetensors", outcome.run / "model" / "fold_0.safetensors")


def test_one_fold_can_be_trained_by_itself(data: Path, run: Path) -> None:
    """fold_1 is a run folder like any other; what comes out of it is taken up."""
    old = rows(run / "out_of_fold.csv")
    settings = {k: v for k, v in LEARNED.items() if k != "training.folds"}
    train(again(data, run / "fold_1", settings | {"training.epochs": 4}))
    heard = Heard()
    cross_validate(again(data, run, LEARNED | {"training.epochs": 4}), heard)
    assert stages_of(heard, "training") == 1
    assert stages_of(heard, "taking over masks") == 2
    new = rows(run / "out_of_fold.csv")
    assert all(a != b for a, b in zip(old, new, strict=True))


# --- what cannot be ---


def test_a_fixed_split_has_one_fold(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part in ("train", "val"):
        write_cubes(data / part, 2)
    with pytest.raises(UsageError, match=r"--folds: the data set names its validation cases, so"):
        cross_validate(request(data, tmp_path / "run", QUICK))
    assert not (tmp_path / "run").exists()


def test_a_single_training_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    run = train(again(data, tmp_path / "run", {})).run
    plan = (run / "plan.toml").read_text()
    with pytest.raises(UsageError, match=r"run: a training of one fold stands here; give another"):
        cross_validate(again(data, run, QUICK))
    assert (run / "plan.toml").read_text() == plan
    assert not (run / "fold_0").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.folds": 3}, r"begun with another number of folds \(expected 2, got 3\)"),
        ({"network.features": (4, 6)}, r"plan\.toml: the plan's section network is not .* fold 0"),
        ({"patch.batch": 3}, r"plan\.toml: the plan's section patch is not"),
    ],
)
def test_folds_of_one_run_have_one_plan(
    data: Path, run: Path, settings: dict[str, Any], message: str
) -> None:
    plan = (run / "plan.toml").read_text()
    with pytest.raises(UsageError, match=message):
        cross_validate(again(data, run, LEARNED | settings))
    assert (run / "plan.toml").read_text() == plan


def test_folds_of_ones_own(data: Path, tmp_path: Path) -> None:
    names = [f"case_{n}" for n in range(5)]
    run = tmp_path / "run"
    mine = [Fold(tuple(names[1:]), ("case_0",)), Fold((names[0], *names[3:]), ("case_1",))]
    write_folds(run / "folds.json", mine)
    with pytest.raises(UsageError, match=r"folds\.json: the file holds another number of folds"):
        cross_validate(again(data, run, {"training.folds": 3}))
    heard = Heard()
    assert cross_validate(again(data, run, QUICK), heard).finished
    assert [row["case"] for row in rows(run / "out_of_fold.csv")] == ["case_0", "case_1"]
    assert "3 cases in no fold: case_2, case_3, case_4" in heard.notes
    twice = [Fold(tuple(names[1:]), ("case_0",)), Fold(tuple(names[2:]), ("case_0", "case_1"))]
    write_folds(tmp_path / "other" / "folds.json", twice)
    with pytest.raises(DataError, match=r"1 case in the validation of several folds: case_0"):
        cross_validate(again(data, tmp_path / "other", QUICK))


def test_groups_stay_in_one_fold(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError, match="finds no group for 2 cases: case_3, case_4"):
        plan_for(again(data, run, QUICK | {"training.group": "_([012])"}))
    table = data.parent / "list.csv"
    lines = [
        f"data/images/case_{n}.nii.gz,data/labels/case_{n}.nii.gz,p{n // 2},s{n % 2}"
        for n in range(5)
    ]
    table.write_text("\n".join(["image,label,patient,site", *lines]))
    outcome = cross_validate(again(table, run, QUICK | {"training.group": "patient"}))
    assert outcome.finished
    fold_of = {row["case"]: row["fold"] for row in rows(run / "out_of_fold.csv")}
    assert fold_of["case_0"] == fold_of["case_1"]
    assert fold_of["case_2"] == fold_of["case_3"]
    assert len(set(fold_of.values())) == 2
    with pytest.raises(DataError, match=r"2 groups in both the training and the validation"):
        # The folder's folds were made by patient.
        cross_validate(again(table, run, QUICK | {"training.group": "site"}))


# --- time ---


def test_a_budget_is_for_everything(data: Path, tmp_path: Path) -> None:
    settings = LEARNED | {"training.minutes": 0.15, "training.epochs": 100_000}
    run = tmp_path / "run"
    begun = time()
    asked = replace(again(data, run, settings), started=begun)
    heard = Heard()
    assert cross_validate(asked, heard).finished
    # All cases are prepared before the first fold, which would else have less time than the others.
    assert heard.stages[:3] == ["inspecting", "preparing", "preparing"]
    # Of 100 000 epochs; with room for a machine that others use too.
    assert time() - begun < 60
    for fold in (0, 1):
        plan = read_plan(run / f"fold_{fold}" / "plan.toml")
        assert plan.training.minutes is not None
        assert 0.015 < plan.training.minutes < 0.08
    assert read_plan(run / "plan.toml").training.minutes == 0.15
    # Asked again, there is nothing left to do; with more time, there is.
    heard = Heard()
    cross_validate(replace(asked, started=time()), heard)
    assert "training" not in heard.stages
    heard = Heard()
    more = {**settings, "training.minutes": 0.3}
    cross_validate(replace(again(data, run, more), started=time()), heard, lambda: True)
    assert "stopped with 0 of 2 folds done" in heard.notes


# --- the ensemble ---


def outputs(model: Path, scan: Path, **more: Any) -> torch.Tensor:
    predictor = Predictor(model, device="cpu", **more)
    prepared = predictor.prepare(load_scan(Case("scan", (scan,))))
    return scan_outputs(predictor.segmenter, prepared)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than a patch, so that windows are blended."""
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    array = np.random.default_rng(5).normal(100, 10, (20, 24, 18)).astype("f4")
    array[4:11, 5:12, 6:13] += 100
    picture = nib.Nifti1Image(array, np.eye(4))
    picture.header.set_xyzt_units("mm")
    nib.save(picture, path)
    return path


@pytest.mark.parametrize("mirror", [False, True])
def test_an_ensemble_is_the_mean_of_its_members(
    outcome: CrossValidation, scan: Path, mirror: bool
) -> None:
    more = {"settings": {"decode.mirror": mirror}}
    whole = outputs(outcome.run, scan, **more)
    first, second = (outputs(outcome.run / f"fold_{k}", scan, **more) for k in (0, 1))
    torch.testing.assert_close(whole, (first + second) / 2, atol=1e-5, rtol=1e-5)
    assert (whole - first).abs().max() > 1e-3
    assert (first - second).abs().max() > 1e-3


def test_members_can_be_chosen(outcome: CrossValidation, scan: Path) -> None:
    for fold in (0, 1):
        one = outputs(outcome.run, scan, folds=(fold,))
        assert torch.equal(one, outputs(outcome.run / f"fold_{fold}", scan))
        assert not torch.equal(one, outputs(outcome.run / f"fold_{1 - fold}", scan))
    both = outputs(outcome.run, scan, folds=(1, 0))
    torch.testing.assert_close(both, outputs(outcome.run, scan))


@pytest.mark.parametrize(
    ("folder", "folds", "message"),
    [
        (".", (0, 7), r"no such fold in this model \(expected 0, 1, got 7\)"),
        ("fold_0", (0,), "a single network, it has no folds to choose from"),
    ],
)
def test_members_that_are_not_there(
    outcome: CrossValidation, folder: str, folds: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Predictor(outcome.run / folder, device="cpu", folds=folds)


def test_masks_of_an_ensemble_say_whose_they_are(
    outcome: CrossValidation, scan: Path, tmp_path: Path
) -> None:
    asked = PredictRequest([scan], model=outcome.run, output=tmp_path, device="cpu", folds=(1,))
    heard = Heard()
    (record,) = predict(asked, heard)
    assert record.status == "done"
    assert f"model {outcome.run}, folds 1" in heard.notes
    assert json.loads((tmp_path / "manifest.json").read_text())["folds"] == [1]


def test_an_ensemble_is_no_network_to_begin_with(
    data: Path, outcome: CrossValidation, tmp_path: Path
) -> None:
    message = r"a model of several networks, .*got the folds 0, 1\); give the run of .*fold_0"
    asked = again(data, tmp_path / "run", {"training.init": str(outcome.run)})
    heard = Heard()
    with pytest.raises(ModelError, match=message):
        plan_for(asked, heard)
    assert heard.events == []
    with pytest.raises(ModelError, match=message):
        checkpoint.load(outcome.run).network  # noqa: B018 - the property raises
    # One of its folds is.
    fold = again(data, tmp_path / "run", {"training.init": str(outcome.run / "fold_0")})
    assert plan_for(fold)[0].training.init == str((outcome.run / "fold_0").resolve())


def test_what_all_folds_began_with_may_be_gone(
    data: Path, outcome: CrossValidation, tmp_path: Path
) -> None:
    first = shutil.copytree(outcome.run / "fold_0", tmp_path / "first")
    run = tmp_path / "run"
    asked = again(data, run, QUICK | {"training.init": str(first)})
    heard = Heard()
    cross_validate(asked, heard, lambda: stages_of(heard, "taking over masks") == 1)
    assert "begins with the run" in heard.notes
    later = replace(asked, overrides={})
    moved = first.rename(tmp_path / "moved")
    # One fold has not begun yet.
    with pytest.raises(ModelError, match="first: no trained model here"):
        cross_validate(later)
    moved.rename(first)
    assert cross_validate(later).finished
    shutil.rmtree(first)
    assert cross_validate(later).finished


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("members"),
        lambda content: content.update(members=[]),
        lambda content: content.update(members=[{"fold": 0}]),
        lambda content: content.update(members=[{"fold": "one", "weights": "x"}]),
        lambda content: content.update(members=[{"fold": 0, "weights": "../../secret"}]),
        lambda content: content.update(members=3),
        lambda content: content.update(schema=1),
    ],
)
def test_a_damaged_list_of_members(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = run / "model" / "model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"model\.json: a damaged model description"):
        checkpoint.load(run)


def test_a_member_that_was_lost_is_named(run: Path) -> None:
    (run / "model" / "fold_1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"fold_1\.safetensors: weights cannot be read"):
        checkpoint.load(run)
    assert checkpoint.load(run, (0,)).folds == (0,)


# --- cleaning ---


def spoil(path: Path, box: tuple[slice, ...]) -> None:
    """Add a false component to a mask."""
    picture = nib.load(path)
    array = np.asarray(picture.dataobj).copy()
    array[box] = 1
    nib.save(nib.Nifti1Image(array, picture.affine, picture.header), path)


def corner(data: Path, number: int) -> tuple[slice, ...]:
    """Two voxels a side, in the corner that is farthest from the true cube."""
    truth = np.asarray(nib.load(data / "labels" / f"case_{number}.nii.gz").dataobj)
    middle = np.argwhere(truth).mean(0)
    return tuple(slice(0, 2) if m > 7.5 else slice(14, 16) for m in middle)


def test_what_helps_out_of_fold_is_what_the_model_does(
    data: Path, outcome: CrossValidation, run: Path, tmp_path: Path
) -> None:
    assert cleanings(checkpoint.load_plan(outcome.run)) == {}
    for number in range(5):
        spoil(run / "out_of_fold" / f"case_{number}_seg.nii.gz", corner(data, number))
    cleaned = cross_validate(again(data, run))
    accepted = [decision for decision in cleaned.decisions if decision.accepted]
    assert [decision.class_name for decision in accepted] == ["label 1"]
    plan = checkpoint.load_plan(run)
    # 5 % of 343 mm^3 and more remove eight.
    assert cleanings(plan) == {1: Cleaning(min_size=17.2)}
    assert plan.decode.min_size == (17.2,)
    assert accepted[0].sentence() in (run / "log.txt").read_text()
    # What the person wrote stays as it was: the model's plan alone has changed.
    assert cleanings(read_plan(run / "plan.toml")) == {}
    table = rows(run / "out_of_fold.csv")
    assert all("cleaned dice label 1" in row for row in table)
    assert cleaned.found is not None
    assert cleaned.found.cleaned is not None
    scored = evaluate(data / "labels", run / "out_of_fold_cleaned")
    mean = np.mean([score["dice"] for score in scored.scores])
    assert cleaned.found.cleaned.mean == pytest.approx(mean)
    assert checkpoint.read_facts(run)["cleaned_mean_dice"] == pytest.approx(mean, abs=1e-5)
    # And when it helps no more, it is gone.
    shutil.rmtree(run / "out_of_fold")
    cross_validate(again(data, run))
    assert cleanings(checkpoint.load_plan(run)) == {}
    assert not (run / "out_of_fold_cleaned").exists()
    assert (run / "out_of_fold.csv").read_text() == (outcome.run / "out_of_fold.csv").read_text()


def test_a_prediction_cleans_as_it_is_told(
    outcome: CrossValidation, scan: Path, tmp_path: Path
) -> None:
    def mask(**settings: Any) -> np.ndarray:
        named = {key.replace("__", "."): value for key, value in settings.items()}
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (record,) = predict(
            PredictRequest([scan], model=outcome.run, output=folder, device="cpu", settings=named)
        )
        assert record.status == "done", record.message
        return np.asarray(nib.load(record.output).dataobj)

    plain = mask()
    assert plain.any()
    assert not mask(decode__min_size=20 * 24 * 18 + 1).any()
    np.testing.assert_array_equal(mask(decode__min_size=[]), plain)
    largest = mask(decode__largest_component="label 1")
    assert largest.sum() <= plain.sum()
    assert (plain[largest == 1] == 1).all()
