"""The residual encoders: every block adds what it learned to what it was given.

Parameters bear torchvision's names (conv1, bn1, layer1.0.conv1, ...), whatever the normalisation,
so that published weights fit.
Sources: He et al. 2015, arXiv:1512.03385; He et al. 2016, arXiv:1603.05027 (pre-activation).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from unetseg.config import NetworkPlan
from unetseg.nets.layers import (
    StochasticDepth,
    activation,
    convolution,
    cumulative,
    dropout,
    normalisation,
    pointwise,
)
from unetseg.nets.stages import Place, blocks_per_level, places
from unetseg.nets.stem import Stem, pooling, wide_kernel

_EXPANSION = {"basic": 1, "bottleneck": 4}
_IMAGENET_WIDTHS = (64, 128, 256, 512)
_SMALL_WIDTHS = (16, 32, 64)


class PaddingShortcut(nn.Module):
    """The identity at another size, without parameters: every stride-th voxel, zero channels.

    Source: option A of He et al. 2015, which the small ResNets and MedicalNet's 18 and 34 use.
    """

    def __init__(self, stride: Sequence[int], more_channels: int) -> None:
        super().__init__()
        self.stride, self.more_channels = tuple(stride), more_channels

    def forward(self, x: Tensor) -> Tensor:
        index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in self.stride))
        x = x[index]
        spatial = (0, 0) * len(self.stride)
        return functional.pad(x, (*spatial, 0, self.more_channels))


class ResidualBlock(nn.Module):
    """Two or three convolutions whose result is added to the input.

    before, width : channels that come in, and those of the 3 x 3 convolutions; a bottleneck
        block returns four times `width`
    drop : probability that a sample skips the convolutions in training
    """

    def __init__(
        self, before: int, width: int, place: Place, network: NetworkPlan, *, drop: float
    ) -> None:
        super().__init__()
        axes, stride = len(place.stride), place.stride
        after = width * _EXPANSION[network.block]
        # (channels before, after, kernel, stride) of each convolution.
        one, still = (1,) * axes, (1,) * axes
        shapes = (
            [(before, width, place.kernel, stride), (width, width, place.kernel, still)]
            if network.block == "basic"
            else [
                (before, width, one, still),
                # The stride is the wide kernel's, as in torchvision: a 1 x 1 one would skip voxels.
                (width, width, place.kernel, stride),
                (width, after, one, still),
            ]
        )
        self.layers = len(shapes)
        for number, (ins, outs, kernel, step) in enumerate(shapes, 1):
            self.add_module(f"conv{number}", convolution(ins, outs, kernel, step))
            normalised = ins if network.preactivation else outs
            self.add_module(f"bn{number}", normalisation(network.norm, normalised, axes))
        self.activation = activation(network.activation)
        self.dropout = dropout(network.dropout, axes)
        self.drop = StochasticDepth(drop)
        self.preactivation = network.preactivation
        self.downsample = self._shortcut(before, after, stride, network)

    @staticmethod
    def _shortcut(
        before: int, after: int, stride: tuple[int, ...], network: NetworkPlan
    ) -> nn.Module | None:
        if before == after and set(stride) == {1}:
            return None
        if network.shortcut == "padding" and after >= before:
            return PaddingShortcut(stride, after - before)
        axes = len(stride)
        projection = pointwise(before, after, axes, stride)
        if network.preactivation:
            return nn.Sequential(projection)
        return nn.Sequential(projection, normalisation(network.norm, after, axes))

    def forward(self, x: Tensor) -> Tensor:
        pairs = [
            (getattr(self, f"conv{number}"), getattr(self, f"bn{number}"))
            for number in range(1, self.layers + 1)
        ]
        branch = x
        for number, (conv, norm) in enumerate(pairs, 1):
            if self.preactivation:
                branch = self.activation(norm(branch))
                if number == 1 and self.downsample is not None:
                    x = branch
                branch = conv(self.dropout(branch) if number > 1 else branch)
            else:
                branch = norm(conv(branch))
                if number < self.layers:
                    branch = self.dropout(self.activation(branch))
        shortcut = x if self.downsample is None else self.downsample(x)
        total: Tensor = self.drop(branch) + shortcut
        return total if self.preactivation else self.activation(total)

    def become_identity(self) -> bool:
        """Let the block return what it is given, exactly; False if this kind of block cannot.

        The last convolution's answer is switched off. A block that ends with an activation is
        then the identity for what a ReLU returned, a pre-activation block for everything.
        """
        if self.downsample is not None:
            return False
        if not self.preactivation and not isinstance(self.activation, nn.ReLU):
            return False
        last: nn.Module = getattr(self, f"{'conv' if self.preactivation else 'bn'}{self.layers}")
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        return True


class _Stages(nn.Module):
    """Residual stages `layer1`, `layer2`, ... at their places."""

    def _add_stages(
        self,
        before: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        where: Sequence[Place],
        network: NetworkPlan,
    ) -> None:
        self._ends = [place.ends for place in where]
        self._outputs: list[int] = []
        self._preactivation = network.preactivation
        total, done = max(1, sum(blocks) - 1), 0
        for number, (width, repeats, place) in enumerate(
            zip(widths, blocks, where, strict=True), 1
        ):
            stage = nn.Sequential()
            for index in range(repeats):
                stage.append(
                    ResidualBlock(
                        before,
                        width,
                        place if index == 0 else place.still(),
                        network,
                        # The deeper, the more dispensable.
                        drop=network.stochastic_depth * done / total,
                    )
                )
                before, done = width * _EXPANSION[network.block], done + 1
            self.add_module(f"layer{number}", stage)
            self._outputs.append(before)
            if network.preactivation and place.ends:
                # What leaves a stage was only ever added to.
                end = normalisation(network.norm, before, len(place.stride))
                self.add_module(f"end{number}", nn.Sequential(end, activation(network.activation)))

    def _run_stages(self, x: Tensor) -> list[Tensor]:
        levels = []
        for number, ends in enumerate(self._ends, 1):
            x = getattr(self, f"layer{number}")(x)
            if ends:
                levels.append(getattr(self, f"end{number}")(x) if self._preactivation else x)
        return levels

    def _level_channels(self) -> tuple[int, ...]:
        return tuple(
            channels for channels, ends in zip(self._outputs, self._ends, strict=True) if ends
        )


class ResidualEncoder(_Stages):
    """Residual stages at full resolution from the start, one per level.

    stages : (blocks, widths) of an encoder with a name; without it both come from the plan
    """

    def __init__(
        self,
        in_channels: int,
        network: NetworkPlan,
        *,
        stages: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        if stages is None:
            blocks, widths = blocks_per_level(network), network.features
            where: Sequence[Place] = [
                Place(level, stride, kernel, ends=True)
                for level, (stride, kernel) in enumerate(
                    zip(network.strides, network.kernels, strict=True)
                )
            ]
        else:
            blocks, widths = stages
            where = places(network, len(blocks))
        axes = len(network.strides[0])
        self.conv1 = convolution(in_channels, widths[0], network.kernels[0])
        self.bn1, self.activation = nn.Identity(), nn.Identity()
        if not network.preactivation:
            self.bn1 = normalisation(network.norm, widths[0], axes)  # type: ignore[assignment]
            self.activation = activation(network.activation)  # type: ignore[assignment]
        self._add_stages(widths[0], widths, blocks, where, network)
        self.channels = self._level_channels()
        self.strides = cumulative(network.strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self._run_stages(self.activation(self.bn1(self.conv1(x))))


class ImageNetResNet(_Stages):
    """torchvision's ResNet without its head, in 2-D and 3-D, under a light stem.

    Level 0 is the stem, level 1 the original's first convolution, and from level 2 on come its
    four stages.

    blocks : residual blocks of the four stages
    """

    def __init__(self, in_channels: int, network: NetworkPlan, *, blocks: tuple[int, ...]) -> None:
        super().__init__()
        axes, width = len(network.strides[0]), _IMAGENET_WIDTHS[0]
        first, *rest = places(network, 1 + len(blocks), first_level=1)
        self.stem = Stem(in_channels, network, first)
        self.conv1 = convolution(in_channels, width, wide_kernel(first), first.stride)
        self.bn1 = normalisation(network.norm, width, axes)
        self.activation = activation(network.activation)
        self.is_level_one = first.ends
        self.maxpool = pooling(rest[0])
        rest[0] = rest[0].still()
        self._add_stages(width, _IMAGENET_WIDTHS, blocks, rest, network)
        level_one = (width,) if self.is_level_one else ()
        self.channels = (*self.stem.channels, *level_one, *self._level_channels())
        self.strides = cumulative(network.strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.stem(x)
        x = self.activation(self.bn1(self.conv1(x)))
        if self.is_level_one:
            levels.append(x)
        return [*levels, *self._run_stages(self.maxpool(x))]


def _imagenet(
    in_channels: int,
    network: NetworkPlan,
    *,
    blocks: tuple[int, ...],
    block: Literal["basic", "bottleneck"],
) -> ImageNetResNet:
    return ImageNetResNet(in_channels, replace(network, block=block), blocks=blocks)


def _small(in_channels: int, network: NetworkPlan, *, depth: int) -> ResidualEncoder:
    # 6n + 2 layers: three stages of n blocks of two, a first convolution and the classifier.
    blocks = ((depth - 2) // 6,) * len(_SMALL_WIDTHS)
    plan = replace(network, block="basic")
    return ResidualEncoder(in_channels, plan, stages=(blocks, _SMALL_WIDTHS))


resnet18 = partial(_imagenet, blocks=(2, 2, 2, 2), block="basic")
resnet34 = partial(_imagenet, blocks=(3, 4, 6, 3), block="basic")
resnet50 = partial(_imagenet, blocks=(3, 4, 6, 3), block="bottleneck")
resnet101 = partial(_imagenet, blocks=(3, 4, 23, 3), block="bottleneck")
resnet152 = partial(_imagenet, blocks=(3, 8, 36, 3), block="bottleneck")

resnet20 = partial(_small, depth=20)
resnet32 = partial(_small, depth=32)
resnet44 = partial(_small, depth=44)
resnet56 = partial(_small, depth=56)
resnet110 = partial(_small, depth=110)
