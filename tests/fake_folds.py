"""What stands for the training of a fold in another process: `python fake_folds.py NAME`."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from unetseg.errors import DataError
from unetseg.records import EpochDone, Listener, Note, Progress, Stage
from unetseg.training.fold_process import serve

PATIENCE = 60.0


def words(work: Callable[[str, Listener, Callable[[], bool]], bool]) -> Sequence[str]:
    """What Python is to run for one of the functions below."""
    return (__file__, work.__name__)


def begin(*more: object) -> Callable[[int, str, int, float], str]:
    """Orders of a fold and its device, or of a fold and more."""

    def order(fold: int, device: str, waves: int, beside: float) -> str:
        del waves, beside
        return json.dumps([fold, *(more or (device,))])

    return order


def never() -> bool:
    return False


def speak(order: str, listener: Listener, should_stop: Callable[[], bool]) -> bool:
    del should_stop
    _, device = json.loads(order)
    # A library that prints does not come between.
    sys.stdout.write("what nobody asked for\n")
    sys.stdout.flush()
    listener(Stage("training"))
    listener(Note(f"on {device}, {os.environ['OMP_NUM_THREADS']} threads", "warning"))
    listener(Progress(0.5, 10, 2.0, 3.0, 0.1, 7.0))
    nan = float("nan")
    listener(EpochDone(1, 2, 3.0, 0.1, 0.5, nan, nan, (0.5, nan), 0.5, is_best=True))
    return True


def meet(order: str, listener: Listener, should_stop: Callable[[], bool]) -> bool:
    """True once as many as there are devices are at it."""
    del listener, should_stop
    fold, folder, count = json.loads(order)
    (Path(folder) / f"here_{fold}").touch()
    ends = time.monotonic() + PATIENCE
    while len(list(Path(folder).glob("here_*"))) < count:
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def fail(order: str, listener: Listener, should_stop: Callable[[], bool]) -> bool:
    fold, how = json.loads(order)
    if fold != 1:
        return wait(order, listener, should_stop)
    if how == "error":
        raise DataError("no such file", where="a.tif", hint="look for it")
    if how == "defect":
        raise KeyError("something")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(7)


def wait(order: str, listener: Listener, should_stop: Callable[[], bool]) -> bool:
    """Saves and ends when it is asked to stop, or is interrupted."""
    fold, *_ = json.loads(order)
    ends = time.monotonic() + PATIENCE
    try:
        # Whoever hears it may interrupt it at once.
        listener(Note("waits"))
        while not should_stop():
            time.sleep(0.02)
            assert time.monotonic() < ends
    except KeyboardInterrupt:
        Path(f"interrupted_{fold}").touch()
        # As a training that saves does; nobody hears it.
        listener(Note("interrupted"))
        Path(f"saved_{fold}").touch()
        raise
    return False


if __name__ == "__main__":
    serve({"speak": speak, "meet": meet, "fail": fail, "wait": wait}[sys.argv[1]])
