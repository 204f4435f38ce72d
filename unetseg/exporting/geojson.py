"""GeoJSON as QuPath reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from unetseg.colours import of_value
from unetseg.errors import one_line
from unetseg.exporting.marks import JSON_HEAD
from unetseg.exporting.outlines import Polygon, Ring
from unetseg.exporting.shapes import Shape, Shown
from unetseg.files import replacing


class GeoJson:
    """A feature for each object of a plane (a detection), or area of a class (an annotation).

    Coordinates are pixels of full resolution, (0, 0) being the upper left corner of the image; the
    plane of a stack is said as QuPath says it, beside the coordinates.

    Source: RFC 7946; QuPath 0.4 and later for the properties.
    """

    suffix = ".geojson"

    def write(self, mask: Shown, path: Path) -> None:
        """Write the file, atomically, a line for each feature."""
        unit, area = mask.geometry.unit, mask.pixel_area
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(JSON_HEAD + '"features": [')
            before = "\n"
            for shape in mask.shapes():
                measurements: dict[str, float] = {"Id": shape.number, "Area px^2": shape.pixels}
                if unit != "px":
                    measurements[f"Area {unit}^2"] = round(shape.pixels * area, 6)
                feature = _feature(shape, measurements, has_objects=mask.legend.has_objects)
                file.write(before + json.dumps(feature, separators=(",", ":")))
                before = ",\n"
            file.write("\n]}\n")


def _feature(shape: Shape, measurements: dict[str, float], *, has_objects: bool) -> dict[str, Any]:
    first, *rest = map(_rings, shape.polygons)
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": first}
    if rest:
        geometry = {"type": "MultiPolygon", "coordinates": [first, *rest]}
    if shape.plane is not None:
        geometry["plane"] = {"c": -1, "z": shape.plane, "t": 0}
    properties: dict[str, Any] = {
        "objectType": "detection" if has_objects else "annotation",
        "name": str(shape.number),
    }
    if shape.label is not None:
        # Names of labels are data; JSON escapes what is left of them.
        name = one_line(shape.label.name)
        colour = list(of_value(shape.label.value))
        properties["classification"] = {"name": name, "color": colour}
    properties["measurements"] = measurements
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _rings(polygon: Polygon) -> list[list[list[int]]]:
    """Closed rings, the shell first: as drawn with y upwards, shells run counterclockwise."""
    return [_closed(ring) for ring in polygon.rings]


def _closed(ring: Ring) -> list[list[int]]:
    points: list[list[int]] = np.concatenate([ring, ring[:1]]).tolist()
    return points
