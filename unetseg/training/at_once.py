"""Several folds at the same time: each in a process of its own, on a device of its own."""

import os
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event as Flag
from statistics import mean
from threading import Thread
from time import monotonic

import torch

from unetseg.devices import measure
from unetseg.errors import UnetsegError
from unetseg.records import EpochDone, Event, Listener, Note, Progress, Stage
from unetseg.training.fold import FoldTraining, train_fold
from unetseg.training.out_of_fold import FoldScores

_POLL_SECONDS = 0.2
# What a process has to save its state in, once it is interrupted.
_SAVING_SECONDS = 30.0

_GO_ON = "the same command goes on with the run"

Work = Callable[[FoldTraining, Listener, Callable[[], bool]], FoldScores | None]
Begin = Callable[[int, str, int, float], FoldTraining]


class FoldFailed(UnetsegError):
    """The training of one of several folds came to nothing; it has the exit code of its error."""

    def __init__(self, what: str, where: str, exit_code: int, hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.exit_code = exit_code


@dataclass(frozen=True)
class _Failure:
    """Why a process could not train its fold.

    exit_code : of the error; None for a defect, whose text is a traceback
    """

    text: str
    exit_code: int | None


@dataclass(frozen=True)
class _Ended:
    """What has become of a fold; without scores it was asked to stop."""

    scores: FoldScores | None


@dataclass(eq=False)
class _Worker:
    """A process that trains a fold.

    slot : which of the devices it has, by number
    is_heard : it has said something, so that there may be something to lose
    first, last : where the training stood when it was first and last heard of
    """

    fold: int
    slot: int
    process: SpawnProcess
    begun: float
    is_heard: bool = False
    first: Progress | None = None
    last: Progress | None = None

    @property
    def name(self) -> str:
        return f"fold {self.fold}"


def train_at_once(
    todo: Sequence[int],
    devices: Sequence[str],
    begin: Begin,
    listener: Listener,
    should_stop: Callable[[], bool],
    work: Work = train_fold,
) -> Iterator[tuple[int, FoldScores | None]]:
    """Train folds, as many at a time as there are devices; each with its scores when it is done.

    begin : what is to be done for a fold on a device, with the number of folds that are left to
        each device, this one among them, and the seconds that the folds beside it have taken
    should_stop : asked between events; all folds that are being trained are saved then, and come
        without scores
    work : a function that another process can import

    Raises FoldFailed when the other folds have been saved; on any other error, or if the iteration
    is broken off, the processes save what they have and end.
    """
    run = _AtOnce(devices, listener, work, len(todo))
    try:
        yield from run.go(deque(todo), begin, should_stop)
    finally:
        run.end()


class _AtOnce:
    """The processes of one command, each heard through a wire of its own."""

    def __init__(self, devices: Sequence[str], listener: Listener, work: Work, total: int) -> None:
        self._devices, self._listener, self._work = devices, listener, work
        self._total, self._finished, self._start = total, 0, monotonic()
        self._context = get_context("spawn")
        self._stop = self._context.Event()
        self._running: dict[Connection, _Worker] = {}
        self._failures: list[tuple[_Worker, _Failure]] = []
        self._threads = max(1, measure(torch.device("cpu")).cores // len(devices))

    def go(
        self, left: deque[int], begin: Begin, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, FoldScores | None]]:
        self._listener(Stage(f"training {len(left)} folds, {len(self._devices)} at a time"))
        free, turns = deque(range(len(self._devices))), Counter[int]()
        waves = -(-len(left) // len(self._devices))
        while left or self._running:
            if should_stop():
                self._stop.set()
            if self._stop.is_set():
                left.clear()
            while left and free:
                slot, fold = free.popleft(), left.popleft()
                beside = sum(monotonic() - worker.begun for worker in self._running.values())
                self._start_worker(
                    fold, slot, begin(fold, self._devices[slot], waves - turns[slot], beside)
                )
                turns[slot] += 1
            ready = wait([*self._running], _POLL_SECONDS)
            for wire in [each for each in self._running if each in ready]:
                worker = self._running[wire]
                answer = _heard(wire, worker)
                if isinstance(answer, _Ended):
                    self._let_go(wire)
                    self._finished += 1
                    free.append(worker.slot)
                    yield worker.fold, answer.scores
                elif isinstance(answer, _Failure):
                    self._let_go(wire)
                    self._failures.append((worker, answer))
                    self._stop.set()
                else:
                    self._tell(worker, answer)
        if self._failures:
            raise self._fault()

    def _start_worker(self, fold: int, slot: int, training: FoldTraining) -> None:
        wire, far_end = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_train,
            args=(self._work, training, far_end, self._stop, self._threads),
            name=f"unetseg fold {fold}",
        )
        process.start()
        # Or nobody would notice that the process is gone.
        far_end.close()
        self._running[wire] = _Worker(fold, slot, process, monotonic())

    def _let_go(self, wire: Connection) -> None:
        worker = self._running.pop(wire)
        wire.close()
        worker.process.join()

    def _tell(self, worker: _Worker, event: Event) -> None:
        """What a fold says, as one of several; their stages overlap, and are left out."""
        worker.is_heard = True
        match event:
            case Note():
                self._listener(replace(event, text=f"{worker.name}: {event.text}"))
            case EpochDone():
                self._listener(replace(event, training=worker.name))
            case Progress():
                worker.first, worker.last = worker.first or event, event
                self._listener(self._progress())

    def _progress(self) -> Progress:
        """Where all of them stand together."""
        pairs = [(each.first, each.last) for each in self._running.values()]
        firsts, lasts = [a for a, _ in pairs if a], [b for _, b in pairs if b]
        share = (self._finished + sum(each.share for each in lasts)) / self._total
        gained = share - sum(each.share for each in firsts) / self._total
        elapsed = monotonic() - self._start
        return Progress(
            share=share,
            step=sum(each.step for each in lasts),
            loss=mean(each.loss for each in lasts),
            steps_per_second=sum(each.steps_per_second for each in lasts),
            waiting=mean(each.waiting for each in lasts),
            seconds_left=elapsed * (1 - share) / gained if gained > 0 else 0.0,
        )

    def _fault(self) -> Exception:
        worker, failure = self._failures[0]
        if failure.exit_code is None:
            return RuntimeError(f"{worker.name}: {failure.text}")
        where = f"{worker.name} on {self._devices[worker.slot]}"
        return FoldFailed(failure.text, where, failure.exit_code, _GO_ON)

    def end(self) -> None:
        """Have the processes that are left save what they have, as a second Ctrl-C does."""
        for worker in self._running.values():
            if not worker.is_heard:
                worker.process.kill()
            elif worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        ends = monotonic() + _SAVING_SECONDS
        for wire, worker in self._running.items():
            # Nobody reads any more, and a full pipe would hold the process.
            wire.close()
            worker.process.join(max(0.0, ends - monotonic()))
            worker.process.kill()
            worker.process.join()
        self._running.clear()


def _heard(wire: Connection, worker: _Worker) -> Event | _Ended | _Failure:
    """The next thing that a process says, or that it is gone."""
    try:
        said: Event | _Ended | _Failure = wire.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        if code >= 0:
            return _Failure(f"the process ended by itself (code {code})", 5)
        text = f"the process was killed (signal {-code})"
        if code == -signal.SIGKILL:
            text += "; the system kills what takes too much memory"
        return _Failure(text, 5)
    return said


# --- in the other process ------------------------------------------------------------------------


def _train(work: Work, training: FoldTraining, wire: Connection, stop: Flag, threads: int) -> None:
    # The first process decides what a Ctrl-C or a SIGTERM means, which may come to all.
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    answer: _Ended | _Failure

    def tell(what: Event | _Ended | _Failure) -> None:
        # The first process may be ending.
        with suppress(OSError):
            wire.send(what)

    try:
        answer = _Ended(work(training, tell, stop.is_set))
    except UnetsegError as error:
        answer = _Failure(str(error), error.exit_code)
    except KeyboardInterrupt:
        # Nobody waits for an answer.
        return
    # It is raised by the first process, whose command decides what a person sees of it.
    except Exception:  # noqa: BLE001
        answer = _Failure(traceback.format_exc(), None)
    tell(answer)


def _end_with_parent() -> None:
    """End at once, as by `kill -9`, when the first process is gone."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
