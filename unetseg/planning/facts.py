"""What one case contributes to the fingerprint, from reading it once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.listing import counted, some
from unetseg.dataset.loading import load_scan, load_truth
from unetseg.dataset.object_classes import class_table, object_classes
from unetseg.errors import DataError
from unetseg.geometry import Unit
from unetseg.planning.digests import voxel_digest
from unetseg.planning.numbering import single_pieces
from unetseg.records import Case, Scan

# Enough for percentiles to three digits, little enough for thousands of cases.
_SAMPLES_PER_CASE = 4000


@dataclass(frozen=True)
class CaseFacts:
    """What one case contributes. Shapes and spacings are in canonical axis order.

    counts : voxels per label value, without the ignored one
    classes : of the objects in its class table, None if it has none
    notes : what was recognised in its file, see records.Axes
    digests : of the voxels of its scan and of its truth
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: Unit
    channels: tuple[str, ...]
    is_picture: bool
    minimum: float
    zero_share: float
    ignored_share: float
    counts: tuple[tuple[int, int], ...]
    single_pieces: float
    samples: NDArray[np.float32]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    digests: tuple[bytes, bytes] = (b"", b"")


# Sees a case while it is in memory: its scan, its truth (*S) without the ignored value, its facts.
Look = Callable[[Case, Scan, NDArray[np.integer[Any]], CaseFacts], None]


def is_turned(scan: Scan) -> bool:
    """Whether the axes of such scans have a place in the body: volumes in millimetres."""
    return scan.geometry.ndim == 3 and scan.geometry.unit == "mm"


def case_facts(case: Case, ignore_value: int | None = None, look: Look | None = None) -> CaseFacts:
    """Read one case, and let `look` see it. Raises DataError for whatever is wrong with it."""
    scan = load_scan(case)
    truth = load_truth(case, scan.geometry).array
    flat, shape = scan.array.reshape(len(scan.array), -1), scan.array.shape
    digests = voxel_digest(flat, shape), voxel_digest(truth, truth.shape)
    values, counts = np.unique(truth, return_counts=True)
    ignored_share = 0.0
    if ignore_value is not None and ignore_value in values:
        is_known = values != ignore_value
        ignored_share = float(counts[~is_known].sum() / truth.size)
        values, counts = values[is_known], counts[is_known]
        truth = np.where(truth == ignore_value, 0, truth)
    order = scan.geometry.canonical()[0] if is_turned(scan) else range(scan.geometry.ndim)
    foreground = np.flatnonzero(truth.ravel())
    if len(foreground) > _SAMPLES_PER_CASE:
        picked = np.linspace(0, len(foreground) - 1, _SAMPLES_PER_CASE).astype(np.intp)
        foreground = foreground[picked]
    pieces = 1.0
    if len(values) > 8:
        pieces = single_pieces(truth)
    facts = CaseFacts(
        name=case.name,
        shape=tuple(scan.geometry.shape[axis] for axis in order),
        spacing=tuple(scan.geometry.spacing[axis] for axis in order),
        unit=scan.geometry.unit,
        channels=scan.channels,
        is_picture=scan.is_picture,
        minimum=float(flat.min()),
        zero_share=float((flat == 0).all(axis=0).mean()),
        ignored_share=ignored_share,
        counts=tuple(zip(values.tolist(), counts.tolist(), strict=True)),
        single_pieces=pieces,
        samples=flat[:, foreground].astype(np.float32),
        classes=_classes(case, values),
        notes=scan.axes.notes if scan.axes else (),
        digests=digests,
    )
    if look is not None:
        look(case, scan, truth, facts)
    return facts


def _classes(case: Case, values: NDArray[np.integer[Any]]) -> tuple[str, ...] | None:
    """The classes of a case's objects. Raises DataError if one of them has none."""
    table = None if case.truth is None else object_classes(case.truth)
    if case.truth is None or table is None:
        return None
    missing = [str(value) for value in values.tolist() if value and value not in table]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'object')} without a class: {some(missing)}",
            where=class_table(case.truth),
        )
    return tuple(sorted(set(table.values())))
