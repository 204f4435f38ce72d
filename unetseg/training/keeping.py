"""Validation on the way and at the end, the best model, and the tables that tell of them."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from unetseg import checkpoint
from unetseg.checkpoint import DESCRIPTION, WEIGHTS
from unetseg.config import Plan
from unetseg.devices import find_device, measure
from unetseg.files import replacing
from unetseg.nets.unet import UNet
from unetseg.records import Advance, Case, EpochDone, Listener, Note, ignore_event
from unetseg.runs.evidence import write_evidence
from unetseg.runs.record import VALIDATION
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.board import Board
from unetseg.training.codes import Codes, codes_beside, remove_codes
from unetseg.training.evidence import Gathering, Leaving, remove_evidence, remove_unchosen
from unetseg.training.history import append_history, write_validation
from unetseg.training.pace import Pace
from unetseg.training.ranks import ALONE, Ranks
from unetseg.training.schedule import Clock
from unetseg.training.scores import Score, score_of, true_objects
from unetseg.training.state import State
from unetseg.training.tuning import Coded, Tuned, cropped, tune, with_usual
from unetseg.training.validation import Validation, validate, validate_again

# With a time budget, validations between epochs take at most this share of the time so far.
_VALIDATION_SHARE = 0.06
# The last model is kept unless an earlier one is better by more than this.
_BETTER = 0.01
# Of a time budget, for the search for rules for objects; at least and at most so many seconds.
_TUNING_SHARE, _LEAST_TUNING, _MOST_TUNING = 0.03, 3.0, 40.0
# What the last validation leaves is counted and written: for a case, and for a voxel of its windows
# and each of its maps, which are interpolated where predict would know better.
# benchmarks/evidence.py measures it.
_EVIDENCE_SECONDS, _EVIDENCE_SECONDS_PER_VALUE = 0.03, 2e-8
# A person who has stopped a training waits for it.
_STOPPED_SECONDS = 10.0


@dataclass
class Keeping:
    """What of a training is kept: scores of the averaged weights, and the model they belong to.

    segmenter : of the weights that are kept
    cases : that validate
    pace : of their validation
    source : plain facts for the model's description
    ranks : divide the cases; the first decides and writes
    """

    run: Path
    state: State
    clock: Clock
    segmenter: Segmenter
    cases: Sequence[Case]
    pace: Pace
    source: Mapping[str, Any]
    board: Board
    listener: Listener
    ranks: Ranks = ALONE
    seconds: float = 0.0

    @cached_property
    def _score(self) -> Score:
        return score_of(self.segmenter.plan)

    def validate(
        self, cases: Sequence[Case], codes: Codes | None = None, leaving: Leaving | None = None
    ) -> Validation:
        """Score the kept weights on these cases; the clock learns how long all would take."""
        begun = perf_counter()
        result = self._scores(self.segmenter, cases, codes, leaving)
        seconds = perf_counter() - begun
        self.seconds += seconds
        # A third more for slow cases among those not seen yet, and the writing.
        whole = self._foreseen(self.cases)
        self.clock.reserve = 1.0 + 1.3 * whole
        voxels = sum(self.pace.voxels[case.name] for case in self.cases)
        values = self.segmenter.task.outputs * voxels
        self.clock.reserve += _EVIDENCE_SECONDS * len(self.cases)
        self.clock.reserve += _EVIDENCE_SECONDS_PER_VALUE * values
        if self.segmenter.plan.data.has_objects:
            # Rules are looked for, and what they give is scored.
            self.clock.reserve += 0.3 * whole + (self._tuning_seconds or 0.0)
        return result

    @property
    def _tuning_seconds(self) -> float | None:
        """How long rules for objects may be looked for; None where no clock has a say."""
        minutes = self.segmenter.plan.training.minutes
        if minutes is None:
            return None
        return min(max(_LEAST_TUNING, _TUNING_SHARE * 60 * minutes), _MOST_TUNING)

    def _scores(
        self,
        segmenter: Segmenter,
        cases: Sequence[Case],
        codes: Codes | None = None,
        leaving: Leaving | None = None,
    ) -> Validation:
        """Every rank scores its share of the cases, all of them by the first's network."""
        # The stage that is shown counts the cases once.
        listener = self.listener if segmenter is self.segmenter else ignore_event
        self.ranks.same(segmenter.network)
        learning = self.pace.learning(listener)
        mine = validate(segmenter, cases[self.ranks.rows], learning, codes, leaving)
        whole = self._together(mine, cases)
        for name in set(whole.names) - set(mine.names):
            listener(Advance(name))
        return whole

    def _together(self, mine: Validation, cases: Sequence[Case]) -> Validation:
        """The validation of all cases from each rank's own."""
        if self.ranks.count == 1:
            return mine
        table = self.ranks.gathered(mine.rows, (len(cases), mine.score.width))
        names = tuple(case.name for case in cases)
        return Validation(names, tuple(map(tuple, table.tolist())), mine.score)

    def _foreseen(self, cases: Sequence[Case]) -> float:
        """Seconds until all ranks have validated these cases."""
        return self.pace.seconds(cases) / self.ranks.count

    def after_epoch(self) -> Validation | None:
        """Validate on a spread of the cases where the plan has it, if the budget allows it."""
        training = self.segmenter.plan.training
        if self.state.epochs_done % training.validation_every:
            return None
        some = min(training.validation_cases, len(self.cases))
        picked = np.linspace(0, len(self.cases) - 1, some).round().astype(int)
        chosen = [self.cases[i] for i in picked]
        cost = self._foreseen(chosen)
        # Never by the clock where steps count: a repeated training validates at the same steps.
        by_clock = training.minutes is not None
        allowed = max(1.0, _VALIDATION_SHARE * self.clock.elapsed)
        is_too_much = by_clock and self.seconds + cost > allowed
        return None if self.ranks.agreed(is_too_much) else self.validate(chosen)

    def row(
        self, rate: float, speed: float, waiting: float, validation: Validation | None
    ) -> EpochDone:
        """Keep the model if it is the best, and add the line of an epoch to the history."""
        state, score = self.state, self._score
        mean = validation.mean if validation else math.nan
        is_best = not math.isnan(mean) and not mean < state.best
        if validation is not None and is_best:
            state.best = mean
            remove_evidence(self.run)
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
            values=validation.values if validation else (math.nan,) * len(score.columns),
            mean=mean,
            is_best=is_best,
            score=score.name,
        )
        append_history(self.run / "history.csv", row, score)
        self.board.add(row, score.columns)
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

    def save(
        self,
        folder: str,
        facts: dict[str, Any],
        network: UNet | None = None,
        plan: Plan | None = None,
    ) -> None:
        """Write a model folder of the run, on the first rank."""
        if not self.ranks.is_first:
            return
        mine = self.segmenter
        checkpoint.save(self.run / folder, network or mine.network, plan or mine.plan, facts)

    def _facts(self, validation: Validation, *, finished: bool = False) -> dict[str, Any]:
        """What model.json says of the training."""
        return {
            "finished": finished,
            "step": self.state.step,
            "seconds": round(self.clock.elapsed, 1),
            **self.source,
            **validation.facts(),
        }

    def end(self, *, finished: bool) -> Validation:
        """The last validation, on all cases; keep the better of the last and the best model.

        Where there are objects, it is kept with the rules that suit it.
        """
        if self.ranks.count == 1:
            remove_codes(self.run)
        with ExitStack() as stack:
            stack.callback(remove_unchosen, self.run)
            has_objects = self.segmenter.plan.data.has_objects

            def codes() -> Codes | None:
                return stack.enter_context(codes_beside(self.run)) if has_objects else None

            return self._end(codes, finished=finished)

    def _end(self, new_codes: Callable[[], Codes | None], *, finished: bool) -> Validation:
        codes, plan = new_codes(), self.segmenter.plan
        leaving = self._leaving("last")
        # Of objects nothing is left before there are rules for them.
        last = self.validate(self.cases, codes, None if codes else leaving)
        facts = self._facts(last, finished=finished)
        self.save("last", facts)
        chosen, kept = last, self.segmenter.network
        state = self.state
        if (earlier := self._earlier(last)) is not None:
            network, step = earlier
            segmenter = replace(self.segmenter, network=network)
            others, theirs = new_codes(), self._leaving("best")
            scores = self._scores(segmenter, self.cases, others, None if others else theirs)
            if scores.mean > last.mean:
                chosen, kept, codes, leaving = scores, segmenter.network, others, theirs
                facts = self._facts(scores, finished=finished) | {"step": step}
        if codes is not None:
            plan, chosen, said, leaving = self._with_rules(chosen, codes, finished=finished)
            facts |= chosen.facts() | {"rules": said}
        if self.ranks.is_first:
            if not finished:
                self._set_best_aside()
            remove_evidence(self.run)
        self.save("model", facts, kept, plan)
        if math.isnan(state.best) or last.mean > state.best:
            state.best = last.mean
        if self.ranks.is_first:
            write_validation(self.run / VALIDATION, chosen)
        self._leave(leaving)
        return chosen

    def _leaving(self, name: str) -> Leaving:
        return Leaving(self.run, name, Gathering(self.segmenter.plan))

    def _leave(self, leaving: Leaving) -> None:
        """Let the masks of the kept model appear, and what they show of it."""
        # Every rank's masks are there when all have told what theirs show.
        evidence = leaving.gathering.evidence(self.cases, ranks=self.ranks)
        if self.ranks.is_first:
            leaving.show()
            write_evidence(self.run, evidence)
            if missing := sum(not case.mask for case in evidence.cases):
                text = f"{missing} of {len(self.cases)} masks of the validation were not kept"
                why = leaving.fault or "a process does not see the run folder"
                self.listener(Note(f"{text}: {why}", "warning"))
        self.ranks.wait()

    def _with_rules(
        self, usual: Validation, codes: Codes, *, finished: bool
    ) -> tuple[Plan, Validation, str, Leaving]:
        """The plan with rules for objects, what they give and leave, and what is to say of them.

        usual : what the usual rules give
        """
        plan, cases = self.segmenter.plan, self.cases[self.ranks.rows]
        seconds = self._tuning_seconds if finished else _STOPPED_SECONDS
        found = self.ranks.told(Tuned, lambda: self._tuned(cases, codes, seconds))
        tuned, leaving = replace(plan, decode=found.decode), self._leaving("tuned")
        validation = self._together(validate_again(tuned, cases, codes, leaving), self.cases)
        said = found.sentence()
        if found.changed and not validation.mean > usual.mean:
            # They were found on a part of the cases, or of their voxels.
            tuned, leaving = replace(plan, decode=with_usual(plan)), self._leaving("usual")
            validation = self._together(validate_again(tuned, cases, codes, leaving), self.cases)
            said += f"; not on all {len(self.cases)}, so the usual ones are kept"
        self.listener(Note(said))
        return tuned, validation, said, leaving

    def _tuned(self, cases: Sequence[Case], codes: Codes, seconds: float | None) -> Tuned:
        plan = self.segmenter.plan

        def coded() -> Iterator[Coded]:
            for number in np.random.default_rng(plan.training.seed).permutation(len(cases)):
                indices, like = codes.get(int(number))
                truth = true_objects(cases[number], like.geometry, plan.data)
                yield cropped(indices, truth, like.geometry)

        cores = measure(find_device("cpu")).cores
        return tune(plan, coded(), self.listener, seconds=seconds, workers=cores)

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
