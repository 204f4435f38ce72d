"""Scan <-> tensor: the only room that knows MONAI's transforms.

Every step is a change of grid (orientation, spacing) or of intensity; `restoring` undoes the grid.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, DataPlan
from unetseg.errors import DataError, ModelError
from unetseg.geometry import Box, Geometry, sizes_of, whole_box
from unetseg.pipeline.intensity import intensities, normalise
from unetseg.pipeline.objects import class_of_ids, object_labels
from unetseg.pipeline.resampling import Taps, all_taps, chunks, needed, resampled, resize
from unetseg.records import Mask, Scan


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

    @property
    def to_grid(self) -> tuple[Taps, ...]:
        """How the turned scan becomes the grid, axis by axis."""
        return all_taps(self.turned.shape, self.grid.shape, smooth=True)

    @property
    def to_turned(self) -> tuple[Taps, ...]:
        """How the grid becomes the turned scan again."""
        return all_taps(self.grid.shape, self.turned.shape, smooth=False)

    def on_turned(self, box: Box) -> Box:
        """Where a box of the scan lies after permuting and flipping."""
        shape = self.turned.shape
        return tuple(
            slice(shape[k] - box[axis].stop, shape[k] - box[axis].start)
            if k in self.flips
            else box[axis]
            for k, axis in enumerate(self.order)
        )

    def on_scan(self, box: Box) -> Box:
        """Where a box of the turned scan lies on the scan; the inverse of `on_turned`."""
        shape = self.turned.shape
        parts = [
            slice(shape[k] - part.stop, shape[k] - part.start) if k in self.flips else part
            for k, part in enumerate(box)
        ]
        return tuple(parts[self.order.index(axis)] for axis in range(len(box)))

    def turn(self, x: Tensor) -> Tensor:
        """(..., *scan) -> (..., *turned), of a whole scan or of a box."""
        before = x.ndim - len(self.order)
        x = x.permute(*range(before), *(axis + before for axis in self.order))
        return x.flip([axis + before for axis in self.flips]) if self.flips else x

    def turn_back(self, x: Tensor) -> Tensor:
        """(..., *turned) -> (..., *scan); the inverse of `turn`."""
        before = x.ndim - len(self.order)
        if self.flips:
            x = x.flip([axis + before for axis in self.flips])
        back = [self.order.index(axis) + before for axis in range(len(self.order))]
        return x.permute(*range(before), *back)


class GridImage(Protocol):
    """A scan as the network takes it, on the placement's grid, read box by box."""

    @property
    def placement(self) -> Placement: ...

    def read(self, box: Box) -> Tensor:
        """(C, *box) float32, zeros beyond the end of the grid."""
        ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as the network takes it: image (C, *S) float32 on the placement's grid."""

    image: Tensor
    placement: Placement

    def read(self, box: Box) -> Tensor:
        """See GridImage."""
        return beyond(self.image[(slice(None), *box)], box)


def beyond(x: Tensor, box: Box) -> Tensor:
    """(C, *part) -> (C, *box): zeros where the image ended before the box does."""
    after = [size - n for size, n in zip(sizes_of(box), x.shape[1:], strict=True)]
    if not any(after):
        return x
    return functional.pad(x, [pair for n in reversed(after) for pair in (0, n)])


def place(geometry: Geometry, data: DataPlan) -> Placement:
    """The plan's grid for a scan.

    Raises ModelError if the scan has other axes than the plan; DataError if the plan has a
    spacing and the scan has none in its unit.
    """
    if geometry.ndim != data.dimensions:
        raise ModelError(
            "the scan has another number of axes than the model was trained for",
            expected=data.dimensions,
            got=f"{geometry.ndim}, shape {geometry.shape}",
            hint="to predict every slice by itself, give --axes with T in place of Z, as in TYX"
            if geometry.ndim > data.dimensions
            else "",
        )
    if data.spacing and geometry.unit != data.unit:
        raise DataError(
            "the scan's pixel size is in another unit than the model's, or not known",
            expected=data.unit,
            got=geometry.unit,
            hint="give --pixel-size, as in 0.5um or 0.5x0.5x2um along X, Y and Z",
        )
    order: tuple[int, ...] = tuple(range(geometry.ndim))
    flips: tuple[int, ...] = ()
    if data.orientation == "canonical":
        order, flips = geometry.canonical()
    turned = geometry.permute(order).flip(flips)
    shape = turned.shape_at(data.spacing) if data.spacing else turned.shape
    return Placement(geometry, order, flips, turned.resampled(shape))


