"""The command line in processes of its own: results on stdout, one line on stderr, exit codes."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import typer.main
from cubes import TINY, cube, request, write_cubes, write_squares
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from unetseg import cli, registry
from unetseg.catalogue import read_catalogue
from unetseg.cli import app
from unetseg.registry import ENCODERS, EXPORTS, FORMATS, SKIPS, TASKS
from unetseg.training import train

# Waiting for a process that hangs must end before the person's patience.
PATIENCE = 120
GROUP: Any = typer.main.get_command(app)


def environment(folder: Path) -> dict[str, str]:
    """One thread, no colours, a cache of its own."""
    unwanted = {"FORCE_COLOR", "NO_COLOR", "COLUMNS"}
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "user-cache"),
        "COLUMNS": "200",
    }


def arguments(*words: object) -> list[str]:
    return [sys.executable, "-m", "unetseg.cli", *map(str, words)]


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(*words),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def here(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """What `run` does, in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["unetseg", *words])
    monkeypatch.setattr(cli, "_debug", False)
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def settings(**more: Any) -> list[str]:
    """A tiny plan as options; TOML writes tuples as lists."""
    values = {k: v for k, v in TINY.items() if k != "training.epochs"}
    values |= {key.replace("__", "."): value for key, value in more.items()}
    texts = [
        f"{key}={json.dumps(list(value) if isinstance(value, tuple) else value)}"
        for key, value in values.items()
    ]
    return [word for text in texts for word in ("--set", text)]


# --- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_the_help_of_a_command_documents_all_of_it(name: str) -> None:
    command = GROUP.commands[name]
    assert command.help
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.output)
    for param in command.params:
        assert param.help, f"{name}: {param.name} is not documented"
        for option in param.opts if param.param_type_name == "option" else ():
            assert option in text
        assert " ".join(param.help.split())[:40] in " ".join(text.split())


def test_the_program_lists_its_commands_and_documents_its_options() -> None:
    assert {"check", "train", "predict", "evaluate", "measure", "list", "sample"} <= set(
        GROUP.commands
    )
    for param in GROUP.params:
        assert param.help, f"{param.name} is not documented"
    for arguments_ in ([], ["--help"], ["-h"]):
        text = CliRunner().invoke(app, arguments_, env={"COLUMNS": "200"}).output
        assert all(name in text for name in GROUP.commands)


# --- exit codes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--version"], 0, r"^$"),
        (["list", "skips"], 0, r"^$"),
        (["learn"], 2, r"^error: .*learn.*; see `unetseg --help`\n$"),
        (["check", "nowhere"], 3, r"^error: nowhere: cannot be read: No such file.*\n$"),
        (["train", "x", "--fold", "5/5"], 2, r"^error: --fold: not a fold \(.*got 5/5\)\n$"),
        (["train", "x", "--time", "soon"], 2, r"^error: --time: not a duration .*\n$"),
        (["train", "x", "--time", "1m", "--epochs", "2"], 2, r"^error: train: give --time or"),
        (["train", "x", "--set", "epochs=2"], 2, r"^error: --set: no such plan key .*\n$"),
        (["train", "x", "--epochs", "0"], 2, r"^error: .*--epochs.*\n$"),
        (["train", "x", "--devices", "0"], 2, r"^error: --devices: not devices .*got 0\)\n$"),
        (
            ["train", "x", "--devices", "2", "--device", "cuda:1"],
            2,
            r"^error: --device: several devices of one kind \(expected .*, got cuda:1\)\n$",
        ),
        (
            ["predict", "x", "--model", "nowhere"],
            4,
            r"^error: nowhere: no trained model here .*\n$",
        ),
    ],
)
def test_a_failure_is_one_line_and_a_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = here(words, monkeypatch, capsys)
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert ended == code
    assert bool(out) == (code == 0)
    assert not list(tmp_path.iterdir())


def test_the_code_reaches_the_shell(tmp_path: Path) -> None:
    done = run(tmp_path, "train", "x", "--fold", "5/5")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_debug_shows_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, err = here(["--debug", "check", "nowhere"], monkeypatch, capsys)
    assert ended == 3
    assert "Traceback" in err


# --- list ----------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a third-party package would declare, without installing one."""
    entry = EntryPoint("mine", "my_package:build", "unetseg.encoders")
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: [entry] if group == entry.group else []
    )


