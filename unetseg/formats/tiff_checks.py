"""Whether a TIFF is whole, found out before memory is set aside for it."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tifffile import COMPRESSION, TiffFile, TiffPageSeries

from unetseg.errors import DataError
from unetseg.formats.voxels import too_large

# How many times larger than their code voxels can be. LZW reaches 1400, deflate 1032; the rest
# (Zstandard, CCITT, JPEG XL) have no bound worth naming.
_BOUNDED = {
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.JPEG,
    COMPRESSION.OJPEG,
}
_MOST_BOUNDED = 3000
_MOST_OTHER = 1_000_000


class _Complaints(logging.Handler):
    """What tifffile says about a file in this thread, kept from the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # A private tag that cannot be read takes no voxel away.
        if (
            record.thread == self._thread
            and record.levelno >= logging.ERROR
            and "TiffTag" not in text
        ):
            self.errors.append(text)


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Errors that tifffile only logs while it goes on with part of the file."""
    logger = logging.getLogger("tifffile")
    handler = _Complaints()
    logger.addHandler(handler)
    try:
        yield handler.errors
    finally:
        logger.removeHandler(handler)


def images_in(tiff: TiffFile) -> list[TiffPageSeries]:
    """The images of the file at full resolution; pyramid levels and previews do not count."""
    return [series for series in tiff.series if not series.keyframe.is_reduced]


def single_image(tiff: TiffFile, scene: int | None = None) -> TiffPageSeries:
    """The one image of the file, or the one that is chosen.

    Raises DataError if there is none, more than one, or one that is spread over several files.
    """
    images = images_in(tiff)
    if not images:
        raise DataError("the TIFF holds no image", hint="copy or export it again")
    if scene is not None and scene >= len(images):
        raise DataError(f"no scene {scene}", expected=f"0 to {len(images) - 1}")
    if len(images) > 1 and scene is None:
        found = ", ".join(f"{s.name or k} {s.shape}" for k, s in enumerate(images[:4]))
        raise DataError(
            f"{len(images)} images in one file",
            expected="one image",
            got=found + (", ..." if len(images) > 4 else ""),
            hint="save each image as its own file",
        )
    image = images[scene or 0]
    if image.is_multifile:
        raise DataError(
            "the image is spread over several files",
            hint="save it as one file (Fiji: open with Bio-Formats, save as OME-TIFF)",
        )
    return image


def check_whole(tiff: TiffFile, image: TiffPageSeries) -> None:
    """Raises DataError if planes are missing or the file is too short for what it promises."""
    planes = [plane for plane in image.pages if plane is not None]
    if len(planes) < len(image.pages):
        raise DataError(
            f"{len(image.pages) - len(planes)} of {len(image.pages)} planes are missing",
            hint="keep the files of a set together, or export it as one file",
        )
    told = (tiff.is_ome, "ome"), (tiff.is_imagej, "imagej"), (tiff.is_shaped, "shaped")
    kinds = [kind for is_told, kind in told if is_told]
    known = {"ome", "imagej", "shaped"}
    if kinds and image.kind not in kinds and (image.kind in known | {"generic", "uniform"}):
        raise DataError(
            f"the {kinds[0]} metadata do not fit the pages",
            hint="it is damaged, cut short or part of a set; export it as one file",
        )
    if image.dtype is None or image.keyframe.dtype is None:
        raise DataError(
            f"{image.keyframe.bitspersample} bits a sample are not supported",
            hint="save as 8 or 16 bit",
        )
    there = tiff.filehandle.size
    if image.dataoffset is not None:
        if image.dataoffset + image.nbytes > there:
            raise too_large(image.nbytes, there)
        return
    promised = stored = 0
    for plane in planes:
        segments = zip(plane.dataoffsets, plane.databytecounts, strict=False)
        if any(offset + count > there for offset, count in segments):
            raise DataError(
                "the file is cut short: voxels lie behind its end",
                hint="copy or export it again",
            )
        promised += plane.nbytes
        stored += sum(plane.databytecounts)
    # Uncompressed samples may be packed, eight of them in a byte.
    compression = image.keyframe.compression
    ratio = _MOST_BOUNDED if compression in _BOUNDED else _MOST_OTHER
    if promised > (8 * there if compression == COMPRESSION.NONE else ratio * stored):
        raise too_large(promised, there)
    if image.nbytes > promised:
        raise too_large(image.nbytes, there)
