"""Pictures: PNG, JPEG, BMP, GIF and the PNM family."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.boxwise import Gathered
from unetseg.formats.tiff import Tiff
from unetseg.formats.voxels import (
    ALPHA,
    COLOURS,
    EQUAL_COLOURS,
    PALETTE,
    check_grid,
    checked_values,
    grey_or_colours,
    smallest_integers,
    too_large,
)
from unetseg.geometry import Box, Geometry
from unetseg.records import Axes, Label, Mask, Opened, Scan, Source

# The content decides, not the name: a JPEG called .png is still lossy. The classes are called
# directly because `Image.open` refuses slides of 200 megapixels; sizes are checked here.
_KINDS: tuple[tuple[bytes, str, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"BM", "BMP", BmpImageFile),
    (b"GIF8", "GIF", GifImageFile),
    (b"P", "PNM", PpmImageFile),
)
# Deflate packs 1032 bytes into one, and a byte of a bilevel picture is 8 pixels.
_MOST_PIXELS_A_BYTE = 8300
_PNM_HEADER = re.compile(rb"P[2356](?:(?:\s|#[^\n]*\n)+(\d+)){3}")


@dataclass(frozen=True)
class PictureHeader:
    """What only a picture knows.

    kind : PNG, JPEG, BMP, GIF or PNM, by content
    lossy : JPEG if the values were changed by compression, else empty
    """

    kind: str
    lossy: str = ""


class Picture:
    """Array axes are (C, Y, X); the unit is the pixel.

    C is 1 (`grey`) or 3 (red, green, blue); a colour picture whose colours are all the same is
    grey. Alpha is dropped. The rows are those of the file: the orientation that a camera notes
    beside them (EXIF) is not applied, so that masks lie on the stored pixels.
    """

    name = "picture"
    suffixes = (".jpeg", ".png", ".jpg", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
    is_folder = False

    def open(self, path: Path) -> Opened:
        """The picture by its header alone; any box costs as much as all of it.

        A colour picture keeps its three channels, whether or not they are all the same: that
        shows in the pixels only.

        Raises DataError for animations and for headers that promise absurd sizes.
        """
        with _opened(path) as (kind, picture):
            width, height = picture.size
            channels, dtype = _stored(picture, kind, path)
            axes = _axes(picture, width, height)

        def read(box: Box) -> NDArray[Any]:
            return _channels_first(path, is_mask=False)[(slice(None), *box)].copy()

        return Opened(
            Geometry.from_spacing((height, width), (1.0, 1.0), "px"),
            channels,
            dtype,
            _source(path, kind),
            (height, width),
            read,
            is_picture=True,
            axes=axes,
        )

    def read(self, path: Path) -> Scan:
        """The colours or greys, 8 or 16 bit as stored; bilevel pictures hold 0 and 1.

        Raises DataError for what `open` refuses and for damaged pictures.
        """
        return _read(path, is_mask=False)

    def read_labels(self, path: Path) -> Scan:
        """Palette pictures give the palette index, or the grey value if all colours are grey."""
        return _read(path, is_mask=True)

    def mask_suffix(self, path: Path) -> str:  # noqa: ARG002 - every picture gets a PNG
        return ".png"

    def maps_suffix(self, path: Path) -> str:  # noqa: ARG002 - no picture holds float32
        return ".tif"

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a grey PNG of 8 or 16 bit. Raises DataError for values that need more."""
        check_grid(mask, like)
        array = smallest_integers(mask.array)
        if array.dtype not in (np.uint8, np.uint16):
            raise DataError(
                "a PNG cannot hold these label values",
                where=path,
                expected="0..65535",
                got=f"{mask.array.min()}..{mask.array.max()}",
                hint="convert the scan to TIFF, then the mask is a TIFF as well",
            )
        if not path.name.lower().endswith(".png"):
            raise DataError(
                "masks of pictures are PNG", where=path, hint="choose a name that ends in .png"
            )
        with replacing(path) as temporary:
            temporary.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,  # noqa: ARG002
        labels: tuple[Label, ...] = (),  # noqa: ARG002
        made_by: str = "",  # noqa: ARG002
    ) -> Gathered:
        """Raises DataError: a picture is written in one piece."""
        raise DataError(
            "a picture cannot be written in parts",
            where=path,
            got=f"{like.geometry.shape} pixels",
            hint="convert the scan to TIFF",
        )

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,
        names: tuple[str, ...],
        dtype: DTypeLike = np.float32,
        made_by: str = "",
    ) -> Gathered:
        """A TIFF: no picture format holds float32."""
        return Tiff().maps_file(path, like, names, dtype, made_by)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[str, ImageFile.ImageFile]]:
    """What kind of picture it is by its content, and its header."""
    with path.open("rb") as file:
        content = file.read(8)
        fits = [(kind, reader) for magic, kind, reader in _KINDS if content.startswith(magic)]
        if not fits:
            raise DataError("not a picture", expected="PNG, JPEG, BMP, GIF or PNM", got=content)
        kind, reader = fits[0]
        file.seek(0)
        with reader(file) as picture:
            width, height = picture.size
            size = path.stat().st_size
            if width * height > _MOST_PIXELS_A_BYTE * size:
                raise too_large(width * height, size)
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise DataError(
                    f"an animation of {frames} frames", hint="save each frame as its own file"
                )
            yield kind, picture


