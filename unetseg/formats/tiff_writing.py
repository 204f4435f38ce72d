"""Writing TIFF: page by page, or in tiles with a pyramid where the image is large."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffWriter

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.boxwise import Voxels
from unetseg.geometry import Box, Geometry, whole_box

# Offsets of a classic TIFF have 32 bits; tags and strips need some room beside the voxels.
_CLASSIC_BYTES = 2**32 - 2**25
# Longer edges are written in tiles, halved until the whole fits on a screen.
_LONGEST_EDGE = 4096
_SCREEN = 1024
_TILE = 256


@dataclass(frozen=True, eq=False)
class InMemory:
    """An array as Voxels."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self, box: Box) -> NDArray[Any]:
        return self.array[box]


def check_upright(geometry: Geometry, path: Path) -> None:
    """Raises DataError for a grid that no TIFF can hold."""
    upright = Geometry.from_spacing(geometry.shape, geometry.spacing, geometry.unit)
    if geometry.differences(upright):
        raise DataError(
            "a TIFF cannot hold a shifted, flipped or oblique grid",
            where=path,
            hint="write NIfTI",
        )


def is_ome(path: Path) -> bool:
    """Whether the name asks for an OME-TIFF."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff", ".btf"))


def write_tiff(voxels: Voxels, geometry: Geometry, path: Path, names: tuple[str, ...] = ()) -> None:
    """Write voxels, atomically: OME-TIFF by suffix, else for ImageJ where that is possible.

    voxels : (*S); (K, *S) with `names` of the K maps; (T, *S) of time points without

    Edges of more than 4096 pixels make it a BigTIFF in tiles, with halved copies in SubIFDs that
    keep every second pixel, so that labels stay labels. At most a row of tiles is in memory.
    Raises DataError for oblique grids.
    """
    check_upright(geometry, path)
    unit, factor = ("um", 1000.0) if geometry.unit == "mm" else (geometry.unit, 1.0)
    spacing = [edge * factor for edge in geometry.spacing]
    space = "ZYX"[-geometry.ndim :]
    lead = "C" if names else "T"
    axes = lead * (len(voxels.shape) - geometry.ndim) + space
    rows, columns = voxels.shape[-2:]
    is_large = max(rows, columns) > _LONGEST_EDGE
    is_big = is_large or prod(voxels.shape) * voxels.dtype.itemsize > _CLASSIC_BYTES
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "compression": "zlib",
        "dtype": voxels.dtype,
    }
    first: dict[str, Any] = {}
    is_imagej = False
    if is_ome(path):
        first["metadata"] = _ome_metadata(voxels, axes, spacing, unit, names)
    elif unit == "um" and not names and not is_big and _suits_imagej(voxels):
        # Fiji reads the pixel size from here, and from hardly any other TIFF tag.
        is_imagej = True
        first["resolution"] = (1 / spacing[-1], 1 / spacing[-2])
        first["resolutionunit"] = "NONE"
        first["metadata"] = {"axes": axes, "unit": "micron"}
        if len(space) == 3:
            first["metadata"]["spacing"] = spacing[0]
    else:
        first["metadata"] = {"axes": axes, "spacing": spacing, "unit": unit}
        if names:
            first["metadata"]["channels"] = list(names)
        if unit == "um":
            first["resolution"] = (1e4 / spacing[-1], 1e4 / spacing[-2])
            first["resolutionunit"] = "CENTIMETER"
    big = is_big or path.name.lower().endswith(".btf")
    with (
        replacing(path) as temporary,
        TiffWriter(temporary, bigtiff=big, imagej=is_imagej, ome=is_ome(path)) as writer,
    ):
        if not is_large:
            # tifffile takes other pages for its own where there is one column only.
            is_narrow = columns == 1
            pages = voxels.read(whole_box(voxels.shape)) if is_narrow else _pages(voxels)
            writer.write(pages, shape=voxels.shape, **first, **options)
            return
        options["tile"] = (_TILE, _TILE)
        levels = 0
        while max(rows, columns) >> levels > _SCREEN:
            levels += 1
        for level in range(levels + 1):
            step = 2**level
            shape = (*voxels.shape[:-2], -(-rows // step), -(-columns // step))
            own = {"subfiletype": 1} if level else {"subifds": levels, **first}
            writer.write(_tiles(voxels, step), shape=shape, **own, **options)


def _pages(voxels: Voxels) -> Iterator[NDArray[Any]]:
    for index in product(*(range(n) for n in voxels.shape[:-2])):
        box = (*(slice(i, i + 1) for i in index), *(slice(0, n) for n in voxels.shape[-2:]))
        yield voxels.read(box).reshape(voxels.shape[-2:])


def _tiles(voxels: Voxels, step: int) -> Iterator[NDArray[Any]]:
    """The tiles of every page, of which every `step`-th row and column is kept."""
    rows = voxels.shape[-2]
    for index in product(*(range(n) for n in voxels.shape[:-2])):
        page = tuple(slice(i, i + 1) for i in index)
        for top in range(0, rows, _TILE * step):
            band = _band(voxels, page, range(top, min(rows, top + _TILE * step), step))
            for left in range(0, band.shape[1], _TILE):
                tile = band[:, left : left + _TILE]
                bottom, right = (_TILE - n for n in tile.shape)
                yield np.pad(tile, ((0, bottom), (0, right))) if bottom or right else tile


def _band(voxels: Voxels, page: Box, rows: range) -> NDArray[Any]:
    columns = slice(0, voxels.shape[-1])
    if rows.step == 1:
        return voxels.read((*page, slice(rows.start, rows.stop), columns)).reshape(len(rows), -1)
    kept = [voxels.read((*page, slice(row, row + 1), columns)).reshape(-1) for row in rows]
    return np.stack([row[:: rows.step] for row in kept])


def _suits_imagej(voxels: Voxels) -> bool:
    """Whether tifffile can write it for ImageJ: it loses an X axis of size 1."""
    return voxels.dtype in (np.uint8, np.uint16) and voxels.shape[-1] > 1


def _ome_metadata(
    voxels: Voxels, axes: str, spacing: list[float], unit: str, names: tuple[str, ...]
) -> dict[str, Any]:
    # The default identifier holds the time and the machine: the same mask, the same bytes.
    digest = hashlib.blake2b(digest_size=16)
    for index in product(*(range(n) for n in voxels.shape[:-2])):
        page = tuple(slice(i, i + 1) for i in index)
        for top in range(0, voxels.shape[-2], _TILE):
            rows = range(top, min(voxels.shape[-2], top + _TILE))
            digest.update(np.ascontiguousarray(_band(voxels, page, rows)).data)
    metadata: dict[str, Any] = {
        "axes": axes,
        "UUID": str(uuid.UUID(bytes=digest.digest(), version=4)),
    }
    if unit == "um":
        for letter, edge in zip(axes[-len(spacing) :], spacing, strict=True):
            metadata[f"PhysicalSize{letter}"] = edge
            metadata[f"PhysicalSize{letter}Unit"] = "µm"
    if names:
        metadata["Channel"] = {"Name": list(names)}
    return metadata
