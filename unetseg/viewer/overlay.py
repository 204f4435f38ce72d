"""A scan's middle slices with the mask's outline, as a PNG."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from unetseg.colours import COLOURS, of_value
from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.geometry import Unit
from unetseg.pages.colouring import coloured
from unetseg.pages.drawing import bar_of
from unetseg.pages.slices import as_bytes, brightness, planes, seen_channels
from unetseg.pages.thinning import shown
from unetseg.records import Case, Mask, Scan

# Small slices are enlarged so that a person sees them, and the outline stays one pixel wide.
_SMALLEST_EDGE = 384
_GAP = 6
_FONT_SIZE = 11


def write_overlay(case: Case, mask_path: Path, path: Path, *, has_objects: bool = False) -> None:
    """Write the PNG: one picture of a 2-D scan, three orthogonal slices of a 3-D one.

    has_objects : the mask has an id for each object, rather than a value for each class

    Of long axes only every second voxel is taken, or every third and so on, so that neither the
    scan nor the mask is ever whole in memory.
    """
    scan, (mask,) = shown(case, (mask_path,))
    if mask is None:
        raise DataError("no mask to draw", where=mask_path)
    picture = overlay(scan, mask, has_objects=has_objects)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def overlay(scan: Scan, mask: Mask, *, has_objects: bool = False) -> NDArray[np.uint8]:
    """(height, width, 3) colours: the slices through the middle of what the mask holds.

    Every class has a colour; of objects those that touch have different ones.
    """
    channels, window = seen_channels(scan), brightness(scan)
    if scan.geometry.ndim == 2:
        slices = [(channels, mask.array)]
        edges = [(scan.geometry.spacing[0], scan.geometry.spacing[1])]
    else:
        slices, edges = [], []
        for plane in planes(scan.geometry):
            index = plane.fullest(mask.array)
            slices.append((plane.cut(channels, index), plane.cut(mask.array, index)))
            edges.append(plane.edges(scan.geometry))
    values = np.unique(np.concatenate([labels.ravel() for _, labels in slices]))
    # What is drawn in a colour is looked up by its rank; the background has the first.
    values = np.union1d(values, [0])
    ranks = [np.searchsorted(values, labels) for _, labels in slices]
    palette = _palette(ranks, values, has_objects=has_objects)
    drawn = []
    for (picked, _), rank, edge in zip(slices, ranks, edges, strict=True):
        picture = _slice(_three(as_bytes(picked, window)), rank, edge, palette)
        extent = rank.shape[1] * edge[1]
        drawn.append(_with_bar(picture, extent, scan.geometry.unit))
    return _side_by_side(drawn)


def _palette(
    slices: list[NDArray[Any]], values: NDArray[Any], *, has_objects: bool
) -> NDArray[np.uint8]:
    """(n, 3): the colour of each rank; a class has its own everywhere."""
    if not has_objects:
        return np.array([of_value(int(value)) for value in values], dtype=np.uint8)
    return np.array(COLOURS, dtype=np.uint8)[coloured(slices, len(values) - 1)]


def _three(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) of one channel or of three."""
    return np.moveaxis(np.broadcast_to(channels, (3, *channels.shape[1:])), 0, -1)


def _slice(
    grey: NDArray[np.uint8],
    ranks: NDArray[Any],
    spacing: tuple[float, ...],
    palette: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """An outlined slice with square pixels, enlarged by whole numbers if it is small."""
    finest = min(spacing)
    factor = max(
        1,
        round(
            _SMALLEST_EDGE / max(n * s / finest for n, s in zip(ranks.shape, spacing, strict=True))
        ),
    )
    size = [
        max(1, round(n * s / finest * factor)) for n, s in zip(ranks.shape, spacing, strict=True)
    ]
    picture = np.array(
        Image.fromarray(np.ascontiguousarray(grey)).resize(
            (size[1], size[0]), Image.Resampling.BICUBIC
        )
    )
    rows = np.minimum((np.arange(size[0]) + 0.5) * ranks.shape[0] / size[0], ranks.shape[0] - 1)
    columns = np.minimum((np.arange(size[1]) + 0.5) * ranks.shape[1] / size[1], ranks.shape[1] - 1)
    large = ranks[np.ix_(rows.astype(int), columns.astype(int))]
    edge = find_boundaries(large, mode="inner", connectivity=1)
    picture[edge] = palette[large[edge]]
    return picture


def _with_bar(picture: NDArray[np.uint8], extent: float, unit: Unit) -> NDArray[np.uint8]:
    """The picture with a bar of a round length, where the size of its pixels is known.

    extent : width of the picture, in the unit
    """
    bar = bar_of(extent, unit)
    if bar is None:
        return picture
    share, text = bar
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT_SIZE)
    left, bottom = _GAP, picture.shape[0] - _GAP
    right = left + round(share * picture.shape[1])
    draw.line([(left - 1, bottom), (right + 1, bottom)], fill="black", width=3)
    draw.line([(left, bottom), (right, bottom)], fill="white", width=1)
    above = (left, bottom - 4)
    draw.text(above, text, "white", font, "ls", stroke_width=1, stroke_fill="black")
    return np.array(image)


def _side_by_side(slices: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height = max(len(picture) for picture in slices)
    width = sum(picture.shape[1] for picture in slices) + _GAP * (len(slices) - 1)
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    left = 0
    for picture in slices:
        canvas[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    return canvas
