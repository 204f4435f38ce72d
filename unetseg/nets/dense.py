"""The dense encoders: every layer sees what all layers before it in its block have made.

Parameters bear torchvision's names (features.denseblock1.denselayer1.norm1, ...), whatever the
normalisation, so that published weights fit.
Source: Huang et al. 2017, arXiv:1608.06993.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unetseg.config import NetworkPlan
from unetseg.nets.layers import (
    activation,
    convolution,
    cumulative,
    dropout,
    mean_pool,
    normalisation,
    pointwise,
)
from unetseg.nets.stages import Place, blocks_per_level, places
from unetseg.nets.stem import Stem, pooling, wide_kernel

# A layer's 1 x 1 convolution narrows what it sees to this many times the maps that it adds.
_BOTTLENECK = 4


class DenseLayer(nn.Module):
    """All maps so far -> `growth` new ones.

    recompute : keep only the maps themselves for the backward pass, and compute what lies
        between them once more; the same result for more time and much less memory
        (Pleiss et al. 2017, arXiv:1707.06990)
    """

    def __init__(self, before: int, growth: int, place: Place, network: NetworkPlan) -> None:
        super().__init__()
        axes, between = len(place.kernel), _BOTTLENECK * growth
        self.norm1 = normalisation(network.norm, before, axes)
        self.relu1 = activation(network.activation)
        self.conv1 = pointwise(before, between, axes)
        self.norm2 = normalisation(network.norm, between, axes)
        self.relu2 = activation(network.activation)
        self.conv2 = convolution(between, growth, place.kernel)
        self.dropout = dropout(network.dropout, axes)
        self.recompute = network.recompute

    def _new_maps(self, *maps: Tensor) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(maps, dim=1))))
        new: Tensor = self.dropout(self.conv2(self.relu2(self.norm2(x))))
        return new

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return _twice(self._new_maps, maps, self) if self.recompute else self._new_maps(*maps)


def _twice(make: Callable[..., Tensor], maps: Sequence[Tensor], module: nn.Module) -> Tensor:
    """make(*maps), of which nothing but the maps is kept: the backward pass makes it once more.

    module : whose running statistics the second pass must not move
    """
    if not torch.is_grad_enabled():
        return make(*maps)
    result: Tensor = checkpoint(
        make,
        *maps,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_at_rest(module)),
    )
    return result


@contextmanager
def _statistics_at_rest(module: nn.Module) -> Iterator[None]:
    """Running statistics have seen this batch already: a second pass moves copies of them.

    Not tracking them would not do: what autograd saves must be the same in both passes.
    """
    norms = [m for m in module.modules() if getattr(m, "track_running_stats", False)]
    real = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in real:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in real:
            setattr(norm, name, buffer)


class DenseBlock(nn.Module):
    """`layers` dense layers; returns what came in and all that was made, map by map."""

    def __init__(
        self, before: int, layers: int, growth: int, place: Place, network: NetworkPlan
    ) -> None:
        super().__init__()
        for number in range(layers):
            layer = DenseLayer(before + number * growth, growth, place, network)
            self.add_module(f"denselayer{number + 1}", layer)
        self.out_channels = before + layers * growth

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for layer in self.children():
            maps.append(layer(maps))
        return maps


def _joint(before: int, after: int, stride: Sequence[int], network: NetworkPlan) -> nn.Module:
    """A transition: half as many maps at the next level's resolution."""
    axes = len(stride)
    joint = nn.Sequential()
    joint.add_module("norm", normalisation(network.norm, before, axes))
    joint.add_module("relu", activation(network.activation))
    joint.add_module("conv", pointwise(before, after, axes))
    joint.add_module("pool", mean_pool(stride) if set(stride) != {1} else nn.Identity())
    return joint


