"""Pictures: input is written by Pillow, imagecodecs or byte by byte."""

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from unetseg.errors import DataError, ShapeMismatch
from unetseg.formats import Format, format_of, read_mask, read_scan, write_mask
from unetseg.formats.picture import Picture
from unetseg.geometry import Geometry, whole_box
from unetseg.records import Mask

GREY = (np.arange(30 * 40) % 251).astype(np.uint8).reshape(30, 40)
COLOURS = np.stack([GREY, GREY // 2, 255 - GREY], -1)
ALPHA = np.full((30, 40, 1), 77, np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def channels_last(path: Path) -> np.ndarray:
    return np.moveaxis(read_scan(path).array, 0, -1)


def test_it_is_a_format() -> None:
    made: Format = Picture()
    assert made.name == "picture"
    assert list(made.suffixes) == sorted(made.suffixes, key=len, reverse=True)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".pgm", ".pnm"])
def test_grey(tmp_path: Path, suffix: str) -> None:
    scan = read_scan(save(tmp_path / f"a{suffix}", GREY))
    assert np.array_equal(scan.array, GREY[None])
    assert scan.array.dtype == np.uint8
    assert scan.channels == ("grey",)
    assert scan.is_picture
    assert scan.geometry.differences(Geometry.from_spacing((30, 40), (1, 1), "px")) == ()
    assert np.array_equal(Picture().read_labels(tmp_path / f"a{suffix}").array, GREY[None])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".pnm"])
def test_colours(tmp_path: Path, suffix: str) -> None:
    scan = read_scan(save(tmp_path / f"a{suffix}", COLOURS))
    assert scan.channels == ("red", "green", "blue")
    assert scan.array.shape == (3, 30, 40)
    for channel in range(3):
        assert np.array_equal(scan.array[channel], COLOURS[..., channel])


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgba = save(tmp_path / "a.png", np.concatenate([COLOURS, ALPHA], -1))
    assert np.array_equal(channels_last(rgba), COLOURS)
    Image.fromarray(np.concatenate([GREY[..., None], ALPHA], -1), "LA").save(tmp_path / "b.png")
    assert np.array_equal(channels_last(tmp_path / "b.png"), GREY[..., None])


