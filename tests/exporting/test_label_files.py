"""Masks of ids as files: what other libraries open as label images."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models.v05.image_label import ImageLabel

from unetseg.formats import write_mask
from unetseg.geometry import Geometry
from unetseg.records import Mask, Scan, Source


def written(path: Path, ids: np.ndarray) -> np.ndarray:
    geometry = Geometry.from_spacing(ids.shape, (2.0, 0.5, 0.25)[-ids.ndim :], "um")
    like = Scan(ids[None], geometry, ("0",), Source(path, "tiff"))
    write_mask(Mask(ids, geometry), path, like)
    return ids


def ids_up_to(largest: int, shape: tuple[int, ...]) -> np.ndarray:
    ids = np.zeros(shape, np.int32)
    ids[..., 2:9, 3:9], ids[..., 20:30, 3:9] = largest, 5
    return ids


@pytest.mark.parametrize("shape", [(40, 50), (4, 40, 50)])
@pytest.mark.parametrize(("largest", "dtype"), [(60_000, "uint16"), (70_000, "uint32")])
def test_ome_tiff(tmp_path: Path, largest: int, dtype: str, shape: tuple[int, ...]) -> None:
    ids = written(tmp_path / "a.ome.tif", ids_up_to(largest, shape))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        (series,) = file.series
        assert (series.axes, series.dtype) == ("ZYX"[-ids.ndim :], dtype)
        np.testing.assert_array_equal(series.asarray(), ids)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert pixels["SizeC"] == 1 and pixels["Type"] == dtype
    sizes = [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"[-ids.ndim :]]
    assert sizes == [2.0, 0.5, 0.25][-ids.ndim :]


@pytest.mark.parametrize(("largest", "dtype"), [(60_000, "uint16"), (70_000, "uint32")])
def test_ome_zarr(tmp_path: Path, largest: int, dtype: str) -> None:
    ids = written(tmp_path / "a.ome.zarr", ids_up_to(largest, (4, 40, 50)))
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    found = ImageLabel.from_zarr(group).attributes.ome
    assert found.image_label is not None
    (scales,) = found.multiscales
    assert [axis.name for axis in scales.axes] == ["z", "y", "x"]
    assert group["0"].dtype == dtype
    np.testing.assert_array_equal(group["0"][:], ids)
