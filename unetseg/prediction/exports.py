"""What other programs open, written beside a mask that is there."""

from collections.abc import Sequence
from dataclasses import replace

from unetseg.config import DataPlan
from unetseg.errors import UnetsegError
from unetseg.exporting import Legend, export, table_path
from unetseg.exporting.tables import read_classes, write_classes
from unetseg.prediction.places import Job
from unetseg.records import FileDone, Label


def with_exports(job: Job, record: FileDone, data: DataPlan) -> FileDone:
    """The record, with the exports that have been made of its mask, or failed with the reason."""
    if not job.exports or record.status not in ("done", "skipped"):
        return record
    legend = Legend(data.has_objects, _labels(data))
    try:
        export(job.mask, [name for name, _ in job.exports], legend, scan=job.image)
    except UnetsegError as error:
        return replace(record, status="failed", message=str(error))
    return replace(record, exports=tuple(path for _, path in job.exports))


def write_object_classes(classes: Sequence[int], job: Job, data: DataPlan) -> None:
    """Write the table of the objects' classes, as of records.Mask, where there are several."""
    if _has_classes(data):
        write_classes(table_path(job.mask), classes, _labels(data))


def object_classes(job: Job, data: DataPlan) -> tuple[int, ...]:
    """The classes of the objects of a mask that is there, as of records.Mask.

    Raises DataError if the table beside it is damaged.
    """
    table = table_path(job.mask)
    return read_classes(table, _labels(data))[0] if _has_classes(data) and table.is_file() else ()


def _has_classes(data: DataPlan) -> bool:
    """Whether objects are of several classes."""
    return data.has_objects and len(data.class_values) > 2


def _labels(data: DataPlan) -> tuple[Label, ...]:
    return tuple(map(Label, data.class_values, data.class_names))
