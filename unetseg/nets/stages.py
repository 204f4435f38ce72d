"""How the stages of an encoder fall on the levels of a plan."""

from dataclasses import dataclass, replace

from unetseg.config import NetworkPlan
from unetseg.errors import UsageError

_USUAL_BLOCKS = 2


@dataclass(frozen=True)
class Place:
    """Where a stage stands.

    level : of the plan
    stride, kernel : per axis, for the stage's first layer and for its convolutions
    ends : the last stage of its level, whose output the decoder sees
    """

    level: int
    stride: tuple[int, ...]
    kernel: tuple[int, ...]
    ends: bool

    def still(self) -> "Place":
        """The same without a stride."""
        return replace(self, stride=(1,) * len(self.stride))


def blocks_per_level(network: NetworkPlan) -> tuple[int, ...]:
    """The plan's blocks, or two per level where it leaves them open."""
    return network.blocks or (_USUAL_BLOCKS,) * network.levels


def places(network: NetworkPlan, stages: int, *, first_level: int = 0) -> tuple[Place, ...]:
    """One place per stage, a level each from `first_level` on.

    A plan with fewer levels has the stages that are left over in its last one, without a stride:
    the network keeps its depth, its weights and their names.

    Raises UsageError if there are more levels than stages, or if the plan sets blocks of its own
    for an encoder whose name already says how many it has.
    """
    if network.blocks:
        raise UsageError(
            f"{network.encoder} has blocks of its own",
            where="network.blocks",
            got=network.blocks,
            hint="choose residual or dense to set them, or leave network.blocks empty",
        )
    most = first_level + stages
    if network.levels > most:
        raise UsageError(
            f"too many levels for {network.encoder}",
            where="network.levels",
            expected=f"at most {most}",
            got=network.levels,
        )
    result = []
    for stage in range(stages):
        wanted = stage + first_level
        level = min(wanted, network.levels - 1)
        stride = network.strides[level] if wanted == level else (1,) * len(network.strides[0])
        last = stage == stages - 1 or wanted + 1 < network.levels
        result.append(Place(level, stride, network.kernels[level], last))
    return tuple(result)
