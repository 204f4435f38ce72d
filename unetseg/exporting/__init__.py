"""Files that other programs open, made of a mask and lying beside it: one module each.

An export is found by its name in the registry EXPORTS.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from unetseg.errors import DataError, UsageError
from unetseg.exporting.marks import is_exported
from unetseg.exporting.shapes import Legend as Legend
from unetseg.exporting.shapes import Shown, looks_like_objects
from unetseg.exporting.tables import read_classes
from unetseg.formats import format_of, split_name
from unetseg.formats.object_classes import ENDING
from unetseg.registry import EXPORTS


class Export(Protocol):
    """What an export must offer.

    suffix : what the name of its file has after the stem of the mask
    """

    suffix: str

    def write(self, mask: Shown, path: Path) -> None:
        """Write it, atomically. Raises DataError if the mask cannot be exported so."""
        ...


def export_path(mask: Path, name: str, folder: Path | None = None) -> Path:
    """Where an export goes: beside the mask, or into a folder, as `{stem}_rois.zip` and so on.

    What belongs to a place in a store (scan.zarr/labels/cells) goes beside the store.
    """
    return _beside(mask, EXPORTS.load(name)().suffix, folder)


def table_path(mask: Path) -> Path:
    """Where the table is that says which class each object has."""
    return _beside(mask, ENDING)


def _beside(mask: Path, suffix: str, folder: Path | None = None) -> Path:
    store = mask
    if format_of(mask).is_folder:
        stores = [each for each in mask.parents if each.name.lower().endswith(_suffixes(mask))]
        store = stores[-1] if stores else mask
    stem = split_name(store)[0].removesuffix("_seg")
    if store != mask:
        stem += f"_{split_name(mask)[0]}"
    return (folder or store.parent) / f"{stem}{suffix}"


def _suffixes(mask: Path) -> tuple[str, ...]:
    return format_of(mask).suffixes


def have_objects(masks: Sequence[Path]) -> bool:
    """Whether the values of masks are ids of objects, by a table beside one or by their looks.

    One such mask is enough: where there are a few objects only, ids look like classes. What cannot
    be read says nothing.
    """
    for mask in masks:
        with suppress(DataError):
            if table_path(mask).is_file() or looks_like_objects(mask):
                return True
    return False


def check_free(paths: Sequence[Path]) -> None:
    """Raise UsageError if one of them is a file that unetseg has not written."""
    for path in paths:
        if path.exists() and not is_exported(path):
            raise UsageError(
                "a file that unetseg has not written is here",
                where=path,
                hint="give another -o, or --overwrite",
            )


def export(
    mask: Path,
    names: Sequence[str],
    legend: Legend,
    folder: Path | None = None,
    scan: Path | None = None,
) -> tuple[Path, ...]:
    """Write exports of a mask file; returns their paths.

    names : of EXPORTS
    legend : where its objects have no classes, these are taken from the table beside the mask
    scan : what the mask was made from; dicom-seg needs the DICOM series

    Raises DataError if the mask cannot be read or the folder cannot be written to, UsageError for
    a name that is not known.
    """
    if legend.has_objects and not legend.classes and table_path(mask).is_file():
        classes, labels = read_classes(table_path(mask), legend.labels)
        legend = Legend(has_objects=True, labels=labels, classes=classes)
    shown = Shown(mask, legend, scan)
    paths = []
    for name in names:
        made: Export = EXPORTS.load(name)()
        path = export_path(mask, name, folder)
        try:
            made.write(shown, path)
        except MemoryError as error:
            raise DataError("a plane does not fit in memory", where=mask) from error
        paths.append(path)
    return tuple(paths)
