"""All folds of a data set in one run folder: trained, scored out of fold, kept as one model.

RUN/fold_0, fold_1, ... are run folders like any other. RUN/model is the ensemble of their models.
"""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any, Literal

from unetseg import checkpoint
from unetseg.config import Plan, changed_section
from unetseg.config.toml import write_plan
from unetseg.dataset.folds import FOLDS, Fold, make_folds, read_folds, usable, write_folds
from unetseg.dataset.listing import counted, some
from unetseg.devices import find_device, machine_name, measure
from unetseg.errors import DataError, UsageError
from unetseg.pipeline.cache import prepare_cases
from unetseg.planning.fingerprint import Inspection
from unetseg.records import Listener, Note, ignore_event
from unetseg.runs.evidence import EVIDENCE, merged, write_evidence
from unetseg.runs.run_file import fold_folder, held, read_folds_asked
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import cleanings, with_cleanings
from unetseg.training import Request, plan_for, refuse_errors
from unetseg.training.at_once import train_at_once
from unetseg.training.evidence import mask_of
from unetseg.training.fold import FoldTraining, is_trained, train_fold
from unetseg.training.fold_process import order
from unetseg.training.history import append_log
from unetseg.training.opening import write_origin
from unetseg.training.out_of_fold import (
    CLEANED,
    MASKS,
    TABLE,
    FoldScores,
    OutOfFold,
    read_scores,
    write_cleaned,
    write_table,
)
from unetseg.training.scores import score_of
from unetseg.training.selection import Decision, Selection, Unseen, select
from unetseg.training.sharing import Share
from unetseg.training.tuning import middle
from unetseg.training.validation import Validation

# Comparing holds some arrays of eight bytes a voxel.
_BYTES_PER_VOXEL = 64


@dataclass(frozen=True)
class CrossValidation:
    """How the training of all folds ended.

    folds : how many there are
    found : None if it was asked to stop before all were trained
    decisions : which ways of cleaning the masks were compared
    """

    run: Path
    folds: int
    found: OutOfFold | None = None
    decisions: tuple[Decision, ...] = ()

    @property
    def finished(self) -> bool:
        return self.found is not None


def cross_validate(
    request: Request,
    listener: Listener = ignore_event,
    should_stop: Callable[[], bool] = lambda: False,
    devices: Sequence[str] = (),
) -> CrossValidation:
    """Train all folds of the request's run folder, or those that are missing, and combine them.

    should_stop : asked between steps and between masks; the folds that it stops are saved
    devices : as many folds are trained at the same time, each in a process of its own; the
        request's device alone if there are none

    Raises what `train` raises, and UsageError if there is only one fold, or the run folder
    holds another training.
    """
    plan, found = plan_for(request, listener)
    refuse_errors(found)
    return run_folds(request, plan, found, listener, should_stop, devices)


def run_folds(
    request: Request,
    plan: Plan,
    found: Inspection,
    listener: Listener = ignore_event,
    should_stop: Callable[[], bool] = lambda: False,
    devices: Sequence[str] = (),
) -> CrossValidation:
    """Train all folds by a plan that is already made; see `cross_validate`."""
    folds = _Folds(request, plan, found, listener, devices)
    with held(request.run):
        return folds.go(should_stop)


