"""Layers by number of spatial axes, and the block that encoders and the decoder share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetseg.config import NetworkPlan
from unetseg.nets.instance import InstanceNorm2d, InstanceNorm3d

# torch types a kernel of exactly two or three sizes; here the number of axes is a value.
_CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_INSTANCE = {2: InstanceNorm2d, 3: InstanceNorm3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
_MAX_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MEAN_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

# The slope of nnU-Net's leaky ReLU; small enough that He's initialisation is right for all.
SLOPE = 0.01


class _Thinned:
    """A convolution that leaves voxels out first where it would step over them.

    The same as a stride along an axis of kernel size 1. There torch's own (2.13, on a processor,
    with channels last) writes where it must not: the program may crash.
    """

    def forward(self: Any, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        pairs = list(zip(self.kernel_size, self.stride, strict=True))
        thin = [slice(None, None, step if size == 1 else None) for size, step in pairs]
        stride = tuple(1 if size == 1 else step for size, step in pairs)
        convolve: Any = functional.conv2d if len(pairs) == 2 else functional.conv3d
        thinned = input[(slice(None), slice(None), *thin)]
        y: Tensor = convolve(thinned, self.weight, self.bias, stride, self.padding)
        return y


class ThinnedConv2d(_Thinned, nn.Conv2d):
    """(B, C, H, W)."""


class ThinnedConv3d(_Thinned, nn.Conv3d):
    """(B, C, D, H, W)."""


_THINNED: dict[int, Callable[..., nn.Module]] = {2: ThinnedConv2d, 3: ThinnedConv3d}


def blocks_of_voxels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A transposed convolution whose stride is its kernel, as one product of matrices.

    Every voxel becomes a block, and blocks do not overlap. (B, C, *S), weight (C, K, *kernel)
    -> (B, K, *S * kernel), with channels last.
    """
    batch, channels, *size = x.shape
    _, outputs, *kernel = weight.shape
    rows = x.movedim(1, -1).reshape(-1, channels)
    columns = weight.movedim(1, -1).reshape(channels, -1)
    y = torch.addmm(bias.repeat(columns.shape[1] // outputs), rows, columns)
    axes = len(size)
    # Each axis beside its own of the block.
    order = [0, *(part + axis for axis in range(1, axes + 1) for part in (0, axes)), 2 * axes + 1]
    y = y.reshape(batch, *size, *kernel, outputs).permute(order)
    whole = [n * k for n, k in zip(size, kernel, strict=True)]
    return y.reshape(batch, *whole, outputs).movedim(-1, 1)


class _InBlocks:
    """On a processor, in 16 bits with channels last, the product is faster than torch's own way."""

    def forward(self: Any, input: Tensor, output_size: Any = None) -> Tensor:  # noqa: A002
        is_half = input.device.type == "cpu" and input.dtype == torch.bfloat16
        if is_half and output_size is None and not input.is_contiguous():
            return blocks_of_voxels(input, self.weight, self.bias)
        y: Tensor = super().forward(input, output_size)  # type: ignore[misc]  # of torch's class
        return y


class Upsampling2d(_InBlocks, nn.ConvTranspose2d):
    """(B, C, H, W)."""


class Upsampling3d(_InBlocks, nn.ConvTranspose3d):
    """(B, C, D, H, W)."""


_UPSAMPLING: dict[int, Callable[..., nn.Module]] = {2: Upsampling2d, 3: Upsampling3d}


def _drawn(make: Callable[..., nn.Module], *shape: Any, bias: bool) -> nn.Module:
    """A convolution with He's initialisation, drawn once: torch's own would be thrown away.

    Source: He et al. 2015, arXiv:1502.01852.
    """
    layer: Any = make(*shape, bias=bias, device="meta")
    layer.to_empty(device=torch.get_default_device())
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer  # type: ignore[no-any-return]  # typed as Any since modules have no `weight`


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    bias: bool = False,
) -> nn.Module:
    """A convolution that keeps the size at stride 1; `len(kernel)` spatial axes."""
    steps_over = any(k == 1 and s > 1 for k, s in zip(kernel, stride or kernel, strict=True))
    return _drawn(
        (_THINNED if stride and steps_over else _CONVOLUTION)[len(kernel)],
        in_channels,
        out_channels,
        tuple(kernel),
        tuple(stride) if stride else 1,
        tuple(size // 2 for size in kernel),
        bias=bias,
    )


def pointwise(
    in_channels: int,
    out_channels: int,
    dimensions: int,
    stride: Sequence[int] | None = None,
    *,
    bias: bool = False,
) -> nn.Module:
    """A convolution that sees one voxel at a time."""
    return convolution(in_channels, out_channels, (1,) * dimensions, stride, bias=bias)


def upsampling(in_channels: int, out_channels: int, stride: Sequence[int]) -> nn.Module:
    """A transposed convolution with kernel = stride: no overlaps, no checkerboard."""
    make, step = _UPSAMPLING[len(stride)], tuple(stride)
    return _drawn(make, in_channels, out_channels, step, step, bias=True)


def max_pool(stride: Sequence[int]) -> nn.Module:
    """The largest of three voxels along every axis that is halved."""
    kernel = tuple(3 if step > 1 else 1 for step in stride)
    padding = tuple(size // 2 for size in kernel)
    return _MAX_POOL[len(stride)](kernel, tuple(stride), padding)


def mean_pool(stride: Sequence[int]) -> nn.Module:
    """The mean of the voxels that become one."""
    return _MEAN_POOL[len(stride)](tuple(stride), tuple(stride))


def normalisation(kind: str, channels: int, dimensions: int) -> nn.Module:
    """instance, batch or group normalisation, with learned scale and shift."""
    if kind == "batch":
        return _BATCH[dimensions](channels)
    if kind == "group":
        groups = next(n for n in (8, 4, 2, 1) if channels % n == 0)
        return nn.GroupNorm(groups, channels)
    return _INSTANCE[dimensions](channels, affine=True)


def activation(kind: str) -> nn.Module:
    """relu, leaky_relu, elu or silu."""
    if kind == "leaky_relu":
        return nn.LeakyReLU(SLOPE, inplace=True)
    makers: dict[str, Callable[..., nn.Module]] = {
        "relu": nn.ReLU,
        "elu": nn.ELU,
        "silu": nn.SiLU,
    }
    return makers[kind](inplace=True)


def dropout(share: float, dimensions: int) -> nn.Module:
    """Whole channels set to zero in training; nothing at all for share 0."""
    return _DROPOUT[dimensions](share) if share else nn.Identity()


class ConvBlock(nn.Sequential):
    """`repeats` times convolution, normalisation, activation; the first one may stride.

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
                activation(network.activation),
            ]
        if network.dropout:
            layers.append(dropout(network.dropout, len(kernel)))
        super().__init__(*layers)


class StochasticDepth(nn.Module):
    """In training a sample's branch is left out with probability `share`, the others scaled up.

    Source: Huang et al. 2016, arXiv:1603.09382.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or not self.share:
            return branch
        kept = 1 - self.share
        shape = (len(branch), *(1,) * (branch.ndim - 1))
        # In the branch's own precision: a factor in another one would widen the whole map.
        return branch * branch.new_empty(shape).bernoulli_(kept) / kept


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
