"""Instance normalisation with channels last, against torch's own and by hand."""

import pytest
import torch
from torch import nn

from unetseg.nets import instance
from unetseg.nets.instance import InstanceNorm2d, InstanceNorm3d

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
OURS = {2: InstanceNorm2d, 3: InstanceNorm3d}
TORCHS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def layers(dimensions: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, with the same scale and shift."""
    ours, theirs = (kinds[dimensions](channels, affine=True).double() for kinds in (OURS, TORCHS))
    for values in (ours.weight, ours.bias):
        nn.init.normal_(values)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def apart(mine: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    mine, other = mine.detach().double(), other.detach()
    return float((mine - other).abs().max() / other.abs().max())


def channels_last(*shape: int) -> torch.Tensor:
    x = torch.randn(shape, dtype=torch.float64) * 3 + 5
    return x.contiguous(memory_format=LAYOUTS[len(shape) - 2])


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 3, 2, 2), (3, 4, 5, 2, 3), (2, 2, 3, 1, 4)])
def test_it_is_torchs_instance_norm_with_its_gradients(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, theirs = layers(len(shape) - 2, shape[1])
    x = channels_last(*shape)
    grad = torch.randn_like(x)
    results = []
    for layer in (ours, theirs):
        is_ours = layer is ours
        # torch 2.13 is wrong for a batch of one whose gradient has its channels last.
        copy = (x.clone() if is_ours else x.contiguous()).requires_grad_()
        y = layer(copy)
        y.backward(grad if is_ours else grad.contiguous())
        results.append([y, copy.grad, layer.weight.grad, layer.bias.grad])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
    # Not the same: a map that was not centred.
    assert not torch.allclose(results[0][0], x)
    assert results[0][0].is_contiguous(memory_format=LAYOUTS[len(shape) - 2])


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 3, 4, 4), (3, 4, 5, 2, 3), (2, 16, 9, 8, 7)])
@pytest.mark.parametrize("is_last", [True, False])
def test_sixteen_bits_are_those_of_sixty_four(shape: tuple[int, ...], is_last: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = layers(len(shape) - 2, shape[1])
    x = channels_last(*shape).bfloat16().requires_grad_()
    exact = x.detach().double().contiguous().requires_grad_()
    grad = torch.randn_like(x)
    y = ours.float()(x)
    y.backward(grad if is_last else grad.contiguous())
    expected = theirs(exact)
    expected.backward(grad.double().contiguous())
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=LAYOUTS[len(shape) - 2])
    # A number of 16 bits has eight of them for its digits.
    pairs = [(y, expected), (x.grad, exact.grad)]
    pairs += [(getattr(ours, name).grad, getattr(theirs, name).grad) for name in ("weight", "bias")]
    for mine, other in pairs:
        assert apart(mine, other) < 2**-7
    assert apart(y + 0.1, expected) > 2**-7


@pytest.mark.parametrize("batch", [1, 2])
def test_the_gradient_is_that_of_the_function(batch: int) -> None:
    torch.manual_seed(0)
    ours, _ = layers(2, 3)
    x = channels_last(batch, 3, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *a: instance._Normalise.apply(*a, 1e-5), (x, ours.weight, ours.bias)
    )


def test_a_map_by_hand() -> None:
    """1, 2, 3, 6 have mean 3 and variance 3.5."""
    layer = InstanceNorm2d(2, affine=True, eps=0.0)
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    x = torch.stack([values, 10 * values]).reshape(1, 2, 2, 2)
    x = x.contiguous(memory_format=torch.channels_last)
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0]) / 3.5**0.5
    torch.testing.assert_close(layer(x)[0].flatten(1), expected.expand(2, 4))


def test_torchs_own_way_is_taken_where_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("not here")

    for way in (instance._Normalise, instance._NormaliseHalf):
        monkeypatch.setattr(way, "apply", never)
    layer = InstanceNorm2d(3, affine=True)
    layer(torch.randn(2, 3, 4, 4))
    layer.to("meta")(torch.empty(2, 3, 4, 4, device="meta"))
    layer = InstanceNorm2d(3, affine=True)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        layer(torch.randn(2, 3, 1, 1).contiguous(memory_format=torch.channels_last))
    layer.half()(torch.randn(2, 3, 4, 4).half().contiguous(memory_format=torch.channels_last))
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 3, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
        with pytest.raises(AssertionError, match="not here"):
            layer.float()(x)