class _Folds:
    """The training of all folds, from the division to the ensemble."""

    def __init__(
        self,
        request: Request,
        plan: Plan,
        found: Inspection,
        listener: Listener,
        devices: Sequence[str] = (),
    ) -> None:
        self.request, self.run, self.found = request, request.run, found
        self.devices = tuple(devices) or (request.device,)
        self.plan = replace(
            plan,
            training=replace(plan.training, fold=0),
            reasons={**plan.reasons, "training.fold": "all are trained, in folders of their own"},
        )
        self.show = listener
        self.folds = self._divided()
        self._refuse_changed()
        # Only now, so that a training that cannot begin leaves no folder behind.
        device, *_ = [find_device(name) for name in self.devices]
        write_plan(self.plan, self.run / "plan.toml")
        write_origin(request, found, machine_name(device), plan.training.folds)
        if not (self.run / FOLDS).is_file():
            write_folds(self.run / FOLDS, self.folds)

    def say(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        append_log(self.run / "log.txt", text)
        self.show(Note(text, level))

    def _divided(self) -> Sequence[Fold]:
        """The folds, as the run folder has them or as they are made."""
        training, path = self.plan.training, self.run / FOLDS
        asked = read_folds_asked(self.run)
        _refuse_single(self.run)
        if asked not in (None, training.folds):
            raise UsageError(
                "the run was begun with another number of folds",
                where=self.run,
                expected=asked,
                got=training.folds,
                hint="train into another folder",
            )
        if not path.is_file():
            if any(case.split == "val" for case in usable(self.found.cases)):
                raise UsageError(
                    "the data set names its validation cases, so there is only one fold",
                    where="--folds",
                    hint="leave out --folds, or put these cases among the others",
                )
            return make_folds(self.found.cases, training.folds, training.seed)
        folds = read_folds(path, self.found.cases)
        if asked is None and len(folds) != training.folds:
            raise UsageError(
                "the file holds another number of folds",
                where=path,
                expected=len(folds),
                got=training.folds,
            )
        twice = [n for n, times in Counter(n for f in folds for n in f.val).items() if times > 1]
        if twice:
            raise DataError(
                f"{counted(len(twice), 'case')} in the validation of several folds: {some(twice)}",
                where=path,
                hint="let every case validate once, or remove the file to have new folds made",
            )
        return folds

    def _refuse_changed(self) -> None:
        """An ensemble has one plan; what a resumed training may change, folds may too."""
        for fold in range(len(self.folds)):
            folder = fold_folder(self.run, fold)
            if not (folder / "model" / checkpoint.DESCRIPTION).is_file():
                continue
            if section := changed_section(self.plan, checkpoint.load_plan(folder)):
                raise UsageError(
                    f"the plan's section {section} is not the one that fold {fold} has",
                    where=self.run / "plan.toml",
                    hint="train into another folder, or undo the change",
                )

    def go(self, should_stop: Callable[[], bool]) -> CrossValidation:
        whole = CrossValidation(self.run, len(self.folds))
        held = {name for fold in self.folds for name in fold.val}
        left_out = [case.name for case in usable(self.found.cases) if case.name not in held]
        if left_out:
            self.say(f"{counted(len(left_out), 'case')} in no fold: {some(left_out)}", "warning")
        if len(self.folds) < self.plan.training.folds:
            self.say(f"only {len(self.folds)} folds, for so few cases or groups", "warning")
        done: dict[int, FoldScores] = {}
        todo = []
        for fold in range(len(self.folds)):
            training = self._training(fold, self.devices[0], None)
            scores = read_scores(training.unseen)
            if scores is not None and is_trained(training.unseen, self.plan):
                self.say(f"fold {fold} is done: {_told(scores.validation)}")
                done[fold] = scores
            else:
                todo.append(fold)
        if todo and (self.plan.training.minutes is not None or len(self.devices) > 1):
            self._prepare(held)
        # What it took to get here is nobody's and everybody's share.
        before = time() - self.request.started
        share = self._share()

        def begin(fold: int, device: str, waves: int, beside: float) -> FoldTraining:
            on = f" on {device}" if len(self.devices) > 1 else ""
            self.say(f"fold {fold} begins{on}; {len(done)} of {len(self.folds)} are done")
            masks = [scores.seconds for scores in done.values()]
            spent = masks + list(map(self._seconds, done))
            minutes = share.minutes(before, sum(spent) + beside, waves, masks)
            made = self._training(fold, device, minutes)
            return replace(made, request=replace(self.request, started=time()))

        for fold, scores in self._trained(todo, begin, should_stop):
            if scores is not None:
                self.say(f"fold {fold}: {_told(scores.validation)} out of fold")
                done[fold] = scores
        if len(done) < len(self.folds):
            return self._stopped(whole, done)
        return self._combined(whole, done)

    def _trained(
        self,
        todo: Sequence[int],
        begin: Callable[[int, str, int, float], FoldTraining],
        should_stop: Callable[[], bool],
    ) -> Iterator[tuple[int, FoldScores | None]]:
        """Each fold with its scores, as soon as it is done, until it is asked to stop.

        begin : the training of a fold on a device, with what train_at_once says of the others
        """
        if len(self.devices) > 1 and todo:

            def ordered(fold: int, device: str, waves: int, beside: float) -> str:
                return order(begin(fold, device, waves, beside))

            for fold, is_done in train_at_once(todo, self.devices, ordered, self.show, should_stop):
                # What it has made of the cases is in its folder.
                own = self._training(fold, self.devices[0], None)
                yield fold, read_scores(own.unseen) if is_done else None
            return
        for place, fold in enumerate(todo):
            if should_stop():
                return
            own = begin(fold, self.devices[0], len(todo) - place, 0.0)
            scores = train_fold(own, self.show, should_stop)
            yield fold, scores
            if scores is None:
                return

    def _prepare(self, names: Collection[str]) -> None:
        """Prepare the cases of all folds, or the first fold would do so in its own time."""
        prepare_cases(
            [case for case in self.found.cases if case.name in names],
            self.plan,
            self.request.prepared,
            cores=measure(find_device("cpu")).cores,
            skip_bad=self.request.skip_bad,
            listener=self.show,
        )

    def _training(self, fold: int, device: str, minutes: float | None) -> FoldTraining:
        return FoldTraining(self.request, self.plan, self.found, fold, device, minutes)

    def _share(self) -> Share:
        cases = sum(len(fold.val) for fold in self.folds)
        return Share(
            self.plan,
            tuple(fold.val for fold in self.folds),
            self.found.shapes,
            len(self.devices),
            self.request.seconds_after(cases),
        )

    def _seconds(self, fold: int) -> float:
        return float(checkpoint.read_facts(fold_folder(self.run, fold)).get("seconds", 0.0))

    def _stopped(self, whole: CrossValidation, done: Mapping[int, FoldScores]) -> CrossValidation:
        self.say(f"stopped with {len(done)} of {len(self.folds)} folds done")
        return whole

    def _combined(self, whole: CrossValidation, done: Mapping[int, FoldScores]) -> CrossValidation:
        """Compare cleanings, write the tables, and keep all networks as one model."""
        by_name = {
            name: (fold, row)
            for fold, scores in done.items()
            for name, row in zip(scores.validation.names, scores.validation.rows, strict=True)
        }
        cases = [case for case in self.found.cases if case.name in by_name]
        names = tuple(case.name for case in cases)
        scores = Validation(names, tuple(by_name[name][1] for name in names), score_of(self.plan))
        unseen = [Unseen(case, mask_of(self.run, case, MASKS)) for case in cases]
        selection = Selection(cleanings(self.plan), ())
        if make_task(self.plan).cleans:
            selection = select(unseen, self.plan, self.show, workers=self._workers())
        for decision in selection.decisions:
            self.say(decision.sentence())
        plan = with_cleanings(self.plan, selection.wanted)
        if plan.data.has_objects:
            decodes = [checkpoint.load_plan(fold_folder(self.run, fold)).decode for fold in done]
            plan = replace(plan, decode=middle(decodes))
        cleaned = None
        shutil.rmtree(self.run / CLEANED, ignore_errors=True)
        if selection.wanted:
            cleaned = write_cleaned(self.run, unseen, plan, self.show)
        found = OutOfFold(tuple(by_name[name][0] for name in names), scores, cleaned)
        write_table(self.run / TABLE, found)
        networks = {fold: checkpoint.load(fold_folder(self.run, fold)).network for fold in done}
        facts = self._facts(found, selection.decisions)
        (self.run / EVIDENCE).unlink(missing_ok=True)
        checkpoint.save_ensemble(self.run / "model", dict(sorted(networks.items())), plan, facts)
        parts = [done[fold].evidence for fold in sorted(done)]
        there = [part for part in parts if part is not None]
        # A fold of an earlier release has none, and the cases of the others are not all.
        if len(there) == len(parts):
            write_evidence(self.run, merged(there, names))
        text = f"finished {len(done)} folds: {_told(scores)} out of fold"
        if cleaned is not None:
            text += f", {cleaned.mean:.4f} after cleaning"
        self.say(f"{text}, on {counted(len(cases), 'case')}")
        return replace(whole, found=found, decisions=selection.decisions)

    def _workers(self) -> int:
        """How many cases are compared at the same time: no more than memory has room for."""
        machine = measure(find_device("cpu"))
        largest = max(map(math.prod, self.found.shapes.values()))
        return max(1, min(machine.cores, machine.memory_bytes // (_BYTES_PER_VOXEL * largest)))

    def _facts(self, found: OutOfFold, decisions: Sequence[Decision]) -> dict[str, Any]:
        """What model.json says of the trainings."""
        of_folds = [
            checkpoint.read_facts(fold_folder(self.run, fold)) for fold in range(len(self.folds))
        ]
        facts: dict[str, Any] = {
            "finished": True,
            "folds": list(range(len(self.folds))),
            "seconds": round(sum(map(self._seconds, range(len(self.folds)))), 1),
            "device": ", ".join(sorted({str(each.get("device")) for each in of_folds})),
            "data": self.request.data.name,
            "cases": len(found.folds),
            "scans": self.found.fingerprint.facts,
            **found.scores.facts(),
            **(self.found.object_facts if self.plan.data.has_objects else {}),
            "cleaning": [decision.sentence() for decision in decisions],
        }
        if found.cleaned is not None:
            cleaned = found.cleaned.facts()
            facts |= {f"cleaned_{name}": value for name, value in cleaned.items()}
        return facts


def _told(validation: Validation) -> str:
    return f"mean {validation.score.name} {validation.mean:.4f}"


def _refuse_single(run: Path) -> None:
    """Raise UsageError if the run folder holds the training of one fold."""
    begun = any((run / name).exists() for name in ("resume", "model", "history.csv"))
    if begun and read_folds_asked(run) is None:
        raise UsageError(
            "a training of one fold stands here",
            where=run,
            hint="give another folder by -o to train all folds",
        )
