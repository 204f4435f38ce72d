"""TIFF: input is written by tifffile or Pillow directly; expected values follow from arithmetic."""

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetseg.errors import DataError, ShapeMismatch
from unetseg.formats import Format, read_mask, read_scan, write_mask
from unetseg.formats.tiff import Tiff
from unetseg.formats.tiff_axes import readings, roles
from unetseg.formats.units import micrometres
from unetseg.geometry import Geometry, whole_box
from unetseg.records import Mask, Scan, View


def counting(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    return path


def mask_like(scan: Scan, path: Path, values: np.ndarray | None = None) -> np.ndarray:
    labels = counting(scan.geometry.shape, "uint8") % 3 if values is None else values
    write_mask(Mask(labels, scan.geometry), path, scan)
    return labels


def test_it_is_a_format() -> None:
    made: Format = Tiff()
    assert made.name == "tiff"
    assert list(made.suffixes) == sorted(made.suffixes, key=len, reverse=True)


# --- axes


@pytest.mark.parametrize(
    ("shape", "axes", "is_plain", "expected"),
    [
        ((50, 60), "YX", True, "YX"),
        ((9, 90, 90), "IYX", True, "ZYX"),
        ((8, 31, 40), "IYX", True, "ZYX"),
        ((31, 61, 57), "QYX", True, "ZYX"),
        ((64, 64, 5), "QYX", True, "YXC"),
        ((64, 64, 5), "QYX", False, "ZYX"),
        ((64, 64, 9), "QYX", True, "ZYX"),
        ((5, 100, 100), "ZYX", False, "ZYX"),
        ((40, 100, 100), "CYX", False, "CYX"),
        ((4, 30, 100, 100), "CZYX", False, "CZYX"),
        ((30, 4, 100, 100), "ZCYX", False, "ZCYX"),
        ((3, 30, 100, 100), "QQYX", True, "CZYX"),
        ((30, 3, 100, 100), "QQYX", True, "ZCYX"),
        ((30, 100, 100, 3), "QQYX", True, "ZYXC"),
        ((30, 100, 100, 3), "IYXS", True, "ZYXS"),
        ((7, 100, 100, 3), "IYXS", False, "ZYXS"),
        ((12, 4, 100, 100), "IZYX", False, "CZYX"),
        ((12, 4, 100, 100), "ICYX", False, "ZCYX"),
        ((50, 60, 5), "YXS", True, "YXS"),
        ((5, 90, 90), "TYX", False, "TYX"),
        ((5, 3, 90, 90), "TCYX", False, "TCYX"),
    ],
)
def test_roles(shape: tuple[int, ...], axes: str, is_plain: bool, expected: str) -> None:
    assert roles(shape, axes, is_plain=is_plain, is_mask=False) == expected


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((5, 100, 100), "IYX", ("CYX", "ZYX")),
        ((5, 100, 100), "QYX", ("CYX", "ZYX")),
        ((3, 512, 512), "QYX", ("CYX", "ZYX")),
        ((8, 32, 40), "IYX", ("CYX", "ZYX")),
        ((4, 5, 90, 90), "QQYX", ("CZYX", "ZCYX")),
        ((9, 12, 90, 90), "QQYX", ("CZYX", "ZCYX", "ZYXC")),
        ((6, 5, 90, 90), "ITYX", ("ZTYX", "CTYX")),
    ],
)
def test_what_the_sizes_do_not_tell(
    shape: tuple[int, ...], axes: str, expected: tuple[str, ...]
) -> None:
    assert readings(shape, axes, is_plain=True, is_mask=False)[0] == expected
    with pytest.raises(DataError, match=f"more than one way.*--axes {expected[0]}.*{expected[1]}"):
        roles(shape, axes, is_plain=True, is_mask=False)


