"""Several folds at the same time: each in a process of its own, on a device of its own."""

import os
import signal
import subprocess
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from statistics import mean
from threading import Thread
from time import monotonic
from typing import IO

import torch

from unetseg.devices import measure
from unetseg.processes import ProcessFailed, how_ended, python
from unetseg.records import EpochDone, Listener, Note, Progress, Stage
from unetseg.training.fold_process import STOP, Ended, Told, said_in

_POLL_SECONDS = 0.2
# What a process has to save its state in, once it is interrupted.
_SAVING_SECONDS = 30.0

Begin = Callable[[int, str, int, float], str]


@dataclass(eq=False)
class _Worker:
    """A process that trains a fold.

    slot : which of the devices it has, by number
    is_heard : it has said something, so that there may be something to lose
    first, last : where the training stood when it was first and last heard of
    """

    fold: int
    slot: int
    process: subprocess.Popen[bytes]
    begun: float
    is_heard: bool = False
    first: Progress | None = None
    last: Progress | None = None

    @property
    def name(self) -> str:
        return f"fold {self.fold}"

    @property
    def asked(self) -> IO[bytes]:
        """What the process is told goes here."""
        if self.process.stdin is None:
            raise ValueError("a process without stdin")
        return self.process.stdin

    def ask(self, line: bytes) -> None:
        # A process that is gone is noticed by what it no longer says.
        with suppress(OSError):
            self.asked.write(line + b"\n")
            self.asked.flush()

    def listen(self, said: "SimpleQueue[tuple[_Worker, bytes]]") -> None:
        """Pass on its lines, and an empty one when it is gone."""
        if self.process.stdout is not None:
            with self.process.stdout as lines:
                for line in lines:
                    said.put((self, line))
        said.put((self, b""))


def train_at_once(
    todo: Sequence[int],
    devices: Sequence[str],
    begin: Begin,
    listener: Listener,
    should_stop: Callable[[], bool],
    words: Sequence[str] = ("-m", "unetseg.training.fold_process"),
) -> Iterator[tuple[int, bool]]:
    """Train folds, as many at a time as there are devices; each, and whether it is finished.

    begin : the order for a fold on a device, a line; given the number of folds that are left to
        each device, this one among them, and the seconds that the folds beside it have taken
    should_stop : asked between events; all folds that are being trained are saved then
    words : what Python is to run for a fold, see fold_process

    Raises ProcessFailed when the other folds have been saved; on any other error, or if the
    iteration is broken off, the processes save what they have and end.
    """
    run = _AtOnce(devices, listener, words, len(todo))
    try:
        yield from run.go(deque(todo), begin, should_stop)
    finally:
        run.end()


class _AtOnce:
    """The processes of one command."""

    def __init__(
        self, devices: Sequence[str], listener: Listener, words: Sequence[str], total: int
    ) -> None:
        self._devices, self._listener, self._words = devices, listener, words
        self._total, self._finished, self._start = total, 0, monotonic()
        self._said: SimpleQueue[tuple[_Worker, bytes]] = SimpleQueue()
        self._running: list[_Worker] = []
        self._failures: list[tuple[_Worker, Ended]] = []
        threads = max(1, measure(torch.device("cpu")).cores // len(devices))
        self._environment = {"OMP_NUM_THREADS": str(threads), **os.environ}

    def go(
        self, left: deque[int], begin: Begin, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[int, bool]]:
        self._listener(Stage(f"training {len(left)} folds, {len(self._devices)} at a time"))
        free, turns = deque(range(len(self._devices))), Counter[int]()
        waves, is_stopped = -(-len(left) // len(self._devices)), False
        while left or self._running:
            if not is_stopped and (self._failures or should_stop()):
                is_stopped = True
                left.clear()
                for worker in self._running:
                    worker.ask(STOP)
            while left and free:
                slot, fold = free.popleft(), left.popleft()
                beside = sum(monotonic() - worker.begun for worker in self._running)
                order = begin(fold, self._devices[slot], waves - turns[slot], beside)
                self._start_worker(fold, slot, order)
                turns[slot] += 1
            try:
                worker, line = self._said.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            said = said_in(line) if line else Ended(finished=False, exit_code=5)
            if not isinstance(said, Ended):
                self._tell(worker, said)
            elif worker in self._running:
                self._running.remove(worker)
                self._let_go(worker)
                if not line:
                    code = worker.process.returncode
                    said = replace(said, fault=f"the process {how_ended(code)}")
                if said.fault:
                    self._failures.append((worker, said))
                else:
                    self._finished += said.finished
                    free.append(worker.slot)
                    yield worker.fold, said.finished
        if self._failures:
            raise self._fault()

    def _start_worker(self, fold: int, slot: int, order: str) -> None:
        process = subprocess.Popen(
            python(*self._words),
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A Ctrl-C comes to the first process, which passes it on.
            start_new_session=True,
        )
        worker = _Worker(fold, slot, process, monotonic())
        self._running.append(worker)
        Thread(target=worker.listen, args=(self._said,), daemon=True).start()
        worker.ask(order.encode())

    @staticmethod
    def _let_go(worker: _Worker) -> None:
        # It waits for nothing any more: the end of its stdin ends it at once.
        with suppress(OSError):
            worker.asked.close()
        worker.process.wait()

    def _tell(self, worker: _Worker, event: Told) -> None:
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
        pairs = [(each.first, each.last) for each in self._running]
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
        worker, ended = self._failures[0]
        if ended.exit_code is None:
            return RuntimeError(f"{worker.name}: {ended.fault}")
        where = f"{worker.name} on {self._devices[worker.slot]}"
        return ProcessFailed(ended.fault, ended.exit_code, where=where)

    def end(self) -> None:
        """Have the processes that are left save what they have, as a second Ctrl-C does."""
        for worker in self._running:
            if worker.is_heard:
                worker.process.send_signal(signal.SIGINT)
            else:
                worker.process.kill()
        ends = monotonic() + _SAVING_SECONDS
        for worker in self._running:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, ends - monotonic()))
            worker.process.kill()
            self._let_go(worker)
        self._running.clear()
