"""Cases on their way: the next is read and the last is written while the device works on this one.

Each device has a line of three threads, with one scan read ahead and one mask behind. What fails
is told of its file; what is no fault of a file (an interruption, a defect) ends all lines, after
what is being written.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event as Flag
from threading import Lock, Thread
from time import perf_counter
from typing import Generic, TypeVar

import torch

from unetseg.devices import is_out_of_memory
from unetseg.errors import DataError, DeviceError, UnetsegError
from unetseg.prediction import cases
from unetseg.prediction.gathering import answered, goes_with_others
from unetseg.prediction.hands import NAME, Hand
from unetseg.prediction.outlook import Limits
from unetseg.prediction.places import Job
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.request import Request
from unetseg.records import Advance, Event, FileDone, Listener, Note

T = TypeVar("T")
U = TypeVar("U")

# How long an interruption waits for a line that is in the middle of a piece.
_PATIENCE_SECONDS = 30.0


@dataclass
class Work:
    """What the lines share.

    left : jobs with their places in the results
    done : results by place
    listener : hears one event at a time, from any thread
    completed : what is told of a scan once what is made of its mask is there too
    """

    request: Request
    left: Iterator[tuple[int, Job]]
    listener: Listener
    completed: Callable[[Job, FileDone], FileDone] = lambda job, record: record  # noqa: ARG005
    done: dict[int, FileDone] = field(default_factory=dict)
    stop: Flag = field(default_factory=Flag)
    _turn: Lock = field(default_factory=Lock)

    def next(self) -> tuple[int, Job] | None:
        """A job that no line has taken yet."""
        with self._turn:
            return None if self.stop.is_set() else next(self.left, None)

    def tell(self, event: Event) -> None:
        with self._turn:
            self.listener(event)

    def finish(self, place: int, job: Job, record: FileDone) -> None:
        begun = perf_counter()
        record = self.completed(job, record)
        record = replace(record, seconds=record.seconds + perf_counter() - begun)
        with self._turn:
            self.done[place] = record
            self.listener(record)
            self.listener(Advance(job.case.name))

    def check(self) -> None:
        """Raise if the work is to end."""
        if self.stop.is_set():
            raise _Stopped


class _Stopped(BaseException):
    """The work is to end."""


def run(predictors: Sequence[Predictor], work: Work) -> None:
    """Do all jobs, each on the first device that is free.

    After an interruption or a defect, what is being written is finished; then it is raised.
    """
    if len(predictors) == 1:
        _line(predictors[0], work)
        return
    faults: list[BaseException] = []
    threads = torch.get_num_threads()
    on_processor = sum(predictor.machine.kind == "cpu" for predictor in predictors)

    def follow(predictor: Predictor) -> None:
        if predictor.machine.kind == "cpu":
            # Or each line would take all cores.
            torch.set_num_threads(max(1, threads // on_processor))
        try:
            _line(predictor, work)
        # It is raised by the thread that waits for this one.
        except BaseException as error:  # noqa: BLE001
            faults.append(error)

    lines = [
        Thread(target=follow, args=(predictor,), name=f"{NAME}line-{number}", daemon=True)
        for number, predictor in enumerate(predictors)
    ]
    for line in lines:
        line.start()
    try:
        for line in lines:
            line.join()
    except BaseException:
        work.stop.set()
        ends = perf_counter() + _PATIENCE_SECONDS
        for line in lines:
            line.join(max(0.0, ends - perf_counter()))
        raise
    finally:
        torch.set_num_threads(threads)
    if faults:
        raise faults[0]


def _line(predictor: Predictor, work: Work) -> None:
    """One device: take jobs until none is left."""
    reader, writer = Hand("reader"), Hand("writer")

    def begin() -> Future[list[_Read]] | None:
        first = work.next()
        return None if first is None else reader.do(partial(_read, first, predictor, work))

    turn = cases.Turn(predictor, writer, work.check, work.tell)
    behind: list[Future[None]] = []
    # What a scan needs was worked out for the scan alone.
    alone = work.request.limits != Limits()
    try:
        ahead = begin()
        while ahead is not None:
            group = ahead.result()
            # One scan ahead: the reader goes on while this one is computed.
            ahead = None if alone else begin()
            group = _answered(group, turn)
            while group:
                place, job, ready = group.pop(0)
                computed = ready.then(partial(_computed, job, turn))
                # What is in memory for the device's sake only must not stay there.
                del ready
                behind.append(writer.do(partial(_written, place, computed, work)))
                del computed
                while len(behind) > (0 if alone else 1):
                    behind.pop(0).result()
            if alone:
                ahead = begin()
    except _Stopped:
        # By this line's writer, which says why below, or by another line.
        pass
    except BaseException:
        work.stop.set()
        raise
    finally:
        reader.close(wait=False)
        writer.close(wait=True)
    for each in behind:
        each.result()


@dataclass(frozen=True, eq=False)
class _Attempt(Generic[T]):
    """What a step has made of a job.

    fault : why it failed; not the error itself, which keeps all that the step had in memory
    seconds : of this step and those before, without waiting for one another
    """

    job: Job
    value: T | None
    fault: str
    seconds: float

    def then(self, step: Callable[[T], U]) -> "_Attempt[U]":
        """The next step, if this one has not failed."""
        if self.value is None:
            return _Attempt(self.job, None, self.fault, self.seconds)
        return _attempt(self.job, partial(step, self.value), self.seconds)


def _attempt(job: Job, step: Callable[[], T], before: float = 0.0) -> _Attempt[T]:
    begun = perf_counter()
    value, fault = None, ""
    try:
        value = step()
    except (UnetsegError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        fault = str(_told(error, job))
    return _Attempt(job, value, fault, before + perf_counter() - begun)


def _told(error: UnetsegError | OSError | MemoryError | RuntimeError, job: Job) -> UnetsegError:
    """The error as a sentence that names the scan."""
    if isinstance(error, UnetsegError):
        error.where = error.where or str(job.image)
        return error
    if isinstance(error, OSError):
        return DataError(
            f"cannot be read or written: {error.strerror or error}",
            where=error.filename or job.image,
            hint="check permissions and free space",
        )
    return DeviceError("does not fit in memory", where=job.image, hint="close what else uses it")


# The place of a job in the results, and what became of its scan.
_Read = tuple[int, Job, _Attempt[cases.Ready]]


def _read(taken: tuple[int, Job] | None, predictor: Predictor, work: Work) -> list[_Read]:
    """The scan of a job; and those after it that can go through the network with it."""
    group: list[_Read] = []
    while taken is not None:
        place, job = taken
        group.append((place, job, _attempt(job, partial(cases.read, job, predictor, work.request))))
        if len(group) == predictor.most_together:
            break
        if not goes_with_others(group[-1][-1].value, predictor):
            break
        taken = work.next()
    return group


def _answered(group: list[_Read], turn: cases.Turn) -> list[_Read]:
    """The same, with what the network has said to those that went through it together."""
    begun = perf_counter()
    values = answered([ready.value for _, _, ready in group], turn)
    each = (perf_counter() - begun) / len(group)
    return [
        (place, job, replace(ready, value=value, seconds=ready.seconds + each))
        for (place, job, ready), value in zip(group, values, strict=True)
    ]


def _computed(job: Job, turn: cases.Turn, ready: cases.Ready) -> cases.Computed:
    try:
        return ready.compute(turn)
    except DeviceError as error:
        if turn.predictor.machine.kind == "cpu":
            raise
        text = f"{job.image}: {error.what} on {error.where}; once more on the processor"
        turn.listener(Note(text, "warning"))
    return ready.compute(replace(turn, predictor=turn.predictor.on_processor))


def _written(place: int, computed: _Attempt[cases.Computed], work: Work) -> None:
    try:
        written = computed.then(lambda computed: computed.write())
        record = written.value or FileDone(written.job.case.images, None, "failed")
        record = replace(record, seconds=written.seconds, message=written.fault or record.message)
        work.finish(place, written.job, record)
    except BaseException:
        # The line itself hears of it only when it has computed the next.
        work.stop.set()
        raise