def _read(path: Path, *, is_mask: bool) -> Scan:
    with _opened(path) as (kind, picture):
        source = _source(path, kind)
        axes = _axes(picture, *picture.size)
    stored = _channels_first(path, is_mask=is_mask)
    array, names = grey_or_colours(stored)
    if len(array) < len(stored):
        axes = replace(axes, notes=(*axes.notes, EQUAL_COLOURS))
    geometry = Geometry.from_spacing(array.shape[1:], (1.0, 1.0), "px")
    return Scan(array, geometry, names, source, is_picture=True, axes=axes)


def _axes(picture: ImageFile.ImageFile, width: int, height: int) -> Axes:
    """The axes as stored, and what is made of a palette and of alpha."""
    samples = len(picture.getbands())
    notes: tuple[str, ...] = (PALETTE,) if picture.mode in ("P", "PA") else ()
    if "A" in picture.getbands():
        notes += (ALPHA,)
    if samples > 1:
        return Axes("YXS", (height, width, samples), notes)
    return Axes("YX", (height, width), notes)


def _source(path: Path, kind: str) -> Source:
    header = PictureHeader(kind, "JPEG" if kind == "JPEG" else "")
    return Source(path, Picture.name, header)


def _stored(
    picture: ImageFile.ImageFile, kind: str, path: Path
) -> tuple[tuple[str, ...], np.dtype[Any]]:
    """The channels and the type that `_channels_first` will give."""
    if kind == "PNG" and picture.mode not in ("1", "P"):
        with path.open("rb") as file:
            # Bits a sample and colour type of the header chunk, which comes first.
            bits, colours = file.read(26)[24:]
        return COLOURS if colours & 2 else ("grey",), np.dtype(f"u{max(8, bits) // 8}")
    is_grey = picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F")
    dtype = np.dtype({"F": np.float32, "I": np.int32}.get(picture.mode, np.uint8))
    if kind == "PNM":
        dtype = _as_stored(np.zeros(1, dtype), path).dtype
    return ("grey",) if is_grey else COLOURS, dtype


def _channels_first(path: Path, *, is_mask: bool) -> NDArray[Any]:
    """The pixels, (1, Y, X) or (3, Y, X)."""
    with _opened(path) as (kind, picture):
        if kind == "PNG" and picture.mode not in ("1", "P"):
            # Pillow cuts 16-bit colours down to 8 and leaves missing rows black.
            array = imagecodecs.png_decode(path.read_bytes())
        else:
            array = _pixels(picture, is_mask=is_mask)
    if kind == "PNM":
        array = _as_stored(array, path)
    array = array[np.newaxis] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    # Two samples are grey and alpha, four are colours and alpha.
    return checked_values(array[: 1 if len(array) < 3 else 3])


def _pixels(picture: Image.Image, *, is_mask: bool) -> NDArray[Any]:
    if picture.mode in ("P", "PA"):
        if not is_mask:
            return np.array(picture.convert("RGB"))
        indices = np.array(picture if picture.mode == "P" else picture.getchannel("P"))
        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        is_grey = (palette == palette[:, :1]).all()
        # A palette may end at the last colour in use; Pillow leaves the other indices black.
        greys = np.zeros(256, np.uint8)
        greys[: len(palette)] = palette[:, 0]
        return greys[indices] if is_grey else indices
    if picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F", "RGB", "RGBA"):
        return np.array(picture)
    return np.array(picture.convert("RGB"))


def _as_stored(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Undo Pillow's stretch of 0..maxval to 0..255 or 0..65535."""
    with path.open("rb") as file:
        # Comments may be of any length, but who writes a book into one?
        header = _PNM_HEADER.match(file.read(1 << 16))
    if header is None or array.dtype.kind == "f":
        return array
    largest = int(header[1])
    if largest < 256:
        return array if largest == 255 else np.rint(array * (largest / 255)).astype(np.uint8)
    return np.rint(array * (largest / 65535)).astype(np.uint16)