@pytest.mark.parametrize("shape", [(5, 100, 100), (64, 64, 5), (31, 61, 57)])
def test_a_mask_has_no_channels(shape: tuple[int, ...]) -> None:
    assert roles(shape, "QYX", is_plain=True, is_mask=True) == "ZYX"


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((5, 90, 90), "RYX", "5 positions"),
        ((16, 90, 90), "HYX", "axis H with 16 entries"),
        ((2, 3, 4, 90, 90), "QQQYX", "do not make an image.*QQQYX"),
        ((2, 90, 90, 3), "CYXS", "do not make an image"),
        ((90, 80), "XY", "do not make an image"),
    ],
)
def test_roles_refused(shape: tuple[int, ...], axes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        roles(shape, axes, is_plain=True, is_mask=False)


ZYX, OME_ZYX = {"metadata": {"axes": "ZYX"}}, {"ome": True, "metadata": {"axes": "ZYX"}}


@pytest.mark.parametrize(
    ("stored", "options", "expected", "place"),
    [
        ((40, 50), {}, (1, 40, 50), (7, 9)),
        ((5, 40, 50), {"metadata": {"axes": "CYX"}}, (5, 40, 50), (-1, 7, 9)),
        ((40, 50, 5), {}, (5, 40, 50), (7, 9, -1)),
        ((12, 40, 50), {}, (1, 12, 40, 50), (3, 7, 9)),
        ((5, 40, 50), ZYX, (1, 5, 40, 50), (3, 7, 9)),
        ((12, 40, 50), {"metadata": None}, (1, 12, 40, 50), (3, 7, 9)),
        ((5, 40, 50), {"imagej": True, **ZYX}, (1, 5, 40, 50), (3, 7, 9)),
        (
            (6, 3, 40, 50),
            {"imagej": True, "metadata": {"axes": "ZCYX"}},
            (3, 6, 40, 50),
            (3, -1, 7, 9),
        ),
        ((5, 40, 50), OME_ZYX, (1, 5, 40, 50), (3, 7, 9)),
        (
            (3, 6, 40, 50),
            {"ome": True, "metadata": {"axes": "CZYX"}},
            (3, 6, 40, 50),
            (-1, 3, 7, 9),
        ),
        ((40, 50, 1), {}, (1, 40, 50), (7, 9, 0)),
        ((1, 40, 50), {}, (1, 40, 50), (0, 7, 9)),
        (
            (1, 1, 1, 40, 50),
            {"ome": True, "metadata": {"axes": "TCZYX"}},
            (1, 40, 50),
            (0, 0, 0, 7, 9),
        ),
        ((40, 50), {"tile": (16, 16), "compression": "lzw"}, (1, 40, 50), (7, 9)),
        ((40, 50), {"bigtiff": True, "compression": "zstd"}, (1, 40, 50), (7, 9)),
        (
            (40, 50),
            {"byteorder": ">", "compression": "zlib", "predictor": True},
            (1, 40, 50),
            (7, 9),
        ),
    ],
)
def test_shapes(
    tmp_path: Path,
    stored: tuple[int, ...],
    options: dict[str, Any],
    expected: tuple[int, ...],
    place: tuple[int, ...],
) -> None:
    """`place` is where voxel z 3, y 7, x 9 of the last channel lies in the array as stored."""
    array = np.random.default_rng(0).integers(0, 60000, stored).astype(np.uint16)
    name = "a.ome.tif" if options.get("ome") else "a.tif"
    scan = read_scan(save(tmp_path / name, array, **options))
    assert scan.array.shape == expected
    assert scan.array.dtype == np.uint16
    assert scan.array.dtype.isnative
    found = (-1, 3, 7, 9) if len(expected) == 4 else (-1, 7, 9)
    assert scan.array[found] == array[place]
    assert not scan.is_picture
    assert (scan.geometry.unit, set(scan.geometry.spacing)) == ("px", {1.0})


def test_a_single_column(tmp_path: Path) -> None:
    array = counting((40, 1))
    assert np.array_equal(read_scan(save(tmp_path / "a.tif", array)).array[0], array)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_types_are_kept(tmp_path: Path, dtype: str, compression: str | None) -> None:
    array = counting((30, 40), dtype)
    scan = read_scan(save(tmp_path / "a.tif", array, compression=compression))
    assert scan.array.dtype == np.dtype(dtype)
    assert np.array_equal(scan.array[0], array)


def test_bool_becomes_numbers(tmp_path: Path) -> None:
    array = counting((30, 40)) % 2 == 0
    tifffile.imwrite(tmp_path / "a.tif", array)
    for found in (read_scan(tmp_path / "a.tif").array[0], read_mask(tmp_path / "a.tif").array):
        assert found.dtype == np.uint8
        assert np.array_equal(found, array)


# --- pixel size


def imagej(unit: str | None, **more: Any) -> dict[str, Any]:
    metadata = {"axes": "ZYX", **more} | ({"unit": unit} if unit else {})
    return {"imagej": True, "metadata": metadata, "resolution": (4.0, 5.0)}


def ome(**sizes: Any) -> dict[str, Any]:
    return {"ome": True, "metadata": {"axes": "ZYX", **sizes}}


@pytest.mark.parametrize(
    ("options", "unit", "spacing"),
    [
        (imagej("micron", spacing=2.0), "um", (2.0, 0.2, 0.25)),
        (imagej("um"), "um", (1.0, 0.2, 0.25)),
        (imagej("\\u00B5m", spacing=0.5), "um", (0.5, 0.2, 0.25)),
        (imagej("nm", spacing=2.0), "um", (0.002, 0.0002, 0.00025)),
        (imagej("mm", spacing=2.0), "um", (2000, 200, 250)),
        (imagej("micron", spacing=-2.0), "um", (2.0, 0.2, 0.25)),
        (imagej("pixel", spacing=2.0), "px", (1, 1, 1)),
        (imagej("inch"), "px", (1, 1, 1)),
        (imagej(None), "px", (1, 1, 1)),
        (ome(PhysicalSizeX=0.25, PhysicalSizeY=0.2, PhysicalSizeZ=2), "um", (2, 0.2, 0.25)),
        (
            ome(PhysicalSizeX=250, PhysicalSizeXUnit="nm", PhysicalSizeY=0.2, PhysicalSizeZ=2),
            "um",
            (2, 0.2, 0.25),
        ),
        (
            ome(
                PhysicalSizeX=1e-3, PhysicalSizeXUnit="mm", PhysicalSizeY=1, PhysicalSizeYUnit="µm"
            ),
            "um",
            (1, 1, 1),
        ),
        (ome(PhysicalSizeX=0.25), "um", (0.25, 0.25, 0.25)),
        (ome(PhysicalSizeX=0.25, PhysicalSizeY=0.25), "um", (0.25, 0.25, 0.25)),
        (ome(PhysicalSizeX=3, PhysicalSizeXUnit="pixel"), "px", (1, 1, 1)),
        (ome(PhysicalSizeX=0.0), "px", (1, 1, 1)),
        (ome(), "px", (1, 1, 1)),
        ({"resolution": (20000, 10000), "resolutionunit": "CENTIMETER"}, "um", (0.5, 1, 0.5)),
        ({"resolution": (20000, 10000), "resolutionunit": "INCH"}, "px", (1, 1, 1)),
        ({"resolution": (20000, 10000), "resolutionunit": "NONE"}, "px", (1, 1, 1)),
        ({"resolution": (2, 2), "resolutionunit": "CENTIMETER"}, "px", (1, 1, 1)),
        ({"resolution": (0, 0), "resolutionunit": "CENTIMETER"}, "px", (1, 1, 1)),
    ],
)
def test_pixel_size(
    tmp_path: Path, options: dict[str, Any], unit: str, spacing: tuple[float, ...]
) -> None:
    name = "a.ome.tif" if options.get("ome") else "a.tif"
    geometry = read_scan(save(tmp_path / name, counting((12, 40, 50)), **options)).geometry
    assert geometry.unit == unit
    assert geometry.spacing == pytest.approx(spacing, rel=1e-8)
    assert np.array_equal(geometry.affine[:3, 3], [0, 0, 0])


@pytest.mark.parametrize(
    ("length", "unit", "expected"),
    [
        (2, "µm", 2),
        (2, "\u03bcm", 2),
        (2, "\\u00B5m", 2),
        (2, "Micron", 2),
        (2, "cm", 20000),
        (2, "nm", 0.002),
        (2, "Å", 2e-4),
        (2, "reference frame", None),
        (2, "", None),
        (0, "µm", None),
        (float("nan"), "µm", None),
    ],
)
def test_micrometres(length: float, unit: str, expected: float | None) -> None:
    assert micrometres(length, unit) == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (
            "a.ome.tif",
            {"ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}},
            ("DAPI", "GFP"),
        ),
        ("a.ome.tif", {"ome": True, "metadata": {"axes": "CYX"}}, ("0", "1")),
        (
            "a.ome.tif",
            {"ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": ["same", "same"]}}},
            ("0", "1"),
        ),
        (
            "a.tif",
            {"imagej": True, "metadata": {"axes": "CYX", "Labels": ["DAPI", "GFP"]}},
            ("DAPI", "GFP"),
        ),
        ("a.tif", {"imagej": True, "metadata": {"axes": "CYX", "Labels": ["DAPI"]}}, ("0", "1")),
        ("a.tif", {"metadata": {"axes": "CYX"}}, ("0", "1")),
    ],
)
def test_channel_names(
    tmp_path: Path, name: str, options: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert read_scan(save(tmp_path / name, counting((2, 40, 50)), **options)).channels == expected


# --- colours


def colours(count: int = 3, dtype: str = "uint8") -> np.ndarray:
    return np.stack([counting((30, 40), dtype) // (k + 1) for k in range(count)], -1)


def test_rgb(tmp_path: Path) -> None:
    array = colours()
    scan = read_scan(save(tmp_path / "a.tif", array, photometric="rgb"))
    assert scan.is_picture
    assert scan.channels == ("red", "green", "blue")
    assert np.array_equal(scan.array, [array[..., 0], array[..., 1], array[..., 2]])


def test_rgba_loses_alpha(tmp_path: Path) -> None:
    Image.fromarray(colours(4)).save(tmp_path / "a.tif")
    scan = read_scan(tmp_path / "a.tif")
    assert scan.channels == ("red", "green", "blue")
    assert np.array_equal(np.moveaxis(scan.array, 0, -1), colours(4)[..., :3])


def test_equal_colours_are_grey(tmp_path: Path) -> None:
    grey = counting((30, 40), "uint8")
    path = save(tmp_path / "a.tif", np.stack([grey] * 3, -1), photometric="rgb")
    for scan in (read_scan(path), Tiff().read_labels(path)):
        assert scan.is_picture
        assert scan.channels == ("grey",)
        assert np.array_equal(scan.array, grey[None])


def test_a_fourth_16_bit_sample_with_content_is_a_channel(tmp_path: Path) -> None:
    array = colours(4, "uint16")
    scan = read_scan(save(tmp_path / "a.tif", array, photometric="rgb"))
    assert scan.array.shape == (4, 30, 40)
    assert not scan.is_picture
    array[..., 3] = 65535
    assert read_scan(save(tmp_path / "b.tif", array, photometric="rgb")).array.shape[0] == 3


@pytest.mark.parametrize("count", [3, 4])
def test_planes_that_tifffile_took_for_colours(tmp_path: Path, count: int) -> None:
    array = np.moveaxis(colours(count), -1, 0)
    path = save(tmp_path / "a.tif", array, photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match=r"--axes CYX \(channels\) or --axes ZYX \(slices\)"):
        read_scan(path)
    scan = read_scan(path, View(axes="CYX"))
    assert not scan.is_picture
    assert np.array_equal(scan.array, array)
    assert read_scan(path, View(axes="SYX")).is_picture
    # The same file as a mask is a stack.
    assert Tiff().read_labels(path).geometry.shape == (count, 30, 40)


def test_grey_with_alpha(tmp_path: Path) -> None:
    Image.fromarray(colours(2), "LA").save(tmp_path / "a.tif")
    assert np.array_equal(read_scan(tmp_path / "a.tif").array, colours(2)[None, ..., 0])


def test_a_palette_is_colours_for_scans_and_numbers_for_masks(tmp_path: Path) -> None:
    indices = counting((30, 40), "uint8") % 3
    picture = Image.fromarray(indices)
    picture.putpalette([0, 0, 0, 255, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "a.tif")
    scan = read_scan(tmp_path / "a.tif")
    table = np.array([[0, 0, 0], [255, 0, 0], [10, 20, 30]], np.uint8)
    assert np.array_equal(np.moveaxis(scan.array, 0, -1), table[indices])
    assert np.array_equal(read_mask(tmp_path / "a.tif").array, indices)


def test_the_colours_in_which_imagej_shows_values_do_not_change_them(tmp_path: Path) -> None:
    array = counting((30, 40), "uint8")
    lut = np.stack([np.zeros(256, np.uint8), np.arange(256, dtype=np.uint8)] * 2)[:3]
    path = save(
        tmp_path / "a.tif",
        array,
        imagej=True,
        photometric="palette",
        colormap=lut.astype("u2") * 257,
    )
    scan = read_scan(path)
    assert not scan.is_picture
    assert np.array_equal(scan.array[0], array)


@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535)])
def test_white_is_zero(tmp_path: Path, dtype: str, largest: int) -> None:
    array = counting((30, 40), dtype)
    path = save(tmp_path / "a.tif", array, photometric="miniswhite", metadata=None)
    assert np.array_equal(read_scan(path).array[0], largest - array.astype(int))
    assert np.array_equal(Tiff().read_labels(path).array[0], array)


def test_bilevel_from_pillow(tmp_path: Path) -> None:
    array = counting((30, 40)) % 3 == 0
    Image.fromarray(array).save(tmp_path / "a.tif", compression="group4")
    for found in (read_scan(tmp_path / "a.tif").array[0], read_mask(tmp_path / "a.tif").array):
        assert np.array_equal(found, array)


def test_jpeg_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(colours()[..., 0]).save(tmp_path / "a.tif", compression="jpeg")
    assert read_scan(tmp_path / "a.tif").array.shape == (1, 30, 40)
    with pytest.raises(DataError, match="JPEG is lossy"):
        read_mask(tmp_path / "a.tif")


# --- refusals


def test_complex_and_infinite(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="complex values are not supported"):
        read_scan(save(tmp_path / "a.tif", np.ones((30, 40), np.complex64)))
    array = np.ones((30, 40), np.float32)
    array[3, 4:6] = np.nan, np.inf
    with pytest.raises(DataError, match="2 of 1200 values are NaN or infinite"):
        read_scan(save(tmp_path / "b.tif", array))


def test_time_points(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", counting((5, 40, 50)), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(DataError, match=r"5 time points.*one file per time point") as caught:
        read_scan(path)
    assert str(caught.value).startswith(str(path))


def test_scenes(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for name in ("left", "right"):
            writer.write(
                counting((40, 50)), photometric="minisblack", metadata={"axes": "YX", "Name": name}
            )
    with pytest.raises(DataError, match=r"2 images in one file.*left.*right.*its own file"):
        read_scan(tmp_path / "a.ome.tif")


def test_a_pyramid_is_one_image(tmp_path: Path) -> None:
    array = counting((64, 64))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(array, photometric="minisblack", subifds=1, metadata={"axes": "YX"})
        writer.write(array[::2, ::2], photometric="minisblack", subfiletype=1)
    assert np.array_equal(read_scan(tmp_path / "a.ome.tif").array[0], array)


def test_a_preview_does_not_count(tmp_path: Path) -> None:
    array = counting((64, 64))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(array, photometric="minisblack", metadata=None)
        writer.write(array[::3, ::3], photometric="minisblack", metadata=None, subfiletype=1)
    assert np.array_equal(read_scan(tmp_path / "a.tif").array[0], array)


def test_a_set_of_files_is_refused(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:00000000-0000-0000-0000-000000000001"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" '
        'SizeC="1" SizeZ="2" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        + "".join(
            f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}.ome.tif">'
            f"urn:uuid:00000000-0000-0000-0000-00000000000{z + 1}</UUID></TiffData>"
            for z, name in enumerate("ab")
        )
        + "</Pixels></Image></OME>"
    )
    save(tmp_path / "a.ome.tif", counting((40, 50)), description=xml, metadata=None)
    with pytest.raises(DataError, match="1 of 2 planes are missing"):
        read_scan(tmp_path / "a.ome.tif")
    second = xml.replace("000001", "000002", 1)
    save(tmp_path / "b.ome.tif", counting((40, 50)), description=second, metadata=None)
    with pytest.raises(DataError, match="spread over several files"):
        read_scan(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"compression": "zlib"},
        {"compression": "zlib", "metadata": None},
        {"compression": "zlib", "imagej": True, "metadata": {"axes": "ZYX"}},
        {"compression": "zlib", "ome": True, "metadata": {"axes": "ZYX"}},
        {"tile": (16, 16), "compression": "zstd"},
    ],
    ids=str,
)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.97])
def test_cut_short(
    tmp_path: Path,
    options: dict[str, Any],
    share: float,
    capfd: pytest.CaptureFixture[str],
) -> None:
    array = np.random.default_rng(0).integers(0, 60000, (12, 40, 50)).astype(np.uint16)
    name = "a.ome.tif" if options.get("ome") else "a.tif"
    path = save(tmp_path / name, array, **options)
    assert read_scan(path).array.size == array.size
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError) as caught:
        read_scan(path)
    assert str(caught.value).startswith(str(path))
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("tifffile").handlers


