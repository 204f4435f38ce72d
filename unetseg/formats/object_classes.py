"""Which class each object of a mask has: a table beside it, `{stem}_objects.csv`."""

import csv
from collections.abc import Iterable
from pathlib import Path

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.spreadsheet import csv_rows

ENDING = "_objects.csv"
COLUMNS = ("id", "class")


def write_classes(path: Path, names: Iterable[str]) -> None:
    """Write a row per object, atomically.

    names : the class of each object, from id 1 on
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(enumerate(names, 1))


def read_classes(path: Path) -> dict[int, str]:
    """The class of each object by its id, as written.

    Raises DataError if the table has no columns id and class, or if an id is no whole number above
    0, or has no class or two.
    """
    header, *rows = csv_rows(path) or [[]]
    names = [cell.strip().casefold() for cell in header]
    if not set(COLUMNS) <= set(names):
        raise DataError(
            "not a table of the classes of objects",
            where=path,
            expected="the columns id,class",
            got=",".join(header) or "an empty file",
            hint="mend it, or take it away: the objects are of one class then",
        )
    places = [names.index(column) for column in COLUMNS]
    classes: dict[int, str] = {}
    # Rows count as in a spreadsheet: the header is row 1.
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        one, name = (row[place].strip() if place < len(row) else "" for place in places)
        if not one.isdecimal() or int(one) == 0:
            raise DataError(f"row {number}: the id is no whole number above 0", where=path, got=one)
        if not name:
            raise DataError(f"row {number}: the object {one} has no class", where=path)
        if classes.setdefault(int(one), name) != name:
            raise DataError(f"row {number}: the object {one} has two classes", where=path)
    return classes
