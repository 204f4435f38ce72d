"""A scan that is larger than memory: read, computed and written block by block.

The windows are those of the whole scan, so that the mask does not depend on the blocks, nor on who
does which of them. An OME-Zarr keeps what is finished: whoever predicts it again, with the same
model and settings, goes on with the blocks that are left.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import prod
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.loading import open_case, opened_with_channels
from unetseg.errors import DataError, DeviceError
from unetseg.formats import format_of, mask_file
from unetseg.formats.boxwise import MaskFile
from unetseg.geometry import Box
from unetseg.objects.blockwise import Blocks
from unetseg.pipeline.lazily import Unread
from unetseg.prediction.coded import (
    Decoding,
    ObjectsFile,
    blocks_bytes,
    codes_block,
    decoding_blocks,
    is_begun,
)
from unetseg.prediction.growing import AlreadyThere, BlockMask, Growing
from unetseg.prediction.hands import Hand
from unetseg.prediction.maps import Maps
from unetseg.prediction.outlook import Beside, Header, Limits
from unetseg.prediction.places import Job
from unetseg.prediction.planes import Planes
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.request import Request
from unetseg.prediction.room import (
    Walker,
    finishing_bytes,
    is_too_large,
    is_too_large_to_finish,
    walk_bytes,
)
from unetseg.prediction.units import Bands, Number, Units, cut, portion
from unetseg.records import AS_IT_IS, Listener, Note, Opened, Scan
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import with_cleanings
from unetseg.tasks.objects import ObjectTask
from unetseg.tasks.pieces import Piece, together

if TYPE_CHECKING:
    from unetseg.prediction.cases import Computed, Turn

Indices = NDArray[np.integer[Any]]

# Of a mask that nobody goes on with: the least edge of what is put together before it is written.
_PLANE, _CUBE = 1024, 128
_NOTE_SECONDS = 60.0


def in_blocks(job: Job, predictor: Predictor, request: Request) -> "BlockScan | None":
    """The case, if it is to be done in blocks; not a voxel is read.

    Raises DataError or ModelError for what is wrong with the scan by its header.
    """
    if len(job.case.images) > 1:
        return None
    opened = open_case(job.case)
    data, task = predictor.plan.data, predictor.task
    is_stored_whole = opened.block == opened.geometry.shape
    if not (
        format_of(job.image).is_folder
        or job.share is not None
        or (job.keeps_blocks and not is_stored_whole)
        or is_too_large(opened, data, task, request.limits.host)
        or not (is_stored_whole or _fits(opened, predictor, request))
    ):
        return None
    opened = opened_with_channels(opened, data.channels)
    voxels, limit = prod(opened.geometry.shape), request.limits.host
    if isinstance(task, ObjectTask):
        # Whoever has a share, or finds that others had one, does not do all of it.
        is_divided = job.share is not None or is_begun(job)
        is_whole = not is_divided and not is_too_large(opened, data, task, limit)
    else:
        is_whole = not task.is_local
    if is_whole and is_too_large_to_finish(task, voxels, limit):
        raise DataError(
            "the mask is too large to be cleaned, which needs all of it in memory",
            where=job.image,
            expected=f"{finishing_bytes(task, voxels) / 1e9:.3g} GB that are free",
            hint="give --set decode.largest_component=[] --set decode.min_size=0"
            " --set decode.fill_holes=[]",
        )
    return BlockScan(job, opened, Unread(opened, data), request, is_whole)


def _fits(opened: Opened, predictor: Predictor, request: Request) -> bool:
    """Whether a scan that is read as a whole keeps to the limits, if there are any."""
    if request.limits == Limits():
        return True
    header = Header(opened.geometry, len(opened.channels), opened.dtype.itemsize)
    try:
        predictor.foresee(header, with_maps=bool(request.kinds))
    except DeviceError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class BlockScan:
    """A case that is read block by block, see Ready.

    is_whole : its mask is made as a whole, of class numbers that are collected: cleaning and
        objects look at more than a voxel. Objects for which there is no such room are found block
        by block, see prediction.coded
    """

    job: Job
    opened: Opened
    unread: Unread
    request: Request
    is_whole: bool = False

    def compute(self, turn: "Turn") -> "Computed":
        if self.job.left(overwrite=self.request.overwrite) is None:
            # Others have finished it since this process began.
            return AlreadyThere(self.job)
        if self.is_whole:
            return self._collected(turn)
        job = self.job
        with ExitStack() as undo:
            file = self._file(turn.predictor, turn.check)
            if job.left(overwrite=self.request.overwrite) is None:
                # Others have finished it just now; what was begun is nobody's.
                if file is not None:
                    file.discard()
                return AlreadyThere(job)
            if file is not None and not job.keeps_blocks:
                undo.callback(file.discard)
            maps = self._maps(turn, self._made_by(turn.predictor))
            undo.callback(maps.discard)
            units = self._units(turn.predictor, file)
            mine = portion(units.all, job.share)
            done = file.done() if file and job.keeps_blocks else frozenset()
            left = {number for number in mine if units.corner(number) not in done}
            values = self._values(turn.predictor)
            growing = Growing(turn, units, file, maps)
            progress = _Progress(job, turn.listener, len(mine))
            for bands, piece in self._pieces(turn, units, left, maps=bool(maps)):
                maps.add(piece)
                for box, numbers in bands.add(piece):
                    growing.add(box, values(box, numbers))
                    left.difference_update(units.numbers(box))
                    progress.tell(len(mine) - len(left))
            growing.settle()
            undo.pop_all()
        return BlockMask(job, self.opened, growing, frozenset(map(units.corner, mine)))

    def count(self, predictor: Predictor) -> int:
        """How many blocks may be done apart from one another."""
        if isinstance(predictor.task, ObjectTask):
            shape = self.opened.geometry.shape
            return len(Units(shape, codes_block(shape), 0).all)
        if not predictor.task.is_local:
            return 1
        return len(self._units(predictor, self._file(predictor)).all)

    def beside(self, predictor: Predictor) -> Beside:
        """What takes memory beside the walk, and after it."""
        task, voxels = predictor.task, prod(self.opened.geometry.shape)
        if self.is_whole:
            return Beside(voxels * task.number_bytes, finishing_bytes(task, voxels))
        if isinstance(task, ObjectTask):
            return Beside(0, blocks_bytes(self._decoding_blocks(predictor, task)))
        return Beside()

    def _decoding_blocks(self, predictor: Predictor, task: ObjectTask) -> Blocks:
        geometry = self.opened.geometry
        margin, most = task.rules(geometry).margin, walk_bytes(self.request.limits.host)
        return decoding_blocks(predictor.segmenter, self.unread.placement, margin, most)

    def _made_by(self, predictor: Predictor) -> str:
        kinds, view = self.request.kinds, self.job.case.view
        # Other channels of the same scan make another mask.
        seen = () if view == AS_IT_IS else (repr(view),)
        return " ".join((predictor.digest, *kinds, self.request.map_type if kinds else "", *seen))

    def _file(
        self, predictor: Predictor, check: Callable[[], None] = lambda: None
    ) -> MaskFile | None:
        """The mask; where it is there already, its blocks only tell what is done."""
        job, one = self.job, (1,) * self.opened.geometry.ndim
        if job.keeps_mask and not job.keeps_blocks:
            return None
        made_by, task = self._made_by(predictor), predictor.task
        if isinstance(task, ObjectTask):
            rules = task.rules(self.opened.geometry)
            blocks = self._decoding_blocks(predictor, task)
            decoding = Decoding(task, predictor.plan.data, rules, blocks, made_by, check)
            return ObjectsFile(job, self.opened, decoding)
        values = self._values(predictor)
        dtype = values(tuple(slice(0, 1) for _ in one), np.zeros(one, np.uint8)).dtype
        return mask_file(job.mask, self.opened, dtype, predictor.labels, made_by)

    def _values(self, predictor: Predictor) -> Callable[[Box, Indices], Indices]:
        """Class numbers of a box -> what is written of it."""
        if isinstance(predictor.task, ObjectTask):
            return lambda _, codes: codes
        bare = make_task(with_cleanings(predictor.plan, {}))

        def values(box: Box, numbers: Indices) -> Indices:
            start, stop = [p.start for p in box], [p.stop for p in box]
            return bare.mask(numbers, self.opened.geometry.crop(start, stop)).array

        return values

    def _maps(self, turn: "Turn", made_by: str) -> Maps:
        data, map_type = turn.predictor.plan.data, self.request.map_type
        return Maps(self.job, self.opened, data, map_type, turn.writer, made_by)

    def _units(self, predictor: Predictor, file: MaskFile | None) -> Units:
        shape, edge = self.opened.geometry.shape, self.opened.block
        if file is not None and self.job.keeps_blocks:
            edge = file.block
        else:
            least = _PLANE if sum(n > 1 for n in shape) < 3 else _CUBE
            edge = tuple(
                min(n, block * -(-least // block)) for n, block in zip(shape, edge, strict=True)
            )
        axis = predictor.segmenter.walk(self.unread.placement.grid.shape).axis
        return Units(shape, edge, self.unread.placement.order[axis])

    def _pieces(
        self, turn: "Turn", units: Units, left: set[Number], *, maps: bool
    ) -> Iterator[tuple[Bands, Piece]]:
        """The pieces of the blocks that are left, with what they are to be put together in.

        left : whoever takes the pieces removes the blocks that are complete
        """
        predictor = turn.predictor
        reader = Hand("planes")
        try:
            while True:
                try:
                    yield from self._walk(predictor, turn, units, left, reader, maps=maps)
                except DeviceError as error:
                    if predictor.machine.kind == "cpu":
                        raise
                    text = f"{error.what} on {error.where}; what is left of it on the processor"
                    turn.listener(Note(f"{self.job.image}: {text}", "warning"))
                    predictor = predictor.on_processor
                else:
                    return
        finally:
            reader.close(wait=False)

    def _walk(
        self,
        predictor: Predictor,
        turn: "Turn",
        units: Units,
        left: set[Number],
        reader: Hand,
        *,
        maps: bool,
    ) -> Iterator[tuple[Bands, Piece]]:
        segmenter, placement = predictor.segmenter, self.unread.placement
        walker = Walker(
            segmenter,
            placement,
            len(self.opened.channels),
            self.opened.block,
            units.edge[units.axis],
            walk_bytes(self.request.limits.host),
        )
        for joined in units.joined(left, walker.fits):
            for box in [joined] if walker.fits(joined) else units.inside(joined):
                bands = Bands(units, box)
                for part in cut(box, walker.fits, walker.least):
                    reach = segmenter.reach(placement, part)
                    step = walker.step(part)
                    planes = Planes(self.unread, reach, walker.axis, step, reader)
                    found = predictor.part(planes, part, probabilities=maps, listener=turn.listener)
                    with closing(found) as pieces:
                        for piece in pieces:
                            turn.check()
                            yield bands, piece

    def _collected(self, turn: "Turn") -> "Computed":
        """What looks at the whole mask: block by block as far as the class numbers."""
        from unetseg.prediction.cases import WholeMask

        predictor, geometry = turn.predictor, self.opened.geometry
        opened = self.opened
        zeros = np.broadcast_to(opened.dtype.type(0), (len(opened.channels), *geometry.shape))
        like = Scan(zeros, geometry, opened.channels, opened.source, opened.is_picture)
        units = self._units(predictor, None)
        maps = self._maps(turn, "")
        found = self._pieces(turn, units, set(units.all), maps=bool(maps))
        numbers = together(turn.watched((piece for _, piece in found), maps), geometry.shape)
        data = predictor.plan.data
        return WholeMask(self.job, like, data, maps, lambda: predictor.task.mask(numbers, geometry))


class _Progress:
    """Tells once in a while how many blocks are done."""

    def __init__(self, job: Job, listener: Listener, total: int) -> None:
        self._job, self._listener, self._total = job, listener, total
        self._told = monotonic()

    def tell(self, done: int) -> None:
        if monotonic() - self._told > _NOTE_SECONDS:
            self._told = monotonic()
            self._listener(Note(f"{self._job.image}: {done} of {self._total} blocks"))
