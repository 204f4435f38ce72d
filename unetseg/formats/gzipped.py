"""Files that are one stream, plain or gzipped: a header, then the voxels."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from isal.igzip import IGzipFile
from isal.isal_zlib import IsalError
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.files import replacing, telling
from unetseg.formats.boxwise import Raw

# Deflate cannot do better than 1032 to 1.
MOST_GZIP = 1100
# Of igzip's levels 0 to 3: 3 takes seven times as long for a mask a tenth smaller.
GZIP_LEVEL = 1
COPY_BYTES = 1 << 20
# The types of isal call its error an instance of one.
_DAMAGED = (EOFError, BadGzipFile, cast(type[Exception], IsalError))


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, which is seen to be gzipped by its first bytes.

    Raises DataError if the stream is damaged or cut short.
    """
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        try:
            # An IGzipFile given to cast: typeshed knows it as a stream of its own kind.
            yield cast(IO[bytes], IGzipFile(fileobj=plain)) if zipped else plain
        except _DAMAGED as error:
            raise DataError(
                f"the gzip stream is damaged or cut short: {error}",
                where=path,
                hint="copy or export the file again",
            ) from error


def is_gzipped(stream: IO[bytes]) -> bool:
    """Whether a stream of `reading` is unpacked on the way."""
    return isinstance(stream, IGzipFile)


@contextmanager
def zipped(plain: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream that packs what is written into `plain`."""
    # Neither name nor time: the same mask gives the same bytes.
    with IGzipFile("", "wb", GZIP_LEVEL, plain, mtime=0) as stream:
        yield cast(IO[bytes], stream)


@contextmanager
def _writing(path: Path, *, is_zipped: bool) -> Iterator[IO[bytes]]:
    with replacing(path) as temporary, temporary.open("wb") as plain:
        if is_zipped:
            with zipped(plain) as stream:
                yield stream
        else:
            yield plain


def write_voxels(path: Path, start: bytes, array: NDArray[Any], *, is_zipped: bool) -> None:
    """Write a header and voxels, the first axis of the array fastest, atomically."""
    data = np.ascontiguousarray(array.T)
    content = data.reshape(-1).view(np.uint8).data
    with _writing(path, is_zipped=is_zipped) as stream:
        # In the pieces of `saving`: gzip's bytes depend on them.
        end = COPY_BYTES - len(start)
        stream.write(start + bytes(content[:end]))
        for first in range(end, len(content), COPY_BYTES):
            stream.write(content[first : first + COPY_BYTES])


def saving(path: Path, start: bytes, *, is_zipped: bool) -> Callable[[Raw], None]:
    """What makes such a file from a raw one that has room for the header."""

    def save(raw: Raw) -> None:
        with telling(path):
            with raw.path.open("r+b") as file:
                file.write(start)
            if not is_zipped:
                raw.path.replace(path)
                return
        with _writing(path, is_zipped=True) as stream, raw.path.open("rb") as file:
            shutil.copyfileobj(file, stream, COPY_BYTES)

    return save
