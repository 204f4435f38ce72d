"""A mask as DICOM segmentation object, which refers to the slices that it was made from."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats import format_of, read_mask
from unetseg.formats.dicom import series_of
from unetseg.formats.dicom_planes import Series
from unetseg.formats.extras import needed
from unetseg.records import Label, Mask
from unetseg.version import __version__

# More segments are objects, not classes; viewers list each of them.
_MOST_SEGMENTS = 255
_SERIES_NUMBER = 9000
_HEAD_BYTES = 1 << 14
# SNOMED CT: nobody has said what tissue the classes are; their names are in the labels.
_TISSUE = ("85756007", "SCT", "Tissue")


class Named(Protocol):
    """What the values of a mask stand for; see `exporting.shapes.Legend`."""

    @property
    def has_objects(self) -> bool: ...

    @property
    def labels(self) -> tuple[Label, ...]: ...

    @property
    def classes(self) -> tuple[int, ...]: ...


class Predicted(Protocol):
    """A mask file, its names, and the scan that it was made from, where that is known."""

    @property
    def path(self) -> Path: ...

    @property
    def legend(self) -> Named: ...

    @property
    def scan(self) -> Path | None: ...


class DicomSeg:
    """The export dicom-seg. Objects are put together to a segment for each of their classes."""

    suffix = "_seg.dcm"

    def write(self, mask: Predicted, path: Path) -> None:
        """Write it, atomically. Raises DataError as `write_dicom_seg`, and for other scans."""
        if mask.scan is None or format_of(mask.scan).name != "dicom":
            raise DataError(
                "a DICOM-SEG is made of a mask and its DICOM series",
                where=mask.path,
                got=mask.scan or "no series",
                hint="predict the series with --export dicom-seg",
            )
        found = _of_classes(read_mask(mask.path, is_drawn=False), mask.legend)
        write_dicom_seg(found, mask.scan, path)


def _of_classes(mask: Mask, legend: Named) -> Mask:
    """The mask with classes in the place of objects, and with their names."""
    if not legend.has_objects:
        return replace(mask, labels=legend.labels)
    labels = tuple(label for label in legend.labels if label.value)
    if legend.classes:
        return replace(mask, array=np.array([0, *legend.classes])[mask.array], labels=labels)
    one = labels if len(labels) == 1 else (Label(1, "object"),)
    return replace(mask, array=(mask.array > 0) * one[0].value, labels=one)


def write_dicom_seg(mask: Mask, source: Path, path: Path) -> None:
    """Write a mask as binary DICOM-SEG, atomically, one segment per class.

    mask : on the grid of the series; its labels, background left out, are the segments, and where
        it has none, the values that occur
    source : the folder or the file of the series that the mask was made from

    Segments are numbered from 1 in the order of the values. Frames that hold nothing are left out.

    Raises DataError if the mask does not lie on the series, or holds more than 255 classes;
    UsageError if highdicom is not installed.
    """
    highdicom = needed("highdicom", "medical")
    series = series_of(source)
    if found := series.geometry.differences(mask.geometry):
        raise DataError(
            f"the mask does not lie on the series {source.name}: {'; '.join(found)}", where=path
        )
    labels = _segments(mask, path)
    # Segment numbers without gaps, whatever the values of the mask are.
    numbers = np.zeros(mask.array.shape, np.uint8)
    for number, label in enumerate(labels, 1):
        numbers[mask.array == label.value] = number
    with warnings.catch_warnings(), replacing(path) as temporary:
        # highdicom warns of patient names without a family name.
        warnings.simplefilter("ignore")
        made = _segmentation(highdicom, series, _stored(numbers, series), labels)
        made.save_as(temporary)


def is_dicom_seg(path: Path) -> bool:
    """Whether this module has written the file."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD_BYTES)
    except OSError:
        return False
    # The manufacturer, of the type LO, comes long before the pixels.
    return start[128:132] == b"DICM" and b"\x08\x00\x70\x00LO\x08\x00unetseg" in start


def _segments(mask: Mask, path: Path) -> tuple[Label, ...]:
    named = tuple(label for label in mask.labels if label.value != 0)
    if not named:
        values = np.unique(mask.array)
        named = tuple(Label(int(v), f"label {v}") for v in values[values != 0])
    if len(named) > _MOST_SEGMENTS:
        raise DataError(
            f"{len(named)} segments are too many",
            where=path,
            expected=f"{_MOST_SEGMENTS} classes at most",
            hint="DICOM-SEG is for classes; export objects otherwise",
        )
    # A mask that found nothing says so with a segment that is empty.
    return tuple(sorted(named, key=lambda label: label.value)) or (Label(1, "label 1"),)


def _stored(numbers: NDArray[np.uint8], series: Series) -> NDArray[np.uint8]:
    """(frames, rows, columns), in the order of the slices or, of one file, of its frames."""
    planes = numbers.T.reshape(len(series.planes), *numbers.T.shape[-2:])
    if len(series.files) == len(series.planes):
        return np.ascontiguousarray(planes)
    order = np.argsort([plane.frame for plane in series.planes])
    return np.ascontiguousarray(planes[order])


def _segmentation(
    highdicom: Any, series: Series, planes: NDArray[np.uint8], labels: tuple[Label, ...]
) -> Any:
    pydicom = needed("pydicom", "medical")
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.files]
    tissue = highdicom.sr.CodedConcept(*_TISSUE)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="unetseg",
        version=__version__,
        family=pydicom.sr.codedict.codes.cid7162.ArtificialIntelligence,
    )
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        omit_empty_frames=bool(planes.any()),
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=label.name[:64],
                segmented_property_category=tissue,
                segmented_property_type=tissue,
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
            for number, label in enumerate(labels, 1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="unetseg",
        manufacturer_model_name="unetseg",
        software_versions=__version__,
        device_serial_number="none",
        series_description="unetseg segmentation",
    )
