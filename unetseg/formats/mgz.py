"""MGH and MGZ, the volumes of FreeSurfer."""

from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader, header_dtype
from numpy.typing import DTypeLike, NDArray

from unetseg.errors import DataError
from unetseg.formats.boxes import read_box, row_block
from unetseg.formats.boxwise import Gathered, Raw, stored_labels, stored_maps, stored_type
from unetseg.formats.gzipped import MOST_GZIP, is_gzipped, reading, saving, write_voxels
from unetseg.formats.naming import x_first
from unetseg.formats.voxels import (
    check_grid,
    checked_values,
    smallest_integers,
    too_large,
    whole,
)
from unetseg.geometry import Box, Geometry
from unetseg.records import Label, Mask, Opened, Scan, Source

_VERSION = 1
# The types of the format, by their code.
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_INTEGERS = (np.uint8, np.int16, np.uint16, np.int32)


class Mgz:
    """Array axes are X, Y, Z in the order of the file; frames become the channels.

    Positions are RAS millimetres, in single precision: the direction of each axis, its edge
    length, and the place of the volume's centre. A single slice (X, Y, 1) is a 2-D scan, which
    keeps the edge lengths only; its masks are written with the header of the scan. The format has
    no uint32: masks with large values are int32. Whether a file is gzipped is seen from its
    content.
    """

    name = "mgz"
    suffixes = (".mgz", ".mgh")
    is_folder = False

    def open(self, path: Path) -> Opened:
        """The scan by its header alone; a box of a gzipped file costs all that lies before it.

        Raises DataError for damaged headers and for types that the format does not know.
        """
        with reading(path) as stream:
            header = _header(stream.read(DATA_OFFSET))
            zipped = is_gzipped(stream)
        dtype = np.dtype(_TYPES[int(header["type"])])
        sizes = tuple(int(size) for size in header["dims"])
        there = path.stat().st_size
        needed = DATA_OFFSET + prod(sizes) * dtype.itemsize
        if needed > there * (MOST_GZIP if zipped else 1):
            raise too_large(needed, there)
        spatial = sizes[:2] if sizes[2] == 1 else sizes[:3]
        channels = sizes[3]

        def read(box: Box) -> NDArray[Any]:
            with reading(path) as stream:
                # The first axis is the fastest.
                stored = (channels, *spatial[::-1])
                array = read_box(
                    stream, DATA_OFFSET, stored, dtype, (slice(0, channels), *box[::-1])
                )
                # Reading past the voxels lets gzip compare its check sum.
                stream.read(1)
            return checked_values(np.transpose(array, (0, *range(array.ndim - 1, 0, -1))))

        return Opened(
            _geometry(header, spatial),
            tuple(str(channel) for channel in range(channels)),
            dtype.newbyteorder("="),
            Source(path, self.name, header),
            spatial if zipped else row_block(spatial[::-1], dtype.itemsize)[::-1],
            read,
            axes=x_first(spatial, channels),
        )

    def read(self, path: Path) -> Scan:
        """The scan with its header in `source.header`.

        Raises DataError for what `open` refuses and for non-finite values.
        """
        return whole(self.open(path))

    def read_labels(self, path: Path) -> Scan:
        """The same as `read`: the format knows no palettes."""
        return self.read(path)

    def mask_suffix(self, path: Path) -> str:
        return ".mgh" if path.name.lower().endswith(".mgh") else ".mgz"

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a mask with the place of the scan: bit for bit if that is an MGH as well."""
        check_grid(mask, like)
        array = smallest_integers(mask.array)
        kept = _integer_type(array.dtype)
        array = _labels(array, kept).astype(kept, copy=False)
        start = _start(like, kept, path)
        write_voxels(path, start, array, is_zipped=_is_zipped(path))

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,
        labels: tuple[Label, ...] = (),  # noqa: ARG002 - the format has no place for names
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """A mask that is gathered in a plain file beside `path`, then compressed as a stream."""
        kept = _integer_type(np.dtype(dtype))
        start = _start(like, kept, path)
        raw = _raw(path, like.geometry.shape, kept, like)
        return Gathered(
            raw,
            lambda values: _labels(values, kept),
            saving(path, start, is_zipped=_is_zipped(path)),
        )

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,
        names: tuple[str, ...],
        dtype: DTypeLike = np.float32,
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """Maps as frames (X, Y, Z, K); bytes are 255 times the value.

        Raises DataError for float16, which the format does not have.
        """
        kept = stored_type(dtype).newbyteorder(">")
        if kept.itemsize == 2:
            raise DataError("MGH has no 16-bit floats", where=path, hint="choose uint8 or float32")
        start = _start(like, kept, path, len(names))
        raw = _raw(path, (len(names), *like.geometry.shape), kept, like)
        return Gathered(
            raw,
            lambda values: stored_maps(values, dtype),
            saving(path, start, is_zipped=_is_zipped(path)),
        )


def _header(block: bytes) -> MGHHeader:
    """Raises DataError unless the block is the start of a file of this format."""
    if len(block) < DATA_OFFSET or int.from_bytes(block[:4], "big") != _VERSION:
        raise DataError(
            "not an MGH file",
            expected="an MGH header of version 1",
            got=repr(block[:8]),
            hint="convert it with mri_convert",
        )
    header = MGHHeader(block[: header_dtype.itemsize], check=False)
    sizes = tuple(int(size) for size in header["dims"])
    if min(sizes) < 1:
        raise DataError("an axis holds no voxels", expected="sizes of 1 or more", got=sizes)
    if int(header["type"]) not in _TYPES:
        raise DataError(
            f"voxels of an unknown type {int(header['type'])}",
            expected="uint8, int16, uint16, int32 or float32",
            hint="convert it with mri_convert",
        )
    return header


def _geometry(header: MGHHeader, spatial: tuple[int, ...]) -> Geometry:
    affine = np.asarray(header.get_affine(), np.float64)
    if len(spatial) == 3:
        return Geometry(spatial, affine, "mm")
    edges = np.linalg.norm(affine[:3, :2], axis=0)
    return Geometry.from_spacing(spatial, [float(edge) for edge in edges], "mm")


def _integer_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest type of the format that holds all values of another, else its largest."""
    kept = next((kind for kind in _INTEGERS if np.can_cast(dtype, kind)), np.int32)
    return np.dtype(kept).newbyteorder(">")


