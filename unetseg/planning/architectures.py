"""What the name of an encoder already says of its network."""

import re
from dataclasses import dataclass
from typing import Literal

_SMALL_RESNETS = {20, 32, 44, 56, 110}
_BASIC_RESNETS = {18, 34}
_BOTTLENECK_RESNETS = {50, 101, 152}
_DENSENETS = {121, 161, 169, 201, 264}


@dataclass(frozen=True)
class Architecture:
    """What follows from an encoder's name, whatever the data.

    levels : the most that it has, None for any number
    blocks : per level where the plan decides; 0 where the name does
    block : of a residual encoder
    is_original : a published network, whose weights exist or could
    """

    levels: int | None = None
    blocks: int = 2
    block: Literal["basic", "bottleneck"] | None = None
    activation: Literal["relu", "leaky_relu"] = "leaky_relu"
    is_original: bool = False


def architecture(encoder: str) -> Architecture:
    """The facts about an encoder; those of a stack of convolutions for one that is not known."""
    if encoder == "residual":
        return Architecture(block="basic", activation="relu")
    if encoder == "dense":
        return Architecture(blocks=4, activation="relu")
    named = re.fullmatch(r"(resnet|densenet)(\d+)", encoder)
    if named is None:
        return Architecture()
    family, depth = named[1], int(named[2])
    if family == "densenet" and depth in _DENSENETS:
        return Architecture(6, 0, None, "relu", is_original=True)
    if family == "resnet" and depth in _SMALL_RESNETS:
        return Architecture(3, 0, "basic", "relu")
    if family == "resnet" and depth in _BASIC_RESNETS:
        return Architecture(6, 0, "basic", "relu", is_original=True)
    if family == "resnet" and depth in _BOTTLENECK_RESNETS:
        return Architecture(6, 0, "bottleneck", "relu", is_original=True)
    return Architecture()
