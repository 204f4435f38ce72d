"""Normalisation: numbers of a whole scan, applied to any part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from unetseg.config import DataPlan

# The percentiles that become 0 and 1; specks and dead pixels lie beyond them.
_DARK, _BRIGHT = 1.0, 99.8
_IMPORTING = Lock()


def import_monai() -> tuple[Any, Any]:
    """MetaTensor and NormalizeIntensity.

    Seconds to import, which a command that only looks at data does without. One thread at a time:
    its modules import one another, and two that begin at two ends wait for ever.
    """
    with _IMPORTING:
        from monai.data.meta_tensor import MetaTensor
        from monai.transforms.intensity.array import NormalizeIntensity
    return MetaTensor, NormalizeIntensity


@dataclass(frozen=True)
class Intensity:
    """How a channel is normalised: (clamped value - subtrahend) / divisor.

    nonzero : zeros stay zeros
    """

    subtrahend: float
    divisor: float
    low: float = -inf
    high: float = inf
    nonzero: bool = False

    def apply(self, channel: Tensor) -> Tensor:
        """(*S) -> (*S), both float32."""
        meta_tensor, normalizer = import_monai()
        if self.low > -inf or self.high < inf:
            channel = channel.clamp(self.low, self.high)
        step = normalizer(self.subtrahend, self.divisor, nonzero=self.nonzero)
        result = step(channel[None])
        plain: Tensor = result.as_tensor() if isinstance(result, meta_tensor) else result
        return plain[0]


def intensities(samples: Tensor, data: DataPlan) -> tuple[Intensity, ...]:
    """How each channel is normalised, as the plan says.

    samples : (C, n) float32 values of the scan on the plan's grid, all of them or some
    """
    if data.normalisation == "clip_zscore":
        parts = zip(data.mean, data.std, data.clip, strict=True)
        return tuple(Intensity(mean, std, low, high) for mean, std, (low, high) in parts)
    if data.normalisation == "percentile":
        return tuple(_between_percentiles(values) for values in samples)
    nonzero = data.normalisation == "zscore_nonzero"
    return tuple(_zscore(values, nonzero=nonzero) for values in samples)


def _zscore(values: Tensor, *, nonzero: bool) -> Intensity:
    if nonzero:
        values = values[values != 0]
    if not len(values):
        return Intensity(0, 1, nonzero=nonzero)
    return Intensity(float(values.mean()), float(values.std(unbiased=False)), nonzero=nonzero)


def _between_percentiles(values: Tensor) -> Intensity:
    lowest, highest = (float(value) for value in values.aminmax())
    if lowest == highest:
        # A constant channel has no range to scale; it says nothing and becomes zero.
        return Intensity(lowest, 1)
    low, high = (float(value) for value in np.percentile(values.numpy(), [_DARK, _BRIGHT]))
    if low == high:
        # Nearly all of the channel is one value: the full range is what is left.
        low, high = lowest, highest
    return Intensity(low, high - low)


def normalise(image: Tensor, channels: Sequence[Intensity]) -> None:
    """Normalise (C, *S) float32 in place, a few planes at a time."""
    for channel, intensity in zip(image, channels, strict=True):
        # About 16 MB: what MONAI computes with is several times as large as what it gets.
        step = max(1, (1 << 22) // max(1, channel[0].numel()))
        for planes in channel.split(step):
            planes.copy_(intensity.apply(planes))
