"""A scan's middle slices with the mask's outline, as a PNG."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from unetseg.colours import COLOURS
from unetseg.dataset.loading import load_scan, open_case
from unetseg.files import replacing
from unetseg.formats import open_scan, read_mask, read_scan
from unetseg.records import Case, Mask, Opened, Scan
from unetseg.viewer.colouring import coloured

# Small slices are enlarged so that a person sees them, and the outline stays one pixel wide.
_SMALLEST_EDGE = 384
_GAP = 6
# Longer axes are thinned; of files that are read box by box, boxes of at least this edge.
_LONGEST_EDGE, _LONGEST_CUBE = 4096, 768
_AT_ONCE = 256


def write_overlay(case: Case, mask_path: Path, path: Path, *, has_objects: bool = False) -> None:
    """Write the PNG: one picture of a 2-D scan, three orthogonal slices of a 3-D one.

    has_objects : the mask has an id for each object, rather than a value for each class

    Of long axes only every second voxel is taken, or every third and so on, so that neither the
    scan nor the mask is ever whole in memory.
    """
    scan = thinned(open_case(case)) if len(case.images) == 1 else None
    if scan is None:
        found = read_mask(mask_path, is_drawn=False)
        picture = overlay(load_scan(case), found, has_objects=has_objects)
    else:
        mask = thinned(open_scan(mask_path)) or read_scan(mask_path)
        found = Mask(mask.array[0], scan.geometry)
        picture = overlay(scan, found, has_objects=has_objects)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def thinned(opened: Opened) -> Scan | None:
    """A scan that is too large to be shown, with fewer voxels; None if it is not."""
    shape = opened.geometry.shape
    most = _LONGEST_EDGE if sum(n > 1 for n in shape) < 3 else _LONGEST_CUBE
    steps = [-(-n // most) for n in shape]
    if max(steps) == 1 or opened.block == shape:
        return None
    sizes = [-(-n // step) for n, step in zip(shape, steps, strict=True)]
    array = np.empty((len(opened.channels), *sizes), opened.dtype)
    # Whole blocks of the file, and whole steps.
    edges = [
        -(-max(edge, _AT_ONCE) // step) * step
        for edge, step in zip(opened.block, steps, strict=True)
    ]
    for corner in product(*(range(0, n, edge) for n, edge in zip(shape, edges, strict=True))):
        box = tuple(
            slice(a, min(a + edge, n)) for a, edge, n in zip(corner, edges, shape, strict=True)
        )
        target = [
            slice(part.start // step, -(-part.stop // step))
            for part, step in zip(box, steps, strict=True)
        ]
        every = [slice(None, None, step) for step in steps]
        array[(slice(None), *target)] = opened.read(box)[(slice(None), *every)]
    geometry = opened.geometry.resampled(sizes)
    return Scan(array, geometry, opened.channels, opened.source, opened.is_picture)


def overlay(scan: Scan, mask: Mask, *, has_objects: bool = False) -> NDArray[np.uint8]:
    """(height, width, 3) colours: the slices through the middle of what the mask holds.

    Every class has a colour; of objects those that touch have different ones.
    """
    values = np.unique(mask.array)
    ranks = np.searchsorted(values[values != 0], mask.array) + 1
    ranks[mask.array == 0] = 0
    grey = _brightness(scan)
    if scan.geometry.ndim == 2:
        palette = _palette([ranks], has_objects=has_objects)
        return _slice(grey, ranks, scan.geometry.spacing, palette)
    order, flips = scan.geometry.canonical()
    if scan.geometry.unit != "mm":
        order, flips = (0, 1, 2), ()
    grey = np.flip(grey.transpose(*order, 3), flips)
    ranks = np.flip(ranks.transpose(order), flips)
    spacing = [scan.geometry.spacing[axis] for axis in order]
    shown = []
    for axis in range(3):
        middle = _fullest(ranks, axis)
        picked = np.take(grey, middle, axis), np.take(ranks, middle, axis)
        edges = [edge for other, edge in enumerate(spacing) if other != axis]
        if scan.geometry.unit == "mm":
            # World axes point right, front and up; a picture's rows run down.
            picked = (
                picked[0].transpose(1, 0, 2)[::-1],
                picked[1].T[::-1],
            )
            edges = edges[::-1]
        shown.append((*picked, tuple(edges)))
    palette = _palette([ranks for _, ranks, _ in shown], has_objects=has_objects)
    return _side_by_side([_slice(*each, palette) for each in shown])


def _palette(slices: list[NDArray[Any]], *, has_objects: bool) -> NDArray[np.uint8]:
    """(n + 1, 3): the colour of each rank."""
    count = max(int(ranks.max()) for ranks in slices)
    if not has_objects:
        index = (np.arange(count + 1) - 1) % len(COLOURS)
    else:
        index = coloured(slices, count)
    return np.array(COLOURS, dtype=np.uint8)[index]


def _brightness(scan: Scan) -> NDArray[np.uint8]:
    """(*S, 3) of the first channel, or of a colour picture's three."""
    channels = scan.array if scan.is_picture and len(scan.array) == 3 else scan.array[:1]
    low, high = np.percentile(channels, [0.5, 99.5])
    if high <= low:
        low, high = float(channels.min()), float(channels.max())
    scaled = (channels.astype(np.float64) - low) / max(high - low, 1e-12)
    bytes_ = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return np.moveaxis(np.broadcast_to(bytes_, (3, *scan.geometry.shape)), 0, -1)


def _fullest(ranks: NDArray[Any], axis: int) -> int:
    """The slice along `axis` with the most foreground; the middle one if there is none."""
    others = tuple(other for other in range(3) if other != axis)
    counts = (ranks > 0).sum(others)
    return int(counts.argmax()) if counts.any() else ranks.shape[axis] // 2


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


def _side_by_side(slices: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height = max(len(picture) for picture in slices)
    width = sum(picture.shape[1] for picture in slices) + _GAP * (len(slices) - 1)
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    left = 0
    for picture in slices:
        canvas[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    return canvas
