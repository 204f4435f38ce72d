"""What a prediction would do with each scan, without doing it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unetseg import checkpoint
from unetseg.dataset import find_scans
from unetseg.dataset.views import for_model
from unetseg.errors import UnetsegError
from unetseg.formats.naming import described
from unetseg.prediction.blocks import in_blocks
from unetseg.prediction.cases import outlook_of
from unetseg.prediction.devices import device_names
from unetseg.prediction.outlook import Outlook, in_units
from unetseg.prediction.places import placed
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.reading import doubts
from unetseg.prediction.request import Request
from unetseg.prediction.times import at_time, in_times
from unetseg.records import Advance, FileDone, Listener, Stage, ignore_event


@dataclass(frozen=True)
class Foreseen:
    """A scan and how it will be done, or why it cannot be.

    fault : one line that names the scan
    axes : how the file is read
    doubts : what may not suit the model
    times : time points, which are done one after another; the outlook is that of one
    """

    scan: Path
    output: Path | None
    outlook: Outlook | None = None
    fault: str = ""
    axes: str = ""
    doubts: tuple[str, ...] = ()
    times: int = 1

    def lines(self) -> list[str]:
        """For a person."""
        found = self.outlook
        if found is None:
            return [self.fault]
        walk, tiling = found.walk, found.tiling
        bits = 8 * walk.dtype.itemsize
        memory = in_units(found.host_bytes)
        if found.device_bytes:
            memory += f", on the device {in_units(found.device_bytes)}"
        return [
            f"{self.scan} -> {self.output}",
            *([f"  axes     {self.axes}"] if self.axes else []),
            *(f"  warning  {doubt}" for doubt in self.doubts),
            f"  scan     {_by(found.scan.shape)}, the network sees {_by(found.grid)}",
            f"  windows  {found.windows} of {_by(tiling.window)}, {walk.batch} at a time",
            f"  waiting  slabs along axis {walk.axis}, {bits} bits a value,"
            f" {in_units(found.waiting_bytes)}"
            f"{', on the device' if walk.on_device else ''}"
            f"{', read and written in blocks' if found.in_blocks else ''}"
            f"{f', in {len(found.parts)} parts' if len(found.parts) > 1 else ''}",
            f"  memory   {memory} at most",
            f"  network  about {_seconds(found.seconds * self.times)}"
            f"{f', for {self.times} time points' if self.times > 1 else ''}",
        ]


def row(found: Foreseen) -> dict[str, Any]:
    """For a program."""
    output = None if found.output is None else str(found.output)
    given: dict[str, Any] = {"scan": str(found.scan), "output": output}
    if found.outlook is None:
        return given | {"fault": found.fault}
    outlook = found.outlook
    return given | {
        "axes": found.axes,
        "warnings": list(found.doubts),
        "times": found.times,
        "shape": list(outlook.scan.shape),
        "grid": list(outlook.grid),
        "window": list(outlook.tiling.window),
        "windows": outlook.windows,
        "batch": outlook.walk.batch,
        "axis": outlook.walk.axis,
        "bits": 8 * outlook.walk.dtype.itemsize,
        "waiting_bytes": outlook.waiting_bytes,
        "parts": len(outlook.parts),
        "in_blocks": outlook.in_blocks,
        "host_bytes": outlook.host_bytes,
        "device_bytes": outlook.device_bytes,
        "network_seconds": round(outlook.seconds * found.times, 2),
    }


def foreseen(request: Request, listener: Listener = ignore_event) -> tuple[Foreseen, ...]:
    """How each scan will be done, from its header alone: not a voxel is read, no file is written.

    A window without content goes through the network, so that its memory and time are measured.
    Raises ModelError, UsageError or DeviceError if nothing can be done at all.
    """
    model = checkpoint.newest_run(Path("runs")) if request.model is None else request.model
    data = checkpoint.load_plan(model).data
    request.check(model, data)
    (device, *_) = device_names(request.device, request.devices, None)
    found = find_scans(tuple(request.inputs), channels=len(data.channels))
    results = [Foreseen(path, None, fault=str(error)) for path, error in found.failures]
    seen = {each.case: each for each in for_model(found.cases, request.view, data)}
    jobs = placed(list(seen), request)
    predictor = Predictor(
        model,
        device=device,
        quality=request.quality,
        settings=request.settings,
        folds=request.folds,
        limits=request.limits,
    )
    listener(Stage("looking at headers", len(jobs)))
    for job in jobs:
        if isinstance(job, FileDone):
            results.append(Foreseen(job.path, None, fault=job.message))
            continue
        try:
            stack = in_times(job, predictor, request)
            one = job if stack is None else replace(job, case=at_time(job.case, 0))
            blocks = None if stack else in_blocks(one, predictor, request)
            outlook = outlook_of(blocks, one, predictor, request)
            opened = seen[job.case].opened
            results.append(
                Foreseen(
                    job.image,
                    job.mask,
                    outlook,
                    axes="" if opened is None else described(opened),
                    doubts=doubts(opened, data, predictor.facts) if opened else (),
                    times=stack.count if stack else 1,
                )
            )
        except UnetsegError as error:
            error.where = error.where or str(job.image)
            results.append(Foreseen(job.image, None, fault=str(error)))
        listener(Advance(job.case.name))
    return tuple(results)


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
