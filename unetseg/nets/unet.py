"""The U-Net: any encoder, a decoder, and a long skip at every level."""

from typing import Self

import torch
from torch import Tensor, nn

from unetseg.config import NetworkPlan
from unetseg.devices import memory_format
from unetseg.nets import Encoder
from unetseg.nets.layers import ConvBlock, convolution, crop_to, upsampling
from unetseg.registry import ENCODERS, SKIPS


class UNet(nn.Module):
    """An encoder whose levels are brought back to full resolution, coarsest first.

    in_channels : C of the input
    outputs : K maps
    network : encoder, skip, levels, features, strides, kernels

    Any spatial size goes in: it is padded up to a multiple of the coarsest stride and cropped back.
    """

    def __init__(self, in_channels: int, outputs: int, network: NetworkPlan) -> None:
        super().__init__()
        self.encoder: Encoder = ENCODERS.load(network.encoder)(in_channels, network)
        channels = self.encoder.channels
        make_skip = SKIPS.load(network.skip)
        self._dimensions = dimensions = len(network.strides[0])
        self._layout = torch.contiguous_format
        self.ups, self.skips, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(len(channels) - 1):
            # Relative to the encoder's own levels, whatever it made of the plan's strides.
            stride = [
                coarse // fine
                for coarse, fine in zip(
                    self.encoder.strides[level + 1], self.encoder.strides[level], strict=True
                )
            ]
            width = network.features[level]
            below = channels[-1] if level == len(channels) - 2 else network.features[level + 1]
            self.ups.append(upsampling(below, width, stride))
            skip = make_skip(width, channels[level], dimensions)
            self.skips.append(skip)
            self.blocks.append(
                ConvBlock(
                    skip.out_channels,
                    width,
                    network.kernels[level],
                    network,
                    repeats=network.decoder_blocks,
                )
            )
        supervised = range(max(1, len(self.blocks) - 1) if network.deep_supervision else 1)
        one = [1] * dimensions
        widths = network.features if len(channels) > 1 else channels
        self.heads = nn.ModuleList(
            convolution(widths[level], outputs, one, bias=True) for level in supervised
        )

    def placed(self, device: torch.device) -> Self:
        """Move the network to a device, with its kernels as that device computes them fastest."""
        self._layout = memory_format(device, self._dimensions)
        for kernel in self.to(device).parameters():
            # A kernel of one voxel lies the same way in both: its strides are left as they are,
            # for what compares them (gradients of several devices).
            if kernel.ndim > 2 and kernel[0, 0].numel() > 1:
                kernel.data = kernel.data.contiguous(memory_format=self._layout)
        return self

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The encoder's learned values, and all others."""
        named = list(self.named_parameters())
        encoder = [p for name, p in named if name.startswith("encoder.")]
        return encoder, [p for name, p in named if not name.startswith("encoder.")]

    def freeze_encoder(self, *, frozen: bool) -> None:
        """Keep the encoder, its running statistics too, as it is; or let it learn again."""
        encoder = self.get_submodule("encoder")
        encoder.requires_grad_(not frozen)
        if frozen:
            encoder.eval()

    def forward(self, x: Tensor, *, with_heads: bool = True) -> list[Tensor]:
        """(B, C, *S) -> [(B, K, *S)], in training followed by the coarser supervised levels.

        with_heads : or else the (B, F, *S) features that each level's head makes its outputs of
        """
        size = x.shape[2:]
        coarsest = self.encoder.strides[-1]
        padding = [(-n) % stride for n, stride in zip(size, coarsest, strict=True)]
        if any(padding):
            # torch counts from the last axis, (before, after) each.
            pairs = [pair for after in reversed(padding) for pair in (0, after)]
            x = nn.functional.pad(x, pairs)
        x = x.contiguous(memory_format=self._layout)
        if self._layout != torch.contiguous_format and x.is_contiguous():
            # With one channel it is both, and torch would go on in the usual layout.
            x = x.clone(memory_format=self._layout)
        *finer, x = self.encoder(x)
        heads = self.heads if with_heads else [nn.Identity() for _ in self.heads]
        outputs = [] if finer else [heads[0](x)]
        for level in reversed(range(len(finer))):
            x = self.skips[level](self.ups[level](x), finer[level])
            x = self.blocks[level](x)
            if level < len(heads) and (self.training or level == 0):
                outputs.insert(0, heads[level](x))
        # Coarser outputs too: the loss lays the targets over the whole of each.
        return [
            crop_to(output, [-(-n // stride) for n, stride in zip(size, strides, strict=True)])
            for output, strides in zip(outputs, self.encoder.strides, strict=False)
        ]


def parameters(network: nn.Module) -> int:
    """The number of learned values."""
    return sum(p.numel() for p in network.parameters())
