"""Layers by number of spatial axes, and the block that encoders and the decoder share."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from unetseg.config import NetworkPlan

# torch types a kernel of exactly two or three sizes; here the number of axes is a value.
_CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

# The slope of nnU-Net's leaky ReLU; small enough that He's initialisation stays right.
SLOPE = 0.01


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    bias: bool = False,
) -> nn.Module:
    """A convolution that keeps the size at stride 1; `len(kernel)` spatial axes."""
    return _CONVOLUTION[len(kernel)](
        in_channels,
        out_channels,
        tuple(kernel),
        tuple(stride) if stride else 1,
        tuple(size // 2 for size in kernel),
        bias=bias,
    )


def upsampling(in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Module:
    """A transposed convolution with kernel = stride: no overlaps, no checkerboard."""
    return _TRANSPOSED[len(stride)](
        in_channels, out_channels, tuple(stride), tuple(stride), bias=True
    )


def normalisation(kind: str, channels: int, dimensions: int) -> nn.Module:
    """instance, batch or group normalisation, with learned scale and shift."""
    if kind == "batch":
        return _BATCH[dimensions](channels)
    if kind == "group":
        groups = next(n for n in (8, 4, 2, 1) if channels % n == 0)
        return nn.GroupNorm(groups, channels)
    return _INSTANCE[dimensions](channels, affine=True)


class ConvBlock(nn.Sequential):
    """`repeats` times convolution, normalisation, leaky ReLU; the first one may stride.

    No bias before a normalisation, which would remove it again.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int],
        network: NetworkPlan,
        *,
        repeats: int,
        stride: Sequence[int] | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        for index in range(repeats):
            layers += [
                convolution(
                    in_channels if index == 0 else out_channels,
                    out_channels,
                    kernel,
                    stride if index == 0 else None,
                ),
                normalisation(network.norm, out_channels, len(kernel)),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        super().__init__(*layers)


def initialise(module: nn.Module) -> None:
    """He's initialisation for every convolution. Source: He et al. 2015, arXiv:1502.01852."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def cumulative(strides: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Strides relative to the input, per level, from strides relative to the level above."""
    total = [1] * len(strides[0])
    levels = []
    for stride in strides:
        total = [a * b for a, b in zip(total, stride, strict=True)]
        levels.append(tuple(total))
    return tuple(levels)


def crop_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The leading `size` voxels of each spatial axis."""
    index: tuple[Any, ...] = (..., *(slice(0, n) for n in size))
    cropped: Tensor = x[index]
    return cropped
