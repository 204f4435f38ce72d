"""Which slice of a scan shows a case, how bright and which way up, and what lies on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import find_objects

from unetseg.colours import COLOURS, RGB, of_value
from unetseg.exporting.outlines import outlined
from unetseg.geometry import Geometry
from unetseg.pages.colouring import coloured
from unetseg.pages.parts import Kind, Outline, Picture
from unetseg.records import Mask, Scan

# Of objects, by id.
Colours = dict[int, RGB]

# Voxels so much longer along an axis than along the others are slices, to be seen face on.
_THICK = 1.5
# Brightness is taken from about so many voxels.
_SAMPLE = 2_000_000
_WORLD = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Plane:
    """How the slices across an axis are seen.

    axis : of the array, that is cut across
    down, right : of the array, along which rows and columns of the picture run
    is_up, is_left : they run from the far end of that axis
    is_back : the slices are counted from the far end
    name : axial, coronal or sagittal, where the scan says so
    """

    axis: int
    down: int
    right: int
    is_up: bool = False
    is_left: bool = False
    is_back: bool = False
    name: str = ""

    def cut(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """(H, W) of an array of shape (*S); with more axes before them, these stay."""
        lead = array.ndim - 3
        plane = np.take(array, index, lead + self.axis)
        if self.down > self.right:
            plane = np.swapaxes(plane, -1, -2)
        rows, columns = (slice(None, None, -1 if far else 1) for far in (self.is_up, self.is_left))
        found: NDArray[Any] = plane[..., rows, columns]
        return found

    def fullest(self, mask: NDArray[Any]) -> int:
        """The slice with the most foreground; the middle one if there is none."""
        others = tuple(other for other in range(3) if other != self.axis)
        counts = (mask > 0).sum(others)
        if self.is_back:
            # The same slice of several equal ones, however the axis is stored.
            counts = counts[::-1]
        index = int(counts.argmax()) if counts.any() else len(counts) // 2
        return len(counts) - 1 - index if self.is_back else index

    def edges(self, geometry: Geometry) -> tuple[float, float]:
        """Height and width of a voxel of the slice, in the geometry's unit."""
        return geometry.spacing[self.down], geometry.spacing[self.right]


def planes(geometry: Geometry) -> tuple[Plane, ...]:
    """The three ways to cut a volume: across the world's axes right, front and up where it has any.

    In a picture of a body up or front is on top, and its right is on the right.
    """
    if geometry.unit != "mm":
        return Plane(0, 1, 2), Plane(1, 0, 2), Plane(2, 0, 1)
    order, flips = geometry.canonical()
    found = []
    for world in range(3):
        right, up = (other for other in range(3) if other != world)
        # World axes point right, front and up; a picture's rows run down.
        found.append(
            Plane(
                order[world],
                order[up],
                order[right],
                is_up=up not in flips,
                is_left=right in flips,
                is_back=world in flips,
                name=_WORLD[world],
            )
        )
    return tuple(found)


def best_plane(geometry: Geometry) -> Plane:
    """The plane in which voxels are finest: along thick slices; else axial, or across axis 0."""
    if 1 in geometry.shape:
        thin = geometry.shape.index(1)
        return next(plane for plane in planes(geometry) if plane.axis == thin)
    spacing = geometry.spacing
    order = sorted(spacing)
    if order[2] > _THICK * order[1]:
        thick = spacing.index(order[2])
        return next(plane for plane in planes(geometry) if plane.axis == thick)
    return planes(geometry)[2 if geometry.unit == "mm" else 0]


def brightness(scan: Scan) -> tuple[float, float]:
    """What is shown black and what white: all but the half per cent at either end."""
    array = seen_channels(scan)
    step = max(1, int((array.size / _SAMPLE) ** (1 / scan.geometry.ndim)))
    few = array[(slice(None), *(slice(None, None, step) for _ in scan.geometry.shape))]
    values = few[np.isfinite(few)] if few.dtype.kind == "f" else few
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return low, high


def seen_channels(scan: Scan) -> NDArray[Any]:
    """(1 or 3, *S): the first channel, or a colour picture's three."""
    return scan.array if scan.is_picture and len(scan.array) == 3 else scan.array[:1]


def as_bytes(array: NDArray[Any], shown: tuple[float, float]) -> NDArray[np.uint8]:
    """Intensities as 0 to 255 between black and white."""
    low, high = shown
    scaled = (array.astype(np.float64) - low) / max(high - low, 1e-12)
    found: NDArray[np.uint8] = (np.nan_to_num(scaled).clip(0, 1) * 255).astype(np.uint8)
    return found


@dataclass(frozen=True)
class Area:
    """A class as it is outlined: the values of a mask that belong to it.

    A region has several, and areas may overlap.
    """

    name: str
    values: tuple[int, ...]
    colour: RGB


def areas_of(names: Sequence[tuple[int, str]]) -> tuple[Area, ...]:
    """An area for each class value with its name, in the colour that it has everywhere."""
    return tuple(Area(name, (value,), of_value(value)) for value, name in names if value)


@dataclass(frozen=True)
class Look:
    """How a case is shown.

    longest : pixels along the longer side at most
    has_objects : masks have an id for each object, rather than a value for each class
    areas : what is outlined and how it is called; empty: each value by itself, without a name
    kind : of the outlines of a mask that is the only one
    """

    longest: int = 512
    has_objects: bool = False
    areas: tuple[Area, ...] = ()
    kind: Kind = "truth"


