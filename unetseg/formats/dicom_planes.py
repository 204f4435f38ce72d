"""The planes of a DICOM series: what their headers say, and how they stack to a volume."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.geometry import Geometry

# Headers are rounded: how far a plane may lie from its place, as a share of the distance between
# two planes, and how much directions and edges may differ.
_PLACE = 0.05
_SAME = 1e-3
# Planes closer than this share of the usual distance lie in one place.
_TWICE = 0.01
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)


@dataclass(frozen=True)
class Plane:
    """One slice.

    frame : its number in the file, from 0
    sizes : columns, rows
    edges : distance between columns, and between rows, in mm; None if unknown
    directions : of a row and of a column, LPS, 6 numbers; None if unknown
    position : of the first pixel's centre, LPS mm; None if unknown
    samples : 1, or 3 for colours
    slope, intercept : from stored to real values
    lowest, highest : what the stored bits can hold
    """

    path: Path
    frame: int
    sizes: tuple[int, int]
    edges: tuple[float, float] | None
    directions: tuple[float, ...] | None
    position: tuple[float, ...] | None
    samples: int
    slope: float
    intercept: float
    lowest: int
    highest: int


@dataclass(frozen=True, eq=False)
class Series:
    """The planes of a scan, in the order of the array's last axis.

    uid : the SeriesInstanceUID
    """

    uid: str
    planes: tuple[Plane, ...]
    geometry: Geometry = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, each once, in the order of the planes."""
        return tuple(dict.fromkeys(plane.path for plane in self.planes))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest integer type that holds all rescaled values; float32 for fractions."""
        ends = [
            plane.slope * value + plane.intercept
            for plane in self.planes
            for value in (plane.lowest, plane.highest)
        ]
        steps = {number for plane in self.planes for number in (plane.slope, plane.intercept)}
        if all(step.is_integer() for step in steps):
            for kind in _INTEGERS:
                limits = np.iinfo(kind)
                if limits.min <= min(ends) and max(ends) <= limits.max:
                    return np.dtype(kind)
        return np.dtype(np.float32)


def planes_of(path: Path, header: Any) -> list[Plane]:
    """The planes of a file, by the values of its header. Raises DataError for films and palettes.

    header : keyword -> value, as pydicom gives it
    """
    kind = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    samples = int(header.get("SamplesPerPixel", 1))
    if not (kind.startswith("MONOCHROME") and samples == 1) and samples != 3:
        raise DataError(
            f"{kind} images are not supported", where=path, hint="save grey values or RGB"
        )
    frames = int(header.get("NumberOfFrames", 1) or 1)
    shared = _first(header.get("SharedFunctionalGroupsSequence"))
    every = header.get("PerFrameFunctionalGroupsSequence") or ()
    if len(every) != frames:
        every = (None,) * frames
    found = []
    for frame, own in enumerate(every):
        position = _value(header, "ImagePositionPatient", "PlanePositionSequence", own, shared)
        if frames > 1 and (position is None or own is None):
            raise DataError(
                f"{frames} frames without positions: a film, not a volume",
                where=path,
                hint="save each frame as its own file",
            )
        rows, columns = int(header["Rows"]), int(header["Columns"])
        edges = _value(header, "PixelSpacing", "PixelMeasuresSequence", own, shared)
        bits, is_signed = int(header.get("BitsStored", 16)), header.get("PixelRepresentation") == 1
        transformed = "PixelValueTransformationSequence"
        slope = _value(header, "RescaleSlope", transformed, own, shared)
        intercept = _value(header, "RescaleIntercept", transformed, own, shared)
        found.append(
            Plane(
                path,
                frame,
                (columns, rows),
                # The standard names the distance between rows first.
                (edges[1], edges[0]) if edges and min(edges) > 0 else None,
                _value(header, "ImageOrientationPatient", "PlaneOrientationSequence", own, shared),
                position,
                samples,
                slope[0] if slope and slope[0] else 1.0,
                intercept[0] if intercept else 0.0,
                -(2 ** (bits - 1)) if is_signed else 0,
                2 ** (bits - is_signed) - 1,
            )
        )
    return found


def _value(
    header: Any, keyword: str, sequence: str, own: Any, shared: Any
) -> tuple[float, ...] | None:
    """The numbers of a keyword, from the functional groups of a frame if there are any."""
    for group in (own, shared):
        item = _first(getattr(group, sequence, None)) if group is not None else None
        if item is not None and item.get(keyword) is not None:
            return _numbers(item.get(keyword))
    return _numbers(header.get(keyword))


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None or value == "":
        return None
    # One number, or a list of them.
    return tuple(float(each) for each in np.atleast_1d(np.array(value, np.float64)))


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def stacked(uid: str, planes: Sequence[Plane]) -> Series:
    """The planes sorted by their positions, and where they lie.

    Raises DataError if they differ in size or direction, lack positions, lie twice in one place,
    or do not follow one another at equal distances.
    """
    first = planes[0]
    if len(planes) == 1:
        if first.edges is None:
            return Series(uid, (first,), Geometry.from_spacing(first.sizes, (1.0, 1.0), "px"))
        return Series(uid, (first,), Geometry.from_spacing(first.sizes, first.edges, "mm"))
    _check_alike(planes)
    if first.directions is None or first.edges is None or any(p.position is None for p in planes):
        raise DataError(
            "slices without position, direction or pixel spacing cannot be stacked",
            hint="convert the series with a tool that knows its origin",
        )
    along = np.array(first.directions[:3]), np.array(first.directions[3:])
    normal = np.cross(*along)
    positions = np.array([plane.position for plane in planes], np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    chosen = tuple(planes[k] for k in order)
    positions = positions[order]
    _check_steps(chosen, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    off = positions - positions[0] - np.arange(len(planes))[:, np.newaxis] * step
    worst = float(np.linalg.norm(off, axis=1).max())
    if worst > _PLACE * float(np.linalg.norm(step)):
        raise DataError(
            f"the slices do not lie behind one another: one is {worst:.3g} mm beside its place",
            hint="the series may be of several stacks; move each to a folder of its own",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (
        along[0] * first.edges[0],
        along[1] * first.edges[1],
        step,
    )
    affine[:3, 3] = positions[0]
    # From LPS to RAS.
    affine[:2] *= -1
    return Series(uid, chosen, Geometry((*first.sizes, len(planes)), affine, "mm"))


def _check_alike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes:
        if plane.sizes != first.sizes or plane.samples != first.samples:
            raise DataError(
                "slices of several sizes",
                expected=f"{first.sizes} as {first.path.name}",
                got=f"{plane.sizes} in {plane.path.name}",
                hint="move what is no slice of the volume (a scout) to another folder",
            )
        if not (_alike(plane.directions, first.directions) and _alike(plane.edges, first.edges)):
            raise DataError(
                f"slices of several directions or pixel spacings: {first.path.name} and"
                f" {plane.path.name}",
                hint="move what is no slice of the volume (a scout) to another folder",
            )
    rescalings = {(plane.slope, plane.intercept) for plane in planes}
    if len({plane.path for plane in planes}) == 1 and len(rescalings) > 1:
        raise DataError(
            "frames with several rescale slopes are not supported",
            hint="convert the file to single-frame DICOM or NIfTI",
        )


def _alike(mine: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if mine is None or other is None:
        return mine is other
    return bool(np.allclose(mine, other, rtol=_SAME, atol=_SAME))


def _check_steps(planes: Sequence[Plane], places: NDArray[np.float64]) -> None:
    """Raises DataError unless sorted places follow one another at equal distances."""
    steps = np.diff(places)
    usual = float(np.median(steps[steps > _TWICE * steps.max()])) if steps.max() > 0 else 0.0
    same = np.flatnonzero(steps <= _TWICE * usual)
    if len(same):
        a, b = planes[same[0]], planes[same[0] + 1]
        raise DataError(
            f"{len(same)} of {len(planes)} slices lie where another one lies, such as"
            f" {_named(a)} and {_named(b)}",
            expected="one volume",
            hint="time points, echoes or copies: move each volume to a folder of its own",
        )
    uneven = np.flatnonzero(np.abs(steps - usual) > _PLACE * usual)
    if len(uneven):
        k = int(uneven[0])
        raise DataError(
            f"slices are missing or unevenly spaced: {steps[k]:.4g} mm from {_named(planes[k])} to"
            f" {_named(planes[k + 1])}, {usual:.4g} mm elsewhere",
            hint="complete the series",
        )


def _named(plane: Plane) -> str:
    return f"{plane.path.name} frame {plane.frame + 1}" if plane.frame else plane.path.name
