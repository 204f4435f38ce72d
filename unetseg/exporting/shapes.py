"""The objects of a mask, or the areas of its classes, plane by plane, with their outlines."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from unetseg.errors import AmbiguousAxes, DataError
from unetseg.exporting.outlines import Polygon, outlined
from unetseg.formats import open_scan, read_mask
from unetseg.formats.naming import spatial_letters
from unetseg.formats.voxels import values_of
from unetseg.objects import LEAST_OBJECTS
from unetseg.records import Label, View

Plane = NDArray[np.integer[Any]]

# Planes that are read at once are not more than this.
_SLAB_BYTES = 1 << 28
# Values up to this one are looked up in a list that is as long as the largest.
_FEW = 1 << 16
# In a part of a plane, objects are not in more pieces than this times their number.
_PIECES = 1.25
# Edge of such a part: numbering the pieces of a whole plane takes eight bytes a pixel.
_PART = 2048


@dataclass(frozen=True)
class Legend:
    """What the values of a mask stand for.

    has_objects : each value but 0 is an object; else each is a class
    labels : the classes with their names; of objects empty where all are of one nameless class
    classes : of objects, the class of each, the object with id k at k - 1; empty: all are of one
    """

    has_objects: bool
    labels: tuple[Label, ...] = ()
    classes: tuple[int, ...] = ()

    @cached_property
    def _labels(self) -> dict[int, Label]:
        return {label.value: label for label in self.labels if label.value}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, background left out, in order."""
        return tuple(label.name for label in self._labels.values())

    def label_of(self, value: int) -> Label | None:
        """The class that a value of the mask has; None where it has none."""
        if not self.has_objects:
            return self._labels.get(value) or Label(value, f"label {value}")
        if self.classes:
            number = self.classes[value - 1] if 0 < value <= len(self.classes) else 0
            return (
                (self._labels.get(number) or Label(number, f"class {number}")) if number else None
            )
        return next(iter(self._labels.values())) if len(self._labels) == 1 else None


@dataclass(frozen=True, eq=False)
class Shape:
    """An object in a plane, or an area of a class.

    number : the object's id; areas are counted through, each class from 1
    label : its class; None where nobody named one
    plane : counted from 0; None in a picture
    polygons : more than one where the parts of an object do not touch along an edge
    """

    number: int
    label: Label | None
    plane: int | None
    polygons: tuple[Polygon, ...]
    pixels: int


class Shown:
    """A mask as planes that are looked at one after the other.

    path : a mask in any format
    scan : the file or the folder that it was made from, where that is known

    Rows and columns of a plane are those of the picture that other programs show: of NIfTI the
    axes Y and X as stored, of everything else the last two. Where a file can be read in parts
    only a few planes of it are in memory.

    Raises DataError for whatever is no mask.
    """

    def __init__(self, path: Path, legend: Legend, scan: Path | None = None) -> None:
        self.path, self.legend, self.scan = path, legend, scan
        try:
            self._opened = open_scan(path)
        except AmbiguousAxes:
            # Not in a mask, which has no channels.
            self._opened = open_scan(path, View(axes="ZYX"))
        self.geometry = self._opened.geometry
        self._whole: Plane | None = None
        in_parts = self._opened.block != self._opened.geometry.shape
        if not in_parts or len(self._opened.channels) > 1 or self._opened.dtype.kind not in "ui":
            # What is a channel of a scan may be a plane of a mask.
            mask = read_mask(path, is_drawn=False)
            self.geometry, self._whole = mask.geometry, mask.array

    @cached_property
    def _order(self) -> tuple[int, ...]:
        axes = tuple(range(self.geometry.ndim))
        return axes[::-1] if spatial_letters(self._opened)[0] == "X" else axes

    @property
    def pixel_area(self) -> float:
        """Of a plane, in the geometry's unit squared."""
        rows, columns = (self.geometry.spacing[axis] for axis in self._order[-2:])
        return rows * columns

    def planes(self) -> Iterator[tuple[int | None, Plane]]:
        """The planes with their numbers, each (height, width)."""
        if self.geometry.ndim == 2:
            yield None, self._read(0, self.geometry.shape[self._order[0]])
            return
        axis = self._order[0]
        count = self.geometry.shape[axis]
        step = count
        if self._whole is None:
            plane_bytes = self._opened.dtype.itemsize * prod(self.geometry.shape) // count
            step = min(self._opened.block[axis], max(1, _SLAB_BYTES // plane_bytes))
        for start in range(0, count, step):
            slab = self._read(start, min(count, start + step))
            yield from enumerate(slab, start)

    def _read(self, start: int, stop: int) -> Plane:
        box = [slice(0, size) for size in self.geometry.shape]
        box[self._order[0]] = slice(start, stop)
        found = self._opened.read(tuple(box))[0] if self._whole is None else self._whole[tuple(box)]
        return found.transpose(self._order)

    def shapes(self) -> Iterator[Shape]:
        """All of them, by plane and number. Raises DataError for objects with negative ids."""
        counted: Counter[int] = Counter()
        for number, plane in self.planes():
            if self.legend.has_objects:
                yield from self._objects(number, plane)
            else:
                yield from self._areas(number, plane, counted)

    def _objects(self, number: int | None, plane: Plane) -> Iterator[Shape]:
        if int(plane.min()) < 0:
            raise DataError("ids of objects below 0", where=self.path, got=int(plane.min()))
        for value, (rows, columns), area in boxes(plane):
            polygons = outlined(area, left=columns.start, top=rows.start)
            yield Shape(value, self.legend.label_of(value), number, polygons, int(area.sum()))

    def _areas(self, number: int | None, plane: Plane, counted: Counter[int]) -> Iterator[Shape]:
        for value, box, own in boxes(plane):
            label = self.legend.label_of(value)
            # As in the cleaning of masks: pixels that share a corner are one area.
            parts, _ = ndimage.label(own, np.ones((3, 3)))
            for _, inner, area in boxes(parts):
                counted[value] += 1
                top, left = (a.start + b.start for a, b in zip(box, inner, strict=True))
                polygons = outlined(area, left=left, top=top)
                yield Shape(counted[value], label, number, polygons, int(area.sum()))


def looks_like_objects(path: Path) -> bool:
    """Whether a mask has more values than classes mostly are, and nearly each is in one piece.

    Raises DataError for whatever is no mask.
    """
    values: set[int] = set()
    here = pieces = 0
    for _, plane in Shown(path, Legend(has_objects=False)).planes():
        for part in _parts(plane):
            # An object at the edge of a part counts in each, as itself and as a piece.
            own = values_of(part)
            values.update(own)
            here += len(own)
            pieces += int(measure.label(part, background=0, connectivity=2).max())
    return len(values) >= LEAST_OBJECTS and min(values) > 0 and pieces <= _PIECES * here


def _parts(plane: Plane) -> Iterator[Plane]:
    for top, left in product(*(range(0, size, _PART) for size in plane.shape)):
        yield plane[top : top + _PART, left : left + _PART]


def boxes(plane: Plane) -> Iterator[tuple[int, Sequence[slice], NDArray[np.bool_]]]:
    """Each value but 0, in order, the box of its pixels, and which pixels of it are its own."""
    values = None
    if int(plane.min()) < 0 or int(plane.max()) > max(_FEW, plane.size >> 3):
        # Few values, but a long list, or one that begins below 0: they are numbered anew.
        found, ranks = np.unique(plane, return_inverse=True)
        is_value = found != 0
        plane = (np.cumsum(is_value) * is_value)[ranks].reshape(plane.shape)
        values = found[is_value].tolist()
    for index, box in enumerate(ndimage.find_objects(plane)):
        if box is not None:
            yield values[index] if values else index + 1, box, plane[box] == index + 1
