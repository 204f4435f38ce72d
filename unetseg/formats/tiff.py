"""TIFF: OME-TIFF, ImageJ, BigTIFF and plain files, with any compression."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, TiffFile, TiffPageSeries

from unetseg.errors import DataError
from unetseg.formats.boxwise import Gathered, Raw, stored_labels, stored_maps, stored_type
from unetseg.formats.tiff_axes import roles
from unetseg.formats.tiff_boxes import box_reader
from unetseg.formats.tiff_checks import check_whole, complaints, single_image
from unetseg.formats.tiff_metadata import channel_names, has_axes, spacing_and_unit
from unetseg.formats.tiff_writing import InMemory, check_upright, is_ome, write_tiff
from unetseg.formats.voxels import (
    COLOURS,
    check_grid,
    checked_values,
    grey_or_colours,
    smallest_integers,
)
from unetseg.geometry import Box, Geometry, Unit
from unetseg.records import Label, Mask, Opened, Scan, Source

_LOSSY = {COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.JPEG_LOSSY}


@dataclass(frozen=True)
class TiffHeader:
    """What only a TIFF knows.

    kind : ome, imagej, shaped (written by tifffile), uniform, generic, ...
    lossy : the name of the compression if it changes values, else empty
    """

    kind: str
    lossy: str = ""


class Tiff:
    """Array axes are (C, Z, Y, X) or (C, Y, X); axes of size 1 are dropped, Y and X never.

    Axes, pixel size and channel names come from OME-XML or ImageJ metadata; see `roles` for
    axes without a name and `spacing_and_unit` for pixel sizes. RGB and palette images are
    pictures: three colours, or one channel `grey` if they are all the same, without alpha.
    White-is-zero images are inverted unless they come from programs that mean the numbers.
    """

    name = "tiff"
    suffixes = (".ome.tiff", ".ome.tif", ".ome.btf", ".tiff", ".tif", ".btf")
    is_folder = False

    def open(self, path: Path) -> Opened:
        """The only image of the file by its tags; tiles and strips are read as they are needed.

        A colour picture keeps its three channels, whether or not they are all the same, and a
        fourth 16-bit sample is taken for a channel: the voxels would have to be seen.

        Raises DataError for several images, time points, complex values, and for files that are
        too short for what they promise.
        """
        return _open(path)

    def read(self, path: Path) -> Scan:
        """The only image of the file, at full resolution where there is a pyramid.

        Raises DataError for what `open` refuses and for non-finite values.
        """
        return _read(path, is_mask=False)

    def read_labels(self, path: Path) -> Scan:
        """The numbers as stored; an axis without a name is Z, since a mask has no channels."""
        return _read(path, is_mask=True)

    def mask_suffix(self, path: Path) -> str:
        name = path.name.lower()
        return next((suffix for suffix in self.suffixes if name.endswith(suffix)), ".tif")

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a mask: OME-TIFF by suffix, else readable by ImageJ where that is possible."""
        check_grid(mask, like)
        write_tiff(InMemory(smallest_integers(mask.array)), mask.geometry, path)

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,
        labels: tuple[Label, ...] = (),  # noqa: ARG002 - TIFF has no place for names
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """A mask that is gathered in a plain file beside `path`, then written tile by tile."""
        check_upright(like.geometry, path)
        kept = np.dtype(dtype)
        raw = Raw(path, like.geometry.shape, kept, ndim=like.geometry.ndim)
        return Gathered(
            raw,
            lambda values: stored_labels(values, kept),
            lambda raw: write_tiff(raw, like.geometry, path),
        )

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,
        names: tuple[str, ...],
        dtype: DTypeLike = np.float32,
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """Maps with axes CZYX or CYX; bytes are 255 times the value.

        Raises DataError for float16 in an OME-TIFF, which does not have it.
        """
        check_upright(like.geometry, path)
        kept = stored_type(dtype)
        if kept == np.float16 and is_ome(path):
            raise DataError(
                "OME-TIFF has no 16-bit floats", where=path, hint="choose uint8 or float32"
            )
        raw = Raw(path, (len(names), *like.geometry.shape), kept, ndim=like.geometry.ndim)
        return Gathered(
            raw,
            lambda values: stored_maps(values, dtype),
            lambda raw: write_tiff(raw, like.geometry, path, names),
        )


@dataclass(frozen=True)
class _Layout:
    """What the tags tell of the image.

    axes : one letter per axis that is kept, see `roles`
    shape : their sizes
    spacing, unit : of the axes of space
    """

    image: TiffPageSeries
    axes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: Unit
    is_mask: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        return checked_values(np.zeros(1, self.image.dtype)).dtype

    @property
    def channel_axis(self) -> int | None:
        """The axis of channels or colours."""
        return next((k for k, letter in enumerate(self.axes) if letter in "CS"), None)

    def channels_first(self, array: NDArray[Any]) -> NDArray[Any]:
        """(C, *S) from an array with the axes of the file."""
        array = checked_values(array)
        axis = self.channel_axis
        return array[np.newaxis] if axis is None else np.moveaxis(array, axis, 0)


