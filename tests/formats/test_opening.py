"""Opened scans: the header tells what reading the whole file tells, and so does every box."""

import gzip
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetseg.errors import DataError
from unetseg.formats import boxes, open_scan, read_scan
from unetseg.formats.boxes import read_box, row_block
from unetseg.geometry import whole_box
from unetseg.records import Opened, Scan

AFFINE = np.array([[0.0, 3, 0, 10], [-2, 0, 0, 20], [0, 0, 4, -30], [0, 0, 0, 1]])


def noise(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(7).integers(0, 251, shape).astype(dtype)


def nifti(shape: tuple[int, ...], dtype: str = "int16", **header: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        image = nib.Nifti1Image(noise(shape, dtype), AFFINE)
        if header:
            image.header.set_slope_inter(**header)
        nib.save(image, path)

    return save


def tiff(shape: tuple[int, ...], dtype: str = "uint16", **options: Any) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        tifffile.imwrite(path, noise(shape, dtype), **{"photometric": "minisblack", **options})

    return save


def picture(array: np.ndarray, mode: str | None = None) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        image = Image.fromarray(array)
        (image.convert(mode) if mode else image).save(path)

    return save


def pyramid(path: Path) -> None:
    array = noise((3, 130, 140))
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"photometric": "minisblack", "tile": (32, 48), "compression": "zlib"}
        writer.write(array, subifds=1, metadata={"axes": "CYX"}, **options)
        writer.write(array[:, ::2, ::2], subfiletype=1, **options)


def sparse(path: Path) -> None:
    def tiles():
        for number in range(6):
            yield None if number % 2 else np.full((32, 48), number + 1, np.uint8)

    tifffile.imwrite(
        path, tiles(), shape=(64, 144), dtype=np.uint8, tile=(32, 48), compression="zlib"
    )


def big_endian_pgm(path: Path) -> None:
    path.write_bytes(b"P5\n# made by hand\n9 7\n4095\n" + noise((7, 9)).astype(">u2").tobytes())


RGB = noise((31, 42, 3), "uint8")
FILES: dict[str, Callable[[Path], None]] = {
    "volume.nii": nifti((9, 7, 5)),
    "volume.nii.gz": nifti((9, 7, 5)),
    "channels.nii": nifti((9, 7, 5, 3), "float32"),
    "channels.nii.gz": nifti((9, 7, 5, 3)),
    "slice.nii": nifti((9, 7, 1)),
    "plane.nii": nifti((9, 7)),
    "scaled.nii": nifti((9, 7, 5), slope=0.5, inter=-3),
    "plain.tif": tiff((61, 50)),
    "stack.tif": tiff((12, 40, 50)),
    "float.tif": tiff((40, 50), "float32"),
    "bilevel.tif": tiff((40, 50), "bool"),
    "channels.tif": tiff((5, 40, 50), metadata={"axes": "CYX"}),
    "last.tif": tiff((40, 50, 5)),
    "big_endian.tif": tiff((12, 40, 50), byteorder=">"),
    "strips.tif": tiff((61, 50), compression="zlib", rowsperstrip=7, predictor=True),
    "one_strip.tif": tiff((61, 50), compression="zlib", rowsperstrip=61),
    "tiles.tif": tiff((61, 150), tile=(32, 48), compression="lzw"),
    "tiled_stack.tif": tiff((4, 61, 150), tile=(32, 48), metadata={"axes": "ZYX"}),
    "volumetric.tif": tiff((20, 61, 70), tile=(16, 32, 48), volumetric=True, compression="zlib"),
    "imagej.tif": tiff((6, 3, 40, 50), imagej=True, metadata={"axes": "ZCYX"}),
    "ome.ome.tif": tiff((3, 6, 40, 50), ome=True, metadata={"axes": "CZYX"}, compression="zlib"),
    "rgb.tif": tiff((31, 42, 3), "uint8", photometric="rgb"),
    "planar.tif": tiff(
        (3, 31, 42), "uint8", photometric="rgb", planarconfig="separate", metadata=None
    ),
    "planar_tiles.tif": tiff(
        (3, 61, 70),
        "uint8",
        photometric="rgb",
        planarconfig="separate",
        tile=(16, 32),
        metadata=None,
    ),
    "rgba.tif": tiff((31, 42, 4), "uint8", photometric="rgb", extrasamples=["unassalpha"]),
    "rgb_stack.tif": tiff((7, 31, 42, 3), "uint8", photometric="rgb", compression="zlib"),
    "white.tif": tiff((31, 42), "uint8", photometric="miniswhite", metadata=None),
    "palette.tif": picture(RGB, "P"),
    "pyramid.ome.tif": pyramid,
    "sparse.tif": sparse,
    "grey.png": picture(RGB[..., 0]),
    "colours.png": picture(RGB),
    "palette.png": picture(RGB, "P"),
    "palette.gif": picture(RGB, "P"),
    "bilevel.png": picture(RGB[..., 0], "1"),
    "alpha.png": picture(noise((31, 42, 4), "uint8")),
    "grey_alpha.png": picture(noise((31, 42, 2), "uint8")),
    "deep.png": lambda path: path.write_bytes(imagecodecs.png_encode(noise((31, 42)))),
    "deep_colours.png": lambda path: path.write_bytes(imagecodecs.png_encode(noise((31, 42, 3)))),
    "photo.jpg": picture(RGB),
    "photo_grey.jpg": picture(RGB[..., 0]),
    "bitmap.bmp": picture(RGB),
    "deep.pgm": big_endian_pgm,
    "map.ppm": picture(RGB),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opened")
    for name, save in FILES.items():
        save(folder / name)
    return folder


def box_in(draw: Callable[[Any], int], shape: tuple[int, ...]) -> tuple[slice, ...]:
    box = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        box.append(slice(start, draw(st.integers(start + 1, size))))
    return tuple(box)


def same_header(opened: Opened, scan: Scan) -> None:
    assert opened.geometry.differences(scan.geometry, tolerance=0) == ()
    assert opened.geometry.unit == scan.geometry.unit
    assert opened.channels == scan.channels
    assert opened.dtype == scan.array.dtype
    assert opened.is_picture == scan.is_picture
    assert opened.source.path == scan.source.path
    assert opened.source.format == scan.source.format
    assert len(opened.block) == opened.geometry.ndim
    assert all(edge > 0 for edge in opened.block)


@pytest.mark.parametrize("name", FILES)
def test_the_header_tells_what_the_whole_file_tells(files: Path, name: str) -> None:
    same_header(open_scan(files / name), read_scan(files / name))


@pytest.mark.parametrize("name", FILES)
def test_any_box_is_the_same_box_of_the_whole(files: Path, name: str) -> None:
    opened, scan = open_scan(files / name), read_scan(files / name)
    assert np.array_equal(opened.read(whole_box(opened.geometry.shape)), scan.array)

    @given(st.data())
    @settings(max_examples=25, deadline=None, database=None)
    def check(data: st.DataObject) -> None:
        box = box_in(data.draw, opened.geometry.shape)
        found = opened.read(box)
        assert found.dtype == opened.dtype
        assert np.array_equal(found, scan.array[(slice(None), *box)])

    check()


def test_the_check_above_would_see_a_shift(files: Path) -> None:
    scan = read_scan(files / "tiles.tif")
    box = slice(0, 20), slice(1, 30)
    found = open_scan(files / "tiles.tif").read((slice(0, 20), slice(0, 29)))
    assert not np.array_equal(found, scan.array[(slice(None), *box)])


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("volume.nii.gz", (9, 7, 5)),
        ("volume.nii", (9, 7, 5)),
        ("grey.png", (31, 42)),
        ("one_strip.tif", (61, 50)),
        ("strips.tif", (7, 50)),
        ("tiles.tif", (32, 48)),
        ("tiled_stack.tif", (1, 32, 48)),
        ("volumetric.tif", (16, 32, 48)),
        ("ome.ome.tif", (1, 40, 50)),
        ("pyramid.ome.tif", (32, 48)),
        ("planar_tiles.tif", (16, 32)),
    ],
)
def test_the_block_is_what_the_file_is_stored_in(
    files: Path, name: str, block: tuple[int, ...]
) -> None:
    assert open_scan(files / name).block == block


