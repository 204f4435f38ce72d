"""Objects of an image of any size: decoded block by block, each with a halo, then made one.

Inside its halo a block has the objects that the whole image has, as far as they and what decides
about them lie there: objects.decoding. So of two blocks side by side both know the objects at the
face between them, and what is the same there is one object. That is also how an object that is
larger than the halo is put together again, though not always as the whole image would have it.

Two passes: the first writes drafts of ids and gathers what must be known of all of them, the
second replaces drafts by ids.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unetseg.geometry import Box, inside, replaced
from unetseg.objects.codes import Codes, unpack
from unetseg.objects.decoding import Rules, decode, most, votes

Ids = NDArray[np.int32]
# Of what two blocks see at the face between them: at least so much is the same, or it is not one.
_SAME = 0.5


@dataclass(frozen=True)
class Blocks:
    """An image cut into blocks.

    shape : of the image
    edge : of a block per axis; those at the end may be smaller
    halo : voxels around a block that are decoded with it: more than an object is long, with the
        margin of the rules
    """

    shape: tuple[int, ...]
    edge: tuple[int, ...]
    halo: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.halo) < 1:
            raise ValueError(f"a halo of {self.halo}: blocks must see one another")

    def __iter__(self) -> Iterator[Box]:
        """The blocks, in order."""
        starts = (range(0, n, edge) for n, edge in zip(self.shape, self.edge, strict=True))
        for corner in product(*starts):
            yield tuple(
                slice(start, min(start + edge, n))
                for start, edge, n in zip(corner, self.edge, self.shape, strict=True)
            )

    def grown(self, box: Box, by: Sequence[int]) -> Box:
        """The box and what lies around it, in the image."""
        return tuple(
            slice(max(0, part.start - more), min(n, part.stop + more))
            for part, more, n in zip(box, by, self.shape, strict=True)
        )

    @property
    def most_voxels(self) -> int:
        """Of a block with its halo."""
        sizes = zip(self.shape, self.edge, self.halo, strict=True)
        return prod(min(n, edge + 2 * halo) for n, edge, halo in sizes)

    def face(self, box: Box, axis: int) -> Box:
        """The planes on both sides of the end of a block along an axis.

        A voxel wider than the block: objects may be connected through a corner of four.
        """
        end = box[axis].stop
        return replaced(self.grown(box, (1,) * len(box)), axis, slice(end - 1, end + 1))


@dataclass(frozen=True, eq=False)
class Found:
    """What the drafts of an image mean.

    ids : (m + 1,) int32, the id of each draft, 0 for none; consecutive in the order of the
        objects' first voxels
    classes : (n,) uint8 of the objects
    """

    ids: Ids
    classes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.classes)


def decode_blocks(
    read: Callable[[Box], Codes],
    write: Callable[[Box, Ids], None],
    blocks: Blocks,
    rules: Rules,
    *,
    check: Callable[[], None] = lambda: None,
) -> Found:
    """Decode an image block by block and write drafts, which `Found.ids` turns into ids.

    read : (*box) codes of any box
    write : takes the (*box) drafts of every block, in order
    check : is called before each block; raises if the work is to end

    `found.ids[drafts]` is what `decode` makes of the whole image, for blocks of any size, if the
    halo is larger than the objects.
    """
    every = replace(rules, min_voxels=0)
    joins = _Joins(blocks)
    gathered: list[_Draft] = []
    count = 0
    for box in blocks:
        check()
        outer = blocks.grown(box, blocks.halo)
        maps = unpack(read(outer))
        found = decode(maps, every)
        drafts = np.where(found.ids > 0, found.ids + np.int32(count), np.int32(0))
        joins.add(box, drafts, outer)
        inner = inside(box, outer)
        own = drafts[inner]
        write(box, own)
        gathered.append(_Draft.of(found.ids[inner], maps.classes[inner], len(found), box, blocks))
        count += len(found)
    return _united(gathered, joins.pairs(), count, rules.min_voxels)


@dataclass(frozen=True, eq=False)
class _Draft:
    """What a block has of each of its objects, which are numbered from 1.

    first : (n,) place of the first voxel in the image; beyond it if the block has none
    votes : (n, C + 1) voxels by class
    """

    first: NDArray[np.int64]
    votes: NDArray[np.int64]

    @classmethod
    def of(
        cls, ids: Ids, classes: NDArray[np.uint8], count: int, box: Box, blocks: Blocks
    ) -> "_Draft":
        first = np.full(count + 1, prod(blocks.shape), np.int64)
        places = np.flatnonzero(ids)[::-1]
        corner = [part.start for part in box]
        where = np.unravel_index(places, ids.shape)
        moved = tuple(along + start for along, start in zip(where, corner, strict=True))
        # Of several values for one place numpy keeps the last.
        first[ids.ravel()[places]] = np.ravel_multi_index(moved, blocks.shape)
        table = votes(ids, classes)
        found = np.zeros((count, table.shape[1]), np.int64)
        found[: len(table) - 1] = table[1:]
        return cls(first[1:], found)


class _Joins:
    """Drafts of neighbouring blocks that are one object.

    A face is kept until the block behind it has come: blocks come in order, so that is a layer of
    the image at most.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._faces: dict[tuple[int, tuple[int, ...]], tuple[Box, Ids]] = {}
        self._pairs: list[NDArray[np.int64]] = []

    def add(self, box: Box, drafts: Ids, outer: Box) -> None:
        """Compare with the blocks before, and keep for those behind.

        drafts : (*outer)
        """
        corner = tuple(part.start for part in box)
        for axis in range(len(box)):
            if (axis, corner) in self._faces:
                face, before = self._faces.pop((axis, corner))
                self._compare(before, drafts[inside(face, outer)])
            end = box[axis].stop
            if end < self._blocks.shape[axis]:
                face = self._blocks.face(box, axis)
                behind = (*corner[:axis], end, *corner[axis + 1 :])
                self._faces[axis, behind] = face, drafts[inside(face, outer)].copy()

    def _compare(self, one: Ids, other: Ids) -> None:
        """Keep the pairs that are the same for the most part."""
        one, other = one.ravel(), other.ravel()
        both = (one > 0) & (other > 0)
        pairs, common = np.unique(
            np.stack([one[both], other[both]]).astype(np.int64), axis=1, return_counts=True
        )
        of_one, of_other = (
            _counts(drafts, row) for drafts, row in zip((one, other), pairs, strict=True)
        )
        self._pairs.append(pairs[:, common > _SAME * (of_one + of_other - common)])

    def pairs(self) -> NDArray[np.int64]:
        """(2, n) drafts."""
        return np.concatenate([np.zeros((2, 0), np.int64), *self._pairs], axis=1)


