"""Masks that may be larger than memory, read box by box where that is better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats import open_scan, read_mask
from unetseg.formats.labels import checked_labels
from unetseg.geometry import Box, Geometry, sizes_of
from unetseg.records import Label, Opened, Scan

# What has fewer values is read at once.
WHOLE = 1 << 26

Read = Callable[[Box], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class OpenedMask:
    """A mask whose values are read when they are asked for.

    read : box -> (*box) integer; raises DataError for what `read_mask` refuses
    names : what the mask itself calls its values
    """

    geometry: Geometry
    read: Read
    names: tuple[Label, ...] = ()


def open_mask(path: Path) -> OpenedMask:
    """The mask, its voxels still in the file if that is large and can be read in boxes.

    Raises DataError for what `read_mask` refuses.
    """
    try:
        opened = open_scan(path)
    except DataError:
        # A mask may have what an image may not: its third axis has no need of a name.
        opened = None
    if opened is None or len(opened.channels) != 1 or not is_large([opened], 1):
        mask = read_mask(path, is_drawn=False)
        return OpenedMask(mask.geometry, boxes_of(mask.array, mask.geometry.ndim), mask.labels)
    file = opened

    def read(box: Box) -> NDArray[Any]:
        here = Geometry.from_spacing(sizes_of(box), file.geometry.spacing, file.geometry.unit)
        part = Scan(file.read(box), here, file.channels, file.source)
        return checked_labels(part, is_drawn=False).array

    return OpenedMask(file.geometry, read)


def is_large(files: Sequence[Opened], channels: int) -> bool:
    """Whether it is better to read boxes: of a file that has any, and that is large."""
    shape = files[0].geometry.shape
    has_boxes = all(file.block != file.geometry.shape for file in files)
    return has_boxes and prod(shape) * channels > WHOLE


def boxes_of(array: NDArray[Any], ndim: int) -> Read:
    """Reads boxes of an array in memory; `ndim` axes in space, the last ones."""
    before = (slice(None),) * (array.ndim - ndim)
    return lambda box: array[(*before, *box)]