def test_a_pyramid_is_read_at_full_resolution(files: Path) -> None:
    assert np.array_equal(read_scan(files / "pyramid.ome.tif").array, noise((3, 130, 140)))


def test_rows_and_planes_of_about_a_megabyte() -> None:
    # 2 ** 20 bytes hold 2 ** 19 voxels of 2 bytes, 102 rows of 5120 of them.
    assert row_block((20000, 5120), 2) == (102, 5120)
    assert row_block((300, 512, 512), 2) == (2, 512, 512)
    assert row_block((300, 2048, 2048), 2) == (1, 256, 2048)
    assert row_block((4, 5, 6), 8) == (4, 5, 6)
    # Rows are read whole, however long.
    assert row_block((9, 3_000_000), 2) == (1, 3_000_000)


@pytest.mark.parametrize("name", ["volume.nii", "tiled_stack.tif", "plain.tif"])
def test_a_box_reads_little_of_the_file(
    files: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Voxels outside the box are spoiled on disk: a reader that took them would see it."""
    path = tmp_path / name
    FILES[name](path)
    opened, before = open_scan(path), read_scan(path)
    content = bytearray(path.read_bytes())
    content[-374:] = bytes(374)
    path.write_bytes(content)
    box = tuple(slice(0, 2) for _ in opened.geometry.shape)
    assert np.array_equal(opened.read(box), before.array[(slice(None), *box)])
    assert not np.array_equal(open_scan(path).read(whole_box(opened.geometry.shape)), before.array)


@pytest.mark.parametrize("name", ["volume.nii.gz", "tiles.tif", "pyramid.ome.tif", "deep.png"])
def test_boxes_may_be_read_by_many_threads(files: Path, name: str) -> None:
    opened, scan = open_scan(files / name), read_scan(files / name)
    size = opened.geometry.shape[0]
    rest = whole_box(opened.geometry.shape)[1:]
    barrier = threading.Barrier(4)

    def read(start: int) -> bool:
        barrier.wait()
        box = (slice(start, size), *rest)
        return all(np.array_equal(opened.read(box), scan.array[:, start:size]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_colours_stay_three_where_they_are_all_the_same(tmp_path: Path) -> None:
    grey = np.stack([RGB[..., 0]] * 3, -1)
    Image.fromarray(grey).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="rgb")
    for name in ("a.png", "a.tif"):
        opened = open_scan(tmp_path / name)
        assert opened.channels == ("red", "green", "blue")
        found = opened.read(whole_box(opened.geometry.shape))
        assert np.array_equal(found, np.moveaxis(grey, -1, 0))
        assert read_scan(tmp_path / name).channels == ("grey",)


def test_a_fourth_deep_sample_is_a_channel_before_it_is_seen(tmp_path: Path) -> None:
    array = noise((31, 42, 4))
    array[..., 3] = 65535
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha"])
    assert len(open_scan(tmp_path / "a.tif").channels) == 4
    assert read_scan(tmp_path / "a.tif").channels == ("red", "green", "blue")


# --- refused


def test_what_the_header_tells_is_refused_before_a_voxel_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(noise((3, 4, 5, 2, 2)).astype("int16"), AFFINE), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii: more than four axes"):
        open_scan(tmp_path / "a.nii")
    tifffile.imwrite(tmp_path / "a.tif", noise((5, 40, 50)), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(DataError, match=r"a\.tif: 5 time points"):
        open_scan(tmp_path / "a.tif")
    (tmp_path / "a.png").write_bytes(b"GARBAGE!")
    with pytest.raises(DataError, match=r"a\.png: not a picture"):
        open_scan(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"b\.nii: cannot be read: No such file"):
        open_scan(tmp_path / "b.nii")


def test_a_header_that_promises_more_than_the_file_holds(files: Path, tmp_path: Path) -> None:
    content = (files / "volume.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"a\.nii: the header promises 630 bytes of voxels"):
        open_scan(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(content)
    assert open_scan(tmp_path / "b.nii").geometry.shape == (9, 7, 5)


def test_values_are_judged_box_by_box(tmp_path: Path) -> None:
    array = noise((9, 7, 5), "float32")
    array[8, 6, 4] = np.nan
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
    opened = open_scan(tmp_path / "a.nii")
    assert opened.read((slice(0, 9), slice(0, 7), slice(0, 4))).shape == (1, 9, 7, 4)
    with pytest.raises(DataError, match=r"a\.nii: 1 of 315 values are NaN"):
        opened.read(whole_box(opened.geometry.shape))


def test_a_damaged_stream_is_told_when_its_box_is_read(tmp_path: Path) -> None:
    array = noise((60, 70, 80), "int16")
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "whole.nii.gz")
    content = (tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content[:-20])
    spoiled = content[:-8] + struct.pack("<II", 0, len(gzip.decompress(content)))
    (tmp_path / "b.nii.gz").write_bytes(spoiled)
    for name in ("a", "b"):
        with pytest.raises(DataError, match=rf"{name}\.nii\.gz: the gzip stream is damaged"):
            open_scan(tmp_path / f"{name}.nii.gz").read(whole_box(array.shape))


def test_a_file_that_shrinks_after_it_was_opened(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes((files / "volume.nii").read_bytes())
    opened = open_scan(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.nii: the file is cut short \(expected 630 bytes"):
        opened.read(whole_box(opened.geometry.shape))


# --- boxes of a plain stream


@given(st.data())
@settings(max_examples=60, deadline=None, database=None)
def test_a_box_of_a_stream_is_the_box_of_its_array(data: st.DataObject) -> None:
    import io

    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=4)))
    array = np.arange(np.prod(shape), dtype=">i4").reshape(shape)
    box = box_in(data.draw, shape)
    found = read_box(io.BytesIO(b"xyz" + array.tobytes()), 3, shape, array.dtype, box)
    assert np.array_equal(found, array[box])


def test_a_stream_is_sought_forward_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Forward(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            assert offset >= self.tell()
            return super().seek(offset, whence)

    array = np.arange(5 * 6 * 7, dtype="i4").reshape(5, 6, 7)
    monkeypatch.setattr(boxes, "_CHUNK_BYTES", 16)
    box = slice(1, 4), slice(2, 6), slice(3, 5)
    found = read_box(Forward(array.tobytes()), 0, array.shape, array.dtype, box)
    assert np.array_equal(found, array[box])
