"""Instance normalisation that is as fast as it can be where channels lie last, on a processor."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from unetseg.devices import memory_format


class _Normalise(torch.autograd.Function):
    """The same as torch's instance norm, by whole-array sums and products.

    torch copies maps with channels last to another layout and back; on a processor this way takes
    half the time, forward and backward together.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        axes, shape = list(range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
        count = x[0, 0].numel()
        centred = x - x.sum(axes, keepdim=True) / count
        variance = (centred * centred).sum(axes, keepdim=True) / count
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, inverse, weight)
        return torch.addcmul(bias.view(shape), centred, inverse * weight.view(shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, inverse, weight = ctx.saved_tensors
        axes, shape = list(range(2, grad.ndim)), (1, -1) + (1,) * (grad.ndim - 2)
        count = grad[0, 0].numel()
        total = grad.sum(axes, keepdim=True)
        # Of the normalised maps, which are centred * inverse.
        along = (grad * centred).sum(axes, keepdim=True) * inverse
        scale = inverse * weight.view(shape)
        back = torch.addcmul(scale * total / -count, grad, scale)
        back.addcmul_(centred, scale * inverse * along / -count)
        return back, along.sum(0).flatten(), total.sum(0).flatten(), None


class _NormaliseHalf(torch.autograd.Function):
    """The same for 16 bits, sample by sample, by torch's batch norm, which leaves the layout alone.

    It adds up voxels one after another in 32 bits: for maps in 16 bits that is exact enough.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y = torch.empty_like(x)
        means, inverses = (torch.empty(x.shape[:2]) for _ in range(2))
        for k in range(len(x)):
            torch.ops.aten.native_batch_norm.out(
                *(x[k : k + 1], weight, bias, None, None, True, 0.0, eps),
                out=y[k : k + 1],
                save_mean=means[k],
                save_invstd=inverses[k],
            )
        ctx.save_for_backward(x, weight, means, inverses)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, means, inverses = ctx.saved_tensors
        grad = grad.contiguous(memory_format=memory_format(x.device, x.ndim - 2))
        back, of_weight, of_bias = torch.empty_like(x), *(torch.empty_like(means) for _ in "ab")
        for k in range(len(x)):
            torch.ops.aten.native_batch_norm_backward.out(
                *(grad[k : k + 1], x[k : k + 1], weight, None, None, means[k], inverses[k]),
                *(True, ctx.eps, [True, True, True]),
                out0=back[k : k + 1],
                out1=of_weight[k],
                out2=of_bias[k],
            )
        return back, of_weight.sum(0), of_bias.sum(0), None


_WAYS: dict[torch.dtype, Any] = {
    torch.float32: _Normalise,
    torch.float64: _Normalise,
    torch.bfloat16: _NormaliseHalf,
}


def _normalised(layer: nn.InstanceNorm2d | nn.InstanceNorm3d, x: Tensor) -> Tensor | None:
    """The output, or None where torch's own way is the better one, or has something to say."""
    way = _WAYS.get(x.dtype) if x.device.type == "cpu" else None
    if way is None or x[0, 0].numel() < 2 or x.is_contiguous():
        return None
    if not x.is_contiguous(memory_format=memory_format(x.device, x.ndim - 2)):
        return None
    y: Tensor = way.apply(x, layer.weight, layer.bias, layer.eps)
    return y


class InstanceNorm2d(nn.InstanceNorm2d):
    """(B, C, H, W), with learned scale and shift."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        result = _normalised(self, input)
        return super().forward(input) if result is None else result


class InstanceNorm3d(nn.InstanceNorm3d):
    """(B, C, D, H, W), with learned scale and shift."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        result = _normalised(self, input)
        return super().forward(input) if result is None else result
