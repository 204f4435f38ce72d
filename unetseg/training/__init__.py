"""A folder of images and masks in, a run folder out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from platformdirs import user_cache_path

from unetseg import augment, checkpoint
from unetseg.config import Plan
from unetseg.config.toml import write_plan
from unetseg.dataset.folds import FOLDS, divide, make_folds, write_folds
from unetseg.devices import autocast, find_device, measure, memory_errors, usable_precision
from unetseg.errors import DataError, ModelError
from unetseg.nets.unet import parameters
from unetseg.pipeline.cache import prepare_cases
from unetseg.planning.fingerprint import Inspection
from unetseg.records import (
    Case,
    EpochDone,
    Event,
    Listener,
    Note,
    Progress,
    Stage,
    ignore_event,
)
from unetseg.tasks import make_task
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.batches import Ahead, Batches
from unetseg.training.history import append_history, write_validation
from unetseg.training.request import Request, is_begun, plan_for, refuse_errors
from unetseg.training.run_file import write_run_file
from unetseg.training.schedule import Clock, learning_rate
from unetseg.training.snapshots import Snapshots
from unetseg.training.start import begin
from unetseg.training.state import State
from unetseg.training.validation import Validation, validate

# A killed training loses at most this much.
_SAVE_SECONDS = 120
# Validations between epochs take at most this share of the time so far.
_VALIDATION_SHARE = 0.06


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

    should_stop : asked between steps; once it says yes the training validates, saves and ends

    Raises DataError, UsageError, ModelError or DeviceError; the state saved so far stays.
    """
    plan, found = plan_for(request, listener)
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
    return _Training(request, plan, found, listener, should_stop).go()


