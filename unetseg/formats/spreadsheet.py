"""Tables as spreadsheets save them: CSV, whatever separates the cells."""

import csv
from pathlib import Path

from unetseg.errors import DataError


def csv_rows(path: Path) -> list[list[str]]:
    """The cells of a CSV file, whatever separates them. Raises DataError if it is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            # Spreadsheets write `;` where the comma separates decimals.
            delimiter = next((mark for mark in ",;\t" if mark in header), ",")
            return list(csv.reader(file, delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(
            "not in UTF-8", where=path, hint="save it as CSV UTF-8 from the spreadsheet"
        ) from error
    except csv.Error as error:
        raise DataError(f"not a CSV file: {error}", where=path, hint="export it again") from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error