@pytest.mark.parametrize("tiles", [{}, {"tile": (16, 16)}])
def test_voxels_behind_the_end(tmp_path: Path, tiles: dict[str, Any]) -> None:
    array = np.random.default_rng(0).integers(0, 60000, (64, 80)).astype(np.uint16)
    path = save(tmp_path / "a.tif", array, compression="zlib", **tiles)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="voxels lie behind its end"):
        read_scan(path)


def test_fewer_planes_than_the_metadata_say(tmp_path: Path) -> None:
    options = {"metadata": None, "compression": "zlib"}
    told = "ImageJ=1.54f\nimages=12\nslices=12\n"
    save(tmp_path / "a.tif", counting((5, 40, 50)), description=told, **options)
    with pytest.raises(DataError, match="header promises 48 KB"):
        read_scan(tmp_path / "a.tif")
    told = told.replace("12", "5")
    save(tmp_path / "b.tif", counting((5, 40, 50)), description=told, **options)
    assert read_scan(tmp_path / "b.tif").array.shape == (1, 5, 40, 50)


def test_a_part_of_a_set_with_its_metadata_elsewhere(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:0"/></OME>'
    )
    save(tmp_path / "a.ome.tif", counting((40, 50)), description=xml, metadata=None)
    with pytest.raises(DataError, match=r"ome metadata do not fit the pages.*part of a set"):
        read_scan(tmp_path / "a.ome.tif")


