"""What the tags of a TIFF tell of the image in it: its axes, sizes and edge lengths."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import PLANARCONFIG, TiffFile, TiffPageSeries

from unetseg.errors import DataError
from unetseg.formats.naming import named_axes
from unetseg.formats.tiff_axes import ambiguous, readings
from unetseg.formats.tiff_checks import check_whole, complaints, single_image
from unetseg.formats.tiff_metadata import has_axes, spacing_and_unit
from unetseg.formats.viewing import check_time
from unetseg.formats.voxels import checked_values
from unetseg.geometry import Box, Unit
from unetseg.records import Axes, View


@dataclass(frozen=True)
class Ways:
    """How the axes of an image can be read.

    shape : sizes of the axes that are kept
    likely, others : see tiff_axes.readings
    shown : all axes of the file with their sizes, where the file names them
    """

    shape: tuple[int, ...]
    likely: tuple[str, ...]
    others: tuple[str, ...]
    shown: Axes | None = None


@dataclass(frozen=True)
class Layout:
    """What the tags tell of the image.

    axes : one letter per axis that is kept, see `readings`, time included
    shape : their sizes
    spacing, unit : of the axes of space
    shown : the axes of the file for a person
    """

    image: TiffPageSeries
    axes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: Unit
    is_mask: bool
    shown: Axes
    time: int | None
    scene: int | None

    @property
    def dtype(self) -> np.dtype[Any]:
        return checked_values(np.zeros(1, self.image.dtype)).dtype

    def at_level(self, image: TiffPageSeries) -> "Layout":
        """The same of a smaller copy in a pyramid; edge lengths stay those of the largest."""
        kept = [k for k, n in enumerate(self.image.shape) if n > 1 or self.image.axes[k] in "YX"]
        return replace(self, image=image, shape=tuple(image.shape[k] for k in kept))

    @property
    def still(self) -> str:
        """The axes of one time point."""
        return self.axes.replace("T", "")

    @property
    def spatial(self) -> list[int]:
        return [k for k, letter in enumerate(self.axes) if letter in "ZYX"]

    @property
    def channel_count(self) -> int:
        """How many channels or samples."""
        return next(
            (n for letter, n in zip(self.axes, self.shape, strict=True) if letter in "CS"), 1
        )

    def stored(self, box: Box) -> Box:
        """A box of space, of all channels and the one time point, in the file."""
        rest, time = iter(box), self.time or 0
        return tuple(
            slice(time, time + 1)
            if letter == "T"
            else slice(0, size)
            if letter in "CS"
            else next(rest)
            for letter, size in zip(self.axes, self.shape, strict=True)
        )

    def channels_first(self, array: NDArray[Any]) -> NDArray[Any]:
        """(C, *S) from an array with the axes of the file, of one time point."""
        if "T" in self.axes:
            array = array.squeeze(self.axes.index("T"))
        array = checked_values(array)
        axis = next((k for k, letter in enumerate(self.still) if letter in "CS"), None)
        return array[np.newaxis] if axis is None else np.moveaxis(array, axis, 0)


@contextmanager
def found_in(
    path: Path, view: View, *, is_mask: bool
) -> Iterator[tuple[TiffFile, TiffPageSeries, Ways]]:
    """The open file, the image in it that is looked at, found to be whole, and its axes."""
    with complaints() as errors, TiffFile(path) as tiff:
        image = single_image(tiff, view.scene)
        check_whole(tiff, image)
        if errors:
            raise DataError(f"damaged TIFF: {errors[0]}", hint="copy or export it again")
        yield tiff, image, _ways(image, view, is_mask=is_mask)


def _ways(image: TiffPageSeries, view: View, *, is_mask: bool) -> Ways:
    kept = [k for k, size in enumerate(image.shape) if size > 1 or image.axes[k] in "YX"]
    shape = tuple(image.shape[k] for k in kept)
    if not view.axes:
        axes = _letters(image, kept)
        likely, others = readings(shape, axes, is_plain=not has_axes(image), is_mask=is_mask)
        return Ways(shape, likely, others, _all_axes(image))
    full = tuple(image.get_shape(squeeze=False)) if image.kind == "ome" else image.shape
    names = image.get_axes(squeeze=False) if image.kind == "ome" else image.axes
    # OME has an axis of one sample that nobody knows of.
    whole = [k for k, size in enumerate(full) if size > 1 or names[k] != "S"]
    sizes = [full[k] for k in whole]
    is_kept = [n > 1 or names[k] in "YX" for n, k in zip(sizes, whole, strict=True)]
    places = named_axes(sizes, is_kept, view.axes)
    said = Axes(view.axes, tuple(sizes[k] for k in places))
    left = [k for k, letter in enumerate(view.axes) if said.sizes[k] > 1 or letter in "YX"]
    letters = "".join(view.axes[k] for k in left)
    return Ways(tuple(said.sizes[k] for k in left), (letters,), (), said)


def _all_axes(image: TiffPageSeries) -> Axes | None:
    """The axes of an OME-TIFF, those of one entry too."""
    if image.kind != "ome":
        return None
    named = zip(image.get_axes(squeeze=False), image.get_shape(squeeze=False), strict=True)
    shown = [(letter, size) for letter, size in named if size > 1 or letter != "S"]
    return Axes("".join(letter for letter, _ in shown), tuple(size for _, size in shown))


@contextmanager
def laid_out(path: Path, view: View, *, is_mask: bool) -> Iterator[tuple[TiffFile, Layout]]:
    """The open file and the image in it, at one time point."""
    with found_in(path, view, is_mask=is_mask) as (tiff, image, ways):
        if len(ways.likely) > 1:
            raise ambiguous(ways.shape, ways.likely)
        (axes,) = ways.likely
        check_time(dict(zip(axes, ways.shape, strict=True)).get("T", 1), view.time)
        spatial = "".join(letter for letter in axes if letter in "ZYX")
        spacing, unit = spacing_and_unit(tiff, image, spatial, view.scene or 0)
        shown = ways.shown
        if shown is None or not set(axes) <= set(shown.letters):
            # The file leaves axes without a name that was found since.
            shown = Axes(axes, ways.shape)
        yield (
            tiff,
            Layout(image, axes, ways.shape, spacing, unit, is_mask, shown, view.time, view.scene),
        )


def _letters(image: TiffPageSeries, kept: list[int]) -> str:
    """The letters of the axes that are kept.

    tifffile used to call any 3 or 4 planes of an array without named axes red, green, blue.
    """
    axes = "".join(image.axes[k] for k in kept)
    separate = image.keyframe.planarconfig == PLANARCONFIG.SEPARATE
    guessed = image.kind == "shaped" and separate and not has_axes(image)
    return axes.replace("S", "Q") if guessed else axes