def listed(*words: str) -> str:
    shown = CliRunner().invoke(app, ["list", *words], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    return shown.output


def cells(table: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    rows = ([cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines())
    return {row[0]: row[1:] for row in rows if row}


@pytest.mark.parametrize("kind", ["encoders", "skips", "tasks", "formats", "exports"])
def test_list_as_json_is_an_object_per_line(kind: str) -> None:
    rows = [json.loads(line) for line in listed(kind, "--json").splitlines()]
    registries = (ENCODERS, SKIPS, TASKS, FORMATS, EXPORTS)
    names = {registry.group.partition(".")[2]: registry for registry in registries}[kind]
    assert [row["name"] for row in rows] == list(names)
    assert [row["object"] for row in rows] == [entry.value for entry in names.values()]
    figures = {"encoders": {"weights", "2d", "3d"}, "skips": {"2d", "3d"}}.get(kind, set())
    assert all(set(row) == {"name", "object"} | figures for row in rows)


def test_the_json_of_an_encoder_holds_all_that_the_table_holds() -> None:
    rows = {row["name"]: row for row in map(json.loads, listed("encoders", "--json").splitlines())}
    for name, entry in read_catalogue().encoders.items():
        assert rows[name]["weights"] == list(entry.weights)
        for axes, patch in ((2, [1, 256, 256]), (3, [1, 64, 64, 64])):
            expected = {"patch": patch, **asdict(entry.figures[axes])}
            assert rows[name][f"{axes}d"] == expected
    assert rows["plain"]["2d"] != rows["plain"]["3d"] != rows["dense"]["3d"]


@pytest.mark.parametrize("kind", ["encoders", "skips"])
def test_list_shows_what_each_costs(kind: str) -> None:
    table = listed(kind)
    assert "2-D 1 x 256 x 256, 3-D 1 x 64 x 64 x 64" in table
    rows = cells(table)
    known = getattr(read_catalogue(), kind)
    assert list(rows) == list(known)
    for name, entry in known.items():
        expected = []
        for axes in (2, 3):
            of = entry.figures[axes]
            expected += [f"{of.parameters / 1e6:.1f}", f"{of.flops / 1e9:.1f}"]
            expected.append(f"{of.memory_bytes / 1e6:.0f}")
        assert rows[name][:6] == expected
        if kind == "encoders":
            assert rows[name][6:] == [", ".join(entry.weights) or "-"]
    assert len({tuple(row) for row in rows.values()}) > 1


def test_the_table_fits_eighty_columns() -> None:
    shown = CliRunner().invoke(app, ["list", "encoders"], env={"COLUMNS": "80"}).output
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert set(ENCODERS) < set(cells(shown)) | {""}


@pytest.mark.usefixtures("installed")
def test_what_others_have_installed_is_listed_without_figures() -> None:
    assert cells(listed("encoders"))["mine"] == ["-"] * 7
    rows = map(json.loads, listed("encoders", "--json").splitlines())
    unknown = {"weights": None, "2d": None, "3d": None}
    assert {"name": "mine", "object": "my_package:build"} | unknown in list(rows)
    assert "mine" not in cells(listed("skips"))


def test_tasks_and_formats_are_bare_names() -> None:
    assert listed("tasks").split() == list(TASKS)
    assert listed("formats").split() == list(FORMATS)


# --- one model, several commands -----------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and run/."""
    folder = tmp_path_factory.mktemp("cli")
    train(request(write_cubes(folder / "data", 4), folder / "run"))
    return folder


def test_one_failing_input_is_exit_code_1_and_the_others_are_done(
    trained: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "bad.nii.gz").write_bytes(b"no gzip")
    nib.save(nib.load(trained / "data" / "images" / "case_0.nii.gz"), scans / "good.nii.gz")
    done = run(
        tmp_path, "predict", scans, "-o", "out", "--model", trained / "run", "--device", "cpu"
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["out/good_seg.nii.gz"]
    assert "1 of 2 inputs failed:" in done.stderr
    assert re.search(r"bad\.nii\.gz: not a NIfTI file", done.stderr)
    command = json.loads((tmp_path / "out" / "manifest.json").read_text())["command"]
    assert command.startswith("unetseg predict ")
    assert "-o out" in command


def test_a_prediction_tells_each_scan_as_json_as_soon_as_it_is_done(
    trained: Path, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "bad.nii.gz").write_bytes(b"no gzip")
    for number in range(3):
        source = nib.load(trained / "data" / "images" / f"case_{number}.nii.gz")
        nib.save(source, scans / f"c{number}.nii.gz")
    words = ["predict", scans, "-o", "out", "--model", trained / "run", "--device", "cpu"]
    done = run(tmp_path, *words, "--json", "--shard", "0/2", "--uncertainty", "--overlay")
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["path"], row["output"], row["status"]) for row in rows] == [
        (f"{scans}/bad.nii.gz", None, "failed"),
        (f"{scans}/c1.nii.gz", "out/c1_seg.nii.gz", "done"),
    ]
    assert "not a NIfTI file" in rows[0]["message"]
    mask = np.asarray(nib.load(tmp_path / "out" / "c1_seg.nii.gz").dataobj)
    assert rows[1]["classes"]["label 1"]["voxels"] == (mask == 1).sum()
    assert rows[1]["unit"] == "mm^3"
    assert rows[1]["seconds"] > 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    kinds = ["c1_overlay.png", "c1_seg.nii.gz", "c1_uncertainty.nii.gz"]
    assert names == [*kinds, "manifest_0-of-2.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "2/2"], "--shard 2/2: no such share (expected a number from 0 to 1, got 2)"),
        (["--shard", "auto"], "no scheduler says which share this is"),
        (["--quality", "good"], "--quality: no such quality (expected fast, balanced, best"),
        (["--map-type", "int8"], "--map-type: no such type of maps"),
        (["--devices", "0"], "--devices: not devices"),
        (["--device", "mps", "--devices", "2"], "--device: several devices of one kind"),
    ],
)
def test_what_a_prediction_cannot_do_is_one_line(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    for name in ("SLURM_ARRAY_TASK_ID", "RANK", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    asked = ["predict", str(trained / "data" / "images"), "-o", str(tmp_path / "out")]
    code, out, err = here([*asked, "--model", str(trained / "run"), *words], monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tta_is_a_setting(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scan = trained / "data" / "images" / "case_0.nii.gz"
    for words, overlap, mirror in (
        (["--quality", "best", "--no-tta"], 0.5, False),
        (["--quality", "fast", "--tta", "--set", "decode.overlap=0.3"], 0.3, True),
    ):
        out = tmp_path / words[1]
        asked = ["predict", str(scan), "-o", str(out), "--model", str(trained / "run")]
        code, _, err = here([*asked, "--device", "cpu", *words], monkeypatch, capsys)
        assert code == 0, err
        manifest = json.loads((out / "manifest.json").read_text())
        assert (manifest["overlap"], manifest["mirror"]) == (overlap, mirror)


def test_check_writes_the_plan_and_changes_nothing(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 3)
    shown = CliRunner().invoke(app, ["check", str(data), "--set", "training.epochs=7"])
    assert shown.exit_code == 0, shown.output
    assert "3 cases, 3-D, channels: 0" in shown.stdout
    # 343 voxels of 4096 are 8.37 %.
    assert "1 (8.37%)" in shown.stdout
    assert re.search(r"^epochs = 7 # set by you$", shown.stdout, re.M)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_check_of_bad_data_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_cubes(tmp_path / "data", 3)
    (data / "images" / "case_1.nii.gz").write_bytes(b"no gzip")
    ended, out, err = here(["check", str(data)], monkeypatch, capsys)
    assert ended == 3
    assert re.search(r"error: .*case_1\.nii\.gz: not a NIfTI file", err)
    assert "2 cases" in out


# --- interruptions -------------------------------------------------------------------------------


class Training:
    """A training in a process of its own that goes on until it is stopped."""

    def __init__(self, folder: Path, *words: object) -> None:
        self.folder = folder
        self.log = folder / "stderr.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                arguments(*words),
                cwd=folder,
                env=environment(folder),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + PATIENCE
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def end(self) -> int:
        return self.process.wait(PATIENCE)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Training]:
    """A training of very many short epochs, already among its steps."""
    write_cubes(tmp_path / "data", 4)
    words = ["train", "data", "-o", "run", "--epochs", "100000", "--device", "cpu", *settings()]
    training = Training(tmp_path, *words)
    training.wait_for("training ...")
    yield training
    if training.process.poll() is None:
        training.process.kill()
        training.process.wait()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_interrupted_once_it_saves_and_ends_well(endless: Training, number: int) -> None:
    endless.wait_for("epoch 1 ")
    endless.process.send_signal(number)
    assert endless.end() == 0
    text = endless.log.read_text()
    assert "finishing: validating and saving" in text
    assert "stopped after" in text
    description = json.loads((endless.folder / "run" / "model" / "model.json").read_text())
    assert description["facts"]["finished"] is False
    assert description["facts"]["step"] > 0
    assert (endless.folder / "run" / "resume" / "state.safetensors").is_file()
    assert (endless.folder / "run" / "report.html").is_file()
    assert "report run/report.html" in text


@pytest.mark.slow
def test_interrupted_twice_it_ends_at_once(tmp_path: Path) -> None:
    # A scan that takes long to validate leaves time for the second signal.
    data = write_cubes(tmp_path / "data", 2, size=64)
    words = ["train", data, "-o", "run", "--epochs", "100000", "--device", "cpu"]
    small = settings(patch__size=(16, 16, 16), decode__overlap=0.9)
    training = Training(tmp_path, *words, *small)
    training.wait_for("training ...")
    training.process.send_signal(signal.SIGINT)
    training.wait_for("once more to stop at once")
    training.process.send_signal(signal.SIGINT)
    assert training.end() == 130
    assert training.log.read_text().rstrip().endswith("interrupted")
    assert "Traceback" not in training.log.read_text()


@pytest.mark.slow
def test_killed_and_started_again_it_resumes(endless: Training) -> None:
    state = endless.folder / "run" / "resume" / "state.safetensors"
    until = time.monotonic() + PATIENCE
    while not state.is_file():
        assert time.monotonic() < until
        time.sleep(0.05)
    endless.process.kill()
    assert endless.end() == -signal.SIGKILL
    history = (endless.folder / "run" / "history.csv").read_text().splitlines()
    words = endless.process.args[:]
    assert isinstance(words, list)
    again = Training(endless.folder, *words[3:])
    try:
        again.wait_for("resuming at step")
        again.wait_for("training ...")
        again.wait_for("epoch ")
        again.process.send_signal(signal.SIGINT)
        assert again.end() == 0
    finally:
        if again.process.poll() is None:
            again.process.kill()
            again.process.wait()
    resumed = re.search(r"resuming at step (\d+)", again.log.read_text())
    assert resumed
    assert int(resumed[1]) > 0
    facts = json.loads((endless.folder / "run" / "model" / "model.json").read_text())["facts"]
    assert facts["step"] > int(resumed[1])
    # An epoch after the last state was lost with the process: its line is written anew.
    kept = history[:1] + [
        line for line in history[1:] if int(line.split(",")[1]) <= int(resumed[1])
    ]
    lines = (endless.folder / "run" / "history.csv").read_text().splitlines()
    assert lines[: len(kept)] == kept
    steps = [int(line.split(",")[1]) for line in lines[1:]]
    assert steps == sorted(set(steps))
    assert steps[-1] > int(resumed[1])
    for path in (endless.folder / "run").rglob("*.safetensors"):
        assert load_file(path)
    assert not list((endless.folder / "run").rglob(".*"))


# --- from end to end -----------------------------------------------------------------------------


@pytest.mark.slow
def test_from_sample_to_scores(tmp_path: Path) -> None:
    def good(*words: object) -> subprocess.CompletedProcess[str]:
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    assert re.match(r"\d+ files in sample\n$", good("sample", "sample").stdout)
    data = tmp_path / "sample" / "mr" / "train"
    for part in ("images", "labels"):
        for path in sorted((data / part).iterdir())[3:]:
            path.unlink()
    assert "3 cases, 3-D" in good("check", data).stdout
    small = settings(patch__size=(16, 16, 16))
    shown = good("train", data, "--epochs", 1, "--device", "cpu", *small)
    assert shown.stdout.splitlines()[-1] == "runs/train-001"
    assert "Dice on" in shown.stdout
    assert (tmp_path / "runs" / "train-001" / "report.html").is_file()
    origin = json.loads((tmp_path / "runs" / "train-001" / "run.json").read_text())
    assert origin["command"].startswith(f"unetseg train {data} --epochs 1 --device cpu --set ")
    (listed,) = (json.loads(line) for line in good("runs", "--json").stdout.splitlines())
    assert (listed["run"], listed["state"]) == ("runs/train-001", "finished")
    test = tmp_path / "sample" / "mr" / "test"
    scan, *_ = sorted((test / "images").iterdir())
    shown = good("predict", scan, "-o", "out", "--device", "cpu", "--overlay", "--probabilities")
    stem = scan.name.removesuffix(".nii.gz")
    assert shown.stdout.splitlines() == [f"out/{stem}_seg.nii.gz", f"out/{stem}_overlay.png"]
    mask = nib.load(tmp_path / "out" / f"{stem}_seg.nii.gz")
    np.testing.assert_array_equal(mask.affine, nib.load(scan).affine)
    with Image.open(tmp_path / "out" / f"{stem}_overlay.png") as picture:
        assert picture.mode == "RGB"
    maps = np.asarray(nib.load(tmp_path / "out" / f"{stem}_prob.nii.gz").dataobj)
    assert maps.shape[:3] == mask.shape
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    truth = test / "labels" / scan.name
    shown = good(
        "evaluate", truth, tmp_path / "out" / f"{stem}_seg.nii.gz", "--json", "-o", "s.csv"
    )
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    labels = np.asarray(nib.load(truth).dataobj)
    predicted = np.asarray(mask.dataobj)
    scored = {row["label"]: row for row in rows if "label" in row and "dice" in row}
    assert scored
    for value, row in scored.items():
        one, other = labels == value, predicted == value
        dice = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert row["dice"] == pytest.approx(dice)
    with (tmp_path / "s.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= len(scored)
    # A second run gets a folder of its own, a second prediction finds its masks.
    again = good("predict", scan, "-o", "out", "--device", "cpu")
    assert "skipped" in again.stderr


@pytest.mark.slow
def test_a_folder_of_predictions_can_be_evaluated_with_all_that_lies_in_it(
    trained: Path, tmp_path: Path
) -> None:
    images, labels = trained / "data" / "images", trained / "data" / "labels"
    options = ["--overlay", "--probabilities", "--device", "cpu"]
    done = run(tmp_path, "predict", images, "-o", "out", "--model", trained / "run", *options)
    assert done.returncode == 0, done.stderr
    done = run(tmp_path, "evaluate", labels, "out", "--json")
    assert done.returncode == 0, done.stderr
    cases = {json.loads(line).get("case") for line in done.stdout.splitlines()}
    assert {f"case_{number}" for number in range(4)} <= cases


def test_the_cube_is_what_the_tests_take_it_for() -> None:
    image, labels = cube((16, 18, 20), 0)
    assert labels.sum() == 7**3
    assert image[labels == 1].mean() - image[labels == 0].mean() == pytest.approx(100, abs=5)


# --- study ---------------------------------------------------------------------------------------


def test_a_study_ends_with_its_sentences_and_its_page(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", 6)
    words = ["study", "degradation", str(data), "-o", str(tmp_path / "out"), "--depths", "8,14"]
    words += ["--encoders", "plain", "--seeds", "1", "--steps", "2", "--device", "cpu"]
    words += ["--set", "patch.size=[16,16]", "--set", "network.features=[4,4,4]"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    *_, sentence, page = shown.stdout.splitlines()
    assert sentence.startswith("plain: ")
    assert Path(page).is_file()
    runs = [str(tmp_path / "out" / "runs" / f"plain-{depth}-seed0") for depth in (8, 14)]
    drawn = ["study", "landscape", *runs, "-o", str(tmp_path / "land"), "--grid", "5"]
    shown = CliRunner().invoke(app, [*drawn, "--samples", "2", "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "land" / "figures" / "contours.svg").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["degradation", "x", "--depths", "deep"], "--depths: not whole numbers .*such as 20,56"),
        (["degradation", "x", "--depths", "21"], "--depths: not a depth of this family"),
        (["skips", "x", "--skips", "add"], "--skips: nothing to compare"),
        (["landscape", "x", "--grid", "6"], "--grid: not a grid with a middle"),
    ],
)
def test_a_study_that_cannot_be_made_is_a_usage_error(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, _, err = here(["study", *words], monkeypatch, capsys)
    assert ended == 2
    assert re.search(message, err)
    assert list(tmp_path.iterdir()) == []