def absurd(width: int, height: int, *, compression: int = 1, stored: int = 100) -> bytes:
    """A TIFF of one strip, packed by hand, that promises more than it holds."""
    data = bytes(stored)
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, compression),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, stored),
    ]
    directory = struct.pack("<H", len(tags))
    for code, kind, value in tags:
        directory += struct.pack("<HHI", code, kind, 1) + struct.pack("<I", value)
    start = 8 + stored
    return struct.pack("<2sHI", b"II", 42, start) + data + directory + bytes(4)


def test_bytes_packed_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(absurd(10, 10))
    assert read_scan(tmp_path / "a.tif").array.shape == (1, 10, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (absurd(3_000_000, 3_000_000), "header promises 9 TB"),
        (absurd(3_000_000, 3_000_000, compression=8), "header promises 9 TB"),
        (absurd(3_000_000, 3_000_000, compression=5), "header promises 9 TB"),
        (absurd(3_000_000, 3_000_000, compression=50000), "header promises 9 TB"),
        (absurd(10, 40), "header promises 400 bytes"),
        (b"text called .tif" * 30, "not a readable tiff file"),
        (b"II*\0\xff\xff\xff\x7f", "tiff|TIFF"),
    ],
)
def test_absurd_and_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_scan(path)
    assert str(caught.value).startswith(str(path))


