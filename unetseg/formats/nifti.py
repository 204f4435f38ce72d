"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped."""

import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.voxels import (
    Maps,
    check_grid,
    checked_maps,
    checked_values,
    smallest_integers,
    too_large,
)
from unetseg.geometry import Geometry, Unit
from unetseg.records import Mask, Scan, Source

# Deflate cannot do better than 1032 to 1.
_MOST_GZIP = 1100
_CHUNK_BYTES = 1 << 20
# Masks are nearly empty: higher levels take several times longer for a few percent.
_GZIP_LEVEL = 1

_UNITS: dict[int, tuple[Unit, float]] = {1: ("mm", 1000.0), 3: ("um", 1.0)}

# nibabel repairs odd headers and says so on stderr; what matters is checked here.
_silent = logging.getLogger("unetseg.formats.nifti.header")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Nifti:
    """Array axes are X, Y, Z in the order of the file; a fourth axis becomes the channels.

    Position and direction come from the sform if its code is set, else from the qform if its
    code is set, else from the edge lengths; in the latter case zero edges count as 1. Files
    without a unit are in millimetres, metres become millimetres.

    A single slice (X, Y, 1) is a 2-D scan, which keeps the edge lengths only; its masks are
    written with the header of the scan and so lie where the scan lies. A fifth axis is read as
    channels if there is one time point only (NIfTI's layout of vectors). Whether a file is
    gzipped is seen from its content.
    """

    name = "nifti"
    suffixes = (".nii.gz", ".nii")

    def read(self, path: Path) -> Scan:
        """The scan with its header in `source.header`; rescaled if the header asks for it.

        Raises DataError for damaged, complex, RGB, non-finite or more than 4-D data.
        """
        with _reading(path) as stream:
            raw, header = _headers(stream.read(nib.Nifti2Header.sizeof_hdr))
            dtype = header.get_data_dtype()
            if dtype.names:
                raise DataError(
                    "RGB NIfTI is not supported",
                    hint="save one value a voxel, or the colours as channels on a fourth axis",
                )
            shape = _shape(header)
            voxels = _voxels(stream, path, header.get_data_offset(), shape, dtype)
        array = checked_values(_rescaled(voxels.reshape(shape, order="F"), header))
        spatial, channels = _split(shape)
        array = np.moveaxis(array.reshape((*spatial, channels)), -1, 0)
        return Scan(
            array,
            _geometry(header, spatial),
            tuple(str(channel) for channel in range(channels)),
            Source(path, self.name, raw),
        )

    def read_labels(self, path: Path) -> Scan:
        """The same as `read`: NIfTI knows no palettes."""
        return self.read(path)

    def mask_suffix(self, path: Path) -> str:
        return ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a mask whose header has the geometry fields of the scan's, bit for bit."""
        check_grid(mask, like)
        header = _header_like(like)
        _write(smallest_integers(mask.array).reshape(_stored_shape(header, like)), header, path)

    def write_maps(self, maps: Maps, names: tuple[str, ...], path: Path, like: Scan) -> None:
        """Write maps as (X, Y, Z, K). NIfTI has no place for the names."""
        maps = checked_maps(maps, names, like)
        spatial = (*like.geometry.shape, 1)[:3]
        last = np.moveaxis(maps, 0, -1).reshape((*spatial, len(names)))
        _write(last, _header_like(like), path)


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        try:
            # A GzipFile given to cast: typeshed knows it as a stream of its own kind.
            yield cast(IO[bytes], gzip.GzipFile(fileobj=plain)) if zipped else plain
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"the gzip stream is damaged or cut short: {error}",
                where=path,
                hint="copy or export the file again",
            ) from error


def _headers(block: bytes) -> tuple[nib.Nifti1Header, nib.Nifti1Header]:
    """The header as stored, and a copy in which nibabel has repaired what it can."""
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    kinds = [kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.sizeof_hdr in sizes]
    if not kinds or len(block) < kinds[0].sizeof_hdr:
        raise DataError(
            "not a NIfTI file",
            expected="a NIfTI header",
            got=repr(block[:16]),
            hint="convert it to NIfTI",
        )
    stored = kinds[0](block[: kinds[0].sizeof_hdr], check=False)
    magic = stored["magic"].item()
    if magic == stored.pair_magic:
        raise DataError(
            "the header of a pair of files (.hdr and .img)", hint="save it as one .nii file"
        )
    try:
        repaired = stored.copy()
        repaired.check_fix(logger=_silent)
    except HeaderDataError as error:
        raise DataError(
            f"damaged NIfTI header: {error}", hint="copy or export the file again"
        ) from error
    return stored, repaired


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    count = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : count + 1])
    if not 2 <= count <= 7:
        raise DataError("wrong number of axes", expected="2 to 5 axes", got=shape or count)
    if min(shape) < 1:
        raise DataError("an axis holds no voxels", expected="sizes of 1 or more", got=shape)
    if sum(size > 1 for size in shape[3:]) > 1:
        raise DataError(
            "more than four axes",
            expected="X, Y, Z and one axis of channels or time points",
            got=shape,
            hint="save one file per time point",
        )
    return shape


