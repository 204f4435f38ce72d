"""File formats: one module each, found by suffix in the FORMATS registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import DTypeLike, NDArray

from unetseg.errors import DataError, UnetsegError, one_line
from unetseg.formats.boxwise import MapsFile, MaskFile
from unetseg.formats.dicom import is_series
from unetseg.formats.remote import local, url_of
from unetseg.formats.viewing import (
    Contents,
    Selective,
    check_fixed,
    contents_of,
    viewed,
    viewed_unread,
)
from unetseg.geometry import Box
from unetseg.records import AS_IT_IS, Label, Mask, Opened, Scan, View
from unetseg.registry import FORMATS


class Format(Protocol):
    """What a file format must offer.

    suffixes : lower case, with the dot, longest first (".nii.gz", ".nii")
    is_folder : a scan is a folder, or a place below one
    """

    name: str
    suffixes: tuple[str, ...]
    is_folder: bool

    def open(self, path: Path) -> Opened:
        """The scan by its header, not a voxel read.

        Raises DataError for whatever `read` refuses and the header tells.
        """
        ...

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

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,
        labels: tuple[Label, ...] = (),
        made_by: str = "",
    ) -> MaskFile:
        """A mask on the grid of `like` that is written box by box.

        Raises DataError if the format, or this file system, cannot do that.
        """
        ...

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,
        names: tuple[str, ...],
        dtype: DTypeLike,
        made_by: str = "",
    ) -> MapsFile:
        """(K, *S) maps on the grid of `like` that are written box by box; see `maps_file`."""
        ...


@runtime_checkable
class Levelled(Protocol):
    """A format whose files may hold an image in smaller copies too."""

    def open_levels(self, path: Path, view: View) -> tuple[Opened, ...]:
        """The smaller copies, the largest first; what cannot be read in boxes is left out."""
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
    # The name of a folder has no suffix: a DICOM series may be called by its number, 1.2.840.
    return (path.name, "") if path.is_dir() else (path.stem, path.suffix)


def format_of(path: Path) -> Format:
    """The format that reads `path`. Raises DataError if no suffix fits."""
    path = Path(path)
    name = path.name.lower()
    fits = [(s, f) for f in _formats() for s in f.suffixes if name.endswith(s)]
    if fits:
        return max(fits, key=lambda fit: len(fit[0]))[1]
    # scan.zarr/labels/cells is a place in a store.
    for format_ in _formats():
        if format_.is_folder and any(
            parent.name.lower().endswith(format_.suffixes) for parent in path.parents
        ):
            return format_
    if is_series(path):
        return next(format_ for format_ in _formats() if format_.name == "dicom")
    raise DataError(
        "no known image format", where=path, expected=" ".join(suffixes()), got=path.suffix
    )


def is_store(path: Path) -> bool:
    """Whether the path is a folder that is a scan: scan.zarr or a place below, a DICOM series."""
    try:
        return path.is_dir() and (format_of(path).is_folder or is_series(path))
    except DataError:
        return False


def _existing(path: Path, format_: Format) -> None:
    if (url := url_of(path)) is not None:
        if not format_.is_folder:
            raise DataError(
                f"{format_.name} is not read from an address",
                where=url,
                expected="a local file, or an OME-Zarr",
                hint="download it",
            )
        return
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error
    if path.is_file() and size == 0:
        raise DataError("the file is empty", where=path, hint="copy or export it again")


def read_scan(path: Path, view: View = AS_IT_IS) -> Scan:
    """Read an image file of any known format.

    Raises DataError, with the file's name, for whatever is wrong with it.
    """
    path, format_ = _readable(path)
    with _telling(path, format_):
        return _seen(_taken(format_, path, view), view)


def open_scan(path: Path, view: View = AS_IT_IS) -> Opened:
    """What `read_scan` reads, by its header: not a voxel is read before a box is asked for.

    A colour picture keeps its three channels even where they are all the same.

    Raises DataError, with the file's name, for whatever is wrong with it; so does `read`.
    """
    path, format_ = _readable(path)
    with _telling(path, format_):
        if isinstance(format_, Selective):
            opened = format_.open(path, view)
        else:
            opened = format_.open(path)
            check_fixed(opened, view)
        opened = viewed_unread(opened, view)
    inner = opened.read

    def read(box: Box) -> NDArray[Any]:
        with _telling(path, format_):
            return inner(box)

    return replace(opened, read=read)


def open_levels(path: Path, view: View = AS_IT_IS) -> tuple[Opened, ...]:
    """The smaller copies of an image that its file holds (a pyramid), the largest first.

    view : as of `open_scan`; its channels and pixel size are left out of account

    Empty where there are none. Raises DataError as `open_scan` does.
    """
    path, format_ = _readable(path)
    with _telling(path, format_):
        return format_.open_levels(path, view) if isinstance(format_, Levelled) else ()


def contents(path: Path, view: View = AS_IT_IS, *, is_mask: bool = False) -> Contents:
    """What is in a file by its header: axes, and how they can be read; scenes.

    view : with axes, these are the only way to read it; with a scene, it is that one's contents

    Raises DataError, with the file's name, for whatever is wrong with it.
    """
    path, format_ = _readable(path)
    with _telling(path, format_):
        if isinstance(format_, Selective):
            return format_.contents(path, view, is_mask=is_mask)
        opened = format_.open(path)
        check_fixed(opened, view)
        return contents_of(opened)


def _readable(path: Path) -> tuple[Path, Format]:
    """The path and its format. Raises DataError if there is nothing to read."""
    path = local(Path(path))
    format_ = format_of(path)
    _existing(path, format_)
    return path, format_


def _taken(format_: Format, path: Path, view: View, *, labels: bool = False) -> Scan:
    """The voxels of a file, at the time point and the scene of a view."""
    if isinstance(format_, Selective):
        return format_.read_labels(path, view) if labels else format_.read(path, view)
    scan = format_.read_labels(path) if labels else format_.read(path)
    check_fixed(scan, view)
    return scan


def _seen(scan: Scan, view: View) -> Scan:
    return scan if view == AS_IT_IS else viewed(scan, view)


@contextmanager
def _telling(path: Path, format_: Format) -> Iterator[None]:
    """Whatever a reader fails with as a DataError that names the file."""
    try:
        yield
    except UnetsegError as error:
        error.where = error.where or str(path)
        raise
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


def read_mask(path: Path, *, is_drawn: bool = True, view: View = AS_IT_IS) -> Mask:
    """Read a label file: integer values, exactly as stored.

    is_drawn : a truth, which is refused if it looks blurred; a prediction is taken as it is
    view : its axes are those of the mask file itself

    Raises DataError if the file is lossy, coloured, fractional, blurred or has several channels.
    """
    from unetseg.formats.labels import checked_labels

    path, format_ = _readable(path)
    with _telling(path, format_):
        scan = _seen(_taken(format_, path, view, labels=True), view)
    return checked_labels(scan, is_drawn=is_drawn)


def write_mask(mask: Mask, path: Path, like: Scan) -> None:
    """Write a mask on the grid of the scan it was made from, atomically."""
    format_of(path).write(mask, path, like)


def mask_file(
    path: Path,
    like: Scan | Opened,
    dtype: DTypeLike,
    labels: tuple[Label, ...] = (),
    made_by: str = "",
) -> MaskFile:
    """A mask on the grid of `like` that is written box by box, in the format that `path` names.

    dtype : integer, large enough for every label value
    labels : the values with their names, where the format has a place for them
    made_by : what the values come from, such as a model and its settings. If given, an unfinished
        OME-Zarr at this path is gone on with, by any number of processes, if it was made by the
        same, and refused otherwise; if not, the file is this object's alone

    Raises DataError for pictures, for unfinished work of another kind, and if the folder cannot
    be written to or the disk is full.
    """
    return format_of(path).mask_file(Path(path), like, dtype, labels, made_by)


def maps_file(
    path: Path,
    like: Scan | Opened,
    names: tuple[str, ...],
    dtype: DTypeLike = "float32",
    made_by: str = "",
) -> MapsFile:
    """(K, *S) maps on the grid of `like`, with K names, that are written box by box.

    dtype : float32, float16, uint8 (255 times the value; a NIfTI's header brings it back to
        0..1), or bool (whether the value is above a half, stored as 0 and 1 of uint8)
    made_by : as of `mask_file`

    Raises DataError for float16 in NIfTI and OME-TIFF, which have no such type, and if the folder
    cannot be written to or the disk is full.
    """
    return format_of(path).maps_file(Path(path), like, names, dtype, made_by)
