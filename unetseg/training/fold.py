"""The training of one fold of a run of all folds, on one device."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.dataset.folds import FOLDS, pick, read_folds
from unetseg.files import write_text
from unetseg.planning.fingerprint import Inspection
from unetseg.records import Listener
from unetseg.training import Request, run_plan
from unetseg.training.out_of_fold import FoldCases, FoldScores, read_scores, segment_unseen


@dataclass(frozen=True)
class FoldTraining:
    """All that the training of one fold needs.

    request : for all folds, its run is the folder of them all
    plan : for all folds
    device : by name
    minutes : the fold's share of the plan's minutes, None if the plan has none
    """

    request: Request
    plan: Plan
    found: Inspection
    fold: int
    device: str
    minutes: float | None

    @property
    def unseen(self) -> FoldCases:
        """The cases that validate in this fold."""
        cases = self.found.cases
        folds = read_folds(self.request.run / FOLDS, cases)
        return FoldCases(self.request.run, self.fold, pick(cases, folds, self.fold).val)


def train_fold(
    training: FoldTraining, listener: Listener, should_stop: Callable[[], bool]
) -> FoldScores | None:
    """Train a fold, or go on with it, and segment the cases that it has not learned from.

    None if it was asked to stop. Folds share nothing but folds.json and the prepared cases, so
    that several may be trained at the same time, each by a call and on a device of its own.
    """
    unseen, whole = training.unseen, training.plan.training
    if not is_trained(unseen, training.plan):
        run = training.request.run
        write_text(unseen.folder / FOLDS, (run / FOLDS).read_text(encoding="utf-8"))
        reasons = {
            "training.fold": "one of all, see the folder above",
            "training.minutes": "an equal share of the time for all folds",
        }
        plan = replace(
            training.plan,
            training=replace(whole, fold=training.fold, minutes=training.minutes),
            reasons={**training.plan.reasons, **reasons},
        )
        request = replace(
            training.request,
            run=unseen.folder,
            overrides={},
            device=training.device,
            with_report=False,
        )
        if not run_plan(request, plan, training.found, listener, should_stop).finished:
            return None
    return segment_unseen(unseen, training.device, whole.minutes, listener, should_stop)


def is_trained(unseen: FoldCases, plan: Plan) -> bool:
    """Whether the fold has a model that was trained for as long as the plan wants."""
    if not (unseen.folder / "model" / checkpoint.DESCRIPTION).is_file():
        return False
    if not checkpoint.read_facts(unseen.folder).get("finished"):
        return False
    had, wants = checkpoint.load_plan(unseen.folder).training, plan.training
    if wants.minutes is None:
        lengths = [(each.epochs, each.steps_per_epoch) for each in (had, wants)]
        return had.minutes is None and lengths[0] == lengths[1]
    # Shares of one budget differ a little from fold to fold, so that only the whole can tell.
    scores = read_scores(unseen)
    return scores is None or scores.minutes == wants.minutes