# --- writing


length = st.floats(1e-3, 900).map(lambda x: float(f"{x:.5g}"))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        st.tuples(st.integers(2, 9), st.integers(1, 9), st.integers(1, 9)),
    ),
    edges=st.tuples(length, length, length),
    unit=st.sampled_from(["um", "px"]),
    suffix=st.sampled_from([".tif", ".tiff", ".btf", ".ome.tif", ".ome.tiff", ".ome.btf"]),
    largest=st.sampled_from([1, 255, 256, 65536]),
    sign=st.sampled_from([1, -1]),
)
def test_the_mask_lies_on_the_scan(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    edges: tuple[float, float, float],
    unit: str,
    suffix: str,
    largest: int,
    sign: int,
) -> None:
    folder = tmp_path_factory.mktemp("tiff")
    options: dict[str, Any] = {"ome": True, "metadata": {"axes": "ZYX"[-len(shape) :]}}
    if unit == "um":
        for letter, edge in zip("XYZ", edges, strict=True):
            options["metadata"][f"PhysicalSize{letter}"] = edge
    stored = save(folder / "scan.ome.tif", np.zeros(shape, np.uint8), **options)
    scan = read_scan(stored.rename(folder / f"scan{suffix}"))
    expected = Geometry.from_spacing(
        shape,
        edges[: len(shape)][::-1] if unit == "um" else (1.0,) * len(shape),
        unit,  # type: ignore[arg-type]
    )
    assert scan.geometry.differences(expected) == ()
    labels = np.zeros(shape, np.int64)
    labels.flat[-1] = sign * largest
    write_mask(Mask(labels, scan.geometry), folder / f"mask{suffix}", scan)
    mask = read_mask(folder / f"mask{suffix}")
    assert mask.geometry.differences(expected, tolerance=1e-5) == ()
    assert np.array_equal(mask.array, labels)
    assert mask.array.dtype.itemsize <= 4


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_a_mask_of_a_single_column(tmp_path: Path, suffix: str) -> None:
    options = ome(PhysicalSizeX=0.25, PhysicalSizeY=0.2, PhysicalSizeZ=2)
    scan = read_scan(save(tmp_path / "a.ome.tif", counting((5, 40, 1)), **options))
    labels = mask_like(scan, tmp_path / f"m{suffix}")
    mask = read_mask(tmp_path / f"m{suffix}")
    assert np.array_equal(mask.array, labels)
    assert mask.geometry.differences(scan.geometry) == ()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
