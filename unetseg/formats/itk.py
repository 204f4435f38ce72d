"""NRRD and MetaImage (MHA, MHD), read through SimpleITK."""

import re
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetseg.errors import DataError
from unetseg.formats.boxes import row_block
from unetseg.formats.boxwise import Gathered, Raw, stored_labels, stored_maps, stored_type
from unetseg.formats.extras import simpleitk
from unetseg.formats.itk_header import ItkGrid, Text, grid_like, text_of
from unetseg.formats.itk_writing import check_name, write_itk
from unetseg.formats.naming import x_first
from unetseg.formats.tiff_writing import InMemory
from unetseg.formats.voxels import (
    check_grid,
    checked_values,
    smallest_integers,
    whole,
)
from unetseg.geometry import Box, sizes_of
from unetseg.records import Label, Mask, Opened, Scan, Source

_PIXEL = re.compile(r"(?:vector of )?(\d+)-bit (unsigned integer|signed integer|float)")
_KINDS = {"unsigned integer": "u", "signed integer": "i", "float": "f"}


class Itk:
    """Array axes are X, Y, Z in the order of the file, the fastest first.

    Several values a voxel are channels, and so is a fourth axis. Positions of 3-D files, LPS
    millimetres in ITK, become RAS millimetres as in NIfTI; those of 2-D files are taken as they
    are. NRRD files that name micrometres are in micrometres.

    A single slice (X, Y, 1) is a 2-D scan, which keeps the edge lengths only; its masks are
    written with the origin and direction of the scan and so lie where the scan lies.
    """

    name = "itk"
    suffixes = (".nrrd", ".nhdr", ".mha", ".mhd")
    is_folder = False

    def open(self, path: Path) -> Opened:
        """The scan by its header alone.

        An uncompressed MetaImage is read in planes; a box of any other file costs all of it.

        Raises DataError for complex values, more than four axes, and files that are shorter than
        their header says; UsageError if SimpleITK is not installed.
        """
        sitk = simpleitk()
        text = text_of(path)
        reader = _reader(sitk, path)
        pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        known = _PIXEL.fullmatch(pixel)
        if known is None:
            raise DataError(
                f"{pixel} values are not supported", hint="save real numbers, as the magnitude"
            )
        dtype = np.dtype(f"{_KINDS[known[2]]}{int(known[1]) // 8}")
        sizes, components = tuple(reader.GetSize()), reader.GetNumberOfComponents()
        grid = _grid(reader, text)
        channels = components * prod(sizes[3:])
        if components > 1 and channels > components:
            raise DataError(
                "more than four axes",
                expected="X, Y, Z and one axis of channels or time points",
                got=(*sizes, components),
                hint="save one file per time point",
            )
        geometry = grid.geometry
        text.check_size(prod(sizes) * components * dtype.itemsize)

        def read(box: Box) -> NDArray[Any]:
            reader = _reader(sitk, path)
            start = [axis.start for axis in box]
            rest = len(sizes) - len(box)
            reader.SetExtractIndex([*start, *[0] * rest])
            reader.SetExtractSize([*sizes_of(box), *sizes[len(box) :]])
            array = sitk.GetArrayFromImage(_read(reader))
            # ITK's array has the slowest axis first, and values of a voxel last.
            array = array.T if components > 1 else np.moveaxis(_as_4d(array.T), -1, 0)
            return checked_values(array.reshape(channels, *sizes_of(box)))

        shape = geometry.shape
        block = row_block(shape[::-1], components * dtype.itemsize)[::-1]
        return Opened(
            geometry,
            tuple(str(channel) for channel in range(channels)),
            dtype,
            Source(path, self.name, grid),
            block if text.is_read_in_parts else shape,
            read,
            axes=x_first(shape, channels),
        )

    def read(self, path: Path) -> Scan:
        """The scan with its grid in `source.header`.

        Raises DataError for what `open` refuses, for damaged voxels and non-finite values.
        """
        return whole(self.open(path))

    def read_labels(self, path: Path) -> Scan:
        """The same as `read`: these formats know no palettes."""
        return self.read(path)

    def mask_suffix(self, path: Path) -> str:
        """One file in place of a header and a file of voxels."""
        return ".mha" if path.name.lower().endswith((".mha", ".mhd")) else ".nrrd"

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a compressed mask with origin, spacing and direction of the scan."""
        check_grid(mask, like)
        write_itk(InMemory(smallest_integers(mask.array)), grid_like(like), path)

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,
        labels: tuple[Label, ...] = (),  # noqa: ARG002 - there is no common place for names
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """A mask that is gathered in a plain file beside `path`, then compressed as a stream."""
        grid = grid_like(like)
        check_name(path, grid)
        kept = np.dtype(dtype)
        raw = _raw(path, like.geometry.shape, kept, like.geometry.ndim)
        return Gathered(
            raw,
            lambda values: stored_labels(values, kept),
            lambda raw: write_itk(raw, grid, path),
        )

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,
        names: tuple[str, ...],
        dtype: DTypeLike = np.float32,
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """Maps as values of a voxel; bytes are 255 times the value.

        Raises DataError for float16, which these formats do not have.
        """
        grid = grid_like(like)
        check_name(path, grid)
        kept = stored_type(dtype)
        if kept == np.float16:
            raise DataError(
                "NRRD and MHA have no 16-bit floats", where=path, hint="choose uint8 or float32"
            )
        raw = _raw(path, (len(names), *like.geometry.shape), kept, like.geometry.ndim)
        return Gathered(
            raw,
            lambda values: stored_maps(values, dtype),
            lambda raw: write_itk(raw, grid, path, len(names)),
        )


def _raw(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], ndim: int) -> Raw:
    return Raw(path, shape, dtype, ndim=ndim, is_x_first=True)


def _reader(sitk: Any, path: Path) -> Any:
    """A reader that knows the header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in (".mha", ".mhd") else "NrrdImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(
            f"damaged header: {_reason(error)}", hint="copy or export the file again"
        ) from error
    return reader


def _read(reader: Any) -> Any:
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise DataError(
            f"the voxels are damaged or cut short: {_reason(error)}",
            hint="copy or export the file again",
        ) from error


def _reason(error: RuntimeError) -> str:
    """What ITK says, without the place in its source and without lines that are for programmers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line.partition("ERROR: ")[2] or line for line in lines[1:]] or lines
    # Objects are named with their address in memory.
    return re.sub(r"\w+\(0x[0-9a-f]+\): ", "", told[0])


def _as_4d(array: NDArray[Any]) -> NDArray[Any]:
    """(X, Y, Z, T) from an array in which the last axes may be missing."""
    return array.reshape(*array.shape, *[1] * (4 - array.ndim))


def _grid(reader: Any, text: Text) -> ItkGrid:
    """The grid of the first two or three axes."""
    n = reader.GetDimension()
    sizes = tuple(reader.GetSize())
    if n > 4:
        raise DataError(
            "more than four axes", got=sizes, hint="save one file per time point or channel"
        )
    direction = np.array(reader.GetDirection()).reshape(n, n)
    if n == 4 and (direction[3, :3].any() or direction[:3, 3].any()):
        raise DataError("a fourth axis that points into space", hint="save one file per entry")
    k = min(n, 3)
    return ItkGrid(
        sizes[:k],
        tuple(reader.GetSpacing()[:k]),
        tuple(reader.GetOrigin()[:k]),
        tuple(float(x) for x in direction[:k, :k].ravel()),
        text.unit,
    )
