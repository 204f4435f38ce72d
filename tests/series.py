"""Small DICOM series, written by pydicom."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

# Rows run along -y tilted towards z, columns along x tilted: nothing is aligned with the patient.
ROW = np.array([0.0, -0.8, 0.6])
COLUMN = np.array([0.96, 0.168, 0.224])
NORMAL = np.cross(ROW, COLUMN)
ORIGIN = np.array([-12.5, 30.25, 101.75])


def voxels(shape: tuple[int, int, int] = (5, 4, 6), seed: int = 0) -> np.ndarray:
    """Stored values (slices, rows, columns)."""
    return np.random.default_rng(seed).integers(-900, 1200, shape).astype(np.int16)


def slice_of(pixels: np.ndarray, position: np.ndarray, **changes: Any) -> Dataset:
    """A CT slice with rescale slope 1 and intercept 0 unless `changes` say otherwise."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = generate_uid()
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
    data.FrameOfReferenceUID = "1.2.3.4.6"
    data.PatientID, data.PatientName = "p1", "Nobody^No"
    data.PatientBirthDate, data.PatientSex = "19700101", "O"
    data.StudyDate, data.StudyTime, data.StudyID = "20200101", "120000", "1"
    data.AccessionNumber = data.ReferringPhysicianName = data.PositionReferenceIndicator = ""
    data.Modality, data.Manufacturer = "CT", "none"
    data.SeriesNumber, data.SeriesDescription, data.InstanceNumber = 3, "thorax", 1
    data.ContentDate, data.ContentTime = "20200101", "120000"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelSpacing = [0.7, 1.3]
    data.SliceThickness = 2.5
    data.ImageOrientationPatient = [*ROW, *COLUMN]
    data.ImagePositionPatient = [round(float(x), 6) for x in position]
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.PixelData = pixels.tobytes()
    for name, value in changes.items():
        setattr(data, name, value)
    return data


def series(
    folder: Path,
    stored: np.ndarray | None = None,
    *,
    step: np.ndarray = 2.5 * NORMAL,
    skipped: tuple[int, ...] = (),
    name: str = "slice",
    **changes: Any,
) -> Path:
    """A folder of slices whose names and instance numbers say nothing of their order."""
    stored = voxels() if stored is None else stored
    folder.mkdir(parents=True, exist_ok=True)
    places = np.random.default_rng(1).permutation(len(stored))
    for number, pixels in enumerate(stored):
        if number in skipped:
            continue
        data = slice_of(pixels, ORIGIN + number * step, **changes)
        data.InstanceNumber = int(places[number])
        write(data, folder / f"{name}{places[number]}.dcm")
    return folder


def write(data: Dataset, path: Path) -> Path:
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path
