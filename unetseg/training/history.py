"""The log and the tables of a run: a line per epoch, the score of every validation case."""

import csv
import io
import math
from datetime import UTC, datetime
from pathlib import Path

from unetseg.files import append_line, write_text
from unetseg.records import EpochDone
from unetseg.training.scores import Score
from unetseg.training.validation import Validation


def append_log(path: Path, text: str) -> None:
    """Append a line with the time before it. Raises DataError if that is not possible."""
    append_line(path, f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}")


def append_history(path: Path, row: EpochDone, score: Score) -> None:
    """Append a line, with the header before the first; a cell is empty where not measured.

    The file is written anew, so that no disk that is full leaves half a line.
    Raises DataError if it cannot be written.
    """
    names = ["epoch", "step", "seconds", "learning_rate", "loss", "steps_per_second", "waiting"]
    numbers = [row.seconds, row.learning_rate, row.loss, row.steps_per_second, row.waiting]
    cells = [row.epoch, row.step, *numbers, row.mean, *row.values]
    text = ["" if isinstance(c, float) and math.isnan(c) else f"{c:.6g}" for c in cells]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if path.is_file():
        buffer.write(path.read_text(encoding="utf-8"))
    else:
        writer.writerow([*names, f"mean_{score.key}", *score.heads(), "best"])
    writer.writerow([*text, int(row.is_best)])
    write_text(path, buffer.getvalue())


def forget_after(path: Path, step: int) -> None:
    """Leave out the lines of later steps: a resumed training takes them again."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    kept = [row for row in rows if int(row[1]) <= step]
    if len(kept) < len(rows):
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([header, *kept])
        write_text(path, buffer.getvalue())


def write_validation(path: Path, validation: Validation) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["case", *validation.score.heads()])
    for name, values in zip(validation.names, validation.cases, strict=True):
        writer.writerow([name, *("" if math.isnan(v) else f"{v:.6f}" for v in values)])
    write_text(path, buffer.getvalue())