def _counts(drafts: Ids, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each of the wanted drafts is there."""
    present, voxels = np.unique(drafts, return_counts=True)
    return np.asarray(voxels[np.searchsorted(present, wanted)], np.int64)


def _united(
    gathered: Sequence[_Draft], pairs: NDArray[np.int64], count: int, min_voxels: float
) -> Found:
    if not count:
        return Found(np.zeros(1, np.int32), np.zeros(0, np.uint8))
    one, other = pairs - 1
    graph = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(count, count))
    number, group = connected_components(graph, directed=False)
    first = np.full(number, np.iinfo(np.int64).max)
    np.minimum.at(first, group, np.concatenate([draft.first for draft in gathered]))
    width = max(draft.votes.shape[1] for draft in gathered)
    table = np.zeros((number + 1, width), np.int64)
    start = 0
    for draft in gathered:
        np.add.at(
            table[:, : draft.votes.shape[1]],
            1 + group[start : start + len(draft.first)],
            draft.votes,
        )
        start += len(draft.first)
    voxels = table[1:].sum(1)
    stays = np.flatnonzero((voxels > 0) & (voxels >= min_voxels))
    stays = stays[np.argsort(first[stays])]
    names = np.zeros(number, np.int32)
    names[stays] = np.arange(1, len(stays) + 1)
    return Found(np.concatenate([[0], names[group]]).astype(np.int32), most(table)[stays])
