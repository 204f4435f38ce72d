"""Axes and channels by name: what the letters mean, how they are said and chosen."""

import re
from collections.abc import Sequence

from unetseg.errors import DataError
from unetseg.geometry import Geometry, Unit
from unetseg.records import Axes, Opened, Scan

MEANINGS = {
    "T": "time points",
    "C": "channels",
    "S": "colours",
    "Z": "slices",
    "Y": "rows",
    "X": "columns",
}
# What programs call channels that nobody has named; ImageJ puts the file's name behind it.
_COUNTED = re.compile(
    r"(?:c|ch|chan|channel|image)?[ _:#-]*\d+(?:[:/ -]+\d+)*|[czt]:\d+/\d+.*", re.IGNORECASE
)
_MOST_SHOWN = 8
_PER_MILLIMETRE = 1000.0


def in_words(letters: str) -> str:
    """`channels` for CYX: what stands beside the rows and columns."""
    return ", ".join(MEANINGS[letter] for letter in letters if letter not in "YX")


def check_letters(letters: str, got: object) -> None:
    """Raises DataError if the letters do not make an image."""
    spatial = "".join(letter for letter in letters if letter in "ZYX")
    colours = sum(letter in "CS" for letter in letters)
    is_known = set(letters) <= MEANINGS.keys() and len(set(letters)) == len(letters)
    if not is_known or spatial not in ("YX", "ZYX") or colours > 1:
        raise DataError(
            "the axes do not make an image",
            expected="Y and X with optional T, C and Z; Z, Y, X in this order",
            got=got,
            hint="save with named axes, as ImageJ or OME-TIFF",
        )


def named_axes(shape: Sequence[int], is_kept: Sequence[bool], letters: str) -> tuple[int, ...]:
    """Which axes of a file the letters stand for: all of them, or those that are kept.

    is_kept : per axis, whether it has more than one entry or is of Y and X

    Raises DataError if the letters are neither as many as all axes nor as many as those.
    """
    kept = [k for k, keeps in enumerate(is_kept) if keeps]
    check_letters(letters, letters)
    if len(letters) == len(shape):
        return tuple(range(len(shape)))
    if len(letters) == len(kept):
        return tuple(kept)
    raise wrong_count(letters, [shape[k] for k in kept])


def wrong_count(letters: str, shape: Sequence[int]) -> DataError:
    """The error for axes that are given to a file that has not as many."""
    return DataError(
        "not as many axes as the file has",
        expected=f"{len(shape)} letters for {_by(shape)}",
        got=f"{letters}, {len(letters)} letters",
        hint="give a letter per axis: T, C, Z, Y, X",
    )


def is_generic(name: str) -> bool:
    """Whether a channel's name only counts it, as in 0, Channel 1, c:1/3."""
    return _COUNTED.fullmatch(name.strip()) is not None or name.casefold() in ("grey", "gray")


