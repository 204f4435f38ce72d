"""Masks of objects that are too large to be decoded as a whole.

Codes are written block by block, as other masks are; when none is missing, the objects are found
block by block, each with a halo. Where the mask is an OME-Zarr the codes are one too while they
are needed, in a hidden folder beside it, so that any number of processes may write them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetseg.config import DataPlan
from unetseg.files import remove_unfinished
from unetseg.formats import mask_file, split_name
from unetseg.formats.boxwise import Raw
from unetseg.formats.ngff import Axis
from unetseg.formats.zarr_writing import Layout, Store
from unetseg.geometry import Box
from unetseg.objects.blockwise import Blocks, Found, decode_blocks
from unetseg.objects.decoding import BYTES_PER_VOXEL, Rules
from unetseg.pipeline import Placement
from unetseg.prediction.counting import Tally
from unetseg.prediction.exports import write_object_classes
from unetseg.prediction.places import Job
from unetseg.records import Mask, Opened
from unetseg.tasks.objects import ObjectTask
from unetseg.tasks.segmenting import Segmenter

# A network does not see much of an object that is longer than half a patch.
_HALO_PATCHES = 0.5
_DRAFTS = "drafts"
# For a voxel of a block that is written: draft, id, and what counting and compressing it take.
_BYTES_WRITTEN = 28
_COUNTED = 1 << 20


class _Codes(Protocol):
    """Codes that are written box by box; see MaskFile."""

    block: tuple[int, ...]

    def write(self, box: Box, values: NDArray[np.integer[Any]]) -> None: ...

    def read(self, box: Box) -> NDArray[Any]: ...

    def done(self) -> frozenset[tuple[int, ...]]: ...

    def alone(self) -> AbstractContextManager[None]: ...

    def discard(self) -> None: ...


class _OwnCodes:
    """In a raw file of this process."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.block = (1,) * len(shape)
        self._raw = Raw(path, shape, np.dtype(np.int32), ndim=len(shape))
        self._done: set[tuple[int, ...]] = set()

    def write(self, box: Box, values: NDArray[np.integer[Any]]) -> None:
        self._raw.write(box, values)
        self._done.add(tuple(part.start for part in box))

    def read(self, box: Box) -> NDArray[Any]:
        return self._raw.read(box)

    def done(self) -> frozenset[tuple[int, ...]]:
        return frozenset(self._done)

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()

    def discard(self) -> None:
        self._raw.discard()


def _layout(shape: Sequence[int]) -> Layout:
    axes = tuple(map(Axis, "zyx"[-len(shape) :], shape))
    return Layout("0.5", axes, np.dtype(np.int32), lambda values: values, {})


def _codes_path(mask: Path) -> Path:
    return mask.with_name(f"{split_name(mask)[0]}_codes.zarr")


def codes_block(shape: Sequence[int]) -> tuple[int, ...]:
    """The blocks in which processes write the codes of an image together."""
    layout = _layout(shape)
    return layout.shards or layout.chunks


def is_begun(job: Job) -> bool:
    """Whether codes of it are there that somebody may go on with."""
    return job.keeps_blocks and Store.folder_of(_codes_path(job.mask)).is_dir()


