"""A scan in, a mask out that lies on it: files, folders, one model load."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from unetseg import checkpoint
from unetseg.config import with_overrides
from unetseg.dataset import find_scans
from unetseg.dataset.loading import load_scan, with_channels
from unetseg.dataset.pairing import without_channel
from unetseg.devices import find_device, measure, memory_errors, usable_precision
from unetseg.errors import DataError, UnetsegError, UsageError
from unetseg.files import write_text
from unetseg.formats import format_of, is_readable, split_name, write_mask
from unetseg.pipeline import Prepared, prepare
from unetseg.records import (
    Advance,
    Case,
    FileDone,
    Label,
    Listener,
    Mask,
    Note,
    Scan,
    Stage,
    ignore_event,
)
from unetseg.tasks import make_task
from unetseg.tasks.segmenting import Segmenter
from unetseg.version import __version__

MANIFEST = "manifest.json"


class Predictor:
    """A trained model, loaded once, ready for scans.

    model : a run folder or a model folder; the newest finished run under ./runs if None
    settings : plan values by dotted key that change the prediction (decode.*)
    folds : which networks of an ensemble; all of them if not given

    Raises ModelError, UsageError or DeviceError.
    """

    def __init__(
        self,
        model: Path | str | None = None,
        *,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
        folds: Sequence[int] | None = None,
    ) -> None:
        self.path = checkpoint.newest_run(Path("runs")) if model is None else Path(model)
        trained = checkpoint.load(self.path, folds)
        plan = trained.plan
        for key in settings or {}:
            if not key.startswith("decode."):
                raise UsageError(
                    "cannot be changed after the training",
                    where=f"--set {key}",
                    expected="a key of the section decode",
                )
        if settings:
            plan = with_overrides(plan, settings, where="--set")
        self.plan = plan
        where = find_device(device)
        self.machine = measure(where)
        precision = usable_precision(plan.training.precision, self.machine)
        self.task = make_task(plan)
        self.folds = trained.folds
        first, *others = (network.placed(where) for network in trained.networks)
        self._segmenter = Segmenter(first, plan, self.task, where, precision, tuple(others))

    @property
    def labels(self) -> tuple[Label, ...]:
        """The values that a mask may hold, with their names."""
        data = self.plan.data
        pairs = zip(data.class_values, data.class_names, strict=True)
        return tuple(Label(value, name) for value, name in pairs)

    def prepare(self, scan: Scan) -> Prepared:
        """The scan on the plan's grid. Raises DataError or ModelError if it does not fit."""
        scan = with_channels(scan, self.plan.data.channels)
        return prepare(scan, self.plan.data)

    def segment(self, prepared: Prepared) -> tuple[Mask, "np.ndarray[Any, np.dtype[np.float32]]"]:
        """The mask on the scan's own grid, and the (K, *S) probabilities behind it."""
        with memory_errors(self._segmenter.device):
            outputs = self._segmenter.outputs(prepared)
        mask = self.task.decode(outputs, prepared.placement.scan)
        return mask, self.task.probabilities(outputs).numpy()

    def __call__(self, scan: Scan | Path | str) -> Mask:
        """The mask of a scan or of an image file."""
        if not isinstance(scan, Scan):
            path = Path(scan)
            scan = load_scan(Case(split_name(path)[0], (path,)))
        return self.segment(self.prepare(scan))[0]


@dataclass(frozen=True)
class Request:
    """What a person asks of a prediction.

    output : a folder, or for a single input a file name; the current folder if None
    folds : which networks of an ensemble; all of them if None
    regions : write a file with a channel per region beside each mask
    command : as it was typed, for the manifest
    """

    inputs: Sequence[str | Path]
    model: Path | None = None
    output: Path | None = None
    folds: Sequence[int] | None = None
    device: str = "auto"
    overwrite: bool = False
    probabilities: bool = False
    regions: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True)
class _Job:
    case: Case
    output: Path


def predict(request: Request, listener: Listener = ignore_event) -> tuple[FileDone, ...]:
    """Write a mask for every input; one that fails does not stop the others.

    The next scan is read and prepared while the device works on this one.
    Raises ModelError, UsageError or DeviceError if nothing can be done at all.
    """
    model = checkpoint.newest_run(Path("runs")) if request.model is None else request.model
    data = checkpoint.load_plan(model).data
    if request.regions and not data.regions:
        raise UsageError(
            "this model has no regions",
            where=model,
            hint="--probabilities writes a map per class",
        )
    found = find_scans(tuple(request.inputs), channels=len(data.channels))
    done = [_failure((path,), error) for path, error in found.failures]
    jobs, refused = _jobs(found.cases, request)
    done += refused
    for record in done:
        listener(record)
    waiting: list[_Job] = []
    skipped: list[_Job] = []
    for job in jobs:
        (skipped if job.output.exists() and not request.overwrite else waiting).append(job)
    for job in skipped:
        record = FileDone(job.case.images, job.output, "skipped", message="already there")
        done.append(record)
        listener(record)
    if not waiting:
        return tuple(done)
    predictor = Predictor(
        model, device=request.device, settings=request.settings, folds=request.folds
    )
    members = f", folds {', '.join(map(str, predictor.folds))}" if predictor.folds else ""
    listener(Note(f"model {model}{members}"))
    listener(Stage("predicting", len(waiting)))
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(_read, predictor, waiting[0].case)
        for index, job in enumerate(waiting):
            current = ahead
            if index + 1 < len(waiting):
                ahead = reader.submit(_read, predictor, waiting[index + 1].case)
            begun = perf_counter()
            try:
                scan, prepared = current.result()
                counts = _one(predictor, scan, prepared, job, request)
            except UnetsegError as error:
                error.where = error.where or str(job.case.images[0])
                record = _failure(job.case.images, error)
            else:
                record = FileDone(
                    job.case.images,
                    job.output,
                    "done",
                    seconds=perf_counter() - begun,
                    counts=counts,
                    voxel_volume=scan.geometry.voxel_volume,
                    unit=f"{scan.geometry.unit}^{scan.geometry.ndim}",
                )
            done.append(record)
            listener(record)
            listener(Advance(job.case.name))
    _write_manifests(done, predictor, request)
    return tuple(done)


