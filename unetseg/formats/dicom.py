"""DICOM: a folder of slices as one volume, or a file of one or of many frames."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError, UsageError
from unetseg.formats.dicom_planes import Plane, Series, planes_of, stacked
from unetseg.formats.extras import needed, simpleitk
from unetseg.formats.naming import x_first
from unetseg.formats.read_only import ReadOnly
from unetseg.formats.voxels import COLOURS, checked_values, whole
from unetseg.geometry import Box, sizes_of
from unetseg.records import Opened, Scan, Source

SUFFIX = ".dcm"
# How many files of a folder are looked at to see whether it holds slices or single images.
_LOOKED_AT = 64
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_TAGS = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_SHOWN = 4


class Dicom(ReadOnly):
    """Array axes are X (columns), Y (rows), Z (slices), as in a NIfTI made from the same series.

    Slices are sorted by their positions along the normal of the plane, never by name or number.
    Positions, LPS in DICOM, become RAS millimetres; a tilted gantry gives a sheared affine. Values
    are rescaled by slope and intercept. Colours are three channels.

    A single slice is a 2-D scan, which keeps the edge lengths only; without PixelSpacing the unit
    is the pixel. Masks are NIfTI.
    """

    name = "dicom"
    suffixes = (SUFFIX,)
    is_folder = False
    told = "masks and maps of DICOM series are NIfTI files"
    hint = "choose a name that ends in .nii.gz; --export dicom-seg writes DICOM beside it"

    def open(self, path: Path) -> Opened:
        """The series of a folder, or the image of a file, by the headers.

        A box costs the slices that it touches, of a file with many frames all of it.

        Raises DataError for several series, for slices that are missing, lie twice in one place or
        differ in size or direction, for films, and for objects that hold no image; UsageError if
        pydicom or SimpleITK is not installed.
        """
        series = series_of(path)
        sitk = simpleitk()
        planes, geometry = series.planes, series.geometry
        dtype = series.dtype
        is_colour = planes[0].samples == 3
        channels = COLOURS if is_colour else ("0",)

        def read(box: Box) -> NDArray[Any]:
            chosen = planes[box[2]] if len(box) == 3 else planes
            array = _pixels(sitk, chosen)[:, box[1], box[0]].astype(dtype, copy=False)
            return checked_values(array.T.reshape(len(channels), *sizes_of(box)))

        shape = geometry.shape
        return Opened(
            geometry,
            channels,
            dtype,
            Source(path, self.name, series),
            (*shape[:2], 1)[: len(shape)] if len(series.files) == len(planes) else shape,
            read,
            is_picture=is_colour,
            axes=x_first(shape, len(channels), "S"),
        )

    def read(self, path: Path) -> Scan:
        """The scan with its series in `source.header`. Raises DataError as `open` does."""
        return whole(self.open(path))

    def read_labels(self, path: Path) -> Scan:
        """The same as `read`."""
        return self.read(path)

    def mask_suffix(self, path: Path) -> str:  # noqa: ARG002 - every series gets a NIfTI
        return ".nii.gz"

    def maps_suffix(self, path: Path) -> str:  # noqa: ARG002
        return ".nii.gz"


def is_series(folder: Path) -> bool:
    """Whether a folder holds the slices of a series, and so is one scan.

    It does if two of its .dcm files are of one series; a folder of radiographs, each a series of
    its own, is a folder of scans.
    """
    try:
        files = _files(folder)
    except OSError:
        return False
    if len(files) < 2:
        return False
    try:
        pydicom = needed("pydicom", "medical")
    except UsageError:
        # Whoever reads it is told what to install.
        return True
    seen = set()
    with _quiet():
        for path in files[:: -(-len(files) // _LOOKED_AT)]:
            try:
                found = _header(pydicom, path, ("SeriesInstanceUID",)).get("SeriesInstanceUID")
            except DataError:
                continue
            if found in seen:
                return True
            seen.add(found)
    return False


def series_of(path: Path) -> Series:
    """The series in a folder, or in a file. Raises DataError as `Dicom.open` does."""
    with _quiet():
        return _series(path)


def _series(path: Path) -> Series:
    pydicom = needed("pydicom", "medical")
    files = _files(path) if path.is_dir() else [path]
    headers = [(file, _header(pydicom, file, _TAGS)) for file in files]
    images = [(file, header) for file, header in headers if _is_image(header)]
    if not images:
        raise _no_image([header for _, header in headers])
    by_series: dict[str, list[tuple[Path, Any]]] = {}
    for file, header in images:
        by_series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    if len(by_series) > 1:
        raise _several(list(by_series.values()))
    uid, members = next(iter(by_series.items()))
    planes = [plane for file, header in members for plane in planes_of(file, header)]
    return stacked(uid, planes)


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SUFFIX) and not path.name.startswith(".")
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """pydicom warns of values that break the standard; those that matter are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _header(pydicom: Any, path: Path, tags: Sequence[str]) -> Any:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        # Values are parsed when they are asked for.
        return {tag: header.get(tag) for tag in tags if header.get(tag) is not None}
    except Exception as error:
        # A damaged file can make the parser fail in any way.
        raise DataError(
            f"not a readable DICOM file: {error}", where=path, hint="copy or export it again"
        ) from error


def _is_image(header: Any) -> bool:
    return "Rows" in header and str(header.get("SOPClassUID")) != _SEGMENTATION


def _no_image(headers: Sequence[Any]) -> DataError:
    kinds = sorted({str(header.get("Modality", "an unknown kind")) for header in headers})
    return DataError(
        f"no image: {', '.join(kinds)} objects hold contours, reports, or segmentations",
        hint="give the series that they belong to",
    )


def _several(series: Sequence[Sequence[tuple[Path, Any]]]) -> DataError:
    told = []
    for members in series[:_SHOWN]:
        header = members[0][1]
        number = header.get("SeriesNumber", "?")
        description = str(header.get("SeriesDescription", "")).strip() or "no description"
        told.append(f"{number} ({description}, {len(members)} files such as {members[0][0].name})")
    more = f" and {len(series) - _SHOWN} more" if len(series) > _SHOWN else ""
    return DataError(
        f"{len(series)} series in one folder: {', '.join(told)}{more}",
        expected="the slices of one series",
        hint="move the files of the series that you want to a folder of their own",
    )


def _pixels(sitk: Any, planes: Sequence[Plane]) -> NDArray[Any]:
    """(Z, Y, X) or (Z, Y, X, 3), rescaled, each file read once where its frames are neighbours."""
    found = []
    for path, own in groupby(planes, key=lambda plane: plane.path):
        found.append(_values(sitk, path)[[plane.frame for plane in own]])
    return np.concatenate(found)


def _values(sitk: Any, path: Path) -> NDArray[Any]:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise DataError(
            "the pixels cannot be decoded", where=path, hint="copy or export it again"
        ) from error
    return array