def test_other_programs_find_the_pixel_size(tmp_path: Path, suffix: str) -> None:
    options = ome(PhysicalSizeX=0.25, PhysicalSizeY=0.2, PhysicalSizeZ=2)
    scan = read_scan(save(tmp_path / "a.ome.tif", counting((12, 40, 50)), **options))
    for dtype in (np.uint8, np.uint32):
        labels = np.full((12, 40, 50), np.iinfo(dtype).max, np.int64)
        labels[0] = 0
        mask_like(scan, tmp_path / f"m{suffix}", labels)
        with tifffile.TiffFile(tmp_path / f"m{suffix}") as tiff:
            assert tiff.series[0].axes == "ZYX"
            assert tiff.series[0].dtype == dtype
            tags = tiff.pages.first.tags
            if suffix == ".ome.tif":
                xml = tiff.ome_metadata or ""
                for text in ('SizeX="0.25"', 'SizeY="0.2"', 'SizeZ="2.0"', 'SizeZUnit="µm"'):
                    assert f"Physical{text}" in xml
            elif dtype == np.uint8:
                found = tiff.imagej_metadata or {}
                assert (found["unit"], found["spacing"], found["slices"]) == ("micron", 2.0, 12)
                assert tags["XResolution"].value == (4, 1)
                assert tags["YResolution"].value == (5, 1)
            else:
                assert tags["ResolutionUnit"].value == 3
                assert tags["XResolution"].value == (40000, 1)
                assert tags["YResolution"].value == (50000, 1)


