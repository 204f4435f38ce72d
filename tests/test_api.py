"""The Python face: light to import, three verbs and a predictor."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cubes import TINY, write_cubes

import unetseg
from unetseg import Predictor, cross_validate, evaluate, predict, train
from unetseg.dataset.loading import load_scan
from unetseg.errors import UsageError
from unetseg.records import Case, EpochDone, Event
from unetseg.runs import read_run


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own cache stays as it is."""
    where = "unetseg.training.request.user_cache_path"
    monkeypatch.setattr(where, lambda name: tmp_path / name)


def loaded(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after the code."""
    heavy = "{'torch', 'monai', 'numpy', 'nibabel'}"
    code += f"\nimport sys; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_import_loads_nothing_heavy() -> None:
    assert loaded("import unetseg; unetseg.__version__") == set()
    assert loaded("from unetseg import geometry") == {"numpy"}


def test_the_command_line_loads_nothing_heavy_before_it_works() -> None:
    help_text = "from typer.testing import CliRunner\nfrom unetseg.cli import app\n"
    help_text += "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0"
    assert loaded(help_text) == set()


def test_the_verbs_are_what_the_package_promises() -> None:
    verbs = {"train", "cross_validate", "predict", "evaluate", "measure"}
    assert set(unetseg.__all__) == {"Predictor", "__version__", *verbs}
    for name in unetseg.__all__:
        assert getattr(unetseg, name) is not None
    with pytest.raises(AttributeError, match="'unetseg' has no attribute 'fit'"):
        unetseg.fit  # noqa: B018


def test_train_predict_evaluate(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 4)
    events: list[Event] = []
    outcome = train(
        data,
        str(tmp_path / "run"),
        settings=TINY | {"training.epochs": 2},
        device="cpu",
        listener=events.append,
    )
    assert sum(isinstance(event, EpochDone) for event in events) == 2
    assert (outcome.run / "report.html").is_file()
    command = read_run(outcome.run).command
    assert command.startswith(f"unetseg.train({str(data)!r}, {str(outcome.run)!r}, settings={{")
    scans = sorted((data / "images").iterdir())
    done = predict(scans, tmp_path / "out", model=outcome.run, device="cpu")
    assert [record.status for record in done] == ["done"] * 4
    one = predict(str(scans[0]), tmp_path / "out", model=outcome.run, device="cpu")
    assert [record.status for record in one] == ["skipped"]
    scored = evaluate(data / "labels", tmp_path / "out")
    assert {score.case for score in scored.scores} == {f"case_{number}" for number in range(4)}
    # The same Dice by hand, from the files.
    for score in scored.scores:
        truth = np.asarray(nib.load(data / "labels" / f"{score.case}.nii.gz").dataobj) == 1
        mask = np.asarray(nib.load(tmp_path / "out" / f"{score.case}_seg.nii.gz").dataobj) == 1
        dice = 2 * (truth & mask).sum() / (truth.sum() + mask.sum())
        assert score["dice"] == pytest.approx(dice)


def test_a_predictor_gives_the_mask_that_predict_writes(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 2)
    run = train(data, tmp_path / "run", settings=TINY, device="cpu").run
    scan = data / "images" / "case_0.nii.gz"
    predict(scan, tmp_path / "out", model=run, device="cpu")
    written = np.asarray(nib.load(tmp_path / "out" / "case_0_seg.nii.gz").dataobj)
    predictor = Predictor(run, device="cpu")
    assert [(label.value, label.name) for label in predictor.labels] == [
        (0, "background"),
        (1, "label 1"),
    ]
    np.testing.assert_array_equal(predictor(scan).array, written)
    np.testing.assert_array_equal(predictor(str(scan)).array, written)


def test_cross_validate_and_predict_with_some_of_the_folds(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 4)
    outcome = cross_validate(
        data, tmp_path / "run", folds=2, group="case_([0-9])", settings=TINY, device="cpu"
    )
    assert outcome.finished
    assert outcome.found is not None
    assert sorted(outcome.found.scores.names) == [f"case_{number}" for number in range(4)]
    scan = data / "images" / "case_0.nii.gz"
    masks = {}
    for folds in (None, (0,), (1,)):
        output = tmp_path / f"out{folds}"
        (record,) = predict(scan, output, model=outcome.run, folds=folds, device="cpu")
        assert record.status == "done"
        one = Predictor(outcome.run, folds=folds, device="cpu")
        masks[folds] = one.segment(one.prepare(load_scan(Case("a", (scan,)))))[1]
    assert not np.allclose(masks[0,], masks[1,])
    assert not np.allclose(masks[0,], masks[None])
    with pytest.raises(
        UsageError, match=r"run: a training of all folds stands here; let all go on"
    ):
        train(data, tmp_path / "run", settings=TINY, device="cpu")


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such plan key .*did you mean training\.epochs"):
        train(tmp_path, tmp_path / "run", settings={"training.epoch": 3})
