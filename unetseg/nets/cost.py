"""What a network costs, worked out from shapes alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from unetseg.catalogue import BYTES_PER_PARAMETER
from unetseg.nets.unet import parameters


@dataclass(frozen=True)
class Cost:
    """What one patch costs.

    parameters : learned values
    flops : of the forward pass, two per multiply-add; convolutions only, as is usual
    memory_bytes : of a training step in single precision: what the forward pass keeps for the
        backward pass, and weights, gradients and the optimiser's two moments
    """

    parameters: int
    flops: int
    memory_bytes: int


def cost(network: nn.Module, in_channels: int, size: Sequence[int]) -> Cost:
    """The cost of one patch (1, in_channels, *size), without computing it.

    network : on any device, the meta device too; stays as it is
    size : voxels per axis

    What is counted is a pass in the network's present mode: a new network is in training mode,
    where deep supervision adds heads, and every block can be told what it keeps.
    Buffers that the kernels of a device use for themselves are not counted.
    """
    learned, others = {}, {}
    for name, parameter in network.named_parameters():
        learned[name] = torch.empty_like(parameter, device="meta", requires_grad=True)
    for name, buffer in network.named_buffers():
        others[name] = torch.empty_like(buffer, device="meta")
    known = {value.untyped_storage() for value in (*learned.values(), *others.values())}
    kept: set[torch.UntypedStorage] = set()

    def keep(saved: Tensor) -> Tensor:
        # A view keeps the whole of what it looks at, and two views keep it once.
        kept.add(saved.untyped_storage())
        return saved

    patch = torch.empty((1, in_channels, *size), device="meta")
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), counter, saved_tensors_hooks(keep, lambda saved: saved):
        # The graph lives as long as its outputs: until then no storage makes place for another.
        outputs = functional_call(network, learned | others, (patch,))
        kept_bytes = sum(storage.nbytes() for storage in kept - known)
        del outputs
    count = parameters(network)
    return Cost(count, counter.get_total_flops(), kept_bytes + BYTES_PER_PARAMETER * count)
