"""File formats: one module each, found by suffix in the FORMATS registry."""

from functools import cache
from pathlib import Path
from typing import Protocol

from unetseg.errors import DataError, one_line
from unetseg.formats.voxels import Maps
from unetseg.records import Mask, Scan
from unetseg.registry import FORMATS


class Format(Protocol):
    """What a file format must offer.

    suffixes : lower case, with the dot, longest first (".nii.gz", ".nii")
    """

    name: str
    suffixes: tuple[str, ...]

    def read(self, path: Path) -> Scan:
        """The scan as stored: dtype kept, channels first, the other axes never transposed.

        Raises DataError for anything that is not a whole, finite, real-valued 2-D or 3-D image.
        """
        ...

    def read_labels(self, path: Path) -> Scan:
        """Like `read`, but with the numbers that a mask stores (palette indices, not colours)."""
        ...

    def mask_suffix(self, path: Path) -> str:
        """The suffix of a mask for a scan named `path`: same format family, lossless."""
        ...

    def maps_suffix(self, path: Path) -> str:
        """The suffix of float32 or uint8 maps for a scan named `path`."""
        ...

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a mask on the grid of `like`, atomically.

        The type is the smallest unsigned one that holds the values, or the smallest signed
        one where there are negative values.
        """
        ...

    def write_maps(self, maps: Maps, names: tuple[str, ...], path: Path, like: Scan) -> None:
        """Write (K, *S) float32 or uint8 maps on the grid of `like`, atomically."""
        ...


@cache
def _formats() -> tuple[Format, ...]:
    return tuple(FORMATS.load(name)() for name in FORMATS)


@cache
def suffixes() -> tuple[str, ...]:
    """Every suffix that can be read, longest first."""
    known = {suffix for format_ in _formats() for suffix in format_.suffixes}
    return tuple(sorted(known, key=lambda suffix: (-len(suffix), suffix)))


def is_readable(path: Path) -> bool:
    """Whether the name ends in a known suffix and is not a hidden or macOS `._` file."""
    return not path.name.startswith(".") and path.name.lower().endswith(suffixes())


def split_name(path: Path) -> tuple[str, str]:
    """Stem and suffix of a file name, `.nii.gz` and `.ome.tif` counted as one suffix."""
    for suffix in suffixes():
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.stem, path.suffix


def format_of(path: Path) -> Format:
    """The format that reads `path`. Raises DataError if no suffix fits."""
    name = path.name.lower()
    fits = [(s, f) for f in _formats() for s in f.suffixes if name.endswith(s)]
    if not fits:
        raise DataError(
            "no known image format", where=path, expected=" ".join(suffixes()), got=path.suffix
        )
    return max(fits, key=lambda fit: len(fit[0]))[1]


def _existing(path: Path) -> Path:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error
    if path.is_file() and size == 0:
        raise DataError("the file is empty", where=path, hint="copy or export it again")
    return path


def read_scan(path: Path) -> Scan:
    """Read an image file of any known format.

    Raises DataError, with the file's name, for whatever is wrong with it.
    """
    return _read(path, labels=False)


def _read(path: Path, *, labels: bool) -> Scan:
    path = Path(path)
    format_ = format_of(path)
    _existing(path)
    try:
        return format_.read_labels(path) if labels else format_.read(path)
    except DataError as error:
        if error.where:
            raise
        raise DataError(
            error.what, where=path, expected=error.expected, got=error.got, hint=error.hint
        ) from error
    except MemoryError as error:
        raise DataError("does not fit in memory", where=path) from error
    except PermissionError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error
    except Exception as error:
        # A damaged file can make a reader fail in any way; the person needs to know which file.
        reason = one_line(error) or type(error).__name__
        raise DataError(
            f"not a readable {format_.name} file: {reason}",
            where=path,
            hint="copy or export it again",
        ) from error


def read_mask(path: Path, *, is_drawn: bool = True) -> Mask:
    """Read a label file: integer values, exactly as stored.

    is_drawn : a truth, which is refused if it looks blurred; a prediction is taken as it is

    Raises DataError if the file is lossy, coloured, fractional, blurred or has several channels.
    """
    from unetseg.formats.labels import checked_labels

    return checked_labels(_read(path, labels=True), is_drawn=is_drawn)


def write_mask(mask: Mask, path: Path, like: Scan) -> None:
    """Write a mask on the grid of the scan it was made from, atomically."""
    format_of(path).write(mask, path, like)
