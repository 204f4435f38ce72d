"""How a file that was exported is told from one that somebody drew."""

from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from unetseg.exporting.dicom_seg import is_dicom_seg

ZIP_COMMENT = b"unetseg"
JSON_HEAD = '{"type": "FeatureCollection", "generator": "unetseg", '


def is_exported(path: Path) -> bool:
    """Whether unetseg has written the file, and nobody has saved it since."""
    if path.suffix == ".dcm":
        return is_dicom_seg(path)
    with suppress(OSError, BadZipFile, UnicodeDecodeError):
        if path.suffix == ".zip":
            with ZipFile(path) as archive:
                return archive.comment == ZIP_COMMENT
        with path.open(encoding="utf-8") as file:
            return file.read(len(JSON_HEAD)) == JSON_HEAD
    return False
