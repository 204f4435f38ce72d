"""Writing NRRD and MHA plane by plane, compressed, in one file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from isal import isal_zlib

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.boxwise import Voxels
from unetseg.formats.gzipped import COPY_BYTES, GZIP_LEVEL, zipped
from unetseg.formats.itk_header import ItkGrid, in_millimetres
from unetseg.geometry import whole_box

_NRRD_TYPES = {"f4": "float", "u1": "uint8", "i1": "int8"}
_META_TYPES = {
    "u1": "MET_UCHAR",
    "i1": "MET_CHAR",
    "u2": "MET_USHORT",
    "i2": "MET_SHORT",
    "u4": "MET_UINT",
    "i4": "MET_INT",
    "f4": "MET_FLOAT",
}
# Digits of the largest count of bytes: the number is filled in when all is written.
_ROOM = 20


def check_name(path: Path, grid: ItkGrid) -> None:
    """Raises DataError for names that ask for two files, and for units that a MHA cannot hold."""
    name = path.name.lower()
    if name.endswith((".nhdr", ".mhd")):
        one = ".nrrd" if name.endswith(".nhdr") else ".mha"
        raise DataError(
            "written as one file, not as a header and voxels",
            where=path,
            hint=f"choose a name that ends in {one}",
        )
    if name.endswith(".mha") and in_millimetres(grid.unit) != ("mm", 1.0):
        raise DataError(
            "an MHA holds millimetres only",
            where=path,
            got=grid.unit,
            hint="give the mask the suffix of the scan",
        )


def write_itk(voxels: Voxels, grid: ItkGrid, path: Path, count: int = 0) -> None:
    """Write voxels, atomically: (*S), or (K, *S) with `count` K as values of a voxel.

    *S are the axes of the grid, or those without its third if that has one plane. A few planes
    are in memory at a time.
    """
    check_name(path, grid)
    dtype = voxels.dtype.newbyteorder("<")
    with replacing(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".nrrd"):
            file.write(_nrrd(grid, dtype, count))
            with zipped(file) as stream:
                for piece in _pieces(voxels, count):
                    stream.write(piece)
            return
        head = _meta(grid, dtype, count)
        file.write(head)
        start = file.tell()
        with _deflated(file) as write:
            for piece in _pieces(voxels, count):
                write(piece)
        packed = file.tell() - start
        file.seek(head.index(b" " * _ROOM + b"\n"))
        file.write(str(packed).rjust(_ROOM).encode())


def _pieces(voxels: Voxels, count: int) -> Iterator[bytes]:
    """The bytes of the file: the values of a voxel fastest, then the first axis."""
    shape = voxels.shape
    spatial = shape[1:] if count else shape
    plane = voxels.dtype.itemsize * int(np.prod(shape)) // spatial[-1]
    step = max(1, COPY_BYTES // plane)
    for start in range(0, spatial[-1], step):
        box = (*whole_box(shape[:-1]), slice(start, min(spatial[-1], start + step)))
        block = voxels.read(box).T
        yield np.ascontiguousarray(block, voxels.dtype.newbyteorder("<")).tobytes()


@contextmanager
def _deflated(file: IO[bytes]) -> Iterator[Callable[[bytes], Any]]:
    packer = isal_zlib.compressobj(GZIP_LEVEL)
    yield lambda piece: file.write(packer.compress(piece))
    file.write(packer.flush())


def _nrrd(grid: ItkGrid, dtype: np.dtype[Any], count: int) -> bytes:
    n = len(grid.sizes)
    kind = f"{dtype.kind}{dtype.itemsize}"
    columns = (np.array(grid.direction).reshape(n, n) * grid.spacing).T
    quoted = f'"{grid.unit}"'
    lines = [
        "NRRD0004",
        f"type: {_NRRD_TYPES.get(kind, dtype.newbyteorder('=').name)}",
        f"dimension: {n + bool(count)}",
        "space: left-posterior-superior" if n == 3 else f"space dimension: {n}",
        f"sizes: {_row([count] * bool(count) + list(grid.sizes))}",
        f"space directions: {'none ' * bool(count)}{' '.join(map(_vector, columns))}",
        f"kinds: {'vector ' * bool(count)}{_row(['domain'] * n)}",
        "endian: little",
        "encoding: gzip",
        *([f"space units: {_row([quoted] * n)}"] if grid.unit else []),
        f"space origin: {_vector(grid.origin)}",
    ]
    return "\n".join([*lines, "", ""]).encode()


def _meta(grid: ItkGrid, dtype: np.dtype[Any], count: int) -> bytes:
    n = len(grid.sizes)
    columns = np.array(grid.direction).reshape(n, n).T
    lines = [
        "ObjectType = Image",
        f"NDims = {n}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {' ' * _ROOM}",
        f"TransformMatrix = {_row(map(_number, columns.ravel()))}",
        f"Offset = {_row(map(_number, grid.origin))}",
        f"CenterOfRotation = {_row([0] * n)}",
        f"ElementSpacing = {_row(map(_number, grid.spacing))}",
        f"DimSize = {_row(grid.sizes)}",
        *([f"ElementNumberOfChannels = {count}"] if count else []),
        f"ElementType = {_META_TYPES[f'{dtype.kind}{dtype.itemsize}']}",
        "ElementDataFile = LOCAL",
    ]
    return "\n".join([*lines, ""]).encode()


def _row(values: Any) -> str:
    return " ".join(map(str, values))


def _vector(values: Sequence[float]) -> str:
    return f"({','.join(map(_number, values))})"


def _number(value: float) -> str:
    """As many digits as bring the same number back."""
    return repr(float(value))