def decoding_blocks(
    segmenter: Segmenter, placement: Placement, margin: int, most_bytes: int
) -> Blocks:
    """The blocks in which the codes of a scan are decoded.

    margin : of the rules
    most_bytes : what decoding a block is to take; more if its halo alone takes that
    """
    shape = placement.scan.shape
    halo = [0] * len(shape)
    for k, axis in enumerate(placement.order):
        patch = min(segmenter.plan.patch.size[k], placement.grid.shape[k])
        on_scan = patch * placement.turned.shape[k] / placement.grid.shape[k]
        halo[axis] = ceil(_HALO_PATCHES * on_scan) + margin
    blocks = Blocks(shape, shape, tuple(halo))
    while BYTES_PER_VOXEL * blocks.most_voxels > most_bytes:
        able = [k for k, edge in enumerate(blocks.edge) if edge > halo[k]]
        if not able:
            break
        widest = max(able, key=blocks.edge.__getitem__)
        half = -(-blocks.edge[widest] // 2)
        blocks = replace(blocks, edge=(*blocks.edge[:widest], half, *blocks.edge[widest + 1 :]))
    return blocks


def blocks_bytes(blocks: Blocks) -> int:
    """What it takes to decode codes in blocks and to write the mask."""
    voxels = prod(codes_block(blocks.shape))
    return max(BYTES_PER_VOXEL * blocks.most_voxels, _BYTES_WRITTEN * voxels)


@dataclass(frozen=True, eq=False)
class Decoding:
    """What it takes to make a mask of codes.

    blocks : in which they are decoded
    made_by : as of formats.mask_file
    check : raises if the work is to end
    """

    task: ObjectTask
    data: DataPlan
    rules: Rules
    blocks: Blocks
    made_by: str
    check: Callable[[], None]


class ObjectsFile:
    """A mask of objects to which codes are written, see MaskFile; `finish` makes ids of them.

    tally : of the mask, once it was finished here
    """

    def __init__(self, job: Job, opened: Opened, decoding: Decoding) -> None:
        self.tally: Tally | None = None
        self._job, self._opened, self._decoding = job, opened, decoding
        shape = opened.geometry.shape
        self._codes: _Codes
        if job.keeps_blocks:
            path = _codes_path(job.mask)
            self._codes = Store(path, _layout(shape), made_by=decoding.made_by, becomes=job.mask)
            self._beside = Store.folder_of(path) / _DRAFTS
        else:
            self._codes = _OwnCodes(job.mask, shape)
            self._beside = job.mask
        self.block = self._codes.block

    def write(self, box: Box, values: NDArray[np.integer[Any]]) -> None:
        self._codes.write(box, values)

    def done(self) -> frozenset[tuple[int, ...]]:
        return self._codes.done()

    def discard(self) -> None:
        self._codes.discard()

    def finish(self) -> None:
        """Find the objects and let the mask appear; quiet where another process has done so."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._codes.alone())
            except FileNotFoundError:
                return
            if self._job.keeps_blocks:
                # Nobody else is here: they are of a process that was killed here.
                remove_unfinished(self._beside.parent, {_DRAFTS})
            shape = self._opened.geometry.shape
            drafts = Raw(self._beside, shape, np.dtype(np.int32), ndim=len(shape))
            stack.callback(drafts.discard)
            decoding = self._decoding
            found = decode_blocks(
                self._codes.read,
                drafts.write,
                decoding.blocks,
                decoding.rules,
                check=decoding.check,
            )
            self._write(found, drafts)
            self._codes.discard()

    def _write(self, found: Found, drafts: Raw) -> None:
        job, decoding = self._job, self._decoding
        made_by = decoding.made_by if job.keeps_blocks else ""
        ids = found.ids.astype(np.min_scalar_type(len(found)))
        file = mask_file(job.mask, self._opened, ids.dtype, (), made_by)
        tally = Tally(decoding.data)
        tally.classes = decoding.task.values(found.classes)
        try:
            done = file.done()
            edge = file.block if job.keeps_blocks else decoding.blocks.edge
            for box in replace(decoding.blocks, edge=edge):
                decoding.check()
                values = ids[drafts.read(box)]
                # Counting many values sorts them: not all of a block at once.
                step = max(1, _COUNTED // values[0].size)
                for first in range(0, len(values), step):
                    tally.add(values[first : first + step])
                if tuple(part.start for part in box) not in done:
                    file.write(box, values)
            # Its voxels are in the file.
            bare = Mask(ids[:0], self._opened.geometry, classes=tally.classes)
            write_object_classes(bare.classes, job, decoding.data)
            file.finish()
        except BaseException:
            if not job.keeps_blocks:
                file.discard()
            raise
        self.tally = tally
