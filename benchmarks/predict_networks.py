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

# A class's output inside of its bodies, and how it varies from voxel to voxel.
INSIDE, NOISE = 16.0, 0.1


class FromFile(nn.Module):
    """Stands where the network does: gives the outputs of a window that lie in a file.

    path : (outputs, *grid) float16, raw
    The image that it sees holds the place of each voxel: axis a in channel a.
    """

    def __init__(self, path: str, outputs: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.encoder = SimpleNamespace(strides=((1,) * len(grid),))
        # As many features as outputs: there is nothing to blend but those.
        self.heads = nn.ModuleList([nn.Linear(outputs, outputs, device="meta")])
        self._file, self._outputs, self._grid = os.open(path, os.O_RDONLY), outputs, tuple(grid)

    def forward(self, x: Tensor, *, with_heads: bool = True) -> list[Tensor]:
        del with_heads
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

    A voxel's features are those of its class, mixed over three voxels where bodies meet, and they
    vary a little; a class's output is high where they are its own. It knows where a window lies
    from an image whose voxels are numbered, as bits: see `numbered`.

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
        width = network.heads[0].get_parameter("weight").shape[1]
        own = apart(outputs, width)
        head = nn.Linear(width, outputs).requires_grad_(requires_grad=False)
        head.weight.copy_(INSIDE * own)
        head.bias.zero_()
        self.heads = nn.ModuleList([head])
        self.register_buffer("_labels", labels)
        self.register_buffer("_own", own)
        noise = torch.randn(*patch, width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("_noise", NOISE / INSIDE * noise)

    def forward(self, x: Tensor, *, with_heads: bool = True) -> list[Tensor]:
        if self._network is not None:
            # Numbers as bits would be hardly above zero.
            seen = x.view(torch.int32).to(torch.float32) / self._labels.numel()
            self._network(seen, with_heads=with_heads)
        size = self._labels.shape
        found = torch.empty(len(x), *x.shape[2:], self._own.shape[1], device=x.device)
        numbers = x.view(torch.int32)[:, 0, 0, 0, 0].tolist()
        for number, features in zip(numbers, found, strict=True):
            corner = np.unravel_index(number, size)
            box = tuple(slice(int(a), int(a) + n) for a, n in zip(corner, x.shape[2:], strict=True))
            self._answer(self._labels[box], features)
        if with_heads:
            found = self.heads[0](found)
        # Channels last, as the networks leave them on a processor, and in as many bits.
        if torch.is_autocast_enabled(x.device.type):
            found = found.to(torch.get_autocast_dtype(x.device.type))
        return [found.movedim(-1, 1)]

    def _answer(self, labels: Tensor, found: Tensor) -> None:
        """(*window) -> (*window, F): the mean of each voxel's class and of the six around."""
        size = labels.shape
        found.copy_(self._noise[tuple(slice(0, n) for n in size)])
        padded = functional.pad(labels[None, None].float(), (1,) * 6, mode="replicate")[0, 0].long()
        parts = [
            padded[tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, size, strict=True))]
            for offset in product((-1, 0, 1), repeat=3)
            if sum(map(abs, offset)) <= 1
        ]
        centre = labels.long()
        edge = ~reduce(torch.logical_and, (part == centre for part in parts))
        mixed = sum(self._own[part[edge]] for part in parts) / len(parts)
        features = self._own[centre]
        features[edge] = mixed
        found += features


def apart(count: int, width: int) -> Tensor:
    """(count, width) directions far from one another, as training draws those of classes apart."""
    found = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    for _ in range(500):
        found = functional.normalize(found)
        near = found @ found.T - 2 * torch.eye(count)
        found = found - 0.1 * torch.softmax(20 * near, 1) @ found
    return functional.normalize(found)


def numbered(grid: Sequence[int]) -> Tensor:
    """(1, *grid) float32 whose bits are the numbers of the voxels."""
    count = torch.arange(prod(grid), dtype=torch.int32)
    return count.view(torch.float32).reshape(1, *grid)
