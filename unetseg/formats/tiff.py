"""TIFF: OME-TIFF, ImageJ, BigTIFF and plain files, with any compression."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPageSeries

from unetseg.errors import DataError
from unetseg.formats.boxwise import (
    Gathered,
    Raw,
    Voxels,
    stored_labels,
    stored_maps,
    stored_type,
)
from unetseg.formats.tiff_boxes import box_reader, is_in_boxes
from unetseg.formats.tiff_checks import images_in
from unetseg.formats.tiff_layout import Layout, found_in, laid_out
from unetseg.formats.tiff_metadata import channel_names
from unetseg.formats.tiff_writing import InMemory, check_upright, is_ome, write_tiff
from unetseg.formats.viewing import Contents, scenes_of
from unetseg.formats.voxels import (
    ALPHA,
    COLOURS,
    EQUAL_COLOURS,
    PALETTE,
    check_grid,
    grey_or_colours,
    smallest_integers,
)
from unetseg.geometry import Box, Geometry, whole_box
from unetseg.records import AS_IT_IS, Label, Mask, Opened, Scan, Source, View

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

    def contents(self, path: Path, view: View, *, is_mask: bool = False) -> Contents:
        """What is in the file, and how its axes can be read. Raises DataError as `open` does."""
        with TiffFile(path) as tiff:
            names = [each.name for each in images_in(tiff) if each.kind == "ome"]
        if len(names) > 1 and view.scene is None:
            # They may differ: the first tells only that there are several.
            view = replace(view, scene=0)
        with found_in(path, view, is_mask=is_mask) as (_, _, ways):
            return Contents(ways.shape, ways.likely, ways.others, scenes_of(names))

    def open(self, path: Path, view: View = AS_IT_IS) -> Opened:
        """The only image of the file by its tags; tiles and strips are read as they are needed.

        view : axes, time point and scene; what else is in it is for others to do

        A colour picture keeps its three channels, whether or not they are all the same, and a
        fourth 16-bit sample is taken for a channel: the voxels would have to be seen.

        Raises DataError for axes that can be read in several ways, several images or time points
        of which none is chosen, complex values, and files too short for what they promise.
        """
        return _open(path, view)

    def open_levels(self, path: Path, view: View) -> tuple[Opened, ...]:
        """The smaller images of a pyramid. Raises DataError for what `open` refuses."""
        with laid_out(path, view, is_mask=False) as (tiff, layout):
            levels = [each for each in layout.image.levels[1:] if is_in_boxes(each)]
            return tuple(_opened(path, tiff, layout.at_level(each)) for each in levels)

    def read(self, path: Path, view: View = AS_IT_IS) -> Scan:
        """The only image of the file, at full resolution where there is a pyramid.

        Raises DataError for what `open` refuses and for non-finite values.
        """
        return _read(path, view, is_mask=False)

    def read_labels(self, path: Path, view: View = AS_IT_IS) -> Scan:
        """The numbers as stored; an axis without a name is Z, since a mask has no channels."""
        return _read(path, view, is_mask=True)

    def mask_suffix(self, path: Path) -> str:
        name = path.name.lower()
        return next((suffix for suffix in self.suffixes if name.endswith(suffix)), ".tif")

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a mask: OME-TIFF by suffix, else readable by ImageJ where that is possible."""
        check_grid(mask, like)
        write_tiff(InMemory(smallest_integers(mask.array)), mask.geometry, path)

    def write_stack(self, voxels: Voxels, path: Path, like: Scan | Opened) -> None:
        """Masks with axes TYX or TZYX, as `write` does."""
        write_tiff(voxels, like.geometry, path)

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


def _read(path: Path, view: View, *, is_mask: bool) -> Scan:
    with laid_out(path, view, is_mask=is_mask) as (tiff, layout):
        image = layout.image
        if "T" in layout.axes:
            # Only the pages of the time point.
            _, read_stored = box_reader(path, tiff, image, layout.shape)
            spatial = whole_box([layout.shape[k] for k in layout.spatial])
            stored = read_stored(layout.stored(spatial))
        else:
            stored = image.asarray().reshape(layout.shape)
        array = layout.channels_first(stored)
        notes = _left_out(layout, len(array))
        are_colours = _are_colours(layout, len(array), array)
        array, is_picture = _displayed(array, layout, are_colours=are_colours)
        if is_picture:
            count = len(array)
            array, names = grey_or_colours(array)
            notes += (EQUAL_COLOURS,) if len(array) < count else ()
        else:
            names = channel_names(tiff, image, len(array), layout.scene or 0)
    return Scan(
        array,
        Geometry.from_spacing(array.shape[1:], layout.spacing, layout.unit),
        names,
        _source(path, image),
        is_picture,
        replace(layout.shown, notes=notes),
    )


def _open(path: Path, view: View) -> Opened:
    with laid_out(path, view, is_mask=False) as (tiff, layout):
        return _opened(path, tiff, layout)


def _opened(path: Path, tiff: TiffFile, layout: Layout) -> Opened:
    image = layout.image
    block, read_stored = box_reader(path, tiff, image, layout.shape)
    count = layout.channel_count
    are_colours = _are_colours(layout, count, None)
    # What is shown depends on the channels only: one pixel tells their number and type.
    sample = np.zeros((count, 1), layout.dtype)
    shown, is_picture = _displayed(sample, layout, are_colours=are_colours)
    names = COLOURS if is_picture else channel_names(tiff, image, len(shown), layout.scene or 0)

    def read(box: Box) -> NDArray[Any]:
        array = layout.channels_first(read_stored(layout.stored(box)))
        return np.ascontiguousarray(_displayed(array, layout, are_colours=are_colours)[0])

    spatial = layout.spatial
    return Opened(
        Geometry.from_spacing([layout.shape[k] for k in spatial], layout.spacing, layout.unit),
        names,
        shown.dtype,
        _source(path, image),
        tuple(block[k] for k in spatial),
        read,
        is_picture,
        replace(layout.shown, notes=_left_out(layout, count)),
    )


def _left_out(layout: Layout, count: int) -> tuple[str, ...]:
    """What is seen from the tags: alpha that is left out, a palette that is expanded."""
    page = layout.image.keyframe
    alpha = [int(kind) in (1, 2) for kind in page.extrasamples]
    if "S" in layout.axes and layout.dtype == np.uint8 and (count == 4 or any(alpha)):
        return (ALPHA,)
    is_plain = not layout.is_mask and layout.image.kind not in ("imagej", "ome", "shaped")
    if page.photometric == PHOTOMETRIC.PALETTE and is_plain and count == 1:
        return (PALETTE,)
    return ()


def _source(path: Path, image: TiffPageSeries) -> Source:
    return Source(path, Tiff.name, TiffHeader(image.kind, _lossy(image)))


def _lossy(image: TiffPageSeries) -> str:
    compression = image.keyframe.compression
    return "JPEG" if compression in _LOSSY else ""


def _displayed(
    array: NDArray[Any], layout: Layout, *, are_colours: bool
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


def _are_colours(layout: Layout, count: int, array: NDArray[Any] | None) -> bool:
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