AS_USUAL = Look()


def picture_of(
    scan: Scan,
    truth: Mask | None = None,
    predicted: Mask | None = None,
    *,
    look: Look = AS_USUAL,
    name: str = "",
    caption: str = "",
) -> Picture:
    """The slice that shows most of the truth (else of what was predicted), with its outlines.

    truth, predicted : on the scan's grid
    name : of the case, which begins what is said to readers who cannot see the picture

    Pixels are square. Outlines run along the edges of its pixels.
    """
    masks = [mask for mask in (truth, predicted) if mask is not None]
    pixels, flat, (where, edges) = _flat(scan, [mask.array for mask in masks])
    size, edge = _fitted(pixels.shape[:2], edges, look.longest)
    kinds: list[Kind] = ["truth"] if truth is not None else []
    kinds += ["predicted"] if predicted is not None else []
    if len(kinds) == 1 and look.kind != "truth":
        kinds = [look.kind]
    small = [_nearest(labels, size) for labels in flat]
    outlines: list[Outline] = []
    colours: Colours = {}
    for labels, mask, kind in zip(small, masks, kinds, strict=True):
        if look.has_objects:
            own = _object_colours(labels, mask)
            if colours and not mask.classes:
                own |= _colours_of_matches(small[0], labels, colours)
            colours = own
        outlines += outlines_of(labels, kind, look=look, colours=colours)
    return Picture(
        _resized(pixels, size),
        tuple(outlines),
        alt=", ".join(part for part in (name, where) if part),
        caption=caption,
        pixel_size=None if scan.geometry.unit == "px" else edge,
        unit=scan.geometry.unit,
    )


def outlines_of(
    labels: NDArray[Any], kind: Kind, *, look: Look = AS_USUAL, colours: Colours | None = None
) -> list[Outline]:
    """The outlines of a slice (H, W) of labels.

    colours : of objects, by id; those that touch get different ones if it is not given
    """
    values = [int(value) for value in np.unique(labels) if value]
    areas = look.areas or tuple(Area("", (value,), of_value(value)) for value in values)
    boxes: list[Any] = [None] * len(areas)
    if look.has_objects:
        known = _object_colours(labels, None) if colours is None else colours
        areas = tuple(Area("", (value,), known[value]) for value in values)
        # An object's voxels lie together: they are looked for there only.
        boxes = find_objects(np.searchsorted([0, *values], labels).astype(np.int32))
    found = []
    for area, box in zip(areas, boxes, strict=True):
        part = labels if box is None else labels[box]
        inside = np.isin(part, area.values)
        if not inside.any():
            continue
        top, left = (0, 0) if box is None else (box[0].start, box[1].start)
        polygons = outlined(inside, left=left, top=top)
        rings = tuple(ring for polygon in polygons for ring in polygon.rings)
        found.append(Outline(rings, area.colour, kind, area.name))
    return found


def _object_colours(labels: NDArray[Any], mask: Mask | None) -> Colours:
    """By the class of an object where there are several, else so that those that touch differ."""
    values = [int(value) for value in np.unique(labels) if value]
    if mask is not None and mask.classes:
        count = len(mask.classes)
        return {v: of_value(mask.classes[v - 1] if v <= count else 0) for v in values}
    index = coloured([np.searchsorted([0, *values], labels)], len(values))
    return {value: COLOURS[index[rank]] for rank, value in enumerate(values, 1)}


def _colours_of_matches(truth: NDArray[Any], predicted: NDArray[Any], colours: Colours) -> Colours:
    """Each predicted object in the colour of the true one that it shares the most pixels with."""
    both = (truth > 0) & (predicted > 0)
    pairs, counts = np.unique(
        np.stack([predicted[both], truth[both]], axis=1), axis=0, return_counts=True
    )
    # The largest comes last and stays.
    order = np.argsort(counts, kind="stable")
    return {int(mine): colours[int(true)] for mine, true in pairs[order].tolist()}


def _flat(
    scan: Scan, masks: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.uint8], list[NDArray[Any]], tuple[str, tuple[float, float]]]:
    """The slice's pixels, what each mask has there, where it is and how large its voxels are."""
    shown, channels = brightness(scan), seen_channels(scan)
    if scan.geometry.ndim == 2:
        height, width = scan.geometry.spacing
        pixels = as_bytes(channels, shown)
        flat, where, edges = list(masks), "", (height, width)
    else:
        plane = best_plane(scan.geometry)
        count = scan.geometry.shape[plane.axis]
        full = next((mask for mask in masks if mask.any()), None)
        index = count // 2 if full is None else plane.fullest(full)
        pixels = as_bytes(plane.cut(channels, index), shown)
        flat = [plane.cut(mask, index) for mask in masks]
        where = f"{plane.name} slice {index + 1} of {count}".strip()
        edges = plane.edges(scan.geometry)
    stacked = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    return np.ascontiguousarray(stacked), flat, (where, edges)


def _fitted(
    shape: tuple[int, ...], edges: tuple[float, float], longest: int
) -> tuple[tuple[int, int], float]:
    """Height and width with square pixels, and the edge length of one of them."""
    extent = [n * edge for n, edge in zip(shape, edges, strict=True)]
    edge = max(min(edges), max(extent) / longest)
    return (max(1, round(extent[0] / edge)), max(1, round(extent[1] / edge))), edge


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _nearest(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if labels.shape == size:
        return labels
    picked = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(size, labels.shape, strict=True)
    ]
    return labels[np.ix_(*picked)]
