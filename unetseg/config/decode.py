"""The section decode of a plan: how windows become a mask."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from unetseg.config.data import STRICT, Share, Weight

# How maps of objects become objects.
RULES = ("foreground", "seed_depth", "seed_centre", "contrast", "smoothing")


def _several(value: Any) -> Any:
    """A lone value as a list of one, so that `--set decode.min_size=50` needs no brackets."""
    is_lone = isinstance(value, str | int | float) and not isinstance(value, bool)
    return (value,) if is_lone else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Sizes = Annotated[tuple[Weight, ...], BeforeValidator(_several)]


@dataclass(frozen=True, kw_only=True)
class DecodePlan:
    """How windows become a mask.

    overlap : share of a patch, along each axis, that two windows have in common at least
    window : the largest window of a scan, in patches along each axis
    mirror : average over the mirrored axes of the training (slower)
    largest_component : classes of which only the largest component stays
    min_size : components that are smaller become background; an entry per foreground class, or one
        for all of them, in the data's unit to the power of the axes (mm^3, um^2), in voxels for px
    fill_holes : classes that take the background which they enclose
    foreground : of objects, the least probability of their voxels
    seed_depth, seed_centre : an object has a voxel above both
    contrast : how much lower than both tops the pass between two objects is
    smoothing : of objects' maps, standard deviation in voxels, along the finest axis

    What is None of the last five is found after the training, on the validation cases, where the
    task has objects; so is min_size if it is empty.
    """

    __pydantic_config__ = STRICT
    overlap: Annotated[float, Field(ge=0, lt=1)]
    window: Annotated[float, Field(ge=1, le=16)] = 1.0
    mirror: bool = False
    largest_component: Names = ()
    min_size: Sizes = ()
    fill_holes: Names = ()
    foreground: Share | None = None
    seed_depth: Share | None = None
    seed_centre: Share | None = None
    contrast: Share | None = None
    smoothing: Weight | None = None
