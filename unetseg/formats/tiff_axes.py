"""Which axis of a TIFF is which: channels, colours, Z, Y, X."""

from collections.abc import Sequence

from unetseg.errors import DataError

# Letters that tifffile gives to axes without a meaning.
_UNNAMED = "IQ"
_MOST_CHANNELS = 8
_SMALLER = 4


def roles(shape: Sequence[int], axes: str, *, is_plain: bool, is_mask: bool) -> str:
    """One letter per axis: C channels, S colours or samples, Z, Y, X.

    shape, axes : sizes of 2 or more (Y and X may be 1) and the letters that tifffile gives them
    is_plain : the file names no axes, so that even Y and X may be channels last
    is_mask : the file holds labels, which have no channels

    Axes that the file names are taken at their word. What is left without a name follows from
    the sizes:

    - one such axis, where channels or colours are known already, or in a mask: Z;
    - one such axis, where Z is known already: channels;
    - one such axis otherwise: channels first if it is at most 8 long and the two others are at
      least 4 times longer; else channels last, by the same rule, if the file is plain; else Z;
    - two such axes: channels are the smallest of the first, the second and, if the file is
      plain, the last axis; it must be at most 8 long; the other one is Z.

    Raises DataError for time points, positions and whatever else is neither space nor colour.
    """
    letters = list(axes)
    _refuse_others(shape, axes)
    unnamed = [k for k, letter in enumerate(letters) if letter in _UNNAMED]
    if len(unnamed) == 1:
        letters = _one_unnamed(shape, letters, unnamed[0], is_plain=is_plain, is_mask=is_mask)
    elif len(unnamed) == 2 and not set(letters) & set("ZCS"):
        letters = _two_unnamed(shape, letters, unnamed, is_plain=is_plain)
    found = "".join(letters)
    spatial = [letter for letter in found if letter in "ZYX"]
    others = [letter for letter in found if letter not in "ZYX"]
    if spatial not in (["Y", "X"], ["Z", "Y", "X"]) or others not in ([], ["C"], ["S"]):
        raise DataError(
            "the axes do not make an image",
            expected="Y and X with optional Z and channels, in this order",
            got=f"{axes} {tuple(shape)}",
            hint="save with named axes, as ImageJ or OME-TIFF",
        )
    return found


def _refuse_others(shape: Sequence[int], axes: str) -> None:
    for letter, size in zip(axes, shape, strict=True):
        if letter == "T":
            raise DataError(
                f"{size} time points in one file are not supported",
                hint="save one file per time point; if the axis is Z, say so in the file's "
                "metadata (Fiji: Image > Properties)",
            )
        if letter in "RP":
            raise DataError(
                f"{size} positions in one file are not supported",
                hint="save one file per position",
            )
        if letter not in "CSZYX" + _UNNAMED:
            raise DataError(
                f"axis {letter} with {size} entries is neither space nor channels",
                hint="save it as channels (C), or one file per entry",
            )


def _one_unnamed(
    shape: Sequence[int], letters: list[str], position: int, *, is_plain: bool, is_mask: bool
) -> list[str]:
    letters = list(letters)
    if is_mask or "C" in letters or "S" in letters:
        letters[position] = "Z"
    elif "Z" in letters or _is_small(shape, position):
        letters[position] = "C"
    elif is_plain and letters[-1] == "X" and _is_small(shape, len(shape) - 1):
        letters = ["Y", "X", "C"]
    else:
        letters[position] = "Z"
    return letters


def _two_unnamed(
    shape: Sequence[int], letters: list[str], unnamed: list[int], *, is_plain: bool
) -> list[str]:
    candidates = [*unnamed, len(shape) - 1] if is_plain and letters[-1] == "X" else unnamed
    channels = min(candidates, key=lambda axis: shape[axis])
    if shape[channels] > _MOST_CHANNELS:
        raise DataError(
            "four axes without names, none of them small enough for channels",
            expected=f"at most {_MOST_CHANNELS} channels",
            got=tuple(shape),
            hint="save with named axes, as ImageJ or OME-TIFF",
        )
    rest = iter("ZYX")
    return ["C" if axis == channels else next(rest) for axis in range(len(shape))]


def _is_small(shape: Sequence[int], axis: int) -> bool:
    others = [size for k, size in enumerate(shape) if k != axis]
    return shape[axis] <= _MOST_CHANNELS and min(others) >= _SMALLER * shape[axis]
