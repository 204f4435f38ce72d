"""Bad input of every kind, and what has to be said about it.

Run as a script it writes the files for a look by hand: `python tests/bad_input/corpus.py FOLDER`.
Everything is made for a model of volumes (NIfTI, millimetres, one channel) of 16 x 16 x 16 voxels.
"""

import gzip
import json
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy import ndimage

SIZE = 16

Write = Callable[[Path], object]


@dataclass(frozen=True)
class BadScan:
    """One input of `predict` that has to be refused.

    write : makes the file, folder or link at the path it is given
    says : what the line about it has to match
    """

    name: str
    write: Write
    says: str


def _voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, (SIZE,) * 3).astype(np.float32)


def _nifti(array: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    """The bytes of a plain .nii file."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


def _patched(content: bytes, offset: int, layout: str, *values: float) -> bytes:
    """The bytes with a field of the header overwritten (offsets as in nifti1.h)."""
    changed = bytearray(content)
    struct.pack_into(layout, changed, offset, *values)
    return bytes(changed)


def _bytes(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def _zipped(content: bytes) -> Write:
    return _bytes(gzip.compress(content, 1))


def _with(value: float) -> np.ndarray:
    array = _voxels()
    array[3, 4, 5] = value
    return array


def _colours() -> np.ndarray:
    return np.zeros((4, 4, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))


def _flipped(content: bytes) -> bytes:
    """One byte of the gzip's check sum changed."""
    changed = bytearray(content)
    changed[-6] ^= 0xFF
    return bytes(changed)


def _picture(kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    grey = np.random.default_rng(1).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(grey).save(buffer, kind, **options)
    return buffer.getvalue()


def _absurd_png() -> bytes:
    """A whole PNG but for its size, which no file of 70 bytes can have."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    size = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    for kind, content in ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")):
        check = zlib.crc32(kind + content)
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check))
    return b"".join(parts)


def _animation() -> bytes:
    frames = [Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in (0, 90, 180)]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def _two_images() -> bytes:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(np.zeros((8, 8), np.uint8))
        tiff.write(np.zeros((9, 7), np.uint8))
    return buffer.getvalue()


_PLAIN = _nifti(_voxels())
_TIFF = _tiff(np.random.default_rng(2).integers(0, 99, (40, 40), np.uint8))
# pixdim, qform_code, sform_code, srow_x and vox_offset stand at these bytes of the header.
_DIM, _DATATYPE, _PIXDIM, _SFORM_CODE, _SROW_X, _MAGIC = 40, 70, 76, 254, 280, 344
_TEN_TB = _patched(_PLAIN, _DIM, "<4h", 3, 13572, 13572, 13572)
_FLAT = _patched(_PLAIN, _SROW_X, "<12f", *(1, 0, 0, 0), *(0, 1, 0, 0), *(0, 0, 0, 0))
_LOST = _patched(_PLAIN, _SROW_X, "<12f", *(np.nan, 0, 0, 0), *(0, 1, 0, 0), *(0, 0, 1, 0))

SCANS: tuple[BadScan, ...] = (
    BadScan("cut.nii.gz", _bytes(gzip.compress(_PLAIN, 1)[:9000]), "damaged or cut short"),
    BadScan("sum.nii.gz", _bytes(_flipped(gzip.compress(_PLAIN))), "damaged or cut short"),
    BadScan("empty.nii.gz", _bytes(b""), "empty"),
    BadScan("text.nii.gz", _bytes(b"not a scan\nat all\n" * 40), "not a NIfTI file"),
    BadScan("zipped text.nii.gz", _zipped(b"not a scan\n" * 80), "not a NIfTI file"),
    BadScan("short.nii", _bytes(_PLAIN[:5000]), r"header promises 16.4 KB .* 5 KB cannot hold"),
    BadScan("header.nii", _bytes(_PLAIN[:100]), "not a NIfTI file"),
    BadScan("ten_tb.nii", _bytes(_TEN_TB), r"header promises 10 TB"),
    BadScan("ten_tb_zipped.nii.gz", _zipped(_TEN_TB), r"header promises 10 TB"),
    BadScan("nan.nii.gz", _zipped(_nifti(_with(np.nan))), "1 of 4096 values are NaN or inf"),
    BadScan("inf.nii.gz", _zipped(_nifti(_with(-np.inf))), "1 of 4096 values are NaN or inf"),
    BadScan("complex.nii.gz", _zipped(_nifti(_voxels().astype(np.complex64))), "complex"),
    BadScan("rgb.nii.gz", _zipped(_nifti(_colours())), "RGB"),
    BadScan("zero.nii", _bytes(_patched(_PLAIN, _DIM + 2, "<h", 0)), "axis holds no voxels"),
    BadScan("minus.nii", _bytes(_patched(_PLAIN, _DIM + 4, "<h", -4)), "axis holds no voxels"),
    BadScan("axes.nii", _bytes(_patched(_PLAIN, _DIM, "<h", 1)), "number of axes"),
    BadScan("singular.nii", _bytes(_FLAT), "affine|spacing|edge"),
    BadScan("lost.nii", _bytes(_LOST), "affine|spacing|edge"),
    BadScan("type.nii", _bytes(_patched(_PLAIN, _DATATYPE, "<h", 999)), "damaged NIfTI header"),
    BadScan("pair.nii", _bytes(_patched(_PLAIN, _MAGIC, "4s", b"ni1\0")), "pair of files"),
    BadScan("five.nii.gz", _zipped(_nifti(np.zeros((4, 4, 4, 2, 2), "f4"))), "four axes"),
    BadScan("two.nii.gz", _zipped(_nifti(np.zeros((8, 8, 8, 2), "f4"))), "number of channels"),
    BadScan("slice.nii.gz", _zipped(_nifti(np.zeros((16, 16), "f4"))), "number of axes"),
    BadScan("cut_tiff.tif", _bytes(_TIFF[: len(_TIFF) // 2]), "cut short|cannot hold|damaged|TIFF"),
    BadScan("head.tif", _bytes(_TIFF[:8]), "TIFF|no image"),
    BadScan("empty_tiff.tif", _bytes(b""), "empty"),
    BadScan("text_tiff.tif", _bytes(b"not a scan\nat all\n"), "tiff"),
    BadScan(
        "time.tif",
        _bytes(_tiff(np.zeros((5, 8, 8), np.uint8), imagej=True, metadata={"axes": "TYX"})),
        "5 time points of images, for a model of volumes.*if .* slices, give --axes ZYX",
    ),
    BadScan(
        "positions.tif",
        _bytes(_tiff(np.zeros((5, 8, 8), np.uint8), metadata={"axes": "RYX"})),
        "5 positions in one file are not supported",
    ),
    BadScan(
        "four_axes.tif",
        _bytes(_tiff(np.zeros((4, 6, 40, 40), np.uint8), photometric="minisblack")),
        r"can be read in more than one way .*expected one of CZYX, ZCYX.*give --axes CZYX",
    ),
    BadScan("images.tif", _bytes(_two_images()), "2 images in one file"),
    BadScan(
        "nan_tiff.tif", _bytes(_tiff(np.full((8, 8), np.nan, "f4"))), "64 of 64 values are NaN"
    ),
    BadScan("complex_tiff.tif", _bytes(_tiff(np.zeros((8, 8), np.complex64))), "complex"),
    BadScan("flat.tif", _bytes(_TIFF), "number of axes"),
    BadScan("cut_png.png", _bytes(_picture("PNG")[:2000]), "picture"),
    BadScan("text_png.png", _bytes(b"not a scan\nat all\n"), "not a picture"),
    BadScan("absurd.png", _bytes(_absurd_png()), r"header promises .* cannot hold"),
    BadScan("cut_jpeg.jpg", _bytes(_picture("JPEG", quality=90)[:800]), "picture"),
    BadScan("moving.gif", _bytes(_animation()), "animation of 3 frames"),
    BadScan("scan.xyz", _bytes(b"1 2 3"), r"no known image format .*got \.xyz"),
    BadScan("suffixless", _bytes(b"1 2 3"), "no known image format .*got no suffix"),
    BadScan("missing.nii.gz", lambda path: None, "cannot be read: No such file"),
    BadScan("n" * 300 + ".nii.gz", lambda path: None, "cannot be read: File name too long"),
    BadScan("dangling.nii.gz", lambda path: path.symlink_to("gone.nii.gz"), "cannot be read"),
    BadScan("loop.nii.gz", lambda path: path.symlink_to(path.name), "cannot be read"),
    BadScan("folder.nii.gz", lambda path: path.mkdir(), "no images in this folder"),
    BadScan("nothing*.nii.gz", lambda path: None, "no image matches this pattern"),
    BadScan("bad name.nii.gz", _bytes(b""), "empty"),
    BadScan("bad_\N{LATIN SMALL LETTER O WITH DIAERESIS}.nii", _bytes(b""), "empty"),
    BadScan("bad\nline\r\t.nii.gz", _bytes(b""), "empty"),
    BadScan("-bad.nii.gz", _bytes(b""), "empty"),
    BadScan("[bold]bad :smile: %s {0}.nii.gz", _bytes(b""), "empty"),
    BadScan("bad\u2028\x1b[31m.nii.gz", _bytes(b""), "empty"),
)

# Whole scans whose names are all that is odd about them.
GOOD_NAMES = (
    "plain.nii.gz",
    "with space.nii.gz",
    "cerveau_\N{LATIN SMALL LETTER E WITH ACUTE}_\N{CJK UNIFIED IDEOGRAPH-8111}.nii",
    "new\nline.nii.gz",
    "-dash.nii.gz",
    "[red]markup[1]:smile:.nii.gz",
    "dots.in.the.name.NII.GZ",
)


def write_good_scan(path: Path, seed: int = 0) -> None:
    """A whole scan that the model takes."""
    content = _nifti(_voxels(seed))
    path.write_bytes(gzip.compress(content, 1) if path.name.lower().endswith("gz") else content)


def write_scans(folder: Path) -> None:
    folder.mkdir(parents=True)
    for scan in SCANS:
        scan.write(folder / scan.name)


def _ball(centre: tuple[int, ...], radius: float = 4.0, size: int = SIZE) -> np.ndarray:
    grid = np.indices((size,) * len(centre))
    squares = [(axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)]
    return sum(squares) < radius**2


def _save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(_nifti(array, affine), 1))


def write_cases(folder: Path, count: int = 4) -> None:
    """A small data set that can be learned from: images/ and labels/."""
    for number in range(count):
        ball = _ball((6 + number % 4, 8, 8))
        image = _voxels(number) + 100 * ball
        _save(folder / "images" / f"c{number}.nii.gz", image)
        _save(folder / "labels" / f"c{number}.nii.gz", ball.astype(np.uint8))


def write_pictures(folder: Path, count: int = 3) -> None:
    """The same with grey PNG files."""
    for number in range(count):
        disc = _ball((20 + number, 20), 8, 48).astype(np.uint8)
        for name, array in (("images", 80 + 100 * disc), ("labels", disc)):
            path = folder / name / f"p{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(path)


@dataclass(frozen=True)
class BadData:
    """A data set that cannot be learned from.

    says : what the last line of stderr has to match
    """

    name: str
    write: Write
    says: str


def _spoilt(change: Write, write: Write = write_cases) -> Write:
    """A good data set with one change."""

    def both(folder: Path) -> None:
        write(folder)
        change(folder)

    return both


def _label(array: np.ndarray, affine: np.ndarray | None = None) -> Write:
    """The second case's mask replaced."""
    return _spoilt(lambda folder: _save(folder / "labels" / "c1.nii.gz", array, affine))


def _no_pair(folder: Path) -> None:
    write_cases(folder, 2)
    for path in sorted((folder / "labels").iterdir()):
        path.rename(path.with_name(f"other_{path.name}"))


def _only(which: str) -> Write:
    def write(folder: Path) -> None:
        write_cases(folder, 2)
        for path in (folder / which).iterdir():
            path.unlink()
        (folder / which).rmdir()

    return write


def _all_background(folder: Path) -> None:
    write_cases(folder)
    for path in (folder / "labels").iterdir():
        _save(path, np.zeros((SIZE,) * 3, np.uint8))


def _picture_label(suffix: str, array: np.ndarray) -> Write:
    def change(folder: Path) -> None:
        (folder / "labels" / "p1.png").unlink()
        Image.fromarray(array).save(folder / "labels" / f"p1{suffix}")

    return _spoilt(change, write_pictures)


def _table(text: str | bytes) -> Write:
    def change(folder: Path) -> None:
        content = text if isinstance(text, bytes) else text.encode()
        for kind in ("images", "labels"):
            (folder / kind).rename(folder / f"my {kind}")
        (folder / "cases.csv").write_bytes(content)

    return _spoilt(change)


def _slice(folder: Path) -> None:
    _save(folder / "images" / "flat.nii.gz", np.zeros((SIZE, SIZE), np.float32))
    _save(folder / "labels" / "flat.nii.gz", np.zeros((SIZE, SIZE), np.uint8))


def _two_channels(folder: Path) -> None:
    _save(folder / "images" / "two.nii.gz", np.ones((SIZE, SIZE, SIZE, 2), np.float32))
    _save(folder / "labels" / "two.nii.gz", _ball((8, 8, 8)).astype(np.uint8))


def _open_axes(folder: Path) -> None:
    # Neither channels nor slices: the mask fits none of them.
    odd = np.zeros((3, 48, 48), np.uint8)
    tifffile.imwrite(folder / "images" / "odd.tif", odd, photometric="minisblack")
    tifffile.imwrite(folder / "labels" / "odd.tif", np.zeros((40, 40), np.uint8))


def _film(folder: Path) -> None:
    film = np.zeros((3, 48, 48), np.uint8)
    options = {"imagej": True, "metadata": {"axes": "TYX"}}
    tifffile.imwrite(folder / "images" / "film.tif", film, **options)
    tifffile.imwrite(folder / "labels" / "film.tif", film[0])


def _lacks_a_channel(folder: Path) -> None:
    for number, names in enumerate((["DAPI", "GFP"], ["DAPI", "GFP"], ["DAPI", "Cy5"])):
        path = folder / "images" / f"n{number}.ome.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / "labels").mkdir(exist_ok=True)
        metadata = {"axes": "CYX", "Channel": {"Name": names}}
        tifffile.imwrite(path, np.ones((2, 48, 48), np.uint8), ome=True, metadata=metadata)
        tifffile.imwrite(folder / "labels" / f"n{number}.tif", _DISC.astype(np.uint8))


def _two_lines(folder: Path) -> None:
    _save(folder / "images" / "c\n9.nii.gz", _voxels())
    _save(folder / "labels" / "c\n9.nii.gz", _BALL[1:])


def _twins(folder: Path) -> None:
    for suffix in (".tif", ".png"):
        path = folder / "images" / f"p1{suffix}"
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(path)


_BALL = _ball((8, 8, 8)).astype(np.uint8)
_SHIFTED = np.diag([1.0, 1.0, 3.0, 1.0])
_BLURRED = np.rint(255 * ndimage.gaussian_filter(_ball((20, 20), 12, 48) * 1.0, 3)).astype("u1")
_DISC = _ball((20, 20), 8, 48)
_ROWS = "".join(f"my images/c{k}.nii.gz,my labels/c{k}.nii.gz\n" for k in range(3))

DATA: tuple[BadData, ...] = (
    BadData("no pair", _no_pair, "no image finds its mask"),
    BadData("images only", _only("labels"), "no image has a mask"),
    BadData("masks only", _only("images"), "no image"),
    BadData("shapes", _label(_BALL[:-1]), r"c1\.nii\.gz: the mask does not lie on .*shape"),
    BadData("affines", _label(_BALL, _SHIFTED), r"c1\.nii\.gz: the mask does not lie on"),
    BadData("background", _all_background, "every mask is background only"),
    BadData("one case", lambda folder: write_cases(folder, 1), "at least 2 cases.*got c0"),
    BadData("fractional", _label(_BALL * np.float32(0.5)), r"c1\.nii\.gz: fractional .*0\.5"),
    BadData("blurred", _picture_label(".png", _BLURRED), r"p1\.png: looks like grey values"),
    BadData(
        "rgb",
        _picture_label(".png", np.stack([_DISC * 255, _DISC * 0, _DISC * 9], -1).astype("u1")),
        r"p1\.png: a colour image",
    ),
    BadData("jpeg", _picture_label(".jpg", _DISC.astype("u1") * 255), r"p1\.jpg: JPEG is lossy"),
    BadData("several", _label(np.ones((*_BALL.shape, 2), "u1")), r"c1\.nii\.gz: several channels"),
    BadData("nan mask", _label(_with(np.nan)), r"c1\.nii\.gz: 1 of 4096 values are NaN"),
    BadData(
        "broken image",
        _spoilt(lambda folder: (folder / "images" / "c2.nii.gz").write_bytes(b"x" * 400)),
        r"c2\.nii\.gz: not a NIfTI file",
    ),
    BadData(
        "broken mask",
        _spoilt(lambda folder: (folder / "labels" / "c2.nii.gz").write_bytes(b"")),
        r"c2\.nii\.gz: the file is empty",
    ),
    BadData("newline", _spoilt(_two_lines), r"c\\n9\.nii\.gz: the mask does not lie"),
    BadData(
        "json",
        _spoilt(lambda folder: (folder / "dataset.json").write_text("{'labels': 1,\n")),
        r"dataset\.json: not valid JSON in line 1",
    ),
    BadData(
        "json labels",
        _spoilt(lambda folder: (folder / "dataset.json").write_text('{"labels": [1, 2]}')),
        r'dataset\.json: "labels" is not understood',
    ),
    BadData(
        "csv missing",
        _table(f"image,label\n{_ROWS}my images/c9.nii.gz,my labels/c3.nii.gz\n"),
        r"cases\.csv: row 5: .*c9\.nii\.gz is not there",
    ),
    BadData("csv columns", _table("a,b\n1,2\n"), "no image"),
    BadData("mixed axes", _spoilt(_slice), "flat: axes: 2, most cases have 3"),
    BadData("mixed channels", _spoilt(_two_channels), "two: channels: 2, most cases have 1"),
    BadData(
        "open axes",
        _spoilt(_open_axes, write_pictures),
        r"odd\.tif: the axes have no names and can be read in more than one way",
    ),
    BadData("film", _spoilt(_film, write_pictures), r"film\.tif: 3 time points in one file"),
    BadData("lacks", _lacks_a_channel, r"n2\.ome\.tif: no channel GFP .*got 0 DAPI, 1 Cy5"),
    BadData("twins", _spoilt(_twins, write_pictures), "2 images for the name p1: p1.png, p1.tif"),
    BadData("empty", lambda folder: folder.mkdir(), "no images found"),
    BadData("missing", lambda folder: None, "cannot be read: No such file"),
    BadData("file", _bytes(b"text"), "neither a folder nor a CSV file"),
    BadData("table.csv", _bytes(b"a,b\n1,2\n"), "not a table of images and masks"),
    BadData("latin.csv", _bytes(b"image,label\n\xe9.png,b.png\n"), "not in UTF-8"),
    BadData("empty.csv", _bytes(b""), "not a table of images and masks .*got an empty file"),
)


@dataclass(frozen=True)
class BadMask:
    """A predicted mask of a case that `evaluate` and `measure` have to refuse.

    write : makes what lies at the path of the mask, masks/c0_seg.nii.gz
    says : what the line about it has to match
    """

    name: str
    write: Write
    says: str


def _beside(text: str | bytes) -> Write:
    """A good mask with a bad table of classes."""
    content = text if isinstance(text, bytes) else text.encode()

    def write(path: Path) -> None:
        path.write_bytes(_zipped_nifti(_BALL))
        (path.parent / "c0_objects.csv").write_bytes(content)

    return write


def _zipped_nifti(array: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return gzip.compress(_nifti(array, affine), 1)


_HALVES = np.where(_BALL > 0, 0.5, 0).astype(np.float32)

MASKS: tuple[BadMask, ...] = (
    BadMask("empty", _bytes(b""), r"c0_seg\.nii\.gz: the file is empty"),
    BadMask("text", _bytes(b"no mask\n" * 30), r"c0_seg\.nii\.gz: .*not a NIfTI file"),
    BadMask("cut", _bytes(_zipped_nifti(_BALL)[:120]), "damaged or cut short"),
    BadMask("probabilities", _bytes(_zipped_nifti(_HALVES)), r"fractional values, e\.g\. 0\.5"),
    BadMask("smaller", _bytes(_zipped_nifti(_BALL[1:])), r"shape .* is not .*15"),
    BadMask("shifted", _bytes(_zipped_nifti(_BALL, _SHIFTED)), r"spacing \(1, 1, [13]\) is not"),
    BadMask("channels", _bytes(_zipped_nifti(np.stack([_BALL] * 2, -1))), "several channels"),
    BadMask("not finite", _bytes(_zipped_nifti(_HALVES * np.nan)), "NaN or infinite"),
    BadMask("link", lambda path: path.symlink_to("gone.nii.gz"), "cannot be read"),
)

# Of objects alone: the table beside a good mask.
TABLES: tuple[BadMask, ...] = (
    BadMask("other columns", _beside("number,kind\n1,a\n"), "not a table of the classes"),
    BadMask("no numbers", _beside("id,class\nfirst,a\n"), "the id is no whole number"),
    BadMask("two classes", _beside("id,class\n1,a\n1,b\n"), "the object 1 has two classes"),
    BadMask("no text", _beside(b"id,class\n1,\xff\xfe\n"), "not in UTF-8"),
)


@dataclass(frozen=True)
class BadModel:
    """A model folder that was good before `spoil` changed it."""

    name: str
    spoil: Write
    says: str


def _description(change: Callable[[dict[str, Any]], object]) -> Write:
    def spoil(model: Path) -> None:
        path = model / "model.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def _json(text: str | bytes) -> Write:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda model: (model / "model.json").write_bytes(content)


def _weights(change: Callable[[dict[str, np.ndarray]], object]) -> Write:
    def spoil(model: Path) -> None:
        path = model / "weights.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return spoil


def _cut(model: Path) -> None:
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-200])


def _other_shape(tensors: dict[str, np.ndarray]) -> None:
    name = max(tensors)
    tensors[name] = np.zeros((3, *tensors[name].shape), np.float32)


MODELS: tuple[BadModel, ...] = (
    BadModel("cut weights", _cut, r"weights\.safetensors: weights cannot be read"),
    BadModel(
        "text weights",
        lambda model: (model / "weights.safetensors").write_bytes(b"text\n" * 9),
        r"weights\.safetensors: weights cannot be read",
    ),
    BadModel(
        "empty weights",
        lambda model: (model / "weights.safetensors").write_bytes(b""),
        r"weights\.safetensors: weights cannot be read",
    ),
    BadModel(
        "no weights",
        lambda model: (model / "weights.safetensors").unlink(),
        r"weights\.safetensors: weights cannot be read",
    ),
    BadModel("other shape", _weights(_other_shape), r"safetensors: tensor \S+ does not fit"),
    BadModel(
        "tensor gone",
        _weights(lambda tensors: tensors.pop(max(tensors))),
        r"safetensors: tensor \S+ does not fit .*got nothing",
    ),
    BadModel(
        "tensor more",
        _weights(lambda tensors: tensors.update(more=np.zeros(3, np.float32))),
        r"safetensors: tensor more does not fit .*no such tensor",
    ),
    BadModel("no json", lambda model: (model / "model.json").unlink(), "no trained model here"),
    BadModel("json text", _json("not\njson"), r"model\.json: not JSON"),
    BadModel("json bytes", _json(b"\xff\xfe\x00"), r"model\.json: not JSON"),
    BadModel("json list", _json("[1, 2]"), r"model\.json: not a model description"),
    BadModel("json other", _json('{"a": 1}'), r"model\.json: not a model description"),
    BadModel(
        "json facts",
        _description(lambda content: content.update(facts=[1])),
        r"model\.json: a damaged model description",
    ),
    BadModel(
        "json plan",
        _description(lambda content: content.update(plan="plan")),
        r"model\.json: a damaged model description",
    ),
    BadModel(
        "schema",
        _description(lambda content: content.update(schema=99)),
        r"model\.json: a model of another schema .*expected 1 or 2, got 99",
    ),
    BadModel(
        "plan value",
        _description(lambda content: content["plan"]["network"].update(levels="many")),
        r"model\.json: network\.levels: .*got many",
    ),
    BadModel(
        "plan key",
        _description(lambda content: content["plan"]["data"].update(colour="red")),
        r"model\.json: data\.colour",
    ),
    BadModel(
        "plan lacks",
        _description(lambda content: content["plan"].pop("patch")),
        r"model\.json: patch",
    ),
    BadModel(
        "encoder",
        _description(lambda content: content["plan"]["network"].update(encoder="planes")),
        "no such encoder .*did you mean plain",
    ),
)


def main(folder: Path) -> None:
    write_scans(folder / "scans")
    (folder / "good").mkdir()
    for name in GOOD_NAMES:
        write_good_scan(folder / "good" / name)
    (folder / "data").mkdir()
    for data in DATA:
        data.write(folder / "data" / data.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
