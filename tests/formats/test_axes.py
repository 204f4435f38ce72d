"""Axes, channels and pixel sizes: files by independent writers, and how they are to be read.

The writers are tifffile, OME-XML by hand and by ome-types, zarr with NGFF metadata by hand,
nibabel and Pillow. Every voxel tells its own place, so that no axis can be taken for another.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import ome_types
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unetseg.arguments import lengths, view_of
from unetseg.errors import DataError, UsageError
from unetseg.formats import contents, open_scan, read_scan
from unetseg.formats.naming import chosen, described, is_generic, with_pixel_size
from unetseg.geometry import Geometry, whole_box
from unetseg.records import View

Write = Callable[[Path], object]

# What a step along an axis adds to a voxel; no axis has so many entries that sums are the same.
WEIGHTS = {"X": 1, "Y": 20, "Z": 400, "C": 4000, "S": 4000, "T": 16000}
SIZES = {"X": 15, "Y": 18, "Z": 5, "C": 3, "S": 3, "T": 2}


def places(letters: str, **sizes: int) -> np.ndarray:
    """An array with such axes, each voxel the sum of its places."""
    known = {**SIZES, **sizes}
    grid = np.indices([known[letter] for letter in letters])
    weights = [WEIGHTS[letter] for letter in letters]
    return sum(k * axis for k, axis in zip(weights, grid, strict=True)).astype(np.uint16)


def tiff(letters: str, sizes: dict[str, int] | None = None, **options: Any) -> Write:
    """By tifffile, which names no axes unless it is told to."""

    def write(path: Path) -> None:
        wanted = {"photometric": "minisblack", **options}
        tifffile.imwrite(path, places(letters, **(sizes or {})), **wanted)

    return write


def named(letters: str, sizes: dict[str, int] | None = None, **options: Any) -> Write:
    """By tifffile, with the axes and more in its own metadata, OME-XML or ImageJ's."""
    metadata = {"axes": letters, **options.pop("metadata", {})}
    return tiff(letters, sizes, metadata=metadata, **options)


def ome_by_hand(order: str, attributes: str = "", channels: str = "", **sizes: int) -> Write:
    """A page per plane, in OME's order (XYCZT: C fastest), with XML written here."""
    counts = {"C": 1, "Z": 1, "T": 1, "X": SIZES["X"], "Y": SIZES["Y"], **sizes}
    numbers = " ".join(f'Size{letter}="{count}"' for letter, count in counts.items())
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" '
        f"{numbers} {attributes}>{channels}<TiffData/></Pixels></Image></OME>"
    )
    stored = places(order[::-1], **counts)
    pages = stored.reshape(-1, *stored.shape[-2:])
    return lambda path: tifffile.imwrite(
        path, pages, description=xml, metadata=None, photometric="minisblack"
    )


def ome_by_types(letters: str, **pixels: Any) -> Write:
    """XML by ome-types."""
    counts = dict.fromkeys("CZT", 1) | {letter: SIZES[letter] for letter in letters}
    model = ome_types.model
    ome = ome_types.OME(
        images=[
            model.Image(
                pixels=model.Pixels(
                    dimension_order="XYCZT",
                    type="uint16",
                    tiff_data_blocks=[model.TiffData()],
                    **{f"size_{letter.lower()}": count for letter, count in counts.items()},
                    **pixels,
                )
            )
        ]
    )
    stored = places("TZCYX", **counts)
    pages = stored.reshape(-1, *stored.shape[-2:])
    return lambda path: tifffile.imwrite(
        path, pages, description=ome.to_xml(), metadata=None, photometric="minisblack"
    )


def ngff(
    letters: str,
    version: str = "0.4",
    scale: dict[str, float] | None = None,
    unit: str | None = "micrometer",
    channels: tuple[str, ...] = (),
) -> Write:
    """By zarr, with metadata by hand."""

    def write(path: Path) -> None:
        kinds = {"t": "time", "c": "channel"}
        axes = [
            {"name": name, "type": kinds.get(name, "space")}
            | ({"unit": unit} if unit and name in "zyx" else {})
            for name in letters.lower()
        ]
        factors = [(scale or {}).get(letter, 1.0) for letter in letters]
        steps = [{"type": "scale", "scale": factors}]
        datasets = [{"path": "s0", "coordinateTransformations": steps}]
        entries: dict[str, Any] = {"multiscales": [{"axes": axes, "datasets": datasets}]}
        if channels:
            entries["omero"] = {"channels": [{"label": name} for name in channels]}
        is_old = version == "0.4"
        if is_old:
            entries["multiscales"][0]["version"] = version
        else:
            entries = {"ome": {"version": version, **entries}}
        group = zarr.create_group(path, zarr_format=2 if is_old else 3, attributes=entries)
        group.create_array("s0", data=places(letters))

    return write


