"""What stands for the training of a fold in other processes: little, as each has to import it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from unetseg.errors import DataError
from unetseg.records import EpochDone, Listener, Note, Progress, Stage
from unetseg.training.fold import FoldTraining
from unetseg.training.out_of_fold import FoldScores
from unetseg.training.scores import Dice
from unetseg.training.validation import Validation

PATIENCE = 60.0


def scores_of(name: str) -> FoldScores:
    return FoldScores(None, 0.0, Validation((name,), ((1.0,),), Dice(("object",))))


def speak(training: Any, listener: Listener, should_stop: Callable[[], bool]) -> FoldScores:
    del should_stop
    fold, device = training
    listener(Stage("training"))
    listener(Note(f"on {device}, {torch.get_num_threads()} threads", "warning"))
    listener(Progress(0.5, 10, 2.0, 3.0, 0.1, 7.0))
    listener(EpochDone(1, 2, 3.0, 0.1, 0.5, 6.0, 0.0, (0.5,), 0.5, True))
    return scores_of(f"{fold} {device}")


def meet(training: Any, listener: Listener, should_stop: Callable[[], bool]) -> FoldScores:
    """Ends when as many as there are devices are at it."""
    del listener, should_stop
    fold, folder, count = training
    (folder / f"here_{fold}").touch()
    ends = time.monotonic() + PATIENCE
    while len(list(folder.glob("here_*"))) < count and time.monotonic() < ends:
        time.sleep(0.02)
    return scores_of(str(len(list(folder.glob("here_*"))) >= count))


def fail(training: Any, listener: Listener, should_stop: Callable[[], bool]) -> FoldScores | None:
    fold, how = training
    if fold != 1:
        return wait(training, listener, should_stop)
    if how == "error":
        raise DataError("no such file", where="a.tif", hint="look for it")
    if how == "defect":
        raise KeyError("something")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(7)


def wait(training: Any, listener: Listener, should_stop: Callable[[], bool]) -> FoldScores | None:
    """Saves and ends when it is asked to stop, or is interrupted."""
    fold, *_ = training
    listener(Note("waits"))
    ends = time.monotonic() + PATIENCE
    try:
        while not should_stop():
            time.sleep(0.02)
            assert time.monotonic() < ends
    except KeyboardInterrupt:
        Path(f"interrupted_{fold}").touch()
        # As a training that saves does; nobody hears it.
        listener(Note("interrupted"))
        Path(f"saved_{fold}").touch()
        raise
    return None


def begin(*more: Any) -> Callable[[int, str, int, float], FoldTraining]:
    def training(fold: int, device: str, waves: int, beside: float) -> FoldTraining:
        del waves, beside
        return cast("FoldTraining", (fold, *(more or (device,))))

    return training


def never() -> bool:
    return False
