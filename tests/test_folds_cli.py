"""`--folds` and `--group` as a person types them, in processes of their own."""

import csv
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from cubes import write_cubes, write_squares
from PIL import Image
from test_cli import Training, cells, here, run, settings
from typer.testing import CliRunner

from unetseg.cli import app

WORDS = ["--folds", "2", "--epochs", "1", "--device", "cpu", *settings()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and a list of two patients."""
    made = tmp_path_factory.mktemp("folds")
    write_cubes(made / "data", 4)
    lines = [f"images/case_{n}.nii.gz,labels/case_{n}.nii.gz,p{n % 2}" for n in range(4)]
    (made / "data" / "list.csv").write_text("\n".join(["image,label,patient", *lines]))
    return made


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[str]:
    """What a training of two folds by patient prints."""
    words = ["train", "data/list.csv", "-o", "run", "--group", "patient", *WORDS]
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    yield done.stdout


def test_tables_of_classes_and_folds_and_the_run(folder: Path, shown: str) -> None:
    assert shown.splitlines()[-1] == "run"
    assert (folder / "run" / "report.html").is_file()
    tables = cells(shown)
    with (folder / "run" / "out_of_fold.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dice = np.array([float(row["dice label 1"]) for row in rows])
    of_fold = np.array([row["fold"] for row in rows])
    expected = [f"{dice.mean():.4f}", f"{dice.std(ddof=1):.4f}"]
    assert tables["label 1"][:2] == expected
    assert tables["label 1"][-1] == "4 / 4"
    assert tables["mean"][0] == expected[0]
    for fold in "01":
        assert tables[fold] == ["2", f"{dice[of_fold == fold].mean():.4f}"]
    # By patient: cases 0 and 2, 1 and 3.
    assert of_fold[0] == of_fold[2] != of_fold[1] == of_fold[3]


@pytest.mark.usefixtures("shown")
def test_check_shows_the_division_that_train_makes(folder: Path) -> None:
    folds = json.loads((folder / "run" / "folds.json").read_text())
    words = ["check", str(folder / "data" / "list.csv"), "--folds", "2", "--group", "patient"]
    told = CliRunner().invoke(app, words, env={"COLUMNS": "200"}).stdout
    assert "2 folds, seed 0, 2 groups by patient; the cases that validate in each:" in told
    for number, fold in enumerate(folds):
        assert f"fold {number}: 2 of 1 group: {', '.join(fold['val'])}\n" in told
    assert re.search(r'^group = "patient" # set by you$', told, re.M)
    other = CliRunner().invoke(app, ["check", str(folder / "data"), "--fold", "1/2"]).stdout
    assert "fold 1 of 2, counted from 0: 2 cases to train with, 2 to validate" in other
    grouped = ["--folds", "3", "--group", "case_([0-9])", "--seed", "4"]
    third = CliRunner().invoke(app, ["check", str(folder / "data"), *grouped]).stdout
    assert "3 folds, seed 4, 4 groups by case_([0-9])" in third


@pytest.mark.usefixtures("shown")
def test_the_ensemble_predicts_and_its_members_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    masks = []
    for words in ([], ["--folds", "0"], ["--folds", "0,1", "--set", "decode.min_size=1e9"]):
        out = f"out{len(masks)}"
        scan = "data/images/case_0.nii.gz"
        words = [scan, "-o", out, "--model", "run", "--device", "cpu", *words]
        ended, _, err = here(["predict", *words], monkeypatch, capsys)
        assert ended == 0, err
        masks.append(np.asarray(nib.load(folder / out / "case_0_seg.nii.gz").dataobj))
    assert "folds 0, 1" in err
    assert not masks[2].any()
    facts = [json.loads((folder / f"out{k}" / "manifest.json").read_text()) for k in (0, 1)]
    assert [fact["folds"] for fact in facts] == [[0, 1], [0]]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "data", "--folds", "1"], 2, r"--folds"),
        (
            ["train", "data", "--folds", "5", "--fold", "0/5"],
            2,
            r"--fold: give --fold to train one",
        ),
        (["train", "data", "--group", "("], 2, r"training\.group: not a regular expression: "),
        (["train", "data", "--group", "patient"], 2, r"not a regular expression with one group"),
        (["train", "data", "--group", "_([0-2])"], 3, r"finds no group for 1 case: case_3"),
        (["check", "data", "--group", "x(y)"], 3, r"finds no group for 4 cases: .* and 1 more"),
        (
            ["train", "data/list.csv", "--group", "patent"],
            2,
            r"one of the columns patient, got patent\); did you mean patient\?",
        ),
        (
            ["train", "data", "-o", "run", "--fold", "0/2"],
            2,
            r"run: a training of all folds stands",
        ),
        (
            ["train", "data/list.csv", "-o", "run/fold_0", "--folds", "2"],
            2,
            r"a training of one fold stands",
        ),
        (["predict", "data/images/case_0.nii.gz", "--model", "run", "--folds", "x"], 2, r"--folds"),
        (
            ["predict", "data/images/case_0.nii.gz", "--model", "run", "--folds", "0,5", "-o", "o"],
            2,
            r"run/model: no such fold in this model \(expected 0, 1, got 5\)",
        ),
        (
            ["train", "data", "-o", "new", "--init", "run"],
            4,
            r"run/model: a model of several networks, where one is needed .*fold_0",
        ),
        (
            ["study", "landscape", "run", "-o", "land"],
            4,
            r"run/model: a model of several networks",
        ),
        (
            [
                "predict",
                "data/images/case_0.nii.gz",
                "--model",
                "run",
                "--set",
                "decode.min_size=-1",
            ],
            2,
            r"decode\.min_size",
        ),
    ],
)
@pytest.mark.usefixtures("shown")
def test_what_cannot_be_is_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    ended, out, err = here(words, monkeypatch, capsys)
    assert ended == code, err
    *_, last = err.splitlines()
    assert last.startswith("error: ")
    assert re.search(message, last)
    assert out == ""
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_scan_without_a_size_cannot_be_cleaned_by_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_squares(tmp_path / "data", 2)
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "1", "--device", "cpu", "--cache", "cache", *settings()]
    ended, _, err = here(["train", "data", "-o", "run", *small], monkeypatch, capsys)
    assert ended == 0, err
    pixels = tifffile.imread(data / "images" / "cell_0.ome.tif")
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "bare.png")
    words = ["predict", "bare.png", "--model", "run", "--device", "cpu", "-o", "out"]
    sized = ["--set", "decode.min_size=20"]
    ended, out, err = here([*words, *sized], monkeypatch, capsys)
    assert ended == 1
    assert re.search(r"bare\.png: the scan does not say how large its voxels are", err)
    assert not (tmp_path / "out" / "bare_seg.png").exists()
    ended, out, _ = here([*words, "--set", "decode.min_size=0"], monkeypatch, capsys)
    assert ended == 0
    assert out == "out/bare_seg.png\n"


# --- interruptions -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_second_fold_it_goes_on_there(
    folder: Path, tmp_path: Path, number: int
) -> None:
    (tmp_path / "data").symlink_to(folder / "data")
    # The second fold is long enough to be hit; the first one is over by then.
    words = ["train", "data", "-o", "run", *WORDS]
    words[words.index("--epochs") + 1] = "20"
    training = Training(tmp_path, *words)
    training.wait_for("fold 1 begins")
    text = training.log.read_text().partition("fold 1 begins")[2]
    while "epoch 1 " not in text:
        assert training.process.poll() is None
        text = training.log.read_text().partition("fold 1 begins")[2]
    training.process.send_signal(number)
    code = training.end()
    log = training.log.read_text()
    if number == signal.SIGINT:
        assert code == 130
        assert "finishing: validating and saving" in log
        assert "stopped; the same command goes on in run\n" in log
    weights = tmp_path / "run" / "fold_0" / "model" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run").rglob(".*"))
    done = run(tmp_path, "train", "data", "-o", "run", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "fold 0 is done" in done.stderr
    assert ("resuming at step" in done.stderr) == (number == signal.SIGINT)
    assert weights.stat().st_mtime_ns == before
    assert (tmp_path / "run" / "model" / "fold_1.safetensors").is_file()


def test_torchrun_does_not_train_all_folds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run(folder, "train", "data", "-o", "refused", *WORDS)
    assert done.returncode == 2
    assert "--folds: all folds are trained by one command; start it without" in done.stderr
    assert not (folder / "refused").exists()
