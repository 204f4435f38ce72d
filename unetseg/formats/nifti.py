"""NIfTI-1 and NIfTI-2 in one file, plain or gzipped."""

import logging
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
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
from unetseg.geometry import Box, Geometry, Unit
from unetseg.records import Label, Mask, Opened, Scan, Source

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
    is_folder = False

    def open(self, path: Path) -> Opened:
        """The scan by its header alone.

        A plain file is read in planes; a box of a gzipped one costs the time, though not the
        memory, of all that lies before its end.

        Raises DataError for damaged, complex, RGB or more than 4-D data.
        """
        with reading(path) as stream:
            raw, header = _headers(stream.read(nib.Nifti2Header.sizeof_hdr))
            zipped = is_gzipped(stream)
        dtype = header.get_data_dtype()
        if dtype.names:
            raise DataError(
                "RGB NIfTI is not supported",
                hint="save one value a voxel, or the colours as channels on a fourth axis",
            )
        offset = header.get_data_offset()
        needed = dtype.itemsize * prod(_shape(header))
        there = path.stat().st_size
        if offset + needed > there * (MOST_GZIP if zipped else 1):
            raise too_large(needed, there)
        spatial, channels = _split(_shape(header))

        def read(box: Box) -> NDArray[Any]:
            with reading(path) as stream:
                # The first axis of a NIfTI is its fastest.
                stored = (channels, *spatial[::-1])
                array = read_box(stream, offset, stored, dtype, (slice(0, channels), *box[::-1]))
                # Reading past the voxels lets gzip compare its check sum.
                stream.read(1)
            array = np.transpose(array, (0, *range(array.ndim - 1, 0, -1)))
            return checked_values(_rescaled(array, header))

        return Opened(
            _geometry(header, spatial),
            tuple(str(channel) for channel in range(channels)),
            checked_values(_rescaled(np.zeros(1, dtype), header)).dtype,
            Source(path, self.name, raw),
            spatial if zipped else row_block(spatial[::-1], dtype.itemsize)[::-1],
            read,
            axes=x_first(spatial, channels),
        )

    def read(self, path: Path) -> Scan:
        """The scan with its header in `source.header`; rescaled if the header asks for it.

        Raises DataError for what `open` refuses and for non-finite values.
        """
        return whole(self.open(path))

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
        array = smallest_integers(mask.array).reshape(_stored_shape(header, like))
        start = _start(header, array.shape, array.dtype)
        array = array.astype(header.get_data_dtype(), copy=False)
        write_voxels(path, start, array, is_zipped=_is_zipped(path))

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,
        labels: tuple[Label, ...] = (),  # noqa: ARG002 - NIfTI has no place for names
        made_by: str = "",  # noqa: ARG002 - nobody goes on with it
    ) -> Gathered:
        """A mask that is gathered in a plain file beside `path`, then compressed as a stream."""
        header = _header_like(like)
        kept = np.dtype(dtype)
        start = _start(header, _stored_shape(header, like), kept)
        raw = _raw(path, like.geometry.shape, kept, start, like.geometry.ndim)
        return Gathered(
            raw,
            lambda values: stored_labels(values, kept),
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
        """Maps (X, Y, Z, K); bytes are stored with the slope 1 / 255, which readers apply.

        Raises DataError for float16, which NIfTI does not have.
        """
        kept = stored_type(dtype)
        if kept == np.float16:
            raise DataError(
                "NIfTI has no 16-bit floats", where=path, hint="choose uint8 or float32"
            )
        header = _header_like(like)
        if np.dtype(dtype) == np.uint8:
            header["scl_slope"] = 1 / 255
        spatial = like.geometry.shape
        start = _start(header, (*(*spatial, 1)[:3], len(names)), kept)
        raw = _raw(path, (len(names), *spatial), kept, start, len(spatial))
        return Gathered(
            raw,
            lambda values: stored_maps(values, dtype),
            saving(path, start, is_zipped=_is_zipped(path)),
        )


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


def _header_like(like: Scan | Opened) -> nib.Nifti1Header:
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


def _stored_shape(header: nib.Nifti1Header, like: Scan | Opened) -> tuple[int, ...]:
    """The sizes of the scan as its file has them: with the third axis of a single slice."""
    return (*like.geometry.shape, 1)[: min(3, max(2, int(header["dim"][0])))]


def _start(header: nib.Nifti1Header, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The header for such voxels, up to where they begin."""
    # `set_data_shape` would reset the edge lengths of further axes.
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header.set_data_dtype(dtype)
    start = BytesIO()
    header.write_to(start)
    return start.getvalue()


def _is_zipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _raw(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], start: bytes, ndim: int) -> Raw:
    return Raw(path, shape, dtype, ndim=ndim, offset=len(start), is_x_first=True)
