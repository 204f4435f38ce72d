"""The slow way: every output on the scan's own grid, interpolated by torch, then decided."""

from functools import partial
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.devices import autocast
from unetseg.pipeline import GridImage, Placement
from unetseg.tasks.segmenting import Segmenter
from unetseg.windows import slabs

_LINEAR = {2: "bilinear", 3: "trilinear"}


def restored(outputs: Tensor, placement: Placement) -> Tensor:
    """(K, *grid) -> (K, *scan)."""
    mode = _LINEAR[outputs.ndim - 1]
    x = functional.interpolate(outputs[None].float(), placement.turned.shape, mode=mode)[0]
    x = x.flip([axis + 1 for axis in placement.flips])
    back = [placement.order.index(axis) + 1 for axis in range(len(placement.order))]
    return x.permute(0, *back)


def window_outputs(segmenter: Segmenter, x: Tensor) -> Tensor:
    """(B, C, *window) -> (B, K, *window): the mean over members and mirror images."""
    axes = segmenter.plan.training.augment.mirror_axes if segmenter.plan.decode.mirror else ()
    found = []
    for member in segmenter.networks:
        for count in range(len(axes) + 1):
            for subset in combinations(axes, count):
                flips = [axis + 2 for axis in subset]
                found.append(member(x.flip(flips))[0].flip(flips).float())
    return torch.stack(found).mean(0)


def grid_outputs(segmenter: Segmenter, image: GridImage) -> Tensor:
    """(K, *grid) blended outputs of a whole scan."""
    grid = image.placement.grid.shape
    walk = segmenter.walk(grid)
    for network in segmenter.networks:
        network.eval()
    with torch.inference_mode(), autocast(segmenter.device, segmenter.precision):
        parts = slabs(
            partial(window_outputs, segmenter),
            image.read,
            segmenter.tiling(grid),
            walk,
            box=tuple(slice(0, size) for size in grid),
            device=segmenter.device,
            told=lambda text: None,
        )
        result = None
        for planes, outputs in parts:
            if result is None:
                result = torch.zeros(outputs.shape[-1], *grid)
            result.movedim(0, -1).movedim(walk.axis, 0)[planes] = outputs
    return result


def scan_outputs(segmenter: Segmenter, image: GridImage) -> Tensor:
    """(K, *scan) outputs."""
    return restored(grid_outputs(segmenter, image), image.placement)