def _labels(values: NDArray[Any], kept: np.dtype[Any]) -> NDArray[Any]:
    # In native order, whose name a person reads if it cannot hold them.
    return stored_labels(values, kept.newbyteorder("="))


def _start(like: Scan | Opened, dtype: np.dtype[Any], path: Path, frames: int = 1) -> bytes:
    """The header of a file that lies on the scan."""
    geometry = like.geometry
    if geometry.unit != "mm":
        raise DataError(
            "MGH holds millimetres only",
            where=path,
            got=geometry.unit,
            hint="give the mask the suffix of the scan",
        )
    header, own = MGHHeader(), like.source.header
    # A person may have said another spacing than the file.
    if isinstance(own, MGHHeader) and not _geometry(own, geometry.shape).differences(geometry):
        for field in ("goodRASFlag", "delta", "Mdc", "Pxyz_c"):
            header[field] = own[field]
    else:
        n = geometry.ndim
        edges, origin = np.eye(3), np.zeros(3)
        edges[:n, :n], origin[:n] = geometry.affine[:-1, :-1], geometry.affine[:-1, -1]
        delta = np.linalg.norm(edges, axis=0)
        header["goodRASFlag"] = 1
        header["delta"] = delta
        header["Mdc"] = (edges / delta).T
        # What the format calls the centre is half a voxel beyond it.
        header["Pxyz_c"] = origin + edges @ np.array([*geometry.shape, 1][:3]) / 2
    header["dims"] = [*(*geometry.shape, 1)[:3], frames]
    header.set_data_dtype(dtype)
    start = BytesIO()
    header.writehdr_to(start)
    return start.getvalue().ljust(DATA_OFFSET, b"\0")


def _is_zipped(path: Path) -> bool:
    return path.name.lower().endswith(".mgz")


def _raw(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], like: Scan | Opened) -> Raw:
    return Raw(path, shape, dtype, ndim=like.geometry.ndim, offset=DATA_OFFSET, is_x_first=True)
