"""What of a file is looked at: contents by its header, and the parts that a View asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats.naming import (
    axes_of,
    chosen,
    spatial_letters,
    with_pixel_size,
    wrong_count,
)
from unetseg.formats.voxels import COLOURS
from unetseg.geometry import Box
from unetseg.records import Opened, Scan, View


@dataclass(frozen=True)
class Contents:
    """What is in a file by its header.

    shape : sizes of the axes that count: those of one entry are left out, but for Y and X
    likely : a letter per such axis; several where the file names no axes and more than one reading
        is likely
    others : readings that only the rest of a data set can make likely
    scenes : names of the images, where the file holds several; each is predicted by itself
    """

    shape: tuple[int, ...]
    likely: tuple[str, ...]
    others: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()

    def size(self, axes: str, letter: str) -> int:
        """The size of an axis in a reading, 1 if it has none of that letter."""
        return dict(zip(axes, self.shape, strict=True)).get(letter, 1)


@runtime_checkable
class Selective(Protocol):
    """A format whose files may hold time points, scenes or axes without names.

    The others open and read the whole file, and the rest of a view is taken from that.
    """

    def contents(self, path: Any, view: View, *, is_mask: bool = False) -> Contents:
        """What is in the file. Raises DataError as `open` does."""
        ...

    def open(self, path: Any, view: View = ...) -> Opened:
        """As of Format, with the axes, the time point and the scene of the view."""
        ...

    def read(self, path: Any, view: View = ...) -> Scan:
        """As of Format, likewise."""
        ...

    def read_labels(self, path: Any, view: View = ...) -> Scan:
        """As of Format, likewise."""
        ...


def contents_of(opened: Opened) -> Contents:
    """The contents of a file that holds one image with known axes."""
    axes = axes_of(opened)
    kept = [k for k, letter in enumerate(axes.letters) if axes.sizes[k] > 1 or letter in "YX"]
    letters = "".join(axes.letters[k] for k in kept)
    return Contents(tuple(axes.sizes[k] for k in kept), (letters,))


def scenes_of(names: Sequence[str]) -> tuple[str, ...]:
    """The names of several images, or nothing for a single one."""
    return tuple(name or str(k) for k, name in enumerate(names)) if len(names) > 1 else ()


def check_time(count: int, time: int | None) -> None:
    """Raises DataError if there are several time points and none, or a missing one, is chosen."""
    if time is not None and time >= count:
        raise DataError(f"no time point {time}", expected=f"0 to {count - 1}")
    if count > 1 and time is None:
        raise DataError(
            f"{count} time points in one file are not one image",
            hint="save one file per time point; if the axis is Z, give --axes, or say so in the "
            "file's metadata (Fiji: Image > Properties)",
        )


def check_fixed(scan: Scan | Opened, view: View) -> None:
    """Raises DataError if a view asks for what a file with fixed axes does not have.

    Its axes may be given, as they are.
    """
    axes = axes_of(scan)
    if view.axes:
        kept = [k for k, n in enumerate(axes.sizes) if n > 1 or axes.letters[k] in "YX"]
        if len(view.axes) not in (len(axes.letters), len(kept)):
            raise wrong_count(view.axes, [axes.sizes[k] for k in kept])
        own = axes.letters
        if len(view.axes) < len(own):
            own = "".join(axes.letters[k] for k in kept)
        if view.axes.replace("S", "C") != own.replace("S", "C"):
            raise DataError(
                f"the axes of {scan.source.format} files are fixed",
                expected=own,
                got=view.axes,
                hint="leave out --axes, or convert the file to TIFF",
            )
    if view.time or view.scene:
        raise DataError(f"{scan.source.format} files are read as one image of one time point")


def viewed(scan: Scan, view: View) -> Scan:
    """The scan with the channels and the pixel size of a view; see `viewed_unread`."""
    if view.channels:
        picked = chosen(view.channels, scan.channels)
        names = tuple(scan.channels[k] for k in picked)
        scan = replace(
            scan,
            array=scan.array[list(picked)],
            channels=names,
            is_picture=scan.is_picture and names in (("grey",), COLOURS),
        )
    if view.names and len(view.names) == len(scan.channels):
        scan = replace(scan, channels=view.names)
    if view.pixel_size:
        geometry = with_pixel_size(scan.geometry, spatial_letters(scan), view.pixel_size, view.unit)
        scan = replace(scan, geometry=geometry)
    return scan


def viewed_unread(opened: Opened, view: View) -> Opened:
    """The same of a scan whose voxels stay in the file.

    Raises DataError if a channel is not there or the pixel size has not as many lengths as the
    scan has axes.
    """
    shell = Scan(
        np.broadcast_to(opened.dtype.type(0), (len(opened.channels), *opened.geometry.shape)),
        opened.geometry,
        opened.channels,
        opened.source,
        opened.is_picture,
        opened.axes,
    )
    # Advanced indexing would make an array as large as the scan.
    seen = viewed(shell, replace(view, channels=(), names=()))
    if not view.channels:
        names = view.names if len(view.names) == len(opened.channels) else opened.channels
        return replace(opened, geometry=seen.geometry, channels=names)
    picked = list(chosen(view.channels, opened.channels))
    names = tuple(opened.channels[k] for k in picked)
    is_picture = opened.is_picture and names in (("grey",), COLOURS)

    def read(box: Box) -> NDArray[Any]:
        return opened.read(box)[picked]

    if len(view.names) == len(names):
        names = view.names
    return replace(opened, geometry=seen.geometry, channels=names, read=read, is_picture=is_picture)