def nifti(letters: str, unit: str = "mm", edges: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Write:
    def write(path: Path) -> None:
        image = nib.Nifti1Image(places(letters), np.diag([*edges, 1.0]))
        image.header.set_xyzt_units(unit)
        nib.save(image, path)

    return write


def picture(mode: str, **options: Any) -> Write:
    """By Pillow, 18 rows of 15; `grey` in all three colours for RGB=grey."""

    def write(path: Path) -> None:
        mixed = np.random.default_rng(3).integers(0, 255, (18, 15, 4), np.uint8)
        grey = np.stack([mixed[..., 0]] * 3, -1)
        made = {
            "L": lambda: Image.fromarray(mixed[..., 0]),
            "I;16": lambda: Image.fromarray(places("YX")),
            "RGB": lambda: Image.fromarray(mixed[..., :3]),
            "RGBA": lambda: Image.fromarray(mixed),
            "LA": lambda: Image.fromarray(mixed[..., :2], "LA"),
            "P": lambda: Image.fromarray(mixed[..., :3]).quantize(16),
            "grey": lambda: Image.fromarray(grey),
            "1": lambda: Image.fromarray(mixed[..., 0] > 99),
        }[mode]()
        made.save(path, **options)

    return write


def colours(count: int = 3, dtype: str = "uint8", **options: Any) -> Write:
    array = np.random.default_rng(4).integers(0, 255, (18, 15, count)).astype(dtype)
    if options.get("planarconfig") == "separate":
        array = np.moveaxis(array, -1, 0)
    return lambda path: tifffile.imwrite(path, array, photometric="rgb", **options)


_NAMES = '<Channel Name="DAPI"/><Channel Name="GFP"/><Channel Name="mCherry"/>'
_MICRONS = 'PhysicalSizeX="0.65" PhysicalSizeY="0.65" PhysicalSizeZ="2"'
_NANO = (
    'PhysicalSizeX="650" PhysicalSizeXUnit="nm" PhysicalSizeY="650" PhysicalSizeYUnit="nm"'
    ' PhysicalSizeZ="0.002" PhysicalSizeZUnit="mm"'
)
_DAPI_GFP = {"Channel": {"Name": ["DAPI", "GFP", "Cy5"]}}

# A file, what a person says of it (--axes), and how it is read.
FILES: list[tuple[str, Write, str, str]] = [
    # OME-TIFF, XML by hand: every order of planes
    ("hand.ome.tif", ome_by_hand("XYZCT", _MICRONS, _NAMES, Z=5, C=3), "",
     "TCZYX 1x3x5x18x15, 0.65 x 0.65 x 2.0 um, channels DAPI, GFP, mCherry"),
    ("fast_c.ome.tif", ome_by_hand("XYCZT", _MICRONS, _NAMES, Z=5, C=3), "",
     "TZCYX 1x5x3x18x15, 0.65 x 0.65 x 2.0 um, channels DAPI, GFP, mCherry"),
    ("nano.ome.tif", ome_by_hand("XYZCT", _NANO, _NAMES, Z=5, C=3), "",
     "TCZYX 1x3x5x18x15, 0.65 x 0.65 x 2.0 um, channels DAPI, GFP, mCherry"),
    ("film.ome.tif", ome_by_hand("XYCTZ", _MICRONS, _NAMES, T=2, C=3), "",
     "ZTCYX 1x2x3x18x15, 0.65 x 0.65 um, channels DAPI, GFP, mCherry"),
    ("all.ome.tif", ome_by_hand("XYTZC", _MICRONS, _NAMES, T=2, C=3, Z=5), "",
     "CZTYX 3x5x2x18x15, 0.65 x 0.65 x 2.0 um, channels DAPI, GFP, mCherry"),
    ("plane.ome.tif", ome_by_hand("XYZCT"), "", "TCZYX 1x1x1x18x15, px"),
    ("slices.ome.tif", ome_by_hand("XYZCT", 'PhysicalSizeX="0.5"', Z=5), "",
     "TCZYX 1x1x5x18x15, 0.5 x 0.5 x 0.5 um"),
    ("lies.ome.tif", ome_by_hand("XYZCT", "", Z=3), "TYX", "TYX 3x18x15, px"),
    ("lies5.ome.tif", ome_by_hand("XYCZT", "", T=2), "ZCTYX", "ZCTYX 2x1x1x18x15, px"),
    # OME-TIFF by ome-types
    ("types.ome.tif", ome_by_types("CZYX", physical_size_x=0.1, physical_size_y=0.2,
                                   physical_size_z=0.3), "",
     "TZCYX 1x5x3x18x15, 0.1 x 0.2 x 0.3 um, 3 channels"),
    ("types_t.ome.tif", ome_by_types("TYX"), "", "TZCYX 2x1x1x18x15, px"),
    # OME-TIFF by tifffile
    ("a.ome.tif", named("CYX", ome=True, metadata=_DAPI_GFP), "",
     "TZCYX 1x1x3x18x15, px, channels DAPI, GFP, Cy5"),
    ("b.ome.tif", named("ZCYX", ome=True, metadata={"PhysicalSizeX": 2.0}), "",
     "TZCYX 1x5x3x18x15, 2.0 x 2.0 x 2.0 um, 3 channels"),
    ("c.ome.tif", named("TZCYX", ome=True, compression="lzw"), "",
     "TZCYX 2x5x3x18x15, px, 3 channels"),
    ("big.ome.btf", named("ZYX", ome=True, bigtiff=True), "", "TZCYX 1x5x1x18x15, px"),
    # ImageJ
    ("ij_z.tif", named("ZYX", imagej=True, metadata={"unit": "um", "spacing": 3.0},
                       resolution=(2.0, 2.0)), "", "ZYX 5x18x15, 0.5 x 0.5 x 3.0 um"),
    ("ij_c.tif", named("CYX", imagej=True, metadata={"Labels": ["DAPI", "GFP", "Cy5"]}), "",
     "CYX 3x18x15, px, channels DAPI, GFP, Cy5"),
    ("ij_counted.tif", named("CYX", imagej=True, metadata={
        "Labels": ["c:1/3 - a.czi #1", "c:2/3 - a.czi #1", "c:3/3 - a.czi #1"]}), "",
     "CYX 3x18x15, px, 3 channels"),
    ("ij_zc.tif", named("ZCYX", imagej=True), "", "ZCYX 5x3x18x15, px, 3 channels"),
    ("ij_t.tif", named("TYX", imagej=True), "", "TYX 2x18x15, px"),
    ("ij_tzc.tif", named("TZCYX", imagej=True), "", "TZCYX 2x5x3x18x15, px, 3 channels"),
    ("ij_frames.tif", named("TYX", {"T": 2}, imagej=True), "ZYX", "ZYX 2x18x15, px"),
    # axes in tifffile's own metadata
    ("own_c.tif", named("CYX"), "", "CYX 3x18x15, px, 3 channels"),
    ("own_z.tif", named("ZYX", {"Z": 3}), "", "ZYX 3x18x15, px"),
    ("own_last.tif", named("ZYXC"), "", "ZYXC 5x18x15x3, px, 3 channels"),
    # without named axes
    ("bare.tif", tiff("YX"), "", "YX 18x15, px"),
    ("cm.tif", tiff("YX", resolution=(20000, 10000), resolutionunit="CENTIMETER"), "",
     "YX 18x15, 0.5 x 1.0 um"),
    ("inch.tif", tiff("YX", resolution=(72, 72), resolutionunit="INCH"), "", "YX 18x15, px"),
    ("deep.tif", tiff("ZYX", {"Z": 9}), "", "ZYX 9x18x15, px"),
    ("lzw.tif", tiff("YX", compression="lzw", tile=(16, 16)), "", "YX 18x15, px"),
    ("big.tif", tiff("YX", bigtiff=True), "", "YX 18x15, px"),
    ("swapped.tif", tiff("ZYX", {"Z": 9}, byteorder=">"), "", "ZYX 9x18x15, px"),
    ("said_c.tif", tiff("CYX"), "CYX", "CYX 3x18x15, px, 3 channels"),
    ("said_z.tif", tiff("ZYX", {"Z": 3}), "ZYX", "ZYX 3x18x15, px"),
    ("said_zc.tif", tiff("ZCYX"), "ZCYX", "ZCYX 5x3x18x15, px, 3 channels"),
    ("said_tc.tif", tiff("TCYX"), "TCYX", "TCYX 2x3x18x15, px, 3 channels"),
    ("said_last.tif", tiff("YXC", metadata=None), "YXC", "YXC 18x15x3, px, 3 channels"),
    # colours in TIFF
    ("rgb.tif", colours(), "", "YXS 18x15x3, px, channels red, green, blue"),
    ("rgba.tif", colours(4, extrasamples=["unassalpha"]), "",
     "YXS 18x15x4, px, channels red, green, blue, alpha left out"),
    ("rgb16.tif", colours(3, "uint16"), "", "YXS 18x15x3, px, channels red, green, blue"),
    ("planar.tif", colours(planarconfig="separate", metadata=None), "",
     "SYX 3x18x15, px, channels red, green, blue"),
    ("rgb_lzw.tif", colours(compression="lzw", metadata=None), "",
     "YXS 18x15x3, px, channels red, green, blue"),
    ("palette.tif", picture("P"), "",
     "YX 18x15, px, channels red, green, blue, palette expanded to colours"),
    # OME-Zarr, metadata by hand
    ("a4.ome.zarr", ngff("TCZYX", "0.4", {"Z": 2.0, "Y": 0.65, "X": 0.65}), "",
     "TCZYX 2x3x5x18x15, 0.65 x 0.65 x 2.0 um, 3 channels"),
    ("a5.ome.zarr", ngff("CZYX", "0.5", {"Y": 0.5, "X": 0.25}, channels=("DAPI", "GFP", "Cy5")),
     "", "CZYX 3x5x18x15, 0.25 x 0.5 x 1.0 um, channels DAPI, GFP, Cy5"),
    ("mm5.ome.zarr", ngff("ZYX", "0.5", unit="millimeter"), "", "ZYX 5x18x15, 1.0 x 1.0 x 1.0 mm"),
    ("nm4.zarr", ngff("YX", "0.4", {"Y": 500.0, "X": 500.0}, unit="nanometer"), "",
     "YX 18x15, 0.5 x 0.5 um"),
    ("px4.zarr", ngff("CYX", "0.4", unit=None), "", "CYX 3x18x15, px, 3 channels"),
    ("t5.ome.zarr", ngff("TYX", "0.5", unit=None), "", "TYX 2x18x15, px"),
    ("zc5.ome.zarr", ngff("ZCYX", "0.5", unit=None), "", "ZCYX 5x3x18x15, px, 3 channels"),
    ("said5.ome.zarr", ngff("TZYX", "0.5", unit=None), "CZYX",
     "CZYX 2x5x18x15, px, 2 channels"),
    # NIfTI by nibabel
    ("v.nii.gz", nifti("XYZ", "mm", (0.5, 0.5, 3.0)), "", "XYZ 15x18x5, 0.5 x 0.5 x 3.0 mm"),
    ("u.nii", nifti("XYZ", "micron"), "", "XYZ 15x18x5, 1.0 x 1.0 x 1.0 um"),
    ("c.nii.gz", nifti("XYZC"), "XYZC", "XYZC 15x18x5x3, 1.0 x 1.0 x 1.0 mm, 3 channels"),
    # pictures by Pillow
    ("grey.png", picture("L"), "", "YX 18x15, px"),
    ("grey16.png", picture("I;16"), "YX", "YX 18x15, px"),
    ("rgb.png", picture("RGB"), "", "YXS 18x15x3, px, channels red, green, blue"),
    ("rgba.png", picture("RGBA"), "",
     "YXS 18x15x4, px, channels red, green, blue, alpha left out"),
    ("alpha.png", picture("LA"), "", "YXS 18x15x2, px, alpha left out"),
    ("palette.png", picture("P"), "",
     "YX 18x15, px, channels red, green, blue, palette expanded to colours"),
    ("equal.png", picture("grey"), "", "YXS 18x15x3, px, three equal colours read as grey"),
    ("bits.png", picture("1"), "", "YX 18x15, px"),
    ("photo.jpg", picture("RGB", quality=95), "", "YXS 18x15x3, px, channels red, green, blue"),
    ("photo_grey.jpg", picture("L"), "", "YX 18x15, px"),
    ("old.bmp", picture("RGB"), "", "YXS 18x15x3, px, channels red, green, blue"),
]  # fmt: skip


# Where a person says that a file is wrong: the letter given, and the one by which it was written.
RENAMED = {
    "said5.ome.zarr": {"C": "T"},
    "ij_frames.tif": {"Z": "T"},
    "lies.ome.tif": {"T": "Z"},
    "lies5.ome.tif": {"Z": "T"},
}


def test_the_table_is_long_and_its_names_differ() -> None:
    assert len(FILES) >= 60
    assert len({name for name, *_ in FILES}) == len(FILES)


@pytest.mark.parametrize(("name", "write", "axes", "line"), FILES, ids=[f[0] for f in FILES])
def test_files(tmp_path: Path, name: str, write: Write, axes: str, line: str) -> None:
    path = tmp_path / name
    write(path)
    found = contents(path, View(axes=axes))
    assert len(found.likely) == 1
    times = found.size(found.likely[0], "T")
    for time in range(times):
        view = View(axes=axes, time=time if times > 1 else None)
        scan, opened = read_scan(path, view), open_scan(path, view)
        assert described(scan) == line
        assert scan.geometry.differences(opened.geometry) == ()
        voxels = opened.read(whole_box(opened.geometry.shape))
        if len(scan.array) == len(voxels):
            assert described(opened) == line
            assert np.array_equal(scan.array, voxels)
        if scan.array.dtype == np.uint16 and not scan.is_picture:
            # The letters that the array has, in its order; T stands still.
            spatial = [each for each in line.split()[0] if each in "XYZ"]
            letters = ["C", *spatial[len(spatial) - scan.geometry.ndim :]]
            steps = WEIGHTS | {said: WEIGHTS[true] for said, true in RENAMED.get(name, {}).items()}
            grid = np.indices(scan.array.shape)
            expected = sum(steps[k] * axis for k, axis in zip(letters, grid, strict=True))
            assert np.array_equal(scan.array, expected + time * steps["T"])


# A file that is not guessed at: what --axes says, and what the refusal names.
REFUSED: list[tuple[str, Write, str, str]] = [
    ("c_or_z.tif", tiff("CYX"), "",
     r"expected one of CYX, ZYX, got 3x18x15\); give --axes CYX \(channels\) or --axes ZYX"),
    ("plain.tif", tiff("CYX", metadata=None), "", r"CYX, ZYX, got 3x18x15"),
    ("four.tif", tiff("ZCYX"), "", r"expected one of CZYX, ZCYX, got 5x3x18x15"),
    ("many.tif", tiff("ZTYX", {"Z": 9, "T": 10}), "", r"CZYX, ZCYX, ZYXC, got 9x10x18x15"),
    ("old.tif", colours(planarconfig="separate"), "", r"CYX, ZYX, got 3x18x15"),
    ("short.tif", tiff("CYX"), "ZCYX",
     r"not as many axes.*expected 3 letters for 3x18x15, got ZCYX, 4 letters"),
    ("long.ome.tif", named("CZYX", ome=True), "CYX", r"expected 4 letters .*got CYX, 3 letters"),
    ("twice.tif", tiff("CYX"), "CCY", r"the axes do not make an image"),
    ("turned.tif", tiff("CYX"), "CXY", r"Z, Y, X in this order"),
    ("colours.tif", tiff("CYX"), "SCY", r"the axes do not make an image"),
    ("ngff.ome.zarr", ngff("CYX", "0.5"), "TCZYX", r"expected 3 letters for 3x18x15"),
    ("ngff4.ome.zarr", ngff("TYX"), "", r"2 time points in one file"),
    ("film.tif", named("TYX", imagej=True), "", r"2 time points in one file"),
    ("mm.nii.gz", nifti("XYZC"), "XYZT", r"axes of nifti files are fixed.*expected XYZC, got XYZT"),
    ("mm2.nii.gz", nifti("XYZ"), "ZYX", r"expected XYZ, got ZYX"),
    ("mm3.nii.gz", nifti("XYZ"), "YX", r"expected 3 letters for 15x18x5, got YX"),
    ("grey.png", picture("L"), "ZYX", r"expected 2 letters for 18x15, got ZYX, 3 letters"),
    ("rgb.png", picture("RGB"), "ZYX", r"fixed \(expected YXS, got ZYX\)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "axes", "says"), REFUSED, ids=[f[0] for f in REFUSED])
def test_refused(tmp_path: Path, name: str, write: Write, axes: str, says: str) -> None:
    path = tmp_path / name
    write(path)
    for read in (read_scan, open_scan):
        with pytest.raises(DataError, match=says) as caught:
            read(path, View(axes=axes))
        assert caught.value.where == str(path)


def test_scenes_are_images_of_one_ome_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for k, (letters, edge) in enumerate((("YX", 0.5), ("CYX", 0.25))):
            writer.write(
                places(letters) + k,
                photometric="minisblack",
                metadata={"axes": letters, "Name": f"field {k}", "PhysicalSizeX": edge},
            )
    assert contents(path).scenes == ("field 0", "field 1")
    first, second = (read_scan(path, View(scene=k)) for k in range(2))
    assert (first.array.shape, first.geometry.spacing) == ((1, 18, 15), (0.5, 0.5))
    assert (second.array.shape, second.geometry.spacing) == ((3, 18, 15), (0.25, 0.25))
    assert np.array_equal(second.array, places("CYX") + 1)
    with pytest.raises(DataError, match="2 images in one file"):
        read_scan(path)
    with pytest.raises(DataError, match=r"no scene 2 \(expected 0 to 1\)"):
        read_scan(path, View(scene=2))


def test_scenes_of_a_converter(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    zarr.create_group(path, attributes={"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    for name in "01":
        ngff("CYX", "0.5")(path / name)
    assert contents(path).scenes == ("0", "1")
    second = read_scan(path, View(scene=1))
    assert np.array_equal(second.array, places("CYX"))
    assert second.source.path == path / "1"
    with pytest.raises(DataError, match="several images in one store"):
        read_scan(path)


# --- channels and pixel size of a view


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr", "a.nii.gz", "a.png"])
def test_channels_are_chosen_by_name_and_number(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    known = ("DAPI", "GFP", "Cy5")
    write = {
        "a.ome.tif": named("CZYX", ome=True, metadata={"Channel": {"Name": list(known)}}),
        "a.ome.zarr": ngff("CZYX", channels=known),
        "a.nii.gz": nifti("XYZC"),
        "a.png": picture("RGB"),
    }[name]
    write(path)
    whole = read_scan(path)
    wanted = (whole.channels[2].lower(), "0")
    scan, opened = (read(path, View(channels=wanted)) for read in (read_scan, open_scan))
    assert scan.channels == opened.channels == (whole.channels[2], whole.channels[0])
    assert np.array_equal(scan.array, whole.array[[2, 0]])
    box = tuple(slice(1, n) for n in scan.geometry.shape)
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])
    assert not scan.is_picture
    with pytest.raises(DataError, match=r"no channel GF.*got 0.*with --channels"):
        read_scan(path, View(channels=("GF",)))
    with pytest.raises(DataError, match="no channel 3"):
        open_scan(path, View(channels=("3",)))


@given(st.lists(st.sampled_from(["DAPI", "gfp", "Cy5", "mCherry"]), min_size=1, unique=True))
def test_what_is_chosen_is_there(names: list[str]) -> None:
    places_ = chosen([name.swapcase() for name in names], names)
    assert places_ == tuple(range(len(names)))
    assert chosen([str(k) for k in reversed(places_)], names) == places_[::-1]


def test_a_name_that_is_a_number_is_a_name() -> None:
    assert chosen(["0"], ["1", "0"]) == (1,)
    with pytest.raises(DataError, match="a channel is asked for twice"):
        chosen(["1", "0"], ["1", "a"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0", True), ("Channel 1", True), ("ch_02", True), ("c:1/3 - a.lif #2", True), ("C0", True),
     ("grey", True), ("DAPI", False), ("GFP 488", False), ("red", False), ("Cy5", False),
     ("Channel", False)],
)  # fmt: skip
def test_generic_names(name: str, expected: bool) -> None:
    assert is_generic(name) is expected


@pytest.mark.parametrize(
    ("name", "write", "said", "spacing", "unit"),
    [
        ("a.tif", tiff("YX"), "0.65um", (0.65, 0.65), "um"),
        ("a.png", picture("RGB"), "0.5x0.25um", (0.25, 0.5), "um"),
        ("z.tif", named("ZYX"), "0.65x0.6x2um", (2, 0.6, 0.65), "um"),
        ("z.ome.tif", named("ZYX", ome=True, metadata={"PhysicalSizeX": 9.0}), "650x600x2000nm",
         (2, 0.6, 0.65), "um"),
        ("mm.tif", named("ZYX"), "1x1x2mm", (2, 1, 1), "mm"),
        # What a file says in micrometres stays in micrometres.
        ("u.ome.tif", named("ZYX", ome=True, metadata={"PhysicalSizeX": 9.0}), "1x1x2mm",
         (2000, 1000, 1000), "um"),
        ("a.ome.zarr", ngff("ZYX", unit=None), "0.65x0.6x2um", (2, 0.6, 0.65), "um"),
        ("v.nii.gz", nifti("XYZ", "mm", (1, 1, 1)), "0.5x0.6x2mm", (0.5, 0.6, 2), "mm"),
        ("w.nii.gz", nifti("XYZ", "mm", (1, 1, 1)), "500x600x2000um", (0.5, 0.6, 2), "mm"),
    ],
)  # fmt: skip
def test_pixel_size(
    tmp_path: Path, name: str, write: Write, said: str, spacing: tuple[float, ...], unit: str
) -> None:
    path = tmp_path / name
    write(path)
    view = view_of(None, None, said)
    for read in (read_scan, open_scan):
        geometry = read(path, view).geometry
        assert geometry.spacing == pytest.approx(spacing)
        assert geometry.unit == unit


def test_a_pixel_size_for_other_axes_is_refused(tmp_path: Path) -> None:
    tiff("YX")(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"expected 2 lengths, along X, Y, got 1.0 x 1.0 x 2.0 um"):
        read_scan(tmp_path / "a.tif", view_of(None, None, "1x1x2um"))
    named("ZYX")(tmp_path / "z.tif")
    with pytest.raises(DataError, match=r"expected 3 lengths, along X, Y, Z, got 0.5 x 0.5 um"):
        open_scan(tmp_path / "z.tif", view_of(None, None, "0.5um"))


def test_a_pixel_size_keeps_directions() -> None:
    affine = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    found = with_pixel_size(Geometry((2, 3, 4), affine, "mm"), "XYZ", (10, 20, 30), "mm")
    assert np.array_equal(
        found.affine, [[0, -20, 0, 5], [10, 0, 0, 6], [0, 0, 30, 7], [0, 0, 0, 1]]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.65um", ((0.65, 0.65), "um")),
        ("0.65 x 0.5 x 2 µm", ((0.65, 0.5, 2.0), "µm")),
        ("650nm", ((0.65, 0.65), "um")),
        ("1e-3mm", ((0.001, 0.001), "mm")),
    ],
)
def test_lengths(text: str, expected: tuple[tuple[float, ...], str]) -> None:
    edges, unit = lengths(text)
    assert edges == pytest.approx(expected[0])
    assert unit.replace("µ", "u") == expected[1].replace("µ", "u")


@pytest.mark.parametrize("text", ["0.65", "um", "0um", "1x2x3x4um", "-1um", "1,5um", "1 inch"])
def test_what_is_no_pixel_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"--pixel-size: not a pixel size.*0.65x0.65x2um"):
        lengths(text)


@pytest.mark.parametrize("text", ["CC", "QYX", "XY Z", "YXZ", "Z"])
def test_what_are_no_axes(text: str) -> None:
    with pytest.raises(UsageError, match=r"--axes: not axes.*such as ZCYX"):
        view_of(text, None, None)


def test_what_a_command_asks_for() -> None:
    asked = view_of("zcyx", "DAPI, 1", "0.5um")
    assert asked == View(axes="ZCYX", channels=("DAPI", "1"), pixel_size=(0.5, 0.5))
    assert view_of(None, None, None) == View()
    with pytest.raises(UsageError, match="--channels: not channels"):
        view_of(None, "DAPI,,1", None)