__all__ = ["Outcome", "Request", "plan_for", "refuse_errors", "run_plan", "train"]


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
        self.show = listener
        self.device = find_device(request.device)
        self.machine = measure(self.device)
        self.precision = usable_precision(plan.training.precision, self.machine)
        self.task = make_task(plan)
        self.log_path = self.run / "log.txt"
        self.train_cases, self.val_cases = self._split(found.cases)
        torch.manual_seed(plan.training.seed)
        network = checkpoint.build(plan)
        # A training that goes on needs neither the file nor the network it once began with.
        start = None if is_begun(self.run) else begin(network, plan, listener)
        self.state = State.fresh(network, plan, self.device)
        self.resumed = self.state.restore(self.run / "resume", plan)
        # Only now, so that a training that cannot begin leaves no folder behind.
        write_plan(plan, self.run / "plan.toml")
        write_run_file(self.run, request.data)
        if not (self.run / FOLDS).is_file():
            folds = make_folds(found.cases, plan.training.folds, plan.training.seed)
            write_folds(self.run / FOLDS, folds)
        if start is not None:
            start.write(self.run / "weights.json")
            self.say(start.summary())
        self.clock = Clock(plan.training, request.started, self.state.seconds)
        self.snapshots = Snapshots(self.run, plan.training.snapshots)
        self.validation_seconds = 0.0
        self.voxels = found.voxels(least=math.prod(plan.patch.size))
        self.seconds_per_voxel: float | None = None

    def say(self, text: str) -> None:
        self.event(Note(text))

    def event(self, event: Event) -> None:
        if isinstance(event, Note):
            with self.log_path.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {event.text}\n")
        self.show(event)

    def _split(self, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        training = self.plan.training
        division = divide(self.run, cases, training.fold, training.folds, training.seed)
        self.division = division.reason
        return list(division.train), list(division.val)

    def go(self) -> Outcome:
        plan, state = self.plan, self.state
        self.say(self.division)
        self.say(
            f"{len(self.train_cases)} cases to learn from, {len(self.val_cases)} to validate;"
            f" {parameters(state.network):,} parameters; {self.machine.device},"
            f" {self.precision}"
        )
        if self.resumed:
            self.say(f"resuming at step {state.step}, {state.seconds:.0f} s into the training")
        if self.clock.position(state.step) >= 1 and self.resumed:
            self.say("this run has had all of its time; give more --time or --epochs to go on")
        folder = self.request.cache or user_cache_path("unetseg") / "prepared"
        cached = prepare_cases(
            self.train_cases,
            plan,
            folder,
            cores=self.machine.cores,
            skip_bad=self.request.skip_bad,
            listener=self.event,
        )
        if not cached:
            raise DataError("no case is left to learn from", where=self.request.data)
        batches = Batches(cached, plan, _host_memory())
        self.event(Stage("training", None))
        with memory_errors(self.device):
            finished = self._loop(batches)
        return self._end(finished=finished)

    def _loop(self, batches: Batches) -> bool:
        state, training = self.state, self.plan.training
        spacing = self.plan.data.spacing or (1.0,) * self.plan.data.dimensions
        saved = shown = perf_counter()
        per_epoch = training.steps_per_epoch
        losses = torch.zeros((), device=self.device)
        counted, epoch_start, paused = 0, perf_counter(), 0.0
        with Ahead(batches, state.step) as ahead:
            while (position := self.clock.position(state.step)) < 1:
                self.snapshots.take(position, self._kept())
                if self.should_stop():
                    _mean_loss(losses, counted, state.step)
                    return False
                images, labels = ahead.next()
                rate = learning_rate(training, position, state.step)
                losses += self._step(images, labels, rate, spacing)
                counted += 1
                now = perf_counter()
                spent = max(now - epoch_start - paused, 1e-9)
                if now - shown > 0.5:
                    shown = now
                    loss = _mean_loss(losses, counted, state.step)
                    speed = counted / spent
                    self.event(
                        Progress(
                            share=self.clock.position(state.step),
                            step=state.step,
                            loss=loss,
                            steps_per_second=speed,
                            waiting=ahead.waited / spent,
                            seconds_left=self.clock.seconds_left(state.step, speed),
                        )
                    )
                if state.step % per_epoch == 0:
                    state.epochs_done += 1
                    speed, waiting = counted / spent, ahead.waited / spent
                    mean = _mean_loss(losses, counted, state.step)
                    self._epoch(mean, rate, speed, waiting)
                    losses.zero_()
                    counted, epoch_start, paused, ahead.waited = 0, perf_counter(), 0.0, 0.0
                if perf_counter() - saved > _SAVE_SECONDS:
                    begun = perf_counter()
                    _mean_loss(losses, counted, state.step)
                    self._save()
                    saved = perf_counter()
                    paused += saved - begun
        if counted:
            state.epochs_done += 1
            spent = max(perf_counter() - epoch_start - paused, 1e-9)
            mean = _mean_loss(losses, counted, state.step)
            self._write_row(mean, 0.0, counted / spent, ahead.waited / spent, None)
        return True

    def _step(
        self, images: torch.Tensor, labels: torch.Tensor, rate: float, spacing: Sequence[float]
    ) -> torch.Tensor:
        state, training = self.state, self.plan.training
        seed = int(np.random.SeedSequence((training.seed, 2, state.step)).generate_state(1)[0])
        drawn = augment.draw(
            len(images), training.augment, spacing, torch.Generator().manual_seed(seed)
        )
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        images, labels = augment.apply(images, labels, drawn)
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        state.network.train()
        if training.frozen_share:
            position = self.clock.position(state.step)
            state.network.freeze_encoder(frozen=position < training.frozen_share)
        # Dropout follows from the step too, so that a resumed training repeats it.
        torch.manual_seed(seed)
        state.optimiser.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            outputs = state.network(images)
        loss = self.task.loss(outputs, self.task.targets(labels))
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no type
        state.scaler.unscale_(state.optimiser)
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), training.gradient_clip)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.step += 1
        if training.average_decay:
            state.update_average(training.average_decay)
        return loss.detach()

    def _kept(self) -> Any:
        return self.state.average if self.plan.training.average_decay else self.state.network

    def _validate(self, cases: Sequence[Case]) -> Validation:
        begun = perf_counter()
        segmenter = Segmenter(self._kept(), self.plan, self.task, self.device, self.precision)
        result = validate(segmenter, cases, self.event)
        seconds = perf_counter() - begun
        self.validation_seconds += seconds
        self.seconds_per_voxel = seconds / self._voxels(cases)
        # Half as much again for a slow case among those not seen yet, and the writing.
        whole = self.seconds_per_voxel * self._voxels(self.val_cases)
        self.clock.reserve = 1.0 + 1.3 * whole
        return result

    def _voxels(self, cases: Sequence[Case]) -> int:
        """What a validation of these cases amounts to: large images take longer."""
        return sum(self.voxels[case.name] for case in cases)

    def _epoch(self, loss: float, rate: float, speed: float, waiting: float) -> None:
        """Validate on a spread of cases if that costs little, keep the best, write the row."""
        some = min(self.plan.training.validation_cases, len(self.val_cases))
        picked = np.linspace(0, len(self.val_cases) - 1, some).round().astype(int)
        chosen = [self.val_cases[i] for i in picked]
        cost = (self.seconds_per_voxel or 0.0) * self._voxels(chosen)
        validation = None
        if self.validation_seconds + cost <= max(1.0, _VALIDATION_SHARE * self.clock.elapsed):
            validation = self._validate(chosen)
        self._write_row(loss, rate, speed, waiting, validation)
        if validation is not None:
            self._save()

    def _write_row(
        self,
        loss: float,
        rate: float,
        speed: float,
        waiting: float,
        validation: Validation | None,
    ) -> None:
        state = self.state
        classes = self.plan.data.class_names[1:]
        nothing = (math.nan,) * len(classes)
        mean = validation.mean if validation else math.nan
        is_best = not math.isnan(mean) and not mean < state.best
        if is_best:
            state.best = mean
            checkpoint.save(self.run / "model", self._kept(), self.plan, self._facts(validation))
        row = EpochDone(
            epoch=state.epochs_done,
            step=state.step,
            seconds=self.clock.elapsed,
            learning_rate=rate,
            loss=loss,
            steps_per_second=speed,
            waiting=waiting,
            dice=validation.per_class if validation else nothing,
            mean_dice=mean,
            is_best=is_best,
        )
        append_history(self.run / "history.csv", row, classes)
        self.event(row)

    def _facts(self, validation: Validation | None, *, finished: bool = False) -> dict[str, Any]:
        """Plain values for model.json; NaN has no place in JSON and becomes null."""

        def plain(value: float) -> float | None:
            return None if math.isnan(value) else round(value, 6)

        names = self.plan.data.class_names[1:]
        per_class = validation.per_class if validation else ()
        return {
            "finished": finished,
            "step": self.state.step,
            "seconds": round(self.clock.elapsed, 1),
            "device": self.machine.device,
            "data": self.request.data.name,
            "cases": [len(self.train_cases), len(self.val_cases)],
            "mean_dice": plain(validation.mean) if validation else None,
            "dice": dict(zip(names, map(plain, per_class), strict=False)),
        }

    def _save(self) -> None:
        self.state.seconds = self.clock.elapsed
        self.state.save(self.run / "resume", self.plan)

    def _end(self, *, finished: bool) -> Outcome:
        """The last validation, on all cases; keep the better of the last and the best model."""
        self.event(Stage("validating", len(self.val_cases)))
        last = self._validate(self.val_cases)
        facts = self._facts(last, finished=finished)
        checkpoint.save(self.run / "last", self._kept(), self.plan, facts)
        if finished:
            self.snapshots.take(1.0, self._kept())
        chosen, kept = last, self._kept()
        if not math.isnan(self.state.best) and (self.run / "model").is_dir():
            best = checkpoint.load(self.run)
            if best.facts["step"] != self.state.step and last.mean < self.state.best - 0.01:
                network = best.network.to(self.device)
                segmenter = Segmenter(network, self.plan, self.task, self.device, self.precision)
                scores = validate(segmenter, self.val_cases, ignore_event)
                if scores.mean > last.mean:
                    chosen, kept = scores, network
                    facts = self._facts(scores, finished=finished) | {"step": best.facts["step"]}
        checkpoint.save(self.run / "model", kept, self.plan, facts)
        if math.isnan(self.state.best) or last.mean > self.state.best:
            self.state.best = last.mean
        self._save()
        write_validation(self.run / "validation.csv", chosen, self.plan.data.class_names[1:])
        self.say(
            f"{'finished' if finished else 'stopped'} after {self.state.step} steps and"
            f" {self.clock.elapsed:.0f} s: mean Dice {chosen.mean:.4f} on"
            f" {len(self.val_cases)} validation cases"
        )
        return Outcome(self.run, chosen, finished)


def _mean_loss(losses: torch.Tensor, counted: int, step: int) -> float:
    """The mean of `counted` losses. Raises ModelError, before anything is saved, if it is none."""
    mean = float(losses) / max(counted, 1)
    if not math.isfinite(mean):
        raise ModelError(
            "the loss is no longer a number",
            where=f"step {step}",
            hint="lower training.learning_rate, or look for extreme intensities",
        )
    return mean


def _host_memory() -> int:
    return measure(torch.device("cpu")).memory_bytes
