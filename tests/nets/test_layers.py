"""Layers against torch's own."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from cubes import request, write_squares
from torch import nn

from unetseg import checkpoint
from unetseg.nets import layers
from unetseg.nets.layers import (
    ThinnedConv2d,
    ThinnedConv3d,
    blocks_of_voxels,
    convolution,
    upsampling,
)
from unetseg.training import plan_for

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
TORCHS = {2: nn.Conv2d, 3: nn.Conv3d}


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [
        ((1, 1), (2, 2), (7, 8)),
        ((1, 3), (2, 2), (5, 6)),
        ((3, 1), (2, 1), (6, 5)),
        ((1, 1, 1), (2, 2, 1), (5, 4, 3)),
        ((1, 3, 3), (2, 2, 2), (4, 5, 6)),
    ],
)
def test_leaving_voxels_out_first_is_a_stride(
    kernel: tuple[int, ...], stride: tuple[int, ...], size: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer = convolution(4, 8, kernel, stride, bias=True)
    padding = tuple(n // 2 for n in kernel)
    theirs = TORCHS[len(size)](4, 8, kernel, stride, padding)
    theirs.load_state_dict(layer.state_dict())
    results = []
    for module, layout in ((layer, LAYOUTS[len(size)]), (theirs, torch.contiguous_format)):
        torch.manual_seed(1)
        x = torch.randn(2, 4, *size).contiguous(memory_format=layout).requires_grad_()
        y = module.to(memory_format=layout)(x)
        y.backward(torch.arange(y.numel()).reshape(y.shape) / y.numel())
        results.append([y, x.grad, layer.weight.grad if module is layer else theirs.weight.grad])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_only_where_there_is_something_to_leave_out() -> None:
    thinned = (ThinnedConv2d, ThinnedConv3d)
    assert isinstance(convolution(4, 8, (1, 1), (2, 2)), thinned)
    assert isinstance(convolution(4, 8, (3, 3, 1), (2, 2, 2)), thinned)
    for kernel, stride in (((3, 3), (2, 2)), ((1, 1), (1, 1)), ((1, 1), None), ((3, 1), (2, 1))):
        assert not isinstance(convolution(4, 8, kernel, stride), thinned)


@pytest.mark.parametrize(
    ("size", "stride"), [((5, 4), (2, 2)), ((3, 5, 4), (2, 2, 2)), ((2, 4, 3), (1, 2, 3))]
)
def test_blocks_of_voxels_are_a_transposed_convolution(
    size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    weight = torch.randn(6, 3, *stride, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    torchs = {2: nn.functional.conv_transpose2d, 3: nn.functional.conv_transpose3d}[len(size)]
    results = []
    for compute in (blocks_of_voxels, lambda *given: torchs(*given, stride=stride)):
        given = [value.clone().requires_grad_() for value in (x, weight, bias)]
        y = compute(*given)
        y.backward(torch.arange(y.numel()).reshape(y.shape) / y.numel())
        results.append([y, *(value.grad for value in given)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert results[0][0].is_contiguous(memory_format=LAYOUTS[len(size)])


@pytest.mark.parametrize("stride", [(2, 2), (1, 2, 2)])
def test_upsampling_in_16_bits_is_as_exact_as_torchs(stride: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    axes = len(stride)
    layer = upsampling(32, 16, stride).to(memory_format=LAYOUTS[axes])
    x = torch.randn(2, 32, *(6,) * axes)
    layer.requires_grad_(requires_grad=False)
    exact = layer(x)
    half = x.bfloat16().contiguous(memory_format=LAYOUTS[axes])
    with patch.object(layers, "blocks_of_voxels", wraps=blocks_of_voxels) as product:
        with torch.autocast("cpu", torch.bfloat16):
            mine, theirs = layer(half), layer(half.contiguous())
        assert product.call_count == 1
    assert mine.dtype == theirs.dtype == torch.bfloat16
    assert mine.is_contiguous(memory_format=LAYOUTS[axes])
    errors = [float((y.float() - exact).abs().max()) for y in (mine, theirs)]
    assert 0 < errors[0] < 1.5 * errors[1]


def test_a_network_on_a_processor_has_its_kernels_channels_last(tmp_path: Path) -> None:
    plan, _ = plan_for(request(write_squares(tmp_path / "data"), tmp_path / "run"))
    network = checkpoint.build(plan)
    torch.manual_seed(0)
    x = torch.randn(2, 1, 16, 16)
    before = network.eval()(x)[0]
    placed = network.placed(torch.device("cpu"))
    assert placed is network
    kernels = [p for p in network.parameters() if p.ndim == 4 and p[0, 0].numel() > 1]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert any(not kernel.is_contiguous() for kernel in kernels)
    # One voxel lies the same way in both: its strides stay torch's usual ones.
    points = [p for p in network.parameters() if p.ndim == 4 and p[0, 0].numel() == 1]
    assert points
    assert all(point.stride() == (point.shape[1], 1, 1, 1) for point in points)
    torch.testing.assert_close(network(x)[0], before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_maps_lie_channels_last_from_the_first_convolution_on(
    tmp_path: Path, precision: torch.dtype
) -> None:
    """Of one channel too, which torch by itself takes for the usual layout."""
    plan, _ = plan_for(request(write_squares(tmp_path / "data"), tmp_path / "run"))
    network = checkpoint.build(plan).placed(torch.device("cpu"))
    seen: list[bool] = []

    def look(_: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        maps = (*given, made) if seen else (made,)
        seen.append(all(x.is_contiguous(memory_format=torch.channels_last) for x in maps))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d):
            module.register_forward_hook(look)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        network(torch.randn(2, 1, 32, 32))[0].sum().backward()
    assert len(seen) > 10
    assert all(seen)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(2, 1, 32, 32).contiguous(memory_format=torch.channels_last)
    assert not first(x).is_contiguous(memory_format=torch.channels_last)
