"""A mask that grows block by block, with what lies beside it."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import DataPlan
from unetseg.formats import open_scan
from unetseg.formats.boxwise import MaskFile
from unetseg.geometry import Box, inside
from unetseg.prediction.coded import ObjectsFile
from unetseg.prediction.counting import Tally, done_record
from unetseg.prediction.exports import object_classes
from unetseg.prediction.maps import Maps
from unetseg.prediction.places import Job
from unetseg.prediction.units import Number, Units
from unetseg.records import FileDone, Opened

if TYPE_CHECKING:
    from unetseg.prediction.cases import Turn


class Growing:
    """The files of a case, written while the next blocks are computed.

    file : None where the mask is there already and stays
    written : how many blocks were written here
    """

    def __init__(self, turn: "Turn", units: Units, file: MaskFile | None, maps: Maps) -> None:
        self.units, self.file, self.maps = units, file, maps
        self.data = turn.predictor.plan.data
        self._is_local = turn.predictor.task.is_local
        self._tally = Tally(self.data)
        self.written = 0
        self._writer = turn.writer
        self._behind: Future[None] | None = None

    def add(self, box: Box, values: NDArray[np.integer[Any]]) -> None:
        """Have label values, or codes, of whole blocks written; those before are by then."""
        self.settle()
        self._behind = self._writer.do(lambda: self._write(box, values))

    def settle(self) -> None:
        """Wait until all that was added is written. Raises what the writing has raised."""
        # A block is marked as done after its maps are written.
        self.maps.settle()
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.result()

    def _write(self, box: Box, values: NDArray[np.integer[Any]]) -> None:
        if self._is_local:
            self._tally.add(values)
        for block in self.units.inside(box):
            if self.file is not None:
                self.file.write(block, values[inside(block, box)])
            self.written += 1

    @property
    def tally(self) -> Tally | None:
        """Of the finished mask; None where other processes have written or finished it."""
        if isinstance(self.file, ObjectsFile):
            return self.file.tally
        return self._tally if self.written == len(self.units.all) else None


@dataclass(frozen=True, eq=False)
class BlockMask:
    """The blocks of a case, or of one share of it, that are written; see Computed.

    mine : where the blocks of this process begin
    """

    job: Job
    opened: Opened
    growing: Growing
    mine: frozenset[Number]

    def write(self) -> FileDone:
        """Let the files appear if no block is missing, whoever has done it."""
        growing, images = self.growing, self.job.case.images
        units, file = growing.units, growing.file
        everything = frozenset(map(units.corner, units.all))
        if self.job.keeps_blocks and file is not None:
            done = file.done()
            # Where blocks of this process are gone, another one has found all of them done.
            if self.mine <= done and not everything <= done:
                text = f"{len(done)} of {len(everything)} blocks are done"
                return FileDone(images, None, "part", message=f"{text}; others do the rest")
        try:
            growing.maps.finish()
            if file is not None and not self.job.keeps_mask:
                file.finish()
        except BaseException:
            growing.maps.discard()
            if file is not None and not self.job.keeps_blocks:
                file.discard()
            raise
        if file is not None and self.job.keeps_mask:
            file.discard()
        if self.job.keeps_mask:
            # What it holds by now is not ours to say.
            return done_record(images, self.job.mask, self.opened.geometry)
        if growing.tally is None:
            # Each process knows its own blocks only.
            return finished(self.job, growing.data)
        return done_record(images, self.job.mask, self.opened.geometry, growing.tally)


def finished(job: Job, data: DataPlan) -> FileDone:
    """What is told of a mask that several processes have written."""
    mask, tally = open_scan(job.mask), Tally(data)
    units = Units(mask.geometry.shape, mask.block, 0)
    if not job.keeps_mask:
        tally.classes = object_classes(job, data)
        for number in units.all:
            tally.add(mask.read(units.box(number))[0])
    return done_record(job.case.images, job.mask, mask.geometry, None if job.keeps_mask else tally)


@dataclass(frozen=True, eq=False)
class AlreadyThere:
    """A case that others have finished; see Computed."""

    job: Job

    def write(self) -> FileDone:
        return FileDone(self.job.case.images, self.job.mask, "skipped", message="already there")