def test_millimetres_become_micrometres(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((6, 7), (0.5, 0.25), "mm")
    scan = read_scan(save(tmp_path / "a.tif", counting((6, 7))))
    like = Scan(scan.array, geometry, scan.channels, scan.source)
    write_mask(Mask(np.ones((6, 7), int), geometry), tmp_path / "m.tif", like)
    found = read_mask(tmp_path / "m.tif").geometry
    assert found.unit == "um"
    assert found.spacing == pytest.approx((500, 250))


def test_a_grid_that_a_tiff_cannot_hold(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.tif", counting((6, 7))))
    flipped = scan.geometry.flip([0])
    like = Scan(scan.array, flipped, scan.channels, scan.source)
    with pytest.raises(DataError, match=r"shifted, flipped or oblique.*NIfTI"):
        write_mask(Mask(np.ones((6, 7), int), flipped), tmp_path / "m.tif", like)
    with pytest.raises(ShapeMismatch, match="does not lie on the scan"):
        write_mask(Mask(np.ones((6, 7), int), flipped), tmp_path / "m.tif", scan)
    assert not (tmp_path / "m.tif").exists()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".btf"])
def test_the_same_mask_gives_the_same_bytes(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = read_scan(save(tmp_path / "a.tif", counting((12, 40, 50)), **imagej("micron")))
    labels = mask_like(scan, tmp_path / f"one{suffix}")
    monkeypatch.setattr("time.time", lambda: 2e9)
    mask_like(scan, tmp_path / f"two{suffix}")
    mask_like(scan, tmp_path / f"other{suffix}", labels + 1)
    one, two, other = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "two", "other"))
    assert one == two != other