def _split(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Spatial sizes and the number of channels."""
    spatial = shape[:2] if shape[2:3] == (1,) else shape[:3]
    return spatial, max((1, *shape[3:]))


def _voxels(
    stream: IO[bytes], path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    needed = dtype.itemsize
    for size in shape:
        needed *= size
    there = path.stat().st_size
    zipped = isinstance(stream, gzip.GzipFile)
    if offset + needed > there * (_MOST_GZIP if zipped else 1):
        raise too_large(needed, there)
    stream.seek(offset)
    # A buffer of our own is writable and holds the voxels once.
    buffer = np.empty(needed, np.uint8)
    done = 0
    while done < needed:
        chunk = stream.read(min(_CHUNK_BYTES, needed - done))
        if not chunk:
            raise DataError(
                "the file is cut short",
                expected=f"{needed} bytes of voxels",
                got=done,
                hint="copy or export the file again",
            )
        buffer[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)
    # Reading past the voxels lets gzip compare its check sum.
    stream.read(1)
    return buffer.view(dtype)


def _rescaled(array: NDArray[Any], header: nib.Nifti1Header) -> NDArray[Any]:
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    slope, inter = header.get_slope_inter()
    if slope is None or (slope, inter) == (1, 0) or array.dtype.kind not in "iuf":
        return array
    # float32 holds any 16-bit value exactly.
    small = array.dtype.itemsize <= 2 or array.dtype.newbyteorder("=") == np.float32
    scaled: NDArray[Any] = array.astype(np.float32 if small else np.float64)
    np.multiply(scaled, slope, out=scaled)
    np.add(scaled, inter, out=scaled)
    return scaled


def _geometry(header: nib.Nifti1Header, spatial: tuple[int, ...]) -> Geometry:
    unit, factor = _UNITS.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))
    affine = np.diag([factor] * 3 + [1.0]) @ header.get_best_affine()
    if len(spatial) == 3:
        return Geometry(spatial, affine, unit)
    edges = np.linalg.norm(affine[:3, :2], axis=0)
    return Geometry.from_spacing(spatial, [float(edge) for edge in edges], unit)


def _header_like(like: Scan) -> nib.Nifti1Header:
    """A header with the geometry of the scan and nothing else of it."""
    if isinstance(like.source.header, nib.Nifti1Header):
        header = like.source.header.copy()
        header.extensions.clear()
    else:
        geometry = like.geometry
        large = max(geometry.shape) > np.iinfo(np.int16).max
        header = nib.Nifti2Header() if large else nib.Nifti1Header()
        affine = np.eye(4)
        n = geometry.ndim
        affine[:n, :n] = geometry.affine[:-1, :-1]
        affine[:n, 3] = geometry.affine[:-1, -1]
        header.set_data_shape((*geometry.shape, 1)[:3])
        header.set_xyzt_units({"mm": "mm", "um": "micron", "px": "unknown"}[geometry.unit])
        header.set_sform(affine, code="aligned")
        header["pixdim"][1 : n + 1] = geometry.spacing
    header["vox_offset"] = 0
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"] = header["intent_p1"] = header["intent_p2"] = header["intent_p3"] = 0
    header["intent_name"], header["aux_file"], header["descrip"] = b"", b"", b"unetseg"
    return header


def _stored_shape(header: nib.Nifti1Header, like: Scan) -> tuple[int, ...]:
    """The sizes of the scan as its file has them: with the third axis of a single slice."""
    return (*like.geometry.shape, 1)[: min(3, max(2, int(header["dim"][0])))]


def _write(array: NDArray[Any], header: nib.Nifti1Header, path: Path) -> None:
    # `set_data_shape` would reset the edge lengths of further axes.
    header["dim"] = [array.ndim, *array.shape, *[1] * (7 - array.ndim)]
    header.set_data_dtype(array.dtype)
    data = np.ascontiguousarray(array.astype(header.get_data_dtype(), copy=False).T)
    with replacing(path) as temporary, temporary.open("wb") as plain:
        if path.name.lower().endswith(".gz"):
            # Neither name nor time: the same mask gives the same bytes.
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, plain, mtime=0) as zipped:
                header.write_to(zipped)
                zipped.write(data.view(np.uint8).data)
        else:
            header.write_to(plain)
            plain.write(data.view(np.uint8).data)
