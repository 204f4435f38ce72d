"""The networks: an encoder, a decoder, and the long skips between them."""

from abc import abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Encoder(Protocol):
    """What an encoder must offer; built as `encoder(in_channels, network: NetworkPlan)`.

    channels : per level, finest first; level 0 is at full resolution
    strides : cumulative, per level and axis
    """

    channels: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """(B, C, *S) -> one (B, channels[i], *S / strides[i]) per level.

        Every size in *S is a multiple of the last stride.
        """
        ...


class Skip(nn.Module):
    """A long skip; built as `skip(decoder_channels, encoder_channels, dimensions)`.

    out_channels : channels of what `forward` returns; the decoder asks for it
    """

    out_channels: int

    @abstractmethod
    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        """Two maps of the same spatial size -> (B, out_channels, *S)."""
