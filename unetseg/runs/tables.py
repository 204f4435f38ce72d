"""The tables of a run as records: history.csv, and the scores of the validation cases."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetseg.errors import DataError
from unetseg.records import EpochDone

# What history.csv begins with; the mean follows, then a column for each class or IoU.
EPOCH_COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "steps_per_second",
    "waiting",
)
_NAMES = {"dice": "Dice", "ap": "AP"}


@dataclass(frozen=True)
class History:
    """The rows of history.csv.

    score : what validation is judged by: Dice, AP
    columns : what there is a score for: classes, regions, or IoUs
    """

    score: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[EpochDone, ...] = ()

    @property
    def validated(self) -> tuple[EpochDone, ...]:
        """The rows with a score."""
        return tuple(row for row in self.rows if not math.isnan(row.mean))


@dataclass(frozen=True)
class CaseTable:
    """The scores of each case, NaN where not defined.

    score : Dice, AP
    columns : classes, regions, or IoUs
    names : of the cases
    values : a row for each case, a number for each column
    folds : of each case, in a run of all folds
    cleaned : as `values`, of the masks as the model cleans them; empty if it does not
    """

    score: str
    columns: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    folds: tuple[int, ...] = ()
    cleaned: tuple[tuple[float, ...], ...] = ()

    @property
    def means(self) -> tuple[float, ...]:
        """Of each case over the columns that are defined in it; NaN if none is."""
        return tuple(map(mean_of, self.values))


def mean_of(values: Sequence[float]) -> float:
    """The mean of those that are numbers; NaN if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def read_history(path: Path) -> History:
    """The rows of a history.csv; none where there is no file. Raises DataError for another file."""
    header, rows = _read(path)
    if not header:
        return History()
    try:
        width = len(EPOCH_COLUMNS)
        if tuple(header[:width]) != EPOCH_COLUMNS or header[-1] != "best":
            raise ValueError("the columns")
        key = header[width].removeprefix("mean_")
        score = _NAMES[key]
        columns = _without(key, header[width + 1 : -1])
        return History(score, columns, tuple(_epoch(row, width, score) for row in rows))
    except (ValueError, KeyError, IndexError) as error:
        raise _damaged(path, "the history of a training") from error


def _epoch(row: Sequence[str], width: int, score: str) -> EpochDone:
    numbers = [math.nan if cell == "" else float(cell) for cell in row]
    seconds, rate, loss, speed, waiting = numbers[2:width]
    return EpochDone(
        epoch=int(numbers[0]),
        step=int(numbers[1]),
        seconds=seconds,
        learning_rate=rate,
        loss=loss,
        steps_per_second=speed,
        waiting=waiting,
        values=tuple(numbers[width + 1 : -1]),
        mean=numbers[width],
        is_best=bool(numbers[-1]),
        score=score,
    )


def read_case_table(path: Path) -> CaseTable | None:
    """validation.csv or out_of_fold.csv; None if there is no such file.

    Raises DataError if it is another one.
    """
    header, rows = _read(path)
    if not header:
        return None
    try:
        first = 2 if header[1:2] == ["fold"] else 1
        heads = [head for head in header[first:] if not head.startswith("cleaned ")]
        key = heads[0].partition(" ")[0]
        numbers = [
            tuple(math.nan if cell == "" else float(cell) for cell in row[first:]) for row in rows
        ]
        if header[0] != "case" or any(len(row) != len(header) - first for row in numbers):
            raise ValueError("the columns")
        split, has_cleaned = len(heads), len(header) - first > len(heads)
        return CaseTable(
            _NAMES[key],
            _without(key, heads),
            tuple(row[0] for row in rows),
            tuple(row[:split] for row in numbers),
            tuple(int(row[1]) for row in rows) if first == 2 else (),
            tuple(row[split:] for row in numbers) if has_cleaned else (),
        )
    except (ValueError, KeyError, IndexError) as error:
        raise _damaged(path, "a table of scores") from error


def _without(key: str, heads: Sequence[str]) -> tuple[str, ...]:
    if not all(head.startswith(f"{key} ") for head in heads):
        raise ValueError("the columns")
    return tuple(head.removeprefix(f"{key} ") for head in heads)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", where=path) from error
    return header, rows


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"not {what}", where=path, hint="take it away, or undo what was changed in it")
