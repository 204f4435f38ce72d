"""How long a validation takes, learned from those before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from unetseg.config import Plan
from unetseg.geometry import voxels_computed
from unetseg.records import Advance, Case, Event, Listener


@dataclass(eq=False)
class Pace:
    """Seconds per voxel, of cases whose size came before and of others.

    What a processor or a card computes a size with is made when it first comes: that often takes
    several times as long as the computing.

    voxels : that the windows of a case have, by its name
    """

    voxels: Mapping[str, int]
    _met: set[int] = field(default_factory=set)
    _rates: dict[bool, float] = field(default_factory=dict)

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], plan: Plan) -> "Pace":
        """Of cases with these sizes on the plan's grid, by name."""
        patch, decode = plan.patch.size, plan.decode
        return cls(
            {
                name: voxels_computed(shape, patch, decode.overlap, decode.window)
                for name, shape in shapes.items()
            }
        )

    def learning(self, listener: Listener) -> Listener:
        """Hears of each case when it is done, one after another from now on, and passes it on."""
        spent: dict[bool, tuple[float, int]] = {}
        last = perf_counter()

        def listen(event: Event) -> None:
            nonlocal last
            if isinstance(event, Advance):
                now, size = perf_counter(), self.voxels[event.name]
                came_before = size in self._met
                seconds, voxels = spent.get(came_before, (0.0, 0))
                spent[came_before] = seconds + now - last, voxels + size
                self._rates[came_before] = spent[came_before][0] / spent[came_before][1]
                self._met.add(size)
                last = now
            listener(event)

        return listen

    def seconds(self, cases: Sequence[Case]) -> float:
        """Foreseen for these cases; 0 before the first validation."""
        total = 0.0
        for case in cases:
            size = self.voxels[case.name]
            came_before = size in self._met
            rate = self._rates.get(came_before, self._rates.get(not came_before, 0.0))
            total += rate * size
        return total
