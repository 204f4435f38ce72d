"""CZI, ND2 and LIF, as microscopes write them: CZI by Zeiss's library, the others by bioio."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats.bio_czi import Stored, stored_czi
from unetseg.formats.extras import needed
from unetseg.formats.read_only import ReadOnly
from unetseg.formats.viewing import Contents, check_fixed, check_time, scenes_of
from unetseg.formats.voxels import COLOURS, checked_values, whole
from unetseg.geometry import Box, Geometry, Unit, sizes_of
from unetseg.records import AS_IT_IS, Axes, Opened, Scan, Source, View

_PLUGINS = {".nd2": "bioio_nd2", ".lif": "bioio_lif"}
_SHOWN = 4


class Bio(ReadOnly):
    """Array axes are (C, Z, Y, X) or (C, Y, X) by their names; Z of size 1 is dropped.

    Pixel sizes are micrometres; channels have the names of the file. The tiles of a mosaic are
    joined. Colours are three channels. Masks and maps are OME-TIFF.
    """

    name = "bio"
    suffixes = (".czi", *_PLUGINS)
    is_folder = False
    told = "CZI, ND2 and LIF files are only read"
    hint = "choose a name that ends in .ome.tif"

    def contents(self, path: Path, view: View, *, is_mask: bool = False) -> Contents:
        """What is in the file. Raises DataError as `open` does."""
        del is_mask
        # Scenes may differ: the first tells only that there are several.
        stored = _stored(path, view.scene or 0)
        _check_axes(stored.sizes)
        axes = _axes(stored)
        kept = [k for k, n in enumerate(axes.sizes) if n > 1 or axes.letters[k] in "YX"]
        return Contents(
            tuple(axes.sizes[k] for k in kept),
            ("".join(axes.letters[k] for k in kept),),
            (),
            scenes_of(stored.scenes),
        )

    def open(self, path: Path, view: View = AS_IT_IS) -> Opened:
        """An image of the file by its metadata; boxes are read plane by plane.

        view : time point and scene; axes are those of the file

        Raises DataError for several scenes or time points of which none is chosen, and for
        further axes of more than one entry; UsageError if the library is not installed.
        """
        stored = _stored(path, view.scene)
        _check_scene(stored.scenes, view.scene)
        _check_axes(stored.sizes)
        check_time(stored.sizes.get("T", 1), view.time)
        opened = _opened(path, stored, view.time or 0)
        check_fixed(opened, replace(view, time=None, scene=None))
        return opened

    def read(self, path: Path, view: View = AS_IT_IS) -> Scan:
        """The whole image. Raises DataError for what `open` refuses and non-finite values."""
        return whole(self.open(path, view))

    def read_labels(self, path: Path, view: View = AS_IT_IS) -> Scan:
        """The same as `read`."""
        return self.read(path, view)

    def mask_suffix(self, path: Path) -> str:  # noqa: ARG002 - nobody writes these formats
        return ".ome.tif"

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)


def _check_scene(names: tuple[str, ...], scene: int | None) -> None:
    """Raises DataError if none of several scenes is chosen, or one that is not there."""
    if scene is not None and scene >= len(names):
        raise DataError(f"no scene {scene}", expected=f"0 to {len(names) - 1}")
    if len(names) > 1 and scene is None:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise DataError(
            f"{len(names)} scenes in one file: {', '.join(names[:_SHOWN])}{more}",
            expected="one image",
            hint="export each scene as OME-TIFF; predict takes one after the other",
        )


def _stored(path: Path, scene: int | None) -> Stored:
    """An image of the file, not a voxel read."""
    suffix = path.suffix.lower()
    if suffix == ".czi":
        return stored_czi(path, scene)
    plugin = needed(_PLUGINS[suffix], "bio")
    # A plane is the least that a file gives; by default a chunk is a whole stack.
    options: dict[str, Any] = {"chunk_dims": ["Y", "X"]} if suffix == ".lif" else {}
    reader = plugin.Reader(str(path), **options)
    scenes = tuple(str(name) for name in reader.scenes)
    if scene is not None and scene < len(scenes):
        reader.set_scene(scene)
    with warnings.catch_warnings():
        # Metadata that bioio cannot put into OME's terms is not used here.
        warnings.simplefilter("ignore")
        is_mosaic = "M" in reader.dims.order
        data = reader.mosaic_xarray_dask_data if is_mosaic else reader.xarray_dask_data
    names = tuple(str(name) for name in data.dims)
    found = reader.physical_pixel_sizes
    edges = {name: getattr(found, name) for name in "ZYX"}
    if suffix == ".nd2" and (edges["Y"], edges["X"]) == (1.0, 1.0):
        # What the library says of files that were never calibrated.
        edges = {}

    def read(parts: Mapping[str, slice | int]) -> NDArray[Any]:
        chosen = data.isel(parts).data
        # In this thread: the work behind the verbs has its own.
        return np.asarray(chosen.compute(scheduler="synchronous"))

    return Stored(
        dict(zip(names, data.shape, strict=True)),
        data.dtype,
        dict(zip(names, data.data.chunksize, strict=True)),
        read,
        edges,
        tuple(str(name) for name in reader.channel_names or ()),
        scenes,
    )


def _axes(stored: Stored) -> Axes:
    """The axes that are understood; others have one entry."""
    letters = [name for name in stored.sizes if name in tuple("TCSZYX")]
    return Axes("".join(letters), tuple(int(stored.sizes[name]) for name in letters))


def _check_axes(sizes: Mapping[str, int]) -> None:
    """Raises DataError for axes that no image has."""
    others = [name for name, size in sizes.items() if size > 1 and name not in tuple("TCSZYX")]
    if others or not {"Y", "X"} <= set(sizes):
        raise DataError(
            "axes that are not those of an image",
            expected="T, C, Z, Y, X",
            got=", ".join(f"{name} of {size}" for name, size in sizes.items()),
            hint="export as OME-TIFF",
        )
    if sizes.get("S", 1) > 1 and sizes.get("C", 1) > 1:
        raise DataError(
            f"{sizes['C']} channels of {sizes['S']} colours",
            expected="channels or colours",
            hint="export the channels as OME-TIFF",
        )


def _opened(path: Path, stored: Stored, time: int) -> Opened:
    sizes = stored.sizes
    space = [name for name in "ZYX" if name in "YX" or sizes.get(name, 1) > 1]
    lead = "S" if sizes.get("S", 1) > 1 else "C"
    count = sizes.get(lead, 1)
    is_colour = lead == "S" and count in (3, 4)
    # A fourth colour is alpha.
    count = 3 if is_colour else count
    order = [name for name in sizes if name in (lead, *space)]
    fixed = {name: time if name == "T" else 0 for name in sizes if name not in order}
    spacing, unit = _spacing(stored, space)

    def read(box: Box) -> NDArray[Any]:
        parts = dict(zip(space, box, strict=True))
        wanted: dict[str, slice | int] = {**fixed}
        wanted |= {name: parts.get(name, slice(0, count)) for name in order}
        values = stored.read(wanted)
        values = values.transpose([order.index(name) for name in (lead, *space) if name in order])
        return checked_values(np.ascontiguousarray(values.reshape(count, *sizes_of(box))))

    return Opened(
        Geometry.from_spacing([sizes[name] for name in space], spacing, unit),
        COLOURS if is_colour else _names(stored, count),
        checked_values(np.zeros(1, stored.dtype)).dtype,
        Source(path, Bio.name),
        tuple(int(stored.chunks[name]) for name in space),
        read,
        is_picture=is_colour,
        axes=_axes(stored),
    )


def _names(stored: Stored, count: int) -> tuple[str, ...]:
    """The channels' names; their numbers where the file has no names for all."""
    names = tuple(name.strip() for name in stored.channels)
    if len(names) == count and len(set(names)) == count and all(names):
        return names
    return tuple(str(channel) for channel in range(count))


def _spacing(stored: Stored, space: list[str]) -> tuple[tuple[float, ...], Unit]:
    """Edge lengths in micrometres; 1 px where there are none for Y and X. A missing Z is as X."""
    edges = {name: _length(stored.edges.get(name)) for name in "ZYX"}
    across = edges["X"] or edges["Y"]
    if across is None:
        return (1.0,) * len(space), "px"
    return tuple(edges[name] or across for name in space), "um"


def _length(value: float | None) -> float | None:
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    return float(value)
