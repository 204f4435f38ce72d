"""The highway encoder: learned gates decide how much a layer changes what it is given.

Source: Srivastava et al. 2015, arXiv:1505.00387.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from unetseg.config import NetworkPlan
from unetseg.nets.layers import ConvBlock, convolution, cumulative
from unetseg.nets.stages import blocks_per_level

# sigmoid(-200) is zero in single precision: the gate is shut for good.
_SHUT = -200.0


class HighwayLayer(nn.Module):
    """transform(x) * gate(x) + x * (1 - gate(x)), each with a convolution of its own.

    The gate begins with the bias of the plan, a negative one: at first the input is carried on.
    """

    def __init__(self, channels: int, kernel: Sequence[int], network: NetworkPlan) -> None:
        super().__init__()
        self.transform = ConvBlock(channels, channels, kernel, network, repeats=1)
        self.gate: nn.Module = convolution(channels, channels, kernel, bias=True)
        self._set_bias(network.gate_bias)

    def _set_bias(self, value: float) -> None:
        nn.init.constant_(self.gate.get_parameter("bias"), value)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).sigmoid()
        result: Tensor = x + share * (self.transform(x) - x)
        return result

    def become_identity(self) -> bool:
        """Let the layer return what it is given, exactly."""
        nn.init.zeros_(self.gate.get_parameter("weight"))
        self._set_bias(_SHUT)
        return True


class HighwayEncoder(nn.Module):
    """Per level a convolution that changes resolution and width, then highway layers.

    The plan's blocks count both.
    """

    def __init__(self, in_channels: int, network: NetworkPlan) -> None:
        super().__init__()
        self.channels = network.features
        self.strides = cumulative(network.strides)
        self.stages = nn.ModuleList()
        before = in_channels
        for after, stride, kernel, layers in zip(
            network.features,
            network.strides,
            network.kernels,
            blocks_per_level(network),
            strict=True,
        ):
            entry = ConvBlock(before, after, kernel, network, repeats=1, stride=stride)
            rest = [HighwayLayer(after, kernel, network) for _ in range(layers - 1)]
            self.stages.append(nn.Sequential(entry, *rest))
            before = after

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels
