"""The blocks of a mask: whose they are, and which are computed together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unetseg.geometry import Box, inside, replaced, sizes_of
from unetseg.prediction.shares import Share
from unetseg.tasks.pieces import Piece

T = TypeVar("T")
Number = tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """A mask cut into blocks, which are numbered per axis.

    shape : of the mask
    edge : of a block; those at the end may be smaller
    axis : along which the scan is walked, so that blocks behind one another cost least
    """

    shape: tuple[int, ...]
    edge: tuple[int, ...]
    axis: int

    @property
    def all(self) -> list[Number]:
        """Every block, those along the axis one after another."""
        counts = [-(-n // edge) for n, edge in zip(self.shape, self.edge, strict=True)]
        lines = counts.pop(self.axis)
        return [
            (*others[: self.axis], line, *others[self.axis :])
            for others in product(*map(range, counts))
            for line in range(lines)
        ]

    def box(self, first: Number, last: Number | None = None) -> Box:
        """The voxels of a block, or of all blocks from the first to the last."""
        return tuple(
            slice(a * edge, min((b + 1) * edge, n))
            for a, b, edge, n in zip(first, last or first, self.edge, self.shape, strict=True)
        )

    def inside(self, box: Box) -> Iterator[Box]:
        """The blocks of a box that consists of whole ones."""
        return map(self.box, self.numbers(box))

    def numbers(self, box: Box) -> Iterator[Number]:
        """The blocks of a box that consists of whole ones, by number."""
        return product(
            *(
                range(part.start // edge, -(-part.stop // edge))
                for part, edge in zip(box, self.edge, strict=True)
            )
        )

    def corner(self, number: Number) -> Number:
        """Where a block begins."""
        return tuple(a * edge for a, edge in zip(number, self.edge, strict=True))

    def joined(self, numbers: Iterable[Number], fits: Callable[[Box], bool]) -> list[Box]:
        """Boxes of whole blocks, as few as `fits` allows; together they are those blocks.

        fits : is not asked about the length along the axis, which costs no memory
        """
        found = [(number, number) for number in numbers]
        others = [axis for axis in reversed(range(len(self.shape))) if axis != self.axis]
        for axis in (self.axis, *others):
            found = self._joined(found, axis, fits if axis != self.axis else None)
        return [self.box(first, last) for first, last in sorted(found)]

    def _joined(
        self, pairs: list[tuple[Number, Number]], axis: int, fits: Callable[[Box], bool] | None
    ) -> list[tuple[Number, Number]]:
        def row(pair: tuple[Number, Number]) -> tuple[Number, ...]:
            return tuple((*each[:axis], *each[axis + 1 :]) for each in pair)

        found: list[tuple[Number, Number]] = []
        for first, last in sorted(pairs, key=lambda pair: (row(pair), pair[0][axis])):
            if found:
                start, end = found[-1]
                follows = row(found[-1]) == row((first, last)) and end[axis] + 1 == first[axis]
                if follows and (fits is None or fits(self.box(start, last))):
                    found[-1] = start, last
                    continue
            found.append((first, last))
        return found


def portion(things: Sequence[T], share: Share | None) -> list[T]:
    """The things of a share: neighbours, as many as of the others, or one less."""
    if share is None:
        return list(things)
    first, last = (-(-len(things) * i // share.count) for i in (share.index, share.index + 1))
    return list(things[first:last])


class Bands:
    """Class numbers of a box of whole blocks, kept until a row of blocks is complete."""

    def __init__(self, units: Units, box: Box) -> None:
        self._units, self._box = units, box
        self._open: dict[int, tuple[Box, NDArray[np.integer[Any]], int]] = {}

    def add(self, piece: Piece) -> Iterator[tuple[Box, NDArray[np.integer[Any]]]]:
        """Yield what the piece completes: where, and the class numbers.

        Pieces may come in any order, but not twice.
        """
        axis, edge = self._units.axis, self._units.edge[self._units.axis]
        along = piece.box[axis]
        for line in range(along.start // edge, -(-along.stop // edge)):
            low = max(along.start, line * edge)
            high = min(along.stop, (line + 1) * edge)
            if line not in self._open:
                stop = min((line + 1) * edge, self._box[axis].stop)
                box = replaced(self._box, axis, slice(line * edge, stop))
                sizes = sizes_of(box)
                self._open[line] = box, np.empty(sizes, piece.indices.dtype), prod(sizes)
            box, numbers, missing = self._open[line]
            part = replaced(piece.box, axis, slice(low, high))
            source = [slice(None)] * len(box)
            source[axis] = slice(low - along.start, high - along.start)
            values = piece.indices[tuple(source)]
            numbers[inside(part, box)] = values
            self._open[line] = box, numbers, missing - values.size
            if missing == values.size:
                del self._open[line]
                yield box, numbers


def cut(box: Box, fits: Callable[[Box], bool], least: Sequence[float]) -> list[Box]:
    """The box in as few parts as fit, halved where it is longest.

    least : sizes per axis; what is smaller is not halved
    """
    if fits(box):
        return [box]
    sizes = sizes_of(box)
    able = [
        k for k, (size, smallest) in enumerate(zip(sizes, least, strict=True)) if size > smallest
    ]
    if not able:
        return [box]
    widest = max(able, key=sizes.__getitem__)
    part = box[widest]
    middle = (part.start + part.stop) // 2
    return [
        small
        for half in (slice(part.start, middle), slice(middle, part.stop))
        for small in cut((*box[:widest], half, *box[widest + 1 :]), fits, least)
    ]
