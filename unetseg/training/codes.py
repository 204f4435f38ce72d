"""What a network says of the objects in each case, kept on disk while rules are looked for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from unetseg.records import Scan
from unetseg.tasks.cleaning import Indices

_PREFIX = ".codes-"


@dataclass(eq=False)
class Codes:
    """(*S) codes of cases by their number, each with the scan that it is of, without its voxels."""

    folder: Path
    _scans: dict[int, Scan] = field(default_factory=dict)

    def put(self, number: int, codes: Indices, like: Scan) -> None:
        np.save(self.folder / f"{number}.npy", codes)
        self._scans[number] = like

    def get(self, number: int) -> tuple[Indices, Scan]:
        codes: Indices = np.load(self.folder / f"{number}.npy", mmap_mode="r")
        return codes, self._scans[number]


def remove_codes(run: Path) -> None:
    """Remove what a command that was killed has left."""
    for folder in run.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def codes_beside(run: Path) -> Iterator[Codes]:
    """A place for codes in the run folder, or where this machine has temporary files."""
    place = run if run.is_dir() else None
    with TemporaryDirectory(prefix=_PREFIX, dir=place) as folder:
        yield Codes(Path(folder))
