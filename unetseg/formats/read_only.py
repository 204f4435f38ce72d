"""What formats have in common that are read and not written."""

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from unetseg.errors import DataError
from unetseg.formats.boxwise import MapsFile, MaskFile
from unetseg.records import Label, Mask, Opened, Scan


class ReadOnly:
    """The writing half of a Format whose masks are of another one.

    told : what is said if somebody asks for such a file all the same
    hint : what to ask for
    """

    told: str
    hint: str

    def write(self, mask: Mask, path: Path, like: Scan) -> None:  # noqa: ARG002
        """Raises DataError."""
        raise self._refused(path)

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,  # noqa: ARG002
        dtype: DTypeLike,  # noqa: ARG002
        labels: tuple[Label, ...] = (),  # noqa: ARG002
        made_by: str = "",  # noqa: ARG002
    ) -> MaskFile:
        """Raises DataError."""
        raise self._refused(path)

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,  # noqa: ARG002
        names: tuple[str, ...],  # noqa: ARG002
        dtype: DTypeLike = np.float32,  # noqa: ARG002
        made_by: str = "",  # noqa: ARG002
    ) -> MapsFile:
        """Raises DataError."""
        raise self._refused(path)

    def _refused(self, path: Path) -> DataError:
        return DataError(self.told, where=path, hint=self.hint)