def _failure(scans: tuple[Path, ...], error: UnetsegError) -> FileDone:
    return FileDone(scans, None, "failed", message=str(error))


def _read(predictor: Predictor, case: Case) -> tuple[Scan, Prepared]:
    scan = load_scan(case)
    try:
        return scan, predictor.prepare(scan)
    except UnetsegError as error:
        error.where = error.where or str(case.images[0])
        raise


def _one(
    predictor: Predictor, scan: Scan, prepared: Prepared, job: _Job, request: Request
) -> tuple[tuple[str, int], ...]:
    mask, maps = predictor.segment(prepared)
    write_mask(mask, job.output, scan)
    data = predictor.plan.data
    # A region has no map for the background.
    names = data.class_names[1:] if data.regions else data.class_names
    if request.probabilities:
        target = maps_path(job.output, scan.source.path, "prob")
        format_of(target).write_maps(maps, names, target, scan)
    if request.regions:
        target = maps_path(job.output, scan.source.path, "regions")
        format_of(target).write_maps((maps > 0.5).astype(np.uint8), names, target, scan)
    values, counts = np.unique(mask.array, return_counts=True)
    by_value = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return tuple(
        (name, sum(by_value.get(data.label_values[index], 0) for index in indices))
        for name, indices in zip(data.class_names, data.members, strict=True)
    )


def maps_path(mask: Path, scan: Path, kind: str) -> Path:
    """Where what has several channels goes, beside a mask: `{stem}_{kind}`."""
    suffix = format_of(scan).maps_suffix(scan)
    stem = split_name(mask)[0].removesuffix("_seg")
    return mask.with_name(f"{stem}_{kind}{suffix}")


def _jobs(cases: Iterable[Case], request: Request) -> tuple[list[_Job], list[FileDone]]:
    """Where each mask goes, and the cases whose mask would hit an input or another mask."""
    cases = tuple(cases)
    inputs = {_identity(path) for case in cases for path in case.images}
    jobs: list[_Job] = []
    refused = []
    taken: dict[str, Path] = {}
    folder = request.output or Path()
    as_file = request.output is not None and len(cases) == 1 and is_readable(request.output)
    if request.output is not None and not request.output.is_dir() and not as_file:
        if request.output.exists():
            raise UsageError("not a folder", where=request.output, hint="give -o a folder")
        if is_readable(request.output):
            raise UsageError(
                "several inputs cannot go into one file",
                where=request.output,
                hint="give -o a folder",
            )
    for case in cases:
        image = case.images[0]
        try:
            suffix = format_of(image).mask_suffix(image)
        except DataError as error:
            refused.append(_failure(case.images, error))
            continue
        output = folder if as_file else folder / f"{_stem(case)}_seg{suffix}"
        place = _identity(output)
        if place in inputs:
            hit = UsageError(
                "the mask would overwrite an input", where=output, hint="give another -o"
            )
            refused.append(_failure(case.images, hit))
        elif place in taken:
            twice = UsageError(
                "two inputs would give the same mask",
                where=output,
                got=f"{taken[place]} and {image}",
                hint="predict them into different folders",
            )
            refused.append(_failure(case.images, twice))
        else:
            taken[place] = image
            jobs.append(_Job(case, output))
    return jobs, refused


def _stem(case: Case) -> str:
    """The name of the scan's file, without the number of a channel file."""
    stem = split_name(case.images[0])[0]
    channel = without_channel(stem) if len(case.images) > 1 else None
    return channel or stem


def _identity(path: Path) -> str:
    return os.path.normcase(path.resolve())


def _write_manifests(done: Sequence[FileDone], predictor: Predictor, request: Request) -> None:
    """A manifest.json in every folder that received a mask; earlier entries are kept."""
    facts = {
        "unetseg": __version__,
        "model": str(predictor.path.resolve()),
        **({"folds": list(predictor.folds)} if predictor.folds else {}),
        "device": predictor.machine.device,
        "command": request.command,
        "labels": {str(label.value): label.name for label in predictor.labels},
        "regions": {region.name: region.values for region in predictor.plan.data.regions},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folders = {record.output.parent for record in done if record.output is not None}
    for folder in folders:
        path = folder / MANIFEST
        files = _earlier(path)
        for record in done:
            if record.output is None or record.output.parent != folder:
                continue
            if record.status == "skipped" and record.output.name in files:
                continue
            files[record.output.name] = _entry(record)
        failed = [{"scan": str(r.path), "error": r.message} for r in done if r.status == "failed"]
        content = facts | {"files": files, "failed": failed}
        write_text(path, json.dumps(content, indent=1) + "\n")


def _earlier(path: Path) -> dict[str, Any]:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return dict(files)
    except (OSError, ValueError, KeyError, TypeError):
        # No manifest yet, or another program's: there is nothing to carry over.
        return {}


def _entry(record: FileDone) -> dict[str, Any]:
    volumes = {
        name: {"voxels": count, "volume": round(count * record.voxel_volume, 4)}
        for name, count in record.counts
    }
    return {
        "scan": str(record.path.resolve()),
        "status": record.status,
        "seconds": round(record.seconds, 3),
        "unit": record.unit,
        "classes": volumes,
    }
