"""Which devices a prediction works on at once."""

from collections.abc import Sequence

import torch

from unetseg.errors import DeviceError, UsageError
from unetseg.prediction.shares import Share


def device_names(device: str, cards: Sequence[int], share: Share | None) -> tuple[str, ...]:
    """The names of the devices, each of which gets a model of its own.

    device : as a person names it; with several cards their kind
    cards : numbers of cards, or on the processor as many numbers as models; none: one device
    share : where torchrun has given each process of a machine a number, it is that of its card

    Raises UsageError or DeviceError if there cannot be several of that kind.
    """
    on_card = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if not cards:
        if on_card and share is not None and share.card is not None:
            return (f"cuda:{share.card}",)
        return (device,)
    if device == "cpu":
        return ("cpu",) * len(cards)
    if on_card:
        return tuple(f"cuda:{card}" for card in cards)
    if device == "auto":
        raise DeviceError(
            "no such devices",
            where="--devices",
            expected="CUDA devices",
            got="none found",
            hint="give --device cpu to work on several scans at once on the processor",
        )
    raise UsageError(
        "several devices of one kind",
        where="--device",
        expected="auto, cuda or cpu with --devices",
        got=device,
    )