Reader = Callable[[Box], NDArray[Any]]


def prepare(scan: Scan, data: DataPlan, device: torch.device | None = None) -> Prepared:
    """Orient, resample and normalise. The channels must already be the plan's.

    device : that resamples, a part at a time, where that is needed; the image is in host memory

    Raises RuntimeError if its memory does not suffice.
    """
    placement = place(scan.geometry, data)
    image = torch.empty(len(scan.array), *placement.grid.shape)

    def read(box: Box) -> NDArray[Any]:
        return scan.array[(slice(None), *box)]

    # In parts: the whole scan as float32 can be several times what the grid needs.
    turned = placement.turned.shape
    if turned == placement.grid.shape:
        device = None
    ratio = prod(turned) / prod(placement.grid.shape)
    plane = 4 * image[:, 0].numel() * max(1.0, ratio)
    for box in chunks(whole_box(placement.grid.shape), 0, round(plane)):
        image[(slice(None), *box)] = on_grid(read, placement, box, device)
    normalise(image, intensities(image.flatten(1), data))
    return Prepared(image, placement)


def on_grid(
    read: Reader, placement: Placement, box: Box, device: torch.device | None = None
) -> Tensor:
    """(C, *box) float32 on the plan's grid, not normalised.

    read : box of the scan -> (C, *box) voxels, of any real type
    device : that resamples, and has the result; the processor if not given
    """
    axes = placement.to_grid
    inner = needed(axes, box)
    # torch does not know all of numpy's types.
    voxels = np.asarray(read(placement.on_scan(inner)), dtype=np.float32)
    if not voxels.flags.writeable or min(voxels.strides, default=0) < 0:
        voxels = voxels.copy()
    turned = placement.turn(torch.from_numpy(voxels).to(device))
    return resampled(turned, axes, box, [part.start for part in inner])


def class_indices(array: np.ndarray, data: DataPlan) -> Tensor:
    """(*S) label values -> (*S) int64 class indices, IGNORED where the plan says so.

    Index k stands for `data.label_values[k]`. A value that the plan does not know is background,
    unless labels are merged.
    """
    indices = np.zeros(array.shape, dtype=np.int64)
    if data.merge_labels or data.has_objects:
        indices[array != 0] = 1
    else:
        for index, value in enumerate(data.label_values):
            indices[array == value] = index
    if data.ignore_value is not None:
        indices[array == data.ignore_value] = IGNORED
    return torch.from_numpy(indices)


def prepare_truth(
    mask: Mask,
    data: DataPlan,
    placement: Placement,
    classes: Mapping[int, str] | None = None,
) -> Tensor:
    """(*S) class indices on the placement's grid; of objects see `objects.object_labels`.

    Each class is resampled linearly, among those that are known; a voxel is known where the
    nearest one of the scan is, so that a slice or a thin line by itself is not lost between
    ignored ones.

    classes : of objects, the name of each one's class; they are of one class without
    """
    if data.has_objects:
        return _object_truth(mask, data, placement, classes)
    indices = placement.turn(class_indices(mask.array, data))
    if indices.shape == placement.grid.shape:
        return indices.contiguous()
    best = torch.full(placement.grid.shape, -1.0)
    result = torch.zeros(placement.grid.shape, dtype=torch.int64)
    found = np.unique(indices.numpy()).tolist()
    for index in found:
        if index == IGNORED:
            continue
        share = resize((indices == index).float()[None], placement.grid.shape, smooth=False)[0]
        result = torch.where(share > best, index, result)
        best = torch.maximum(share, best)
    if IGNORED in found:
        ignored = functional.interpolate(
            (indices == IGNORED).float()[None, None], placement.grid.shape, mode="nearest-exact"
        )
        result[ignored[0, 0] > 0] = IGNORED
    return result


def _object_truth(
    mask: Mask, data: DataPlan, placement: Placement, classes: Mapping[int, str] | None
) -> Tensor:
    ids = mask.array.astype(np.int64)
    indices = class_indices(mask.array, data).numpy()
    if classes is not None and len(data.class_names) > 2:
        named = class_of_ids(ids, classes, data.class_names)
        indices = np.where(indices == IGNORED, IGNORED, named)
    ids, indices = (placement.turn(torch.from_numpy(each)).numpy() for each in (ids, indices))
    with_borders = data.task == "borders"
    return torch.from_numpy(object_labels(ids, indices, placement.grid, with_borders=with_borders))
