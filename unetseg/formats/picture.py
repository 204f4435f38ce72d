"""Pictures: PNG, JPEG, BMP, GIF and the PNM family."""

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile

from unetseg.errors import DataError
from unetseg.files import replacing
from unetseg.formats.tiff import Tiff
from unetseg.formats.voxels import (
    Maps,
    check_grid,
    checked_values,
    grey_or_colours,
    smallest_integers,
    too_large,
)
from unetseg.geometry import Geometry
from unetseg.records import Mask, Scan, Source

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

    def read(self, path: Path) -> Scan:
        """The colours or greys, 8 or 16 bit as stored; bilevel pictures hold 0 and 1.

        Raises DataError for animations and for headers that promise absurd sizes.
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

    def write_maps(self, maps: Maps, names: tuple[str, ...], path: Path, like: Scan) -> None:
        """Write a TIFF: no picture format holds float32."""
        Tiff().write_maps(maps, names, path, like)


def _read(path: Path, *, is_mask: bool) -> Scan:
    content = path.read_bytes()
    fits = [(kind, reader) for magic, kind, reader in _KINDS if content.startswith(magic)]
    if not fits:
        raise DataError("not a picture", expected="PNG, JPEG, BMP, GIF or PNM", got=content[:8])
    kind, reader = fits[0]
    with reader(BytesIO(content)) as picture:
        width, height = picture.size
        if width * height > _MOST_PIXELS_A_BYTE * len(content):
            raise too_large(width * height, len(content))
        frames = getattr(picture, "n_frames", 1)
        if frames > 1:
            raise DataError(
                f"an animation of {frames} frames", hint="save each frame as its own file"
            )
        if kind == "PNG" and picture.mode not in ("1", "P"):
            # Pillow cuts 16-bit colours down to 8 and leaves missing rows black.
            array = imagecodecs.png_decode(content)
        else:
            array = _pixels(picture, is_mask=is_mask)
    if kind == "PNM":
        array = _as_stored(array, content)
    array = array[np.newaxis] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    # Two samples are grey and alpha, four are colours and alpha.
    array, names = grey_or_colours(checked_values(array[: 1 if len(array) < 3 else 3]))
    return Scan(
        array,
        Geometry.from_spacing(array.shape[1:], (1.0, 1.0), "px"),
        names,
        Source(path, Picture.name, PictureHeader(kind, "JPEG" if kind == "JPEG" else "")),
        is_picture=True,
    )


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


def _as_stored(array: NDArray[Any], content: bytes) -> NDArray[Any]:
    """Undo Pillow's stretch of 0..maxval to 0..255 or 0..65535."""
    header = _PNM_HEADER.match(content)
    if header is None or array.dtype.kind == "f":
        return array
    largest = int(header[1])
    if largest < 256:
        return array if largest == 255 else np.rint(array * (largest / 255)).astype(np.uint8)
    return np.rint(array * (largest / 65535)).astype(np.uint16)
