"""All that an evaluation has found: what is shown, written and made a page of."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from unetseg.evaluation.comparison import Comparison, compare
from unetseg.evaluation.results import Evaluation
from unetseg.evaluation.summaries import Summary, summarise
from unetseg.metrics.resampling import Resampling


@dataclass(frozen=True, eq=False)
class Outcome:
    """The scores of a set of masks, and of another set of the same cases where there is one.

    truth, predicted, against : where the masks are

    Summaries and comparison are made when they are first asked for.
    """

    truth: Path
    predicted: Path
    evaluation: Evaluation
    resampling: Resampling = field(default_factory=Resampling)
    against: Path | None = None
    other: Evaluation | None = None

    @cached_property
    def summaries(self) -> tuple[Summary, ...]:
        """Of the first set, with intervals."""
        return summarise(self.evaluation, self.resampling)

    @cached_property
    def comparison(self) -> Comparison | None:
        """The first set less the other; None where there is no other, or nothing has scores.

        Raises DataError if no case is scored in both sets.
        """
        if self.other is None or not self.evaluation.scores:
            return None
        return compare(self.evaluation, self.other, self.resampling)

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Name of a case, and why it has no score, in either set."""
        each = [self.evaluation, *([self.other] if self.other is not None else [])]
        return tuple((name, str(error)) for one in each for name, error in one.failures)