def chosen(wanted: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """The channels that are asked for by name (in any case) or by number from 0.

    Raises DataError with what there is if one of them is not there.
    """
    folded = [name.casefold() for name in names]
    found = []
    for each in wanted:
        text = each.strip()
        if text.casefold() in folded:
            found.append(folded.index(text.casefold()))
        elif text.isdecimal() and int(text) < len(names):
            found.append(int(text))
        else:
            raise DataError(
                f"no channel {text}",
                expected=", ".join(wanted),
                got=numbered(names),
                hint="give a name, or a number from 0, with --channels",
            )
    if len(set(found)) < len(found):
        raise DataError("a channel is asked for twice", got=", ".join(wanted))
    return tuple(found)


def numbered(names: Sequence[str]) -> str:
    """0 DAPI, 1 GFP; bare numbers for channels without names."""
    shown = [name if name == str(k) else f"{k} {name}" for k, name in enumerate(names)]
    return ", ".join(shown[:_MOST_SHOWN]) + (", ..." if len(shown) > _MOST_SHOWN else "")


def axes_of(scan: Scan | Opened) -> Axes:
    """The axes of a scan, in the order of its array where its format does not tell them."""
    if scan.axes is not None:
        return scan.axes
    shape = scan.geometry.shape
    letters = "ZYX"[-len(shape) :]
    if len(scan.channels) > 1:
        return Axes(f"C{letters}", (len(scan.channels), *shape))
    return Axes(letters, shape)


def x_first(spatial: Sequence[int], channels: int = 1, letter: str = "C") -> Axes:
    """The axes of a file whose first is X, with channels or colours behind those of space."""
    letters = "XYZ"[: len(spatial)]
    if channels > 1:
        return Axes(f"{letters}{letter}", (*spatial, channels))
    return Axes(letters, tuple(spatial))


def spatial_letters(scan: Scan | Opened) -> str:
    """The letters of the axes of the geometry."""
    axes, shape = axes_of(scan), scan.geometry.shape
    letters = "".join(letter for letter in axes.letters if letter in "XYZ")
    if len(letters) > len(shape):
        # A Z of one entry is in the file and not in the array.
        letters = letters.replace("Z", "")
    return letters


def described(scan: Scan | Opened) -> str:
    """One line: `CZYX 3x21x512x512, 0.65 x 0.65 x 2 um, channels DAPI, GFP, mCherry`."""
    axes = axes_of(scan)
    return f"{axes.letters} {_by(axes.sizes)}, " + ", ".join(
        [in_units(scan.geometry, spatial_letters(scan)), *facts(scan)]
    )


def facts(scan: Scan | Opened) -> tuple[str, ...]:
    """The channels, if there are several or they have names, and what else was recognised."""
    axes = axes_of(scan)
    names = [name for name in scan.channels if not is_generic(name)]
    if names:
        shown = f"channel{'s' if len(scan.channels) > 1 else ''} {', '.join(scan.channels)}"
        return (shown, *axes.notes)
    if len(scan.channels) > 1:
        return (f"{len(scan.channels)} channels", *axes.notes)
    return axes.notes


def in_units(geometry: Geometry, letters: str) -> str:
    """`0.65 x 0.65 x 2 um`, along X, Y and Z; `px` without a unit."""
    if geometry.unit == "px" and set(geometry.spacing) == {1.0}:
        return "px"
    edges = dict(zip(letters, geometry.spacing, strict=True))
    return f"{in_order([edges[letter] for letter in 'XYZ' if letter in edges])} {geometry.unit}"


def in_order(edges: Sequence[float]) -> str:
    """0.65 x 0.65 x 2.0, to five digits."""
    return " x ".join(str(float(f"{edge:.5g}")) for edge in edges)


def with_pixel_size(
    geometry: Geometry, letters: str, pixel_size: Sequence[float], unit: Unit
) -> Geometry:
    """The grid with other edge lengths, its first voxel and its directions as they were.

    letters : of the geometry's axes
    pixel_size : along X and Y, or X, Y and Z

    Raises DataError if that are not the axes of the geometry.
    """
    if len(pixel_size) != geometry.ndim:
        raise DataError(
            "the pixel size has not as many lengths as the scan has axes",
            expected=f"{geometry.ndim} lengths, along {', '.join('XYZ'[: geometry.ndim])}",
            got=f"{in_order(pixel_size)} {unit}",
            hint="give --pixel-size 0.65x0.65um for images, 0.65x0.65x2um for volumes",
        )
    # A set in millimetres stays one.
    kept: Unit = unit if geometry.unit == "px" else geometry.unit
    factor = _PER_MILLIMETRE ** ((unit == "mm") - (kept == "mm"))
    edges = {letter: factor * size for letter, size in zip("XYZ", pixel_size, strict=False)}
    affine = geometry.affine.copy()
    for k, (letter, before) in enumerate(zip(letters, geometry.spacing, strict=True)):
        affine[:-1, k] *= edges[letter] / before
    return Geometry(geometry.shape, affine, kept)


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
