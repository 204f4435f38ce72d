"""Folds at the same time, in processes of their own: what they say, how they fail, how they end."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cubes import request, write_cubes
from fake_folds import PATIENCE, begin, fail, meet, never, speak, wait, words
from safetensors.torch import load_file
from test_cli import Training, run, settings

from unetseg.errors import UsageError
from unetseg.processes import ProcessFailed
from unetseg.records import EpochDone, Event, Machine, Note, Progress, Stage
from unetseg.training.at_once import train_at_once
from unetseg.training.cross_validation import CrossValidation, cross_validate

# Of which each of two processes gets one.
CORES = Machine("cpu", 1 << 30, 2)


# --- processes without a training ----------------------------------------------------------------


def test_each_fold_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    heard: list[Event] = []
    found = train_at_once([3, 5], ["cpu", "cuda:1"], begin(), heard.append, never, words(speak))
    assert sorted(found) == [(3, True), (5, True)]
    assert heard[0] == Stage("training 2 folds, 2 at a time")
    assert not any(isinstance(event, Stage) for event in heard[1:])
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    notes = {event.text: event.level for event in heard if isinstance(event, Note)}
    assert notes == {
        f"fold 3: on cpu, {threads} threads": "warning",
        f"fold 5: on cuda:1, {threads} threads": "warning",
    }
    epochs = [event for event in heard if isinstance(event, EpochDone)]
    assert {event.training for event in epochs} == {"fold 3", "fold 5"}
    assert epochs[0].is_best
    assert epochs[0].values[0] == 0.5
    assert math.isnan(epochs[0].values[1])
    progress = [event for event in heard if isinstance(event, Progress)]
    assert [event.loss for event in progress] == [2.0, 2.0]
    # Half of one of two folds, then of both, or one that is done and half of the other.
    assert progress[0].share == 0.25
    assert progress[1].share in (0.5, 0.75)


def test_as_many_are_trained_at_a_time_as_there_are_devices(tmp_path: Path) -> None:
    asked: list[tuple[int, str, int, bool]] = []

    def order(fold: int, device: str, waves: int, beside: float) -> str:
        asked.append((fold, device, waves, beside > 0))
        return json.dumps([fold, str(tmp_path), 2 if fold < 2 else 3])

    found = train_at_once(
        [0, 1, 2], ["cuda:1", "cuda:3"], order, lambda event: None, never, words(meet)
    )
    # Each of the first two has waited for the other.
    assert sorted(found) == [(0, True), (1, True), (2, True)]
    assert asked[:2] == [(0, "cuda:1", 2, False), (1, "cuda:3", 2, True)]
    fold, device, waves, _ = asked[2]
    assert (fold, waves) == (2, 1)
    assert device in ("cuda:1", "cuda:3")


@pytest.mark.parametrize(
    ("how", "text", "code"),
    [
        ("error", r"fold 1 on cpu: a\.tif: no such file; look for it; the same command goes on", 3),
        ("killed", r"fold 1 on cpu: the process was killed \(signal 9\); the system kills", 5),
        pytest.param(
            "exits",
            r"fold 1 on cpu: the process ended by itself \(code 7\); the same command",
            5,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_fold_that_fails_is_named_when_the_others_are_saved(
    how: str, text: str, code: int
) -> None:
    found = []
    with pytest.raises(ProcessFailed, match=text) as caught:
        for fold, is_done in train_at_once(
            [0, 1, 2], ["cpu", "cpu"], begin(how), lambda event: None, never, words(fail)
        ):
            found.append((fold, is_done))
    assert caught.value.exit_code == code
    # The third was not begun any more.
    assert found == [(0, False)]


def test_a_defect_is_one_here_too() -> None:
    with pytest.raises(RuntimeError, match=r"fold 1: Traceback [\s\S]*KeyError: 'something'"):
        list(
            train_at_once(
                [0, 1], ["cpu", "cpu"], begin("defect"), lambda event: None, never, words(fail)
            )
        )


def test_all_stop_when_asked_to() -> None:
    notes: list[Event] = []
    found = list(
        train_at_once(
            [0, 1, 2],
            ["cpu", "cpu"],
            begin(),
            notes.append,
            lambda: sum(isinstance(event, Note) for event in notes) == 2,
            words(wait),
        )
    )
    assert sorted(found) == [(0, False), (1, False)]


def test_all_save_when_they_are_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if sum(isinstance(each, Note) for each in heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(train_at_once([0, 1], ["cpu", "cpu"], begin(), hear, never, words(wait)))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["interrupted_0", "interrupted_1", "saved_0", "saved_1"]


PARENT = """
import sys
sys.path.insert(0, {tests!r})
from fake_folds import begin, never, wait, words
from unetseg.training.at_once import train_at_once

