"""What the text headers of NRRD and MetaImage say, and grids in ITK's terms."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetseg.errors import DataError
from unetseg.formats.gzipped import MOST_GZIP
from unetseg.formats.units import micrometres
from unetseg.formats.voxels import too_large
from unetseg.geometry import Geometry, Unit
from unetseg.records import Opened, Scan

# Key-value pairs of a NRRD may be long, yet hardly longer than this.
_LONGEST = 1 << 20
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
# From LPS to RAS and back, row by row.
_LPS = np.array([[-1.0], [-1.0], [1.0]])


@dataclass(frozen=True)
class ItkGrid:
    """Where voxels lie, as ITK says it: fastest axis first, 3-D positions in LPS.

    direction : (n, n), row by row; column k is the direction of axis k
    unit : the word of the file for its lengths; empty, which is millimetres, where it has none
    """

    sizes: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    unit: str = ""

    @property
    def geometry(self) -> Geometry:
        """In RAS if there are three axes; of a single plane, the edge lengths only."""
        n = len(self.sizes)
        unit, factor = in_millimetres(self.unit)
        if self.sizes[2:] == (1,):
            edges = [edge * factor for edge in self.spacing[:2]]
            return Geometry.from_spacing(self.sizes[:2], edges, unit)
        affine = np.eye(n + 1)
        affine[:n, :n] = np.array(self.direction).reshape(n, n) * self.spacing
        affine[:n, n] = self.origin
        affine[:n] *= factor
        if n == 3:
            affine[:3] *= _LPS
        return Geometry(self.sizes, affine, unit)


def grid_like(like: Scan | Opened) -> ItkGrid:
    """The grid of a scan of any format: bit for bit if it is one of ITK."""
    geometry, own = like.geometry, like.source.header
    # A person may have said another spacing than the file.
    if isinstance(own, ItkGrid) and not own.geometry.differences(geometry):
        return own
    n = geometry.ndim
    affine = geometry.affine[:n].copy()
    if n == 3:
        affine *= _LPS
    return ItkGrid(
        geometry.shape,
        geometry.spacing,
        tuple(float(x) for x in affine[:, n]),
        tuple(float(x) for x in (affine[:, :n] / geometry.spacing).ravel()),
        "" if geometry.unit == "mm" else geometry.unit,
    )


def in_millimetres(unit: str) -> tuple[Unit, float]:
    """The unit of the geometry for the unit of a file, and how many of it the latter has.

    Files without a unit are in millimetres. Metres and centimetres become millimetres, shorter
    units micrometres; what is no length is a pixel.
    """
    factor = micrometres(1.0, unit) if unit else 1000.0
    if factor is None:
        return "px", 1.0
    return ("mm", factor / 1000.0) if factor >= 1000.0 else ("um", factor)


@dataclass(frozen=True)
class Text:
    """What ITK does not tell of a header.

    unit : of the lengths; empty if there is none
    is_packed : the voxels are compressed
    is_read_in_parts : ITK reads a box without the rest of the file
    there : bytes of voxels, packed or not, that the file or the file beside it holds; None if that
        cannot be told
    promised : how many packed bytes there should be; None if the header does not say
    """

    unit: str
    is_packed: bool
    is_read_in_parts: bool
    there: int | None
    promised: int | None = None

    def check_size(self, unpacked: int) -> None:
        """Raises DataError if so many bytes of voxels cannot come from this file."""
        if self.there is None:
            return
        stored = self.promised if self.is_packed else unpacked
        if stored is not None and stored > self.there:
            raise too_large(stored, self.there)
        if unpacked > self.there * MOST_GZIP:
            raise too_large(unpacked, self.there)


def text_of(path: Path) -> Text:
    """The header in words. Raises DataError if the file has none, or lacks its voxels."""
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    with path.open("rb") as file:
        start = file.read(_LONGEST)
    return _nrrd(path, start) if is_nrrd else _meta(path, start)


def _nrrd(path: Path, start: bytes) -> Text:
    if not start.startswith(b"NRRD000"):
        raise DataError("not a NRRD file", expected="NRRD000", got=repr(start[:8]))
    blank = _BLANK_LINE.search(start)
    behind = blank.end() if blank else len(start)
    fields = _fields(start[:behind], ":")
    units = set(fields.get("space units", fields.get("units", "")).replace('"', " ").split())
    encoding = fields.get("encoding", "raw").lower()
    named = fields.get("data file", fields.get("datafile", ""))
    # Of other packings, and of text, the size says nothing.
    is_known = encoding in ("raw", "gzip", "gz")
    there = _there(path, named, behind) if is_known else None
    unit = units.pop() if len(units) == 1 else ""
    return Text(unit, encoding != "raw", is_read_in_parts=False, there=there)


def _meta(path: Path, start: bytes) -> Text:
    head, found, rest = start.partition(b"ElementDataFile")
    line, _, _ = rest.partition(b"\n")
    if not found:
        raise DataError(
            "not a MetaImage file",
            expected="a header that ends in ElementDataFile",
            got=repr(start[:16]),
        )
    fields = _fields(head, "=")
    named = line.decode("latin-1").strip(" =\t\r")
    behind = len(head) + len(found) + len(line) + 1
    is_packed = fields.get("compresseddata", "").lower() == "true"
    is_text = fields.get("binarydata", "true").lower() == "false"
    promised = fields.get("compresseddatasize", "")
    there = None if is_text else _there(path, "" if named.upper() == "LOCAL" else named, behind)
    return Text(
        "",
        is_packed,
        not is_packed and not is_text,
        there,
        int(promised) if is_packed and promised.isdigit() and int(promised) else None,
    )


def _fields(head: bytes, sign: str) -> dict[str, str]:
    lines = head.decode("latin-1").splitlines()
    pairs = (line.partition(sign) for line in lines if not line.startswith("#"))
    return {key.strip().lower(): value.strip() for key, found, value in pairs if found}


def _there(path: Path, named: str, behind: int) -> int | None:
    """Bytes behind the header, or in the file that it names; None for lists and patterns."""
    if not named:
        return path.stat().st_size - behind
    if named.upper().startswith("LIST") or "%" in named:
        return None
    beside = path.parent / named
    if not beside.is_file():
        raise DataError(
            f"the file with the voxels is missing: {named}", hint="copy both files together"
        )
    return beside.stat().st_size