def test_bigtiff_where_the_name_says_so(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.tif", counting((6, 7))))
    for suffix, is_big in ((".btf", True), (".tif", False), (".ome.tif", False)):
        mask_like(scan, tmp_path / f"m{suffix}")
        with tifffile.TiffFile(tmp_path / f"m{suffix}") as tiff:
            assert tiff.is_bigtiff is is_big
            assert tiff.is_ome is (suffix != ".tif")


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize("shape", [(40, 50), (12, 40, 50)])
def test_maps(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    options = ome(PhysicalSizeX=0.25, PhysicalSizeY=0.2, PhysicalSizeZ=2)
    options["metadata"]["axes"] = "ZYX"[-len(shape) :]
    scan = read_scan(save(tmp_path / "a.ome.tif", counting(shape), **options))
    names = ("background", "nucleus", "edge")
    maps = counting((3, *shape), "float32") / 7
    file = Tiff().maps_file(tmp_path / f"p{suffix}", scan, names)
    file.write(whole_box(shape), maps)
    file.finish()
    again = read_scan(tmp_path / f"p{suffix}")
    assert again.array.dtype == np.float32
    assert np.array_equal(again.array, maps)
    assert again.channels == names
    assert again.geometry.differences(scan.geometry) == ()
    assert not again.is_picture
    file = Tiff().maps_file(tmp_path / "q.tif", scan, names)
    with pytest.raises(ShapeMismatch, match="values do not fill"):
        file.write(whole_box(shape), maps[:2])
    file.discard()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("A.OME.TIF", ".ome.tif"), ("a.tiff", ".tiff"), ("a.b.btf", ".btf"), ("a.tif", ".tif")],
)
def test_suffixes_of_masks(name: str, suffix: str) -> None:
    assert Tiff().mask_suffix(Path(name)) == suffix
    assert Tiff().maps_suffix(Path(name)) == suffix


@pytest.mark.real
def test_real_files(real_data: Path) -> None:
    for name, axes, shape, dtype in (
        # Five channels without a name, which its mask tells from slices.
        ("imc_5ch/images/E34.tiff", "CYX", (5, 100, 100), "float32"),
        ("imc_5ch/labels/E34.tiff", "", (1, 100, 100), "uint16"),
        ("nuclei_sample_3d/images/sample_3d.tif", "", (1, 31, 61, 57), "uint16"),
        ("nuclei_sample_2d/images/sample_2d.tif", "", (1, 512, 512), "uint16"),
    ):
        scan = read_scan(real_data / name, View(axes=axes))
        assert (scan.array.shape, scan.array.dtype.name) == (shape, dtype)
        expected = tifffile.imread(real_data / name)
        assert np.array_equal(scan.array.reshape(expected.shape), expected)
