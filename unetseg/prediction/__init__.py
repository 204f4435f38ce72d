"""A scan in, a mask out that lies on it: files, folders, one model load."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic

from unetseg import checkpoint
from unetseg.config import with_overrides
from unetseg.dataset import find_scans
from unetseg.dataset.views import for_model
from unetseg.errors import DataError
from unetseg.files import remove_unfinished
from unetseg.prediction import cluster
from unetseg.prediction.devices import device_names
from unetseg.prediction.exports import with_exports
from unetseg.prediction.manifest import write_manifests
from unetseg.prediction.places import Job, dealt, failure, placed
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.reading import reading_notes, size_notes
from unetseg.prediction.request import Request
from unetseg.prediction.running import Work, run
from unetseg.prediction.shares import share_of
from unetseg.records import Event, FileDone, Listener, Note, Stage, ignore_event
from unetseg.tasks.cleaning import cleanings

__all__ = ["Predictor", "Request", "predict"]

_MANIFEST_SECONDS = 30.0


def predict(request: Request, listener: Listener = ignore_event) -> tuple[FileDone, ...]:
    """Write a mask for every input; one that fails does not stop the others.

    The next scan is read and prepared, and the last mask decoded and written, while the device
    works on this one. `listener` hears one event at a time, from any thread.

    Returns what became of each input, in order: first what could not be found, then what is done
    already, then the rest. An interruption leaves whole files only.
    Raises ModelError, UsageError, DataError or DeviceError if nothing can be done at all.
    """
    share = None if request.shard is None else share_of(request.shard, os.environ)
    model = checkpoint.newest_run(Path("runs")) if request.model is None else request.model
    plan = checkpoint.load_plan(model)
    request.check(model, plan.data)
    # Where others compute, the model is here for what it knows of headers.
    is_here = request.dask is None
    devices = device_names(request.device, request.devices, share) if is_here else ("cpu",)
    found = find_scans(tuple(request.inputs), channels=len(plan.data.channels))
    seen = for_model(found.cases, request.view, plan.data)
    everything = placed([each.case for each in seen], request)
    if share is not None:
        # Sorted: shells on several machines may list files in other orders.
        plan = with_overrides(plan, request.settings, where="--set")
        several = len(everything)
        everything = dealt(sorted(everything, key=_name), share, in_blocks=not cleanings(plan))
        listener(Note(f"share {share}: {len(everything)} of {several} scans"))
    told = [failure((path,), error) for path, error in found.failures]
    told += [each for each in everything if isinstance(each, FileDone)]
    waiting: list[Job] = []
    for job in everything:
        if isinstance(job, FileDone):
            continue
        left = job.left(overwrite=request.overwrite)
        if left is not None and left.needs_model:
            waiting.append(left)
            continue
        there = FileDone(job.case.images, job.mask, "skipped", message="already there")
        told.append(there if left is None else with_exports(left, there, plan.data))
    for record in told:
        listener(record)
    if not waiting:
        return tuple(told)
    predictors = [
        Predictor(
            model,
            device=device,
            quality=request.quality,
            settings=request.settings,
            folds=request.folds,
            limits=request.limits,
        )
        for device in devices
    ]
    made = _make_room(waiting)
    listener(Note(_described(predictors, request)))
    cases = {job.case for job in waiting}
    looked = [each for each in seen if each.case in cases]
    for note in reading_notes(looked, plan.data, predictors[0].facts):
        listener(note)
    listener(Stage("predicting", len(waiting)))
    written = monotonic()

    def done() -> tuple[FileDone, ...]:
        return (*told, *(work.done[place] for place in sorted(work.done)))

    def hear(event: Event) -> None:
        nonlocal written
        listener(event)
        if isinstance(event, FileDone) and monotonic() - written > _MANIFEST_SECONDS:
            # What a process that is killed has done is to be known; whether it could be written
            # is said at the end.
            with suppress(DataError):
                write_manifests(done(), predictors[0], request, share)
            written = monotonic()

    completed = partial(with_exports, data=plan.data)
    work = Work(request, iter(enumerate(waiting)), hear, completed)
    try:
        if request.dask is None:
            run(predictors, work)
        else:
            cluster.run_on(request.dask, list(work.left), predictors[0], work)
    finally:
        write_manifests(done(), predictors[0], request, share)
        for folder in made:
            # Where everything failed there is nothing to look at.
            with suppress(OSError):
                folder.rmdir()
    for note in size_notes(tuple(work.done.values()), predictors[0].facts):
        listener(note)
    return done()


def _name(each: Job | FileDone) -> str:
    return (each.image if isinstance(each, Job) else each.path).as_posix()


def _make_room(jobs: Sequence[Job]) -> tuple[Path, ...]:
    """Make the folders of the masks, without what killed writers have left of these masks.

    Returns the folders that were not there.
    Raises DataError if nothing can be written there: now, and not after the first mask.
    """
    names: dict[Path, set[str]] = {}
    made = []
    for job in jobs:
        names.setdefault(job.mask.parent, set()).update(path.name for path in job.outputs)
    for folder, mine in names.items():
        try:
            if not folder.exists():
                made.append(folder)
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0")
        except OSError as error:
            raise DataError(
                f"cannot be written: {error.strerror or error}",
                where=folder,
                hint="check the folder's permissions and free space, or give another -o",
            ) from error
        remove_unfinished(folder, mine)
    return tuple(made)


def _described(predictors: Sequence[Predictor], request: Request) -> str:
    first = predictors[0]
    if request.dask is not None:
        return f"model {first.path}, on the workers of {request.dask}"
    text = f"model {first.path}"
    if first.folds:
        text += f", folds {', '.join(map(str, first.folds))}"
    if request.quality != "balanced":
        decode = first.plan.decode
        mirrors = decode.mirror and first.plan.training.augment.mirror_axes
        text += f", {request.quality}: overlap {decode.overlap:g}, windows up to"
        text += " a patch" if decode.window == 1 else f" {decode.window:g} patches long"
        text += f", {'mirroring' if mirrors else 'no mirroring'}"
    if len(predictors) > 1:
        text += f", on {', '.join(predictor.machine.device for predictor in predictors)}"
    return text
