"""CZI by Zeiss's own library: tiles are joined, and read by the box."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats.extras import needed

_TYPES = {
    "Gray8": np.uint8,
    "Gray16": np.uint16,
    "Gray32Float": np.float32,
    "Bgr24": np.uint8,
    "Bgr48": np.uint16,
}
_EDGE = 1024
_METRES_PER_MICROMETRE = 1e-6


@dataclass(frozen=True, eq=False)
class Stored:
    """An image in a file, by its metadata.

    sizes : of its axes, in their order
    chunks : edges of the boxes in which the file is read
    read : axis -> slice, or the entry that is taken, to the values, slices in the order of `sizes`
    edges : lengths along Z, Y and X in micrometres, as far as the file tells them
    channels : names, as far as the file tells them
    scenes : names of all images of the file, of which this is one
    """

    sizes: Mapping[str, int]
    dtype: np.dtype[Any]
    chunks: Mapping[str, int]
    read: Callable[[Mapping[str, slice | int]], NDArray[Any]]
    edges: Mapping[str, float | None]
    channels: tuple[str, ...]
    scenes: tuple[str, ...]


def stored_czi(path: Path, scene: int | None = None) -> Stored:
    """An image of a CZI; colours are an axis S, red first.

    scene : which of several, from 0; if None, what is told is that of all of them together

    Not through bioio: its plugin joins all tiles at once, gives delayed colours that are all the
    same, and is under the GPL.

    Raises DataError for pixels of a kind that is not known.
    """
    library = needed("pylibCZIrw.czi", "bio")
    with library.open_czi(str(path)) as czi:
        bounds = {name: (start, stop) for name, (start, stop) in czi.total_bounding_box.items()}
        kinds = sorted(set(czi.pixel_types.values()))
        scenes = czi.scenes_bounding_rectangle
        metadata = ElementTree.fromstring(czi.raw_metadata)
    number = None
    if scene is not None and scene < len(scenes):
        number = sorted(scenes)[scene]
        place = scenes[number]
        bounds["X"], bounds["Y"] = (place.x, place.x + place.w), (place.y, place.y + place.h)
    if len(kinds) != 1 or kinds[0] not in _TYPES:
        raise DataError(
            "pixels of a kind that is not supported",
            expected=f"one of {', '.join(_TYPES)}",
            got=", ".join(map(str, kinds)) or "none",
            hint="export as OME-TIFF",
        )
    dtype = np.dtype(_TYPES[kinds[0]])
    # Planes lie in the file in any order; this one is the usual.
    beside = sorted((name for name in bounds if name not in "YX"), key="TCZ".find)
    sizes = {name: bounds[name][1] - bounds[name][0] for name in (*beside, "Y", "X")}
    if kinds[0].startswith("Bgr"):
        sizes["S"] = 3

    def read(parts: Mapping[str, slice | int]) -> NDArray[Any]:
        ranges = {name: range(sizes[name])[_as_slice(parts[name])] for name in sizes}
        rows, columns = ranges["Y"], ranges["X"]
        roi = (
            bounds["X"][0] + columns.start,
            bounds["Y"][0] + rows.start,
            len(columns),
            len(rows),
        )
        samples = sizes.get("S", 1)
        out = np.empty((*(len(ranges[name]) for name in sizes if name != "S"), samples), dtype)
        with library.open_czi(str(path)) as czi:
            for index in product(*(range(len(ranges[name])) for name in beside)):
                plane = {
                    name: bounds[name][0] + ranges[name][k]
                    for name, k in zip(beside, index, strict=True)
                }
                # (Y, X, 1), or (Y, X, 3) with blue first.
                out[index] = czi.read(roi=roi, plane=plane, scene=number)[..., ::-1]
        out = out if "S" in sizes else out[..., 0]
        taken = [0 if isinstance(parts[name], int) else slice(None) for name in sizes]
        return out[tuple(taken)]

    return Stored(
        sizes,
        dtype,
        {**dict.fromkeys(sizes, 1), **{name: min(_EDGE, sizes[name]) for name in "YX"}},
        read,
        {name: _edge(metadata, name) for name in "ZYX"},
        _names(metadata, "Channels/Channel"),
        _scene_names(metadata, max(1, len(scenes))),
    )


def _as_slice(part: slice | int) -> slice:
    return slice(part, part + 1) if isinstance(part, int) else part


def _edge(metadata: ElementTree.Element, axis: str) -> float | None:
    """Micrometres; the file has metres."""
    text = metadata.findtext(f"Metadata/Scaling/Items/Distance[@Id='{axis}']/Value")
    try:
        return float(text or "") / _METRES_PER_MICROMETRE
    except ValueError:
        return None


def _names(metadata: ElementTree.Element, below: str) -> tuple[str, ...]:
    found = metadata.iterfind(f"Metadata/Information/Image/Dimensions/{below}")
    return tuple(each.get("Name") or "" for each in found)


def _scene_names(metadata: ElementTree.Element, count: int) -> tuple[str, ...]:
    """The names of the scenes, their numbers where the metadata does not list them."""
    names = _names(metadata, "S/Scenes/Scene")
    return names if len(names) == count and all(names) else tuple(map(str, range(count)))
