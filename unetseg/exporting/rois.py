"""A zip of ImageJ ROIs, as its ROI Manager opens it."""

import re
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from roifile import ROI_TYPE, ImagejRoi

from unetseg.errors import one_line
from unetseg.exporting.marks import ZIP_COMMENT
from unetseg.exporting.outlines import Polygon, Ring
from unetseg.exporting.shapes import Legend, Shape, Shown
from unetseg.files import replacing

# Larger coordinates do not fit into the two bytes of the format, but into its floats.
_LARGEST = 32767
_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0
# ImageJ tells its groups of ROIs apart by a byte.
_MOST_GROUPS = 255


class Rois:
    """One ROI for each object of a plane, or area of a class, with the plane as its position.

    An outline in one piece and without holes is a traced ROI, everything else a composite one:
    nothing is filled up and nothing falls apart. The name is the object's id, after the class if
    there are several; the number of the class is the group of the ROI.
    """

    suffix = "_rois.zip"

    def write(self, mask: Shown, path: Path) -> None:
        """Write the zip, atomically, one ROI after the other."""
        legend, taken = mask.legend, set[str]()
        with replacing(path) as temporary, ZipFile(temporary, "w") as archive:
            archive.comment = ZIP_COMMENT
            for shape in mask.shapes():
                roi = _roi(shape.polygons)
                roi.name = roi_name(shape, legend)
                if shape.label is not None and 0 < shape.label.value <= _MOST_GROUPS:
                    roi.group = shape.label.value
                if shape.plane is not None:
                    # Of a stack, and of a hyperstack with one time point as well.
                    roi.position = shape.plane + 1
                # Without the time, which ZipFile would add: the same mask, the same bytes.
                entry = ZipInfo(_entry(roi.name, taken))
                entry.compress_type = ZIP_DEFLATED
                archive.writestr(entry, roi.tobytes())


def roi_name(shape: Shape, legend: Legend) -> str:
    """What a person calls it: cell 12, or 12 where there is one class; with the plane after z."""
    name = f"{shape.number:04d}"
    if shape.label is not None and (len(legend.names) > 1 or not legend.has_objects):
        name = f"{one_line(shape.label.name)} {name}"
    return name if shape.plane is None else f"{name} z{shape.plane + 1:04d}"


def _entry(name: str, taken: set[str]) -> str:
    """A file name in the zip, which the ROI Manager shows; no name leads out of a folder."""
    plain = re.sub(r"[^\w .+-]", "_", name)
    entry, number = plain, 1
    while entry in taken:
        number += 1
        entry = f"{plain} ({number})"
    taken.add(entry)
    return f"{entry}.roi"


def _roi(polygons: tuple[Polygon, ...]) -> ImagejRoi:
    rings = [ring for polygon in polygons for ring in polygon.rings]
    points = np.concatenate(rings)
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    sizes = {"left": left, "top": top, "right": right, "bottom": bottom}
    if len(rings) == 1 and max(right, bottom) <= _LARGEST:
        own = (points - (left, top)).astype(np.int32)
        return ImagejRoi(
            roitype=ROI_TYPE.TRACED, n_coordinates=len(own), integer_coordinates=own, **sizes
        )
    path = np.concatenate([_path(ring) for ring in rings]).astype(np.float32)
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=path, **sizes
    )


def _path(ring: Ring) -> NDArray[np.float64]:
    """A ring as commands with their points: go there, draw a line there, ..., close."""
    commands = np.full((len(ring), 3), _LINE_TO)
    commands[0, 0] = _MOVE_TO
    commands[:, 1:] = ring
    return np.append(commands.ravel(), _CLOSE)
