"""GeoJSON: by the rules of RFC 7946, with the properties that QuPath reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import tifffile
from drawn import cells
from numpy.typing import NDArray

from unetseg.colours import COLOURS
from unetseg.exporting import Legend, export
from unetseg.formats import write_mask
from unetseg.geometry import Geometry
from unetseg.records import Label, Mask, Scan, Source

OBJECTS = Legend(has_objects=True)


def exported(path: Path, mask: NDArray[np.integer], legend: Legend = OBJECTS) -> dict[str, Any]:
    tifffile.imwrite(path, mask, photometric="minisblack")
    (written,) = export(path, ["geojson"], legend)
    found: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    return found


def faults(collection: dict[str, Any]) -> list[str]:
    """What RFC 7946 has against it, and what QuPath would not take."""
    found = []
    if collection.get("type") != "FeatureCollection":
        found.append("no collection")
    for feature in collection["features"]:
        if feature["type"] != "Feature" or not {"geometry", "properties"} <= feature.keys():
            found.append("no feature")
        geometry = feature["geometry"]
        polygons = geometry["coordinates"]
        if geometry["type"] == "Polygon":
            polygons = [polygons]
        elif geometry["type"] != "MultiPolygon" or len(polygons) < 2:
            found.append("no polygon")
        for rings in polygons:
            for number, ring in enumerate(rings):
                if len(ring) < 4 or ring[0] != ring[-1]:
                    found.append("not closed")
                elif shapely.LinearRing(ring).is_ccw != (number == 0):
                    found.append("turned")
        properties = feature["properties"]
        if properties["objectType"] not in ("detection", "annotation"):
            found.append("no object type")
        if not all(isinstance(v, int | float) for v in properties["measurements"].values()):
            found.append("not numbers")
        plane = geometry.get("plane")
        if plane is not None and set(plane) != {"c", "z", "t"}:
            found.append("no plane")
    return found


def painted(collection: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The ids again, by the point-in-polygon test of another library."""
    mask = np.zeros(shape, np.int64)
    rows, columns = np.indices(shape[-2:])
    for feature in collection["features"]:
        geometry = feature["geometry"]
        plane = mask[geometry["plane"]["z"]] if "plane" in geometry else mask
        read = shapely.from_geojson(json.dumps(geometry))
        assert read.is_valid
        own = shapely.contains_xy(read, columns + 0.5, rows + 0.5)
        assert own.sum() == read.area == feature["properties"]["measurements"]["Area px^2"]
        plane[own] = feature["properties"]["measurements"]["Id"]
    return mask


def test_features_drawn_back_are_the_objects(tmp_path: Path) -> None:
    ids = cells()
    found = exported(tmp_path / "cells_seg.tif", ids)
    assert (tmp_path / "cells.geojson").is_file()
    assert faults(found) == []
    np.testing.assert_array_equal(painted(found, ids.shape), ids)
    kinds = {f["properties"]["name"]: f["geometry"]["type"] for f in found["features"]}
    assert kinds["16"] == "Polygon" and kinds["17"] == "MultiPolygon"
    assert {f["properties"]["objectType"] for f in found["features"]} == {"detection"}
    assert len(shapely.from_geojson(json.dumps(found)).geoms) == len(found["features"])


def test_the_rules_themselves(tmp_path: Path) -> None:
    found = exported(tmp_path / "a.tif", cells())
    shell = found["features"][0]["geometry"]["coordinates"][0]
    shell.reverse()
    assert faults(found) == ["turned"]
    shell.reverse()
    shell.pop()
    assert faults(found) == ["not closed"]


def test_a_plane_is_said_as_in_qupath(tmp_path: Path) -> None:
    stack = np.stack([cells(seed) for seed in range(3)])
    found = exported(tmp_path / "a.tif", stack)
    assert faults(found) == []
    np.testing.assert_array_equal(painted(found, stack.shape), stack)
    assert found["features"][-1]["geometry"]["plane"] == {"c": -1, "z": 2, "t": 0}


def test_classes_have_names_and_colours(tmp_path: Path) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[:2, :2], mask[5:, 5:] = 1, 2
    labels = (Label(0, "background"), Label(1, 'a "b"\n\u2028'), Label(2, "Drüse"))
    found = exported(tmp_path / "a.tif", mask, Legend(False, labels))
    assert [f["properties"]["classification"] for f in found["features"]] == [
        {"name": 'a "b"\\n\\u2028', "color": list(COLOURS[0])},
        {"name": "Drüse", "color": list(COLOURS[1])},
    ]
    assert {f["properties"]["objectType"] for f in found["features"]} == {"annotation"}
    nameless = exported(tmp_path / "b.tif", mask)
    assert all("classification" not in f["properties"] for f in nameless["features"])


def test_areas_have_the_unit_of_the_mask(tmp_path: Path) -> None:
    array = np.zeros((4, 10, 12), np.uint8)
    array[1, 2:6, 3:8] = 1
    geometry = Geometry.from_spacing(array.shape, (2.0, 0.5, 0.25), "um")
    like = Scan(array[None], geometry, ("0",), Source(tmp_path, "tiff"))
    write_mask(Mask(array, geometry), tmp_path / "a.ome.tif", like)
    (path,) = export(tmp_path / "a.ome.tif", ["geojson"], OBJECTS)
    (feature,) = json.loads(path.read_text())["features"]
    assert feature["properties"]["measurements"] == {"Id": 1, "Area px^2": 20, "Area um^2": 2.5}


def test_an_empty_mask_is_an_empty_collection(tmp_path: Path) -> None:
    found = exported(tmp_path / "a.tif", np.zeros((5, 5), np.uint8))
    assert found["features"] == [] and faults(found) == []
