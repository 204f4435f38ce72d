"""Pixel size, unit and channel names as OME-XML, ImageJ and the TIFF tags tell them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from tifffile import RESUNIT, TiffFile, TiffPageSeries

from unetseg.formats.units import micrometres
from unetseg.geometry import Unit

# A larger pixel is a printer's or a screen's resolution, not a microscope's.
_LARGEST_UM = 1000.0


def spacing_and_unit(
    tiff: TiffFile, image: TiffPageSeries, axes: str, scene: int = 0
) -> tuple[tuple[float, ...], Unit]:
    """Edge lengths per letter of `axes` (ZYX or YX), and their unit.

    scene : which of the images of an OME-TIFF

    OME-XML and ImageJ metadata are believed and converted to micrometres. In OME a missing Z
    counts as X, in ImageJ as 1 unit (which it does not write). Of the resolution tags only
    centimetres are believed: inches are the dots of a screen or a printer. All else is 1 px.
    """
    if tiff.is_ome:
        found = _ome_sizes(tiff.ome_metadata or "", scene)
    elif image.kind == "imagej":
        found = _imagej_sizes(tiff, image)
    else:
        own = _own_metadata(image)
        kept = _kept_sizes(own, axes)
        if kept is not None:
            return kept
        found = _tag_sizes(image)
    across = found.get("X") or found.get("Y")
    if across is None:
        return (1.0,) * len(axes), "px"
    return tuple(found.get(letter) or across for letter in axes), "um"


def channel_names(
    tiff: TiffFile, image: TiffPageSeries, count: int, scene: int = 0
) -> tuple[str, ...]:
    """The names of `count` channels; their numbers where the file has no names for all."""
    if tiff.is_ome:
        pixels = _ome_pixels(tiff.ome_metadata or "", scene)
        names = [channel.get("Name") for channel in pixels.iterfind("{*}Channel")]
    elif image.kind == "imagej":
        names = (tiff.imagej_metadata or {}).get("Labels") or []
    else:
        names = _own_metadata(image).get("channels") or []
    usable = [str(name).strip() for name in names if name]
    if len(usable) != count or len(names) != count or len(set(usable)) != count or "" in usable:
        return tuple(str(channel) for channel in range(count))
    return tuple(usable)


def has_axes(image: TiffPageSeries) -> bool:
    """Whether the file itself names its axes."""
    if image.kind == "shaped":
        return "axes" in _own_metadata(image)
    return image.kind not in ("generic", "uniform")


def _ome_pixels(xml: str, scene: int) -> ElementTree.Element:
    found = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels")
    return found[scene] if scene < len(found) else ElementTree.Element("Pixels")


def _ome_sizes(xml: str, scene: int) -> dict[str, float | None]:
    pixels = _ome_pixels(xml, scene)
    sizes = {}
    for letter in "ZYX":
        size = _number(pixels.get(f"PhysicalSize{letter}"))
        sizes[letter] = micrometres(size, pixels.get(f"PhysicalSize{letter}Unit") or "µm")
    return sizes


def _imagej_sizes(tiff: TiffFile, image: TiffPageSeries) -> dict[str, float | None]:
    metadata = tiff.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    z_unit, y_unit = str(metadata.get("zunit", unit)), str(metadata.get("yunit", unit))
    return {
        "X": micrometres(_pixel(image, "XResolution", 1.0), unit),
        "Y": micrometres(_pixel(image, "YResolution", 1.0), y_unit),
        "Z": micrometres(abs(_number(metadata.get("spacing", 1.0))), z_unit),
    }


def _tag_sizes(image: TiffPageSeries) -> dict[str, float | None]:
    if image.keyframe.tags.valueof("ResolutionUnit") != RESUNIT.CENTIMETER:
        return {}
    x, y = (micrometres(_pixel(image, f"{letter}Resolution", math.nan), "cm") for letter in "XY")
    if max(x or math.inf, y or math.inf) > _LARGEST_UM:
        return {}
    return {"X": x, "Y": y}


def _pixel(image: TiffPageSeries, tag: str, default: float) -> float:
    """Edge length: the inverse of a resolution tag, in the unit of the latter."""
    value = image.keyframe.tags.valueof(tag)
    if value is None:
        return default
    numerator, denominator = value
    return denominator / numerator if numerator else math.nan


def _own_metadata(image: TiffPageSeries) -> Mapping[str, Any]:
    """The JSON that tifffile writes, and this package with it."""
    if image.kind != "shaped":
        return {}
    found = image.keyframe.parent.shaped_metadata or ({},)
    return dict(found[0])


def _kept_sizes(own: Mapping[str, Any], axes: str) -> tuple[tuple[float, ...], Unit] | None:
    spacing, unit = own.get("spacing"), own.get("unit")
    if unit not in ("um", "px") or not isinstance(spacing, Sequence) or len(spacing) != len(axes):
        return None
    sizes = tuple(_number(size) for size in spacing)
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    return sizes, "um" if unit == "um" else "px"


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