def test_equal_colours_are_grey(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.concatenate([GREY[..., None]] * 3 + [ALPHA], -1))
    assert read_scan(path).channels == ("grey",)
    assert np.array_equal(read_scan(path).array, GREY[None])
    assert np.array_equal(Picture().read_labels(path).array, GREY[None])
    almost = np.stack([GREY] * 3, -1)
    almost[0, 0, 2] += 1
    assert len(read_scan(save(tmp_path / "b.png", almost)).array) == 3


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".pbm"])
def test_bilevel(tmp_path: Path, suffix: str) -> None:
    array = GREY % 3 == 0
    path = save(tmp_path / f"a{suffix}", array)
    found = read_scan(path).array[0]
    assert found.dtype == np.uint8
    # A GIF has no bilevel mode: it stores a palette of black and white.
    assert np.array_equal(found, array * (255 if suffix == ".gif" else 1))


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_16_bit_png(tmp_path: Path, samples: int) -> None:
    array = np.random.default_rng(0).integers(0, 65536, (30, 40, samples)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(
        imagecodecs.png_encode(array[..., 0] if samples == 1 else array)
    )
    kept = 1 if samples < 3 else 3
    scan = read_scan(tmp_path / "a.png")
    assert scan.array.dtype == np.uint16
    assert np.array_equal(np.moveaxis(scan.array, 0, -1), array[..., :kept])


def test_16_bit_pgm(tmp_path: Path) -> None:
    array = np.array([[0, 1, 65535], [256, 40000, 7]], np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 2 65535\n" + array.astype(">u2").tobytes())
    scan = read_scan(tmp_path / "a.pgm")
    assert scan.array.dtype == np.uint16
    assert np.array_equal(scan.array[0], array)


@pytest.mark.parametrize(
    "content",
    [
        b"P5\n# made by hand, 9 9 9\n3 2\n3\n\x00\x01\x02\x03\x02\x01",
        b"P2 3 2 3\n0 1 2\n3 2 1\n",
        b"P5 3 2 1000\n" + struct.pack(">6H", 0, 1, 2, 3, 2, 1),
    ],
)
def test_small_numbers_in_a_pgm_are_not_stretched(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pgm").write_bytes(content)
    assert read_mask(tmp_path / "a.pgm").array.tolist() == [[0, 1, 2], [3, 2, 1]]
    assert read_scan(tmp_path / "a.pgm").array.tolist() == [[[0, 1, 2], [3, 2, 1]]]


def palette_picture(path: Path, palette: list[int]) -> np.ndarray:
    indices = GREY % (len(palette) // 3)
    picture = Image.fromarray(indices)
    picture.putpalette(palette)
    picture.save(path)
    return indices


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_a_colour_palette(tmp_path: Path, suffix: str) -> None:
    palette = [0, 0, 0, 255, 0, 0, 10, 20, 30]
    indices = palette_picture(tmp_path / f"a{suffix}", palette)
    table = np.array(palette, np.uint8).reshape(-1, 3)
    assert np.array_equal(channels_last(tmp_path / f"a{suffix}"), table[indices])
    assert np.array_equal(read_mask(tmp_path / f"a{suffix}").array, indices)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_a_grey_palette(tmp_path: Path, suffix: str) -> None:
    indices = palette_picture(tmp_path / f"a{suffix}", [0, 0, 0, 255, 255, 255, 90, 90, 90])
    expected = np.array([0, 255, 90])[indices]
    assert np.array_equal(read_scan(tmp_path / f"a{suffix}").array, expected[None])
    assert np.array_equal(read_mask(tmp_path / f"a{suffix}").array, expected)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_is_a_scan_but_no_mask(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", np.full((30, 40, 3), (200, 100, 50), np.uint8))
    scan = read_scan(path)
    assert scan.array.shape == (3, 30, 40)
    assert np.abs(scan.array[:, 15, 20].astype(int) - (200, 100, 50)).max() <= 3
    with pytest.raises(DataError, match=r"JPEG is lossy.*export the mask again"):
        read_mask(path)


def test_a_jpeg_called_png_is_still_lossy(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", GREY).rename(tmp_path / "a.png")
    assert read_scan(tmp_path / "a.png").array.shape == (1, 30, 40)
    with pytest.raises(DataError, match="JPEG is lossy"):
        read_mask(tmp_path / "a.png")


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red = read_scan(tmp_path / "a.jpg").array[:, 5, 5]
    assert np.abs(red.astype(int) - (255, 0, 0)).max() <= 3


def test_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.png", GREY, exif=exif)
    assert np.array_equal(read_scan(tmp_path / "a.png").array[0], GREY)


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_animations(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.roll(GREY, 7 * k)) for k in range(4)]
    options = {"save_all": True, "append_images": frames[1:]}
    frames[0].save(tmp_path / f"a{suffix}", **options)
    with pytest.raises(DataError, match="an animation of 4 frames") as caught:
        read_scan(tmp_path / f"a{suffix}")
    assert str(caught.value).startswith(str(tmp_path))


def test_large_pictures_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / f"a{suffix}", GREY) for suffix in (".png", ".bmp", ".gif", ".jpg")]
    # What Pillow would do with a slide of 200 megapixels, without the slide.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(paths[0])
    for path in paths:
        assert read_scan(path).array.shape == (1, 30, 40)


def test_an_empty_picture_packs_well_and_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((3000, 4000), bool), optimize=True)
    assert path.stat().st_size < 3000
    assert read_scan(path).array.shape == (1, 3000, 4000)


def png(width: int, height: int, *, depth: int = 8, content: bytes = b"") -> bytes:
    """A PNG chunk by chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">2I5B", width, height, depth, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


def test_bytes_packed_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3, 2, content=b"\0\1\2\3\0\4\5\6"))
    assert read_scan(tmp_path / "a.png").array.tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", png(200_000, 200_000), "header promises 40 GB"),
        ("a.png", png(200_000, 200_000, depth=16), "header promises 40 GB"),
        ("a.pgm", b"P5 200000 200000 255\n", "header promises 40 GB"),
        ("a.gif", b"GIF89a" + struct.pack("<2H", 65535, 65535) + bytes(30), "gif|picture"),
        ("a.png", png(3, 2, content=b"\0\1\2\3"), "not a readable picture file"),
        ("a.png", png(3, 2, depth=16, content=b"\0\1\2\3"), "not a readable picture file"),
        ("a.png", b"text called .png" * 9, "not a picture.*PNG, JPEG"),
        ("a.pgm", b"Please read me", "not a readable picture file"),
        ("a.jpg", b"\xff\xd8\xff\xe0 no picture", "not a readable picture file"),
    ],
)
def test_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_scan(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".pgm"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    path = save(tmp_path / f"a{suffix}", noise)
    assert read_scan(path).array.shape == (1, 60, 80)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"readable|promises"):
        read_scan(path)


# --- writing


@pytest.mark.parametrize(("largest", "dtype"), [(2, "uint8"), (255, "uint8"), (65535, "uint16")])
def test_masks_are_png(tmp_path: Path, largest: int, dtype: str) -> None:
    scan = read_scan(save(tmp_path / "a.jpg", COLOURS))
    labels = np.zeros((30, 40), np.int64)
    labels[3:9, 5:20] = largest
    suffix = format_of(tmp_path / "a.jpg").mask_suffix(tmp_path / "a.jpg")
    assert suffix == ".png"
    write_mask(Mask(labels, scan.geometry), tmp_path / f"m{suffix}", scan)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), labels)
    again = read_mask(tmp_path / "m.png")
    assert again.array.dtype == dtype
    assert np.array_equal(again.array, labels)
    assert again.geometry.differences(scan.geometry) == ()


@pytest.mark.parametrize("value", [65536, -1])
def test_values_that_a_png_cannot_hold(tmp_path: Path, value: int) -> None:
    scan = read_scan(save(tmp_path / "a.png", GREY))
    labels = np.zeros((30, 40), np.int64)
    labels[0, 0] = value
    with pytest.raises(DataError, match=rf"cannot hold.*{value}.*TIFF"):
        write_mask(Mask(labels, scan.geometry), tmp_path / "m.png", scan)
    assert not (tmp_path / "m.png").exists()


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.png", GREY))
    geometry = Geometry.from_spacing((30, 40), (2, 2), "px")
    with pytest.raises(ShapeMismatch, match="does not lie on the scan: spacing"):
        write_mask(Mask(np.ones((30, 40), int), geometry), tmp_path / "m.png", scan)
    with pytest.raises(DataError, match=r"ends in \.png"):
        write_mask(Mask(np.ones((30, 40), int), scan.geometry), tmp_path / "m.jpg", scan)


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.png", GREY))
    for name, labels in (("one", GREY % 3), ("two", GREY % 3), ("other", GREY % 4)):
        write_mask(Mask(labels, scan.geometry), tmp_path / f"{name}.png", scan)
    one, two, other = ((tmp_path / f"{n}.png").read_bytes() for n in ("one", "two", "other"))
    assert one == two != other


def test_maps_are_tiff(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.png", GREY))
    maps = np.random.default_rng(0).random((2, 30, 40), np.float32)
    suffix = Picture().maps_suffix(tmp_path / "a.png")
    file = Picture().maps_file(tmp_path / f"p{suffix}", scan, ("background", "cell"))
    file.write(whole_box((30, 40)), maps)
    file.finish()
    assert np.array_equal(tifffile.imread(tmp_path / "p.tif"), maps)
    again = read_scan(tmp_path / "p.tif")
    assert again.channels == ("background", "cell")
    assert again.geometry.differences(scan.geometry) == ()


@pytest.mark.real
def test_real_files(real_data: Path) -> None:
    folder = real_data / "nuclei_fluo"
    for path in sorted((folder / "images").iterdir())[:5]:
        scan = read_scan(path)
        with Image.open(path) as picture:
            rgb = np.asarray(picture)[..., :3]
        assert np.array_equal(scan.array, np.moveaxis(rgb, -1, 0)[: len(scan.array)])
        assert len(scan.array) == (1 if (rgb == rgb[..., :1]).all() else 3)
    for path in sorted((folder / "labels").iterdir())[:5]:
        with Image.open(path) as picture:
            assert np.array_equal(read_mask(path).array, np.asarray(picture))
