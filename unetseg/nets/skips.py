"""Long skips: how the decoder takes up what the encoder saw at the same resolution."""

import torch
from torch import Tensor, nn

from unetseg.nets import Skip
from unetseg.nets.layers import pointwise


def _fitted(encoder_channels: int, decoder_channels: int, dimensions: int) -> nn.Module:
    """The encoder's map with as many channels as the decoder's."""
    if encoder_channels == decoder_channels:
        return nn.Identity()
    return pointwise(encoder_channels, decoder_channels, dimensions)


class Concat(Skip):
    """Both maps side by side, as in the U-Net.

    Source: Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28.
    """

    def __init__(self, decoder_channels: int, encoder_channels: int, dimensions: int) -> None:
        super().__init__()
        del dimensions  # the same operation in 2-D and 3-D
        self.out_channels = decoder_channels + encoder_channels

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        return torch.cat((decoder, encoder), dim=1)


class Add(Skip):
    """The sum of both maps, the residual idea over a long distance.

    Source: Chaurasia & Culurciello 2017, arXiv:1707.03718 (LinkNet).
    """

    def __init__(self, decoder_channels: int, encoder_channels: int, dimensions: int) -> None:
        super().__init__()
        self.fit = _fitted(encoder_channels, decoder_channels, dimensions)
        self.out_channels = decoder_channels

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        fitted: Tensor = self.fit(encoder)
        return decoder + fitted


class Gated(Skip):
    """A highway between encoder and decoder: per voxel and channel, a gate mixes the two maps.

    Source: the transform gate of Srivastava et al. 2015, arXiv:1505.00387, over a long distance.
    """

    def __init__(self, decoder_channels: int, encoder_channels: int, dimensions: int) -> None:
        super().__init__()
        self.fit = _fitted(encoder_channels, decoder_channels, dimensions)
        self.gate = pointwise(2 * decoder_channels, decoder_channels, dimensions, bias=True)
        self.out_channels = decoder_channels

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        fitted: Tensor = self.fit(encoder)
        share: Tensor = self.gate(torch.cat((decoder, fitted), dim=1)).sigmoid()
        return decoder + share * (fitted - decoder)


class Attention(Skip):
    """An additive attention gate weights the encoder's voxels before both maps are concatenated.

    Source: Oktay et al. 2018, arXiv:1804.03999.
    """

    def __init__(self, decoder_channels: int, encoder_channels: int, dimensions: int) -> None:
        super().__init__()
        between = max(1, encoder_channels // 2)
        self.key = pointwise(encoder_channels, between, dimensions)
        self.query = pointwise(decoder_channels, between, dimensions, bias=True)
        self.score = pointwise(between, 1, dimensions, bias=True)
        self.out_channels = decoder_channels + encoder_channels

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        weight = self.score((self.key(encoder) + self.query(decoder)).relu()).sigmoid()
        return torch.cat((decoder, encoder * weight), dim=1)


class NoSkip(Skip):
    """The decoder alone: what a network without long skips has to work with."""

    def __init__(self, decoder_channels: int, encoder_channels: int, dimensions: int) -> None:
        super().__init__()
        del encoder_channels, dimensions  # nothing is taken over
        self.out_channels = decoder_channels

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        del encoder
        return decoder
