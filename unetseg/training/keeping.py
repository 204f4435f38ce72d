"""Validation on the way and at the end, the best model, and the tables that tell of them."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from unetseg import checkpoint
from unetseg.checkpoint import DESCRIPTION, WEIGHTS
from unetseg.files import replacing
from unetseg.nets.unet import UNet
from unetseg.records import Advance, Case, EpochDone, Listener, ignore_event
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.board import Board
from unetseg.training.history import append_history, write_validation
from unetseg.training.ranks import ALONE, Ranks
from unetseg.training.schedule import Clock
from unetseg.training.state import State
from unetseg.training.validation import Validation, validate

# With a time budget, validations between epochs take at most this share of the time so far.
_VALIDATION_SHARE = 0.06
# The last model is kept unless an earlier one is better by more than this.
_BETTER = 0.01


@dataclass
class Keeping:
    """What of a training is kept: scores of the averaged weights, and the model they belong to.

    segmenter : of the weights that are kept
    cases : that validate
    voxels : that the windows of a case have, by its name: what a validation takes
    source : plain facts for the model's description
    ranks : divide the cases; the first decides and writes
    """

    run: Path
    state: State
    clock: Clock
    segmenter: Segmenter
    cases: Sequence[Case]
    voxels: Mapping[str, int]
    source: Mapping[str, Any]
    board: Board
    listener: Listener
    ranks: Ranks = ALONE
    seconds: float = 0.0
    _seconds_per_voxel: float | None = field(default=None)

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.segmenter.plan.data.class_names[1:]

    def validate(self, cases: Sequence[Case]) -> Validation:
        """Score the kept weights on these cases; the clock learns how long all would take."""
        begun = perf_counter()
        result = self._scores(self.segmenter, cases, self.listener)
        seconds = perf_counter() - begun
        self.seconds += seconds
        self._seconds_per_voxel = seconds / self._voxels(cases)
        # Half as much again for a slow case among those not seen yet, and the writing.
        whole = self._seconds_per_voxel * self._voxels(self.cases)
        self.clock.reserve = 1.0 + 1.3 * whole
        return result

    def _scores(
        self, segmenter: Segmenter, cases: Sequence[Case], listener: Listener
    ) -> Validation:
        """Every rank scores its share of the cases, all of them by the first's network."""
        ranks, names = self.ranks, tuple(case.name for case in cases)
        ranks.same(segmenter.network)
        mine = validate(segmenter, cases[ranks.rows], listener)
        if ranks.count == 1:
            return mine
        table = ranks.gathered(mine.dice, (len(cases), len(self._classes)))
        for name in set(names) - set(mine.names):
            listener(Advance(name))
        return Validation(names, tuple(map(tuple, table.tolist())))

    def _voxels(self, cases: Sequence[Case]) -> int:
        return sum(self.voxels[case.name] for case in cases)

    def after_epoch(self) -> Validation | None:
        """Validate on a spread of the cases where the plan has it, if the budget allows it."""
        training = self.segmenter.plan.training
        if self.state.epochs_done % training.validation_every:
            return None
        some = min(training.validation_cases, len(self.cases))
        picked = np.linspace(0, len(self.cases) - 1, some).round().astype(int)
        chosen = [self.cases[i] for i in picked]
        cost = (self._seconds_per_voxel or 0.0) * self._voxels(chosen)
        # Never by the clock where steps count: a repeated training validates at the same steps.
        by_clock = training.minutes is not None
        allowed = max(1.0, _VALIDATION_SHARE * self.clock.elapsed)
        is_too_much = by_clock and self.seconds + cost > allowed
        return None if self.ranks.agreed(is_too_much) else self.validate(chosen)

    def row(
        self, rate: float, speed: float, waiting: float, validation: Validation | None
    ) -> EpochDone:
        """Keep the model if it is the best, and add the line of an epoch to the history."""
        state = self.state
        mean = validation.mean if validation else math.nan
        is_best = not math.isnan(mean) and not mean < state.best
        if validation is not None and is_best:
            state.best = mean
            self.save("model", self._facts(validation))
            # The description first: without it there is no model.
            (self._aside / DESCRIPTION).unlink(missing_ok=True)
            shutil.rmtree(self._aside, ignore_errors=True)
        row = EpochDone(
            epoch=state.epochs_done,
            step=state.step,
            seconds=self.clock.elapsed,
            learning_rate=rate,
            loss=state.mean_loss(),
            steps_per_second=speed,
            waiting=waiting,
            dice=validation.per_class if validation else (math.nan,) * len(self._classes),
            mean_dice=mean,
            is_best=is_best,
        )
        append_history(self.run / "history.csv", row, self._classes)
        self.board.add(row, self._classes)
        return row

    @property
    def _aside(self) -> Path:
        """Where the best model waits for the training to go on, after a stop."""
        return self.run / "resume" / "best"

    @property
    def _best(self) -> Path:
        return self._aside if (self._aside / DESCRIPTION).is_file() else self.run / "model"

    def _set_best_aside(self) -> None:
        """A stop puts into model/ what is no part of the training that may go on."""
        has_best = not math.isnan(self.state.best) and (self._best / DESCRIPTION).is_file()
        if self._best == self._aside or not has_best:
            return
        for name in (WEIGHTS, DESCRIPTION):
            with replacing(self._aside / name) as temporary:
                shutil.copyfile(self._best / name, temporary)

    def save(self, folder: str, facts: dict[str, Any], network: UNet | None = None) -> None:
        """Write a model folder of the run, on the first rank."""
        if not self.ranks.is_first:
            return
        segmenter = self.segmenter
        checkpoint.save(self.run / folder, network or segmenter.network, segmenter.plan, facts)

    def _facts(self, validation: Validation, *, finished: bool = False) -> dict[str, Any]:
        """What model.json says of the training."""
        return {
            "finished": finished,
            "step": self.state.step,
            "seconds": round(self.clock.elapsed, 1),
            **self.source,
            **validation.facts(self._classes),
        }

    def end(self, *, finished: bool) -> Validation:
        """The last validation, on all cases; keep the better of the last and the best model."""
        last = self.validate(self.cases)
        facts = self._facts(last, finished=finished)
        self.save("last", facts)
        chosen, kept = last, self.segmenter.network
        state = self.state
        if (earlier := self._earlier(last)) is not None:
            network, step = earlier
            segmenter = replace(self.segmenter, network=network)
            scores = self._scores(segmenter, self.cases, ignore_event)
            if scores.mean > last.mean:
                chosen, kept = scores, segmenter.network
                facts = self._facts(scores, finished=finished) | {"step": step}
        if not finished and self.ranks.is_first:
            self._set_best_aside()
        self.save("model", facts, kept)
        if math.isnan(state.best) or last.mean > state.best:
            state.best = last.mean
        if self.ranks.is_first:
            write_validation(self.run / "validation.csv", chosen, self._classes)
        return chosen

    def _earlier(self, last: Validation) -> tuple[UNet, int] | None:
        """The best model so far and its step, if it may be better than the last one."""
        state, found = self.state, None
        if self.ranks.is_first and not math.isnan(state.best) and self._best.is_dir():
            best = checkpoint.load(self._best)
            if best.facts["step"] != state.step and last.mean < state.best - _BETTER:
                found = best.network, int(best.facts["step"])
        step = int(self.ranks.agreed(-1 if found is None else found[1]))
        if step < 0:
            return None
        # The others are given its weights before they use it.
        network = checkpoint.build(self.segmenter.plan) if found is None else found[0]
        return network.placed(self.segmenter.device), step
