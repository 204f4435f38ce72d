"""A folder of images and masks in, a run folder out."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from unetseg import checkpoint
from unetseg.allocator import keep_freed_memory
from unetseg.config import Plan
from unetseg.dataset.folds import Division, divide
from unetseg.devices import (
    find_device,
    machine_name,
    measure,
    memory_errors,
    usable_precision,
)
from unetseg.errors import DataError, RankLost
from unetseg.nets.unet import parameters
from unetseg.planning.fingerprint import Inspection
from unetseg.records import Case, Event, Listener, Note, Progress, Stage, ignore_event
from unetseg.runs.run_file import held
from unetseg.tasks import make_task
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.batches import Ahead, Batches
from unetseg.training.board import Board
from unetseg.training.history import append_log, forget_after
from unetseg.training.keeping import Keeping
from unetseg.training.opening import open_run
from unetseg.training.pace import Pace
from unetseg.training.preparing import prepare_together
from unetseg.training.ranks import losing, with_shared_statistics
from unetseg.training.request import Request, is_begun, joined, plan_for, refuse_errors
from unetseg.training.schedule import Clock, learning_rate
from unetseg.training.snapshots import Snapshots
from unetseg.training.start import begin
from unetseg.training.state import State, Tally, Writer
from unetseg.training.step import KEPT_BYTES, Learner
from unetseg.training.validation import Validation

# A killed training loses at most this much.
_SAVE_SECONDS = 110
# When a person ends a training early, the rate falls to zero within this many seconds and at
# most this share of the steps taken.
_LAST_SECONDS, _LAST_SHARE = 10.0, 0.1


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the validation of the kept model, and whether it ran to its end."""

    run: Path
    validation: Validation
    finished: bool


