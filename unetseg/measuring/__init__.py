"""Measurements of objects or classes: size, place, shape and intensity, one row each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.listing import some
from unetseg.dataset.masks import BESIDE_MASKS, case_name, is_folder, masks_by_name
from unetseg.dataset.object_classes import object_classes
from unetseg.dataset.pairing import without_channel
from unetseg.dataset.scans import find_scans
from unetseg.errors import DataError, DeviceError, UnetsegError, UsageError
from unetseg.geometry import Box
from unetseg.measuring import surfaces
from unetseg.measuring.rows import Cell, rows_of, union
from unetseg.measuring.rows import Table as Table
from unetseg.measuring.rows import to_csv as to_csv
from unetseg.measuring.rows import write_csv as write_csv
from unetseg.measuring.sums import Sums, sums_of, together
from unetseg.measuring.surfaces import Surfaces, cells_of
from unetseg.measuring.voxels import Voxels, open_voxels
from unetseg.planning.numbering import are_objects
from unetseg.records import Advance, Case, Listener, Note, Stage, ignore_event

# As many parts wait before they are summed up: thousands of boxes hold the same few classes.
_WAITING = 64


@dataclass(frozen=True)
class Measurements:
    """The table of all cases, and the cases that have no rows.

    failures : name of a case, and what kept it from being measured
    """

    table: Table
    failures: tuple[tuple[str, UnetsegError], ...] = ()


def measure(
    scans: Path,
    masks: Path,
    *,
    objects: bool | None = None,
    ignore_value: int | None = None,
    listener: Listener = ignore_event,
) -> Measurements:
    """Measure what is in the masks of scans, whatever their size.

    scans, masks : two files, or two folders whose files are paired by name as predict names them
    objects : whether the values number objects, or name classes; None: as the masks look
    ignore_value : a value that is neither

    Sizes and places are in the unit of each scan's geometry. A value that is in several pieces is
    measured as one.

    A case that fails is recorded, and the others are measured.
    Raises UsageError for a file and a folder, DataError if there is nothing to measure.
    """
    pairs, failures = _paired(Path(scans), Path(masks), listener)
    if objects is None:
        given = [mask for _, mask in pairs]
        objects = are_objects(given, given, "measured", ignore_value, listener)
    listener(Stage("measuring", len(pairs)))
    tables = []
    for case, mask in pairs:
        try:
            tables.append(_table(case, mask, ignore_value, objects=objects))
        except UnetsegError as error:
            failures.append((case.name, error))
        except MemoryError:
            full = DeviceError("too large to be measured in the free memory", where=mask)
            failures.append((case.name, full))
        listener(Advance(case.name))
    return Measurements(union(tables), tuple(failures))


def _paired(
    scans: Path, masks: Path, listener: Listener
) -> tuple[list[tuple[Case, Path]], list[tuple[str, UnetsegError]]]:
    """Scans with their masks, and the scans that have none."""
    if is_folder(scans) != is_folder(masks):
        raise UsageError(
            "a file and a folder cannot be measured",
            expected="a scan and its mask, or two folders",
            got=f"{scans} and {masks}",
        )
    found = find_scans([scans])
    failures = [(str(path), error) for path, error in found.failures]
    if not is_folder(scans):
        return [(case, masks) for case in found.cases], failures
    known = masks_by_name(masks)
    pairs = []
    for case in found.cases:
        name = case_name(case.images[0])
        channel = without_channel(name)
        mask = known.pop(name, None) or (known.pop(channel, None) if channel else None)
        if mask is not None:
            pairs.append((case, mask))
        else:
            error = DataError(f"no mask for {case.images[0].name}", where=masks)
            failures.append((case.name, error))
    if spare := [path.name for name, path in known.items() if not name.endswith(BESIDE_MASKS)]:
        listener(Note(f"{len(spare)} masks have no scan: {some(spare)}"))
    return pairs, failures


def _table(case: Case, mask: Path, ignore_value: int | None, *, objects: bool) -> Table:
    voxels = open_voxels(case, mask)
    sums, meshes = _summed(voxels, ignore_value)
    first: list[tuple[str, list[Cell]]] = [("case", [case.name] * len(sums.ids))]
    ids: list[int] = sums.ids.tolist()
    if objects:
        first.append(("id", list(ids)))
        if (known := object_classes(mask)) is not None:
            first.append(("class", [known.get(number, "") for number in ids]))
    else:
        names = {label.value: label.name for label in voxels.names}
        first.append(("label", list(ids)))
        first.append(("name", [names.get(number, str(number)) for number in ids]))
    return rows_of(first, sums, meshes, voxels)


def _summed(voxels: Voxels, ignore_value: int | None) -> tuple[Sums, Surfaces | None]:
    """What all boxes hold; of volumes the surfaces too."""
    spacing = voxels.geometry.spacing
    cells = cells_of((spacing[0], spacing[1], spacing[2])) if len(spacing) == 3 else None
    sums: list[Sums] = []
    meshes: list[Surfaces] = []
    for box in voxels.boxes():
        labels = voxels.labels(box) if cells is None else _padded(voxels, box)
        if ignore_value is not None:
            labels = np.where(labels == ignore_value, 0, labels)
        if cells is not None:
            meshes.append(cells.surfaces(labels, box[0].start - 1))
            labels = labels[tuple(slice(1, 1 + part.stop - part.start) for part in box)]
        sums.append(sums_of(labels, voxels.image(box), [part.start for part in box]))
        if len(sums) > _WAITING:
            sums = [together(sums)]
            meshes = [surfaces.together(meshes)] if meshes else []
    return together(sums), surfaces.together(meshes) if meshes else None


def _padded(voxels: Voxels, box: Box) -> NDArray[np.integer[Any]]:
    """The labels in a box, with a layer more on the lower sides, and behind the end of the scan.

    So that each cell between voxels is in one box only.
    """
    shape = voxels.geometry.shape
    grown = tuple(slice(max(0, part.start - 1), part.stop) for part in box)
    ends = [(int(p.start == 0), int(p.stop == n)) for p, n in zip(box, shape, strict=True)]
    return np.pad(voxels.labels(grown), ends)
