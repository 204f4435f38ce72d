"""What stands where a network does, with outputs as a trained one gives them."""

import os
from collections.abc import Sequence
from functools import reduce
from itertools import product
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unetseg.nets.unet import UNet

# A class's output inside of its bodies and outside of them, and how it varies from voxel to voxel.
INSIDE, OUTSIDE, NOISE = 8.0, -8.0, 0.1


class FromFile(nn.Module):
    """Stands where the network does: gives the outputs of a window that lie in a file.

    path : (outputs, *grid) float16, raw
    The image that it sees holds the place of each voxel: axis a in channel a.
    """

    def __init__(self, path: str, outputs: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.encoder = SimpleNamespace(strides=((1,) * len(grid),))
        self._file, self._outputs, self._grid = os.open(path, os.O_RDONLY), outputs, tuple(grid)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(np.stack([self._read(window) for window in x]))]

    def _read(self, window: Tensor) -> NDArray[np.float16]:
        """(outputs, *window), without the file in memory: a mapped one would count as ours."""
        corner = window.flatten(1)[:, 0].long().tolist()
        planes, rows, columns = window.shape[1:]
        _, height, width = self._grid
        found = np.empty((self._outputs, planes, rows, columns), np.float16)
        strip = np.empty((rows, width), np.float16)
        for index in range(self._outputs):
            for plane in range(planes):
                before = (index * self._grid[0] + corner[0] + plane) * height + corner[1]
                os.preadv(self._file, [strip], before * width * strip.itemsize)
                found[index, plane] = strip[:, corner[2] : corner[2] + columns]
        return found


class Bodies(nn.Module):
    """Says what a network trained for the bodies of predict_cases.py would, of any image.

    A class's output is high inside of its body, low elsewhere, and falls over three voxels in
    between; and it varies a little. It knows where a window lies from an image whose voxels are
    numbered, as bits: see `numbered`.

    network : whose place it takes
    labels : (*grid) int16 classes
    outputs, patch : of the network
    computes : the network computes too, and its outputs are let go
    """

    def __init__(
        self,
        network: UNet,
        labels: Tensor,
        outputs: int,
        patch: Sequence[int],
        *,
        computes: bool,
    ) -> None:
        super().__init__()
        self.encoder = network.encoder
        self._network: Any = network if computes else None
        self._outputs = outputs
        self.register_buffer("_labels", labels)
        noise = torch.randn(*patch, outputs, generator=torch.Generator().manual_seed(0))
        self.register_buffer("_ground", OUTSIDE + NOISE * noise)

    def forward(self, x: Tensor) -> list[Tensor]:
        if self._network is not None:
            # Numbers as bits would be hardly above zero.
            self._network(x.view(torch.int32).to(torch.float32) / self._labels.numel())
        size = self._labels.shape
        found = torch.empty(len(x), *x.shape[2:], self._outputs, device=x.device)
        numbers = x.view(torch.int32)[:, 0, 0, 0, 0].tolist()
        for number, output in zip(numbers, found, strict=True):
            corner = np.unravel_index(number, size)
            box = tuple(slice(int(a), int(a) + n) for a, n in zip(corner, x.shape[2:], strict=True))
            self._answer(self._labels[box], output)
        # Channels last, as the networks leave them on a processor, and in as many bits.
        if torch.is_autocast_enabled(x.device.type):
            found = found.to(torch.get_autocast_dtype(x.device.type))
        return [found.movedim(-1, 1)]

    def _answer(self, labels: Tensor, found: Tensor) -> None:
        """(*window) -> (*window, outputs): each voxel's class counts in itself and six around."""
        size = labels.shape
        found.copy_(self._ground[tuple(slice(0, n) for n in size)])
        padded = functional.pad(labels[None, None].float(), (1,) * 6, mode="replicate")[0, 0].long()
        parts = [
            padded[tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, size, strict=True))]
            for offset in product((-1, 0, 1), repeat=3)
            if sum(map(abs, offset)) <= 1
        ]
        centre = labels.long()
        alike = reduce(torch.logical_and, (part == centre for part in parts))
        row = self._outputs * torch.arange(labels.numel(), device=labels.device).reshape(size)
        flat = found.view(-1)
        flat[(row + centre)[alike]] += INSIDE - OUTSIDE
        edge = row[~alike]
        share = torch.full_like(edge, (INSIDE - OUTSIDE) / len(parts), dtype=found.dtype)
        for part in parts:
            flat.index_add_(0, edge + part[~alike], share)


def numbered(grid: Sequence[int]) -> Tensor:
    """(1, *grid) float32 whose bits are the numbers of the voxels."""
    count = torch.arange(prod(grid), dtype=torch.int32)
    return count.view(torch.float32).reshape(1, *grid)
