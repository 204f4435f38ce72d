"""What can go wrong, said in one line, with the exit code it leads to."""

from collections.abc import Iterable
from difflib import get_close_matches

# Terminals, logs and CSV cells take one line a message; file names may hold any character.
# Surrogates stand for bytes of a name that is not in UTF-8; no UTF-8 stream takes them.
_SURROGATES = range(0xD800, 0xE000)
_ESCAPED = [*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, *_SURROGATES]
_CONTROL = {code: repr(chr(code))[1:-1] for code in _ESCAPED}


def one_line(text: object) -> str:
    """The text with control characters written as escapes, so that it stays on one line."""
    return str(text).translate(_CONTROL)


class UnetsegError(Exception):
    """A failure that a person can act on.

    what : the sentence that names the failure
    where : the file, folder, key or device concerned
    expected, got : what was needed and what was there instead
    hint : what to do about it

    `str()` gives all of it in one line.
    """

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        where: object = "",
        expected: object = "",
        got: object = "",
        hint: str = "",
    ) -> None:
        self.what = what
        self.where = str(where)
        self.expected = str(expected)
        self.got = str(got)
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        facts = [
            f"{word} {fact}"
            for word, fact in (("expected", self.expected), ("got", self.got))
            if fact
        ]
        if facts:
            head += f" ({', '.join(facts)})"
        return one_line(f"{head}; {self.hint}" if self.hint else head)


class UsageError(UnetsegError):
    """The command line or the plan asks for something that does not exist."""

    exit_code = 2


class DataError(UnetsegError):
    """A file or a folder cannot serve as a scan, a mask or a data set."""

    exit_code = 3


class AmbiguousAxes(DataError):
    """A file names no axes, and they can be read in more than one way."""


class GridMismatch(DataError):
    """A mask does not lie on its scan."""


class ShapeMismatch(DataError):
    """Two arrays that must cover the same voxels do not."""


class ModelError(UnetsegError):
    """A trained model is missing, damaged, or made for other data."""

    exit_code = 4


class DeviceError(UnetsegError):
    """A device is not there, or its memory does not suffice."""

    exit_code = 5


class RankLost(DeviceError):
    """Another process of the same training has ended."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known word closest to `name`, or lists all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
