"""A CSV file with a row per case: image, label (or mask, truth), split and others if wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetseg.dataset.listing import counted, is_there, listed, some, without_suffix
from unetseg.dataset.readings import Reading
from unetseg.errors import DataError, nearest, one_line
from unetseg.formats import is_readable
from unetseg.formats.spreadsheet import csv_rows
from unetseg.records import Case, Finding, Split

IMAGE_COLUMNS = ("image", "images")
LABEL_COLUMNS = ("label", "labels", "mask", "masks", "truth")
SPLITS: dict[str, Split] = {"": "train", "train": "train", "val": "val", "test": "test"}
CHANNEL_SEPARATOR = ";"


@dataclass(frozen=True)
class _Columns:
    image: int
    label: int
    split: int | None
    others: tuple[tuple[str, int], ...] = ()


def is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and not path.name.startswith(".")


def table_in(folder: Path) -> Reading | None:
    """The CSV file in a folder, if exactly one has the columns."""
    tables = [path for path in listed(folder).others if is_table(path)]
    readable = [path for path in tables if _has_columns(path)]
    return read_table(readable[0]) if len(readable) == 1 else None


def read_table(path: Path) -> Reading:
    """Read a CSV file; relative paths in it start at its own folder.

    Several channel files of an image are separated by `;`. An empty split means train.
    Raises DataError if the file is no UTF-8 CSV file or lacks the columns.
    """
    rows = csv_rows(path)
    columns = _columns(rows[0]) if rows else None
    if columns is None:
        raise DataError(
            "not a table of images and masks",
            where=path,
            expected="the columns image,label and perhaps split (train, val, test)",
            got=",".join(rows[0]) if rows else "an empty file",
        )
    cases: list[Case] = []
    scans: list[Case] = []
    findings: list[Finding] = []
    bare: list[str] = []
    named = 0
    first: dict[tuple[Path, ...], int] = {}
    # Rows count as in a spreadsheet: the header is row 1.
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        case, faults = _case(row, columns, path.parent)
        named += case.truth is not None
        if not faults and case.images in first:
            faults = [f"is the same image as row {first[case.images]}"]
        findings += [
            Finding("error", str(path), f"row {number}: {fault}", kind="table") for fault in faults
        ]
        if faults:
            continue
        first[case.images] = number
        (cases if case.truth else scans).append(case)
        if case.truth is None:
            bare.append(f"row {number}")
    if bare:
        sentence = f"{counted(len(bare), 'image')} without a mask: {some(bare)}"
        findings.append(Finding("warning", str(path), sentence, "they are left out", "unpaired"))
    return Reading(
        "CSV",
        f"{path.name}, a row per case",
        tuple(cases),
        tuple(scans),
        masks=named,
        findings=tuple(findings),
    )


def _has_columns(path: Path) -> bool:
    try:
        rows = csv_rows(path)
    except DataError:
        return False
    return bool(rows) and _columns(rows[0]) is not None


def _columns(header: Sequence[str]) -> _Columns | None:
    names = [cell.strip().casefold() for cell in header]
    found = [
        [index for index, name in enumerate(names) if name in wanted]
        for wanted in (IMAGE_COLUMNS, LABEL_COLUMNS, ("split",))
    ]
    images, labels, splits = found
    # Two columns that could both be the mask are not for us to choose from.
    if len(images) != 1 or len(labels) != 1 or len(splits) > 1:
        return None
    taken = {*images, *labels, *splits}
    others = tuple(
        (cell.strip(), index)
        for index, cell in enumerate(header)
        if index not in taken and cell.strip()
    )
    return _Columns(images[0], labels[0], splits[0] if splits else None, others)


def _case(row: Sequence[str], columns: _Columns, folder: Path) -> tuple[Case, list[str]]:
    """The case of a row, and what is wrong with it."""
    faults = []

    def cell(index: int | None) -> str:
        return row[index].strip() if index is not None and index < len(row) else ""

    cells = cell(columns.image).split(CHANNEL_SEPARATOR)
    names = [name.strip() for name in cells if name.strip()]
    images = tuple(folder / name for name in names)
    truth = folder / cell(columns.label) if cell(columns.label) else None
    if not images:
        faults.append("no image is named")
    for file in (*images, *((truth,) if truth else ())):
        if not is_there(file):
            slashes = " (between folders, write / for \\)" if "\\" in file.name else ""
            faults.append(f"{one_line(file)} is not there{slashes}")
        elif not is_readable(file):
            faults.append(f"{one_line(file)} is of no known image format")
    if truth in images:
        faults.append(f"{one_line(truth)} is named both as image and as mask")
    split = cell(columns.split).casefold()
    if split not in SPLITS:
        faults.append(f"the split {one_line(split)} is unknown; {nearest(split, SPLITS)}")
    name = without_suffix(Path(names[0])) if names else ""
    others = tuple((title, cell(index)) for title, index in columns.others)
    return Case(name, images, truth, SPLITS.get(split, "train"), others), faults
