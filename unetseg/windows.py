"""Sliding windows: a volume of any size through a network of a fixed patch."""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.geometry import starts

# A voxel at a window's very edge still counts a little, or a lone window would divide by zero.
_SMALLEST_WEIGHT = 1e-3


def gaussian(window: Sequence[int]) -> Tensor:
    """(*window) weights, 1 in the middle, deviation an eighth of each edge, never zero."""
    per_axis = []
    for size in window:
        offset = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        per_axis.append(torch.exp(-0.5 * (offset / (size / 8)) ** 2))
    weights = reduce(lambda a, b: a[..., None] * b, per_axis)
    return weights.clamp_min(_SMALLEST_WEIGHT)


def sliding(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    patch: Sequence[int],
    overlap: float,
    batch: int,
    device: torch.device,
    smallest: Sequence[int] | None = None,
) -> Tensor:
    """The network's outputs over the whole image, blended where windows overlap.

    network : (B, C, *window) -> (B, K, *window), any window of at most `patch`
    image : (C, *S) on any device
    patch : the largest window; an axis shorter than it is taken whole
    smallest : an axis shorter than this is padded with zeros first

    Returns (K, *S) float32 on the CPU.
    """
    size = tuple(image.shape[1:])
    padding = [max(0, least - n) for least, n in zip(smallest or size, size, strict=True)]
    if any(padding):
        pairs = [pair for after in reversed(padding) for pair in (0, after)]
        image = functional.pad(image, pairs)
    padded = image.shape[1:]
    window = [min(p, n) for p, n in zip(patch, padded, strict=True)]
    grid = [starts(n, w, overlap) for n, w in zip(padded, window, strict=True)]
    corners = list(product(*grid))
    weights = gaussian(window)
    total: Tensor | None = None
    weight_sum = torch.zeros(tuple(padded))
    for first in range(0, len(corners), batch):
        places = [
            tuple(slice(a, a + w) for a, w in zip(corner, window, strict=True))
            for corner in corners[first : first + batch]
        ]
        windows = torch.stack([image[(slice(None), *place)] for place in places])
        outputs = network(windows.to(device)).float().cpu()
        if len(corners) == 1:
            total = outputs[0]
            weight_sum.fill_(1.0)
            break
        if total is None:
            total = torch.zeros((outputs.shape[1], *padded))
        for place, output in zip(places, outputs, strict=True):
            total[(slice(None), *place)] += output * weights
            weight_sum[place] += weights
    if total is None:
        raise ValueError("an image without voxels has no windows")
    if len(corners) > 1:
        total /= weight_sum
    return total[(slice(None), *(slice(0, n) for n in size))]
