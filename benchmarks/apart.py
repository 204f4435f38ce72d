"""A function of a benchmark in a process of its own: its seconds and its peak memory, honestly.

    python benchmarks/apart.py MODULE:FUNCTION SETTINGS.json RESULT.json

A peak never goes down again, and a process that was started inherits its parent's in what wait
says (ru_maxrss); so the peak is read inside, from the high-water mark of the process's own memory.
Seconds are those of the stages that the function names; starting Python and the imports before
them are in `start_seconds`.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accuracy import REPOSITORY, surroundings
from recompute import peak_bytes

if TYPE_CHECKING:
    # It needs torch, which what runs here may not want in its memory.
    from train import Results

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Written to clear_refs it sets the high-water mark to what is resident now.
_RESET_PEAK = "5"

Row = dict[str, Any]
# Columns of a table: heading, key, format.
TIMES = [("seconds", "seconds", ".2f"), ("peak GB", "peak_bytes", ".2f")]


class Failed(Exception):
    """The process did not end well; the last line that it wrote."""


@dataclass(frozen=True)
class Work:
    """What is to be measured.

    function : module:name of a function that takes a Stages and the settings, and returns a Row
    python : the interpreter, which may be another environment's
    """

    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable


class Stages:
    """Seconds and peak memory of the named parts of the work in this process."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.taken: dict[str, Row] = {}
        self._peak = 0

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        if self.begun is None:
            self.begun = time.time()
        self._peak = max(self._peak, peak_bytes())
        if _CLEAR.exists():
            _CLEAR.write_text(_RESET_PEAK)
        resident, begun = resident_bytes(), time.perf_counter()
        yield
        seconds = time.perf_counter() - begun
        self.taken[name] = {
            "seconds": round(seconds, 3),
            "peak_bytes": peak_bytes(),
            "before_bytes": resident,
        }

    @property
    def peak_bytes(self) -> int:
        """Of the whole process; a stage begins at the level of its own."""
        return max(self._peak, peak_bytes())


def resident_bytes() -> int | None:
    """What this process has in memory now, where the system says so."""
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def measured(work: Work) -> Row:
    """Do the work in a process of its own.

    Returns what the function returned, with `stages`, `seconds` (their sum), `peak_bytes` of the
    process, `start_seconds` and `process_seconds`. Raises Failed.
    """
    with tempfile.TemporaryDirectory() as name:
        asked, given = Path(name) / "settings.json", Path(name) / "result.json"
        asked.write_text(json.dumps({"begun": time.time(), **work.settings}, default=str))
        command = [work.python, __file__, work.function, str(asked), str(given)]
        # The code that is measured is the one beside this file, whatever is installed.
        path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        begun = time.perf_counter()
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )
        seconds = time.perf_counter() - begun
        if done.returncode or not given.is_file():
            said = done.stderr.strip().splitlines()
            sys.stderr.write(done.stderr)
            raise Failed(said[-1] if said else f"exit code {done.returncode}")
        return json.loads(given.read_text()) | {"process_seconds": round(seconds, 3)}


def in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, Row]:
    """Each work `rounds` times, in turns, so that a disturbance of the machine hits all alike.

    Returns by name the row of the median seconds, with the seconds of all rounds.
    """
    rows: dict[str, list[Row]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            if len(rows[name]) < number:
                # It has failed before.
                continue
            print(f"  {name} ...", file=sys.stderr, flush=True)
            try:
                rows[name].append(measured(work))
            except Failed as error:
                print(f"  {name} failed: {error}", flush=True)
    result = {}
    for name, members in rows.items():
        if not members:
            continue
        taken = [row["seconds"] for row in members]
        middle = statistics.median_low(taken)
        row = next(row for row in members if row["seconds"] == middle)
        peak = max(row["peak_bytes"] for row in members)
        result[name] = row | {"peak_bytes": peak, "rounds": taken}
    return result


def table(rows: Mapping[str, Row], columns: Sequence[tuple[str, str, str]], first: str) -> str:
    """Rows by name as text; of a column its heading, its key, and its format."""
    width = max(map(len, (first, *rows)))
    widths = [max(len(heading), 9) for heading, _, _ in columns]
    heading = " ".join(f"{c[0]:>{w}}" for c, w in zip(columns, widths, strict=True))
    lines = [f"{first:{width}} {heading}"]
    for name, row in rows.items():
        cells = []
        for (_, key, form), w in zip(columns, widths, strict=True):
            value = row.get(key)
            if key.endswith("_bytes") and value is not None:
                value /= 1e9
            cells.append(f"{'-' if value is None else format(value, form):>{w}}")
        lines.append(f"{name:{width}} {' '.join(cells)}")
    return "\n".join(lines)


def keep(results: "Results", part: str, rows: dict[str, Row], **facts: object) -> None:
    """Add the rows to the file, each with what the numbers depend on."""
    around = surroundings()
    results.add(part, *({"who": name, **facts, **row, **around} for name, row in rows.items()))


def main() -> None:
    """In the process that is measured."""
    word, asked, given = sys.argv[1:]
    settings = json.loads(Path(asked).read_text())
    started = settings.pop("begun")
    module, _, name = word.partition(":")
    stages = Stages()
    row = getattr(importlib.import_module(module), name)(stages, **settings) or {}
    row |= {
        "stages": stages.taken,
        "seconds": round(sum(stage["seconds"] for stage in stages.taken.values()), 3),
        "peak_bytes": stages.peak_bytes,
        "start_seconds": round((stages.begun or time.time()) - started, 3),
    }
    Path(given).write_text(json.dumps(row))


if __name__ == "__main__":
    main()
