"""TIFF: OME-TIFF, ImageJ, BigTIFF and plain files, with any compression."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, TiffFile, TiffPageSeries

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.tiff_axes import roles
from unetseg.formats.tiff_checks import check_whole, complaints, single_image
from unetseg.formats.tiff_metadata import channel_names, has_axes, spacing_and_unit
from unetseg.formats.voxels import (
    Maps,
    check_grid,
    checked_maps,
    checked_values,
    grey_or_colours,
    smallest_integers,
)
from unetseg.geometry import Geometry
from unetseg.records import Mask, Scan, Source

_LOSSY = {COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.JPEG_LOSSY}
# Offsets of a classic TIFF have 32 bits; tags and strips need some room beside the voxels.
_CLASSIC_BYTES = 2**32 - 2**25


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

    def read(self, path: Path) -> Scan:
        """The only image of the file.

        Raises DataError for several images, time points, complex or non-finite values, and for
        files that are too short for what they promise.
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
        _write(smallest_integers(mask.array), mask.geometry, path)

    def write_maps(self, maps: Maps, names: tuple[str, ...], path: Path, like: Scan) -> None:
        """Write (K, *S) maps with axes CZYX or CYX and the names of the maps."""
        _write(checked_maps(maps, names, like), like.geometry, path, names)


def _read(path: Path, *, is_mask: bool) -> Scan:
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
        array = checked_values(image.asarray().reshape(shape))
        if len(found) == len(spatial):
            array = array[np.newaxis]
        else:
            array = np.moveaxis(array, found.index("C" if "C" in found else "S"), 0)
        header = TiffHeader(image.kind, _lossy(image))
        array, is_picture = _displayed(array, image, found, is_mask=is_mask)
        if is_picture:
            array, names = grey_or_colours(array)
        else:
            names = channel_names(tiff, image, len(array))
    return Scan(
        array,
        Geometry.from_spacing(array.shape[1:], spacing, unit),
        names,
        Source(path, Tiff.name, header),
        is_picture,
    )


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
    array: NDArray[Any], image: TiffPageSeries, axes: str, *, is_mask: bool
) -> tuple[NDArray[Any], bool]:
    """The (C, *S) values that a viewer shows, without alpha, and whether they are colours."""
    page = image.keyframe
    photometric = page.photometric
    if photometric == PHOTOMETRIC.SEPARATED:
        raise DataError("CMYK colours are not supported", hint="save as RGB")
    if "S" in axes and _are_colours(array, image):
        return array[:3], True
    if "S" in axes and photometric == PHOTOMETRIC.MINISBLACK and len(array) == 2:
        alpha = [int(kind) in (1, 2) for kind in page.extrasamples]
        return (array[:1] if any(alpha) else array), False
    # tifffile writes bool arrays white-is-zero; ImageJ does so for inverted display.
    means_numbers = is_mask or image.kind in ("imagej", "ome", "shaped")
    if means_numbers:
        return array, False
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None and len(array) == 1:
        # 16 bits by the standard; some programs write 8.
        shift = 8 if page.colormap.max() > 255 else 0
        return (page.colormap >> shift).astype(np.uint8)[:, array[0]], True
    if photometric == PHOTOMETRIC.MINISWHITE and array.dtype.kind == "u":
        return array.dtype.type(2**page.bitspersample - 1) - array, False
    return array, False


def _are_colours(array: NDArray[Any], image: TiffPageSeries) -> bool:
    """Whether the samples are red, green, blue and perhaps alpha.

    A fourth 16-bit sample with content is more likely a channel than alpha.
    """
    page = image.keyframe
    if page.photometric not in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR):
        return False
    if array.dtype.kind != "u" or len(array) not in (3, 4):
        return False
    return len(array) == 3 or array.dtype == np.uint8 or bool(array[3].min() == array[3].max())


def _write(
    array: NDArray[Any], geometry: Geometry, path: Path, names: tuple[str, ...] = ()
) -> None:
    unit, factor = ("um", 1000.0) if geometry.unit == "mm" else (geometry.unit, 1.0)
    spacing = [edge * factor for edge in geometry.spacing]
    upright = Geometry.from_spacing(geometry.shape, geometry.spacing, geometry.unit)
    if geometry.differences(upright):
        raise DataError(
            "a TIFF cannot hold a shifted, flipped or oblique grid",
            where=path,
            hint="write NIfTI",
        )
    space = "ZYX"[-geometry.ndim :]
    axes = "C" * bool(names) + space
    lower = path.name.lower()
    large = array.nbytes > _CLASSIC_BYTES
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "compression": "zlib",
        "bigtiff": large or lower.endswith(".btf"),
    }
    if lower.endswith((".ome.tif", ".ome.tiff", ".btf")):
        options["ome"] = True
        options["metadata"] = _ome_metadata(array, axes, space, spacing, unit, names)
    elif unit == "um" and not names and not large and _suits_imagej(array):
        # Fiji reads the pixel size from here, and from hardly any other TIFF tag.
        options["imagej"] = True
        options["resolution"] = (1 / spacing[-1], 1 / spacing[-2])
        options["resolutionunit"] = "NONE"
        options["metadata"] = {"axes": axes, "unit": "micron"}
        if len(space) == 3:
            options["metadata"]["spacing"] = spacing[0]
    else:
        metadata: dict[str, Any] = {"axes": axes, "spacing": spacing, "unit": unit}
        if names:
            metadata["channels"] = list(names)
        options["metadata"] = metadata
        if unit == "um":
            options["resolution"] = (1e4 / spacing[-1], 1e4 / spacing[-2])
            options["resolutionunit"] = "CENTIMETER"
    with replacing(path) as temporary:
        tifffile.imwrite(temporary, np.ascontiguousarray(array), **options)


def _suits_imagej(array: NDArray[Any]) -> bool:
    """Whether tifffile can write it for ImageJ: it loses an X axis of size 1."""
    return array.dtype in (np.uint8, np.uint16) and array.shape[-1] > 1


def _ome_metadata(
    array: NDArray[Any],
    axes: str,
    space: str,
    spacing: list[float],
    unit: str,
    names: tuple[str, ...],
) -> dict[str, Any]:
    # The default identifier holds the time and the machine: the same mask, the same bytes.
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    metadata: dict[str, Any] = {"axes": axes, "UUID": str(uuid.UUID(bytes=digest, version=4))}
    if unit == "um":
        for letter, edge in zip(space, spacing, strict=True):
            metadata[f"PhysicalSize{letter}"] = edge
            metadata[f"PhysicalSize{letter}Unit"] = "µm"
    if names:
        metadata["Channel"] = {"Name": list(names)}
    return metadata
