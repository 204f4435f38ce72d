"""One case on its way from scan to mask file: read, compute, write.

`read` decides how a case is done. What it returns is computed when the device is free, and that is
written while the device works on the next: another way through (a scan that is too large to be
read as a whole) is another class with these two steps.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from unetseg.config import DataPlan
from unetseg.dataset.loading import load_scan, open_case, time_points, without_voxels
from unetseg.errors import UnetsegError
from unetseg.formats import write_mask
from unetseg.pipeline import Prepared
from unetseg.prediction.blocks import BlockScan, in_blocks
from unetseg.prediction.counting import Tally, done_record
from unetseg.prediction.exports import write_object_classes
from unetseg.prediction.hands import Hand
from unetseg.prediction.maps import Maps
from unetseg.prediction.outlook import Header, Limits, Outlook
from unetseg.prediction.places import Job
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.request import Request
from unetseg.prediction.room import walk_bytes
from unetseg.prediction.times import at_time, in_times
from unetseg.records import FileDone, Listener, Mask, Scan
from unetseg.tasks.pieces import Piece, together


class Computed(Protocol):
    """A case that the device is done with."""

    def write(self) -> FileDone:
        """Decode it and let its files appear, the mask last: without it nothing counts as done."""
        ...


@dataclass(frozen=True)
class Turn:
    """What a case has while it is the device's turn.

    writer : writes what is finished before all of it is
    check : raises if the work is to end; to be called between pieces
    listener : hears what a person should know
    """

    predictor: Predictor
    writer: Hand
    check: Callable[[], None]
    listener: Listener

    def watched(self, pieces: Iterable[Piece], maps: Maps) -> Iterator[Piece]:
        """The pieces, each when it was given to the maps, which are dropped if it breaks off."""
        try:
            for piece in pieces:
                self.check()
                maps.add(piece)
                yield piece
        except BaseException:
            maps.discard()
            raise


class Ready(Protocol):
    """A case that waits for the device."""

    def compute(self, turn: Turn) -> Computed:
        """Do what the device does; may be called again after a DeviceError."""
        ...


def read(job: Job, predictor: Predictor, request: Request) -> Ready:
    """Read and prepare the scan of a case, or open it if it is to be done in blocks.

    Raises DataError or ModelError, with its name.
    """
    try:
        if (stack := in_times(job, predictor, request)) is not None:
            return stack
        blocks = in_blocks(job, predictor, request)
        if request.limits != Limits():
            # Refused before a voxel is read.
            outlook_of(blocks, job, predictor, request)
        if blocks is not None:
            return blocks
        scan = load_scan(job.case)
        prepared = predictor.prepare(scan)
    except UnetsegError as error:
        error.where = error.where or str(job.image)
        raise
    # What is written lies on the scan, but its voxels are no longer needed.
    return WholeScan(job, without_voxels(scan), prepared, request.map_type)


def outlook_of(
    blocks: BlockScan | None, job: Job, predictor: Predictor, request: Request
) -> Outlook:
    """What a case needs, from its header.

    blocks : the case, if it is to be done so

    Raises DataError, ModelError, or DeviceError if it does not fit.
    """
    with_maps = bool(request.kinds)
    if blocks is not None:
        most = walk_bytes(request.limits.host)
        beside = blocks.beside(predictor)
        return predictor.foresee_blocks(blocks.opened.geometry, most, beside, with_maps=with_maps)
    opened = open_case(at_time(job.case, 0) if time_points(job.case) > 1 else job.case)
    images = job.case.images
    channels = len(opened.channels) if len(images) == 1 else len(images)
    header = Header(opened.geometry, channels, opened.dtype.itemsize)
    return predictor.foresee(header, with_maps=with_maps)


@dataclass(frozen=True, eq=False)
class WholeScan:
    """A case that was read as a whole.

    like : the scan without its voxels
    answer : what the network says, if it has been asked already
    """

    job: Job
    like: Scan
    prepared: Prepared
    map_type: str
    answer: Tensor | None = None

    def compute(self, turn: Turn) -> Computed:
        predictor = turn.predictor
        data, grid = predictor.plan.data, self.prepared.placement.scan
        maps = Maps(self.job, self.like, data, self.map_type, turn.writer)
        found = predictor.pieces(
            self.prepared,
            probabilities=bool(maps),
            answer=self.answer,
            listener=turn.listener,
        )
        with closing(found) as pieces:
            numbers = together(turn.watched(pieces, maps), grid.shape)
        return WholeMask(
            self.job, self.like, data, maps, lambda: predictor.task.mask(numbers, grid)
        )


@dataclass(frozen=True, eq=False)
class WholeMask:
    """The class numbers of a whole case, and what is made of them.

    decode : gives the mask
    """

    job: Job
    like: Scan
    data: DataPlan
    maps: Maps
    decode: Callable[[], Mask]

    def write(self) -> FileDone:
        geometry, images = self.like.geometry, self.job.case.images
        try:
            self.maps.settle()
            self.maps.finish()
            if self.job.keeps_mask:
                # What it holds by now is not ours to say.
                return done_record(images, self.job.mask, geometry)
            mask = self.decode()
            write_object_classes(mask.classes, self.job, self.data)
            write_mask(mask, self.job.mask, self.like)
        except BaseException:
            self.maps.discard()
            raise
        tally = Tally(self.data)
        tally.classes = mask.classes
        tally.add(mask.array)
        return done_record(images, self.job.mask, geometry, tally)