def train(
    request: Request,
    listener: Listener = ignore_event,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train, or go on with, the run that the request names.

    should_stop : asked between steps; once it says yes the training saves, lets the learning rate
        fall for some seconds, validates and ends; it can be gone on with as if that had not been

    Raises DataError, UsageError, ModelError or DeviceError; the state saved so far stays. A
    KeyboardInterrupt saves the state, if that is possible, and goes through.
    """
    plan, found = plan_for(request, listener)
    if request.ranks.is_first:
        refuse_errors(found)
    return run_plan(request, plan, found, listener, should_stop)


def run_plan(
    request: Request,
    plan: Plan,
    found: Inspection,
    listener: Listener = ignore_event,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train by a plan that is already made; see `train`."""
    training = _Training(request, plan, found, listener, should_stop)
    with held(request.run) if request.ranks.is_first else nullcontext():
        return training.go()


__all__ = ["Outcome", "Request", "joined", "plan_for", "refuse_errors", "run_plan", "train"]


class _Training:
    """One training from the prepared cases to the kept model."""

    def __init__(
        self,
        request: Request,
        plan: Plan,
        found: Inspection,
        listener: Listener,
        should_stop: Callable[[], bool],
    ) -> None:
        self.request, self.run, self.plan = request, request.run, plan
        self.should_stop = should_stop
        self.ranks = request.ranks
        self.show = listener
        keep_freed_memory(KEPT_BYTES)
        self.device = find_device(request.device)
        self.machine = measure(self.device)
        precision = usable_precision(plan.training.precision, self.machine)
        self.precision = self.ranks.told(str, lambda: precision)
        task = make_task(plan)
        self.log_path = self.run / "log.txt"
        self.train_cases, val_cases = self._split(found.cases)
        torch.manual_seed(plan.training.seed)
        network = checkpoint.build(plan)
        # A training that goes on needs neither the file nor the network it once began with.
        is_new = self.ranks.is_first and not is_begun(self.run)
        start = begin(network, plan, listener) if is_new else None
        network, note = with_shared_statistics(network, self.device, self.ranks)
        self.state = State.fresh(network, plan, self.device)
        self.resumed = self.ranks.is_first and self.state.restore(self.run / "resume", plan)
        if self.ranks.is_first:
            open_run(request, plan, found, machine_name(self.device))
            forget_after(self.run / "history.csv", self._told)
            if start is not None:
                start.write(self.run / "weights.json")
                self.say(start.summary())
        self.state.share(self.ranks, plan)
        if note:
            self.say(note)
        plateau = self.state.plateau
        before, after = self.state.seconds, request.seconds_after(len(val_cases))
        self.clock = Clock(plan.training, request.started, before, plateau, after=after)
        self.snapshots = Snapshots(self.run, plan.training.snapshots if self.ranks.is_first else 0)
        self.learner = Learner(self.state, plan, task, self.device, self.precision, self.ranks)
        self.writer = Writer(self.run / "resume")
        # Once it is left, the steps that follow are not part of what is gone on with.
        self.is_left = False
        # What the state was before the end of an epoch that is under way.
        self.before: Tally | None = None
        kept = self.state.average if plan.training.average_decay else self.state.network
        self.keeping = Keeping(
            run=self.run,
            state=self.state,
            clock=self.clock,
            segmenter=Segmenter(kept, plan, task, self.device, self.precision),
            cases=val_cases,
            pace=Pace.of(found.shapes, plan),
            source={
                "device": self._devices,
                "data": request.data.name,
                "cases": [len(self.train_cases), len(val_cases)],
                **(found.object_facts if plan.data.has_objects else {}),
                "scans": found.fingerprint.facts,
            },
            board=Board(self.run / "tensorboard", self._told, self.event),
            listener=self.event,
            ranks=self.ranks,
        )

    def say(self, text: str) -> None:
        self.event(Note(text))

    def event(self, event: Event) -> None:
        if not self.ranks.is_first:
            return
        if isinstance(event, Note):
            append_log(self.log_path, event.text)
        self.show(event)

    @property
    def _devices(self) -> str:
        return (
            f"{self.ranks.count} x {self.machine.kind}"
            if self.ranks.count > 1
            else self.machine.device
        )

    def _split(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        training = self.plan.training
        division = self.ranks.told(
            Division,
            lambda: divide(self.run, cases, training.fold, training.folds, training.seed),
        )
        self.division = division.reason
        return list(division.train), list(division.val)

    def go(self) -> Outcome:
        plan, state = self.plan, self.state
        self.say(self.division)
        self.say(
            f"{len(self.train_cases)} cases to learn from, {len(self.keeping.cases)} to validate;"
            f" {parameters(state.network):,} parameters; {self._devices}, {self.precision}"
        )
        if self.resumed:
            self.say(f"resuming at step {state.step}, {state.seconds:.0f} s into the training")
        if self.clock.position(state.step) >= 1 and self.resumed:
            self.say("this run has had all of its time; give more --time or --epochs to go on")
        cached = prepare_together(
            self.train_cases,
            plan,
            self.request.prepared,
            self.ranks,
            cores=self.machine.cores,
            skip_bad=self.request.skip_bad,
            listener=self.event,
        )
        if not cached:
            raise DataError("no case is left to learn from", where=self.request.data)
        host = measure(torch.device("cpu")).memory_bytes
        batches = Batches(cached, plan, host, self.device, self.machine.memory_bytes, self.ranks)
        try:
            with losing(self.ranks):
                with memory_errors(self.device):
                    self.event(Stage("training", None))
                    finished = self._loop(batches)
                return self._end(finished=finished)
        except (KeyboardInterrupt, DataError):
            self._broken_off()
            raise
        except RankLost:
            # What waits on a card for the lost rank's part would never be done.
            if self.device.type == "cpu":
                self._broken_off()
                self.say(f"another process has ended; step {self.state.step} is saved")
            raise
        finally:
            self.keeping.board.close()
            self.writer.finish()

    def _loop(self, batches: Batches) -> bool:
        """Learn until the schedule ends; False if it was stopped before."""
        state, training = self.state, self.plan.training
        saved = shown = perf_counter()
        if self._is_unclosed:
            last = state.step - 1
            rate = learning_rate(training, self.clock.position(last), last)
            self._epoch(rate, math.nan, math.nan)
        counted, epoch_start, paused = 0, perf_counter(), 0.0
        with Ahead(batches, state.step) as ahead:
            while True:
                position, is_stopped = self._course()
                if position >= 1:
                    break
                self.snapshots.take(position, self.keeping.segmenter.network)
                if is_stopped:
                    self._save()
                    self.is_left = True
                    self._let_fall(ahead, position, counted / (perf_counter() - epoch_start))
                    return False
                rate = learning_rate(training, position, state.step)
                self._step(ahead, rate, position)
                counted += 1
                now = perf_counter()
                spent = max(now - epoch_start - paused, 1e-9)
                if now - shown > 0.5 and self.ranks.is_first:
                    shown = now
                    self._progress(counted / spent, ahead.waited / spent)
                if state.step % training.steps_per_epoch == 0:
                    self._epoch(rate, counted / spent, ahead.waited / spent)
                    counted, epoch_start, paused, ahead.waited = 0, perf_counter(), 0.0, 0.0
                if perf_counter() - saved > _SAVE_SECONDS and self.ranks.is_first:
                    begun = perf_counter()
                    state.mean_loss()
                    self._save()
                    saved = perf_counter()
                    paused += saved - begun
        if state.counted:
            spent = max(perf_counter() - epoch_start - paused, 1e-9)
            with self._closing():
                self._tell(0.0, counted / spent, ahead.waited / spent, None)
        return True

    def _course(self) -> tuple[float, bool]:
        """How far the training is by the first rank's clock, and whether anybody is to stop it.

        Ranks that disagree on either would wait for one another for ever.
        """
        position = self.clock.position(self.state.step) if self.ranks.is_first else 0.0
        position, is_stopped = self.ranks.highest(position, self.should_stop())
        return position, bool(is_stopped)

    def _step(self, ahead: Ahead, rate: float, position: float) -> None:
        images, labels = ahead.next()
        frozen = position < self.plan.training.frozen_share
        rounds = self.state.step / ahead.steps_per_round
        self.learner.step(images, labels, rate, self.event, frozen=frozen, rounds=rounds)

    def _progress(self, speed: float, waiting: float) -> None:
        step = self.state.step
        self.event(
            Progress(
                share=self.clock.position(step),
                step=step,
                loss=self.state.mean_loss(),
                steps_per_second=speed,
                waiting=waiting,
                seconds_left=self.clock.seconds_left(step, speed),
            )
        )

    def _epoch(self, rate: float, speed: float, waiting: float) -> None:
        state, plateau = self.state, self.state.plateau
        if self.ranks.is_first:
            state.mean_loss()
        with self._closing():
            validation = self.keeping.after_epoch()
            if validation is not None and self.clock.is_open:
                was_steady = plateau.anneal_from is None
                plateau.look(self.plan.training, validation.mean, state.step)
                if was_steady and plateau.anneal_from is not None:
                    self.say(
                        f"the validation {validation.score.name} has not risen since step"
                        f" {plateau.risen_at} ({plateau.best:.4f}): the learning rate falls from"
                        " here on"
                    )
            self._tell(rate, speed, waiting, validation)
        if validation is not None:
            self._save()

    def _tell(
        self, rate: float, speed: float, waiting: float, validation: Validation | None
    ) -> None:
        if self.ranks.is_first:
            self.event(self.keeping.row(rate, speed, waiting, validation))

    @property
    def _told(self) -> int:
        """The step of the last row that stands."""
        return self.state.step - int(self._is_unclosed)

    @property
    def _is_unclosed(self) -> bool:
        """Whether an epoch's steps are taken and its validation and its row are not there yet."""
        state = self.state
        return state.counted > 0 and state.step % self.plan.training.steps_per_epoch == 0

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """The end of an epoch: the state changes as a whole, or is set back in `_broken_off`."""
        state = self.state
        self.before = state.tally()
        state.epochs_done += 1
        yield
        state.losses.zero_()
        state.counted = 0
        self.before = None

    def _let_fall(self, ahead: Ahead, position: float, speed: float) -> None:
        """Let the learning rate fall to zero in a few steps, which are not part of the state."""
        training, first = self.plan.training, self.state.step
        steps = int(self.ranks.agreed(min(_LAST_SHARE * first, _LAST_SECONDS * speed)))
        begun = learning_rate(training, position, first)
        for index in range(steps):
            rate = begun * (1 - (index + 1) / (steps + 1))
            self._step(ahead, rate, self._course()[0])
        if steps:
            self.say(f"the learning rate fell to zero in {steps} more steps")

    def _save(self) -> None:
        if not self.ranks.is_first:
            return
        self.state.seconds = self.clock.elapsed
        self.writer.write(self.state, self.plan)

    def _broken_off(self) -> None:
        """Save where a training was broken off, unless that was in the middle of a change."""
        if self.before is not None:
            self.state.set_back(self.before)
        if self.learner.is_whole and not self.is_left:
            self.state.mean_loss()
            self._save()

    def _end(self, *, finished: bool) -> Outcome:
        self.event(Stage("validating", len(self.keeping.cases)))
        chosen = self.keeping.end(finished=finished)
        if finished:
            self.snapshots.take(1.0, self.keeping.segmenter.network)
            self._save()
        if self.ranks.is_first:
            held = f"saving states held the training up for {self.writer.seconds:.2f} s"
            append_log(self.log_path, held)
        self.say(
            f"{'finished' if finished else 'stopped'} after {self.state.step} steps and"
            f" {self.clock.elapsed:.0f} s: mean {chosen.score.name} {chosen.mean:.4f} on"
            f" {len(chosen.names)} validation cases"
        )
        return Outcome(self.run, chosen, finished)