class _Blocks(nn.Module):
    """Dense blocks with transitions between them, in a container called `features`."""

    features: nn.Sequential

    def _add_blocks(
        self,
        before: int,
        growth: int,
        blocks: Sequence[int],
        where: Sequence[Place],
        network: NetworkPlan,
    ) -> None:
        self._ends = [place.ends for place in where]
        self._recompute = network.recompute
        outputs = []
        for number, (layers, place) in enumerate(zip(blocks, where, strict=True), 1):
            if number > 1:
                joint = _joint(before, before // 2, place.stride, network)
                self.features.add_module(f"transition{number - 1}", joint)
                before //= 2
            block = DenseBlock(before, layers, growth, place, network)
            self.features.add_module(f"denseblock{number}", block)
            before = block.out_channels
            outputs.append(before)
        norm = normalisation(network.norm, before, len(where[0].stride))
        self.features.add_module(f"norm{len(blocks) + 1}", norm)
        self.last_activation = activation(network.activation)
        self._block_channels = tuple(
            channels for channels, ends in zip(outputs, self._ends, strict=True) if ends
        )

    def _run_blocks(self, x: Tensor) -> list[Tensor]:
        """What the decoder sees of a block is what the transition makes its next maps from."""
        parts: dict[str, Any] = dict(self.features.named_children())
        levels, count = [], len(self._ends)
        for number, ends in enumerate(self._ends, 1):
            maps = parts[f"denseblock{number}"](x)
            if number == count:
                norm = parts[f"norm{number + 1}"]
                levels.append(self._together(maps, norm, self.last_activation))
                break
            joint = parts[f"transition{number}"]
            x = self._together(maps, joint.norm, joint.relu)
            if ends:
                levels.append(x)
            x = joint.pool(joint.conv(x))
        return levels

    def _together(self, maps: Sequence[Tensor], norm: nn.Module, act: nn.Module) -> Tensor:
        """A block's maps side by side, normalised and activated."""

        def make(*parts: Tensor) -> Tensor:
            whole: Tensor = act(norm(torch.cat(parts, dim=1)))
            return whole

        return _twice(make, maps, norm) if self._recompute else make(*maps)


class DenseEncoder(_Blocks):
    """A dense block per level, at full resolution from the start.

    The plan gives the layers per level and the growth, the maps that each layer adds.
    """

    def __init__(self, in_channels: int, network: NetworkPlan) -> None:
        super().__init__()
        where = [
            Place(level, stride, kernel, ends=True)
            for level, (stride, kernel) in enumerate(
                zip(network.strides, network.kernels, strict=True)
            )
        ]
        first = 2 * network.growth
        self.features = nn.Sequential()
        self.features.add_module("conv0", convolution(in_channels, first, network.kernels[0]))
        self._add_blocks(first, network.growth, blocks_per_level(network), where, network)
        self.channels = self._block_channels
        self.strides = cumulative(network.strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self._run_blocks(self.features.get_submodule("conv0")(x))


class ImageNetDenseNet(_Blocks):
    """torchvision's DenseNet without its head, in 2-D and 3-D, under a light stem.

    Level 0 is the stem, level 1 the original's first convolution, and from level 2 on come its
    four blocks.

    blocks : dense layers of the four blocks
    growth, first : maps that a layer adds, and those of the first convolution
    """

    def __init__(
        self,
        in_channels: int,
        network: NetworkPlan,
        *,
        blocks: tuple[int, ...],
        growth: int = 32,
        first: int = 64,
    ) -> None:
        super().__init__()
        axes = len(network.strides[0])
        place, *rest = places(network, 1 + len(blocks), first_level=1)
        self.stem = Stem(in_channels, network, place)
        self.is_level_one = place.ends
        self.features = nn.Sequential()
        first_convolution = convolution(in_channels, first, wide_kernel(place), place.stride)
        self.features.add_module("conv0", first_convolution)
        self.features.add_module("norm0", normalisation(network.norm, first, axes))
        self.features.add_module("relu0", activation(network.activation))
        self.features.add_module("pool0", pooling(rest[0]))
        self._add_blocks(first, growth, blocks, rest, network)
        level_one = (first,) if self.is_level_one else ()
        self.channels = (*self.stem.channels, *level_one, *self._block_channels)
        self.strides = cumulative(network.strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.stem(x)
        parts = dict(self.features.named_children())
        x = parts["relu0"](parts["norm0"](parts["conv0"](x)))
        if self.is_level_one:
            levels.append(x)
        return [*levels, *self._run_blocks(parts["pool0"](x))]


densenet121 = partial(ImageNetDenseNet, blocks=(6, 12, 24, 16))
densenet161 = partial(ImageNetDenseNet, blocks=(6, 12, 36, 24), growth=48, first=96)
densenet169 = partial(ImageNetDenseNet, blocks=(6, 12, 32, 32))
densenet201 = partial(ImageNetDenseNet, blocks=(6, 12, 48, 32))
densenet264 = partial(ImageNetDenseNet, blocks=(6, 12, 64, 48))
