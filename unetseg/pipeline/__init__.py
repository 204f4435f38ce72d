"""Scan <-> tensor: the only room that knows MONAI's transforms.

Every step is a change of grid (orientation, spacing) or of intensity; `restore` undoes the grid.
"""

from dataclasses import dataclass

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.intensity.array import (
    NormalizeIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
)
from monai.transforms.spatial.array import Flip, Resize
from torch import Tensor

from unetseg.config import IGNORED, DataPlan
from unetseg.errors import ModelError
from unetseg.geometry import Geometry
from unetseg.records import Mask, Scan

_LINEAR = {2: "bilinear", 3: "trilinear"}
# The percentiles that become 0 and 1; specks and dead pixels lie beyond them.
_DARK, _BRIGHT = 1.0, 99.8


@dataclass(frozen=True)
class Placement:
    """How the plan's grid lies on the scan's: permute, then flip, then resample.

    scan : the scan's own grid
    grid : the plan's grid, the same box of space
    """

    scan: Geometry
    order: tuple[int, ...]
    flips: tuple[int, ...]
    grid: Geometry

    @property
    def turned(self) -> Geometry:
        """The scan's grid after permuting and flipping, before resampling."""
        return self.scan.permute(self.order).flip(self.flips)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the network takes it: image (C, *S) float32 on the placement's grid."""

    image: Tensor
    placement: Placement


def place(geometry: Geometry, data: DataPlan) -> Placement:
    """The plan's grid for a scan. Raises ModelError if the scan has other axes than the plan."""
    if geometry.ndim != data.dimensions:
        raise ModelError(
            "the scan has another number of axes than the model was trained for",
            expected=data.dimensions,
            got=f"{geometry.ndim}, shape {geometry.shape}",
        )
    order: tuple[int, ...] = tuple(range(geometry.ndim))
    flips: tuple[int, ...] = ()
    if data.orientation == "canonical":
        order, flips = geometry.canonical()
    turned = geometry.permute(order).flip(flips)
    shape = turned.shape_at(data.spacing) if data.spacing else turned.shape
    return Placement(geometry, order, flips, turned.resampled(shape))


def _plain(x: Tensor | MetaTensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def _resize(x: Tensor, shape: tuple[int, ...], *, smooth: bool) -> Tensor:
    """(C, *S) -> (C, *shape), outer edges kept; `smooth` avoids aliasing where it shrinks."""
    if tuple(x.shape[1:]) == shape:
        return x
    shrinks = any(new < old for new, old in zip(shape, x.shape[1:], strict=True))
    mode = _LINEAR[len(shape)]
    return _plain(Resize(shape, mode=mode, anti_aliasing=smooth and shrinks)(x))


def _turn(x: Tensor, placement: Placement) -> Tensor:
    x = x.permute(0, *(axis + 1 for axis in placement.order))
    return _plain(Flip(placement.flips)(x)) if placement.flips else x


def prepare(scan: Scan, data: DataPlan) -> Prepared:
    """Orient, resample and normalise. The channels must already be the plan's."""
    placement = place(scan.geometry, data)
    # Always a copy, as MONAI normalises in place; torch does not know all of numpy's types.
    image = torch.from_numpy(np.array(scan.array, dtype=np.float32, order="C"))
    image = _turn(image, placement)
    image = _resize(image, placement.grid.shape, smooth=True)
    return Prepared(_normalised(image.contiguous(), data), placement)


def _normalised(image: Tensor, data: DataPlan) -> Tensor:
    kind = data.normalisation
    if kind == "clip_zscore":
        channels = [
            NormalizeIntensity(subtrahend=mean, divisor=std)(channel[None].clamp(low, high))
            for channel, (low, high), mean, std in zip(
                image, data.clip, data.mean, data.std, strict=True
            )
        ]
        return torch.cat([_plain(channel) for channel in channels])
    if kind == "percentile":
        # A constant channel has no range to scale; it says nothing and becomes zero.
        flat = image.flatten(1)
        empty = flat.amin(1) == flat.amax(1)
        if bool(empty.all()):
            return torch.zeros_like(image)
        result = torch.zeros_like(image)
        result[~empty] = _percentile_scaled(image[~empty])
        return result
    return _plain(NormalizeIntensity(nonzero=kind == "zscore_nonzero", channel_wise=True)(image))


def _percentile_scaled(image: Tensor) -> Tensor:
    channels = []
    for channel in image:
        values = channel.numpy()
        low, high = np.percentile(values, [_DARK, _BRIGHT])
        if low == high:
            # Nearly all of the channel is one value: the full range is what is left.
            channels.append(ScaleIntensityRange(values.min(), values.max(), 0, 1)(channel[None]))
        else:
            scale = ScaleIntensityRangePercentiles(_DARK, _BRIGHT, 0, 1, clip=False)
            channels.append(scale(channel[None]))
    return torch.cat([_plain(channel) for channel in channels])


def class_indices(array: np.ndarray, data: DataPlan) -> Tensor:
    """(*S) label values -> (*S) int64 class indices, IGNORED where the plan says so.

    Index k stands for `data.label_values[k]`. A value that the plan does not know is background,
    unless labels are merged.
    """
    indices = np.zeros(array.shape, dtype=np.int64)
    if data.merge_labels:
        indices[array != 0] = 1
    else:
        for index, value in enumerate(data.label_values):
            indices[array == value] = index
    if data.ignore_value is not None:
        indices[array == data.ignore_value] = IGNORED
    return torch.from_numpy(indices)


def prepare_truth(mask: Mask, data: DataPlan, placement: Placement) -> Tensor:
    """(*S) class indices on the placement's grid.

    Each class is resampled linearly, among those that are known; a voxel is known where the
    nearest one of the scan is, so that a slice or a thin line by itself is not lost between
    ignored ones.
    """
    indices = _turn(class_indices(mask.array, data)[None], placement)[0]
    if indices.shape == placement.grid.shape:
        return indices.contiguous()
    best = torch.full(placement.grid.shape, -1.0)
    result = torch.zeros(placement.grid.shape, dtype=torch.int64)
    found = np.unique(indices.numpy()).tolist()
    for index in found:
        if index == IGNORED:
            continue
        share = _resize((indices == index).float()[None], placement.grid.shape, smooth=False)[0]
        result = torch.where(share > best, index, result)
        best = torch.maximum(share, best)
    if IGNORED in found:
        ignored = Resize(placement.grid.shape, mode="nearest-exact")(
            (indices == IGNORED).float()[None]
        )
        result[_plain(ignored)[0] > 0] = IGNORED
    return result


def restore(outputs: Tensor, placement: Placement) -> Tensor:
    """(K, *grid) -> (K, *scan): outputs back on the scan's own grid, before any argmax."""
    turned = _resize(outputs, placement.turned.shape, smooth=False)
    if placement.flips:
        turned = _plain(Flip(placement.flips)(turned))
    back = np.argsort(placement.order)
    return turned.permute(0, *(int(axis) + 1 for axis in back))
