"""Which devices a prediction works on at once."""

from collections.abc import Sequence

import torch

from unetseg.devices import several_devices
from unetseg.prediction.shares import Share


def device_names(device: str, cards: Sequence[int], share: Share | None) -> tuple[str, ...]:
    """The names of the devices, each of which gets a model of its own.

    device : as a person names it; with several cards their kind
    cards : see several_devices; none: one device
    share : where torchrun has given each process of a machine a number, it is that of its card

    Raises UsageError or DeviceError if there cannot be several of that kind.
    """
    if cards:
        return several_devices(device, cards)
    on_card = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if on_card and share is not None and share.card is not None:
        return (f"cuda:{share.card}",)
    return (device,)
