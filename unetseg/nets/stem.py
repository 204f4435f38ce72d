"""What the published networks have before their first stage, and what they lack there."""

from torch import Tensor, nn

from unetseg.config import NetworkPlan
from unetseg.nets.layers import ConvBlock, max_pool
from unetseg.nets.stages import Place


class Stem(nn.Module):
    """Level 0 of a published network: a convolution of its own at full resolution.

    The original's first convolution halves the image and is level 1; a plan with a single level
    has it at full resolution, and no stem. Without long skips nobody would see the stem's
    convolution: then level 0 is the image itself.

    channels : of level 0, or nothing where there is no such level
    """

    def __init__(self, in_channels: int, network: NetworkPlan, first: Place) -> None:
        super().__init__()
        is_seen = network.skip != "none"
        width = network.features[0] if is_seen else in_channels
        self.is_level = first.level > 0
        self.channels = (width,) if self.is_level else ()
        self.block: nn.Module = nn.Identity()
        if self.is_level and is_seen:
            self.block = ConvBlock(in_channels, width, network.kernels[0], network, repeats=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) -> the maps of level 0, none or one."""
        return [self.block(x)] if self.is_level else []


def wide_kernel(first: Place) -> tuple[int, ...]:
    """That of the first convolution: 7 along every axis that is looked along."""
    return tuple(7 if size > 1 else 1 for size in first.kernel)


def pooling(place: Place) -> nn.Module:
    """The pooling before the first stage, whose stride is the stage's; nothing without one."""
    return max_pool(place.stride) if set(place.stride) != {1} else nn.Identity()
