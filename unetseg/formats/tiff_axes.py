"""Which axis of a TIFF is which: time, channels, colours, Z, Y, X."""

from collections.abc import Sequence

from unetseg.errors import AmbiguousAxes, DataError
from unetseg.formats.naming import MEANINGS, check_letters, in_words

# Letters that tifffile gives to axes without a meaning.
_UNNAMED = "IQ"
_MOST_CHANNELS = 8
_SMALLER = 4


def roles(shape: Sequence[int], axes: str, *, is_plain: bool, is_mask: bool) -> str:
    """One letter per axis: T, C channels, S colours or samples, Z, Y, X.

    Arguments and errors as of `readings`; raises DataError too if more than one reading is likely.
    """
    likely, _ = readings(shape, axes, is_plain=is_plain, is_mask=is_mask)
    if len(likely) == 1:
        return likely[0]
    raise ambiguous(shape, likely)


def ambiguous(shape: Sequence[int], likely: Sequence[str]) -> AmbiguousAxes:
    """The error for axes without names that may be read in more than one way."""
    choices = " or ".join(f"--axes {letters} ({in_words(letters)})" for letters in likely)
    return AmbiguousAxes(
        "the axes have no names and can be read in more than one way",
        expected="one of " + ", ".join(likely),
        got="x".join(map(str, shape)),
        hint=f"give {choices}",
    )


def readings(
    shape: Sequence[int], axes: str, *, is_plain: bool, is_mask: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How the axes may be read: the likely ways, and those that only other files can make likely.

    shape, axes : sizes of 2 or more (Y and X may be 1) and the letters that tifffile gives them
    is_plain : the file names no axes, so that even Y and X may be channels last
    is_mask : the file holds labels, which have no channels

    Axes that the file names are taken at their word. What is left without a name:

    - one such axis, where channels or colours are known already, or in a mask: Z;
    - one such axis, where Z is known already: channels;
    - one such axis otherwise: channels or Z if it is at most 8 long and the two others are at
      least 4 times longer; channels last, by the same rule, if the file is plain; else Z, or
      channels if other files say so;
    - two such axes: channels are one of them or, in a plain file, the last axis; those of at most
      8 entries are likely.

    Raises DataError for positions and whatever else is neither space nor time nor colour.
    """
    _refuse_others(shape, axes)
    unnamed = [k for k, letter in enumerate(axes) if letter in _UNNAMED]
    likely, others = [axes], list[str]()
    if len(unnamed) == 1:
        found = _one_unnamed(shape, axes, unnamed[0], is_plain=is_plain, is_mask=is_mask)
        likely, others = found
    elif len(unnamed) == 2 and not set(axes) & set("ZCST"):
        likely, others = _two_unnamed(shape, axes, unnamed, is_plain=is_plain)
    for letters in (*likely, *others):
        check_letters(letters, f"{axes} {tuple(shape)}")
    return tuple(likely), tuple(others)


def _refuse_others(shape: Sequence[int], axes: str) -> None:
    for letter, size in zip(axes, shape, strict=True):
        if letter in "RP":
            raise DataError(
                f"{size} positions in one file are not supported",
                hint="save one file per position",
            )
        if letter not in MEANINGS and letter not in _UNNAMED:
            raise DataError(
                f"axis {letter} with {size} entries is neither space nor channels",
                hint="save it as channels (C), or one file per entry",
            )


def _one_unnamed(
    shape: Sequence[int], axes: str, position: int, *, is_plain: bool, is_mask: bool
) -> tuple[list[str], list[str]]:
    slices, channels = (axes.replace(axes[position], letter) for letter in "ZC")
    if is_mask or "C" in axes or "S" in axes:
        return [slices], []
    if "Z" in axes:
        return [channels], []
    if "T" in axes:
        return [slices, channels], []
    is_last = is_plain and axes[-1] == "X"
    if _is_small(shape, position):
        return [channels, slices], []
    # An image of so few columns is none.
    if is_last and _is_small(shape, len(shape) - 1):
        return ["YXC"], [slices, channels]
    return [slices], [channels, *(["YXC"] if is_last else [])]


def _two_unnamed(
    shape: Sequence[int], axes: str, unnamed: list[int], *, is_plain: bool
) -> tuple[list[str], list[str]]:
    places = [*unnamed, len(shape) - 1] if is_plain and axes[-1] == "X" else unnamed
    found = {place: _with_channels(len(shape), place) for place in places}
    likely = [letters for place, letters in found.items() if shape[place] <= _MOST_CHANNELS]
    if not likely:
        # Neither is likely: both are said.
        return list(found.values()), []
    return likely, [letters for letters in found.values() if letters not in likely]


def _with_channels(count: int, place: int) -> str:
    rest = iter("ZYX")
    return "".join("C" if axis == place else next(rest) for axis in range(count))


def _is_small(shape: Sequence[int], axis: int) -> bool:
    others = [size for k, size in enumerate(shape) if k != axis]
    return shape[axis] <= _MOST_CHANNELS and min(others) >= _SMALLER * shape[axis]
