"""The Python face: the verbs with plain arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from unetseg.records import AS_IT_IS, FileDone, Listener, View, ignore_event

if TYPE_CHECKING:
    from unetseg.evaluation import Evaluation
    from unetseg.measuring import Measurements
    from unetseg.training import Outcome, Request
    from unetseg.training.cross_validation import CrossValidation


def train(
    data: Path | str,
    run: Path | str,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    view: View = AS_IT_IS,
    listener: Listener = ignore_event,
) -> "Outcome":
    """Train on a folder or CSV file, or resume the run.

    settings : plan values by dotted key, such as {"training.epochs": 20}
    view : the axes, channels and pixel size of the files, where they do not tell them or not truly

    In a script that torchrun has started, its processes train together, each with a device.

    Raises a subclass of UnetsegError that says what is wrong and what to do.
    """
    from unetseg import training
    from unetseg.report.after import report_after
    from unetseg.runs.run_file import refuse_all_folds

    refuse_all_folds(Path(run))
    command = _call("train", data, run, settings=settings)
    with training.joined(_request(data, run, settings, device, view)) as mine:
        mine = replace(mine, command=command, with_report=True)
        outcome = training.train(mine, listener)
        if mine.ranks.is_first:
            report_after(outcome.run, listener)
    return outcome


def cross_validate(
    data: Path | str,
    run: Path | str,
    *,
    folds: int = 5,
    group: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    devices: Sequence[int] = (),
    view: View = AS_IT_IS,
    listener: Listener = ignore_event,
) -> "CrossValidation":
    """Train all folds in one run folder, or those that are missing; keep them as an ensemble.

    group : what keeps cases in one fold: a column of the CSV list, or a regular expression with
        one group that is searched in their names
    devices : as many folds at the same time: cards by number, or on the processor as many as there
        are numbers

    Raises as `train` does.
    """
    from unetseg.devices import several_devices
    from unetseg.report.after import report_after
    from unetseg.training import cross_validation

    asked = {**(settings or {}), "training.fold": 0, "training.folds": folds}
    if group is not None:
        asked["training.group"] = group
    request = replace(
        _request(data, run, asked, device, view),
        command=_call("cross_validate", data, run, folds=folds, group=group, settings=settings),
        with_report=True,
    )
    names = several_devices(device, devices) if devices else ()
    outcome = cross_validation.cross_validate(request, listener, devices=names)
    if outcome.finished:
        report_after(outcome.run, listener)
    return outcome


def _call(name: str, data: Path | str, run: Path | str, **named: Any) -> str:
    """The call in Python, as a person would type it."""
    values = [repr(str(data)), repr(str(run))]
    values += [f"{key}={value!r}" for key, value in named.items() if value is not None]
    return f"unetseg.{name}({', '.join(values)})"


def _request(
    data: Path | str,
    run: Path | str,
    settings: Mapping[str, Any] | None,
    device: str,
    view: View,
) -> "Request":
    from unetseg.config import check_keys
    from unetseg.training import Request

    check_keys(settings or {}, where="settings")
    values = dict(settings or {})
    return Request(Path(data), Path(run), values, device=device, view=view, started=time())


def predict(
    inputs: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    model: Path | str | None = None,
    quality: str = "balanced",
    settings: Mapping[str, Any] | None = None,
    folds: Sequence[int] | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
    regions: bool = False,
    exports: Sequence[str] = (),
    map_type: str = "float32",
    device: str = "auto",
    devices: Sequence[int] = (),
    shard: str | None = None,
    dask: str | None = None,
    memory_bytes: int | None = None,
    device_memory_bytes: int | None = None,
    overwrite: bool = False,
    view: View = AS_IT_IS,
    listener: Listener = ignore_event,
) -> tuple[FileDone, ...]:
    """Write a mask for every scan into the folder `output`; one record per file.

    quality : fast, balanced (as the plan says) or best
    settings : plan values by dotted key that change the prediction, such as
        {"decode.mirror": True}; they win over the quality
    folds : which networks of an ensemble; all of them if not given
    probabilities, uncertainty, regions : what is written beside each mask
    exports : what is made of each mask for other programs, such as ["rois", "geojson"]
    map_type : of probabilities and uncertainty, float32, float16 or uint8
    devices : several at once: cards by number, or on the processor as many as there are numbers
    shard : a part of the scans, such as "0/4", "auto" or "auto/4"
    dask : address of a Dask scheduler whose workers do the work
    view : the axes, channels and pixel size of the files, where they do not tell them or not truly
    memory_bytes, device_memory_bytes : the most that may be used; what is free if not given
    listener : hears one event at a time, from any thread

    A file that fails is among the records with its message. Raises ModelError, UsageError or
    DeviceError if nothing can be done at all.
    """
    from unetseg import prediction
    from unetseg.prediction.outlook import Limits

    several = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    request = prediction.Request(
        several,
        model=None if model is None else Path(model),
        output=Path(output),
        folds=folds,
        device=device,
        devices=devices,
        overwrite=overwrite,
        probabilities=probabilities,
        uncertainty=uncertainty,
        regions=regions,
        exports=exports,
        map_type=map_type,
        quality=quality,
        shard=shard,
        dask=dask,
        settings=dict(settings or {}),
        limits=Limits(memory_bytes, device_memory_bytes),
        view=view,
    )
    return prediction.predict(request, listener)


def evaluate(
    truth: Path | str,
    predicted: Path | str,
    *,
    model: Path | str | None = None,
    tolerance: float | None = None,
    objects: bool | None = None,
    thresholds: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
    ignore_value: int | None = None,
    listener: Listener = ignore_event,
) -> "Evaluation":
    """Score predicted masks against the truth: per class and case in the scans' unit, or objects.

    model : a run whose classes or regions are scored, by name, and whose ignored value is left out
    tolerance : of the surface Dice; the shortest edge of a voxel if not given
    objects : whether the values number objects, which are matched one to one; None: as they look
    thresholds : of the IoU, for the average precision of objects
    ignore_value : of the truth, where nobody knows what is there; the model's if not given
    """
    from unetseg import evaluation

    data = None
    if model is not None:
        from unetseg.checkpoint import load_plan

        data = load_plan(Path(model)).data
    return evaluation.evaluate(
        Path(truth),
        Path(predicted),
        data=data,
        tolerance=tolerance,
        objects=objects,
        thresholds=thresholds,
        ignore_value=ignore_value,
        listener=listener,
    )


def measure(
    scans: Path | str,
    masks: Path | str,
    *,
    objects: bool | None = None,
    ignore_value: int | None = None,
    listener: Listener = ignore_event,
) -> "Measurements":
    """Measure the objects or classes in masks: `.table` has a row for each.

    scans, masks : two files, or two folders whose files are paired by name
    objects : whether the values number objects, or name classes; None: as they look
    ignore_value : a value that is neither
    """
    from unetseg import measuring

    return measuring.measure(
        Path(scans), Path(masks), objects=objects, ignore_value=ignore_value, listener=listener
    )
