"""Long skips: how the decoder takes up what the encoder saw at the same resolution."""

import torch
from torch import Tensor

from unetseg.nets import Skip


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
