"""`--devices`: how the processes are started, and what is said when one comes to nothing."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from cubes import write_cubes
from ranks import free_port
from safetensors.torch import load_file
from test_cli import PATIENCE, Training, arguments, environment, run, settings

from unetseg.arguments import cards_of
from unetseg.cli import starting
from unetseg.cli.starting import start, variables
from unetseg.errors import UsageError
from unetseg.processes import ProcessFailed, python

# --- which devices -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cards"), [("1", (0,)), ("3", (0, 1, 2)), ("0,2", (0, 2)), ("3, 1", (3, 1))]
)
def test_how_many_devices_or_which(text: str, cards: tuple[int, ...]) -> None:
    assert cards_of(text) == cards


@pytest.mark.parametrize("text", ["0", "two", "", "1,1", "-2", "0;1"])
def test_what_are_no_devices(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--devices: not (devices|whole numbers) \(expected"):
        cards_of(text)


def test_a_process_knows_its_place_and_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    first, second = (variables(rank, (0, 1), 4711) for rank in (0, 1))
    assert first | {"RANK": "1", "LOCAL_RANK": "1"} == second
    assert (second["WORLD_SIZE"], second["LOCAL_WORLD_SIZE"]) == ("2", "2")
    assert (second["MASTER_ADDR"], second["MASTER_PORT"]) == ("127.0.0.1", "4711")
    # Seven cores for two.
    assert second["OMP_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in second
    assert variables(0, (2, 0), 1)["CUDA_VISIBLE_DEVICES"] == "2,0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5,6")
    assert variables(0, (2, 1), 1)["CUDA_VISIBLE_DEVICES"] == "6,GPU-5"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert variables(0, (0, 1), 1)["OMP_NUM_THREADS"] == "1"


def test_another_python_is_as_safe_as_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/bin", "/lib"])
    # What lies in the current folder is nobody's module.
    safe = [sys.executable, "-P", "-m", "unetseg.cli", "train", "a b"]
    assert python("-m", "unetseg.cli", "train", "a b") == safe
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), "/lib"])
    assert python(*safe[2:]) == [word for word in safe if word != "-P"]


# --- what becomes of them ----------------------------------------------------------------------

Fake = Callable[[str], int]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Fake]:
    """Start three processes that do no more than what the code says."""
    monkeypatch.chdir(tmp_path)
    before = [
        "import os, sys, time, signal, pathlib",
        "rank = int(os.environ['RANK'])",
        "pathlib.Path(f'{rank}.pid').write_text(str(os.getpid()))",
        "def wait_for(name):",
        "    while not pathlib.Path(name).is_file(): time.sleep(0.01)",
    ]

    def started(code: str) -> int:
        text = "\n".join([*before, *(line.strip() for line in code.strip().splitlines())])
        monkeypatch.setattr(starting, "_command", lambda: [sys.executable, "-c", text])
        return start((0, 1, 2), debug=False)

    yield started
    for path in tmp_path.glob("*.pid"):
        assert not psutil.pid_exists(int(path.read_text())), f"{path.stem} is still there"


def test_only_the_first_is_heard(fake: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    assert fake("print(rank, os.environ['WORLD_SIZE']); sys.stderr.write(f'e{rank}')") == 0
    assert capfd.readouterr() == ("0 3\n", "e0")


def test_one_that_is_killed_is_named_and_the_others_end(fake: Fake) -> None:
    code = """
    if rank == 0: wait_for('2.pid'); time.sleep(0.3); open('saved', 'w').close(); sys.exit(75)
    if rank == 1: time.sleep(60)
    if rank == 2: wait_for('1.pid'); os.kill(os.getpid(), signal.SIGKILL)
    """
    begun = time.monotonic()
    with pytest.raises(ProcessFailed) as caught:
        fake(code)
    assert str(caught.value) == (
        "rank 2 of 3 was killed (signal 9); the system kills what takes too much memory;"
        " the same command goes on with the run"
    )
    assert caught.value.exit_code == 5
    # The first has had the time to save.
    assert Path("saved").is_file()
    assert time.monotonic() - begun < 20


def test_one_that_fails_has_its_own_message_and_code(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    code = """
    if rank == 1: print('noise', 'error: x.nii: bad; mend it', '', sep=chr(10), file=sys.stderr)
    if rank == 1: sys.exit(3)
    wait_for('1.pid'); time.sleep(0.2); sys.exit(75)
    """
    with pytest.raises(ProcessFailed, match=r"^rank 1 of 3: x\.nii: bad; mend it$") as caught:
        fake(code)
    assert caught.value.exit_code == 3
    assert capfd.readouterr() == ("", "")


def test_what_the_first_says_is_not_said_twice(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    code = """
    if rank == 0: wait_for('1.pid'); time.sleep(0.3)
    sys.stderr.write(f'error: {rank}')
    sys.exit(3 + rank)
    """
    assert fake(code) == 3
    assert capfd.readouterr() == ("", "error: 0")


def test_the_first_may_be_killed_too(fake: Fake) -> None:
    with pytest.raises(ProcessFailed, match=r"^rank 0 of 3 was killed \(signal 15\); the same"):
        fake("if rank == 0: os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60 * rank)")


def test_all_may_lose_one_another(fake: Fake) -> None:
    with pytest.raises(ProcessFailed, match=r"^the processes have lost one another; the same"):
        fake("sys.exit(75)")


def test_others_that_do_not_end_are_ended_after_the_first(fake: Fake) -> None:
    begun = time.monotonic()
    assert fake("wait_for('2.pid'); time.sleep(60 * rank)") == 0
    assert time.monotonic() - begun < 20


def interrupt_once(name: str, *, times: int) -> None:
    """Send this process SIGINT when the file is there."""

    def send() -> None:
        for number in range(times):
            while not Path(f"{name}{number}").is_file():
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


def test_an_interruption_goes_to_the_first_alone(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    code = """
    signal.signal(signal.SIGINT, lambda *_: (print('heard', rank, flush=True), sys.exit(0)))
    if rank == 0: wait_for('1.pid'); wait_for('2.pid'); open('here0', 'w').close()
    wait_for('never' if rank == 0 else 'done')
    """
    interrupt_once("here", times=1)
    assert fake(code) == 0
    assert capfd.readouterr().out == "heard 0\n"


def test_a_second_interruption_ends_a_first_that_does_not_listen(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_FIRST_SECONDS", 0.5)
    code = """
    signal.signal(signal.SIGINT, lambda *_: open('here1', 'w').close())
    if rank == 0: wait_for('1.pid'); wait_for('2.pid'); open('here0', 'w').close()
    wait_for('never')
    """
    interrupt_once("here", times=2)
    with pytest.raises(KeyboardInterrupt):
        fake(code)


def test_debug_shows_all_that_was_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; sys.stderr.write('Traceback\\nerror: x\\n' * int(os.environ['RANK']))"
    code += "; sys.exit(70 if os.environ['RANK'] == '1' else 75)"
    monkeypatch.setattr(starting, "_command", lambda: [sys.executable, "-c", code])
    with pytest.raises(ProcessFailed, match=r"^rank 1 of 2: x$"):
        start((0, 1), debug=True)
    assert capfd.readouterr().err == "Traceback\nerror: x\n"


def test_a_process_ends_with_the_one_that_has_started_it() -> None:
    code = (
        "from unetseg.cli import starting; starting.end_with_parent(); import time; time.sleep(60)"
    )
    gone = os.environ | {"UNETSEG_PARENT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=gone, timeout=30, check=False)
    assert done.returncode == 1


# --- from end to end ---------------------------------------------------------------------------


def ranks_of(training: Training) -> dict[int, psutil.Process]:
    children = psutil.Process(training.process.pid).children()
    return {int(child.environ()["RANK"]): child for child in children}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_cubes(tmp_path / "data", 6)
    return tmp_path


WORDS = ["train", "data", "-o", "run", "--device", "cpu", *settings(patch__batch=4)]


@pytest.fixture
def endless(folder: Path) -> Iterator[Training]:
    training = Training(folder, *WORDS, "--epochs", "100000", "--devices", "3")
    training.wait_for("epoch 2 ")
    children = list(ranks_of(training).values())
    yield training
    training.process.kill()
    training.process.wait()
    for child in children:
        child.wait(PATIENCE)


def steps(folder: Path) -> int:
    state = load_file(folder / "run" / "resume" / "state.safetensors")
    return int(state["optimiser.0.step"])


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_which_goes_on_with_other_ranks(endless: Training) -> None:
    ranks_of(endless)[2].kill()
    assert endless.end() == 5
    said = endless.log.read_text()
    assert said.splitlines()[-1].startswith("error: rank 2 of 3 was killed (signal 9); ")
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    folder, taken = endless.folder, steps(endless.folder)
    assert f"step {taken} is saved" in said
    epochs = taken // 2 + 1
    for more, count in enumerate((1, 3, 2)):
        words = [*WORDS, "--epochs", epochs + more, "--devices", count]
        done = run(folder, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "run"
        assert f"resuming at step {taken if more == 0 else 2 * (epochs + more - 1)}" in done.stderr
        assert steps(folder) == 2 * (epochs + more)
    assert not list((folder / "run").rglob(".*"))


@pytest.mark.slow
def test_interrupted_once_all_end_well(endless: Training) -> None:
    endless.process.send_signal(signal.SIGINT)
    assert endless.end() == 0
    said = endless.log.read_text()
    assert said.count("finishing: validating and saving") == 1
    stopped = re.search(r"stopped after (\d+) steps", said)
    assert stopped
    assert 0 < steps(endless.folder) <= int(stopped[1])


@pytest.mark.slow
def test_when_the_first_process_is_gone_all_are(endless: Training) -> None:
    children = list(ranks_of(endless).values())
    assert len(children) == 3
    endless.process.kill()
    _, alive = psutil.wait_procs(children, PATIENCE)
    assert not alive


@pytest.mark.slow
def test_an_error_has_the_code_of_one_process(folder: Path) -> None:
    done = run(folder, *WORDS, "--epochs", 1, "--devices", 5)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert re.search(r"patch\.batch: more processes than patches .*expected 5 or more", errors[0])
    assert not (folder / "run").exists()


def torchrun(count: int, *words: object) -> list[str]:
    options = ["--nnodes", "1", "--nproc-per-node", str(count), "--master-port", str(free_port())]
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    return [*launcher, "--no-python", *arguments(*words)]


@pytest.mark.slow
def test_torchrun_trains_too(folder: Path) -> None:
    def started(words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            # torchrun loads all of torch before its processes do.
            timeout=3 * PATIENCE,
            check=False,
        )

    done = started(torchrun(2, *WORDS, "--epochs", 2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Dice on 2 validation") == 1
    assert done.stderr.count("finished after 4 steps") == 1
    assert "2 x cpu" in (folder / "run" / "log.txt").read_text()
    assert steps(folder) == 4
    done = started(torchrun(2, *WORDS, "--epochs", 2, "--devices", 2))
    assert done.returncode == 1
    assert "--devices: torchrun has started the processes already; leave it out" in done.stderr