@contextmanager
def _laid_out(path: Path, *, is_mask: bool) -> Iterator[tuple[TiffFile, _Layout]]:
    """The open file and the one image in it, found to be whole."""
    with complaints() as errors, TiffFile(path) as tiff:
        image = single_image(tiff)
        check_whole(tiff, image)
        if errors:
            raise DataError(f"damaged TIFF: {errors[0]}", hint="copy or export it again")
        kept = [k for k, size in enumerate(image.shape) if size > 1 or image.axes[k] in "YX"]
        axes = _letters(image, kept)
        shape = tuple(image.shape[k] for k in kept)
        found = roles(shape, axes, is_plain=not has_axes(image), is_mask=is_mask)
        spatial = "".join(letter for letter in found if letter in "ZYX")
        spacing, unit = spacing_and_unit(tiff, image, spatial)
        yield tiff, _Layout(image, found, shape, spacing, unit, is_mask)


def _read(path: Path, *, is_mask: bool) -> Scan:
    with _laid_out(path, is_mask=is_mask) as (tiff, layout):
        image = layout.image
        array = layout.channels_first(image.asarray().reshape(layout.shape))
        are_colours = _are_colours(layout, len(array), array)
        array, is_picture = _displayed(array, layout, are_colours=are_colours)
        if is_picture:
            array, names = grey_or_colours(array)
        else:
            names = channel_names(tiff, image, len(array))
    return Scan(
        array,
        Geometry.from_spacing(array.shape[1:], layout.spacing, layout.unit),
        names,
        _source(path, image),
        is_picture,
    )


def _open(path: Path) -> Opened:
    with _laid_out(path, is_mask=False) as (tiff, layout):
        image = layout.image
        block, read_stored = box_reader(path, tiff, image, layout.shape)
        axis = layout.channel_axis
        count = 1 if axis is None else layout.shape[axis]
        are_colours = _are_colours(layout, count, None)
        # What is shown depends on the channels only: one pixel tells their number and type.
        sample = np.zeros((count, 1), layout.dtype)
        shown, is_picture = _displayed(sample, layout, are_colours=are_colours)
        names = COLOURS if is_picture else channel_names(tiff, image, len(shown))

    def read(box: Box) -> NDArray[Any]:
        stored = list(box)
        if axis is not None:
            stored.insert(axis, slice(0, count))
        array = layout.channels_first(read_stored(tuple(stored)))
        return np.ascontiguousarray(_displayed(array, layout, are_colours=are_colours)[0])

    spatial = [k for k, letter in enumerate(layout.axes) if letter in "ZYX"]
    return Opened(
        Geometry.from_spacing([layout.shape[k] for k in spatial], layout.spacing, layout.unit),
        names,
        shown.dtype,
        _source(path, image),
        tuple(block[k] for k in spatial),
        read,
        is_picture,
    )


def _source(path: Path, image: TiffPageSeries) -> Source:
    return Source(path, Tiff.name, TiffHeader(image.kind, _lossy(image)))


def _letters(image: TiffPageSeries, kept: list[int]) -> str:
    """The letters of the axes that are kept.

    tifffile used to call any 3 or 4 planes of an array without named axes red, green, blue.
    """
    axes = "".join(image.axes[k] for k in kept)
    separate = image.keyframe.planarconfig == PLANARCONFIG.SEPARATE
    guessed = image.kind == "shaped" and separate and not has_axes(image)
    return axes.replace("S", "Q") if guessed else axes


def _lossy(image: TiffPageSeries) -> str:
    compression = image.keyframe.compression
    return "JPEG" if compression in _LOSSY else ""


def _displayed(
    array: NDArray[Any], layout: _Layout, *, are_colours: bool
) -> tuple[NDArray[Any], bool]:
    """The (C, ...) values that a viewer shows, without alpha, and whether they are colours."""
    image = layout.image
    page = image.keyframe
    photometric = page.photometric
    if photometric == PHOTOMETRIC.SEPARATED:
        raise DataError("CMYK colours are not supported", hint="save as RGB")
    if are_colours:
        return array[:3], True
    if "S" in layout.axes and photometric == PHOTOMETRIC.MINISBLACK and len(array) == 2:
        alpha = [int(kind) in (1, 2) for kind in page.extrasamples]
        return (array[:1] if any(alpha) else array), False
    # tifffile writes bool arrays white-is-zero; ImageJ does so for inverted display.
    means_numbers = layout.is_mask or image.kind in ("imagej", "ome", "shaped")
    if means_numbers:
        return array, False
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None and len(array) == 1:
        # 16 bits by the standard; some programs write 8.
        shift = 8 if page.colormap.max() > 255 else 0
        return (page.colormap >> shift).astype(np.uint8)[:, array[0]], True
    if photometric == PHOTOMETRIC.MINISWHITE and array.dtype.kind == "u":
        return array.dtype.type(2**page.bitspersample - 1) - array, False
    return array, False


def _are_colours(layout: _Layout, count: int, array: NDArray[Any] | None) -> bool:
    """Whether the samples are red, green, blue and perhaps alpha.

    array : (C, *S), or None if the voxels are not at hand

    A fourth 16-bit sample with content, or whose content is not known, is more likely a channel
    than alpha.
    """
    page = layout.image.keyframe
    if "S" not in layout.axes or page.photometric not in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        return False
    if layout.dtype.kind != "u" or count not in (3, 4):
        return False
    if count == 3 or layout.dtype == np.uint8:
        return True
    return array is not None and bool(array[3].min() == array[3].max())
