"""A scan of several time points: each is predicted by itself, and all become one mask file."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from unetseg.config import DataPlan
from unetseg.dataset.loading import load_scan, open_case, time_points
from unetseg.errors import DataError
from unetseg.formats.naming import described
from unetseg.formats.stacks import Stack
from unetseg.formats.viewing import contents_of
from unetseg.geometry import Geometry
from unetseg.pipeline import Prepared
from unetseg.prediction.counting import Tally, done_record
from unetseg.prediction.exports import write_object_classes
from unetseg.prediction.places import Job
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.request import Request
from unetseg.prediction.room import is_too_large
from unetseg.records import Case, FileDone, Opened
from unetseg.tasks.pieces import Piece, together

if TYPE_CHECKING:
    from unetseg.prediction.cases import Turn


def in_times(job: Job, predictor: Predictor, request: Request) -> "TimeStack | None":
    """The case, if its file has several time points; not a voxel is read.

    Raises DataError for what cannot be done time point by time point.
    """
    count = time_points(job.case)
    if count == 1:
        return None
    if job.beside:
        raise DataError(
            f"maps of {count} time points are not written",
            where=job.image,
            hint="leave out --probabilities, --uncertainty and --regions, or save one file per"
            " time point",
        )
    if job.exports:
        raise DataError(
            f"masks of {count} time points are not exported",
            where=job.image,
            hint="leave out --export, or save one file per time point",
        )
    first = open_case(at_time(job.case, 0))
    if first.geometry.ndim < predictor.plan.data.dimensions:
        letters = contents_of(first).likely[0]
        raise DataError(
            f"{count} time points of images, for a model of volumes",
            where=job.image,
            expected="volumes",
            got=described(first),
            hint=f"if the time points are slices, give --axes {letters.replace('T', 'Z')}",
        )
    if is_too_large(first, predictor.plan.data, predictor.task, request.limits.host):
        raise DataError(
            f"each of {count} time points is too large to be read as a whole",
            where=job.image,
            hint="save one file per time point",
        )
    return TimeStack(job, first, count)


def at_time(case: Case, time: int) -> Case:
    """The case at one of the time points of its file."""
    return replace(case, view=replace(case.view, time=time))


@dataclass(frozen=True, eq=False)
class TimeStack:
    """A case of several time points, which are read one after another; see Ready.

    first : the scan at the first of them
    """

    job: Job
    first: Opened
    count: int

    def compute(self, turn: "Turn") -> "StackMask":
        stack = Stack(self.job.mask, self.first, self.count)
        predictor = turn.predictor
        data = predictor.plan.data
        tally, classes, last = Tally(data), list[int](), 0
        try:
            for time, (prepared, answer) in enumerate(self._answered(turn)):
                grid = prepared.placement.scan
                found = predictor.pieces(prepared, answer=answer, listener=turn.listener)
                with closing(found) as pieces:
                    numbers = together(_checked(pieces, turn), grid.shape)
                mask = predictor.task.mask(numbers, grid)
                values = mask.array
                if data.has_objects:
                    # Nobody has followed an object through time: ids go on, none comes twice.
                    values = np.where(values, values.astype(np.int32) + last, 0)
                    last = max(last, int(values.max()))
                    classes += mask.classes
                stack.write(time, values)
                tally.add(values)
        except BaseException:
            stack.discard()
            raise
        tally.classes = tuple(classes)
        return StackMask(self.job, stack, tally, self.first.geometry, data)

    def _answered(self, turn: "Turn") -> Iterator[tuple[Prepared, Tensor | None]]:
        """The time points, with what the network has said to those that go through it together."""
        predictor, group = turn.predictor, list[Prepared]()
        for time in range(self.count):
            group.append(predictor.prepare(load_scan(at_time(self.job.case, time))))
            is_full = len(group) == predictor.most_together or time == self.count - 1
            if is_full or predictor.lone_window(group[-1]) is None:
                turn.check()
                yield from zip(group, predictor.answers(group, turn.listener), strict=True)
                group.clear()


def _checked(pieces: Iterator[Piece], turn: "Turn") -> Iterator[Piece]:
    for piece in pieces:
        turn.check()
        yield piece


@dataclass(frozen=True, eq=False)
class StackMask:
    """The masks of all time points; see Computed."""

    job: Job
    stack: Stack
    tally: Tally
    geometry: Geometry
    data: DataPlan

    def write(self) -> FileDone:
        write_object_classes(self.tally.classes, self.job, self.data)
        self.stack.finish()
        return done_record(self.job.case.images, self.job.mask, self.geometry, self.tally)
