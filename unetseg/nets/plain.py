"""The plain encoder: stacked convolutions, no short skip."""

from torch import Tensor, nn

from unetseg.config import NetworkPlan
from unetseg.nets.layers import ConvBlock, cumulative
from unetseg.nets.stages import blocks_per_level


class PlainEncoder(nn.Module):
    """The contracting path of the U-Net, with strided convolutions instead of pooling."""

    def __init__(self, in_channels: int, network: NetworkPlan) -> None:
        super().__init__()
        self.channels = network.features
        self.strides = cumulative(network.strides)
        inputs = (in_channels, *network.features[:-1])
        self.stages = nn.ModuleList(
            ConvBlock(before, after, kernel, network, repeats=repeats, stride=stride)
            for before, after, kernel, repeats, stride in zip(
                inputs,
                network.features,
                network.kernels,
                blocks_per_level(network),
                network.strides,
                strict=True,
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels
