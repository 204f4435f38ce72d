"""How the time for all folds is shared by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from unetseg.config import Plan
from unetseg.tasks.cleaning import cleanings

# Of the whole time, for what comes after the last fold: comparing and cleaning masks; and what it
# takes for a case at least.
_LAST_SHARE, _LAST_CASE_SECONDS = 0.02, 0.03
# Of the share of a fold, for its masks, before those of another fold were timed, where they have to
# be made again; else for taking over that of a case, and for each of its voxels.
_MASKS_SHARE = 0.05
_CASE_SECONDS, _VOXEL_SECONDS = 0.03, 1e-7


@dataclass(frozen=True)
class Share:
    """The share of each fold.

    plan : for all folds
    held : the cases that validate in each fold
    shapes : of the cases, by name
    devices : how many folds are trained at the same time
    after : seconds for what follows all folds, beside comparing and cleaning their masks
    """

    plan: Plan
    held: tuple[tuple[str, ...], ...]
    shapes: Mapping[str, tuple[int, ...]]
    devices: int
    after: float

    def minutes(
        self, before: float, spent: float, waves: int, masks: Sequence[float]
    ) -> float | None:
        """How long the next fold may train: what is left, shared by the folds that are left.

        before : seconds from the start of the command to that of its first fold
        spent : seconds that folds have taken, those that are being trained included
        waves : how many folds are left to each device, this one among them
        masks : seconds that the masks of each fold have taken that is done

        None without a budget.
        """
        if self.plan.training.minutes is None:
            return None
        budget = 60 * self.plan.training.minutes
        cases = sum(map(len, self.held))
        after = max(_LAST_SHARE * budget, _LAST_CASE_SECONDS * cases) + self.after
        share = (budget - after - before - spent / self.devices) / waves
        # Half of an equal share at least, or an ensemble would have a member that knows nothing.
        share = max(share, 0.5 * budget / -(-len(self.held) // self.devices))
        aside = 1.0 + 1.2 * max(masks) if masks else self._masks_seconds(share)
        return max(share - aside, 0.5 * share) / 60

    def _masks_seconds(self, share: float) -> float:
        """What the masks of a fold will take, before any were made, of its share in seconds."""
        if cleanings(self.plan):
            return _MASKS_SHARE * share
        voxels = [prod(self.shapes[name]) for names in self.held for name in names]
        return sum(_CASE_SECONDS + _VOXEL_SECONDS * n for n in voxels) / len(self.held)
