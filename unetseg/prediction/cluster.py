"""Scans, or blocks of them, as tasks on a Dask scheduler.

A task is plain strings and numbers, and so is its result. A worker keeps the model that it has
loaded. What a lost worker had in hand is given to another one, which goes on with the blocks that
are left; where a scan is done as a whole, it is done again.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

from pydantic import TypeAdapter

from unetseg.errors import DeviceError, UnetsegError, UsageError
from unetseg.formats.remote import url_of
from unetseg.prediction.blocks import in_blocks
from unetseg.prediction.growing import finished
from unetseg.prediction.outlook import Limits
from unetseg.prediction.places import Job, failure
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.request import Kind, Request
from unetseg.prediction.running import Work, run
from unetseg.prediction.shares import Share
from unetseg.records import Case, Event, FileDone, Note, ObjectCount, View

if TYPE_CHECKING:
    from distributed import Client

# Of a scan in blocks: so many parts per thread of the workers, as some are faster than others.
_PARTS = 4
_CONNECT_SECONDS = 20

_loading = Lock()
_loaded: dict[str, Predictor] = {}


def run_on(address: str, jobs: Sequence[tuple[int, Job]], predictor: Predictor, work: Work) -> None:
    """Have the jobs done by the workers of the scheduler at an address.

    predictor : the same model here; it looks at headers, and computes nothing

    Raises UsageError if Dask is not installed or no scheduler is there.
    """
    request = work.request
    model = str(predictor.path.resolve())
    with _client(address) as client:
        from distributed import as_completed

        threads = sum(client.nthreads().values())
        waiting: dict[str, tuple[int, Job, int]] = {}
        futures = []
        for place, job in jobs:
            count = _parts(job, predictor, request, _PARTS * max(1, threads))
            for index in range(count):
                future = client.submit(
                    predict_part, model, _task(job, request), index, count, pure=False
                )
                waiting[future.key] = place, job, count
                futures.append(future)
        found: dict[int, list[FileDone]] = {}
        ended = as_completed(futures, loop=client.loop, with_results=True, raise_errors=False)
        for future, result in ended:
            work.check()
            place, job, count = waiting[future.key]
            parts = found.setdefault(place, [])
            if future.status == "finished":
                record, notes = _told(result, job)
                for text in notes:
                    work.tell(Note(text, "warning"))
            else:
                record = failure(job.case.images, _lost(future.exception(), job))
            parts.append(record)
            if len(parts) == count:
                work.finish(place, job, _together(parts, job, predictor))


@contextmanager
def _client(address: str) -> "Iterator[Client]":
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "Dask is not installed", where="--dask", hint="pip install 'unetseg[dask]'"
        ) from error
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            "no Dask scheduler answers",
            where=f"--dask {address}",
            expected="an address such as tcp://10.0.0.1:8786",
            hint="start one with `dask scheduler`, and workers with `dask worker`",
        ) from error
    try:
        yield client
    finally:
        # Tasks that nobody waits for are dropped by the scheduler.
        client.close(timeout=5)


def _parts(job: Job, predictor: Predictor, request: Request, most: int) -> int:
    """In how many tasks a scan is done."""
    if not job.keeps_blocks:
        return 1
    try:
        scan = in_blocks(job, predictor, request)
        return 1 if scan is None else min(most, scan.count(predictor))
    except (UnetsegError, OSError):
        # The worker says what is wrong with it.
        return 1


def _task(job: Job, request: Request) -> str:
    """The job for another process on another machine that sees the same files."""
    limits = request.limits
    return json.dumps(
        {
            "images": list(map(_absolute, job.case.images)),
            "name": job.case.name,
            "view": asdict(job.case.view),
            "mask": _absolute(job.mask),
            "beside": {kind: _absolute(path) for kind, path in job.beside},
            "keeps_mask": job.keeps_mask,
            "overwrite": request.overwrite,
            "map_type": request.map_type,
            "device": request.device,
            "quality": request.quality,
            "folds": None if request.folds is None else list(request.folds),
            "settings": dict(request.settings),
            "limits": [limits.host, limits.device],
        }
    )


def _absolute(path: Path) -> str:
    return str(path) if url_of(path) is not None else str(path.absolute())


def predict_part(model: str, task: str, index: int, count: int) -> str:
    """What a worker does: one share of a scan's blocks, or a scan.

    task : as `_task` writes it

    Returns JSON: what became of it, and what is to be told.
    """
    given: dict[str, Any] = json.loads(task)
    kinds = {kind: Path(path) for kind, path in given["beside"].items()}
    request = Request(
        given["images"],
        model=Path(model),
        overwrite=given["overwrite"],
        device=given["device"],
        probabilities="prob" in kinds,
        uncertainty="uncertainty" in kinds,
        regions="regions" in kinds,
        map_type=given["map_type"],
        quality=given["quality"],
        folds=given["folds"],
        settings={
            key: tuple(value) if isinstance(value, list) else value
            for key, value in given["settings"].items()
        },
        limits=Limits(*given["limits"]),
    )
    view = TypeAdapter(View).validate_python(given["view"])
    case = Case(given["name"], tuple(map(Path, given["images"])), view=view)
    order: tuple[Kind, ...] = get_args(Kind)
    beside = tuple((kind, kinds[kind]) for kind in order if kind in kinds)
    job = Job(case, Path(given["mask"]), beside, keeps_mask=given["keeps_mask"])
    if count > 1:
        job = replace(job, share=Share(index, count))
    notes: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    work = Work(request, iter([(0, job)]), hear)
    run([_predictor(request)], work)
    record = work.done[0]
    return json.dumps(
        {
            "output": record.output is not None,
            "status": record.status,
            "seconds": record.seconds,
            "message": record.message,
            "counts": record.counts,
            "voxel_volume": record.voxel_volume,
            "unit": record.unit,
            "objects": [astuple(each) for each in record.objects],
            "notes": notes,
        }
    )


def _predictor(request: Request) -> Predictor:
    """The model, loaded once by a worker that asks for the same again."""
    wanted = (request.model, request.device, request.quality, request.folds, request.limits)
    key = repr((*wanted, sorted(request.settings.items())))
    with _loading:
        if key not in _loaded:
            # One model at a time: another one is asked for by another command.
            _loaded.clear()
            _loaded[key] = Predictor(
                request.model,
                device=request.device,
                quality=request.quality,
                settings=request.settings,
                folds=request.folds,
                limits=request.limits,
            )
        return _loaded[key]


def _told(result: str, job: Job) -> tuple[FileDone, list[str]]:
    given = json.loads(result)
    record = FileDone(
        job.case.images,
        job.mask if given["output"] else None,
        given["status"],
        given["seconds"],
        given["message"],
        tuple((name, count) for name, count in given["counts"]),
        given["voxel_volume"],
        given["unit"],
        tuple(ObjectCount(*each) for each in given["objects"]),
    )
    return record, given["notes"]


def _lost(error: BaseException | None, job: Job) -> UnetsegError:
    """What the scheduler says of a task as a sentence that names the scan."""
    if isinstance(error, UnetsegError):
        return error
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return DeviceError(
            "every worker that took it was lost",
            where=job.image,
            hint="look at the workers' logs: most often their memory did not suffice",
        )
    return DeviceError(f"failed on a worker: {error or 'cancelled'}", where=job.image)


def _together(parts: Sequence[FileDone], job: Job, predictor: Predictor) -> FileDone:
    """What became of a scan whose parts were done apart."""
    seconds = sum(part.seconds for part in parts)
    by_status = {part.status: part for part in parts}
    if "failed" in by_status:
        return replace(by_status["failed"], seconds=seconds)
    if "done" in by_status:
        return replace(by_status["done"], seconds=seconds)
    if len(parts) == 1:
        return parts[0]
    if job.left(overwrite=False) is None:
        # Finished by a worker that was lost before it could say so.
        return replace(finished(job, predictor.plan.data), seconds=seconds)
    fault = DeviceError("blocks are missing", where=job.image, hint="repeat the command")
    return failure(job.case.images, fault)