def hear(event):
    print(event, flush=True)

list(train_at_once([0, 1], ["cpu", "cpu"], begin(), hear, never, words(wait)))
"""


def test_none_outlives_the_first_process(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(Path(__file__).parent)))
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    with parent.stdout as lines:
        while "fold 1: waits" not in (line := next(lines)):
            assert line
        children = children_of(parent.pid)
        assert len(children) >= 2
        parent.kill()
        parent.wait()
    ends = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{child}/cwd").exists() for child in children):
        assert time.monotonic() < ends
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(path.parent.name))
    return found


# --- trainings -----------------------------------------------------------------------------------

WORDS = ["--folds", "3", "--epochs", "1", "--device", "cpu", *settings()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("at_once")
    write_cubes(made / "data", 6)
    return made


@pytest.fixture(scope="module")
def one_by_one(folder: Path) -> CrossValidation:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        asked = request(folder / "data", folder / "one", {"training.folds": 3})
        return cross_validate(asked)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_folds_at_the_same_time_are_those_one_after_another(
    folder: Path, one_by_one: CrossValidation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetseg.training.at_once.measure", lambda device: CORES)
    asked = request(folder / "data", folder / "both", {"training.folds": 3})
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    outcome = cross_validate(asked, hear, devices=("cpu", "cpu"))
    assert outcome.finished
    assert "fold 1 begins on cpu; 0 of 3 are done" in notes
    for fold in range(3):
        name = f"model/fold_{fold}.safetensors"
        mine, theirs = load_file(outcome.run / name), load_file(one_by_one.run / name)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    table = (outcome.run / "out_of_fold.csv").read_text()
    assert table == (one_by_one.run / "out_of_fold.csv").read_text()
    # The negative twin: folds are not all the same.
    first, second = (load_file(outcome.run / f"model/fold_{n}.safetensors") for n in (0, 1))
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_command_goes_on_where_it_was_ended(folder: Path, tmp_path: Path, number: int) -> None:
    (tmp_path / "data").symlink_to(folder / "data")
    words = ["train", "data", "-o", "run", "--devices", "2", *WORDS]
    words[words.index("--epochs") + 1] = "20"
    training = Training(tmp_path, *words)
    training.wait_for("fold 0: epoch 1 ")
    training.wait_for("fold 1: epoch 1 ")
    training.process.send_signal(number)
    code = training.end()
    log = training.log.read_text()
    assert "Traceback" not in log
    if number == signal.SIGINT:
        assert code == 130
        assert "stopped; the same command goes on in run\n" in log
    done = run(tmp_path, "train", "data", "-o", "run", "--device", "cpu", "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"fold [01]: resuming at step \d+", done.stderr) or number == signal.SIGKILL
    assert (tmp_path / "run" / "model" / "fold_2.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_cards_that_are_not_there_are_refused(folder: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there are some")
    shutil.copytree(folder / "data", tmp_path / "data")
    words = WORDS[: WORDS.index("--device")]
    done = run(tmp_path, "train", "data", "-o", "run", "--devices", "2", *words)
    assert done.returncode == 5
    assert "--devices: no such devices (expected CUDA devices, got none found)" in done.stderr
    assert not (tmp_path / "run").exists()


def test_mps_has_no_several() -> None:
    from unetseg.devices import several_devices

    with pytest.raises(UsageError, match="several devices of one kind"):
        several_devices("mps", (0, 1))
